//! Requests that are repeated: one with a key is done once, and whoever repeats it gets the answer of the first time.
//!
//! Where the effect is a transaction, the answer is written in the same one: there is no moment at which the effect is there
//! and the key is not. Where somebody else is asked (a vendor, the broker), the key is reserved on disk before; what surely did not
//! happen frees it, and what may have happened keeps it, so that it does not happen twice.

use std::future::Future;

use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use reveille_proto::ids::AppId;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::IntoParams;

use super::Api;
use super::problem::{Errno, Problem};
use crate::apps::sha256;
use crate::audit;
use crate::queues::{self, Check};
use crate::rules::Rules;
use crate::store::{Space, Store, StoreError, Tx, keys};

/// Longest key, in bytes.
const KEY_MAX: usize = 255;
/// No run of the program has this number: nobody is at work on what has it.
const INTERRUPTED: u64 = 0;
/// When to ask again for a request that is still under way.
const RUNNING_RETRY_S: u64 = 1;

/// The header, for the description.
#[derive(IntoParams)]
#[into_params(parameter_in = Header)]
#[expect(dead_code, reason = "describes the header that `header` reads")]
pub(super) struct IdempotencyHeader {
    /// The same key and body again get the same answer, and nothing is done twice. Kept a day unless the operator says
    /// otherwise.
    #[param(rename = "Idempotency-Key", min_length = 1, max_length = 255)]
    idempotency_key: Option<String>,
}

/// The header `Idempotency-Key`.
pub(super) fn header(headers: &HeaderMap) -> Result<Option<String>, Problem> {
    let Some(header) = headers.get("idempotency-key") else { return Ok(None) };
    let text = header.to_str().ok().filter(|text| (1..=KEY_MAX).contains(&text.len()));
    text.map(|text| Some(text.to_owned())).ok_or_else(|| Problem::new(Errno::InvalidIdempotencyKey))
}

/// What is kept of a request.
#[derive(Serialize, Deserialize)]
struct Kept {
    body_hash: Vec<u8>,
    /// `None` while it is under way.
    answer: Option<Value>,
    /// The run of the program that reserved it.
    #[serde(default)]
    run: u64,
}

/// What a request is known by when it is repeated; without a key it is known by nothing.
#[derive(Clone)]
pub(super) struct Once(Option<Known>);

#[derive(Clone)]
struct Known {
    place: Vec<u8>,
    body_hash: Vec<u8>,
    /// An answer with a secret in it is encrypted on disk.
    is_sealed: bool,
}

/// Why work outside of the store has no answer.
#[derive(Debug)]
pub(super) enum NotDone {
    /// It surely did not happen: whoever repeats the request does it.
    Surely(Problem),
    /// It may have happened: whoever repeats the request is told so.
    Perhaps(Problem),
}

/// An answer, and whether it is an earlier call's.
#[derive(Debug)]
pub(super) enum Done<T> {
    /// Done now.
    Now(T),
    /// Done by an earlier call with the same key.
    Before(T),
}

impl<T> Done<T> {
    /// Another form of the answer.
    pub fn map<U>(self, form: impl FnOnce(T) -> U) -> Done<U> {
        match self {
            Self::Now(answer) => Done::Now(form(answer)),
            Self::Before(answer) => Done::Before(form(answer)),
        }
    }

    /// The answer with its status; a repeated one says so.
    pub fn answer(self, status: StatusCode) -> Response
    where
        T: Serialize,
    {
        match self {
            Self::Now(answer) => (status, axum::Json(answer)).into_response(),
            Self::Before(answer) => (status, [replayed()], axum::Json(answer)).into_response(),
        }
    }
}

/// Says that an answer is an earlier call's.
pub(super) fn replayed() -> (HeaderName, HeaderValue) {
    (HeaderName::from_static("idempotent-replayed"), HeaderValue::from_static("true"))
}

impl Once {
    /// A send: each API key has keys of its own.
    pub fn sending(app: &AppId, key_id: &str, key: Option<&str>, body: &[u8]) -> Self {
        let known = |key| Known {
            place: keys::idempotency(app, key_id, key),
            body_hash: sha256(body).to_vec(),
            is_sealed: false,
        };
        Self(key.map(known))
    }

    /// Another request that makes something, by what it makes. Its answer may hold a secret.
    pub fn making(
        what: &str,
        app: &AppId,
        key_id: &str,
        headers: &HeaderMap,
        body: &[u8],
    ) -> Result<Self, Problem> {
        Ok(Self::making_of(what, app, key_id, header(headers)?).with_hash(sha256(body).to_vec()))
    }

    /// The same, of a body that is not known yet; see [`Once::with_hash`].
    pub fn making_of(what: &str, app: &AppId, key_id: &str, key: Option<String>) -> Self {
        let key = key.map(|key| format!("{what}\u{2}{key}")); // which no header can hold
        let known = |key: String| Known {
            place: keys::idempotency(app, key_id, &key),
            body_hash: Vec::new(),
            is_sealed: true,
        };
        Self(key.map(known))
    }

    /// Says what the body is.
    pub fn with_hash(mut self, body_hash: Vec<u8>) -> Self {
        if let Some(known) = &mut self.0 {
            known.body_hash = body_hash;
        }
        self
    }

    /// Whether a request with this key was made before, with whatever body.
    pub fn is_known(&self, tx: &Tx<'_>) -> Result<bool, StoreError> {
        self.0.as_ref().map_or(Ok(false), |known| tx.has(Space::Messages, &known.place))
    }

    /// The answer of an earlier call.
    ///
    /// # Errors
    /// The key came with another body, the first call is under way, or the store failed.
    pub fn answered<T: DeserializeOwned>(&self, tx: &Tx<'_>, run: u64) -> Result<Option<T>, Problem> {
        let Some(known) = &self.0 else { return Ok(None) };
        let kept: Option<Kept> = match known.is_sealed {
            true => tx.load_sealed(Space::Messages, &known.place)?,
            false => tx.load(Space::Messages, &known.place)?,
        };
        let Some(kept) = kept else { return Ok(None) };
        if kept.body_hash != known.body_hash {
            return Err(Problem::new(Errno::IdempotencyMismatch));
        }
        match kept.answer {
            Some(answer) => {
                let read = serde_json::from_value(answer);
                Ok(Some(read.map_err(|error| StoreError::Corrupt(error.to_string()))?))
            }
            None if kept.run == run => Err(Problem::later(Errno::RequestRunning, RUNNING_RETRY_S)),
            None => Err(Problem::new(Errno::RequestInterrupted)),
        }
    }

    /// Does the work and keeps its answer in the same transaction, unless that was done before.
    pub fn run<T: Serialize + DeserializeOwned>(
        self,
        tx: &mut Tx<'_>,
        rules: &Rules,
        work: impl FnOnce(&mut Tx<'_>) -> Result<T, Problem>,
    ) -> Result<Done<T>, Problem> {
        if let Some(answer) = self.answered(tx, 0)? {
            return Ok(Done::Before(answer));
        }
        let answer = work(tx)?;
        self.keep(tx, rules, &answer)?;
        Ok(Done::Now(answer))
    }

    /// Keeps the answer for whoever repeats the request.
    pub fn keep<T: Serialize>(self, tx: &mut Tx<'_>, rules: &Rules, answer: &T) -> Result<(), StoreError> {
        let answer = serde_json::to_value(answer).map_err(|error| StoreError::Corrupt(error.to_string()))?;
        self.write(tx, rules, Some(answer), 0).map(drop)
    }

    /// Where the check stands that forgets it, if this made one.
    fn write(
        &self,
        tx: &mut Tx<'_>,
        rules: &Rules,
        answer: Option<Value>,
        run: u64,
    ) -> Result<Option<Vec<u8>>, StoreError> {
        let Some(Known { place, body_hash, is_sealed }) = self.0.clone() else { return Ok(None) };
        let is_new = !tx.has(Space::Messages, &place)?;
        let kept = Kept { body_hash, answer, run };
        match is_sealed {
            true => tx.save_sealed(Space::Messages, place.clone(), &kept)?,
            false => tx.save(Space::Messages, place.clone(), &kept)?,
        }
        let end_ms = tx.now_ms().saturating_add(rules.idempotency_ms);
        let forget = Check::ForgetAnswer { key: place };
        is_new.then(|| queues::named_check_at(tx, end_ms, &forget)).transpose()
    }

    /// Frees the key, as if it had never been reserved: a check that stayed would forget a later answer before its time.
    fn free(self, tx: &mut Tx<'_>, check: Option<Vec<u8>>) {
        if let Some(known) = self.0 {
            tx.remove(Space::Messages, known.place);
        }
        if let Some(check) = check {
            tx.remove(Space::Queues, check);
        }
    }

    /// Reserves the key, does work that is no transaction, and keeps its answer. The work is done to its end even if
    /// nobody waits for it any more; it sets its own deadline. A failure frees the key, unless the work may have been done: so may
    /// work that broke off, and work whose answer could not be kept.
    ///
    /// The audit log hears of it with the answer: neither the reservation nor the work belongs to the request's task, whose first
    /// write tells that all is done.
    pub async fn run_outside<T>(
        self,
        shared: &Api,
        work: impl Future<Output = Result<T, NotDone>> + Send + 'static,
    ) -> Result<Done<T>, Problem>
    where
        T: Serialize + DeserializeOwned + Send + 'static,
    {
        if self.0.is_none() {
            return work.await.map(Done::Now).map_err(NotDone::problem);
        }
        let working = self.reserved(shared.store.clone(), shared.rules, shared.run, work);
        tokio::spawn(working).await.map_err(|_| Problem::new(Errno::Stopping))?
    }

    fn reserved<T>(
        self,
        store: Store,
        rules: Rules,
        run: u64,
        work: impl Future<Output = Result<T, NotDone>> + Send + 'static,
    ) -> impl Future<Output = Result<Done<T>, Problem>> + Send + 'static
    where
        T: Serialize + DeserializeOwned + Send + 'static,
    {
        let audited = audit::request::open(); // of the task that asks
        let once = self.clone();
        let reserve = move |tx: &mut Tx<'_>| match once.answered(tx, run)? {
            Some(before) => Ok::<_, Problem>(Err(before)),
            None => Ok(Ok(once.write(tx, &rules, None, run)?)),
        };
        async move {
            let check = match store.write(reserve).await? {
                Ok(check) => check,
                Err(before) => return Ok(Done::Before(before)),
            };
            let answer = tokio::spawn(work).await;
            let answer = answer.unwrap_or_else(|_| Err(NotDone::Perhaps(Problem::new(Errno::Stopping))));
            let interrupted = self.clone();
            let (is_done, is_perhaps) = (answer.is_ok(), matches!(answer, Err(NotDone::Perhaps(_))));
            let kept = answer.as_ref().ok().and_then(|answer| serde_json::to_value(answer).ok());
            let end = move |tx: &mut Tx<'_>| match (is_done, is_perhaps) {
                (true, _) => {
                    self.write(tx, &rules, kept, INTERRUPTED)?;
                    audited.map_or(Ok(()), |open| open.write(tx))
                }
                (false, true) => self.write(tx, &rules, None, INTERRUPTED).map(drop),
                (false, false) => {
                    self.free(tx, check);
                    Ok(())
                }
            };
            if let Err(error) = store.write(end).await {
                // It may be this one write that fails: nobody is at work on the key any more.
                let mark = move |tx: &mut Tx<'_>| interrupted.write(tx, &rules, None, INTERRUPTED).map(drop);
                let _ = store.write(mark).await;
                return Err(error.into());
            }
            answer.map(Done::Now).map_err(NotDone::problem)
        }
    }
}

impl NotDone {
    /// What whoever asked is told.
    pub fn problem(self) -> Problem {
        match self {
            Self::Surely(problem) | Self::Perhaps(problem) => problem,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;
    use std::sync::Arc;

    fn known(key: &str, body: &[u8], is_sealed: bool) -> Once {
        let place = keys::idempotency(&AppId::default(), "k", key);
        Once(Some(Known { place, body_hash: sha256(body).to_vec(), is_sealed }))
    }

    #[tokio::test]
    async fn work_is_done_once_and_what_failed_is_done_again() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path(), Arc::new(|| 1_000)).unwrap();
        let rules = Config::default().rules();
        for is_sealed in [false, true] {
            let once = move |body: &'static [u8]| known(&format!("order-7-{is_sealed}"), body, is_sealed);
            let run = |once: Once, answer: Result<u32, Problem>| {
                store.write(move |tx| once.run(tx, &rules, |_| answer))
            };
            let refused = run(once(b"a"), Err(Problem::new(Errno::AppExists))).await;
            assert_eq!(refused.unwrap_err().errno(), Errno::AppExists);
            assert!(matches!(run(once(b"a"), Ok(7)).await, Ok(Done::Now(7))));
            assert!(matches!(run(once(b"a"), Ok(8)).await, Ok(Done::Before(7))));
            let other = run(once(b"b"), Ok(9)).await;
            assert_eq!(other.unwrap_err().errno(), Errno::IdempotencyMismatch);
        }
        assert!(matches!(
            store.write(move |tx| Once(None).run(tx, &rules, |_| Ok(1))).await,
            Ok(Done::Now(1))
        ));
    }

    #[tokio::test]
    async fn work_that_breaks_off_may_have_been_done_and_its_key_says_so_at_once() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path(), Arc::new(|| 1_000)).unwrap();
        let rules = Config::default().rules();
        let run = |is_broken: bool| {
            let work = async move {
                assert!(!is_broken, "it breaks off");
                Ok(7)
            };
            known("k", b"a", true).reserved::<u32>(store.clone(), rules, 5, work)
        };
        assert_eq!(run(true).await.unwrap_err().errno(), Errno::Stopping);
        assert_eq!(run(false).await.unwrap_err().errno(), Errno::RequestInterrupted);
    }

    #[tokio::test]
    async fn a_reservation_says_running_to_its_own_run_and_interrupted_to_a_later_one() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path(), Arc::new(|| 1_000)).unwrap();
        let rules = Config::default().rules();
        let once = known("k", b"a", true);
        let reserve = once.clone();
        store.write(move |tx| reserve.write(tx, &rules, None, 5)).await.unwrap();
        for (run, errno) in [(5, Errno::RequestRunning), (6, Errno::RequestInterrupted)] {
            let once = once.clone();
            let found = store.read(move |tx| once.answered::<u32>(tx, run)).await;
            assert_eq!(found.unwrap_err().errno(), errno);
        }
    }
}
