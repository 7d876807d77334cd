//! The rules of the broker: pure state machines. Input and now go in, outputs and the next deadline come out.
//!
//! Nothing in here opens a socket or a file, reads a clock, takes a lock, spawns a task or rolls a die.

pub mod acl;
pub mod admin;
mod aliases;
pub mod change;
pub mod collections;
mod commits;
mod connection;
pub mod control;
pub mod counters;
pub mod deadlines;
mod delayed;
mod directory;
mod explain;
pub mod filter_map;
pub mod global_index;
pub mod handshake;
pub mod io;
pub mod limits;
pub mod message;
pub mod networks;
pub mod presence;
mod pulse;
pub mod queue;
mod rate;
mod recent;
pub mod retained;
pub mod rewrite;
pub mod router;
mod session;
pub mod shard;
pub mod shared;
pub mod subscriptions;
pub mod trace;
pub mod usage;
mod word_table;
