//! The rules of the broker: pure state machines. Input and now go in, outputs and the next deadline come out.
//!
//! Nothing in here opens a socket or a file, reads a clock, takes a lock, spawns a task or rolls a die.

pub mod change;
pub mod message;
