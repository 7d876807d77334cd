//! Fake vendors that speak the real protocols, for tests and the demo.
//!
//! They are stricter than the vendors: a request that a vendor might let pass, but whose rules forbid it, is
//! refused. They listen on 127.0.0.1 only, on a free port.

pub mod apns;
pub mod fcm;
mod log;
mod tls;
pub mod vendors;

pub use apns::{ApnsAnswer, ApnsCall, FakeApns, FakeApnsOptions};
pub use fcm::{FakeFcm, FcmAnswer, FcmCall};
pub use vendors::{FakeVendors, Fault, Recall, VendorCall};

/// Why a fake could not start.
#[derive(Debug, thiserror::Error)]
pub enum FakeError {
    /// No socket.
    #[error("cannot listen: {0}")]
    Listen(#[from] std::io::Error),
    /// No certificate or key.
    #[error("cannot make a certificate: {0}")]
    Certificate(#[from] rcgen::Error),
    /// The TLS library refused its own certificate.
    #[error("cannot set up tls: {0}")]
    Tls(#[from] rustls::Error),
    /// The TLS library takes no certificates of clients.
    #[error("cannot verify clients")]
    NoVerifier,
    /// A key that cannot be read back.
    #[error("cannot read a key: {0}")]
    Key(#[from] jsonwebtoken::errors::Error),
}
