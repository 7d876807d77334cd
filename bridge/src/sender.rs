//! The only part that talks to vendors: connections, deadlines, logins, one repeat where a vendor asks for it.

mod apns_connection;
mod apns_pool;
mod ask;
mod deposits;
mod https;
mod reach;
mod recorder;
pub(crate) mod tasks;
mod tls;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use http::Request;
use reveille_proto::ids::AppId;
use tokio::time::Instant;

use crate::login::Logins;
use crate::vendor::apns::ApnsCredential;
use crate::vendor::shorten::Shortened;
use crate::vendor::{
    Answer, CannotSend, Credential, Login, LoginStep, Push, Scope, Vendor, VendorName, Verdict, reason,
};

use apns_pool::ApnsPools;
use deposits::Deposits;
use https::HttpsClients;
pub(crate) use reach::Reach;
use recorder::Recorder;
pub use recorder::{RECORDED_MAX, RecordedPush};
use tasks::Tasks;

/// Longest answer that is read from a vendor, in bytes; the rest is cut off.
pub const ANSWER_MAX: usize = 64 * 1024;

/// Tells the time, in milliseconds since 1970. Logins are dated with it.
pub type Clock = Arc<dyn Fn() -> u64 + Send + Sync>;

/// The sender's deadlines.
#[derive(Clone)]
pub struct SenderOptions {
    /// Name lookup, connect, TLS and the start of HTTP/2 together.
    pub connect_deadline: Duration,
    /// One request and its answer, with the wait for a connection or a stream. FCM wants at least 10 s.
    pub answer_deadline: Duration,
    /// An idle connection to APNs is asked with a PING after this time. Apple allows it after about an hour.
    pub ping_after: Duration,
    /// How long the answer to a PING may take.
    pub ping_timeout: Duration,
    /// What time it is.
    pub clock: Clock,
}

impl Default for SenderOptions {
    fn default() -> Self {
        Self {
            connect_deadline: Duration::from_secs(10),
            answer_deadline: Duration::from_secs(20),
            ping_after: Duration::from_secs(60 * 60),
            ping_timeout: Duration::from_secs(10),
            clock: Arc::new(now_ms),
        }
    }
}

impl fmt::Debug for SenderOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SenderOptions")
            .field("connect_deadline", &self.connect_deadline)
            .field("answer_deadline", &self.answer_deadline)
            .finish_non_exhaustive()
    }
}

fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// Whose credential a push goes out with; for logs.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct CredentialKey {
    /// The tenant.
    pub app: AppId,
    /// The push service.
    pub vendor: VendorName,
}

impl fmt::Display for CredentialKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.app, self.vendor)
    }
}

/// What became of one push.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sent {
    /// Our reading of the vendor's answer.
    pub verdict: Verdict,
    /// `false` when the request may have been processed although no answer came: repeating it can double the
    /// push, which the device then drops by `mid`, and the vendor replaces by collapse id or tag.
    pub outcome_known: bool,
    /// Whether the vendor said anything: `false` also for a push that was refused here, before any call.
    pub was_answered: bool,
    /// From the call to the verdict.
    pub took: Duration,
    /// What was left out to fit the vendor's size bound.
    pub shortened: Option<Shortened>,
}

impl Sent {
    /// What is known without any call.
    fn without_call(verdict: Verdict) -> Self {
        Self { verdict, outcome_known: true, was_answered: false, took: Duration::ZERO, shortened: None }
    }

    /// What a vendor answered, at once.
    #[cfg(test)]
    pub(crate) fn answered(verdict: Verdict) -> Self {
        Self { was_answered: true, ..Self::without_call(verdict) }
    }
}

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Lost {
    /// The vendor surely did not process the request.
    NotSent(String),
    /// The vendor may have processed the request.
    Unknown(String),
}

/// Sends pushes. Share one for the whole process; it is cheap to clone behind an `Arc`.
pub struct Sender {
    options: SenderOptions,
    logins: Logins,
    apns: ApnsPools,
    https: Arc<HttpsClients>,
    recorder: Recorder,
    deposits: Deposits,
    tasks: Tasks,
    is_closed: AtomicBool,
}

/// A sender that is dropped without [`Sender::close`] leaves no task behind either.
impl Drop for Sender {
    fn drop(&mut self) {
        self.tasks.abort();
    }
}

impl fmt::Debug for Sender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sender").field("options", &self.options).finish_non_exhaustive()
    }
}

/// One try: the verdicts, one for each device token or one for all, whether the outcome is known, and what was left out.
struct Tried {
    verdicts: Verdicts,
    outcome_known: bool,
    was_answered: bool,
    shortened: Option<Shortened>,
}

impl Tried {
    /// Without a call.
    fn known(verdict: Verdict) -> Self {
        Self { verdicts: Verdicts::Same(verdict), outcome_known: true, was_answered: false, shortened: None }
    }

    /// What the vendor said of all.
    fn answered(verdict: Verdict) -> Self {
        Self { was_answered: true, ..Self::known(verdict) }
    }

    /// What the vendor said of each.
    fn answered_each(verdicts: Vec<Verdict>) -> Self {
        let nothing = Self::known(Verdict::Accepted { vendor_id: None });
        Self { was_answered: true, verdicts: Verdicts::Each(verdicts), ..nothing }
    }
}

/// What each push of a batch is told.
enum Verdicts {
    Same(Verdict),
    Each(Vec<Verdict>),
}

impl Verdicts {
    /// The word about the whole request; `None` when each push has its own.
    fn whole(&self) -> Option<&Verdict> {
        match self {
            Self::Same(verdict) => Some(verdict),
            Self::Each(verdicts) => {
                let first = verdicts.first()?;
                verdicts.iter().all(|verdict| verdict == first).then_some(first)
            }
        }
    }

    fn has_accepted(&self) -> bool {
        let is_accepted = |verdict: &Verdict| matches!(verdict, Verdict::Accepted { .. });
        match self {
            Self::Same(verdict) => is_accepted(verdict),
            Self::Each(verdicts) => verdicts.iter().any(is_accepted),
        }
    }
}

impl Sender {
    /// A sender without any connection yet.
    pub fn new(options: SenderOptions) -> Self {
        let tasks = Tasks::default();
        Self {
            logins: Logins::default(),
            apns: ApnsPools::default(),
            https: Arc::new(HttpsClients::new(options.connect_deadline, tasks.clone())),
            recorder: Recorder::default(),
            deposits: Deposits::default(),
            options,
            tasks,
            is_closed: AtomicBool::new(false),
        }
    }

    /// Hands one push to its vendor. Repeats it once after a refused login, with a new one, and once after a
    /// refused connection, over a new one; every other repeat is the caller's.
    pub async fn send(&self, key: &CredentialKey, credential: &Arc<Credential>, push: &Push) -> Sent {
        let closed = Verdict::Retry { after: None, reason: "nothing was sent".to_owned() };
        let nothing = || Sent::without_call(closed);
        self.send_batch(key, credential, push).await.into_iter().next().unwrap_or_else(nothing)
    }

    /// The same for a batch: what became of it for each device token, in their order.
    pub async fn send_batch(
        &self,
        key: &CredentialKey,
        credential: &Arc<Credential>,
        push: &Push,
    ) -> Vec<Sent> {
        let started = Instant::now();
        let vendor = credential.vendor();
        let checks: Vec<_> = push.tokens().map(|token| vendor.check_token(token).err()).collect();
        let good: Vec<_> =
            push.tokens().zip(&checks).filter(|(_, bad)| bad.is_none()).map(|(token, _)| token).collect();
        let tried = match good.split_first() {
            Some(_) if good.len() == push.token_count() => self.try_open(credential, push).await,
            Some((first, others)) => {
                let others = others.iter().copied().cloned().collect();
                let push = Push { token: (*first).clone(), others, ..push.clone() };
                self.try_open(credential, &push).await
            }
            None => Tried::answered_each(Vec::new()),
        };
        let took = started.elapsed();
        let mut verdicts = match tried.verdicts {
            Verdicts::Same(verdict) => vec![verdict; good.len()],
            Verdicts::Each(verdicts) => verdicts,
        }
        .into_iter();
        let one = |bad: Option<CannotSend>| match bad {
            Some(error) => Sent { took, ..Sent::without_call(unsendable(&error)) },
            None => Sent {
                verdict: verdicts.next().unwrap_or_else(unsaid),
                outcome_known: tried.outcome_known,
                was_answered: tried.was_answered,
                took,
                shortened: tried.shortened,
            },
        };
        let sent: Vec<Sent> = checks.into_iter().map(one).collect();
        for sent in sent.iter().take(1) {
            let (verdict, reason) = (sent.verdict.name(), sent.verdict.reason());
            tracing::debug!(credential = %key, message = %push.id, devices = push.token_count(), verdict, reason, ?took, "push");
        }
        sent
    }

    /// Sends a request that is no push, and reads its answer. Nothing is repeated, no redirect is followed.
    ///
    /// # Errors
    /// Why there is no answer.
    pub(crate) async fn post(
        &self,
        request: Request<Bytes>,
        ca_pem: Option<&str>,
        reach: Reach,
        deadline: Instant,
    ) -> Result<Answer, String> {
        if self.is_closed.load(Ordering::SeqCst) {
            return Err("the sender was closed".to_owned());
        }
        // An address in the place of a name is not resolved, so it is looked at here.
        if !request.uri().host().is_some_and(|host| reach.allows_host(host)) {
            return Err("the host is no public address".to_owned());
        }
        let client = self.https.client(ca_pem, reach)?;
        let answer = https::exchange(&client, request, deadline).await;
        answer.map_err(|(Lost::NotSent(why) | Lost::Unknown(why))| why)
    }

    /// What the record vendor got for this app, oldest first; at most [`RECORDED_MAX`].
    pub fn recorded(&self, app: &AppId) -> Vec<RecordedPush> {
        self.recorder.recorded(app)
    }

    /// Waits until the record vendor got so many pushes for this app, and returns them. Callers set the deadline.
    pub async fn wait_recorded(&self, app: &AppId, count: usize) -> Vec<RecordedPush> {
        self.recorder.wait_for(app, count).await
    }

    /// Forgets the login and the connections of a credential that was replaced or revoked. Other apps with the
    /// same key get new ones.
    pub fn forget(&self, credential: &Credential) {
        self.logins.forget(credential);
        if let Credential::Apns(apns) = credential {
            self.apns.forget(apns);
        }
    }

    /// Forgets what the record vendor got for an app.
    pub fn forget_recorded(&self, app: &AppId) {
        self.recorder.forget(app);
    }

    /// Takes no more pushes and ends every connection. Pushes under way end as `Retry` with an unknown outcome,
    /// so wait for them first.
    pub async fn close(&self) {
        self.is_closed.store(true, Ordering::SeqCst);
        self.apns.clear();
        self.https.clear();
        self.tasks.end().await;
    }

    async fn try_open(&self, credential: &Arc<Credential>, push: &Push) -> Tried {
        if self.is_closed.load(Ordering::SeqCst) {
            return Tried::known(Verdict::Retry { after: None, reason: "the sender was closed".to_owned() });
        }
        self.try_with_login(credential, push).await
    }

    async fn try_with_login(&self, credential: &Arc<Credential>, push: &Push) -> Tried {
        let now_ms = (self.options.clock)();
        let login = self.logins.current(credential, &self.tasks, now_ms, || self.ask_login(credential));
        let login = match login.await {
            Ok(login) => login,
            Err(verdict) => return Tried::known(verdict),
        };
        let first = self.try_once(credential, push, login.as_ref()).await;
        match (first.verdicts.whole(), login) {
            (Some(Verdict::LoginExpired), Some(refused)) => {
                self.try_with_new_login(credential, push, &refused, first).await
            }
            (Some(Verdict::NewConnection { .. }), login) => {
                self.try_once(credential, push, login.as_ref()).await
            }
            _ => first,
        }
    }

    async fn try_with_new_login(
        &self,
        credential: &Arc<Credential>,
        push: &Push,
        refused: &Login,
        first: Tried,
    ) -> Tried {
        let now_ms = (self.options.clock)();
        let ask = || self.ask_login(credential);
        match self.logins.after_refusal(credential, refused, &self.tasks, now_ms, ask).await {
            Ok(Some(login)) => self.try_once(credential, push, Some(&login)).await,
            Ok(None) => first,
            Err(verdict) => Tried::known(verdict),
        }
    }

    async fn try_once(&self, credential: &Credential, push: &Push, login: Option<&Login>) -> Tried {
        let now_ms = (self.options.clock)();
        let token = login.map(|login| login.token.reveal());
        if push.is_recall {
            return match credential.vendor().recall(push, token, now_ms) {
                Ok(request) => self.exchange(credential, push, request).await,
                Err(error) => Tried::known(unsendable(&error)),
            };
        }
        let deposited;
        let push = match self.deposit(credential, push, token, now_ms).await {
            Ok(None) => push,
            Ok(deposit) => {
                deposited = Push { deposited_as: deposit, ..push.clone() };
                &deposited
            }
            Err(tried) => return tried,
        };
        let request = match credential.vendor().request(push, token, now_ms) {
            Ok(request) => request,
            Err(error) => return Tried::known(unsendable(&error)),
        };
        let shortened = request.extensions().get::<Shortened>().copied();
        let tried = self.exchange(credential, push, request).await;
        if push.deposited_as.is_some() && !tried.verdicts.has_accepted() {
            self.deposits.forget(credential, push.id); // it may be what is wrong
        }
        Tried { shortened, ..tried }
    }

    /// Hands the message in where the vendor wants that first; its name there.
    async fn deposit(
        &self,
        credential: &Credential,
        push: &Push,
        login: Option<&str>,
        now_ms: u64,
    ) -> Result<Option<String>, Tried> {
        let vendor = credential.vendor();
        let request = match vendor.deposit(push, login, now_ms) {
            Ok(Some(request)) => request,
            Ok(None) => return Ok(None),
            Err(error) => return Err(Tried::known(unsendable(&error))),
        };
        if let Some(name) = self.deposits.current(credential, push.id, now_ms) {
            return Ok(Some(name));
        }
        let client = self
            .https
            .client(vendor.ca_pem(), Reach::Anywhere)
            .map_err(|problem| Tried::known(config_error(problem)))?;
        let deadline = Instant::now() + self.options.answer_deadline;
        // A message that is handed in shows nothing, so its loss is no unknown outcome.
        let answer = https::exchange(&client, request, deadline).await;
        let answer = answer.map_err(|(Lost::NotSent(why) | Lost::Unknown(why))| {
            Tried::known(Verdict::Retry { after: None, reason: reason(&why) })
        })?;
        let name = vendor.read_deposit(&answer, now_ms).map_err(Tried::answered)?;
        self.deposits.keep(credential, push.id, &name, now_ms);
        Ok(Some(name))
    }

    async fn exchange(&self, credential: &Credential, push: &Push, request: Request<Bytes>) -> Tried {
        let deadline = Instant::now() + self.options.answer_deadline;
        let now_ms = (self.options.clock)();
        let answer = match credential {
            Credential::Apns(apns) => return self.exchange_apns(apns, request, deadline).await,
            Credential::Record(record) => {
                let recorded = self.recorder.exchange(record, push, request.body(), now_ms).await;
                recorded.map_err(|error| Lost::NotSent(format!("cannot write the record: {error}")))
            }
            other => match self.https.client(other.vendor().ca_pem(), Reach::Anywhere) {
                Ok(client) => https::exchange(&client, request, deadline).await,
                Err(problem) => return Tried::known(config_error(problem)),
            },
        };
        match answer {
            Ok(answer) => {
                let (vendor, now_ms) = (credential.vendor(), (self.options.clock)());
                match push.is_recall {
                    true => Tried::answered(vendor.recall_verdict(&answer, now_ms)),
                    false => Tried::answered_each(vendor.verdicts(push, &answer, now_ms)),
                }
            }
            Err(lost) => lost.into(),
        }
    }

    async fn exchange_apns(
        &self,
        apns: &ApnsCredential,
        request: Request<Bytes>,
        deadline: Instant,
    ) -> Tried {
        let pool = match self.apns.pool(apns, apns.base(), &self.options) {
            Ok(pool) => pool,
            Err(problem) => return Tried::known(config_error(problem)),
        };
        if let Some(rest) = pool.rest() {
            let reason = "APNs counted too many provider token updates".to_owned();
            return Tried::known(Verdict::Throttled { scope: Scope::Connection, after: Some(rest), reason });
        }
        let exchanged = match pool.exchange(&self.tasks, request, deadline).await {
            Ok(exchanged) => exchanged,
            Err(lost) => return lost.into(),
        };
        let verdict = apns.verdict(&exchanged.answer, (self.options.clock)());
        match &verdict {
            Verdict::Accepted { .. } => pool.clear_strikes(),
            Verdict::NewConnection { .. } => exchanged.connection.retire(),
            Verdict::Throttled { scope: Scope::Connection, .. } => {
                exchanged.connection.retire();
                pool.strike();
            }
            _ => {}
        }
        Tried::answered(verdict)
    }

    /// The work of getting one login; runs in a task of its own.
    fn ask_login(
        &self,
        credential: &Arc<Credential>,
    ) -> impl Future<Output = Result<Login, Verdict>> + Send + 'static {
        let (credential, https, options) =
            (Arc::clone(credential), Arc::clone(&self.https), self.options.clone());
        async move {
            let vendor = credential.vendor();
            let request = match vendor.login((options.clock)()) {
                Ok(LoginStep::Made(login)) => return Ok(login),
                Ok(LoginStep::Ask(request)) => request,
                Ok(LoginStep::None) => return Err(config_error("this vendor has no login")),
                Err(error) => return Err(unsendable(&error)),
            };
            let answer = ask(&https, &credential, *request, &options).await?;
            credential.vendor().read_login(&answer, (options.clock)())
        }
    }
}

async fn ask(
    https: &HttpsClients,
    credential: &Credential,
    request: Request<Bytes>,
    options: &SenderOptions,
) -> Result<Answer, Verdict> {
    let client = https.client(credential.vendor().ca_pem(), Reach::Anywhere).map_err(config_error)?;
    let answer = https::exchange(&client, request, Instant::now() + options.answer_deadline).await;
    answer.map_err(|(Lost::NotSent(why) | Lost::Unknown(why))| Verdict::Retry {
        after: None,
        reason: reason(&format!("login: {why}")),
    })
}

impl From<Lost> for Tried {
    fn from(lost: Lost) -> Self {
        let (outcome_known, why) = match lost {
            Lost::NotSent(why) => (true, why),
            Lost::Unknown(why) => (false, why),
        };
        let verdict = Verdict::Retry { after: None, reason: reason(&why) };
        Self { outcome_known, ..Self::known(verdict) }
    }
}

/// A verdict that a vendor's file does not give is no success.
fn unsaid() -> Verdict {
    Verdict::Retry { after: None, reason: "the answer says nothing of it".to_owned() }
}

fn unsendable(error: &CannotSend) -> Verdict {
    let reason = reason(&error.to_string());
    match error {
        CannotSend::Payload(_) => Verdict::PayloadRejected { reason },
        CannotSend::Token(_) => Verdict::TokenMismatch { reason },
        CannotSend::Config(_) => Verdict::ConfigError { reason },
    }
}

fn config_error(problem: &str) -> Verdict {
    Verdict::ConfigError { reason: reason(problem) }
}
