//! What the bridge counts, for Prometheus.

use std::collections::BTreeSet;
use std::sync::Mutex;

use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

use crate::lane::Lane;
use crate::sender::tasks::lock;
use crate::vendor::{VendorName, Verdict};

type Labels = Vec<(&'static str, String)>;
type Counters = Family<Labels, Counter>;

/// All counters of one bridge.
pub(crate) struct Metrics {
    registry: Registry,
    /// Facts of the broker by kind.
    facts: Counters,
    /// Facts that say nothing we can use, by reason.
    ignored: Counters,
    /// Pushes by vendor and verdict.
    pushes: Counters,
    /// Pushes whose outcome stayed unknown, by vendor.
    unknown: Counters,
    /// Pushes that vendors were asked to take back, by vendor and verdict.
    recalls: Counters,
    push_seconds: Family<Labels, Histogram>,
    /// Lanes whose breaker is open, by vendor.
    breakers_open: Family<Labels, Gauge>,
    /// Those lanes.
    lanes_open: Mutex<BTreeSet<Lane>>,
    /// Seconds until credentials end, by app, vendor and name.
    expiries: Family<Labels, Gauge>,
    /// Unix time at which the certificate of a listener ends.
    certificates: Family<Labels, Gauge>,
    /// Receipts by vendor and what became of them.
    receipts: Counters,
    /// Turns of feeds of dead device tokens, by vendor and result.
    feeds: Counters,
    /// Attempts at webhooks by what became of them.
    webhooks: Counters,
    /// Funnels that were counted anew, by what was found.
    funnels: Counters,
    /// Records that cannot be decoded, by space.
    damaged: Counters,
    /// HTTP answers by status.
    answers: Counters,
    /// Packets that the broker refused.
    refused: Counters,
    /// 1 while the feed is connected.
    pub feed_connected: Gauge,
    /// Messages accepted by HTTP.
    pub messages: Counter,
}

fn seconds() -> Histogram {
    Histogram::new([0.005, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 20.0])
}

impl Default for Metrics {
    fn default() -> Self {
        let mut registry = Registry::with_prefix("reveille_bridge");
        let (facts, ignored, pushes, unknown, receipts, feeds, webhooks, funnels, answers, refused) =
            Default::default();
        let push_seconds = Family::new_with_constructor(seconds as fn() -> Histogram);
        let breakers_open = Family::<Labels, Gauge>::default();
        registry.register(
            "breakers_open",
            "Apps whose calls of a vendor wait because it failed again and again, by vendor",
            breakers_open.clone(),
        );
        let certificates = Family::<Labels, Gauge>::default();
        registry.register(
            "certificate_expiry_seconds",
            "Unix time at which the certificate of HTTP over TLS ends",
            certificates.clone(),
        );
        let expiries = Family::<Labels, Gauge>::default();
        registry.register(
            "credential_expiry_seconds",
            "Until a credential's certificate or key ends, by app, vendor and name; below 0 when it is over",
            expiries.clone(),
        );
        let (feed_connected, messages) = (Gauge::default(), Counter::default());
        let (recalls, damaged) = (Counters::default(), Counters::default());
        for (name, help, counters) in [
            ("facts", "Facts that the broker told, by kind", &facts),
            ("facts_ignored", "Facts that say nothing the bridge can use, by reason", &ignored),
            ("pushes", "Pushes handed to vendors, by vendor and verdict", &pushes),
            ("pushes_unknown", "Pushes handed to vendors whose outcome stayed unknown, by vendor", &unknown),
            ("recalls", "Pushes that vendors were asked to take back, by vendor and verdict", &recalls),
            ("receipts", "Receipts of vendors, by vendor and what became of them", &receipts),
            (
                "feed_turns",
                "Feeds of dead device tokens that were read to their end, or not, by vendor and result",
                &feeds,
            ),
            ("webhook_attempts", "Calls of webhooks, by what became of the event", &webhooks),
            ("funnel_checks", "Funnels that were counted anew, by what was found", &funnels),
            ("damaged_records", "Records that cannot be decoded, by where they stand", &damaged),
            ("http_answers", "HTTP answers by status", &answers),
            ("broker_refusals", "Packets that the broker refused, by reason", &refused),
        ] {
            let counters: &Counters = counters;
            registry.register(name, help, counters.clone());
        }
        funnels.get_or_create(&label("found", "wrong")).inc_by(0); // an alarm needs it before it happens
        damaged.get_or_create(&label("space", "queues")).inc_by(0);
        registry.register("push_seconds", "From the call of a vendor to its answer", push_seconds.clone());
        registry.register(
            "feed_connected",
            "1 while the feed from the broker is connected",
            feed_connected.clone(),
        );
        registry.register("messages_accepted", "Messages accepted over HTTP", messages.clone());
        Self {
            registry,
            facts,
            ignored,
            pushes,
            unknown,
            recalls,
            push_seconds,
            breakers_open,
            lanes_open: Mutex::default(),
            expiries,
            certificates,
            receipts,
            feeds,
            webhooks,
            funnels,
            damaged,
            answers,
            refused,
            feed_connected,
            messages,
        }
    }
}

fn label(name: &'static str, value: impl ToString) -> Labels {
    vec![(name, value.to_string())]
}

impl Metrics {
    /// Counts a fact.
    pub fn fact(&self, kind: &str) {
        self.facts.get_or_create(&label("kind", kind)).inc();
    }

    /// Counts a fact of no use.
    pub fn ignored(&self, reason: &str) {
        self.ignored.get_or_create(&label("reason", reason)).inc();
    }

    /// Facts of a kind so far.
    pub fn facts_of(&self, kind: &str) -> u64 {
        self.facts.get(&label("kind", kind)).map_or(0, |count| count.get())
    }

    /// Calls of vendors so far that were accepted, or that were not.
    pub fn pushes_of(&self, accepted: bool) -> u64 {
        let count = |vendor: VendorName, verdict: &str| {
            let labels = vec![("vendor", vendor.to_string()), ("verdict", verdict.to_owned())];
            self.pushes.get(&labels).map_or(0, |count| count.get())
        };
        let verdicts = Verdict::NAMES.into_iter().filter(|verdict| (*verdict == "accepted") == accepted);
        verdicts
            .map(|verdict| VendorName::ALL.into_iter().map(|vendor| count(vendor, verdict)).sum::<u64>())
            .sum()
    }

    /// Whether the calls of a lane wait because its vendor failed again and again.
    pub fn is_open(&self, lane: &Lane) -> bool {
        lock(&self.lanes_open).contains(lane)
    }

    /// A breaker opened or closed.
    pub fn breaker(&self, lane: &Lane, is_open: bool) {
        let mut lanes_open = lock(&self.lanes_open);
        if is_open {
            lanes_open.insert(lane.clone())
        } else {
            lanes_open.remove(lane)
        };
        let gauge = self.breakers_open.get_or_create(&label("vendor", lane.vendor));
        if is_open {
            gauge.inc()
        } else {
            gauge.dec()
        };
    }

    /// Forgets every expiry, before they are told anew.
    pub fn forget_expiries(&self) {
        self.expiries.clear();
    }

    /// How long a credential is good for.
    pub fn expiry(&self, app: &str, vendor: &str, name: &str, left_s: i64) {
        let labels =
            vec![("app", app.to_owned()), ("vendor", vendor.to_owned()), ("credential", name.to_owned())];
        self.expiries.get_or_create(&labels).set(left_s);
    }

    /// Counts a receipt.
    pub fn receipt(&self, vendor: &str, taken: &str) {
        let labels = vec![("vendor", vendor.to_owned()), ("result", taken.to_owned())];
        self.receipts.get_or_create(&labels).inc();
    }

    /// Counts a turn of a feed.
    pub fn feed(&self, vendor: &str, result: &str) {
        let labels = vec![("vendor", vendor.to_owned()), ("result", result.to_owned())];
        self.feeds.get_or_create(&labels).inc();
    }

    /// Counts an attempt at a webhook.
    pub fn webhook(&self, result: &str) {
        self.webhooks.get_or_create(&label("result", result)).inc();
    }

    /// Counts a look at a funnel.
    pub fn funnel(&self, found: &str) {
        self.funnels.get_or_create(&label("found", found)).inc();
    }

    /// Counts a record that cannot be decoded.
    pub fn damaged(&self, space: &str) {
        self.damaged.get_or_create(&label("space", space)).inc();
    }

    /// Counts a vendor's verdict on one push.
    pub fn push(&self, vendor: &str, verdict: &str, outcome_known: bool) {
        let labels = vec![("vendor", vendor.to_owned()), ("verdict", verdict.to_owned())];
        self.pushes.get_or_create(&labels).inc();
        if !outcome_known {
            self.unknown.get_or_create(&label("vendor", vendor)).inc();
        }
    }

    /// Counts a vendor's verdict on taking one push back.
    pub fn recall(&self, vendor: &str, verdict: &str) {
        let labels = vec![("vendor", vendor.to_owned()), ("verdict", verdict.to_owned())];
        self.recalls.get_or_create(&labels).inc();
    }

    /// How long a call took, with one push or a batch.
    pub fn call(&self, vendor: &str, took: std::time::Duration) {
        self.push_seconds.get_or_create(&label("vendor", vendor)).observe(took.as_secs_f64());
    }

    /// Notes when the certificate of HTTP ends, in milliseconds since 1970.
    pub fn certificate(&self, end_ms: u64) {
        let end_s = i64::try_from(end_ms / 1000).unwrap_or(i64::MAX);
        self.certificates.get_or_create(&label("listener", "http")).set(end_s);
    }

    /// Counts an HTTP answer.
    pub fn answer(&self, status: u16) {
        self.answers.get_or_create(&label("status", status)).inc();
    }

    /// Counts a refusal of the broker's.
    pub fn refusal(&self, reason: &str) {
        self.refused.get_or_create(&label("reason", reason)).inc();
    }

    /// Everything as text, with another part's text in front of the end mark.
    pub fn text(&self, extra: Option<&str>) -> String {
        let mut text = String::new();
        if encode(&mut text, &self.registry).is_err() {
            return String::new(); // a String takes every write
        }
        let own = text.strip_suffix("# EOF\n").unwrap_or(&text);
        let extra =
            extra.map(|extra| extra.trim_end().trim_end_matches("# EOF").to_owned()).unwrap_or_default();
        let gap = if extra.is_empty() || extra.ends_with('\n') { "" } else { "\n" };
        format!("{own}{extra}{gap}# EOF\n")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_texts_become_one_with_one_end() {
        let metrics = Metrics::default();
        metrics.fact("queued");
        for extra in [None, Some("x 1\n# EOF\n"), Some("x 1\n"), Some("x 1")] {
            let text = metrics.text(extra);
            assert!(text.contains("reveille_bridge_facts_total{kind=\"queued\"} 1"), "{text}");
            assert_eq!(text.matches("# EOF").count(), 1);
            assert!(text.ends_with("# EOF\n"));
            assert_eq!(text.contains("\nx 1\n"), extra.is_some(), "{extra:?}");
        }
    }
}
