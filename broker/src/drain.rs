//! Emptying the broker before a planned stop: nobody new, and those who are there leave over a time window, so that
//! another server (or this one after its restart) is not run over by all of them in one second.
//!
//! ```text
//!  drain --> health: not ready        each shard: its clients, longest idle first, a few every tick
//!        --> handshakes: refused                  |
//!                                                 v
//!                          DISCONNECT 0x9C/0x9D with a reference, or 0x8B   --> all shards are empty: stop
//! ```

use crate::host::Host;
use crate::mailbox::Command;
use crate::operator::Operator;
use bytestring::ByteString;
use reveille_broker_core::io::{ConnectionKey, Input, ShardNo};
use reveille_proto::mqtt::{ConnAck, ConnAckProperties};
use reveille_proto::reason::ReasonCode;
use serde::{Deserialize, Serialize};
use std::rc::Rc;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use tokio::sync::watch;
use tokio::time::sleep;

/// Between two groups of clients of one shard that are sent away.
const TICK: Duration = Duration::from_millis(50);

/// How the broker empties itself: the table `[broker.drain]`, and what the operations API may say instead.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Drain {
    /// Where clients of 5.0 shall go: names or addresses with ports, separated by spaces. Absent: they are told that the
    /// server shuts down, and come back.
    pub server_reference: Option<String>,
    /// Whether they shall stay there (0x9D Server moved) or come back one day (0x9C Use another server).
    pub is_permanent: bool,
    /// Seconds over which the clients leave.
    pub over_s: u64,
}

impl Default for Drain {
    fn default() -> Self {
        Self { server_reference: None, is_permanent: false, over_s: 30 }
    }
}

impl Drain {
    /// The longest window: an hour.
    pub(crate) const OVER_S_MAX: u64 = 60 * 60;

    /// What clients that are connected hear.
    fn goodbye(&self) -> ReasonCode {
        match (&self.server_reference, self.is_permanent) {
            (None, _) => ReasonCode::SERVER_SHUTTING_DOWN,
            (Some(_), false) => ReasonCode::USE_ANOTHER_SERVER,
            (Some(_), true) => ReasonCode::SERVER_MOVED,
        }
    }

    /// What clients hear that come meanwhile. `[MQTT5-3.2.2-8]`: 0x8B is not for CONNACK.
    fn refusal(&self) -> ConnAck {
        let reason = match self.goodbye() {
            ReasonCode::SERVER_SHUTTING_DOWN => ReasonCode::SERVER_UNAVAILABLE,
            elsewhere => elsewhere,
        };
        let properties =
            ConnAckProperties { server_reference: self.reference(), ..ConnAckProperties::default() };
        ConnAck { session_present: false, reason, properties }
    }

    fn reference(&self) -> Option<ByteString> {
        self.server_reference.as_deref().map(ByteString::from)
    }
}

/// A drain was asked for while one runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DrainError {
    /// There is one already, and it cannot be changed.
    #[error("the broker is emptying itself already")]
    Draining,
    /// The window or the reference cannot be.
    #[error("over_s is at most {}, server_reference at most 1024 bytes and not empty", Drain::OVER_S_MAX)]
    Bounds,
}

/// The state of the one drain that a broker has in its life.
#[derive(Debug)]
pub(crate) struct Draining {
    drain: OnceLock<Drain>,
    shards_left: AtomicUsize,
    is_over: watch::Sender<bool>,
}

impl Default for Draining {
    fn default() -> Self {
        let (drain, shards_left) = (OnceLock::new(), AtomicUsize::new(0));
        Self { drain, shards_left, is_over: watch::Sender::new(false) }
    }
}

impl Draining {
    /// The CONNACK for whoever comes while the broker empties itself.
    pub(crate) fn refusal(&self) -> Option<ConnAck> {
        self.drain.get().map(Drain::refusal)
    }

    fn shard_is_empty(&self) {
        if self.shards_left.fetch_sub(1, Ordering::AcqRel) == 1 {
            tracing::info!("every client was sent away");
            self.is_over.send_replace(true);
        }
    }
}

impl Drain {
    pub(crate) fn check(&self) -> Result<(), DrainError> {
        const REFERENCE_BYTES_MAX: usize = 1024;
        let fits = |text: &String| (1..=REFERENCE_BYTES_MAX).contains(&text.len()) && !text.contains('\0');
        if self.over_s <= Self::OVER_S_MAX && self.server_reference.as_ref().is_none_or(fits) {
            return Ok(());
        }
        Err(DrainError::Bounds)
    }
}

impl Operator {
    /// Begins to empty the broker: `/readyz` says no at once, new clients are refused, those that are connected leave over
    /// the window. It cannot be taken back; [`Operator::drained`] tells when to stop.
    ///
    /// # Errors
    /// [`DrainError`]; nothing begins then.
    pub fn drain(&self, drain: Drain) -> Result<(), DrainError> {
        drain.check()?;
        let (shared, draining) = (&self.shared, &self.shared.draining);
        let shards = shared.mailboxes.count();
        draining.shards_left.store(usize::from(shards), Ordering::Release);
        draining.drain.set(drain.clone()).map_err(|_| DrainError::Draining)?;
        shared.health.set_draining();
        let clients = shared.health.connections();
        tracing::warn!(
            clients,
            over_s = drain.over_s,
            reference = drain.server_reference,
            "the broker empties itself"
        );
        for no in (0..shards).map(ShardNo) {
            if !shared.mailboxes.send(no, Command::Drain) {
                draining.shard_is_empty(); // its thread is gone, and its clients with it
            }
        }
        Ok(())
    }

    /// The drain that the configuration describes.
    pub fn configured_drain(&self) -> Drain {
        self.in_force.lock().unwrap_or_else(std::sync::PoisonError::into_inner).drain.clone()
    }

    /// Waits until every client was sent away; for ever when nobody asked for it. Works in any runtime.
    pub async fn drained(&self) {
        let mut is_over = self.shared.draining.is_over.subscribe();
        if is_over.wait_for(|is_over| *is_over).await.is_err() {
            std::future::pending::<()>().await; // cannot happen while `self` lives
        }
    }
}

/// Sends the clients of one shard away, longest idle first: whoever sends or receives just now is disturbed last.
pub(crate) async fn empty(host: Rc<Host>) {
    let draining = std::sync::Arc::clone(&host.shared.draining);
    let Some(drain) = draining.drain.get() else { return };
    let mut clients = host.connections_by_idleness();
    clients.reverse(); // taken from the end
    let end = Instant::now() + Duration::from_secs(drain.over_s);
    while !clients.is_empty() {
        for connection in take_share(&mut clients, end.saturating_duration_since(Instant::now())) {
            let (reason, server_reference) = (drain.goodbye(), drain.reference());
            host.feed(Input::Move { connection, reason, server_reference });
        }
        if !clients.is_empty() {
            sleep(TICK).await;
        }
    }
    draining.shard_is_empty();
}

/// As many as have to go now, so that the last ones go when the time is over.
fn take_share(clients: &mut Vec<ConnectionKey>, left: Duration) -> Vec<ConnectionKey> {
    let ticks_left = usize::try_from(left.as_millis() / TICK.as_millis()).unwrap_or(usize::MAX).max(1);
    clients.split_off(clients.len() - clients.len().div_ceil(ticks_left))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_clients_leave_evenly_over_the_window_and_the_last_at_its_end() {
        for (clients, over_s) in [(10_000, 10), (3, 10), (1, 0), (500, 0), (200_001, 3600)] {
            let key = |index| ConnectionKey { index, generation: 0 };
            let mut left: Vec<ConnectionKey> = (0..clients).map(key).collect();
            let ticks =
                u32::try_from(Duration::from_secs(over_s).as_millis() / TICK.as_millis()).unwrap().max(1);
            let mut most = 0;
            for tick in 0..ticks {
                most = most.max(take_share(&mut left, TICK * (ticks - tick)).len());
            }
            assert!(left.is_empty(), "{clients} in {over_s} s: {} are left", left.len());
            assert!(
                most <= (clients as usize).div_ceil(ticks as usize),
                "{clients} in {over_s} s: {most} at once"
            );
        }
    }

    #[test]
    fn clients_hear_where_to_go_in_words_that_the_packet_may_have() {
        let reference = Some("b.example:1883".to_owned());
        let rows = [
            (None, false, ReasonCode::SERVER_SHUTTING_DOWN, ReasonCode::SERVER_UNAVAILABLE),
            (reference.clone(), false, ReasonCode::USE_ANOTHER_SERVER, ReasonCode::USE_ANOTHER_SERVER),
            (reference.clone(), true, ReasonCode::SERVER_MOVED, ReasonCode::SERVER_MOVED),
        ];
        for (server_reference, is_permanent, goodbye, refusal) in rows {
            let drain = Drain { server_reference, is_permanent, over_s: 1 };
            assert_eq!((drain.goodbye(), drain.refusal().reason), (goodbye, refusal), "{drain:?}");
            assert_eq!(
                drain.refusal().properties.server_reference.as_deref(),
                drain.server_reference.as_deref()
            );
        }
        for over_s in [0, Drain::OVER_S_MAX + 1] {
            let drain = Drain { over_s, ..Drain::default() };
            assert_eq!(drain.check().is_ok(), over_s == 0);
        }
        assert!(Drain { server_reference: Some(String::new()), ..Drain::default() }.check().is_err());
    }
}
