//! Tests of the FCM request and verdict.
