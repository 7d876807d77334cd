//! Tests of the APNs request and verdict.
