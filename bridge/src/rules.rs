//! The figures that the bridge's decisions rest on, from the configuration.

/// Figures for transactions; times in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Rules {
    /// How long an online device may take to acknowledge, unless the message says otherwise.
    pub wait_ack_ms: u64,
    /// How long a message is worth anything, unless it says otherwise.
    pub ttl_ms: u64,
    /// After this time beyond `wait_ack_ms` without a word from the broker a push is due.
    pub broker_silence_ms: u64,
    /// How long a message is kept after its end.
    pub retention_ms: u64,
    /// How long a message stays in inboxes, unless it says otherwise.
    pub inbox_ms: u64,
    /// Entries of one user's inbox at most.
    pub inbox_entries_max: usize,
    /// How long an answer is replayed.
    pub idempotency_ms: u64,
    /// How long before its end a credential is told of.
    pub credential_warning_ms: u64,
    /// Attempts for one push at most; `None`: the vendor's usual.
    pub attempts_max: Option<u32>,
}
