//! Numbers as lines of OpenMetrics. Counters of one kind become one metric with a label of few values.

use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use std::collections::BTreeMap;
use std::fmt;

/// Counters whose names begin alike are one metric; the rest of the name is the value of its label. The names are in the
/// code, so the label has a bounded set of values.
struct Kind {
    prefix: &'static str,
    name: &'static str,
    label: &'static str,
    help: &'static str,
}

const KINDS: [Kind; 5] = [
    Kind {
        prefix: "dropped_",
        name: "messages_dropped",
        label: "reason",
        help: "Messages that a session does not get, by reason",
    },
    Kind {
        prefix: "refused_",
        name: "messages_refused",
        label: "reason",
        help: "Messages and subscriptions that the rules refused, by reason",
    },
    Kind { prefix: "denied_", name: "denied", label: "what", help: "What the client was not allowed" },
    Kind {
        prefix: "packets_received_",
        name: "packets_received",
        label: "type",
        help: "Packets received, by type",
    },
    Kind { prefix: "packets_sent_", name: "packets_sent", label: "type", help: "Packets written, by type" },
];

/// Of the shell: why a socket came to nothing.
const REFUSED_CONNECTIONS: Kind = Kind {
    prefix: "refused_",
    name: "connections_refused",
    label: "reason",
    help: "Sockets and CONNECTs turned away, by reason",
};

/// One number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Row {
    name: &'static str,
    help: &'static str,
    label: Option<(&'static str, String)>,
    value: u64,
}

impl Row {
    /// Without a label.
    pub(super) fn plain(name: &'static str, help: &'static str, value: u64) -> Self {
        Self { name, help, label: None, value }
    }

    /// With one.
    pub(super) fn labelled(
        name: &'static str,
        help: &'static str,
        label: &'static str,
        of: &str,
        value: u64,
    ) -> Self {
        Self { name, help, label: Some((label, of.to_owned())), value }
    }

    /// A counter of the core: one metric of its own, or a value of one.
    pub(super) fn of_core(name: &'static str, help: &'static str, value: u64) -> Self {
        KINDS.iter().find_map(|kind| Self::of(kind, name, value)).unwrap_or(Self::plain(name, help, value))
    }

    /// A counter of the shell.
    pub(super) fn of_shell(name: &'static str, help: &'static str, value: u64) -> Self {
        Self::of(&REFUSED_CONNECTIONS, name, value).unwrap_or(Self::plain(name, help, value))
    }

    fn of(kind: &Kind, name: &'static str, value: u64) -> Option<Self> {
        let rest = name.strip_prefix(kind.prefix)?;
        Some(Self::labelled(kind.name, kind.help, kind.label, rest, value))
    }
}

/// Writes counters, those of one name together.
pub(super) fn counters(encoder: &mut DescriptorEncoder, rows: Vec<Row>) -> Result<(), fmt::Error> {
    families(encoder, rows, MetricType::Counter, |value, encoder| ConstCounter::new(value).encode(encoder))
}

/// Writes gauges, those of one name together.
pub(super) fn gauges(encoder: &mut DescriptorEncoder, rows: Vec<Row>) -> Result<(), fmt::Error> {
    families(encoder, rows, MetricType::Gauge, |value, encoder| {
        ConstGauge::new(i64::try_from(value).unwrap_or(i64::MAX)).encode(encoder)
    })
}

/// Writes a gauge with a label that may have no value at all yet.
pub(super) fn listed_gauge(
    encoder: &mut DescriptorEncoder,
    name: &str,
    help: &str,
    rows: Vec<Row>,
) -> Result<(), fmt::Error> {
    match rows.is_empty() {
        true => encoder.encode_descriptor(name, help, None, MetricType::Gauge).map(drop),
        false => gauges(encoder, rows),
    }
}

/// Writes one gauge.
pub(super) fn gauge(encoder: &mut DescriptorEncoder, row: &Row) -> Result<(), fmt::Error> {
    gauges(encoder, vec![row.clone()])
}

/// Writes one counter that has a fraction.
pub(super) fn counter_f64(
    encoder: &mut DescriptorEncoder,
    name: &str,
    help: &str,
    value: f64,
) -> Result<(), fmt::Error> {
    let counter = ConstCounter::new(value);
    counter.encode(encoder.encode_descriptor(name, help, None, MetricType::Counter)?)
}

fn families(
    encoder: &mut DescriptorEncoder,
    rows: Vec<Row>,
    kind: MetricType,
    write: impl Fn(u64, prometheus_client::encoding::MetricEncoder<'_>) -> Result<(), fmt::Error>,
) -> Result<(), fmt::Error> {
    let mut by_name: BTreeMap<&str, Vec<Row>> = BTreeMap::new();
    for row in rows {
        by_name.entry(row.name).or_default().push(row);
    }
    for (name, rows) in by_name {
        let help = rows.first().map_or("", |row| row.help);
        let mut metric = encoder.encode_descriptor(name, help, None, kind)?;
        match rows.as_slice() {
            [Row { label: None, value, .. }] => write(*value, metric)?,
            rows => {
                for Row { label, value, .. } in rows {
                    let labels: Vec<_> = label.iter().map(|(name, of)| (*name, of.as_str())).collect();
                    write(*value, metric.encode_family(&labels)?)?;
                }
            }
        }
    }
    Ok(())
}
