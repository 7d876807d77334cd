//! The fake vendors against clients that we did not write, and our sender against a receiver that we did not write. If one
//! of ours misreads a vendor's protocol, the two do not understand each other.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    missing_docs,
    reason = "a test that cannot go on should stop"
)]

mod apns;
mod fcm;
mod installed;
mod web_push;
