//! The index against a model that asks every device, and against itself after a restart.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use proptest::prelude::*;
use reveille_proto::bridge::{self as wire, presence::Kind};

use super::*;
use crate::audience::expression::{Comparison, Expression, Match};
use crate::audience::{Asked, Audience};
use crate::devices::{self, Device};
use crate::store::{Space, Store, StoreError, Tx, keys};

const NOW_MS: u64 = 10_000_000;

/// What happens to devices.
#[derive(Clone, Debug)]
enum Step {
    Save { device: u8, tags: BTreeSet<String>, city: Option<String>, version: Option<String> },
    Remove { device: u8 },
    Presence { device: u8, online: bool },
    BrokerStarted,
    Restart,
}

/// What a device is, told without any set.
#[derive(Clone, Debug, Default)]
struct Seen {
    tags: BTreeSet<String>,
    city: Option<String>,
    version: Option<String>,
}

#[derive(Default)]
struct Model {
    devices: BTreeMap<u8, Seen>,
    /// Whether online, and the end of the last connection; also of devices that are not kept.
    presence: BTreeMap<u8, (bool, u64)>,
}

fn word() -> impl Strategy<Value = String> {
    "[ab]{1,2}"
}

fn any_step() -> impl Strategy<Value = Step> {
    let device = 0..6_u8;
    prop_oneof![
        4 => (device.clone(), prop::collection::btree_set(word(), 0..3), prop::option::of(word()),
              prop::option::of("[1-3]\\.[0-3]"))
            .prop_map(|(device, tags, city, version)| Step::Save { device, tags, city, version }),
        1 => device.clone().prop_map(|device| Step::Remove { device }),
        3 => (device, any::<bool>()).prop_map(|(device, online)| Step::Presence { device, online }),
        1 => Just(Step::BrokerStarted),
        1 => Just(Step::Restart),
    ]
}

/// Expressions over what the model knows.
fn any_question() -> impl Strategy<Value = Expression> {
    let city = || Field::Attribute("city".to_owned());
    let test = prop_oneof![
        Just(Expression::All),
        Just(Expression::Online),
        word().prop_map(|word| Expression::Has(Field::Tag, Match::Exactly(word))),
        word().prop_map(|word| Expression::Has(Field::Tag, Match::StartsWith(word))),
        word().prop_map(move |word| Expression::Has(city(), Match::Exactly(word))),
        Just(Expression::Has(city(), Match::StartsWith(String::new()))),
        "[1-3]\\.[0-3]".prop_map(|text| Expression::parse(&format!("app_version>={text}")).unwrap()),
        (0..200_u64).prop_map(|age_s| Expression::LastSeen(Comparison::Less, age_s)),
        (0..6_u8).prop_map(|device| Expression::Device(id(device))),
    ];
    test.prop_recursive(3, 12, 3, |inner| {
        prop_oneof![
            inner.clone().prop_map(|set| Expression::Not(Box::new(set))),
            prop::collection::vec(inner.clone(), 2..4).prop_map(Expression::And),
            prop::collection::vec(inner, 2..4).prop_map(Expression::Or),
        ]
    })
}

fn id(device: u8) -> String {
    format!("d{device}")
}

impl Model {
    fn holds(&self, device: u8, seen: &Seen, expression: &Expression) -> bool {
        let presence = self.presence.get(&device);
        match expression {
            Expression::All => true,
            Expression::Online => presence.is_some_and(|(online, _)| *online),
            Expression::Has(Field::Tag, wanted) => seen.tags.iter().any(|tag| is_meant(wanted, tag)),
            Expression::Has(_, wanted) => seen.city.as_ref().is_some_and(|city| is_meant(wanted, city)),
            Expression::Compare(_, comparison, bound) => {
                let order = seen.version.as_ref().and_then(|version| bound.order_of(version));
                order.is_some_and(|order| comparison.holds(order))
            }
            Expression::LastSeen(comparison, age_s) => presence.is_some_and(|(online, at_ms)| {
                let age = if *online { 0 } else { NOW_MS / 1000 - at_ms / 1000 };
                comparison.holds(age.cmp(age_s))
            }),
            Expression::Device(named) => *named == id(device),
            Expression::Segment(_) => false,
            Expression::Not(inner) => !self.holds(device, seen, inner),
            Expression::And(sets) => sets.iter().all(|set| self.holds(device, seen, set)),
            Expression::Or(sets) => sets.iter().any(|set| self.holds(device, seen, set)),
        }
    }

    fn meant(&self, expression: &Expression) -> BTreeSet<String> {
        let meant = self.devices.iter().filter(|(device, seen)| self.holds(**device, seen, expression));
        meant.map(|(device, _)| id(*device)).collect()
    }
}

fn is_meant(wanted: &Match, value: &str) -> bool {
    match wanted {
        Match::Exactly(text) => value == text,
        Match::StartsWith(text) => value.starts_with(text),
    }
}

/// A store and the model of it; moments and epochs grow with each step.
struct Run {
    dir: tempfile::TempDir,
    store: Option<Store>,
    model: Model,
    step: u64,
}

impl Run {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let store = Some(Store::open(dir.path(), Arc::new(|| NOW_MS)).unwrap());
        Self { dir, store, model: Model::default(), step: 0 }
    }

    fn store(&self) -> Store {
        self.store.clone().unwrap()
    }

    async fn take(&mut self, step: Step) {
        self.step += 1;
        let (app, at_ms) = (AppId::default(), NOW_MS - 200_000 + self.step * 1000);
        match step {
            Step::Save { device, tags, city, version } => {
                self.model.devices.insert(
                    device,
                    Seen { tags: tags.clone(), city: city.clone(), version: version.clone() },
                );
                let write = move |tx: &mut Tx<'_>| {
                    let mut kept = devices::load_or_new(tx, &app, &id(device))?;
                    kept.tags = tags;
                    kept.custom = city.map(|city| ("city".to_owned(), city)).into_iter().collect();
                    kept.attributes.app_version = version;
                    devices::save(tx, &app, &kept)
                };
                self.store().write(write).await.unwrap();
            }
            Step::Remove { device } => {
                self.model.devices.remove(&device);
                self.store().write(move |tx| devices::remove(tx, &app, &id(device))).await.unwrap();
            }
            Step::Presence { device, online } => {
                self.model.presence.insert(device, (online, at_ms));
                let kind = if online { Kind::Connected } else { Kind::Disconnected };
                self.tell(kind, &id(device), at_ms).await;
            }
            Step::BrokerStarted => {
                for (online, ended_ms) in self.model.presence.values_mut().filter(|(online, _)| *online) {
                    (*online, *ended_ms) = (false, at_ms);
                }
                self.tell(Kind::BrokerStarted, "", at_ms).await;
            }
            Step::Restart => {
                self.store.take().unwrap().close();
                self.store = Some(Store::open(self.dir.path(), Arc::new(|| NOW_MS)).unwrap());
            }
        }
    }

    async fn tell(&self, kind: Kind, client_id: &str, at_ms: u64) {
        let fact = wire::Presence {
            kind: kind.into(),
            client_id: client_id.to_owned(),
            epoch: self.step,
            at_ms,
            ..Default::default()
        };
        self.store().write(move |tx| devices::note_presence(tx, &AppId::default(), fact)).await.unwrap();
    }

    async fn check(&self, question: &Expression) {
        let wanted = self.model.meant(question);
        let (asked, audience) =
            (question.clone(), Audience { expr: Some(question.clone()), ..Audience::default() });
        let (found, count) = self
            .store()
            .read(move |tx| {
                let app = AppId::default();
                let count = audience.estimate(tx, &app)?;
                let asked = Asked::new(tx, &app, asked, NOW_MS)?;
                let (mut found, mut next) = (BTreeSet::new(), Some(DeviceNumber(0)));
                while let Some(from) = next {
                    let (ids, then) = asked.ids_from(tx, &app, Some(from), 2)?;
                    found.extend(ids);
                    next = then;
                }
                Ok::<_, StoreError>((found, count))
            })
            .await
            .unwrap();
        assert_eq!(found, wanted, "{question}");
        assert_eq!(count, wanted.len() as u64, "{question}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]

    #[test]
    fn the_index_means_whom_a_look_at_every_device_means(
        steps in prop::collection::vec(any_step(), 1..30),
        questions in prop::collection::vec(any_question(), 1..8),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let mut run = Run::new();
            for step in steps {
                run.take(step).await;
            }
            for question in &questions {
                run.check(question).await;
            }
            run.take(Step::Restart).await;
            for question in &questions {
                run.check(question).await;
            }
        });
    }
}

fn label(value: &str) -> Label {
    (Field::Tag, value.to_owned())
}

fn join(app: &AppId, number: u32, joined: &[&str]) -> Change {
    let joined = joined.iter().map(|value| label(value)).collect();
    Change::Device { app: app.clone(), number: DeviceNumber(number), left: Vec::new(), joined }
}

#[test]
fn numbers_are_read_across_windows_and_gaps_and_each_app_sees_its_own() {
    let index = Index::default();
    let (app, other) = (AppId::default(), AppId::parse("other").unwrap());
    let numbers = [0, 1, 65_535, 65_536, 3_000_000, 4_000_000_000, u32::MAX];
    index.apply(numbers.iter().map(|number| join(&app, *number, &["t"])).collect());
    index.apply(vec![join(&other, 7, &["t"])]);
    let tag = Expression::parse("tag:t").unwrap();
    for limit in [1, 2, 100] {
        let (mut found, mut next) = (Vec::new(), Some(DeviceNumber(0)));
        while let Some(DeviceNumber(from)) = next {
            let (some, then) = index.numbers_from(&app, &tag, &Known::default(), from, limit);
            assert!(some.len() <= limit);
            found.extend(some.into_iter().map(|number| number.0));
            next = then;
        }
        assert_eq!(found, numbers, "{limit} at once");
    }
    assert_eq!(index.summary(&app, &tag, &Known::default()).devices, 7);
    assert_eq!(index.summary(&other, &tag, &Known::default()).devices, 1);
    index.apply(vec![Change::Gone { app: app.clone(), number: DeviceNumber(1), left: vec![label("t")] }]);
    assert_eq!(index.summary(&app, &tag, &Known::default()).devices, 6);
    assert_eq!(index.values(&app, &Field::Tag, None, Order::Forward, 10), [("t".to_owned(), 6)]);
    assert_eq!(index.values(&app, &Field::Tag, Some("t"), Order::Forward, 10), []);
}

#[tokio::test]
async fn devices_of_an_older_release_get_numbers_and_its_indexes_go() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path(), Arc::new(|| NOW_MS)).unwrap();
    let write = |tx: &mut Tx<'_>| {
        for n in 0..3 {
            let device = Device { id: format!("d{n}"), tags: ["t".to_owned()].into(), ..Device::default() };
            let key = keys::device(&AppId::default(), &device.id);
            tx.save(Space::Devices, key, &device)?;
        }
        tx.put(Space::Devices, b"gdefault\0t\0d0\0".to_vec(), Vec::new());
        tx.put(Space::Devices, b"ldefault\0user\0u\0d0\0".to_vec(), Vec::new());
        Ok::<_, StoreError>(())
    };
    store.write(write).await.unwrap();
    store.close();
    let store = Store::open(dir.path(), Arc::new(|| NOW_MS)).unwrap();
    let found = store
        .read(|tx| {
            let app = AppId::default();
            let audience = Audience { tags: vec!["t".to_owned()], ..Audience::default() };
            let ids = audience.chunk(tx, &app, NOW_MS, None, &crate::audience::Cursor::default(), 10)?.0;
            let old = tx.has(Space::Devices, b"gdefault\0t\0d0\0")?
                || tx.has(Space::Devices, b"ldefault\0user\0u\0d0\0")?;
            Ok::<_, StoreError>((ids, old))
        })
        .await
        .unwrap();
    assert_eq!(found, (vec!["d0".to_owned(), "d1".to_owned(), "d2".to_owned()], false));
}
