//! The heartbeat of a device.

mod learner;

pub use learner::{Day, Learner, NETWORKS_MAX, Record};
