//! The sender against fake vendors, over real sockets.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "tests fail by panicking")]

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use reveille_bridge::sender::{CredentialKey, Sender, SenderOptions, Sent};
use reveille_bridge::vendor::shorten::Shortened;
use reveille_bridge::vendor::{Credential, DeviceToken, Push, PushKind, Scope, Verdict};
use reveille_fakes::{ApnsAnswer, FakeApns, FakeApnsOptions, FakeFcm, FcmAnswer};
use reveille_proto::ids::{AppId, MessageId};
use serde_json::{Value, json};
use tokio::task::JoinSet;

/// A sender and one app's credential.
#[derive(Clone)]
struct Bench {
    sender: Arc<Sender>,
    key: CredentialKey,
    credential: Arc<Credential>,
}

impl Bench {
    fn new(credential: Value) -> Self {
        Self::with(credential, SenderOptions::default())
    }

    fn with(credential: Value, options: SenderOptions) -> Self {
        let credential: Credential = serde_json::from_value(credential).unwrap();
        credential.validate().unwrap();
        let key = CredentialKey { app: AppId::default(), vendor: credential.vendor_name() };
        Self { sender: Arc::new(Sender::new(options)), key, credential: Arc::new(credential) }
    }

    async fn send(&self, push: &Push) -> Sent {
        self.sender.send(&self.key, &self.credential, push).await
    }

    /// Sends all at once and returns what became of each, in their order.
    fn send_all(&self, pushes: Vec<Push>) -> JoinSet<Sent> {
        let mut set = JoinSet::new();
        for push in pushes {
            let bench = self.clone();
            set.spawn(async move { bench.send(&push).await });
        }
        set
    }
}

/// Push number `n` to a device token; every number has its own message id.
fn push(n: u8, token: &str) -> Push {
    let id = MessageId([1, 2, 3, 4, 5, 6, 0x70, 8, 0x80, 10, 11, 12, 13, 14, 15, n]);
    Push {
        title: Some("泵 7".to_owned()),
        body: Some("Pressure 9.1 bar".to_owned()),
        ..Push::new(id, AppId::default(), DeviceToken::parse(token).unwrap())
    }
}

fn pushes(count: u8, token: &str) -> Vec<Push> {
    (0..count).map(|n| push(n, token)).collect()
}

fn mids<'a>(mids: impl Iterator<Item = Option<&'a str>>) -> HashSet<String> {
    mids.map(|mid| mid.unwrap().to_owned()).collect()
}

fn assert_accepted(all: &[Sent]) {
    for sent in all {
        assert!(matches!(sent.verdict, Verdict::Accepted { .. }) && sent.outcome_known, "{sent:?}");
    }
}

fn now_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() as u64
}

/// Options with a clock that a test moves, and the clock.
fn movable_clock(start_ms: u64) -> (SenderOptions, Arc<AtomicU64>) {
    let clock = Arc::new(AtomicU64::new(start_ms));
    let read = Arc::clone(&clock);
    let options =
        SenderOptions { clock: Arc::new(move || read.load(Ordering::SeqCst)), ..SenderOptions::default() };
    (options, clock)
}

// --- APNs

#[tokio::test]
async fn apns_takes_an_alert_with_all_its_headers() {
    let fake = FakeApns::start().await.unwrap();
    let bench = Bench::new(fake.credential());
    let push = Push {
        expires_at_ms: Some(now_ms() + 60_000),
        collapse_key: Some("pump7".to_owned()),
        ..push(1, "aa01")
    };

    let sent = bench.send(&push).await;

    let id = push.id.to_string();
    assert_eq!(sent.verdict, Verdict::Accepted { vendor_id: Some(id.clone()) });
    let calls = fake.calls();
    assert_eq!((calls.len(), calls[0].token.as_str(), calls[0].mid()), (1, "aa01", Some(id.as_str())));
    assert_eq!(calls[0].payload["aps"]["alert"], json!({"title": "泵 7", "body": "Pressure 9.1 bar"}));
    for (name, wanted) in [
        ("apns-id", id.as_str()),
        ("apns-collapse-id", "pump7"),
        ("apns-push-type", "alert"),
        ("apns-priority", "10"),
        ("apns-topic", "com.example.reveille"),
    ] {
        assert_eq!(calls[0].headers[name], wanted, "{name}");
    }
    assert!(calls[0].headers.contains_key("apns-expiration"));
    bench.sender.close().await;
    assert_eq!(bench.send(&push).await.verdict.name(), "retry");
}

#[tokio::test]
async fn apns_says_since_when_a_device_token_is_dead() {
    let fake = FakeApns::start().await.unwrap();
    fake.answer("dead", ApnsAnswer::unregistered(1_790_000_000_123));
    let sent = Bench::new(fake.credential()).send(&push(1, "dead")).await;
    let reason = "Unregistered".to_owned();
    assert_eq!(sent.verdict, Verdict::TokenDead { since_ms: Some(1_790_000_000_123), reason });
}

#[tokio::test]
async fn apns_gets_every_payload_shortened_to_its_bound() {
    let fake = FakeApns::start().await.unwrap();
    let bench = Bench::new(fake.credential());
    let long = Push { body: Some("水位 \"高\"\n".repeat(1000)), ..push(1, "aa") };
    let sent = bench.send(&long).await;
    assert_accepted(std::slice::from_ref(&sent));
    assert_eq!(sent.shortened, Some(Shortened::Body));
    assert!((4060..=4096).contains(&fake.calls()[0].size), "{}", fake.calls()[0].size);
}

#[tokio::test]
async fn one_provider_token_and_one_connection_serve_many_pushes_and_apps() {
    let fake = FakeApns::start().await.unwrap();
    let bench = Bench::new(fake.credential());
    let other_app = Bench {
        key: CredentialKey { app: AppId::parse("other").unwrap(), ..bench.key.clone() },
        ..bench.clone()
    };
    let (mut a, mut b) = (bench.send_all(pushes(50, "aa")), other_app.send_all(pushes(50, "bb")));
    while let Some(sent) = a.join_next().await {
        assert_accepted(&[sent.unwrap()]);
    }
    while let Some(sent) = b.join_next().await {
        assert_accepted(&[sent.unwrap()]);
    }
    assert_eq!((fake.calls().len(), fake.provider_tokens(), fake.connections()), (100, 1, 1));
}

#[tokio::test]
async fn the_first_stream_goes_alone_until_it_succeeded() {
    let fake = FakeApns::start().await.unwrap();
    fake.hold();
    let bench = Bench::new(fake.credential());
    let first = bench.send_all(pushes(1, "aa"));
    fake.wait_for(1).await;
    let others = bench.send_all(pushes(20, "bb")); // the first one is open, its answer held back
    tokio::time::sleep(Duration::from_millis(50)).await; // time to do it wrong
    assert_eq!(fake.calls().len(), 1);
    fake.release();
    assert_accepted(&first.join_all().await);
    assert_accepted(&others.join_all().await);
    assert_eq!((fake.calls().len(), fake.first_stream_violations()), (21, 0));
    assert!(fake.peak_streams() > 1, "after the first success pushes go side by side");
}

#[tokio::test]
async fn a_first_push_to_a_dead_token_does_not_open_the_gate() {
    let fake = FakeApns::start().await.unwrap();
    fake.answer("dead", ApnsAnswer::unregistered(1));
    let bench = Bench::new(fake.credential());
    let sent = bench.send_all(pushes(10, "dead")).join_all().await;
    assert!(sent.iter().all(|sent| sent.verdict.name() == "token_dead"));
    assert_eq!((fake.first_stream_violations(), fake.peak_streams()), (0, 1));
}

#[tokio::test]
async fn the_stream_limit_of_the_other_side_is_kept() {
    let fake = FakeApns::start_with(FakeApnsOptions { max_concurrent_streams: 3 }).await.unwrap();
    let bench = Bench::new(fake.credential());
    assert_accepted(&[bench.send(&push(200, "aa")).await]);
    fake.hold();
    let sends = bench.send_all(pushes(30, "aa"));
    assert_eq!(fake.wait_for(4).await.len(), 4);
    fake.release();
    assert_accepted(&sends.join_all().await);
    assert_eq!((fake.calls().len(), fake.peak_streams(), fake.connections()), (31, 3, 1));
}

#[tokio::test]
async fn after_a_goaway_unprocessed_pushes_go_over_a_new_connection_without_loss_or_doubling() {
    let fake = FakeApns::start().await.unwrap();
    let bench = Bench::new(fake.credential());
    assert_accepted(&[bench.send(&push(200, "aa")).await]);
    fake.hold();
    fake.go_away_after(10); // ten are processed, and answered after the GOAWAY
    let sends = bench.send_all(pushes(30, "aa"));
    let calls = fake.wait_for(12).await; // the first push, the ten, and the first of the new connection
    assert!(calls.iter().any(|call| call.connection == 1));
    fake.release();
    assert_accepted(&sends.join_all().await);
    let calls = fake.calls();
    assert_eq!((calls.len(), mids(calls.iter().map(|call| call.mid())).len()), (31, 31));
    assert_eq!(calls.iter().filter(|call| call.connection == 0).count(), 11);
    assert!(fake.ignored() > 0 && fake.connections() == 2);
    assert_eq!(fake.provider_tokens(), 1, "the provider token outlives the connection");
}

#[tokio::test]
async fn a_cut_connection_leaves_the_outcome_unknown_and_the_next_push_connects_anew() {
    let fake = FakeApns::start().await.unwrap();
    let bench = Bench::new(fake.credential());
    fake.cut_after(0);
    let sent = bench.send(&push(1, "aa")).await;
    assert!(matches!(sent.verdict, Verdict::Retry { after: None, .. }) && !sent.outcome_known, "{sent:?}");
    let again = bench.send(&push(1, "aa")).await;
    assert_accepted(&[again]);
    let calls = fake.calls();
    assert_eq!((calls.len(), fake.connections()), (2, 2));
    assert_eq!(
        calls[0].headers["apns-collapse-id"], calls[1].headers["apns-collapse-id"],
        "the twin replaces it"
    );
}

#[tokio::test]
async fn an_idle_connection_that_was_cut_is_replaced() {
    let fake = FakeApns::start().await.unwrap();
    let bench = Bench::new(fake.credential());
    assert_accepted(&[bench.send(&push(1, "aa")).await]);
    fake.cut_all();
    // The cut may be noticed before or while the next push is sent; the one after it always goes through.
    let next = bench.send(&push(2, "aa")).await;
    assert!(matches!(next.verdict, Verdict::Accepted { .. } | Verdict::Retry { .. }));
    assert_accepted(&[bench.send(&push(3, "aa")).await]);
}

#[tokio::test]
async fn a_push_without_an_answer_ends_at_its_deadline_and_the_connection_is_replaced() {
    let fake = FakeApns::start().await.unwrap();
    fake.answer("aa", ApnsAnswer::hang());
    let options = SenderOptions { answer_deadline: Duration::from_millis(300), ..SenderOptions::default() };
    let bench = Bench::with(fake.credential(), options);
    let sent = bench.send(&push(1, "aa")).await;
    assert!(sent.verdict.name() == "retry" && !sent.outcome_known, "{sent:?}");
    assert!(sent.took >= Duration::from_millis(300) && sent.took < Duration::from_secs(5));
    assert_accepted(&[bench.send(&push(2, "bb")).await]);
    assert_eq!(fake.connections(), 2);
}

#[tokio::test]
async fn a_connection_that_answers_pings_stays_and_a_silent_one_is_replaced() {
    let fake = FakeApns::start().await.unwrap();
    let options = SenderOptions {
        ping_after: Duration::from_millis(20),
        ping_timeout: Duration::from_millis(200),
        ..SenderOptions::default()
    };
    let bench = Bench::with(fake.credential(), options);
    assert_accepted(&[bench.send(&push(1, "aa")).await]);
    fake.set_latency(Duration::from_millis(300)); // longer than several PINGs
    assert_accepted(&[bench.send(&push(2, "aa")).await]);
    assert_eq!(fake.connections(), 1);
    fake.set_latency(Duration::ZERO);
    fake.freeze_all();
    let sent = bench.send(&push(3, "aa")).await;
    assert!(sent.verdict.name() == "retry" && !sent.outcome_known, "{sent:?}");
    assert!(sent.took < Duration::from_secs(10), "long before the deadline of the answer: {sent:?}");
    assert_accepted(&[bench.send(&push(3, "aa")).await]);
    assert_eq!(fake.connections(), 2);
}

#[tokio::test]
async fn an_expired_provider_token_is_renewed_and_the_push_repeated_once() {
    let fake = FakeApns::start().await.unwrap();
    let start_ms = now_ms() - 30 * 60 * 1000;
    let (options, clock) = movable_clock(start_ms);
    let bench = Bench::with(fake.credential(), options);
    assert_accepted(&[bench.send(&push(1, "aa")).await]);
    clock.store(start_ms + 29 * 60 * 1000, Ordering::SeqCst);
    fake.expire_provider_tokens_before(start_ms / 1000 + 60);
    assert_accepted(&[bench.send(&push(2, "aa")).await]);
    let statuses: Vec<u16> = fake.calls().iter().map(|call| call.answer.status).collect();
    assert_eq!((statuses, fake.provider_tokens()), (vec![200, 403, 200], 2));
}

#[tokio::test]
async fn a_young_provider_token_that_is_refused_is_not_replaced() {
    let fake = FakeApns::start().await.unwrap();
    let bench = Bench::new(fake.credential());
    fake.expire_provider_tokens_before(now_ms() / 1000 + 1000);
    for n in 0..3 {
        assert_eq!(bench.send(&push(n, "aa")).await.verdict, Verdict::LoginExpired);
    }
    assert_eq!((fake.calls().len(), fake.provider_tokens()), (3, 0), "one try each, no storm of tokens");
}

#[tokio::test]
async fn a_provider_token_is_renewed_between_20_and_60_minutes_and_not_before() {
    let fake = FakeApns::start().await.unwrap();
    let start_ms = now_ms() - 46 * 60 * 1000;
    let (options, clock) = movable_clock(start_ms);
    let bench = Bench::with(fake.credential(), options);
    for (minutes, wanted) in [(0, 1), (20, 1), (44, 1), (46, 2)] {
        clock.store(start_ms + minutes * 60 * 1000, Ordering::SeqCst);
        assert_accepted(&[bench.send(&push(1, "aa")).await]);
        assert_eq!(fake.provider_tokens(), wanted, "after {minutes} minutes");
    }
}

#[tokio::test]
async fn too_many_token_updates_never_make_another_token() {
    let fake = FakeApns::start().await.unwrap();
    let bench = Bench::new(fake.credential());
    let told = || ApnsAnswer::error(429, "TooManyProviderTokenUpdates");
    fake.answer_next("aa", told());
    fake.answer_next("aa", told());
    let throttled = |sent: &Sent| matches!(sent.verdict, Verdict::Throttled { scope: Scope::Connection, .. });
    assert!(throttled(&bench.send(&push(1, "aa")).await));
    assert!(throttled(&bench.send(&push(2, "aa")).await), "a new connection, the same token");
    assert_eq!((fake.calls().len(), fake.connections(), fake.provider_tokens()), (2, 2, 1));
    let resting = bench.send(&push(3, "aa")).await;
    let Verdict::Throttled { after: Some(after), .. } = resting.verdict else { panic!("{resting:?}") };
    assert!(after > Duration::from_secs(19 * 60), "the window that Apple names");
    assert_eq!((fake.calls().len(), fake.provider_tokens()), (2, 1), "nothing is sent meanwhile");
}

#[tokio::test]
async fn an_unrelated_key_is_tried_once_on_a_new_connection() {
    let fake = FakeApns::start().await.unwrap();
    fake.answer_next("aa", ApnsAnswer::error(403, "UnrelatedKeyIdInToken"));
    let bench = Bench::new(fake.credential());
    assert_accepted(&[bench.send(&push(1, "aa")).await]);
    assert_eq!((fake.calls().len(), fake.connections(), fake.provider_tokens()), (2, 2, 1));
}

#[tokio::test]
async fn a_wrong_key_and_an_unknown_authority_are_told_apart() {
    let (fake, other) = (FakeApns::start().await.unwrap(), FakeApns::start().await.unwrap());
    let mut wrong_key = fake.credential();
    wrong_key["private_key"] = other.private_key().into();
    let sent = Bench::new(wrong_key).send(&push(1, "aa")).await;
    assert_eq!(sent.verdict, Verdict::ConfigError { reason: "InvalidProviderToken".to_owned() });

    let mut wrong_ca = fake.credential();
    wrong_ca["ca_pem"] = other.ca_pem().into();
    let sent = Bench::new(wrong_ca).send(&push(1, "aa")).await;
    assert!(sent.verdict.reason().contains("cannot secure the connection") && sent.outcome_known, "{sent:?}");
}

#[tokio::test]
async fn a_token_that_is_not_hexadecimal_never_reaches_apns() {
    let fake = FakeApns::start().await.unwrap();
    let bench = Bench::new(fake.credential());
    for token in ["../x", "aa?b", "zz", "a%2f"] {
        assert_eq!(bench.send(&push(1, token)).await.verdict.name(), "token_mismatch", "{token}");
    }
    assert!(fake.calls().is_empty());
}

// --- FCM

#[tokio::test]
async fn fcm_takes_a_push_over_http1_and_over_tls() {
    for fake in [FakeFcm::start().await.unwrap(), FakeFcm::start_tls().await.unwrap()] {
        let bench = Bench::new(fake.credential());
        let mut push = Push { expires_at_ms: Some(now_ms() + 60_000), ..push(1, "T0:a-b_c") };
        push.data.insert("order".to_owned(), json!({"n": 7}));
        let sent = bench.send(&push).await;
        assert_eq!(
            sent.verdict,
            Verdict::Accepted { vendor_id: Some("projects/fake-project/messages/1".to_owned()) }
        );
        let calls = fake.calls();
        assert_eq!(
            (calls[0].token.as_str(), calls[0].mid()),
            ("T0:a-b_c", Some(push.id.to_string().as_str()))
        );
        assert_eq!(calls[0].message["data"]["order"], "{\"n\":7}");
        assert_eq!(calls[0].message["notification"], json!({"title": "泵 7", "body": "Pressure 9.1 bar"}));
        assert_eq!(calls[0].message["android"]["priority"], "HIGH");
    }
}

#[tokio::test]
async fn fcm_data_pushes_and_long_ones_keep_the_strict_shape() {
    let fake = FakeFcm::start().await.unwrap();
    let bench = Bench::new(fake.credential());
    let mut all = vec![Push { kind: PushKind::Data, ..push(1, "T") }];
    all.push(Push { body: Some("水".repeat(5000)), ..push(2, "T") });
    let mut full = push(3, "T");
    full.data.insert("blob".to_owned(), "x".repeat(10_000).into());
    all.push(full);
    let mut sent = Vec::new();
    for push in &all {
        sent.push(bench.send(push).await);
    }
    assert_accepted(&sent);
    let shortened: Vec<_> = sent.iter().map(|sent| sent.shortened).collect();
    assert_eq!(shortened, [None, Some(Shortened::Body), Some(Shortened::Data)]);
    let calls = fake.calls();
    assert_eq!(
        (calls[0].message.get("notification"), &calls[0].message["data"]["title"]),
        (None, &json!("泵 7"))
    );
    assert_eq!(calls[2].message["data"], json!({"mid": all[2].id.to_string(), "cut": "1"}));
}

#[tokio::test]
async fn many_pushes_at_once_sign_in_once() {
    let fake = FakeFcm::start().await.unwrap();
    fake.hold_logins();
    let bench = Bench::new(fake.credential());
    let sends = bench.send_all(pushes(40, "T"));
    tokio::task::yield_now().await;
    fake.release_logins();
    assert_accepted(&sends.join_all().await);
    assert_eq!((fake.logins(), fake.calls().len()), (1, 40));
}

#[tokio::test]
async fn a_refused_login_is_renewed_once_for_all_and_each_push_repeated_once() {
    let fake = FakeFcm::start().await.unwrap();
    let bench = Bench::new(fake.credential());
    assert_accepted(&[bench.send(&push(200, "T")).await]);
    fake.expire_logins();
    assert_accepted(&bench.send_all(pushes(40, "T")).join_all().await);
    assert_eq!((fake.logins(), fake.calls().len()), (2, 41));
}

#[tokio::test]
async fn a_login_that_stays_refused_is_not_asked_for_again_and_again() {
    let fake = FakeFcm::start().await.unwrap();
    let bench = Bench::new(fake.credential());
    fake.answer("T", FcmAnswer::plain(401, "UNAUTHENTICATED", "revoked"));
    for n in 0..5 {
        assert_eq!(bench.send(&push(n, "T")).await.verdict, Verdict::LoginExpired);
    }
    assert_eq!(fake.logins(), 2, "the first and one more");
}

#[tokio::test]
async fn a_login_is_renewed_five_minutes_before_it_ends() {
    let fake = FakeFcm::start().await.unwrap();
    let start_ms = now_ms() - 60 * 1000;
    let (options, clock) = movable_clock(start_ms);
    let bench = Bench::with(fake.credential(), options);
    // The fake's clock is the real one, so only the sender's moves; the assertion stays valid for an hour.
    for (after_s, wanted) in [(0, 1), (3_298, 1)] {
        clock.store(start_ms + after_s * 1000, Ordering::SeqCst);
        assert_accepted(&[bench.send(&push(1, "T")).await]);
        assert_eq!(fake.logins(), wanted, "after {after_s} s");
    }
    clock.store(start_ms + 3_300_000, Ordering::SeqCst);
    let _ = bench.send(&push(1, "T")).await;
    assert_eq!(fake.logins() + fake.refused_logins(), 2, "one more is asked for");
}

#[tokio::test]
async fn a_login_service_in_trouble_is_a_fault_and_a_refusal_is_the_operators() {
    for (status, wanted) in [(503, "retry"), (429, "retry"), (400, "config_error"), (401, "config_error")] {
        let fake = FakeFcm::start().await.unwrap();
        fake.fail_logins(Some(status));
        let bench = Bench::new(fake.credential());
        let sent = bench.send(&push(1, "T")).await;
        assert_eq!((sent.verdict.name(), sent.outcome_known), (wanted, true), "{status}");
        fake.fail_logins(None);
        assert_accepted(&[bench.send(&push(1, "T")).await]);
    }
}

#[tokio::test]
async fn fcm_answers_become_verdicts() {
    let fake = FakeFcm::start().await.unwrap();
    let bench = Bench::new(fake.credential());
    let table = [
        ("gone", FcmAnswer::unregistered(), "token_dead", None),
        ("other", FcmAnswer::error(403, "SENDER_ID_MISMATCH"), "token_mismatch", None),
        ("quota", FcmAnswer::error(429, "QUOTA_EXCEEDED"), "throttled", Some(60)),
        ("quota7", FcmAnswer::error(429, "QUOTA_EXCEEDED").retry_after("7"), "throttled", Some(7)),
        ("busy", FcmAnswer::error(503, "UNAVAILABLE").retry_after("30"), "retry", Some(30)),
        ("broken", FcmAnswer::error(500, "INTERNAL"), "retry", None),
    ];
    for (token, answer, wanted, after_s) in table {
        fake.answer(token, answer);
        let sent = bench.send(&push(1, token)).await;
        assert_eq!(sent.verdict.name(), wanted, "{token}");
        if let Verdict::Throttled { after, .. } | Verdict::Retry { after, .. } = sent.verdict {
            assert_eq!(after, after_s.map(Duration::from_secs), "{token}");
        }
    }
}

#[tokio::test]
async fn an_fcm_that_does_not_answer_or_listen_is_told_apart() {
    let fake = FakeFcm::start().await.unwrap();
    fake.answer("T", FcmAnswer::hang());
    let options = SenderOptions { answer_deadline: Duration::from_millis(400), ..SenderOptions::default() };
    let bench = Bench::with(fake.credential(), options.clone());
    let sent = bench.send(&push(1, "T")).await;
    assert_eq!((sent.verdict.name(), sent.outcome_known), ("retry", false));

    let mut nobody = fake.credential();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    nobody["endpoint"] = format!("http://{}", listener.local_addr().unwrap()).into();
    drop(listener);
    let sent = Bench::with(nobody, options).send(&push(1, "T")).await;
    assert_eq!((sent.verdict.name(), sent.outcome_known), ("retry", true), "{sent:?}");
}

// --- record

#[tokio::test]
async fn the_record_vendor_keeps_every_push_and_answers_as_told() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("pushes.jsonl");
    let bench = Bench::new(json!({"vendor": "record", "path": path, "answers": [
        {"token": "T9", "answer": "token_dead", "since_ms": 5},
        {"prefix": "slow", "answer": "retry", "after_ms": 10, "times": 1},
    ]}));
    let wanted = [("T1", "accepted"), ("T9", "token_dead"), ("slow1", "retry"), ("slow1", "accepted")];
    for (n, (token, name)) in (0..).zip(wanted) {
        assert_eq!(bench.send(&push(n, token)).await.verdict.name(), name, "{token}");
    }
    let recorded = bench.sender.wait_recorded(&AppId::default(), 4).await;
    assert_eq!(recorded.len(), 4);
    assert_eq!((recorded[0].token.as_str(), recorded[0].id), ("T1", push(0, "T1").id));
    assert_eq!(
        (&recorded[0].content["title"], &recorded[0].content["mid"]),
        (&json!("泵 7"), &json!(push(0, "T1").id.to_string()))
    );
    assert!(bench.sender.recorded(&AppId::parse("other").unwrap()).is_empty());
    let lines: Vec<Value> = std::fs::read_to_string(&path)
        .unwrap()
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let tokens: Vec<&str> = lines.iter().map(|line| line["token"].as_str().unwrap()).collect();
    assert_eq!(tokens, ["T1", "T9", "slow1", "slow1"]);
}
