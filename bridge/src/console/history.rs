//! What the server did lately, for the curves of the overview: counts taken at regular moments, kept in memory.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::http::Request;
use hyper::service::Service as _;
use hyper_util::service::TowerToHyperService;
use serde_json::Value;

use crate::sender::tasks::lock;
use crate::shared::Shared;

/// From one look to the next.
const STEP: Duration = Duration::from_secs(10);
/// Looks of the last hour.
const FINE_MAX: usize = 360;
/// Looks that make one entry of the day: five minutes.
const LOOKS_AN_ENTRY: u64 = 30;
/// Entries of the last 24 hours.
const COARSE_MAX: usize = 288;
/// Largest answer of the broker that is read.
const ANSWER_BYTES_MAX: usize = 1024 * 1024;

/// Counts at one moment. All but `online` only grow while the process runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Look {
    pub at_ms: u64,
    /// Sessions with a network connection; `None` without a broker in this process.
    pub online: Option<u64>,
    /// Messages accepted over HTTP.
    pub accepted: u64,
    /// Facts of the broker that devices took something.
    pub acked: u64,
    /// Pushes that vendors took.
    pub pushed: u64,
    /// Calls of vendors that ended any other way.
    pub refused: u64,
}

/// The last hour finely, the last day coarsely.
#[derive(Default)]
pub(crate) struct History(Mutex<Rings>);

#[derive(Default)]
struct Rings {
    looks: u64,
    fine: VecDeque<Look>,
    coarse: VecDeque<Look>,
}

impl Rings {
    fn add(&mut self, look: Look) {
        push(&mut self.fine, look, FINE_MAX);
        if self.looks.is_multiple_of(LOOKS_AN_ENTRY) {
            push(&mut self.coarse, look, COARSE_MAX);
        }
        self.looks = self.looks.saturating_add(1);
    }
}

fn push(ring: &mut VecDeque<Look>, look: Look, max: usize) {
    if ring.len() >= max {
        ring.pop_front();
    }
    ring.push_back(look);
}

impl History {
    /// Notes a look.
    pub fn add(&self, look: Look) {
        lock(&self.0).add(look);
    }

    /// The last hour, oldest first.
    pub fn hour(&self) -> Vec<Look> {
        lock(&self.0).fine.iter().copied().collect()
    }

    /// The last day, oldest first, with the newest look at its end.
    pub fn day(&self) -> Vec<Look> {
        let rings = lock(&self.0);
        let newest = rings.fine.back().filter(|newest| rings.coarse.back() != Some(newest));
        rings.coarse.iter().chain(newest).copied().collect()
    }
}

/// Looks at regular moments, for ever.
pub(crate) async fn run(shared: Arc<Shared>, operations: Option<Router>) {
    let mut ticks = tokio::time::interval(STEP);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let online = online(operations.as_ref()).await;
        let metrics = &shared.metrics;
        shared.history.add(Look {
            at_ms: shared.store.now_ms(),
            online,
            accepted: metrics.messages.get(),
            acked: metrics.facts_of("acked"),
            pushed: metrics.pushes_of(true),
            refused: metrics.pushes_of(false),
        });
    }
}

async fn online(operations: Option<&Router>) -> Option<u64> {
    let service = TowerToHyperService::new(operations?.clone());
    let answer = service.call(Request::get("/shards").body(Body::empty()).ok()?).await;
    let body = answer.unwrap_or_else(|never| match never {}).into_body();
    let shards: Value = serde_json::from_slice(&to_bytes(body, ANSWER_BYTES_MAX).await.ok()?).ok()?;
    let online = |shard: &Value| shard.get("sessions_online").and_then(Value::as_u64);
    Some(shards.get("items")?.as_array()?.iter().filter_map(online).sum())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hour_is_fine_the_day_is_coarse_and_both_are_bounded() {
        let history = History::default();
        let looks = LOOKS_AN_ENTRY * (COARSE_MAX as u64 + 3) + 5;
        for at_ms in 0..looks {
            history.add(Look { at_ms, ..Look::default() });
        }
        let (hour, day) = (history.hour(), history.day());
        assert_eq!((hour.len(), day.len()), (FINE_MAX, COARSE_MAX + 1));
        assert_eq!(hour.last().unwrap().at_ms, looks - 1);
        assert_eq!(day.last().unwrap().at_ms, looks - 1, "now is part of the day");
        assert!(hour.windows(2).chain(day.windows(2)).all(|pair| pair[0].at_ms < pair[1].at_ms));
    }
}
