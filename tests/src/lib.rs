//! End-to-end, kill, delivery and simulation tests, and the fake vendors.
