//! The push server: apps, devices, tokens, messages, vendors, HTTP API.
//!
//! ```text
//!  business server --HTTP--> http --+                       +--> feed --MQTT--> broker
//!                                   v                       |
//!  broker --MQTT--> feed --> facts: store (one write door) --> plan (pure)
//!                                                           |
//!                                                           +--> worker --> sender --> vendors
//! ```
//! Every step is one transaction; what it leaves to do stands in a durable queue of the same transaction, so a
//! restart goes on where the last one stopped.

pub mod apps;
pub mod audience;
mod audit;
mod beside;
mod breaker;
mod chores;
mod compat;
pub mod config;
mod console;
mod credentials;
mod damaged;
pub mod deliveries;
pub mod devices;
mod elsewhere;
mod events;
mod expiry;
mod exports;
mod facts;
mod feed;
mod funnels;
pub mod http;
mod imports;
pub mod inbox;
pub mod index;
mod jobs;
pub mod lane;
mod languages;
mod limiter;
mod lists;
pub mod login;
pub mod messages;
mod metrics;
mod operations;
pub mod pace;
pub mod plan;
mod policies;
mod pushes;
mod queues;
mod receipts;
mod removal;
mod resting;
pub mod retry;
mod rules;
mod schedules;
pub mod segments;
pub mod sender;
mod sending;
mod server;
mod shared;
pub mod starts;
mod statistics;
pub mod store;
pub mod templates;
mod token_feed;
pub mod tokens;
mod vault;
pub mod vendor;
mod wall_clock;
mod webhooks;
mod worker;
pub mod zones;

pub use audit::exported::{NotWhole, Whole, verify_export};
pub use config::{Config, ConfigError};
pub use http::tls::{CertificateError, Certificates, Renewed};
pub use server::{Bridge, StartError, start};
pub use shared::{Beside, ExtraMetrics, IsReady};
