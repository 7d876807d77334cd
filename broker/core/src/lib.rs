//! The rules of the broker: pure state machines, no I/O, no clock.
