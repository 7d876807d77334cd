//! Following one client or one topic for a while, so that "why did it not get that?" has an answer in the log.
//!
//! Nobody is followed: publishing costs one look at a flag. Somebody is: the shards tell, this writes, no more lines in a
//! second than the trace allows and no longer than it lasts.

use crate::config::{Followed, TraceConfig, TraceError};
use crate::mailbox::{Command, Mailboxes};
use reveille_broker_core::io::{Input, ShardNo};
use reveille_broker_core::message::Message;
use reveille_broker_core::trace::{TRACES_MAX, Trace, TraceRule, Traced};
use reveille_proto::reason::ReasonCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// The part of the log that traces are; `--log` needs not name it.
pub const TRACE_TARGET: &str = "reveille_trace";

const SECOND: Duration = Duration::from_secs(1);

/// A trace that runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TraceInfo {
    /// To take it back.
    pub number: u64,
    /// What was asked for.
    pub asked: TraceConfig,
    /// How long it still lasts.
    pub left: Duration,
    /// Lines written.
    pub lines: u64,
    /// Lines that were too many in their second.
    pub suppressed: u64,
}

/// All traces that run.
#[derive(Debug)]
pub(crate) struct Tracer {
    mailboxes: Arc<Mailboxes>,
    is_on: AtomicBool,
    running: Mutex<Running>,
}

#[derive(Debug, Default)]
struct Running {
    last_number: u64,
    following: Vec<Following>,
}

#[derive(Debug)]
struct Following {
    rule: TraceRule,
    asked: TraceConfig,
    /// It stands in the configuration, and goes when it stands there no more.
    is_configured: bool,
    ends_at: Instant,
    second: Instant,
    lines_in_second: u32,
    lines: u64,
    suppressed: u64,
}

impl Tracer {
    /// Follows nobody.
    pub(crate) fn new(mailboxes: Arc<Mailboxes>) -> Self {
        Self { mailboxes, is_on: AtomicBool::new(false), running: Mutex::default() }
    }

    /// Begins a trace; its number takes it back.
    pub(crate) fn add(&self, asked: &TraceConfig) -> Result<u64, TraceError> {
        let followed = asked.parse()?;
        let mut running = self.lock();
        running.end_old(Instant::now());
        let number = running.add(asked, followed, false)?;
        self.tell(&running);
        tracing::warn!(target: TRACE_TARGET, trace = number, asked = ?asked, "a trace begins");
        Ok(number)
    }

    /// Ends a trace. `false` when there is none with that number.
    pub(crate) fn remove(&self, number: u64) -> bool {
        let mut running = self.lock();
        let before = running.following.len();
        running.following.retain(|following| following.rule.number != number);
        self.tell(&running);
        running.following.len() < before
    }

    /// Those that run.
    pub(crate) fn list(&self) -> Vec<TraceInfo> {
        let now = Instant::now();
        let mut running = self.lock();
        running.end_old(now);
        self.tell(&running);
        running.following.iter().map(|following| following.info(now)).collect()
    }

    /// Follows what the configuration says now, and no more what it said before.
    pub(crate) fn configure(&self, traces: &[TraceConfig]) {
        let mut running = self.lock();
        running.end_old(Instant::now());
        running.following.retain(|following| !following.is_configured);
        for asked in traces {
            let added = asked.parse().and_then(|followed| running.add(asked, followed, true));
            if let Err(error) = added {
                tracing::warn!(%error, "a trace of the configuration does not run");
            }
        }
        self.tell(&running);
    }

    /// Whether anybody is followed.
    pub(crate) fn is_on(&self) -> bool {
        self.is_on.load(Ordering::Relaxed)
    }

    /// The router found so many shards for a message.
    pub(crate) fn routed(&self, message: &Message, shards: usize) {
        let rule = self.lock().rule_of(message);
        if let Some(rule) = rule {
            let what = Traced::Routed { shards };
            self.write(&Trace { rule, client_id: None, topic: Some(message.topic.clone()), what });
        }
    }

    /// Writes a line, unless there were too many in this second or the trace is over.
    pub(crate) fn write(&self, trace: &Trace) {
        let now = Instant::now();
        let mut running = self.lock();
        if running.end_old(now) {
            self.tell(&running);
        }
        let has_room = running.following.iter_mut().find(|following| following.rule.number == trace.rule);
        let has_room = has_room.is_some_and(|following| following.takes_line(now));
        drop(running);
        if has_room {
            log(trace);
        }
    }

    /// Lets every shard know whom to follow.
    fn tell(&self, running: &Running) {
        let rules: Arc<[TraceRule]> =
            running.following.iter().map(|following| following.rule.clone()).collect();
        if !self.is_on.swap(!rules.is_empty(), Ordering::Relaxed) && rules.is_empty() {
            return; // nobody was followed, nobody is
        }
        for no in 0..self.mailboxes.count() {
            self.mailboxes.send(ShardNo(no), Command::Input(Input::Traces(Arc::clone(&rules))));
        }
    }

    fn lock(&self) -> MutexGuard<'_, Running> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Running {
    fn add(
        &mut self,
        asked: &TraceConfig,
        followed: Followed,
        is_configured: bool,
    ) -> Result<u64, TraceError> {
        if self.following.len() >= TRACES_MAX {
            return Err(TraceError::TooMany);
        }
        self.last_number += 1;
        let number = self.last_number;
        let Followed { app, client_id, filter } = followed;
        let now = Instant::now();
        self.following.push(Following {
            rule: TraceRule { number, app, client_id, filter },
            asked: asked.clone(),
            is_configured,
            ends_at: now + Duration::from_secs(asked.for_s),
            second: now,
            lines_in_second: 0,
            lines: 0,
            suppressed: 0,
        });
        Ok(number)
    }

    /// Whether some trace is over by now.
    fn end_old(&mut self, now: Instant) -> bool {
        let before = self.following.len();
        self.following.retain(|following| {
            let is_over = following.ends_at <= now;
            if is_over {
                let (trace, lines, suppressed) =
                    (following.rule.number, following.lines, following.suppressed);
                tracing::warn!(target: TRACE_TARGET, trace, lines, suppressed, "a trace is over");
            }
            !is_over
        });
        self.following.len() < before
    }

    fn rule_of(&self, message: &Message) -> Option<u64> {
        let mut rules = self.following.iter().map(|following| &following.rule);
        rules.find(|rule| rule.wants_message(&message.app, &message.topic)).map(|rule| rule.number)
    }
}

impl Following {
    fn takes_line(&mut self, now: Instant) -> bool {
        if now.duration_since(self.second) >= SECOND {
            self.second = now;
            self.lines_in_second = 0;
        }
        let takes = self.lines_in_second < self.asked.lines_per_s;
        if takes {
            self.lines_in_second += 1;
            self.lines += 1;
        } else {
            self.suppressed += 1;
        }
        takes
    }

    fn info(&self, now: Instant) -> TraceInfo {
        TraceInfo {
            number: self.rule.number,
            asked: self.asked.clone(),
            left: self.ends_at.saturating_duration_since(now),
            lines: self.lines,
            suppressed: self.suppressed,
        }
    }
}

/// One line. The names of its fields are for programs too: `docs/operations.md` lists them.
fn log(trace: &Trace) {
    macro_rules! line {
        ($words:literal $(, $name:ident = $value:expr)*) => {
            tracing::info!(
                target: TRACE_TARGET,
                trace = trace.rule,
                client_id = trace.client_id.as_ref().map(|id| id.as_str()),
                topic = trace.topic.as_ref().map(|topic| topic.as_str()),
                $($name = $value,)*
                $words
            )
        };
    }
    macro_rules! packet_line {
        ($words:literal, $packet:ident) => {
            line!(
                $words,
                packet = $packet.name,
                packet_id = $packet.packet_id,
                bytes = $packet.bytes,
                reason = $packet.reason.map(words),
                detail = Some($packet.detail.as_str()).filter(|detail| !detail.is_empty())
            )
        };
    }
    match &trace.what {
        Traced::Connected { version, network, keep_alive, session_present } => line!(
            "connected",
            version = format!("{version:?}"),
            network = network.as_ref() as &str,
            keep_alive_s = *keep_alive,
            session_present = *session_present
        ),
        Traced::Disconnected { reason } => line!("disconnected", reason = words(*reason)),
        Traced::Received(packet) => packet_line!("received", packet),
        Traced::Sent(packet) => packet_line!("sent", packet),
        Traced::Published { qos, retain, bytes } => {
            line!("published", qos = *qos as u8, retain = *retain, bytes = *bytes)
        }
        Traced::Routed { shards: 0 } => line!("nobody subscribes", shards = 0),
        Traced::Routed { shards } => line!("routed", shards = *shards),
        Traced::Queued { qos } => line!("queued", qos = *qos as u8),
        Traced::Dropped { reason } => line!("dropped", reason = *reason),
    }
}

fn words(reason: ReasonCode) -> String {
    format!("{:#04x} {}", reason.get(), reason.text())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mailbox::mailboxes;

    fn tracer() -> Tracer {
        Tracer::new(mailboxes(1).0)
    }

    fn asked(client_id: &str) -> TraceConfig {
        TraceConfig { client_id: Some(client_id.to_owned()), ..TraceConfig::default() }
    }

    #[test]
    fn a_trace_writes_no_more_lines_in_a_second_than_it_may() {
        let tracer = tracer();
        let number = tracer.add(&TraceConfig { lines_per_s: 3, ..asked("a") }).unwrap();
        let now = Instant::now() + SECOND; // a second of its own, whatever the machine does meanwhile
        let mut running = tracer.lock();
        let following =
            running.following.iter_mut().find(|following| following.rule.number == number).unwrap();
        let taken = (0..5).filter(|_| following.takes_line(now)).count();
        assert_eq!((taken, following.lines, following.suppressed), (3, 3, 2));
        assert!(following.takes_line(now + SECOND), "the next second has room again");
    }

    #[test]
    fn a_trace_ends_by_itself_by_its_number_or_with_the_configuration() {
        let tracer = tracer();
        assert!(!tracer.is_on());
        tracer.configure(&[asked("in the file")]);
        let number = tracer.add(&asked("by hand")).unwrap();
        assert!(tracer.is_on() && tracer.list().len() == 2);
        tracer.configure(&[]);
        assert_eq!(tracer.list().iter().map(|info| info.number).collect::<Vec<_>>(), [number]);
        assert!(tracer.remove(number) && !tracer.remove(number));
        assert!(!tracer.is_on());
        tracer.add(&asked("by hand")).unwrap();
        let late = Instant::now() + Duration::from_secs(TraceConfig::default().for_s);
        assert!(tracer.lock().end_old(late));
        assert!(tracer.list().is_empty() && !tracer.is_on());
    }

    #[test]
    fn there_are_only_so_many_traces_and_none_of_everybody() {
        let tracer = tracer();
        for no in 0..TRACES_MAX {
            tracer.add(&asked(&no.to_string())).unwrap();
        }
        assert_eq!(tracer.add(&asked("one more")), Err(TraceError::TooMany));
        let rows = [
            (TraceConfig::default(), TraceError::Everything),
            (TraceConfig { for_s: 0, ..asked("a") }, TraceError::Bounds),
            (TraceConfig { lines_per_s: 0, ..asked("a") }, TraceError::Bounds),
            (TraceConfig { app: "No App".to_owned(), ..asked("a") }, TraceError::App("No App".to_owned())),
            (
                TraceConfig { filter: Some("a/#/b".to_owned()), ..TraceConfig::default() },
                TraceError::Filter("a/#/b".to_owned()),
            ),
        ];
        for (asked, wanted) in rows {
            assert_eq!(tracer.add(&asked), Err(wanted), "{asked:?}");
        }
    }
}
