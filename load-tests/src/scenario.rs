//! The loads. Each returns the figures of one repetition.

mod audience;
mod fan_out;
mod idle;
mod idle_over;
mod offline;
mod point_to_point;
mod pushes;
mod soak;
mod vendors;

pub use audience::audience;
pub use fan_out::fan_out;
pub use idle::idle;
pub use idle_over::{Over, Prepared, idle_over};
pub use offline::offline;
pub use point_to_point::point_to_point;
pub use pushes::{fake_apns, pushes};
pub use soak::soak;
pub use vendors::vendors;

use crate::client::LoadError;
use bytes::Bytes;
use reveille_proto::mqtt::QoS;
use reveille_proto::topic::TopicName;

fn qos(number: u8) -> Result<QoS, LoadError> {
    QoS::from_u8(number).ok_or(LoadError::QoS)
}

fn topic(text: String) -> Result<TopicName, LoadError> {
    TopicName::parse(text).map_err(|error| LoadError::Broken(error.to_string()))
}

fn payload(bytes: usize) -> Bytes {
    Bytes::from(vec![b'x'; bytes])
}
