//! People: names with a password, which open the console. And what may be shown of keys.
//!
//! A person is a key whose id is `@name` and whose secret is the password; the API takes no such id, so a password
//! opens only what asks for one.

use std::collections::BTreeSet;

use base64::Engine as _;
use reveille_proto::ids::AppId;
use tokio::sync::watch;

use super::{
    Access, BASE64, Caller, KeyRecord, KeyRefused, Keys, Order, Space, StoreError, Tx, decode, hash, keys,
    lock,
};

/// Keys and people of one bridge that a list shows at most.
const LISTED_MAX: usize = 10_000;

/// What a person is called: 1 to 32 lower-case letters, digits, dots, hyphens and underscores.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PersonName(String);

impl PersonName {
    /// Checks the text once.
    pub fn parse(text: &str) -> Option<Self> {
        let is_good = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || ".-_".contains(c);
        ((1..=32).contains(&text.len()) && text.chars().all(is_good)).then(|| Self(text.to_owned()))
    }

    /// The id of the record.
    pub fn key_id(&self) -> String {
        format!("@{}", self.0)
    }
}

/// What may be shown of a key or a person.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct KeyView {
    /// The public half; `@name` for a person.
    pub id: String,
    /// `None`: every app.
    pub app: Option<String>,
    pub scopes: BTreeSet<Access>,
    /// The tags that it is limited to; empty: every device.
    pub tags: BTreeSet<String>,
    pub name: String,
    pub created_at_ms: u64,
}

impl KeyView {
    /// Whether it is a person with a password.
    pub fn is_person(&self) -> bool {
        self.id.starts_with('@')
    }

    fn is_operator(&self) -> bool {
        self.app.is_none() && self.scopes.contains(&Access::Admin)
    }
}

impl Keys {
    /// Who has this name and password.
    ///
    /// # Errors
    /// [`KeyRefused`] without saying which of both is wrong; it takes as long for a name that nobody has.
    pub async fn verify_password(&self, name: &str, password: &str) -> Result<Caller, KeyRefused> {
        let name = PersonName::parse(name).ok_or(KeyRefused::Wrong)?;
        let id = name.key_id();
        let record = self.load(&id).await?.unwrap_or_else(|| KeyRecord {
            app: None,
            scopes: BTreeSet::new(),
            tags: BTreeSet::new(),
            name: String::new(),
            salt: BASE64.encode([0; 16]),
            hash: BASE64.encode([0; 32]), // equals no hash
            created_at_ms: 0,
        });
        self.prove(&id, record, password).await
    }

    /// The same caller with what its key may do now; `None` when the key is gone.
    pub async fn again(&self, caller: &Caller) -> Result<Option<Caller>, StoreError> {
        let record = self.load(&caller.key_id).await?;
        Ok(record.map(|record| record.caller(&caller.key_id)))
    }

    /// A removed key opens nothing any more.
    pub fn forget(&self, id: &str) {
        let mut verified = lock(&self.verified);
        self.forgotten.send_modify(|times| *times += 1);
        verified.retain(|_, caller| caller.key_id != id);
    }

    /// Changes whenever a key is forgotten.
    pub fn forgotten(&self) -> watch::Receiver<u64> {
        self.forgotten.subscribe()
    }
}

/// Writes a person.
pub(crate) fn keep_person(
    tx: &mut Tx<'_>,
    name: &PersonName,
    app: Option<&AppId>,
    scopes: BTreeSet<Access>,
    password: &HashedPassword,
) -> Result<(), StoreError> {
    let record = KeyRecord {
        app: app.map(|app| app.as_str().to_owned()),
        scopes,
        tags: BTreeSet::new(),
        name: name.0.clone(),
        salt: BASE64.encode(password.salt),
        hash: BASE64.encode(password.hash),
        created_at_ms: tx.now_ms(),
    };
    tx.save(Space::Apps, keys::api_key(&name.key_id()), &record)
}

/// A password as it is kept.
pub(crate) struct HashedPassword {
    salt: [u8; 16],
    hash: [u8; 32],
}

impl HashedPassword {
    /// Takes some ten milliseconds: call it off the async threads.
    pub fn of(password: &str) -> Self {
        let salt = rand::random::<[u8; 16]>();
        Self { salt, hash: hash(password, &salt) }
    }
}

/// Every key and person, by id.
pub(crate) fn all_keys(tx: &Tx<'_>) -> Result<Vec<KeyView>, StoreError> {
    let all = keys::api_keys();
    let found = tx.scan(Space::Apps, &all, None, Order::Forward, LISTED_MAX)?;
    let view = |(key, value): &(Vec<u8>, Vec<u8>)| {
        let KeyRecord { app, scopes, tags, name, created_at_ms, .. } = decode(value)?;
        let id = keys::text_after(key, &all).unwrap_or_default();
        Ok(KeyView { id, app, scopes, tags, name, created_at_ms })
    };
    found.iter().map(view).collect()
}

/// Why a key is not removed.
#[derive(Clone, Debug, thiserror::Error)]
pub(crate) enum RemoveKeyError {
    /// There is none.
    #[error("there is no such key")]
    Unknown,
    /// Nobody could open everything any more.
    #[error("it is the last one that opens everything")]
    Last,
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Removes a key or a person; of an app only, where one is named.
pub(crate) fn remove_key(tx: &mut Tx<'_>, app: Option<&AppId>, id: &str) -> Result<(), RemoveKeyError> {
    let all = all_keys(tx)?;
    let is_it =
        |key: &&KeyView| key.id == id && app.is_none_or(|app| key.app.as_deref() == Some(app.as_str()));
    let key = all.iter().find(is_it).ok_or(RemoveKeyError::Unknown)?;
    let operators = all.iter().filter(|key| key.is_operator()).count();
    if key.is_operator() && operators == 1 {
        return Err(RemoveKeyError::Last);
    }
    tx.remove(Space::Apps, keys::api_key(id));
    Ok(())
}

/// Removes every key and person of an app; their ids.
pub(crate) fn remove_keys_of(tx: &mut Tx<'_>, app: &AppId) -> Result<Vec<String>, StoreError> {
    let all = all_keys(tx)?;
    let theirs = all.into_iter().filter(|key| key.app.as_deref() == Some(app.as_str()));
    let ids: Vec<_> = theirs.map(|key| key.id).collect();
    ids.iter().for_each(|id| tx.remove(Space::Apps, keys::api_key(id)));
    Ok(ids)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::apps::prepare;
    use crate::store::Store;
    use std::sync::Arc;

    async fn with_person(store: &Store, app: Option<&'static str>, scopes: BTreeSet<Access>) {
        let password = HashedPassword::of("correct horse battery");
        let write = move |tx: &mut Tx<'_>| {
            let app = app.and_then(|app| AppId::parse(app).ok());
            keep_person(tx, &PersonName::parse("ada").unwrap(), app.as_ref(), scopes, &password)
        };
        store.write(write).await.unwrap();
    }

    #[tokio::test]
    async fn a_password_opens_what_its_person_may_and_is_no_key_of_the_api() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path(), Arc::new(|| 1_000)).unwrap();
        with_person(&store, Some("shop"), BTreeSet::from([Access::Read])).await;
        let keys = Keys::new(store);
        let caller = keys.verify_password("ada", "correct horse battery").await.unwrap();
        assert!(caller.may(&AppId::parse("shop").unwrap(), Access::Read) && !caller.is_operator());
        for (name, password) in [("ada", "wrong"), ("bob", "correct horse battery"), ("", ""), ("@ada", "x")]
        {
            assert!(matches!(keys.verify_password(name, password).await, Err(KeyRefused::Wrong)), "{name}");
        }
        assert!(matches!(keys.verify("@ada.correct horse battery").await, Err(KeyRefused::Wrong)));
        for _ in 0..super::super::FAILURES_MAX {
            let _ = keys.verify_password("ada", "wrong").await;
        }
        let flooded = keys.verify_password("ada", "correct horse battery").await;
        assert!(matches!(flooded, Err(KeyRefused::TooMany)), "guessing goes on without a limit");
    }

    #[tokio::test]
    async fn the_last_key_that_opens_everything_stays() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path(), Arc::new(|| 1_000)).unwrap();
        let key = prepare(&store).await.unwrap().unwrap();
        let keys = Keys::new(store.clone());
        let caller = keys.verify(&key).await.unwrap();
        let id = caller.key_id.clone();
        let remove = |id: String| store.write(move |tx| remove_key(tx, None, &id));
        assert!(matches!(remove(id.clone()).await, Err(RemoveKeyError::Last)));
        with_person(&store, None, BTreeSet::from([Access::Admin])).await;
        assert!(remove(id.clone()).await.is_ok());
        keys.forget(&id);
        assert_eq!(keys.again(&caller).await.unwrap(), None);
        assert!(matches!(keys.verify(&key).await, Err(KeyRefused::Wrong)));
        assert!(matches!(remove("@ada".to_owned()).await, Err(RemoveKeyError::Last)));
        assert!(matches!(remove("0123456789abcdef".to_owned()).await, Err(RemoveKeyError::Unknown)));
    }
}
