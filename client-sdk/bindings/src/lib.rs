//! The SDK for Kotlin, Swift and Python. UniFFI's macros make the glue; the sources of each language are generated from
//! the built library by `reveille-bindgen`.
//!
//! Everything is `reveille_client` under the same names. What differs: waiting for something is pulled
//! (`next_message`, `next_network`) instead of pushed, so that an app decides on which thread or task it works and the
//! broker waits when it is slow; message ids are text; all operations share one error, [`ClientError`]. The
//! connections live on a runtime of this library, with one thread for the whole process.

mod client;
mod error;
mod inbox;
mod message;
mod options;
mod publisher;
mod runtime;
mod types;

pub use client::Client;
pub use error::{ClientError, ConnectError};
pub use message::Message;
pub use options::{Learning, Options, Tls};
pub use publisher::Publisher;
pub use types::{
    DeviceNetwork, HeartbeatState, LossReason, NetworkState, OutboxState, PushHints, QoS, Radio,
    Registration, Strategy, VendorPush, Wake,
};

uniffi::setup_scaffolding!("reveille");
