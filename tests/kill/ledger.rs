//! What was acknowledged to publishers against what arrived at one subscriber.

use crate::publisher::Publisher;
use crate::subscriber::{Received, Subscriber};
use reveille_proto::mqtt::QoS;
use std::collections::HashSet;

/// The account of one subscriber.
#[derive(Debug, Default)]
pub struct Ledger {
    subscriber: &'static str,
    acknowledged: [usize; 2],
    lost: Vec<String>,
    doubled_qos_2: Vec<String>,
    repeated_qos_1: usize,
    disordered: Vec<String>,
}

impl Ledger {
    pub fn of(publishers: &[Publisher], subscriber: &Subscriber) -> Self {
        let mut ledger = Self { subscriber: subscriber.name, ..Self::default() };
        for publisher in publishers {
            ledger.add(publisher, subscriber.received.get(publisher.name).map_or(&[], Vec::as_slice));
        }
        ledger
    }

    fn add(&mut self, publisher: &Publisher, received: &[Received]) {
        let acknowledged = publisher.acknowledged.iter().filter(|is_acknowledged| **is_acknowledged).count();
        self.acknowledged[usize::from(publisher.qos == QoS::ExactlyOnce)] += acknowledged;
        let mut seen = HashSet::new();
        let mut newest = None;
        for Received { seq } in received {
            let what = || format!("{}:{seq}", publisher.name);
            match (seen.insert(*seq), publisher.qos) {
                (true, _) if newest > Some(*seq) => self.disordered.push(what()),
                (true, _) => newest = Some(*seq),
                (false, QoS::ExactlyOnce) => self.doubled_qos_2.push(what()),
                (false, _) => self.repeated_qos_1 += 1,
            }
        }
        let is_lost = |(seq, is_acknowledged): &(u32, &bool)| **is_acknowledged && !seen.contains(seq);
        let lost = (0..).zip(&publisher.acknowledged).filter(is_lost);
        self.lost.extend(lost.map(|(seq, _)| format!("{}:{seq}", publisher.name)));
    }

    /// The line that reports quote.
    pub fn print(&self, kills: usize) {
        println!(
            "{kills} kills, {}: acknowledged QoS 1 {} and QoS 2 {}, lost {}, duplicated QoS 2 {}, out of order {}, \
             repeated QoS 1 {} (allowed)",
            self.subscriber,
            self.acknowledged[0],
            self.acknowledged[1],
            self.lost.len(),
            self.doubled_qos_2.len(),
            self.disordered.len(),
            self.repeated_qos_1,
        );
    }

    /// Panics with the first broken promises.
    pub fn check(&self) {
        let first = |all: &[String]| all.iter().take(10).cloned().collect::<Vec<_>>();
        assert!(
            self.acknowledged.iter().all(|count| *count > 0),
            "there was no load: {:?}",
            self.acknowledged
        );
        assert!(self.lost.is_empty(), "{}: lost {:?}", self.subscriber, first(&self.lost));
        assert!(
            self.doubled_qos_2.is_empty(),
            "{}: doubled {:?}",
            self.subscriber,
            first(&self.doubled_qos_2)
        );
        assert!(
            self.disordered.is_empty(),
            "{}: out of order {:?}",
            self.subscriber,
            first(&self.disordered)
        );
    }
}
