//! Device tokens: registered, rotated, moved, and found dead.
//!
//! ```text
//!            register                    vendor: dead since a moment not before the registration
//!  (none) ------------> active  <------------------------------------------> dead
//!                                        register again
//! ```

use reveille_proto::ids::AppId;
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::devices::{self, Device};
use crate::lane::Home;
use crate::store::{Order, Space, StoreError, Tx, decode, keys};
use crate::vendor::{DeviceToken, VendorName};
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
    /// Which of the app's credentials it goes with.
    #[serde(default, skip_serializing_if = "is_anywhere")]
    pub home: Home,
}

fn is_anywhere(home: &Home) -> bool {
    *home == Home::default()
}

/// Whether pushes go to a device token.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "lowercase")]
pub enum TokenState {
    /// Pushes go there.
    Active,
    /// The vendor said that it is not valid; kept for the record until the device registers again.
    Dead {
        /// The vendor's words.
        reason: String,
        /// When we learned it, in milliseconds since 1970.
        at_ms: u64,
    },
}

impl Token {
    /// Whether pushes go there.
    pub fn is_active(&self) -> bool {
        match self.state {
            TokenState::Active => true,
            TokenState::Dead { .. } => false,
        }
    }

    /// Reads a vendor's word that the token is dead. `true` when it now is.
    ///
    /// A token that was registered after the moment the vendor names stays alive: the word is about an earlier
    /// life of the same token.
    pub fn note_dead(&mut self, since_ms: Option<u64>, reason: &str, now_ms: u64) -> bool {
        if since_ms.is_some_and(|since_ms| since_ms < self.registered_at_ms) {
            return false;
        }
        if self.is_active() {
            self.state = TokenState::Dead { reason: reason.to_owned(), at_ms: now_ms };
        }
        true
    }
}

/// A device token that a vendor called dead, for the record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeadToken {
    /// Which vendor.
    pub vendor: VendorName,
    /// The address there.
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
    let is_it = |kept: &&mut Token| kept.vendor == vendor && kept.token.as_str() == token;
    let Some(kept) = device.tokens.iter_mut().find(is_it) else { return Ok(false) };
    let was_active = kept.is_active();
    if !kept.note_dead(since_ms, reason, now_ms) {
        return Ok(false);
    }
    if was_active {
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
    let all = keys::all_dead(app);
    let after = after.map(|number| keys::dead(app, number));
    let found = tx.scan(Space::Devices, &all, after.as_deref(), Order::Forward, limit)?;
    let entry = |(key, value): &(Vec<u8>, Vec<u8>)| {
        Ok((keys::number_at(key, all.len()).unwrap_or(0), decode(value)?))
    };
    found.iter().map(entry).collect()
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
    let registered = Token { vendor, token, registered_at_ms: tx.now_ms(), state: TokenState::Active, home };
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
                home: Home::default(),
            };
            assert_eq!(kept.note_dead(since_ms, "Unregistered", 5_000), wanted, "{since_ms:?}");
            assert_eq!(kept.is_active(), !wanted, "{since_ms:?}");
        }
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
