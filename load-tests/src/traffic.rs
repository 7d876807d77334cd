//! Publishers with a window, or with a rate, and whoever receives: what most scenarios are made of.

use crate::client::LoadError;
use crate::contender::Running;
use crate::generator::{Arrival, Generator, Wanted};
use crate::progress::Progress;
use crate::report::{Figures, percentile_ms};
use crate::wire::{self, Frame, Template};
use hdrhistogram::Histogram;
use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// Packet identifiers in use at once; far below 65,535, so that none is used twice.
const IDENTIFIERS: u16 = 60_000;

/// Nanoseconds; what takes longer counts as this.
const LATENCY_MAX: u64 = 60_000_000_000;

/// Bytes that a publisher's socket may have pending before it publishes more.
const UNSENT_MAX: usize = 256 << 10;

/// A load.
pub struct Traffic {
    /// Topics of each publisher, in turn.
    pub topics: Vec<Vec<String>>,
    /// Bytes.
    pub payload: usize,
    /// Of publishers.
    pub qos: u8,
    /// How many receivers each message has.
    pub copies: u64,
    /// Messages in all.
    pub messages: u64,
    /// Messages of one publisher that are not acknowledged, or not received by everyone.
    pub window: u64,
    /// Messages a second of all publishers together; without it as fast as the window allows.
    pub rate: Option<u64>,
    /// Whether the broker keeps them.
    pub is_retained: bool,
}

struct Publisher {
    line: usize,
    templates: Vec<Template>,
    sent: u64,
    acknowledged: u64,
    received: u64,
    quota: u64,
}

struct Run<'a> {
    traffic: &'a Traffic,
    publishers: Vec<Publisher>,
    first: usize,
    received: u64,
    acknowledged: u64,
    latency: Histogram<u64>,
    acknowledgement: Histogram<u64>,
    sent_at: Vec<VecDeque<u64>>,
    is_timed: bool,
}

/// What a load led to.
pub struct Outcome {
    /// From the first PUBLISH to the last message received, or acknowledged where nobody receives.
    pub elapsed: Duration,
    /// The broker's processor time meanwhile.
    pub cpu: f64,
    /// Messages received.
    pub received: u64,
    /// Messages that were acknowledged.
    pub acknowledged: u64,
    /// From PUBLISH to its arrival, in nanoseconds.
    pub latency: Histogram<u64>,
    /// From PUBLISH to its acknowledgement, in nanoseconds.
    pub acknowledgement: Histogram<u64>,
}

impl Outcome {
    /// As the table shows them.
    pub fn figures(&self) -> Figures {
        let count = self.received.max(self.acknowledged) as f64;
        vec![
            ("messages/s", count / self.elapsed.as_secs_f64()),
            ("messages per broker CPU second", count / self.cpu.max(0.01)),
            ("latency p50 ms", percentile_ms(&self.latency, 0.5)),
            ("latency p99 ms", percentile_ms(&self.latency, 0.99)),
        ]
    }
}

impl Traffic {
    /// Connects the publishers and plays it. Receivers are connected already.
    pub fn play(&self, generator: &mut Generator, broker: &Running) -> Result<Outcome, LoadError> {
        let count = self.topics.len();
        let wanted = |number| Wanted::publisher(format!("publisher-{number}"));
        let first = generator.connect(broker.address(), count, wanted, |_, _| {})?;
        let mut run = Run::new(self, first)?;
        let mut progress = Progress::new(self.messages * self.copies.max(1));
        let (started, cpu, origin) = (Instant::now(), broker.cpu(), generator.now());
        let mut wake: Vec<usize> = (0..count).collect();
        while !run.is_over() {
            match self.rate {
                Some(rate) => run.publish_due(generator, rate, origin),
                None => wake.drain(..).for_each(|publisher| run.publish(generator, publisher)),
            }
            let wait = if self.rate.is_some() { Duration::ZERO } else { Duration::from_millis(100) };
            generator.turn(wait, |arrival, _| run.frame(&arrival, &mut wake))?;
            if self.rate.is_some() {
                std::thread::yield_now(); // waits are too long: of the poll a millisecond, of the clock a tenth and more
            }
            progress.at(run.received.max(run.acknowledged));
        }
        let (elapsed, cpu) = (started.elapsed(), broker.cpu() - cpu);
        let Run { received, acknowledged, latency, acknowledgement, .. } = run;
        Ok(Outcome { elapsed, cpu, received, acknowledged, latency, acknowledgement })
    }
}

impl<'a> Run<'a> {
    fn new(traffic: &'a Traffic, first: usize) -> Result<Self, LoadError> {
        let histogram = || {
            Histogram::new_with_bounds(1, LATENCY_MAX, 3)
                .map_err(|error| LoadError::Broken(error.to_string()))
        };
        let count = traffic.topics.len() as u64;
        let publisher = |(at, topics): (usize, &Vec<String>)| Publisher {
            line: first + at,
            templates: topics
                .iter()
                .map(|topic| Template::new(topic, traffic.payload, traffic.qos, traffic.is_retained))
                .collect(),
            sent: 0,
            acknowledged: 0,
            received: 0,
            quota: traffic.messages / count + u64::from((at as u64) < traffic.messages % count),
        };
        Ok(Self {
            traffic,
            publishers: traffic.topics.iter().enumerate().map(publisher).collect(),
            first,
            received: 0,
            acknowledged: 0,
            latency: histogram()?,
            acknowledgement: histogram()?,
            sent_at: vec![VecDeque::new(); traffic.topics.len()],
            is_timed: traffic.qos > 0,
        })
    }

    fn is_over(&self) -> bool {
        let is_acknowledged = self.traffic.qos == 0 || self.acknowledged >= self.traffic.messages;
        is_acknowledged && self.received >= self.traffic.messages * self.traffic.copies
    }

    /// As much as the window allows.
    fn publish(&mut self, generator: &mut Generator, at: usize) {
        let now = generator.now();
        while self.may_publish(at) {
            if !self.send(generator, at, now) {
                return;
            }
        }
    }

    fn may_publish(&self, at: usize) -> bool {
        let Some(publisher) = self.publishers.get(at) else { return false };
        let mut done = publisher.sent;
        if self.traffic.qos > 0 {
            done = done.min(publisher.acknowledged);
        }
        if let Some(received) = publisher.received.checked_div(self.traffic.copies) {
            done = done.min(received);
        }
        publisher.sent < publisher.quota && publisher.sent - done < self.traffic.window
    }

    /// What the rate wants by now, in turns; each message counts from when it was due, so that a broker that stalls
    /// does not hide what waited.
    fn publish_due(&mut self, generator: &mut Generator, rate: u64, origin: u64) {
        let due = (u128::from(generator.now() - origin) * u128::from(rate) / 1_000_000_000) as u64; // fits: seconds times rate
        let mut sent: u64 = self.publishers.iter().map(|publisher| publisher.sent).sum();
        while sent < due.min(self.traffic.messages) {
            let at = (sent % self.publishers.len().max(1) as u64) as usize; // below the number of publishers
            let when = origin + (sent + 1) * 1_000_000_000 / rate; // the first is due after one interval
            if !self.send(generator, at, when) {
                return;
            }
            sent += 1;
        }
    }

    fn send(&mut self, generator: &mut Generator, at: usize, when: u64) -> bool {
        let Some(publisher) = self.publishers.get_mut(at) else { return false };
        if generator.unsent(publisher.line) > UNSENT_MAX {
            return false;
        }
        let count = publisher.templates.len().max(1) as u64;
        let Some(template) = publisher.templates.get((publisher.sent % count) as usize) else { return false };
        let packet_id = (publisher.sent % u64::from(IDENTIFIERS)) as u16 + 1; // below 60,001
        publisher.sent += 1;
        generator.send(publisher.line, |out| template.write(out, packet_id, when, at as u32));
        if self.is_timed
            && let Some(sent_at) = self.sent_at.get_mut(at)
        {
            sent_at.push_back(when);
        }
        true
    }

    fn frame(&mut self, arrival: &Arrival<'_>, wake: &mut Vec<usize>) {
        let now = arrival.now;
        match arrival.frame {
            Frame::Publish { payload, .. } => {
                let Some((sent_at, from)) = wire::stamp(payload) else { return };
                self.received += 1;
                self.latency.saturating_record(now.saturating_sub(sent_at));
                if let Some(publisher) = self.publishers.get_mut(from as usize) {
                    publisher.received += 1;
                    if self.traffic.copies <= 1 || publisher.received % self.traffic.copies == 0 {
                        wake.push(from as usize);
                    }
                }
            }
            Frame::PubAck | Frame::PubComp => {
                let from = arrival.at.wrapping_sub(self.first);
                let Some(publisher) = self.publishers.get_mut(from) else { return };
                publisher.acknowledged += 1;
                self.acknowledged += 1;
                if let Some(sent_at) = self.sent_at.get_mut(from).and_then(VecDeque::pop_front) {
                    self.acknowledgement.saturating_record(now.saturating_sub(sent_at));
                }
                wake.push(from);
            }
            _ => {}
        }
    }
}
