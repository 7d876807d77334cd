//! Schedules, waves and paces under a clock that the test turns.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use reveille_proto::bridge as wire;

use super::moments::{Clock, Cron, Rhythm, When};
use super::*;
use crate::audience::{Audience, Expression};
use crate::chores;
use crate::deliveries;
use crate::devices::{self, Attributes};
use crate::facts::{self, Fact};
use crate::jobs;
use crate::lists;
use crate::messages::{Content, Notification, Origin};
use crate::pace::Speed;
use crate::segments::{self, Segment};
use crate::starts::Local;
use crate::statistics;
use crate::store::Store;
use crate::zones::{Zone, parse_local, parse_moment};

const RULES: Rules = Rules {
    wait_ack_ms: 3_000,
    ttl_ms: 86_400_000,
    broker_silence_ms: 30_000,
    retention_ms: 400 * 86_400_000,
    inbox_ms: 86_400_000,
    inbox_entries_max: 200,
    idempotency_ms: 86_400_000,
    credential_warning_ms: 0,
    attempts_max: None,
};
const HOUR_MS: u64 = 3_600_000;
const DAY_MS: u64 = 24 * HOUR_MS;

struct World {
    store: Store,
    clock: Arc<AtomicU64>,
    app: AppId,
    _dir: tempfile::TempDir,
}

fn ms(text: &str) -> u64 {
    parse_moment(text).unwrap()
}

impl World {
    fn at(now: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let clock = Arc::new(AtomicU64::new(ms(now)));
        let for_store = Arc::clone(&clock);
        let store = Store::open(dir.path(), Arc::new(move || for_store.load(Ordering::SeqCst))).unwrap();
        Self { store, clock, app: AppId::default(), _dir: dir }
    }

    fn now_ms(&self) -> u64 {
        self.clock.load(Ordering::SeqCst)
    }

    /// Lets the server be down until a moment, and then up.
    async fn wake_at(&self, at_ms: u64) {
        self.clock.store(at_ms, Ordering::SeqCst);
        loop {
            let checks = self.store.read(|tx| queues::checks(tx, 1000, usize::MAX)).await.unwrap();
            let due: Vec<_> = checks.into_iter().filter(|(due_ms, ..)| *due_ms <= at_ms).collect();
            let is_done = due.is_empty();
            for (_, key, check) in due {
                let work = move |tx: &mut Tx<'_>| {
                    tx.remove(Space::Queues, key);
                    chores::look(tx, &RULES, check)
                };
                self.store.write(work).await.unwrap();
            }
            self.work().await;
            if is_done {
                return;
            }
        }
    }

    async fn work(&self) {
        loop {
            let jobs = self.store.read(|tx| jobs::list(tx, 100)).await.unwrap();
            if jobs.is_empty() {
                return;
            }
            for job in jobs {
                let step = move |tx: &mut Tx<'_>| jobs::step(tx, &RULES, &job.app, job.message);
                self.store.write(step).await.unwrap();
            }
        }
    }

    /// Lets time pass, and everything happen at its moment.
    async fn pass_until(&self, until: &str) {
        let until_ms = ms(until);
        loop {
            let checks = self.store.read(|tx| queues::checks(tx, 1, usize::MAX)).await.unwrap();
            match checks.first() {
                Some((due_ms, ..)) if *due_ms <= until_ms => self.wake_at((*due_ms).max(self.now_ms())).await,
                Some(_) | None => return self.wake_at(until_ms).await,
            }
        }
    }

    async fn device(&self, id: &str, timezone: Option<&str>) {
        let attributes = Attributes { timezone: timezone.map(str::to_owned), ..Attributes::default() };
        let (app, id) = (self.app.clone(), id.to_owned());
        let write = move |tx: &mut Tx<'_>| {
            let mut device = devices::load_or_new(tx, &app, &id)?;
            device.attributes = attributes;
            devices::save(tx, &app, &device)
        };
        self.store.write(write).await.unwrap();
    }

    fn message(&self) -> Message {
        let notification = Some(Notification { title: Some("到了".to_owned()), ..Notification::default() });
        Message {
            origin: Origin::Http,
            content: Some(Content { notification, ..Content::default() }),
            expires_at_ms: Some(self.now_ms() + RULES.ttl_ms),
            audience: Audience { all: true, ..Audience::default() },
            is_expanded: false,
            ..Message::unknown(&self.app, messages::new_id(), self.now_ms())
        }
    }

    async fn send(&self, message: Message) -> MessageId {
        let id = message.id;
        let send = move |tx: &mut Tx<'_>| {
            let estimate = message.audience.estimate(tx, &message.app)?;
            sending::begin(tx, &RULES, message, estimate)
        };
        self.store.write(send).await.unwrap();
        self.work().await;
        id
    }

    async fn schedule(&self, rhythm: Rhythm, count: Option<u64>) {
        self.schedule_of(self.message(), rhythm, count).await;
    }

    async fn schedule_of(&self, message: Message, rhythm: Rhythm, count: Option<u64>) {
        let mut schedule = Schedule {
            id: "s1".to_owned(),
            name: String::new(),
            rhythm,
            count,
            state: State::Ended,
            runs: 0,
            recent: Vec::new(),
            body: Value::Null,
            message,
            created_at_ms: 0,
            updated_at_ms: 0,
        };
        assert!(schedule.begin(self.now_ms()));
        let app = self.app.clone();
        self.store.write(move |tx| save(tx, &app, &schedule)).await.unwrap();
    }

    /// What became of its moments, newest first.
    async fn runs(&self) -> Vec<Run> {
        let app = self.app.clone();
        self.store.read(move |tx| load(tx, &app, "s1")).await.unwrap().unwrap().recent
    }

    /// Devices as an upload leaves them.
    async fn list(&self, devices: &'static [&'static str]) {
        let app = self.app.clone();
        let write = move |tx: &mut Tx<'_>| {
            lists::begin(tx, &app, "l")?;
            lists::add(tx, &app, "l", devices.iter().map(|id| (*id).to_owned()))?;
            lists::finish(tx, &app, "l")
        };
        self.store.write(write).await.unwrap();
    }

    async fn tag(&self, id: &'static str, tag: &'static str) {
        let app = self.app.clone();
        let write = move |tx: &mut Tx<'_>| {
            let mut device = devices::load_or_new(tx, &app, id)?;
            device.tags.insert(tag.to_owned());
            devices::save(tx, &app, &device)
        };
        self.store.write(write).await.unwrap();
    }

    async fn change(&self, change: impl FnOnce(&mut Schedule, u64) + Send + 'static) {
        let app = self.app.clone();
        let write = move |tx: &mut Tx<'_>| {
            let mut schedule = load(tx, &app, "s1")?.unwrap();
            change(&mut schedule, tx.now_ms());
            save(tx, &app, &schedule)
        };
        self.store.write(write).await.unwrap();
    }

    /// When each message was made, oldest first.
    async fn made(&self) -> Vec<u64> {
        self.all().await.iter().map(|message| message.accepted_at_ms).collect()
    }

    /// The messages, oldest first.
    async fn all(&self) -> Vec<Message> {
        let app = self.app.clone();
        let mut all = self.store.read(move |tx| messages::list(tx, &app, None, 1000)).await.unwrap();
        all.reverse();
        all
    }

    /// The devices that a message went to so far.
    async fn reached(&self, id: MessageId) -> Vec<String> {
        let app = self.app.clone();
        let found = self.store.read(move |tx| deliveries::list(tx, &app, id, None, 1000)).await.unwrap();
        found.into_iter().map(|(device, _)| device).collect()
    }
}

fn daily(clock: Clock, missed: Missed) -> Rhythm {
    Rhythm { when: When::Cron(Cron::parse("0 9 * * *").unwrap()), clock, from: None, until: None, missed }
}

fn berlin() -> Clock {
    Clock::Of(Zone::find("Europe/Berlin").unwrap())
}

#[tokio::test]
async fn every_moment_has_one_message_over_a_change_of_the_clock() {
    let world = World::at("2026-03-27T12:00:00Z");
    world.device("d1", None).await;
    world.schedule(daily(berlin(), Missed::RunOnce), Some(3)).await;
    world.pass_until("2026-04-05T00:00:00Z").await;
    let wanted = ["2026-03-28T08:00:00Z", "2026-03-29T07:00:00Z", "2026-03-30T07:00:00Z"];
    assert_eq!(world.made().await, wanted.map(ms));
    let app = world.app.clone();
    let schedule = world.store.read(move |tx| load(tx, &app, "s1")).await.unwrap().unwrap();
    assert_eq!((schedule.state, schedule.runs, schedule.recent.len()), (State::Ended, 3, 3));
}

#[tokio::test]
async fn moments_that_a_standstill_missed_are_made_up_for_once_or_left_out() {
    for (missed, wanted) in [
        (Missed::RunOnce, vec!["2026-09-04T20:00:00Z", "2026-09-05T07:00:00Z"]),
        (Missed::Skip, vec!["2026-09-05T07:00:00Z"]),
    ] {
        let world = World::at("2026-09-01T12:00:00Z");
        world.schedule(daily(berlin(), missed), None).await;
        world.wake_at(ms("2026-09-04T20:00:00Z")).await;
        world.pass_until("2026-09-05T12:00:00Z").await;
        let wanted: Vec<u64> = wanted.into_iter().map(ms).collect();
        assert_eq!(world.made().await, wanted, "{missed:?}");
    }
}

#[tokio::test]
async fn whoever_a_segment_leaves_out_at_the_moment_is_left_out() {
    let world = World::at("2026-09-01T00:00:00Z");
    world.tag("d1", "vip").await;
    let audience =
        Audience { all: true, only: Some(Expression::parse("!segment:out").unwrap()), ..Audience::default() };
    let message = Message { audience, ..world.message() };
    world.schedule_of(message, daily(berlin(), Missed::RunOnce), None).await;
    world.pass_until("2026-09-01T12:00:00Z").await;
    let problem = world.runs().await[0].problem.clone().unwrap();
    assert_eq!(problem, "/audience/only: segment out does not exist");
    let app = world.app.clone();
    let expr = Expression::parse("tag:out").unwrap();
    let segment = Segment {
        name: "out".to_owned(),
        expr,
        description: String::new(),
        created_at_ms: 0,
        updated_at_ms: 0,
    };
    world.store.write(move |tx| segments::save(tx, &app, &segment)).await.unwrap();
    world.tag("d2", "out").await;
    world.pass_until("2026-09-02T12:00:00Z").await;
    let all = world.all().await;
    assert_eq!(world.reached(all[0].id).await, ["d1"]);
}

#[tokio::test]
async fn a_list_is_there_when_its_message_begins_however_late_that_is() {
    let world = World::at("2026-01-01T00:00:00Z");
    world.list(&["d1"]).await;
    let audience = Audience { lists: vec!["l".to_owned()], ..Audience::default() };
    let at = ms("2026-06-01T00:00:00Z");
    let (start, expires_at_ms) = (Some(Start::At(at)), Some(at + DAY_MS));
    let waits = Message { audience: audience.clone(), start, expires_at_ms, ..world.message() };
    let id = world.send(waits).await;
    world.pass_until("2026-06-01T00:00:00Z").await;
    assert_eq!(world.reached(id).await, ["d1"]);
    let message = Message { audience, ..world.message() };
    let yearly =
        Rhythm { when: When::Cron(Cron::parse("0 9 1 1 *").unwrap()), ..daily(berlin(), Missed::RunOnce) };
    world.schedule_of(message, yearly, None).await;
    world.pass_until("2027-01-02T00:00:00Z").await;
    let of_schedule = world.all().await.pop().unwrap();
    assert_eq!(world.reached(of_schedule.id).await, ["d1"]);
}

#[tokio::test]
async fn a_schedule_whose_list_is_gone_says_so() {
    let world = World::at("2026-01-01T00:00:00Z");
    let audience = Audience { lists: vec!["l".to_owned()], ..Audience::default() };
    let message = Message { audience, ..world.message() };
    world.schedule_of(message, daily(berlin(), Missed::RunOnce), None).await;
    world.pass_until("2026-01-01T12:00:00Z").await;
    assert_eq!(world.all().await, []);
    let problem = world.runs().await[0].problem.clone().unwrap();
    assert_eq!(problem, "/audience/lists/0: is no list of this app, or was not used for 30 days");
}

#[tokio::test]
async fn every_message_of_a_schedule_stays_in_inboxes_as_long_as_the_first() {
    let world = World::at("2026-09-01T00:00:00Z");
    let message = Message { inbox_until_ms: Some(world.now_ms() + 3 * DAY_MS), ..world.message() };
    world.schedule_of(message, daily(berlin(), Missed::RunOnce), Some(2)).await;
    world.pass_until("2026-09-10T00:00:00Z").await;
    let kept: Vec<_> = world.all().await.iter().map(|message| message.inbox_until_ms).collect();
    assert_eq!(kept, ["2026-09-04T07:00:00Z", "2026-09-05T07:00:00Z"].map(|until| Some(ms(until))));
}

#[tokio::test]
async fn how_many_a_message_is_for_counts_when_it_begins() {
    let world = World::at("2026-09-01T00:00:00Z");
    let start = Some(Start::At(ms("2026-09-01T09:00:00Z")));
    let id = world.send(Message { start, ..world.message() }).await;
    for n in 0..150 {
        world.device(&format!("d{n:03}"), None).await;
    }
    world.pass_until("2026-09-01T09:00:00Z").await;
    let app = world.app.clone();
    let message = world.store.read(move |tx| messages::load(tx, &app, id)).await.unwrap().unwrap();
    assert_eq!((message.estimate, message.is_bulk), (150, true));
}

#[tokio::test]
async fn the_same_moment_looked_at_twice_has_one_message() {
    let world = World::at("2026-09-01T00:00:00Z");
    world.schedule(daily(berlin(), Missed::RunOnce), None).await;
    let due_ms = ms("2026-09-01T07:00:00Z");
    world.clock.store(due_ms, Ordering::SeqCst);
    let before = {
        let app = world.app.clone();
        world.store.read(move |tx| load(tx, &app, "s1")).await.unwrap().unwrap()
    };
    for _ in 0..3 {
        // Even if its record were as before: the moment has its message.
        let (app, before) = (world.app.clone(), before.clone());
        let again = move |tx: &mut Tx<'_>| {
            save(tx, &app, &before)?;
            look(tx, &RULES, &app, "s1", due_ms)
        };
        world.store.write(again).await.unwrap();
    }
    assert_eq!(world.made().await, [due_ms]);
}

#[tokio::test]
async fn a_schedule_that_rests_sends_nothing_and_makes_up_for_nothing() {
    let world = World::at("2026-09-01T00:00:00Z");
    world.schedule(daily(berlin(), Missed::RunOnce), None).await;
    world.pass_until("2026-09-01T06:59:59Z").await;
    world.change(|schedule, now_ms| schedule.pause(true, now_ms)).await;
    world.pass_until("2026-09-03T12:00:00Z").await;
    assert_eq!(world.made().await, Vec::<u64>::new());
    world.change(|schedule, now_ms| schedule.pause(false, now_ms)).await;
    world.pass_until("2026-09-04T12:00:00Z").await;
    assert_eq!(world.made().await, [ms("2026-09-04T07:00:00Z")]);
}

#[tokio::test]
async fn a_message_comes_to_each_device_when_its_own_clock_shows_the_time() {
    let world = World::at("2026-08-31T00:00:00Z");
    for (id, zone) in [
        ("shanghai", Some("Asia/Shanghai")),
        ("berlin", Some("europe/berlin")),
        ("york", Some("America/New_York")),
        ("somewhere", None),
    ] {
        world.device(id, zone).await;
    }
    let local = Local {
        time: parse_local("2026-09-01T09:00:00").unwrap(),
        otherwise: Zone::UTC,
        missed: Missed::RunOnce,
    };
    let message = Message {
        audience: Audience {
            all: true,
            devices: vec!["berlin".to_owned(), "stranger".to_owned()],
            ..Audience::default()
        },
        start: Some(Start::Local(local)),
        expires_at_ms: Some(ms("2026-09-03T00:00:00Z")),
        ..world.message()
    };
    let id = world.send(message).await;
    for (until, wanted) in [
        ("2026-09-01T00:59:59Z", &[][..]),
        ("2026-09-01T01:00:00Z", &["shanghai"]),
        ("2026-09-01T06:59:59Z", &["shanghai"]),
        ("2026-09-01T07:00:00Z", &["berlin", "shanghai"]),
        ("2026-09-01T09:00:00Z", &["berlin", "shanghai", "somewhere", "stranger"]),
        ("2026-09-01T13:00:00Z", &["berlin", "shanghai", "somewhere", "stranger", "york"]),
    ] {
        world.pass_until(until).await;
        assert_eq!(world.reached(id).await, wanted, "{until}");
    }
    let app = world.app.clone();
    world.pass_until("2026-09-01T20:00:00Z").await;
    let load = |app: AppId| world.store.read(move |tx| messages::load(tx, &app, id));
    assert!(
        !load(app.clone()).await.unwrap().unwrap().is_expanded,
        "there are clocks that do not show nine yet"
    );
    world.pass_until("2026-09-02T00:00:00Z").await;
    assert!(load(app).await.unwrap().unwrap().is_expanded);
}

#[tokio::test]
async fn a_message_whose_moment_moved_with_the_time_zones_waits_for_the_new_one() {
    let world = World::at("2026-09-01T00:00:00Z");
    world.device("d1", None).await;
    let at = |text: &str| Some(Start::At(ms(text)));
    let message = Message { start: at("2026-09-01T09:00:00Z"), ..world.message() };
    let id = world.send(message.clone()).await;
    let moved = Message { start: at("2026-09-01T10:00:00Z"), is_waiting: true, ..message };
    world.store.write(move |tx| messages::save(tx, &moved)).await.unwrap();
    for (until, wanted) in [("2026-09-01T09:59:59Z", &[][..]), ("2026-09-01T10:00:00Z", &["d1"])] {
        world.pass_until(until).await;
        assert_eq!(world.reached(id).await, wanted, "{until}");
    }
}

#[tokio::test]
async fn the_time_that_a_message_took_begins_when_it_does() {
    let world = World::at("2026-09-01T00:00:00Z");
    world.device("d1", None).await;
    let start = Some(Start::At(ms("2026-09-01T09:00:00Z")));
    let id = world.send(Message { start, ..world.message() }).await;
    world.pass_until("2026-09-01T09:00:00Z").await;
    world.clock.fetch_add(2_000, Ordering::SeqCst);
    let (of, at_ms) = (world.app.clone(), world.now_ms());
    let devices = vec![wire::Device { client_id: "d1".to_owned(), epoch: 1 }];
    let acked = wire::Acked { app: of.to_string(), message_id: id.0.to_vec().into(), devices, at_ms };
    world.store.write(move |tx| facts::take(tx, &RULES, Fact::Acked(acked))).await.unwrap();
    let asked = statistics::Asked::new(None, Some(at_ms + DAY_MS), Some("1d"), None, at_ms).unwrap();
    let series = world.store.read(move |tx| statistics::read(tx, &of, &asked)).await.unwrap();
    let took_ms = series[0].total.ack_ms.percentiles().unwrap().p50;
    assert!((1_900..2_100).contains(&took_ms), "{took_ms}");
}

#[tokio::test]
async fn whoever_travels_towards_the_sun_meanwhile_is_not_passed_over() {
    let world = World::at("2026-08-31T00:00:00Z");
    world.device("d1", Some("America/New_York")).await;
    let local = Local {
        time: parse_local("2026-09-01T09:00:00").unwrap(),
        otherwise: Zone::UTC,
        missed: Missed::RunOnce,
    };
    let message = Message {
        start: Some(Start::Local(local)),
        expires_at_ms: Some(ms("2026-09-03T00:00:00Z")),
        ..world.message()
    };
    let id = world.send(message).await;
    world.pass_until("2026-09-01T10:00:00Z").await;
    world.device("d1", Some("Europe/London")).await; // where nine is over
    world.pass_until("2026-09-02T00:00:00Z").await;
    assert_eq!(world.reached(id).await, ["d1"]);
}

#[tokio::test]
async fn a_message_that_waits_is_taken_back_before_anything_left() {
    let world = World::at("2026-09-01T00:00:00Z");
    world.device("d1", None).await;
    let start = Some(Start::At(ms("2026-09-01T09:00:00Z")));
    let id = world.send(Message { start, ..world.message() }).await;
    let app = world.app.clone();
    let recall = move |tx: &mut Tx<'_>| {
        let mut message = messages::load(tx, &app, id)?.unwrap();
        message.recalled_at_ms = Some(tx.now_ms());
        messages::save(tx, &message)?;
        chores::end_message(tx, &app, id)
    };
    world.store.write(recall).await.unwrap();
    world.pass_until("2026-09-01T10:00:00Z").await;
    assert_eq!(world.reached(id).await, Vec::<String>::new());
}

#[tokio::test]
async fn a_paced_message_finds_its_devices_no_faster_and_goes_on_after_a_standstill() {
    let world = World::at("2026-09-01T00:00:00Z");
    for n in 0..20 {
        world.device(&format!("d{n:02}"), None).await;
    }
    let began_ms = world.now_ms();
    let speed = Speed { rate_per_s: Some(4), spread_minutes: None };
    let id = world.send(Message { speed, ..world.message() }).await;
    for (second, wanted) in [(0, 1), (1, 5), (2, 9)] {
        let until = Zone::UTC.local(began_ms + second * 1000);
        world.pass_until(&format!("{until}Z")).await;
        assert_eq!(world.reached(id).await.len(), wanted, "after {second} s");
    }
    world.wake_at(began_ms + HOUR_MS).await;
    let after_a_rest = world.reached(id).await.len();
    assert!((10..=14).contains(&after_a_rest), "{after_a_rest}: an hour is not made up for");
    world.pass_until("2026-09-01T02:00:00Z").await;
    assert_eq!(world.reached(id).await.len(), 20);
}

#[tokio::test]
async fn an_audience_is_spread_over_its_minutes() {
    let world = World::at("2026-09-01T00:00:00Z");
    for n in 0..12 {
        world.device(&format!("d{n:02}"), None).await;
    }
    let speed = Speed { rate_per_s: None, spread_minutes: Some(60) };
    let id = world.send(Message { speed, ..world.message() }).await;
    for (until, wanted) in
        [("2026-09-01T00:00:01Z", 1), ("2026-09-01T00:30:01Z", 7), ("2026-09-01T00:59:59Z", 12)]
    {
        world.pass_until(until).await;
        assert_eq!(world.reached(id).await.len(), wanted, "{until}");
    }
}

#[test]
fn a_moment_has_one_id_and_no_other_moment_has_it() {
    let app = AppId::default();
    let at = |text: &str| {
        let local = parse_local(text).unwrap();
        Moment { local, at_ms: Zone::UTC.moment_ms(local) }
    };
    let id = moment_id(&app, "s", at("2026-09-01T09:00:00"));
    assert_eq!(id, moment_id(&app, "s", at("2026-09-01T09:00:00")));
    for (schedule, text) in [("s", "2026-09-01T09:01:00"), ("t", "2026-09-01T09:00:00")] {
        assert_ne!(id, moment_id(&app, schedule, at(text)), "{schedule} {text}");
    }
    let uuid = uuid::Uuid::from_bytes(id.0);
    assert_eq!(uuid.get_version_num(), 7);
    assert!(id < moment_id(&app, "s", at("2026-09-01T09:01:00")), "later moments come later in lists");
}

#[test]
fn a_moment_on_readers_walls_is_missed_only_when_it_is_over_everywhere() {
    let at_ms = 1_800_000_000_000;
    let skip = |now_ms| is_worth_it(Missed::Skip, &Start::At(at_ms), now_ms);
    assert!(skip(at_ms) && skip(at_ms + LATE_MAX_MS) && !skip(at_ms + LATE_MAX_MS + 1));
    assert!(is_worth_it(Missed::RunOnce, &Start::At(at_ms), at_ms * 2));
}
