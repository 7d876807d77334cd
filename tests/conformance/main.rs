//! Our own conformance suite: raw bytes in and out of a real broker, one file per chapter of the standards.
//!
//! Each test says in its doc lines which numbered statements it covers (`Covers:`), which rule without a number (`Also:`)
//! and which mistake of other brokers it guards against (`Trap:`). `docs/conformance.md` is generated from these lines
//! and from `statements/`, see [`table`].
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test that cannot go on has failed"
)]

#[allow(dead_code, reason = "each chapter takes what it needs")]
mod harness;
mod table;

mod chapter_1;
mod chapter_2;
mod chapter_3_1;
mod chapter_3_10;
mod chapter_3_12;
mod chapter_3_14;
mod chapter_3_15;
mod chapter_3_2;
mod chapter_3_3;
mod chapter_3_4;
mod chapter_3_8;
mod chapter_4_1;
mod chapter_4_10;
mod chapter_4_11;
mod chapter_4_12;
mod chapter_4_13;
mod chapter_4_2;
mod chapter_4_3;
mod chapter_4_4;
mod chapter_4_5;
mod chapter_4_6;
mod chapter_4_7;
mod chapter_4_8;
mod chapter_4_9;
mod chapter_6;
mod chapter_7;
