//! Apps (tenants) and the API keys that open them.
//!
//! A key is `<id>.<secret>`; the secret has 256 random bits and is shown once. What is kept is its argon2id hash.
//! Verifying costs some ten milliseconds by intention, so a key that was verified once is remembered by its
//! SHA-256 until the process ends.

mod people;

use std::collections::{BTreeSet, HashMap};
use std::fmt::Write as _;
use std::sync::Mutex;

use argon2::Argon2;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64;
use reveille_proto::ids::AppId;
use ring::digest::{SHA256, digest};
use serde::{Deserialize, Serialize};
use tokio::sync::{Semaphore, watch};
use utoipa::ToSchema;

use crate::credentials;
use crate::sender::tasks::lock;
use crate::store::{Order, Space, Store, StoreError, Tx, decode, keys};

pub(crate) use people::{
    HashedPassword, KeyView, PersonName, RemoveKeyError, all_keys, keep_person, remove_key, remove_keys_of,
};

/// Apps in one bridge at most.
pub const APPS_MAX: usize = 1000;
/// Verified keys that are remembered; beyond it all are forgotten and verified anew.
const VERIFIED_MAX: usize = 10_000;
/// Verifications at once, so that a flood of wrong keys cannot take every core.
const VERIFYING_MAX: usize = 2;
/// Wrong secrets for one key id within [`FAILURES_WINDOW_MS`] before it is refused unseen.
pub(crate) const FAILURES_MAX: u32 = 10;
const FAILURES_WINDOW_MS: u64 = 60_000;
/// Key ids with failures that are watched; beyond it the count starts anew.
const FAILING_MAX: usize = 10_000;

/// A tenant.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct App {
    /// Its id in URLs.
    pub id: String,
    /// A name for people.
    #[serde(default)]
    pub name: String,
    /// When it was made, in milliseconds since 1970.
    pub created_at_ms: u64,
    /// The operation that removes it: from then on nobody finds it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub removal: Option<String>,
}

impl App {
    /// An app without anything.
    pub(crate) fn new(id: &AppId, name: String, now_ms: u64) -> Self {
        Self { id: id.as_str().to_owned(), name, created_at_ms: now_ms, removal: None }
    }
}

/// What a key may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Access {
    /// Send and withdraw messages, register devices.
    Send,
    /// See messages, deliveries, devices.
    Read,
    /// All of the app: keys and credentials too.
    Admin,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct KeyRecord {
    /// `None` for the operator's key, which opens every app.
    app: Option<String>,
    scopes: BTreeSet<Access>,
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    tags: BTreeSet<String>,
    #[serde(default)]
    name: String,
    salt: String,
    hash: String,
    created_at_ms: u64,
}

impl KeyRecord {
    fn caller(&self, id: &str) -> Caller {
        let app = self.app.as_deref().map(AppId::parse);
        // A key of an app whose name cannot be read must not become one of every app.
        let scopes = if matches!(app, Some(Err(_))) { BTreeSet::new() } else { self.scopes.clone() };
        Caller { key_id: id.to_owned(), app: app.and_then(Result::ok), scopes, tags: self.tags.clone() }
    }
}

/// Whoever holds a verified key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    /// The public half of the key.
    pub key_id: String,
    /// `None`: every app.
    app: Option<AppId>,
    scopes: BTreeSet<Access>,
    tags: BTreeSet<String>,
}

impl Caller {
    /// The tags that the key is limited to: it concerns only devices with one of them. Empty: every device.
    pub fn tags(&self) -> &BTreeSet<String> {
        &self.tags
    }

    /// Whether the key opens this app for this.
    pub fn may(&self, app: &AppId, access: Access) -> bool {
        let is_own = self.app.as_ref().is_none_or(|own| own == app);
        is_own && (self.scopes.contains(&access) || self.scopes.contains(&Access::Admin))
    }

    /// The app that the key is of; `None` for the operator's, which opens all.
    pub fn app(&self) -> Option<AppId> {
        self.app.clone()
    }

    /// Whether the key opens this app for anything.
    pub fn opens(&self, app: &AppId) -> bool {
        [Access::Send, Access::Read, Access::Admin].into_iter().any(|access| self.may(app, access))
    }

    /// Whether the key was made for this, in its app or in all.
    pub fn has(&self, access: Access) -> bool {
        self.scopes.contains(&access) || self.scopes.contains(&Access::Admin)
    }

    /// A caller that nobody verified.
    #[cfg(test)]
    pub(crate) fn for_tests(key_id: &str) -> Self {
        let scopes = BTreeSet::from([Access::Admin]);
        Self { key_id: key_id.to_owned(), app: None, scopes, tags: BTreeSet::new() }
    }

    /// Whether it is the operator's key.
    pub fn is_operator(&self) -> bool {
        self.app.is_none() && self.scopes.contains(&Access::Admin)
    }
}

/// Why a key opens nothing.
#[derive(Clone, Debug, thiserror::Error)]
pub enum KeyRefused {
    /// No such key, or the secret is wrong.
    #[error("the key is unknown or wrong")]
    Wrong,
    /// Too many wrong secrets for this key id.
    #[error("too many wrong keys")]
    TooMany,
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// A key that was just made. The only moment at which its text exists.
pub(crate) struct NewKey {
    /// The public half.
    pub id: String,
    /// The whole key, for its owner.
    pub text: String,
    record: KeyRecord,
}

impl NewKey {
    /// Makes a key. Takes some ten milliseconds: call it off the async threads.
    pub fn make(app: Option<&AppId>, scopes: BTreeSet<Access>, name: &str, now_ms: u64) -> Self {
        let id = hex(&rand::random::<[u8; 8]>());
        let secret = BASE64.encode(rand::random::<[u8; 32]>());
        Self::with(id, &secret, app, scopes, name, now_ms)
    }

    /// Takes over one that somebody has already. As slow.
    pub fn adopt(
        app: &AppId,
        id: &str,
        secret: &str,
        scopes: BTreeSet<Access>,
        name: &str,
        now_ms: u64,
    ) -> Self {
        Self::with(id.to_owned(), secret, Some(app), scopes, name, now_ms)
    }

    fn with(
        id: String,
        secret: &str,
        app: Option<&AppId>,
        scopes: BTreeSet<Access>,
        name: &str,
        now_ms: u64,
    ) -> Self {
        let salt = rand::random::<[u8; 16]>();
        let record = KeyRecord {
            app: app.map(|app| app.as_str().to_owned()),
            scopes,
            tags: BTreeSet::new(),
            name: name.to_owned(),
            salt: BASE64.encode(salt),
            hash: BASE64.encode(hash(secret, &salt)),
            created_at_ms: now_ms,
        };
        Self { text: format!("{id}.{secret}"), id, record }
    }

    /// Whether there is one of this id.
    pub fn is_known(&self, tx: &Tx<'_>) -> Result<bool, StoreError> {
        tx.has(Space::Apps, &keys::api_key(&self.id))
    }

    /// Limits it to devices with one of these tags; with none it is for all.
    pub fn limited_to(mut self, tags: BTreeSet<String>) -> Self {
        self.record.tags = tags;
        self
    }

    /// Writes the key's hash.
    pub fn keep(&self, tx: &mut Tx<'_>) -> Result<(), StoreError> {
        tx.save(Space::Apps, keys::api_key(&self.id), &self.record)
    }
}

/// Whether a text can be the public half of a key: of ours, or of one that was taken over. No person's record has such an id.
pub(crate) fn is_key_id(id: &str) -> bool {
    (1..=64).contains(&id.len()) && id.bytes().all(|byte| byte.is_ascii_alphanumeric())
}

/// Bytes as text.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}"); // writing to a String cannot fail
        text
    })
}

/// argon2id with the parameters that RFC 9106 gives for little memory: 19 MiB, 2 passes. The zeros of a failed
/// hash equal no other hash, because [`matches`] refuses them.
fn hash(secret: &str, salt: &[u8]) -> [u8; 32] {
    let mut out = [0; 32];
    if Argon2::default().hash_password_into(secret.as_bytes(), salt, &mut out).is_err() {
        return [0; 32];
    }
    out
}

fn matches(record: &KeyRecord, secret: &str) -> bool {
    let (Ok(salt), Ok(wanted)) = (BASE64.decode(&record.salt), BASE64.decode(&record.hash)) else {
        return false;
    };
    let given = hash(secret, &salt);
    let difference = given.iter().zip(&wanted).fold(0, |all, (a, b)| all | (a ^ b)); // constant time
    wanted.len() == given.len() && difference == 0 && given != [0; 32]
}

/// The door: verifies keys and remembers those that are right.
pub(crate) struct Keys {
    store: Store,
    /// Keys that were proven, by fingerprint.
    verified: Mutex<HashMap<[u8; 32], Caller>>,
    /// How often keys were forgotten: who was loaded before is not remembered after.
    forgotten: watch::Sender<u64>,
    failures: Mutex<HashMap<String, (u64, u32)>>,
    verifying: Semaphore,
}

impl Keys {
    pub fn new(store: Store) -> Self {
        Self {
            store,
            verified: Mutex::default(),
            forgotten: watch::Sender::default(),
            failures: Mutex::default(),
            verifying: Semaphore::new(VERIFYING_MAX),
        }
    }

    /// Who holds this key.
    ///
    /// # Errors
    /// [`KeyRefused`] without saying which half is wrong.
    pub async fn verify(&self, text: &str) -> Result<Caller, KeyRefused> {
        let fingerprint = sha256(text.as_bytes());
        if let Some(caller) = lock(&self.verified).get(&fingerprint) {
            return Ok(caller.clone());
        }
        let forgotten = *self.forgotten.borrow();
        let (id, secret) = text.split_once('.').ok_or(KeyRefused::Wrong)?;
        if !is_key_id(id) || secret.len() > 64 {
            return Err(KeyRefused::Wrong);
        }
        let record = self.load(id).await?.ok_or(KeyRefused::Wrong)?;
        let caller = self.prove(id, record, secret).await?;
        self.remember(fingerprint, caller.clone(), forgotten);
        Ok(caller)
    }

    /// Whoever knows the secret of this record.
    async fn prove(&self, id: &str, record: KeyRecord, secret: &str) -> Result<Caller, KeyRefused> {
        self.refuse_flood(id)?;
        let Ok(_permit) = self.verifying.acquire().await else { return Err(StoreError::Closed.into()) };
        let caller = record.caller(id);
        let secret = secret.to_owned();
        let is_right = tokio::task::spawn_blocking(move || matches(&record, &secret)).await.unwrap_or(false);
        if !is_right {
            self.note_failure(id);
            return Err(KeyRefused::Wrong);
        }
        Ok(caller)
    }

    async fn load(&self, id: &str) -> Result<Option<KeyRecord>, StoreError> {
        let key = keys::api_key(id);
        self.store.read(move |tx| tx.load(Space::Apps, &key)).await
    }

    fn refuse_flood(&self, id: &str) -> Result<(), KeyRefused> {
        let now_ms = self.store.now_ms();
        match lock(&self.failures).get(id) {
            Some((since_ms, count))
                if *count >= FAILURES_MAX && now_ms.saturating_sub(*since_ms) < FAILURES_WINDOW_MS =>
            {
                Err(KeyRefused::TooMany)
            }
            Some(_) | None => Ok(()),
        }
    }

    fn note_failure(&self, id: &str) {
        let now_ms = self.store.now_ms();
        let mut failures = lock(&self.failures);
        if failures.len() >= FAILING_MAX {
            failures.clear();
        }
        let (since_ms, count) = failures.entry(id.to_owned()).or_insert((now_ms, 0));
        if now_ms.saturating_sub(*since_ms) >= FAILURES_WINDOW_MS {
            (*since_ms, *count) = (now_ms, 0);
        }
        *count += 1;
    }

    /// Unless a key was removed since: it may have been this one.
    fn remember(&self, fingerprint: [u8; 32], caller: Caller, forgotten: u64) {
        let mut verified = lock(&self.verified);
        if *self.forgotten.borrow() != forgotten {
            return;
        }
        if verified.len() >= VERIFIED_MAX {
            verified.clear();
        }
        verified.insert(fingerprint, caller);
    }
}

/// SHA-256 as an array.
pub(crate) fn sha256(bytes: &[u8]) -> [u8; 32] {
    let mut out = [0; 32];
    for (to, from) in out.iter_mut().zip(digest(&SHA256, bytes).as_ref()) {
        *to = *from;
    }
    out
}

/// Makes the app `default` and, on the very first start, the operator's key, whose text is returned.
///
/// # Errors
/// [`StoreError`] when the store fails.
pub(crate) async fn prepare(store: &Store) -> Result<Option<String>, StoreError> {
    let sealed = credentials::seal_all(store).await?;
    if sealed > 0 {
        tracing::info!(sealed, "credentials are encrypted now");
    }
    let is_first = store.read(|tx| Ok::<_, StoreError>(!tx.has(Space::Apps, &keys::first_admin())?)).await?;
    if !is_first {
        return Ok(None);
    }
    let now_ms = store.now_ms();
    let make = move || NewKey::make(None, BTreeSet::from([Access::Admin]), "first key", now_ms);
    let key = tokio::task::spawn_blocking(make).await.map_err(|_| StoreError::Closed)?;
    store
        .write(move |tx| {
            let app = App::new(&AppId::default(), String::new(), tx.now_ms());
            tx.save(Space::Apps, keys::app(&AppId::default()), &app)?;
            key.keep(tx)?;
            tx.put(Space::Apps, keys::first_admin(), Vec::new());
            Ok(Some(key.text))
        })
        .await
}

/// An app by its id.
pub(crate) fn load(tx: &Tx<'_>, app: &AppId) -> Result<Option<App>, StoreError> {
    Ok(record(tx, app)?.filter(|app| app.removal.is_none()))
}

/// The same, also while it is being removed.
pub(crate) fn record(tx: &Tx<'_>, app: &AppId) -> Result<Option<App>, StoreError> {
    tx.load(Space::Apps, &keys::app(app))
}

/// Every app, by id.
pub(crate) fn list(tx: &Tx<'_>) -> Result<Vec<App>, StoreError> {
    Ok(records(tx)?.into_iter().filter(|app| app.removal.is_none()).collect())
}

/// The same, with those that are being removed.
pub(crate) fn records(tx: &Tx<'_>) -> Result<Vec<App>, StoreError> {
    let found = tx.records(Space::Apps, &keys::apps(), None, Order::Forward, APPS_MAX)?;
    Ok(found.into_iter().map(|(_, app)| app).collect())
}

/// Whether another app fits.
pub(crate) fn has_room(tx: &Tx<'_>) -> Result<bool, StoreError> {
    Ok(records(tx)?.len() < APPS_MAX)
}

/// Writes an app.
pub(crate) fn save(tx: &mut Tx<'_>, id: &AppId, app: &App) -> Result<(), StoreError> {
    tx.save(Space::Apps, keys::app(id), app)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    fn store(dir: &tempfile::TempDir) -> Store {
        Store::open(dir.path(), Arc::new(|| 1_000)).unwrap()
    }

    #[tokio::test]
    async fn the_first_key_is_made_once_and_opens_every_app() {
        let dir = tempfile::tempdir().unwrap();
        let store = store(&dir);
        let key = prepare(&store).await.unwrap().unwrap();
        assert_eq!(prepare(&store).await.unwrap(), None);
        let keys = Keys::new(store.clone());
        let caller = keys.verify(&key).await.unwrap();
        assert!(caller.is_operator() && caller.may(&AppId::parse("any").unwrap(), Access::Send));
        assert_eq!(keys.verify(&key).await.unwrap(), caller);
        let kept = store.read(|tx| tx.scan(Space::Apps, b"k", None, Order::Forward, 10)).await.unwrap();
        let secret = key.split_once('.').unwrap().1;
        assert!(
            kept.iter().all(|(_, value)| !String::from_utf8_lossy(value).contains(secret)),
            "kept in the clear"
        );
    }

    #[tokio::test]
    async fn a_key_opens_its_own_app_and_only_what_it_was_made_for() {
        let dir = tempfile::tempdir().unwrap();
        let store = store(&dir);
        let (shop, other) = (AppId::parse("shop").unwrap(), AppId::parse("other").unwrap());
        let key = NewKey::make(Some(&shop), BTreeSet::from([Access::Read]), "", 0);
        let text = key.text.clone();
        store.write(move |tx| key.keep(tx)).await.unwrap();
        let caller = Keys::new(store).verify(&text).await.unwrap();
        for (app, access, wanted) in [
            (&shop, Access::Read, true),
            (&shop, Access::Send, false),
            (&shop, Access::Admin, false),
            (&other, Access::Read, false),
        ] {
            assert_eq!(caller.may(app, access), wanted, "{app} {access:?}");
        }
        assert!(!caller.is_operator());
    }

    #[tokio::test]
    async fn a_wrong_secret_is_refused_and_soon_unseen_while_the_right_one_that_is_known_still_opens() {
        let dir = tempfile::tempdir().unwrap();
        let store = store(&dir);
        let key = prepare(&store).await.unwrap().unwrap();
        let keys = Keys::new(store);
        keys.verify(&key).await.unwrap();
        let id = key.split_once('.').unwrap().0;
        for bad in ["", "x", ".", "0123456789abcdef.x", &format!("{id}x.y")] {
            assert!(matches!(keys.verify(bad).await, Err(KeyRefused::Wrong)), "{bad}");
        }
        for _ in 0..FAILURES_MAX {
            assert!(matches!(keys.verify(&format!("{id}.wrong")).await, Err(KeyRefused::Wrong)));
        }
        assert!(matches!(keys.verify(&format!("{id}.wrong")).await, Err(KeyRefused::TooMany)));
        assert!(keys.verify(&key).await.is_ok());
    }
}
