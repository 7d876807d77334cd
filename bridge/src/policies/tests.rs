//! Any sequence of sends, words of broker and vendors, times, changes and crashes over a real store: the funnel stays
//! whole, no cap lets one more through, and nothing is kept for ever.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use proptest::prelude::*;
use reveille_proto::bridge::{self as wire, Strategy};
use reveille_proto::ids::{AppId, MessageId};
use tempfile::TempDir;

use super::coalescing::Digest;
use super::quiet::TimeOfDay;
use super::*;
use crate::deliveries::{self, Bucket, Funnel};
use crate::facts::{self, Fact};
use crate::jobs::{self, Task};
use crate::messages::{self, Content, Message, Notification};
use crate::plan::{Broker, Gate};
use crate::pushes::{self, Answered, Called};
use crate::queues::{self, Size};
use crate::rules::Rules;
use crate::sender::Sent;
use crate::store::Store;
use crate::vendor::{Credential, DeviceToken, VendorName, Verdict};
use crate::{chores, credentials, devices, tokens};

/// 2026-11-25T20:00:00Z.
const START_MS: u64 = 1_795_636_800_000;
const HOUR_MS: u64 = 3_600_000;
const TTL_MS: u64 = 20 * HOUR_MS;
/// The cap of every policy here.
const MAX: usize = 2;
const WINDOW_MS: u64 = 5 * HOUR_MS;
/// Two devices of one user, and one of nobody.
const DEVICES: [&str; 3] = ["phone", "tablet", "alone"];

#[derive(Clone, Debug)]
enum Step {
    Send { is_urgent: bool, strategy: Strategy },
    Later(u64),
    Missed { device: usize, epoch: u64 },
    Acked { device: usize },
    Vendors(u8),
    Moments,
    Recall(prop::sample::Index),
    Change(u8),
    Crash,
}

fn step() -> impl proptest::strategy::Strategy<Value = Step> {
    use proptest::strategy::Strategy as _;
    let strategies =
        vec![Strategy::OnlineFirst, Strategy::OnlineFirst, Strategy::VendorOnly, Strategy::BothDedup];
    let strategy = prop::sample::select(strategies);
    prop_oneof![
        4 => (prop::bool::weighted(0.2), strategy).prop_map(|(is_urgent, strategy)| Step::Send { is_urgent, strategy }),
        3 => (0_u64..7 * HOUR_MS).prop_map(Step::Later),
        3 => (0_usize..3, 0_u64..4).prop_map(|(device, epoch)| Step::Missed { device, epoch }),
        2 => (0_usize..3).prop_map(|device| Step::Acked { device }),
        3 => (0_u8..3).prop_map(Step::Vendors),
        3 => Just(Step::Moments),
        1 => any::<prop::sample::Index>().prop_map(Step::Recall),
        1 => (0_u8..6).prop_map(Step::Change),
        1 => Just(Step::Crash),
    ]
}

struct World {
    dir: TempDir,
    store: Option<Store>,
    clock: Arc<AtomicU64>,
    messages: Vec<MessageId>,
    /// When which message was let through to whom.
    passed: BTreeMap<(&'static str, MessageId), u64>,
}

fn rules() -> Rules {
    crate::config::Config::default().rules()
}

fn policy(kind: u8) -> Policy {
    let time = |text| TimeOfDay::parse(text).unwrap();
    let quiet =
        |then| QuietHours { from: time("22:00"), to: time("08:00"), timezone: "UTC".to_owned(), then };
    let digest = Digest { after: 1, text: "{n}".to_owned() };
    let then = if kind.is_multiple_of(2) { Then::Delay } else { Then::Drop };
    Policy {
        name: "p".to_owned(),
        caps: vec![Cap { max: MAX as u32, window_s: (WINDOW_MS / 1000) as u32, then, ..Cap::default() }],
        quiet_hours: (kind > 1).then(|| quiet(then)),
        coalesce: [Coalesce::Every, Coalesce::FirstOnly, Coalesce::Digest(digest)][usize::from(kind % 3)]
            .clone(),
        save_quota: kind > 2,
        rate_per_s: (kind > 3).then_some(1),
        ..Policy::default()
    }
}

impl World {
    async fn start() -> Self {
        let (dir, clock) = (tempfile::tempdir().unwrap(), Arc::new(AtomicU64::new(START_MS)));
        let mut world = Self { dir, store: None, clock, messages: Vec::new(), passed: BTreeMap::new() };
        world.open();
        let prepare = |tx: &mut Tx<'_>| {
            let app = AppId::default();
            let record: Credential = serde_json::from_str(r#"{"vendor": "record"}"#).unwrap();
            let mut kept = credentials::KeptCredential::new(record, 0);
            kept.rates.per_day = Some(1_000_000);
            credentials::save(tx, &app, &Default::default(), &kept)?;
            super::save(tx, &app, &policy(0))?;
            for id in DEVICES {
                let mut device = devices::load_or_new(tx, &app, id)?;
                if id != "alone" {
                    device.alias.insert(devices::USER.to_owned(), "42".to_owned());
                }
                let token = DeviceToken::parse(id).unwrap();
                tokens::register(tx, &app, &mut device, VendorName::Record, token, Default::default())?;
                devices::save(tx, &app, &device)?;
            }
            Ok::<_, StoreError>(())
        };
        world.write(prepare).await;
        world
    }

    fn open(&mut self) {
        let clock = Arc::clone(&self.clock);
        let store = Store::open(self.dir.path(), Arc::new(move || clock.load(Ordering::SeqCst)));
        self.store = Some(store.unwrap());
    }

    fn now_ms(&self) -> u64 {
        self.clock.load(Ordering::SeqCst)
    }

    async fn write<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Tx<'_>) -> Result<T, StoreError> + Send + 'static,
    ) -> T {
        self.store.as_ref().unwrap().write(work).await.unwrap()
    }

    async fn take(&mut self, step: Step) {
        match step {
            Step::Send { is_urgent, strategy } => self.send(is_urgent, strategy).await,
            Step::Later(by_ms) => drop(self.clock.fetch_add(by_ms, Ordering::SeqCst)),
            Step::Missed { device, epoch } => self.tell(DEVICES[device], Some(epoch)).await,
            Step::Acked { device } => self.tell(DEVICES[device], None).await,
            Step::Vendors(verdict) => self.write(move |tx| call_vendors(tx, verdict)).await,
            Step::Moments => self.write(look_at_moments).await,
            Step::Recall(which) if !self.messages.is_empty() => {
                let id = self.messages[which.index(self.messages.len())];
                self.write(move |tx| recall(tx, id)).await;
            }
            Step::Recall(_) => {}
            Step::Change(kind) => {
                self.write(move |tx| super::save(tx, &AppId::default(), &policy(kind))).await
            }
            Step::Crash => {
                let store = self.store.take().unwrap();
                tokio::task::spawn_blocking(move || store.close()).await.unwrap();
                self.open();
            }
        }
    }

    async fn send(&mut self, is_urgent: bool, strategy: Strategy) {
        let (id, now_ms) = (messages::new_id(), self.now_ms());
        let notification = Notification { title: Some("t".to_owned()), ..Notification::default() };
        let mut message = Message {
            content: Some(Content { notification: Some(notification), ..Content::default() }),
            strategy,
            wait_ack_ms: 1_000,
            expires_at_ms: Some(now_ms + TTL_MS),
            policy: Some("p".to_owned()),
            is_urgent,
            is_expanded: false,
            ..Message::unknown(&AppId::default(), id, now_ms)
        };
        message.audience.devices = DEVICES.map(str::to_owned).to_vec();
        self.messages.push(id);
        let begin = move |tx: &mut Tx<'_>| {
            facts::keep_new(tx, &rules(), &message, true)?;
            jobs::begin(tx, &message.app, id, Task::Expand(Default::default()))?;
            jobs::step(tx, &rules(), &message.app, id).map(drop)
        };
        self.write(begin).await;
    }

    /// Tells of every message that the broker has for a device: missed since this epoch, or taken.
    async fn tell(&self, device: &'static str, missed: Option<u64>) {
        let ids = self.messages.clone();
        let tell = move |tx: &mut Tx<'_>| {
            for id in ids {
                let app = AppId::default();
                let delivery = deliveries::load(tx, &app, id, device)?.unwrap();
                let Some(message) = messages::load(tx, &app, id)? else { continue };
                if delivery.facts.broker == Broker::Untold {
                    continue;
                }
                let devices = vec![wire::Device { client_id: device.to_owned(), epoch: missed.unwrap_or(9) }];
                let wired = message.to_wire(delivery.strategy);
                let (app, message_id) = (wired.app.clone(), wired.id.clone());
                let fact = match missed {
                    Some(_) => Fact::Queued(wire::Queued { message: Some(wired), devices }),
                    None => Fact::Acked(wire::Acked { app, message_id, devices, at_ms: 1 }),
                };
                facts::take(tx, &rules(), fact)?;
            }
            Ok(())
        };
        self.write(tell).await;
    }

    /// What must hold at any moment.
    async fn check(&mut self) {
        let ids = self.messages.clone();
        let read = move |tx: &mut Tx<'_>| {
            let of = |id: MessageId| {
                let app = AppId::default();
                Ok((id, deliveries::funnel(tx, &app, id)?, deliveries::list(tx, &app, id, None, 10)?))
            };
            ids.into_iter().map(of).collect::<Result<Vec<_>, StoreError>>()
        };
        for (id, funnel, all) in self.write(read).await {
            assert!(funnel.is_whole() && funnel.targeted == all.len() as u64, "{funnel:?}");
            let of = |bucket| all.iter().filter(|(_, delivery)| delivery.bucket == bucket).count() as u64;
            let Funnel { suppressed, failed, expired, acked, vendor_accepted, in_flight, .. } = funnel;
            for (bucket, count) in [
                (Bucket::Suppressed, suppressed),
                (Bucket::Failed, failed),
                (Bucket::Expired, expired),
                (Bucket::Acked, acked),
                (Bucket::VendorAccepted, vendor_accepted),
                (Bucket::InFlight, in_flight),
            ] {
                assert_eq!(of(bucket), count, "{bucket:?} of {funnel:?}");
            }
            let recipient = |device: &str| if device == "alone" { "alone" } else { "42" };
            let is_ruled = |tx: &deliveries::Delivery| tx.facts.gate == Gate::Open;
            for (device, _) in all.iter().filter(|(_, delivery)| is_ruled(delivery)) {
                let now_ms = self.now_ms();
                self.passed.entry((recipient(device), id)).or_insert(now_ms);
            }
        }
    }

    fn check_caps(&self, urgent: &BTreeSet<MessageId>) {
        for who in ["alone", "42"] {
            let counted = self.passed.iter().filter(|((whose, id), _)| *whose == who && !urgent.contains(id));
            let times: Vec<u64> = counted.map(|(_, at_ms)| *at_ms).collect();
            for from in &times {
                let within = times.iter().filter(|at| (*from..from + WINDOW_MS).contains(at)).count();
                assert!(within <= MAX, "{who} got {within} in a window: {times:?}");
            }
        }
    }

    /// Everything ends with its time, and is forgotten.
    async fn end(&mut self) {
        for later_ms in [TTL_MS, 1, 1] {
            self.clock.fetch_add(later_ms, Ordering::SeqCst);
            self.write(look_at_moments).await;
        }
        self.check().await;
        let ids = self.messages.clone();
        let flying = move |tx: &mut Tx<'_>| {
            let funnels = ids.iter().map(|id| deliveries::funnel(tx, &AppId::default(), *id));
            Ok(funnels.collect::<Result<Vec<_>, _>>()?.iter().map(|funnel| funnel.in_flight).sum::<u64>())
        };
        assert_eq!(self.write(flying).await, 0);
        for _ in 0..3 {
            self.clock.fetch_add(31 * 24 * HOUR_MS, Ordering::SeqCst);
            self.write(look_at_moments).await;
        }
        let counts = |tx: &mut Tx<'_>| tx.scan(Space::Messages, b"c", None, Order::Forward, 10);
        assert_eq!(self.write(counts).await, vec![], "a count is kept for ever");
    }
}

fn recall(tx: &mut Tx<'_>, id: MessageId) -> Result<(), StoreError> {
    let app = AppId::default();
    let Some(mut message) = messages::load(tx, &app, id)? else { return Ok(()) };
    message.recalled_at_ms = Some(tx.now_ms());
    messages::save(tx, &message)?;
    chores::end_message(tx, &app, id)?;
    jobs::step(tx, &rules(), &app, id).map(drop)
}

fn look_at_moments(tx: &mut Tx<'_>) -> Result<(), StoreError> {
    for (due_ms, key, check) in queues::checks(tx, 1_000, usize::MAX)? {
        if due_ms <= tx.now_ms() {
            tx.remove(Space::Queues, key);
            chores::look(tx, &rules(), check)?;
        }
    }
    for job in jobs::list(tx, 100)? {
        while jobs::step(tx, &rules(), &job.app, job.message)? {}
    }
    Ok(())
}

fn call_vendors(tx: &mut Tx<'_>, verdict: u8) -> Result<(), StoreError> {
    for lane in queues::lanes(tx)? {
        for waiting in queues::pushes_from(tx, &lane, Size::Single, 0, 100)? {
            if waiting.due_ms > tx.now_ms() {
                continue;
            }
            let Some(call) = pushes::begin(tx, &rules(), &lane, std::slice::from_ref(&waiting))? else {
                continue;
            };
            let reason = "as the test wants".to_owned();
            let verdict = match verdict {
                0 => Verdict::Accepted { vendor_id: None },
                1 => Verdict::PayloadRejected { reason },
                _ => Verdict::Retry { after: None, reason },
            };
            let sent = Sent::answered(verdict);
            let called = Called { device: waiting.device, token: call.draft.finish().token, sent, random: 1 };
            let answered = Answered {
                lane: lane.clone(),
                message: waiting.message,
                is_recall: false,
                pushes: vec![called],
            };
            pushes::finish(tx, &rules(), &answered, &answered.pushes)?;
        }
    }
    Ok(())
}

#[test]
fn what_is_wrong_with_a_policy_is_named_by_its_place() {
    let quiet = |from: &str, to: &str, timezone: &str| QuietHours {
        from: TimeOfDay::parse(from).unwrap(),
        to: TimeOfDay::parse(to).unwrap(),
        timezone: timezone.to_owned(),
        then: Then::Delay,
    };
    let cap = Cap { max: 3, window_s: 86_400, ..Cap::default() };
    let digest = |after, text: &str| Coalesce::Digest(Digest { after, text: text.to_owned() });
    for (policy, wanted) in [
        (Policy::default(), &[][..]),
        (Policy { caps: vec![cap.clone()], rate_per_s: Some(1), ..Policy::default() }, &[]),
        (Policy { rate_per_s: Some(0), ..Policy::default() }, &["/rate_per_s"]),
        (Policy { caps: vec![cap.clone(), cap.clone()], ..Policy::default() }, &["/caps/1"]),
        (
            Policy { caps: vec![Cap { max: 0, window_s: 1, ..Cap::default() }], ..Policy::default() },
            &["/caps/0/max", "/caps/0/window_s"],
        ),
        (
            Policy { quiet_hours: Some(quiet("22:00", "22:00", "Mars/Olympus")), ..Policy::default() },
            &["/quiet_hours/to", "/quiet_hours/timezone"],
        ),
        (
            Policy { coalesce: digest(0, ""), ..Policy::default() },
            &["/coalesce/digest/after", "/coalesce/digest/text"],
        ),
        (Policy { categories: BTreeSet::from([String::new()]), ..Policy::default() }, &["/categories"]),
    ] {
        let pointers: Vec<String> = policy.errors().into_iter().map(|(pointer, _)| pointer).collect();
        assert_eq!(pointers, wanted, "{policy:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, max_shrink_iters: 100, ..ProptestConfig::default() })]
    #[test]
    fn whatever_happens_the_funnel_is_whole_and_a_cap_is_a_cap(steps in prop::collection::vec(step(), 1..40)) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let mut world = World::start().await;
            let mut urgent = BTreeSet::new();
            for step in steps {
                let is_urgent = matches!(step, Step::Send { is_urgent: true, .. });
                world.take(step).await;
                if is_urgent {
                    urgent.extend(world.messages.last());
                }
                world.check().await;
            }
            world.check_caps(&urgent);
            world.end().await;
            world.check_caps(&urgent);
        });
    }
}
