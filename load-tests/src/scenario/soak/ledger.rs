//! What was sent and what came, by kind of load.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// All accounts, and what went wrong.
#[derive(Debug, Default)]
pub struct Ledger {
    /// To phones, QoS 1 and 2, while they are there and while they are not.
    pub phones: Account,
    /// QoS 0 to dashboards, one message for each of them.
    pub telemetry: Account,
    /// QoS 1 over a shared subscription.
    pub jobs: Account,
    /// Retained updates, QoS 1, to one who watches.
    pub states: Account,
    /// Of clients that vanish.
    pub wills: Account,
    faults: Mutex<Vec<String>>,
}

/// One kind of load.
#[derive(Debug, Default)]
pub struct Account {
    sent: AtomicU64,
    received: AtomicU64,
    repeated: AtomicU64,
}

impl Account {
    pub fn sent(&self) -> u64 {
        self.sent.load(Relaxed)
    }

    /// Each message once.
    pub fn received(&self) -> u64 {
        self.received.load(Relaxed)
    }

    /// Messages that came a second time.
    pub fn repeated(&self) -> u64 {
        self.repeated.load(Relaxed)
    }

    pub fn count_sent(&self, messages: u64) {
        self.sent.fetch_add(messages, Relaxed);
    }

    pub fn count_received(&self) {
        self.received.fetch_add(1, Relaxed);
    }

    pub fn count_repeated(&self) {
        self.repeated.fetch_add(1, Relaxed);
    }
}

impl Ledger {
    pub fn accounts(&self) -> [(&'static str, &Account); 5] {
        [
            ("phones, QoS 1 and 2", &self.phones),
            ("telemetry, QoS 0", &self.telemetry),
            ("shared jobs, QoS 1", &self.jobs),
            ("retained states, QoS 1", &self.states),
            ("wills, QoS 1", &self.wills),
        ]
    }

    pub fn sent(&self) -> u64 {
        self.accounts().iter().map(|(_, account)| account.sent()).sum()
    }

    pub fn received(&self) -> u64 {
        self.accounts().iter().map(|(_, account)| account.received()).sum()
    }

    /// Something that must not happen, once for each kind of it is enough.
    pub fn fault(&self, what: &str) {
        if let Ok(mut faults) = self.faults.lock()
            && !faults.iter().any(|known| known == what)
        {
            faults.push(what.to_owned());
        }
    }

    /// All faults, with those that the accounts show.
    pub fn faults(&self) -> Vec<String> {
        let mut faults = self.faults.lock().map(|faults| faults.clone()).unwrap_or_default();
        for (what, account) in self.accounts() {
            let (sent, received) = (account.sent(), account.received());
            if sent != received {
                faults.push(format!("{what}: {sent} sent, {received} received"));
            }
        }
        faults
    }
}
