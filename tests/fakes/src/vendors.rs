//! One server that speaks the HTTP protocols of every vendor but APNs and FCM: logins, signatures, bounds and answers,
//! checked as strictly as the vendors' pages say.

mod rules;
mod web_push;

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::task::{JoinHandle, JoinSet};

use crate::FakeError;
use crate::log::{CallLog, lock};
pub use web_push::Browser;

/// The longest body that is read; more than any request may have, batches of a hundred whole messages included.
const BODY_MAX: usize = 4 * 1024 * 1024;

/// Device tokens in one page of OPPO's feed.
const FEED_PAGE: usize = 500;

/// The vendors that this fake knows, by their names in the bridge.
pub const VENDORS: [&str; 11] =
    ["huawei", "harmony", "honor", "xiaomi", "oppo", "vivo", "meizu", "web_push", "wns", "wechat", "webhook"];

/// A push that was asked for, by the rules of its vendor.
#[derive(Clone, Debug, PartialEq)]
pub struct VendorCall {
    /// Which vendor.
    pub vendor: &'static str,
    /// The device token.
    pub token: String,
    /// The message id, wherever the vendor carries it.
    pub mid: String,
    /// The message as the vendor understood it.
    pub message: Value,
    /// Whether the answer was the vendor's success.
    pub is_accepted: bool,
    /// How many device tokens the request had; each is a call of its own here.
    pub batch: usize,
    /// When it came.
    pub at: Instant,
}

/// What is wrong with a vendor, until told otherwise.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// It takes requests and never answers.
    Hangs,
    /// Every answer has this status and no sense.
    Status(u16),
    /// It closes the connection instead of answering.
    Closes,
    /// Every answer comes so much later.
    Slow(Duration),
}

/// The running fake. Dropping it closes the socket and every connection.
pub struct FakeVendors {
    shared: Arc<Shared>,
    task: JoinHandle<()>,
}

struct Shared {
    endpoint: String,
    browser: Browser,
    script: Mutex<Script>,
    log: CallLog<VendorCall>,
}

#[derive(Default)]
struct Script {
    /// By device token: status and body instead of the success.
    answers: HashMap<String, (u16, Value)>,
    /// The same for requests with this device token alone.
    answers_alone: HashMap<String, (u16, Value)>,
    /// Device tokens that are refused in a batch, each by itself.
    refused: HashSet<String>,
    /// Messages that were handed in, by vendor and the name given: the id of ours and the message.
    deposits: HashMap<(&'static str, String), (String, Value)>,
    /// Device tokens that OPPO's feed tells of, and forgets then.
    invalid: Vec<String>,
    /// How often the feed was asked.
    feeds: usize,
    recalls: Vec<Recall>,
    /// Names of messages that wait at the Web Push service.
    named: HashSet<String>,
    faults: HashMap<&'static str, Fault>,
    logins: HashMap<&'static str, usize>,
    access_tokens: HashSet<(&'static str, String)>,
    /// What was asked for and broke a rule: vendor and why.
    broken: Vec<(&'static str, String)>,
    sent: u64,
}

/// A request as the rules see it.
struct Asked<'a> {
    parts: &'a http::request::Parts,
    body: &'a [u8],
    browser: &'a Browser,
    now_ms: u64,
}

/// What the rules make of a request.
enum Understood {
    /// A login with the right secrets: the answer, given the token to hand out.
    Login(fn(&str) -> Value),
    /// A message for a list that is named later.
    Deposit(Pushed),
    /// A push.
    Push(Pushed),
    /// Which device tokens died, asked with this login.
    Feed(String),
    /// What was pushed is taken back: from these device tokens what stands in a place, or what has one of these names.
    Recall { names: Vec<String>, place: Option<i64>, answer: fn(bool) -> (u16, Value) },
}

/// A recall that keeps the rules of its vendor.
#[derive(Clone, Debug, PartialEq)]
pub struct Recall {
    /// Which vendor.
    pub vendor: &'static str,
    /// The device tokens, or the vendor's name of the push.
    pub names: Vec<String>,
    /// The alert's place on the screen, where that is what is named.
    pub place: Option<i64>,
    /// Whether the fake had it.
    pub is_known: bool,
}

/// A push that keeps the vendor's rules.
struct Pushed {
    /// The login that it came with; `None` for vendors without one.
    login: Option<String>,
    tokens: Vec<String>,
    mid: String,
    message: Value,
    /// The name of a message that was handed in before.
    deposit: Option<String>,
    /// Status and body of the vendor's success.
    success: (u16, Value),
    /// The body of a success of a batch, given which device tokens are refused.
    partly: Partly,
    /// Status and body for a login that is unknown or too old.
    login_expired: (u16, Value),
}

/// Makes the body of a batch's answer of its device tokens and of those that are refused.
type Partly = fn(&[String], &HashSet<String>) -> Value;

impl FakeVendors {
    /// Starts on a free port of 127.0.0.1, without TLS.
    ///
    /// # Errors
    /// [`FakeError`] when there is no port.
    pub async fn start() -> Result<Self, FakeError> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let endpoint = format!("http://{}", listener.local_addr()?);
        let shared = Arc::new(Shared {
            browser: Browser::new(),
            endpoint,
            script: Mutex::default(),
            log: CallLog::default(),
        });
        let task = tokio::spawn(serve(Arc::clone(&shared), listener));
        Ok(Self { shared, task })
    }

    /// A credential for this fake, as the bridge reads it.
    ///
    /// # Panics
    /// When the vendor is not one of [`VENDORS`].
    pub fn credential(&self, vendor: &str) -> Value {
        rules::credential(vendor, &self.shared.endpoint)
    }

    /// A device token of this vendor, one for each number.
    pub fn token(&self, vendor: &str, number: usize) -> String {
        match vendor {
            "web_push" => self.shared.browser.subscription(&format!("{}/wp/{number}", self.shared.endpoint)),
            "wns" => format!("https://fake.notify.windows.com/w/?token={number}"),
            "oppo" => format!("CN_{number}"),
            other => format!("{other}-{number}"),
        }
    }

    /// From now on this device token is answered so.
    pub fn answer(&self, token: &str, status: u16, body: Value) {
        lock(&self.shared.script).answers.insert(token.to_owned(), (status, body));
    }

    /// The same for requests with this device token alone.
    pub fn answer_alone(&self, token: &str, status: u16, body: Value) {
        lock(&self.shared.script).answers_alone.insert(token.to_owned(), (status, body));
    }

    /// From now on this device token is refused as dead in every batch; the rest of the batch is taken.
    pub fn refuse_in_batches(&self, token: &str) {
        lock(&self.shared.script).refused.insert(token.to_owned());
    }

    /// OPPO's feed tells of these device tokens when it is asked next, 500 at a time, and forgets them then.
    pub fn invalidate(&self, tokens: impl IntoIterator<Item = String>) {
        lock(&self.shared.script).invalid.extend(tokens);
    }

    /// How many device tokens the feed has not told of yet, and how often it was asked.
    pub fn feed(&self) -> (usize, usize) {
        let script = lock(&self.shared.script);
        (script.invalid.len(), script.feeds)
    }

    /// Makes a vendor ill, or well again with `None`.
    pub fn fault(&self, vendor: &str, fault: Option<Fault>) {
        let Some(vendor) = VENDORS.into_iter().find(|known| *known == vendor) else { return };
        let mut script = lock(&self.shared.script);
        match fault {
            Some(fault) => script.faults.insert(vendor, fault),
            None => script.faults.remove(vendor),
        };
    }

    /// Every access token given so far is refused from now on.
    pub fn expire_logins(&self) {
        lock(&self.shared.script).access_tokens.clear();
    }

    /// How often a vendor was signed in to.
    pub fn logins(&self, vendor: &str) -> usize {
        lock(&self.shared.script).logins.get(vendor).copied().unwrap_or_default()
    }

    /// How many messages were handed in before their devices were named, and are not forgotten.
    pub fn deposits(&self) -> usize {
        lock(&self.shared.script).deposits.len()
    }

    /// Forgets them.
    pub fn forget_deposits(&self) {
        lock(&self.shared.script).deposits.clear();
    }

    /// What was asked to be taken back, oldest first.
    pub fn recalls(&self) -> Vec<Recall> {
        lock(&self.shared.script).recalls.clone()
    }

    /// The Web Push service hands out what waits: none of it can be taken back any more.
    pub fn hand_out(&self) {
        lock(&self.shared.script).named.clear();
    }

    /// Requests that broke a rule, with the rule.
    pub fn broken(&self) -> Vec<(&'static str, String)> {
        lock(&self.shared.script).broken.clone()
    }

    /// Every push that kept the rules and had a valid login, oldest first.
    pub fn calls(&self) -> Vec<VendorCall> {
        self.shared.log.all()
    }

    /// All calls once there are `count`, or what there is after 20 s.
    pub async fn wait_for(&self, count: usize) -> Vec<VendorCall> {
        self.shared.log.wait_for(count).await
    }
}

impl Drop for FakeVendors {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve(shared: Arc<Shared>, listener: TcpListener) {
    let mut connections = JoinSet::new(); // dropped with this task, which ends them
    while let Ok((tcp, _)) = listener.accept().await {
        while connections.try_join_next().is_some() {}
        let shared = Arc::clone(&shared);
        connections.spawn(async move {
            let service = service_fn(move |request| handle(Arc::clone(&shared), request));
            // The client's end of a connection is no concern of the fake.
            let _ =
                auto::Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(tcp), service).await;
        });
    }
}

/// The connection is closed without an answer.
#[derive(Debug, thiserror::Error)]
#[error("as told")]
struct Close;

async fn handle(shared: Arc<Shared>, request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Close> {
    let (parts, body) = request.into_parts();
    let Some(vendor) = rules::vendor_of(parts.uri.path()) else { return Ok(reply(404, &json!({}))) };
    let Ok(body) = Limited::new(body, BODY_MAX).collect().await else { return Ok(reply(413, &json!({}))) };
    let body = body.to_bytes();
    let fault = lock(&shared.script).faults.get(vendor).copied();
    match fault {
        Some(Fault::Hangs) => return std::future::pending().await,
        Some(Fault::Closes) => return Err(Close),
        Some(Fault::Status(status)) => return Ok(reply(status, &json!("out of order"))),
        Some(Fault::Slow(wait)) => tokio::time::sleep(wait).await,
        None => {}
    }
    let (status, answer) = shared.answer(vendor, &parts, &body);
    let mut reply = reply(status, &answer);
    if vendor == "web_push" && status == 201 {
        let name = shared.name(parts.uri.path());
        reply.headers_mut().extend(name.parse().ok().map(|name| (http::header::LOCATION, name)));
    }
    Ok(reply)
}

impl Shared {
    fn answer(&self, vendor: &'static str, parts: &http::request::Parts, body: &[u8]) -> (u16, Value) {
        let asked = Asked { parts, body, browser: &self.browser, now_ms: now_ms() };
        match rules::understand(vendor, &asked) {
            Ok(Understood::Login(answer)) => {
                let mut script = lock(&self.script);
                let count = script.logins.entry(vendor).or_default();
                *count += 1;
                let token = format!("{vendor}-access-{count}");
                script.access_tokens.insert((vendor, token.clone()));
                (200, answer(&token))
            }
            Ok(Understood::Feed(login)) => self.feed(vendor, &login),
            Ok(Understood::Deposit(pushed)) => self.deposit(vendor, pushed),
            Ok(Understood::Recall { names, place, answer }) => {
                let mut script = lock(&self.script);
                let is_known = match place {
                    Some(place) => names.iter().all(|token| self.has_shown(token, place)),
                    None => names.iter().all(|name| script.named.remove(name)),
                };
                script.recalls.push(Recall { vendor, names, place, is_known });
                answer(is_known)
            }
            Ok(Understood::Push(pushed)) => self.push(vendor, pushed),
            Err((status, why)) => {
                lock(&self.script).broken.push((vendor, why.clone()));
                (status, json!({"error": why}))
            }
        }
    }

    /// Whether a device token got an alert in this place.
    fn has_shown(&self, token: &str, place: i64) -> bool {
        let is_it = |call: &VendorCall| {
            let shown = call.message.pointer("/payload/notification/notifyId").and_then(Value::as_i64);
            call.is_accepted && call.token == token && shown == Some(place)
        };
        self.log.all().iter().any(is_it)
    }

    /// A name of a message that waits for this subscription, as long as Mozilla's.
    fn name(&self, subscription: &str) -> String {
        let mut script = lock(&self.script);
        let name = format!("/m/{:0300}{}", script.sent, subscription.replace('/', "-"));
        script.named.insert(name.clone());
        format!("{}{name}", self.endpoint)
    }

    fn feed(&self, vendor: &'static str, login: &str) -> (u16, Value) {
        let mut script = lock(&self.script);
        if !script.access_tokens.contains(&(vendor, login.to_owned())) {
            return (200, json!({"code": 11, "message": "invalid auth token"}));
        }
        script.feeds += 1;
        let page = script.invalid.len().min(FEED_PAGE);
        let told: Vec<String> = script.invalid.drain(..page).collect();
        (200, json!({"code": 0, "message": "success", "data": {"registration_ids": told}}))
    }

    fn deposit(&self, vendor: &'static str, pushed: Pushed) -> (u16, Value) {
        let mut script = lock(&self.script);
        if pushed.login.is_some_and(|login| !script.access_tokens.contains(&(vendor, login))) {
            return pushed.login_expired;
        }
        let name = format!("kept-{}", script.deposits.len());
        script.deposits.insert((vendor, name.clone()), (pushed.mid, pushed.message));
        (200, json!({"result": 0, "desc": "ok", "taskId": name}))
    }

    fn push(&self, vendor: &'static str, pushed: Pushed) -> (u16, Value) {
        let Pushed { login, tokens, mut mid, mut message, deposit, success, partly, login_expired } = pushed;
        let mut script = lock(&self.script);
        if login.is_some_and(|login| !script.access_tokens.contains(&(vendor, login))) {
            return login_expired;
        }
        if let Some(name) = deposit {
            let Some(kept) = script.deposits.get(&(vendor, name)) else {
                return (200, json!({"result": 10155, "desc": "the task has expired"}));
            };
            (mid, message) = kept.clone();
        }
        script.sent += 1;
        let alone = match tokens.as_slice() {
            [token] => script.answers_alone.get(token).cloned(),
            _ => None,
        };
        let told = alone.or_else(|| tokens.iter().find_map(|token| script.answers.get(token).cloned()));
        let is_refused = |token: &&String| tokens.len() > 1 && script.refused.contains(*token);
        let refused: HashSet<String> = tokens.iter().filter(is_refused).cloned().collect();
        drop(script);
        for token in &tokens {
            self.log.add(VendorCall {
                vendor,
                token: token.clone(),
                mid: mid.clone(),
                message: message.clone(),
                is_accepted: told.is_none()
                    && !refused.contains(token)
                    && (refused.is_empty() || vendor != "xiaomi"),
                batch: tokens.len(),
                at: Instant::now(),
            });
        }
        match told {
            Some(told) => told,
            None if tokens.len() > 1 => (200, partly(&tokens, &refused)),
            None => success,
        }
    }
}

fn reply(status: u16, body: &Value) -> Response<Full<Bytes>> {
    let text = if body.is_null() { String::new() } else { body.to_string() };
    let builder =
        Response::builder().status(status).header("content-type", "application/json; charset=UTF-8");
    builder.body(Full::new(Bytes::from(text))).unwrap_or_default()
}

fn now_ms() -> u64 {
    u64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis())
        .unwrap_or(u64::MAX)
}
