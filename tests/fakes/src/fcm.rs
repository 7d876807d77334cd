//! A fake FCM HTTP v1 with its login service, strict rules, and answers as told.

mod rules;

use std::collections::{HashMap, HashSet, VecDeque};
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use http::{Method, Request, Response};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use jsonwebtoken::DecodingKey;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};
use tokio_rustls::TlsAcceptor;

use crate::FakeError;
use crate::log::{CallLog, lock};
use rules::Account;

const PRIVATE_KEY: &str = include_str!("../fixtures/service_account_private.pem");
const PUBLIC_KEY: &str = include_str!("../fixtures/service_account_public.pem");
/// The longest body that is read; more than any request may have.
const BODY_MAX: usize = 64 * 1024;

/// What a device token is answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FcmAnswer {
    /// The HTTP status; 200 names the push.
    pub status: u16,
    /// `errorCode` of the `FcmError` detail; empty: no such detail.
    pub code: String,
    /// `error.status`.
    pub rpc_status: String,
    /// `error.message`.
    pub message: String,
    /// The value of `Retry-After`.
    pub retry_after: Option<String>,
    /// No answer at all.
    pub hangs: bool,
}

impl FcmAnswer {
    /// Taken.
    pub fn ok() -> Self {
        let none = String::new;
        Self {
            status: 200,
            code: none(),
            rpc_status: none(),
            message: none(),
            retry_after: None,
            hangs: false,
        }
    }

    /// An error with an `FcmError` detail.
    pub fn error(status: u16, code: &str) -> Self {
        Self { status, code: code.to_owned(), message: "as told".to_owned(), ..Self::ok() }
    }

    /// An error without that detail.
    pub fn plain(status: u16, rpc_status: &str, message: &str) -> Self {
        Self { status, rpc_status: rpc_status.to_owned(), message: message.to_owned(), ..Self::ok() }
    }

    /// 404 `UNREGISTERED`.
    pub fn unregistered() -> Self {
        Self::error(404, "UNREGISTERED")
    }

    /// Never answered.
    pub fn hang() -> Self {
        Self { hangs: true, ..Self::ok() }
    }

    /// The same with a `Retry-After` header.
    pub fn retry_after(self, value: &str) -> Self {
        Self { retry_after: Some(value.to_owned()), ..self }
    }
}

/// One request to send that had a valid login.
#[derive(Clone, Debug)]
pub struct FcmCall {
    /// The device token.
    pub token: String,
    /// The `message` object.
    pub message: Value,
    /// What it was, or would have been, answered.
    pub answer: FcmAnswer,
}

impl FcmCall {
    /// The message id inside the data.
    pub fn mid(&self) -> Option<&str> {
        self.message.get("data")?.get("mid")?.as_str()
    }
}

/// The running fake. Dropping it closes the socket and every connection.
pub struct FakeFcm {
    shared: Arc<Shared>,
    ca_pem: Option<String>,
    task: JoinHandle<()>,
}

struct Shared {
    account: Account,
    endpoint: String,
    script: Mutex<Script>,
    log: CallLog<FcmCall>,
    is_held: watch::Sender<bool>,
    is_login_held: watch::Sender<bool>,
}

#[derive(Default)]
struct Script {
    answers: HashMap<String, FcmAnswer>,
    next: HashMap<String, VecDeque<FcmAnswer>>,
    latency: Duration,
    logins: usize,
    refused_logins: usize,
    login_status: Option<u16>,
    access_tokens: HashSet<String>,
    sent: u64,
}

impl FakeFcm {
    /// Starts without TLS on a free port of 127.0.0.1.
    ///
    /// # Errors
    /// [`FakeError`] when there is no port.
    pub async fn start() -> Result<Self, FakeError> {
        Self::start_over(None).await
    }

    /// Starts with TLS, offering HTTP/2 and HTTP/1.1.
    ///
    /// # Errors
    /// [`FakeError`] when there is no port or no certificate.
    pub async fn start_tls() -> Result<Self, FakeError> {
        Self::start_over(Some(crate::tls::server_tls(&[b"h2", b"http/1.1"])?)).await
    }

    async fn start_over(tls: Option<crate::tls::ServerTls>) -> Result<Self, FakeError> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address: SocketAddr = listener.local_addr()?;
        let scheme = if tls.is_some() { "https" } else { "http" };
        let endpoint = format!("{scheme}://{address}");
        let account = Account {
            email: "push@fake-project.iam.gserviceaccount.com".to_owned(),
            key_id: "fakekey0123456789".to_owned(),
            project_id: "fake-project".to_owned(),
            public_key: DecodingKey::from_rsa_pem(PUBLIC_KEY.as_bytes())?,
        };
        let shared = Arc::new(Shared {
            account,
            endpoint,
            script: Mutex::default(),
            log: CallLog::default(),
            is_held: watch::Sender::new(false),
            is_login_held: watch::Sender::new(false),
        });
        let acceptor = tls.as_ref().map(|tls| TlsAcceptor::from(Arc::clone(&tls.config)));
        let task = tokio::spawn(serve(Arc::clone(&shared), listener, acceptor));
        Ok(Self { shared, ca_pem: tls.map(|tls| tls.ca_pem), task })
    }

    /// `http://127.0.0.1:port`, or `https` with TLS.
    pub fn endpoint(&self) -> &str {
        &self.shared.endpoint
    }

    /// A credential for this fake, as the bridge reads it, with a whole service account file.
    pub fn credential(&self) -> Value {
        let account = &self.shared.account;
        let mut credential = json!({
            "vendor": "fcm",
            "service_account": {
                "type": "service_account", "project_id": account.project_id, "private_key_id": account.key_id,
                "private_key": PRIVATE_KEY, "client_email": account.email, "client_id": "1",
                "token_uri": format!("{}/token", self.endpoint()),
            },
            "endpoint": self.endpoint(),
        });
        if let (Some(ca_pem), Value::Object(fields)) = (&self.ca_pem, &mut credential) {
            fields.insert("ca_pem".to_owned(), ca_pem.as_str().into());
        }
        credential
    }

    /// From now on this device token is answered so.
    pub fn answer(&self, token: &str, answer: FcmAnswer) {
        lock(&self.shared.script).answers.insert(token.to_owned(), answer);
    }

    /// The next request for this device token is answered so; called again, the one after it.
    pub fn answer_next(&self, token: &str, answer: FcmAnswer) {
        lock(&self.shared.script).next.entry(token.to_owned()).or_default().push_back(answer);
    }

    /// Every answer to a request to send comes so much later.
    pub fn set_latency(&self, latency: Duration) {
        lock(&self.shared.script).latency = latency;
    }

    /// Answers to requests to send are kept back until [`FakeFcm::release`].
    pub fn hold(&self) {
        self.shared.is_held.send_replace(true);
    }

    /// Gives the answers that were kept back.
    pub fn release(&self) {
        self.shared.is_held.send_replace(false);
    }

    /// Answers to logins are kept back until [`FakeFcm::release_logins`].
    pub fn hold_logins(&self) {
        self.shared.is_login_held.send_replace(true);
    }

    /// Gives the logins that were kept back.
    pub fn release_logins(&self) {
        self.shared.is_login_held.send_replace(false);
    }

    /// Every access token given so far is refused from now on.
    pub fn expire_logins(&self) {
        lock(&self.shared.script).access_tokens.clear();
    }

    /// Logins are answered with this status, or properly again with `None`.
    pub fn fail_logins(&self, status: Option<u16>) {
        lock(&self.shared.script).login_status = status;
    }

    /// Every request to send that had a valid login, oldest first.
    pub fn calls(&self) -> Vec<FcmCall> {
        self.shared.log.all()
    }

    /// All calls once there are `count`, or what there is after 20 s.
    pub async fn wait_for(&self, count: usize) -> Vec<FcmCall> {
        self.shared.log.wait_for(count).await
    }

    /// How many logins were asked for with a valid assertion.
    pub fn logins(&self) -> usize {
        lock(&self.shared.script).logins
    }

    /// How many logins were refused because the assertion was wrong.
    pub fn refused_logins(&self) -> usize {
        lock(&self.shared.script).refused_logins
    }
}

impl Drop for FakeFcm {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve(shared: Arc<Shared>, listener: TcpListener, tls: Option<TlsAcceptor>) {
    let mut connections = JoinSet::new(); // dropped with this task, which ends them
    while let Ok((tcp, _)) = listener.accept().await {
        while connections.try_join_next().is_some() {}
        let (shared, tls) = (Arc::clone(&shared), tls.clone());
        connections.spawn(async move {
            let service = service_fn(move |request| handle(Arc::clone(&shared), request));
            let server = auto::Builder::new(TokioExecutor::new());
            // The client's end of a connection is no concern of the fake.
            if let Some(tls) = tls {
                let Ok(stream) = tls.accept(tcp).await else { return };
                let _ = server.serve_connection(TokioIo::new(stream), service).await;
            } else {
                let _ = server.serve_connection(TokioIo::new(tcp), service).await;
            }
        });
    }
}

type Reply = Response<Full<Bytes>>;

async fn handle(shared: Arc<Shared>, request: Request<Incoming>) -> Result<Reply, Infallible> {
    let (parts, body) = request.into_parts();
    let Ok(body) = Limited::new(body, BODY_MAX).collect().await else {
        return Ok(reply(413, None, &json!({})));
    };
    let body = body.to_bytes();
    let send_path = format!("/v1/projects/{}/messages:send", shared.account.project_id);
    if parts.method != Method::POST {
        return Ok(reply(405, None, &json!({})));
    }
    if parts.uri.path() == "/token" {
        return Ok(login(&shared, &parts, &body).await);
    }
    if parts.uri.path() == send_path {
        return Ok(send(&shared, &parts, &body).await);
    }
    Ok(reply(404, None, &json!({"error": {"code": 404, "message": "not found", "status": "NOT_FOUND"}})))
}

async fn login(shared: &Shared, parts: &http::request::Parts, body: &[u8]) -> Reply {
    if let Err(why) = rules::check_login(&shared.account, parts, body, now_s()) {
        lock(&shared.script).refused_logins += 1;
        return reply(400, None, &json!({"error": "invalid_grant", "error_description": why}));
    }
    let mut held = shared.is_login_held.subscribe();
    let _ = held.wait_for(|is_held| !is_held).await;
    let mut script = lock(&shared.script);
    script.logins += 1;
    if let Some(status) = script.login_status {
        return reply(status, None, &json!({"error": "as_told"}));
    }
    let access_token = format!("fake-access-token-{}", script.logins);
    script.access_tokens.insert(access_token.clone());
    reply(200, None, &json!({"access_token": access_token, "expires_in": 3599, "token_type": "Bearer"}))
}

async fn send(shared: &Shared, parts: &http::request::Parts, body: &[u8]) -> Reply {
    let bearer =
        parts.headers.get("authorization").and_then(|value| value.to_str().ok()?.strip_prefix("Bearer "));
    if !bearer.is_some_and(|bearer| lock(&shared.script).access_tokens.contains(bearer)) {
        let text = "Request had invalid authentication credentials.";
        return error_reply(&FcmAnswer::plain(401, "UNAUTHENTICATED", text));
    }
    let (token, message) = match rules::check_message(parts, body) {
        Ok(checked) => checked,
        Err((field, why)) => return bad_request(field, why),
    };
    let answer = shared.scripted(&token);
    shared.log.add(FcmCall { token, message, answer: answer.clone() });
    if answer.hangs {
        return std::future::pending().await;
    }
    let latency = lock(&shared.script).latency;
    tokio::time::sleep(latency).await;
    let mut held = shared.is_held.subscribe();
    let _ = held.wait_for(|is_held| !is_held).await;
    if answer.status != 200 {
        return error_reply(&answer);
    }
    let mut script = lock(&shared.script);
    script.sent += 1;
    let name = format!("projects/{}/messages/{}", shared.account.project_id, script.sent);
    reply(200, None, &json!({"name": name}))
}

impl Shared {
    /// What this device token is answered now.
    fn scripted(&self, token: &str) -> FcmAnswer {
        let mut script = lock(&self.script);
        let next = script.next.get_mut(token).and_then(VecDeque::pop_front);
        next.or_else(|| script.answers.get(token).cloned()).unwrap_or_else(FcmAnswer::ok)
    }
}

fn error_reply(answer: &FcmAnswer) -> Reply {
    let mut error = json!({"code": answer.status, "message": answer.message, "status": answer.rpc_status});
    if let Value::Object(fields) = &mut error
        && !answer.code.is_empty()
    {
        let detail =
            json!({"@type": "type.googleapis.com/google.firebase.fcm.v1.FcmError", "errorCode": answer.code});
        fields.insert("details".to_owned(), json!([detail]));
    }
    reply(answer.status, answer.retry_after.as_deref(), &json!({"error": error}))
}

fn bad_request(field: &str, why: &str) -> Reply {
    let violation = json!({"field": field, "description": why});
    let detail =
        json!({"@type": "type.googleapis.com/google.rpc.BadRequest", "fieldViolations": [violation]});
    let error = json!({"code": 400, "message": why, "status": "INVALID_ARGUMENT", "details": [detail]});
    reply(400, None, &json!({"error": error}))
}

fn reply(status: u16, retry_after: Option<&str>, body: &Value) -> Reply {
    let mut builder =
        Response::builder().status(status).header("content-type", "application/json; charset=UTF-8");
    if let Some(retry_after) = retry_after {
        builder = builder.header("retry-after", retry_after);
    }
    builder.body(Full::new(Bytes::from(body.to_string()))).unwrap_or_default()
}

fn now_s() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}
