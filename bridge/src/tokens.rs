//! Device tokens: registered, rotated, moved, kept in quarantine, and found dead.
//!
//! ```text
//!            register             vendor: dead since a moment not before the registration
//!  (none) ------------> active ------------------------------------------------------------> dead
//!                       |    ^                                                                 |
//!   another app's, or   |    | a day, or register again                                        |
//!   not taken for days  v    |                                                 register again  |
//!                     quarantined          (a vendor's word of death leads from here too) <----+
//! ```

use reveille_proto::ids::AppId;
use serde::{Deserialize, Serialize};
use serde_json::json;
use utoipa::ToSchema;

use crate::devices::{self, Device};
use crate::lane::Home;
use crate::store::{Order, Space, StoreError, Tx, decode, keys};
use crate::vendor::{DeviceToken, VendorName, Verdict};
use crate::webhooks;

/// A device's address at one vendor. A device has at most one for each vendor.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Token {
    /// The push service.
    pub vendor: VendorName,
    /// The address there.
    pub token: DeviceToken,
    /// When the device last said so, in milliseconds since 1970.
    pub registered_at_ms: u64,
    /// Whether pushes go there.
    pub state: TokenState,
    /// On how many days the vendor would not show anything to it, since it last took a push; at most [`STRIKES_MAX`].
    #[serde(default, skip_serializing_if = "Strikes::is_none")]
    pub strikes: Strikes,
    /// Which of the app's credentials it goes with.
    #[serde(default, skip_serializing_if = "is_anywhere")]
    pub home: Home,
}

fn is_anywhere(home: &Home) -> bool {
    *home == Home::default()
}

/// Days without success; only some vendors say of a device token that they will not show anything there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Strikes {
    days: u8,
    /// The last one, in milliseconds since 1970.
    at_ms: u64,
}

impl Strikes {
    fn is_none(&self) -> bool {
        self.days == 0
    }

    /// One a day: many alerts in an hour say no more than one.
    fn add(&mut self, now_ms: u64) {
        if self.is_none() || now_ms.saturating_sub(self.at_ms) >= DAY_MS {
            *self = Self { days: self.days.saturating_add(1).min(STRIKES_MAX), at_ms: now_ms };
        }
    }
}

/// Days on which a vendor would show nothing, after which a device token is in quarantine.
pub const STRIKES_MAX: u8 = 3;
/// How long a device token stays in quarantine, in milliseconds: a day. What caused it may have been a wrong credential.
pub const QUARANTINE_MS: u64 = DAY_MS;
const DAY_MS: u64 = 24 * 60 * 60 * 1000;

/// Whether pushes go to a device token.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "lowercase")]
pub enum TokenState {
    /// Pushes go there.
    Active,
    /// Pushes go there again after a while, or when the device registers: it seems to be another app's, or shows nothing.
    Quarantined {
        /// The vendor's words, or ours.
        reason: String,
        /// Since when, in milliseconds since 1970.
        at_ms: u64,
        /// Until when, in milliseconds since 1970.
        until_ms: u64,
    },
    /// The vendor said that it is not valid; kept for the record until the device registers again.
    Dead {
        /// The vendor's words.
        reason: String,
        /// When we learned it, in milliseconds since 1970.
        at_ms: u64,
    },
}

impl Token {
    /// Whether pushes go there now.
    pub fn is_active(&self, now_ms: u64) -> bool {
        match self.state {
            TokenState::Active => true,
            TokenState::Quarantined { until_ms, .. } => until_ms <= now_ms,
            TokenState::Dead { .. } => false,
        }
    }

    /// Whether a vendor called it dead.
    pub fn is_dead(&self) -> bool {
        match self.state {
            TokenState::Active | TokenState::Quarantined { .. } => false,
            TokenState::Dead { .. } => true,
        }
    }

    fn quarantine(&mut self, reason: &str, now_ms: u64) {
        let until_ms = now_ms.saturating_add(QUARANTINE_MS);
        self.state = TokenState::Quarantined { reason: reason.to_owned(), at_ms: now_ms, until_ms };
    }

    /// Reads a vendor's word that the token is dead. `true` when it now is.
    ///
    /// A token that was registered after the moment the vendor names stays alive: the word is about an earlier
    /// life of the same token.
    pub fn note_dead(&mut self, since_ms: Option<u64>, reason: &str, now_ms: u64) -> bool {
        if since_ms.is_some_and(|since_ms| since_ms < self.registered_at_ms) {
            return false;
        }
        if !self.is_dead() {
            self.state = TokenState::Dead { reason: reason.to_owned(), at_ms: now_ms };
        }
        true
    }
}

/// A device token that a vendor called dead, for the record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct DeadToken {
    /// Which vendor.
    pub vendor: VendorName,
    /// The address there.
    #[schema(value_type = String)]
    pub token: DeviceToken,
    /// Whose it was.
    pub device: String,
    /// The vendor's words.
    pub reason: String,
    /// When we learned it, in milliseconds since 1970.
    pub at_ms: u64,
}

/// Dead tokens that are kept for one app; beyond it the oldest goes.
pub const DEAD_MAX: u64 = 100_000;

/// A vendor says that a device token is dead: notes it with the device and in the table of dead ones. `false` when the
/// word is about an earlier life of the token, or nobody has it.
///
/// # Errors
/// [`StoreError`] when the store fails.
pub(crate) fn bury(
    tx: &mut Tx<'_>,
    app: &AppId,
    device_id: &str,
    vendor: VendorName,
    token: &str,
    since_ms: Option<u64>,
    reason: &str,
) -> Result<bool, StoreError> {
    let now_ms = tx.now_ms();
    let Some(mut device) = devices::load(tx, app, device_id)? else { return Ok(false) };
    let Some(kept) = find(&mut device, vendor, token) else { return Ok(false) };
    let was_dead = kept.is_dead();
    if !kept.note_dead(since_ms, reason, now_ms) {
        return Ok(false);
    }
    if !was_dead {
        let dead = DeadToken {
            vendor,
            token: kept.token.clone(),
            device: device.id.clone(),
            reason: reason.to_owned(),
            at_ms: now_ms,
        };
        record(tx, app, &dead)?;
        devices::save(tx, app, &device)?;
        webhooks::emit(tx, app, webhooks::TOKEN_INVALID, &device.id, || json!(dead))?;
    }
    Ok(true)
}

fn find<'d>(device: &'d mut Device, vendor: VendorName, token: &str) -> Option<&'d mut Token> {
    device.tokens.iter_mut().find(|kept| kept.vendor == vendor && kept.token.as_str() == token)
}

/// Reads what a vendor answered to a push, as far as it is about the device token and does not call it dead.
///
/// # Errors
/// [`StoreError`] when the store fails.
pub(crate) fn judge(
    tx: &mut Tx<'_>,
    app: &AppId,
    device_id: &str,
    vendor: VendorName,
    token: &DeviceToken,
    verdict: &Verdict,
) -> Result<(), StoreError> {
    let now_ms = tx.now_ms();
    let is_about_it = matches!(verdict, Verdict::TokenMismatch { .. } | Verdict::Filtered { .. });
    if !is_about_it {
        return Ok(());
    }
    let Some(mut device) = devices::load(tx, app, device_id)? else { return Ok(()) };
    let Some(kept) = find(&mut device, vendor, token.as_str()) else { return Ok(()) };
    if !kept.is_active(now_ms) {
        return Ok(()); // of a push that was under way before
    }
    match verdict {
        Verdict::TokenMismatch { reason } => kept.quarantine(reason, now_ms),
        verdict => {
            kept.strikes.add(now_ms);
            if kept.strikes.days >= STRIKES_MAX {
                kept.quarantine(verdict.reason(), now_ms);
            }
        }
    }
    devices::save(tx, app, &device)
}

/// The vendor took a push to the device token: what was held against it is forgotten. `device` is as it was just read.
///
/// # Errors
/// [`StoreError`] when the store fails.
pub(crate) fn absolve(
    tx: &mut Tx<'_>,
    app: &AppId,
    device: Option<&Device>,
    vendor: VendorName,
    token: &DeviceToken,
) -> Result<(), StoreError> {
    let Some(mut device) = device.cloned() else { return Ok(()) };
    let Some(kept) = find(&mut device, vendor, token.as_str()) else { return Ok(()) };
    let is_clean = kept.strikes.is_none() && kept.state == TokenState::Active;
    if is_clean || kept.is_dead() {
        return Ok(());
    }
    (kept.strikes, kept.state) = (Strikes::default(), TokenState::Active);
    devices::save(tx, app, &device)
}

fn record(tx: &mut Tx<'_>, app: &AppId, dead: &DeadToken) -> Result<(), StoreError> {
    let number = tx.load::<u64>(Space::Devices, &keys::last_dead(app))?.unwrap_or(0).saturating_add(1);
    tx.save(Space::Devices, keys::last_dead(app), &number)?;
    tx.save(Space::Devices, keys::dead(app, number), dead)?;
    if let Some(oldest) = number.checked_sub(DEAD_MAX) {
        tx.remove(Space::Devices, keys::dead(app, oldest));
    }
    Ok(())
}

/// Dead tokens after a number, oldest first, with their numbers.
///
/// # Errors
/// [`StoreError`] when the store fails.
pub(crate) fn dead(
    tx: &Tx<'_>,
    app: &AppId,
    after: Option<u64>,
    limit: usize,
) -> Result<Vec<(u64, DeadToken)>, StoreError> {
    dead_page(tx, app, after, Order::Forward, limit)
}

/// Dead tokens from a number on, in either direction, with their numbers.
///
/// # Errors
/// [`StoreError`] when the store fails.
pub(crate) fn dead_page(
    tx: &Tx<'_>,
    app: &AppId,
    from: Option<u64>,
    order: Order,
    limit: usize,
) -> Result<Vec<(u64, DeadToken)>, StoreError> {
    let all = keys::all_dead(app);
    let from = from.map(|number| keys::dead(app, number));
    let found = tx.scan(Space::Devices, &all, from.as_deref(), order, limit)?;
    let entry = |(key, value): &(Vec<u8>, Vec<u8>)| {
        Ok((keys::number_at(key, all.len()).unwrap_or(0), decode(value)?))
    };
    found.iter().map(entry).collect()
}

/// The device that has a token.
///
/// # Errors
/// [`StoreError`] when the store fails.
pub(crate) fn owner(
    tx: &Tx<'_>,
    app: &AppId,
    vendor: VendorName,
    token: &DeviceToken,
) -> Result<Option<String>, StoreError> {
    let owner = tx.get(Space::Devices, &keys::token_owner(app, vendor, token.as_str()))?;
    Ok(owner.and_then(|owner| String::from_utf8(owner).ok()))
}

/// Registers or rotates a device's token at a vendor. A token that another device of the app had moves here: it is
/// the same phone under a new client id, and the alert would be shown twice.
///
/// # Errors
/// [`StoreError`] when the store fails.
pub(crate) fn register(
    tx: &mut Tx<'_>,
    app: &AppId,
    device: &mut Device,
    vendor: VendorName,
    token: DeviceToken,
    home: Home,
) -> Result<(), StoreError> {
    let owner_key = keys::token_owner(app, vendor, token.as_str());
    if let Some(owner) = tx.get(Space::Devices, &owner_key)?
        && owner != device.id.as_bytes()
        && let Ok(owner) = String::from_utf8(owner)
        && let Some(mut other) = devices::load(tx, app, &owner)?
    {
        other.tokens.retain(|kept| kept.vendor != vendor);
        devices::save(tx, app, &other)?;
    }
    let registered = Token {
        vendor,
        token,
        registered_at_ms: tx.now_ms(),
        state: TokenState::Active,
        strikes: Strikes::default(),
        home,
    };
    tx.put(Space::Devices, owner_key, device.id.clone().into_bytes());
    if let Some(old) = device.tokens.iter().find(|kept| kept.vendor == vendor)
        && old.token != registered.token
    {
        tx.remove(Space::Devices, keys::token_owner(app, vendor, old.token.as_str()));
    }
    device.tokens.retain(|kept| kept.vendor != vendor);
    device.tokens.insert(0, registered); // the newest first: the one that is tried first
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Store;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU64, Ordering};

    fn token(text: &str) -> DeviceToken {
        DeviceToken::parse(text).unwrap()
    }

    #[test]
    fn a_token_dies_only_of_a_word_that_is_not_older_than_its_registration() {
        for (since_ms, wanted) in [(None, true), (Some(1_000), true), (Some(1_001), true), (Some(999), false)]
        {
            let mut kept = Token {
                vendor: VendorName::Apns,
                token: token("t"),
                registered_at_ms: 1_000,
                state: TokenState::Active,
                strikes: Strikes::default(),
                home: Home::default(),
            };
            assert_eq!(kept.note_dead(since_ms, "Unregistered", 5_000), wanted, "{since_ms:?}");
            assert_eq!(kept.is_active(5_000), !wanted, "{since_ms:?}");
        }
    }

    /// A device with one token, on which a vendor's words fall at their times.
    struct Told {
        store: Store,
        clock: Arc<AtomicU64>,
        _dir: tempfile::TempDir,
    }

    impl Told {
        async fn new() -> Self {
            let dir = tempfile::tempdir().unwrap();
            let clock = Arc::new(AtomicU64::new(1_000));
            let for_store = Arc::clone(&clock);
            let store = Store::open(dir.path(), Arc::new(move || for_store.load(Ordering::SeqCst))).unwrap();
            let told = Self { store, clock, _dir: dir };
            told.register().await;
            told
        }

        fn later(&self, days: f64) {
            self.clock.fetch_add((days * DAY_MS as f64) as u64, Ordering::SeqCst);
        }

        async fn register(&self) {
            let write = |tx: &mut Tx<'_>| {
                let app = AppId::default();
                let mut device = devices::load_or_new(tx, &app, "d")?;
                register(tx, &app, &mut device, VendorName::Vivo, token("t"), Home::default())?;
                devices::save(tx, &app, &device)
            };
            self.store.write(write).await.unwrap();
        }

        async fn say(&self, verdict: Verdict) {
            let write = move |tx: &mut Tx<'_>| {
                let app = AppId::default();
                match verdict {
                    Verdict::Accepted { .. } => {
                        let device = devices::load(tx, &app, "d")?;
                        absolve(tx, &app, device.as_ref(), VendorName::Vivo, &token("t"))
                    }
                    verdict => judge(tx, &app, "d", VendorName::Vivo, &token("t"), &verdict),
                }
            };
            self.store.write(write).await.unwrap();
        }

        async fn is_active(&self) -> bool {
            let now_ms = self.store.now_ms();
            let device = self.store.read(|tx| devices::load(tx, &AppId::default(), "d")).await.unwrap();
            device.unwrap().tokens[0].is_active(now_ms)
        }
    }

    fn filtered() -> Verdict {
        Verdict::Filtered { reason: "10311".to_owned() }
    }

    #[tokio::test]
    async fn a_token_of_another_app_is_in_quarantine_for_a_day_or_until_it_is_registered() {
        let told = Told::new().await;
        let mismatch = || Verdict::TokenMismatch { reason: "DeviceTokenNotForTopic".to_owned() };
        told.say(mismatch()).await;
        assert!(!told.is_active().await);
        told.later(0.99);
        told.say(mismatch()).await;
        assert!(!told.is_active().await, "a push that was under way prolongs nothing");
        told.later(0.01);
        assert!(told.is_active().await);
        told.say(mismatch()).await;
        assert!(!told.is_active().await);
        told.register().await;
        assert!(told.is_active().await);
    }

    #[tokio::test]
    async fn what_shows_nothing_for_three_days_is_in_quarantine_and_one_success_forgives_all() {
        let told = Told::new().await;
        for _ in 0..10 {
            told.say(filtered()).await;
        }
        assert!(told.is_active().await, "many in a day count once");
        told.later(1.0);
        told.say(filtered()).await;
        told.say(Verdict::Accepted { vendor_id: None }).await;
        for day in 1..=3 {
            told.later(1.0);
            assert!(told.is_active().await, "{day}");
            told.say(filtered()).await;
        }
        assert!(!told.is_active().await);
        told.later(1.0);
        assert!(told.is_active().await);
        told.say(filtered()).await;
        assert!(!told.is_active().await, "the next refusal is enough");
        told.later(1.0);
        told.say(Verdict::Accepted { vendor_id: None }).await;
        told.later(1.0);
        told.say(filtered()).await;
        assert!(told.is_active().await);
    }

    #[tokio::test]
    async fn a_word_of_death_ends_a_quarantine_and_no_other_word_ends_death() {
        let told = Told::new().await;
        told.say(Verdict::TokenMismatch { reason: "BadDeviceToken".to_owned() }).await;
        let bury = |tx: &mut Tx<'_>| {
            bury(tx, &AppId::default(), "d", VendorName::Vivo, "t", None, "Unregistered")?;
            dead(tx, &AppId::default(), None, 10)
        };
        assert_eq!(told.store.write(bury).await.unwrap().len(), 1);
        told.later(2.0);
        told.say(Verdict::Accepted { vendor_id: None }).await;
        assert!(!told.is_active().await);
    }

    #[tokio::test]
    async fn a_token_moves_to_the_device_that_registers_it_and_a_rotated_one_keeps_the_device() {
        let dir = tempfile::tempdir().unwrap();
        let clock = Arc::new(AtomicU64::new(1_000));
        let for_store = Arc::clone(&clock);
        let store = Store::open(dir.path(), Arc::new(move || for_store.load(Ordering::SeqCst))).unwrap();
        let app = AppId::default();
        for (device, text) in [("old", "same"), ("new", "same"), ("new", "rotated")] {
            let app = app.clone();
            let write = move |tx: &mut Tx<'_>| {
                let mut device = devices::load_or_new(tx, &app, device)?;
                register(tx, &app, &mut device, VendorName::Fcm, token(text), Home::default())?;
                devices::save(tx, &app, &device)
            };
            store.write(write).await.unwrap();
            clock.fetch_add(10, Ordering::SeqCst);
        }
        let (old, new, owner) = store
            .read(move |tx| {
                let owner = |text| tx.get(Space::Devices, &keys::token_owner(&app, VendorName::Fcm, text));
                Ok::<_, StoreError>((
                    devices::load(tx, &app, "old")?.unwrap(),
                    devices::load(tx, &app, "new")?.unwrap(),
                    (owner("same")?, owner("rotated")?),
                ))
            })
            .await
            .unwrap();
        assert_eq!(old.tokens, []);
        assert_eq!(new.tokens.len(), 1);
        assert_eq!((new.tokens[0].token.as_str(), new.tokens[0].registered_at_ms), ("rotated", 1_020));
        assert_eq!(owner, (None, Some(b"new".to_vec())));
    }
}
