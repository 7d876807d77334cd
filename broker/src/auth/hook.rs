//! A service that is asked over HTTP who a client is. It is asked again for a while after it answered, and left alone for
//! a moment when it does not answer: whoever waits for a dead hook would fill the handshakes of everybody.

use crate::auth::cache::{Cache, Question};
use crate::auth::jwt::acl_of;
use crate::auth::{Answer, Attempt, Grant, tenant};
use crate::config::HookConfig;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HeaderValue};
use hyper::{Method, Request, StatusCode, Uri};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use reveille_broker_core::acl::OnDenied;
use reveille_broker_core::message::Time;
use reveille_proto::reason::ReasonCode;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::runtime::Handle;
use tokio::sync::Semaphore;
use tokio::time::timeout;

/// Bytes of an answer.
const ANSWER_MAX: usize = 64 << 10;

/// Idle connections that are kept.
const IDLE_MAX: usize = 8;

/// Questions without an answer, one behind the other, after which nobody asks for a while.
const FAILURES_MAX: u32 = 5;

/// For how long. Then one question finds out whether the hook is back.
const PAUSE: Duration = Duration::from_secs(2);

/// Why the hook cannot be used at all.
#[derive(Debug, thiserror::Error)]
pub enum HookError {
    /// The URL.
    #[error("auth.http.url is no URL")]
    Url,
    /// The header.
    #[error("auth.http.authorization cannot stand in a header")]
    Authorization,
    /// The file of authorities.
    #[error("{}: {what}", path.display())]
    Authorities {
        /// Which file.
        path: PathBuf,
        /// What is wrong.
        what: String,
    },
    /// The library for TLS.
    #[error("no TLS: {0}")]
    Tls(#[from] rustls::Error),
}

type HookClient = Client<HttpsConnector<HttpConnector>, Full<Bytes>>;

/// See the module.
pub(crate) struct Hook {
    uri: Uri,
    authorization: Option<HeaderValue>,
    client: HookClient,
    handle: Handle,
    config: HookConfig,
    on_denied: OnDenied,
    turns: Semaphore,
    answers: Cache<Remembered>,
    breaker: Mutex<Breaker>,
}

impl std::fmt::Debug for Hook {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Hook").field("url", &self.config.url).finish_non_exhaustive()
    }
}

#[derive(Clone, Debug)]
enum Remembered {
    Allow(Grant),
    Deny,
    Ignore,
}

/// ```text
///           FAILURES_MAX failures             PAUSE passed: one may try
///  Closed -----------------------> Open --------------------------------> Open (its end moved)
///    ^                                \                                        |
///    +---------------------------------+---------- an answer ------------------+
/// ```
#[derive(Debug, Default)]
struct Breaker {
    failures: u32,
    open_until: Option<Instant>,
}

impl Breaker {
    fn may_ask(&mut self, now: Instant) -> bool {
        match self.open_until {
            Some(end) if end > now => false,
            Some(_) => {
                self.open_until = Some(now + PAUSE); // the others wait for what this one finds out
                true
            }
            None => true,
        }
    }

    /// Whether this changed something.
    fn answered(&mut self) -> bool {
        self.failures = 0;
        self.open_until.take().is_some()
    }

    /// Whether this changed something.
    fn failed(&mut self, now: Instant) -> bool {
        self.failures = self.failures.saturating_add(1);
        if self.failures < FAILURES_MAX {
            return false;
        }
        self.open_until.replace(now + PAUSE).is_none()
    }
}

#[derive(Serialize)]
struct Asked<'a> {
    client_id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    user: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    password: Option<&'a str>,
    /// A password that is no text.
    #[serde(skip_serializing_if = "Option::is_none")]
    password_base64: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    address: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    certificate: Option<&'a str>,
    listener: &'a str,
}

#[derive(Deserialize)]
struct Answered {
    result: Verdict,
    app: Option<String>,
    user: Option<String>,
    acl: Option<Value>,
    expires_in_s: Option<u64>,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Verdict {
    Allow,
    Deny,
    Ignore,
}

impl Hook {
    /// Asks on the thread behind `handle`. `secret` is random.
    ///
    /// # Errors
    /// [`HookError`] says what to change.
    pub(crate) fn new(
        config: &HookConfig,
        handle: &Handle,
        secret: &[u8; 32],
        on_denied: OnDenied,
    ) -> Result<Self, HookError> {
        let authorization =
            config.authorization.as_ref().map(|secret| HeaderValue::from_str(secret.reveal()));
        let mut authorization = authorization.transpose().map_err(|_| HookError::Authorization)?;
        if let Some(value) = &mut authorization {
            value.set_sensitive(true);
        }
        Ok(Self {
            uri: config.url.parse().map_err(|_| HookError::Url)?,
            authorization,
            client: client(config)?,
            handle: handle.clone(),
            on_denied,
            turns: Semaphore::new(config.concurrent_max),
            answers: Cache::new(secret, config.cache_entries_max),
            breaker: Mutex::default(),
            config: config.clone(),
        })
    }

    /// What the hook says about a client. Without an answer nobody comes in.
    pub(crate) async fn check(&self, attempt: &Attempt<'_>) -> Answer {
        let question = self.question(attempt);
        let started = Instant::now();
        if let Some(known) = self.answers.get(&question, started) {
            return known.into_answer();
        }
        if !self.breaker().may_ask(started) {
            return Answer::Deny(ReasonCode::SERVER_UNAVAILABLE);
        }
        match self.ask(attempt).await {
            Some(answer) => {
                if self.breaker().answered() {
                    tracing::info!(url = self.config.url, "the auth hook answers again");
                }
                self.remember(question, &answer, attempt.now);
                answer.into_answer()
            }
            None => {
                if self.breaker().failed(Instant::now()) {
                    tracing::error!(
                        url = self.config.url,
                        "the auth hook does not answer: logins are refused"
                    );
                }
                Answer::Deny(ReasonCode::SERVER_UNAVAILABLE)
            }
        }
    }

    fn breaker(&self) -> std::sync::MutexGuard<'_, Breaker> {
        self.breaker.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn question(&self, attempt: &Attempt<'_>) -> Question {
        let address = attempt.address.map(|address| address.to_string());
        self.answers.question(&[
            Some(attempt.client_id.as_str().as_bytes()),
            attempt.connect.username.as_deref().map(str::as_bytes),
            attempt.connect.password.as_deref(),
            address.as_ref().map(|address| address.as_bytes()),
            attempt.certificate.map(str::as_bytes),
            Some(attempt.listener.name.as_bytes()),
        ])
    }

    /// An answer that ends is not remembered for longer than that.
    fn remember(&self, question: Question, answer: &Remembered, now: Time) {
        let length = match answer {
            Remembered::Allow(Grant { expires_at, .. }) => {
                let longest = Duration::from_secs(self.config.cache_allow_s);
                expires_at.map_or(longest, |end| end.since(now).min(longest))
            }
            Remembered::Deny | Remembered::Ignore => Duration::from_secs(self.config.cache_deny_s),
        };
        self.answers.put(question, answer.clone(), length, Instant::now());
    }

    /// One question, before the deadline. `None`: no answer, or none that can be understood.
    async fn ask(&self, attempt: &Attempt<'_>) -> Option<Remembered> {
        let request = self.request(attempt)?;
        let client = self.client.clone();
        let asking = async {
            let _turn = self.turns.acquire().await.ok()?;
            // The connection's task belongs to the thread that made it, and that must not be a shard's.
            let exchange = AbortOnDrop(self.handle.spawn(exchange(client, request)));
            exchange.wait().await
        };
        let body = timeout(Duration::from_millis(self.config.timeout_ms), asking).await.ok()??;
        let answered: Answered = serde_json::from_slice(&body).ok()?;
        match answered.result {
            Verdict::Deny => Some(Remembered::Deny),
            Verdict::Ignore => Some(Remembered::Ignore),
            Verdict::Allow => self.grant(answered, attempt).map(Remembered::Allow),
        }
    }

    fn grant(&self, answered: Answered, attempt: &Attempt<'_>) -> Option<Grant> {
        let app = answered.app.map_or(Some(Default::default()), |app| tenant(&app))?;
        let acl = match answered.acl {
            None | Some(Value::Null) => None,
            Some(value) => Some(Arc::new(acl_of(&value, self.on_denied)?)),
        };
        let expires_at = answered.expires_in_s.map(|seconds| attempt.now + Duration::from_secs(seconds));
        let user = answered.user.map(Into::into).or_else(|| attempt.connect.username.clone());
        Some(Grant { app, user, acl, expires_at })
    }

    fn request(&self, attempt: &Attempt<'_>) -> Option<Request<Full<Bytes>>> {
        let password = attempt.connect.password.as_deref();
        let text = password.map(std::str::from_utf8);
        let asked = Asked {
            client_id: attempt.client_id.as_str(),
            user: attempt.connect.username.as_deref(),
            password: text.and_then(Result::ok),
            password_base64: password
                .filter(|_| text.is_some_and(|text| text.is_err()))
                .map(|bytes| BASE64.encode(bytes)),
            address: attempt.address.map(|address| address.to_string()),
            certificate: attempt.certificate,
            listener: &attempt.listener.name,
        };
        let mut request = Request::new(Full::from(serde_json::to_vec(&asked).ok()?));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = self.uri.clone();
        request.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        if let Some(value) = &self.authorization {
            request.headers_mut().insert(AUTHORIZATION, value.clone());
        }
        Some(request)
    }
}

impl Remembered {
    fn into_answer(self) -> Answer {
        match self {
            Self::Allow(grant) => Answer::Allow(Box::new(grant)),
            Self::Deny => Answer::Deny(ReasonCode::NOT_AUTHORIZED),
            Self::Ignore => Answer::NotMine,
        }
    }
}

/// A task that ends with whoever waits for it.
struct AbortOnDrop<T>(tokio::task::JoinHandle<Option<T>>);

impl<T> AbortOnDrop<T> {
    async fn wait(mut self) -> Option<T> {
        (&mut self.0).await.ok().flatten()
    }
}

impl<T> Drop for AbortOnDrop<T> {
    fn drop(&mut self) {
        self.0.abort();
    }
}

async fn exchange(client: HookClient, request: Request<Full<Bytes>>) -> Option<Bytes> {
    let response = client.request(request).await.ok()?;
    if response.status() != StatusCode::OK {
        return None;
    }
    Some(Limited::new(response.into_body(), ANSWER_MAX).collect().await.ok()?.to_bytes())
}

fn client(config: &HookConfig) -> Result<HookClient, HookError> {
    let mut roots = RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
    if let Some(path) = &config.ca_file {
        let wrong = |what: String| HookError::Authorities { path: path.clone(), what };
        let certificates = CertificateDer::pem_file_iter(path).map_err(|error| wrong(error.to_string()))?;
        for certificate in certificates {
            let certificate = certificate.map_err(|error| wrong(error.to_string()))?;
            roots.add(certificate).map_err(|error| wrong(error.to_string()))?;
        }
    }
    let tls = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    let mut tcp = HttpConnector::new();
    tcp.enforce_http(false);
    tcp.set_nodelay(true);
    tcp.set_connect_timeout(Some(Duration::from_millis(config.timeout_ms)));
    let connector =
        HttpsConnectorBuilder::new().with_tls_config(tls).https_or_http().enable_http1().wrap_connector(tcp);
    Ok(Client::builder(TokioExecutor::new())
        .pool_timer(TokioTimer::new())
        .pool_max_idle_per_host(IDLE_MAX)
        .build(connector))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hook_that_fails_is_left_alone_and_tried_again() {
        let mut breaker = Breaker::default();
        let now = Instant::now();
        for round in 1..=FAILURES_MAX {
            assert!(breaker.may_ask(now));
            assert_eq!(breaker.failed(now), round == FAILURES_MAX, "{round}");
        }
        assert!(!breaker.may_ask(now));
        let later = now + PAUSE;
        assert!(breaker.may_ask(later), "one finds out");
        assert!(!breaker.may_ask(later), "and the others wait for it");
        assert!(!breaker.failed(later), "nothing new");
        assert!(!breaker.may_ask(later + PAUSE / 2));
        assert!(breaker.may_ask(later + PAUSE));
        assert!(breaker.answered());
        assert!(breaker.may_ask(later) && breaker.may_ask(later));
    }
}
