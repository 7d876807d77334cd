//! The device and publisher library of Reveille, on rumqttc.
//!
//! [`Client`] is a device: it keeps a persistent session, hands each message to the app once although it may come by
//! socket and by a vendor's push, and acknowledges only what the app has handled. [`Publisher`] sends with
//! acknowledgement. Both reconnect for themselves and keep what is unacknowledged in memory until it is.
//!
//! ```no_run
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! use reveille_client::{Client, Options};
//! let (client, mut messages) = Client::connect(Options::new("device-1", "127.0.0.1", 1883).inbox_file("seen"))?;
//! while let Some(message) = messages.recv().await {
//!     println!("{}: {:?}", message.topic(), message.title());
//!     message.handled().await?; // now it is on disk and acknowledged
//! }
//! client.close().await;
//! # Ok(())
//! # }
//! ```
//!
//! TLS is the feature `tls`, off by default: it turns on rumqttc's rustls without a crypto provider, and
//! [`Options::transport`] then takes a `Transport::Tls` whose configuration the app builds with its own provider.

mod client;
mod clock;
mod disk;
mod driver;
pub mod heartbeat;
mod inbox;
mod message;
mod network;
mod options;
mod outbox;
mod payload;
mod post_file;
mod poster;
mod publisher;
mod received;
mod reconnect;
mod recorder;
mod seen_file;
mod user_inbox;

pub use client::{Client, ClosedError, HandledError, SubscribeError, VendorPush};
pub use disk::FileError;
pub use heartbeat::{HeartbeatState, Label, Learning, Moment, Network, Radio};
pub use inbox::{Acceptance, Inbox, InboxLimits, Source, UnixMillis};
pub use message::{Message, Messages};
pub use network::{LossReason, NetworkState};
pub use options::{ConnectError, Options};
pub use payload::Registration;
pub use poster::{OutboxLimits, OutboxState, PostError};
pub use publisher::{PublishError, Publisher, PushHints, Strategy};
pub use reconnect::Backoff;
pub use user_inbox::{InboxError, InboxMessage, InboxPage, InboxQuery, InboxState, UserInbox};

pub use reveille_proto::ids::MessageId;
pub use reveille_proto::reason::ReasonCode;
pub use rumqttc::Transport;
pub use rumqttc::v5::mqttbytes::QoS;
