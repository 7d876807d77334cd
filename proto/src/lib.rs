//! Wire formats of Reveille, without I/O: MQTT 3.1, 3.1.1 and 5.0, and the messages of broker and bridge; and the rules of
//! heartbeats, which broker and devices share.

pub mod bridge;
pub mod delivery;
pub mod errno;
pub mod heartbeat;
pub mod ids;
pub mod mqtt;
pub mod reason;
pub mod topic;
