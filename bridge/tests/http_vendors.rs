//! The vendors of forms and JSON over real sockets, against fakes that check each vendor's rules.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "tests fail by panicking")]

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use reveille_bridge::sender::{CredentialKey, Sender, SenderOptions, Sent};
use reveille_bridge::vendor::{Credential, DeviceToken, Push, PushKind, Verdict};
use reveille_fakes::vendors::VENDORS;
use reveille_fakes::{FakeVendors, Fault};
use reveille_proto::ids::{AppId, MessageId};
use serde_json::{Value, json};
use tokio::task::JoinSet;

/// Vendors that sign in before they send.
const WITH_LOGIN: [&str; 6] = ["huawei", "honor", "oppo", "vivo", "wns", "wechat"];
/// Vendors that take data pushes.
const WITH_DATA: [&str; 7] = ["huawei", "harmony", "honor", "xiaomi", "web_push", "wns", "webhook"];

struct Bench {
    fake: FakeVendors,
    sender: Arc<Sender>,
}

impl Bench {
    async fn new() -> Self {
        let options = SenderOptions { answer_deadline: Duration::from_secs(2), ..SenderOptions::default() };
        Self { fake: FakeVendors::start().await.unwrap(), sender: Arc::new(Sender::new(options)) }
    }

    fn credential(&self, vendor: &str) -> Arc<Credential> {
        let credential: Credential = serde_json::from_value(self.fake.credential(vendor)).unwrap();
        credential.validate().unwrap();
        Arc::new(credential)
    }

    async fn send(&self, vendor: &str, push: &Push) -> Sent {
        let credential = self.credential(vendor);
        let key = CredentialKey { app: AppId::default(), vendor: credential.vendor_name() };
        self.sender.send(&key, &credential, push).await
    }

    fn push(&self, vendor: &str, number: u8) -> Push {
        let id = MessageId([1, 2, 3, 4, 5, 6, 0x70, 8, 0x80, 10, 11, 12, 13, 14, 15, number]);
        let token = DeviceToken::parse(&self.fake.token(vendor, usize::from(number))).unwrap();
        let mut push = Push::new(id, AppId::default(), token);
        push.title = Some("泵 7".to_owned());
        push.body = Some("压力 9.1 bar".to_owned());
        push.data.insert("order".to_owned(), 7.into());
        push
    }
}

#[tokio::test]
async fn every_vendor_takes_an_alert_by_its_own_rules() {
    let bench = Bench::new().await;
    for vendor in VENDORS {
        let mut push = bench.push(vendor, 1);
        push.collapse_key = Some("pump7".to_owned());
        push.badge = Some(3);
        push.expires_at_ms = Some(u64::try_from(now_ms()).unwrap() + 3_600_000);
        let sent = bench.send(vendor, &push).await;
        assert!(
            matches!(sent.verdict, Verdict::Accepted { .. }),
            "{vendor} {sent:?} {:?}",
            bench.fake.broken()
        );
    }
    assert_eq!(bench.fake.broken(), []);
    let calls = bench.fake.calls();
    assert_eq!(calls.iter().map(|call| call.vendor).collect::<Vec<_>>(), VENDORS);
    for call in calls.iter().filter(|call| call.vendor != "wechat") {
        assert_eq!(call.mid, bench.push(call.vendor, 1).id.to_string(), "{}", call.vendor);
        assert_eq!(call.token, bench.push(call.vendor, 1).token.as_str());
    }
}

fn now_ms() -> u128 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_millis()
}

#[tokio::test]
async fn the_largest_push_is_shortened_to_every_vendors_bounds() {
    let bench = Bench::new().await;
    for vendor in VENDORS {
        for (number, text) in [(1, "文".repeat(5_000)), (2, "a\"\\<&".repeat(3_000))] {
            let mut push = bench.push(vendor, number);
            push.title = Some(text.clone());
            push.body = Some(text);
            push.data.insert("large".to_owned(), "x".repeat(6_000).into());
            let sent = bench.send(vendor, &push).await;
            assert!(
                matches!(sent.verdict, Verdict::Accepted { .. }),
                "{vendor} {sent:?} {:?}",
                bench.fake.broken()
            );
            assert!(sent.shortened.is_some(), "{vendor}");
        }
    }
    assert_eq!(bench.fake.broken(), []);
}

#[tokio::test]
async fn data_goes_where_the_vendor_takes_it_and_is_refused_here_where_not() {
    let bench = Bench::new().await;
    for vendor in VENDORS {
        let push = Push { kind: PushKind::Data, ..bench.push(vendor, 1) };
        let sent = bench.send(vendor, &push).await;
        let wanted = if WITH_DATA.contains(&vendor) { "accepted" } else { "payload_rejected" };
        assert_eq!(sent.verdict.name(), wanted, "{vendor} {sent:?} {:?}", bench.fake.broken());
    }
    assert_eq!(bench.fake.broken(), []);
}

#[tokio::test]
async fn many_pushes_share_one_login_and_one_new_one_when_it_ends() {
    let bench = Arc::new(Bench::new().await);
    for vendor in WITH_LOGIN {
        for logins in [1, 2] {
            let mut set = JoinSet::new();
            for number in 0..20 {
                let bench = Arc::clone(&bench);
                set.spawn(async move { bench.send(vendor, &bench.push(vendor, number)).await });
            }
            let sent = set.join_all().await;
            assert!(sent.iter().all(|sent| sent.verdict.name() == "accepted"), "{vendor} {sent:?}");
            assert_eq!(bench.fake.logins(vendor), logins, "{vendor}");
            bench.fake.expire_logins();
        }
    }
}

#[tokio::test]
async fn a_dead_token_is_found_on_the_wire_of_every_vendor() {
    let bench = Bench::new().await;
    let answers = [
        (
            "huawei",
            200,
            json!({"code": "80100000", "msg": "{\"illegal_tokens\":[\"huawei-9\"],\"failure\":1}"}),
        ),
        ("harmony", 200, json!({"code": "80300007", "msg": "all"})),
        ("honor", 200, json!({"code": 200, "data": {"expireTokens": ["honor-9"]}})),
        ("xiaomi", 200, json!({"result": "error", "code": 66007})),
        ("oppo", 200, json!({"code": 10000, "message": "invalid registration_id"})),
        ("vivo", 200, json!({"result": 10302, "desc": "regId"})),
        ("meizu", 200, json!({"code": "200", "value": {"110002": ["meizu-9"]}})),
        ("web_push", 410, Value::Null),
        ("wns", 404, Value::Null),
        ("wechat", 200, json!({"errcode": 40003})),
        ("webhook", 410, Value::Null),
    ];
    assert_eq!(answers.iter().map(|(vendor, ..)| *vendor).collect::<BTreeSet<_>>(), VENDORS.into());
    for (vendor, status, body) in answers {
        let push = bench.push(vendor, 9);
        bench.fake.answer(push.token.as_str(), status, body);
        assert_eq!(bench.send(vendor, &push).await.verdict.name(), "token_dead", "{vendor}");
        assert_eq!(bench.send(vendor, &bench.push(vendor, 1)).await.verdict.name(), "accepted", "{vendor}");
    }
}

#[tokio::test]
async fn an_ill_vendor_is_retried_and_says_whether_the_push_may_have_arrived() {
    let bench = Bench::new().await;
    for vendor in ["xiaomi", "meizu", "web_push", "webhook"] {
        for (fault, outcome_known) in
            [(Fault::Hangs, false), (Fault::Closes, false), (Fault::Status(500), true)]
        {
            bench.fake.fault(vendor, Some(fault));
            let sent = bench.send(vendor, &bench.push(vendor, 1)).await;
            assert_eq!(sent.verdict.name(), "retry", "{vendor} {fault:?} {sent:?}");
            assert_eq!(sent.outcome_known, outcome_known, "{vendor} {fault:?}");
        }
        bench.fake.fault(vendor, None);
        assert_eq!(bench.send(vendor, &bench.push(vendor, 1)).await.verdict.name(), "accepted", "{vendor}");
    }
}

/// Vendors that take several device tokens in one request, and how many.
const WITH_BATCHES: [(&str, usize); 7] = [
    ("huawei", 1000),
    ("harmony", 1000),
    ("honor", 1000),
    ("xiaomi", 1000),
    ("oppo", 100),
    ("vivo", 1000),
    ("meizu", 100),
];

#[tokio::test]
async fn a_full_batch_goes_out_in_one_request_and_each_token_has_its_own_verdict() {
    let bench = Bench::new().await;
    for (vendor, max) in WITH_BATCHES {
        let token = |number| DeviceToken::parse(&bench.fake.token(vendor, number)).unwrap();
        let credential = bench.credential(vendor);
        assert_eq!(credential.vendor().batch_max(), max, "{vendor}");
        let push = Push { others: (2..=max).map(token).collect(), ..bench.push(vendor, 1) };
        let key = CredentialKey { app: AppId::default(), vendor: credential.vendor_name() };
        bench.fake.refuse_in_batches(token(max / 2).as_str());
        let sent = bench.sender.send_batch(&key, &credential, &push).await;
        assert_eq!(sent.len(), max, "{vendor}");
        for (sent, token) in sent.iter().zip(push.tokens()) {
            let is_dead = token.as_str() == bench.fake.token(vendor, max / 2);
            let wanted = match (vendor, is_dead) {
                ("xiaomi", _) => "send_alone", // it never says which
                (_, true) => "token_dead",
                (_, false) => "accepted",
            };
            assert_eq!(sent.verdict.name(), wanted, "{vendor} {token:?} {:?}", bench.fake.broken());
        }
        let calls: Vec<_> = bench.fake.calls().into_iter().filter(|call| call.vendor == vendor).collect();
        assert_eq!((calls.len(), calls[0].batch), (max, max), "{vendor}");
        assert!(calls.iter().all(|call| call.mid == push.id.to_string()), "{vendor}");
    }
    assert_eq!(bench.fake.broken(), []);
}

#[tokio::test]
async fn a_token_that_cannot_be_the_vendors_does_not_spoil_its_batch() {
    let bench = Bench::new().await;
    for (vendor, bad) in [("xiaomi", "a,b"), ("meizu", "a,b"), ("oppo", "US_1")] {
        let token = |text: &str| DeviceToken::parse(text).unwrap();
        let others = vec![token(bad), token(&bench.fake.token(vendor, 2))];
        let push = Push { others, ..bench.push(vendor, 1) };
        let key = CredentialKey { app: AppId::default(), vendor: bench.credential(vendor).vendor_name() };
        let sent = bench.sender.send_batch(&key, &bench.credential(vendor), &push).await;
        let names: Vec<_> = sent.iter().map(|sent| sent.verdict.name()).collect();
        assert_eq!(names, ["accepted", "token_mismatch", "accepted"], "{vendor}");
    }
    assert_eq!(bench.fake.broken(), []);
}

#[tokio::test]
async fn a_message_for_a_list_is_handed_in_once_and_anew_when_the_vendor_forgot_it() {
    let bench = Bench::new().await;
    let credential = bench.credential("vivo");
    let key = CredentialKey { app: AppId::default(), vendor: credential.vendor_name() };
    let token = |number| DeviceToken::parse(&bench.fake.token("vivo", number)).unwrap();
    let list = |from| Push { token: token(from), others: vec![token(from + 1)], ..bench.push("vivo", 1) };
    for from in [1, 3, 5] {
        let sent = bench.sender.send_batch(&key, &credential, &list(from)).await;
        assert!(sent.iter().all(|sent| sent.verdict.name() == "accepted"), "{sent:?}");
    }
    assert_eq!(bench.fake.deposits(), 1);
    bench.fake.forget_deposits();
    let names = |sent: Vec<Sent>| sent.iter().map(|sent| sent.verdict.name()).collect::<Vec<_>>();
    assert_eq!(names(bench.sender.send_batch(&key, &credential, &list(7)).await), ["retry", "retry"]);
    assert_eq!(names(bench.sender.send_batch(&key, &credential, &list(7)).await), ["accepted", "accepted"]);
}
