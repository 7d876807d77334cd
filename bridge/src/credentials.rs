//! An app's credentials: several at each vendor, encrypted on disk, with what each may send.

use reveille_proto::ids::AppId;
use serde::{Deserialize, Serialize};

use crate::lane::{Address, CredentialName, Home, Lane};
use crate::limiter::{Day, Rates};
use crate::store::{Order, Space, Store, StoreError, Tx, decode, keys};
use crate::vault::Vault;
use crate::vendor::{Credential, VendorName};

/// Credentials of one app at one vendor at most.
pub(crate) const CREDENTIALS_MAX: usize = 16;

/// A credential and when it came.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct KeptCredential {
    /// With its secrets.
    pub credential: Credential,
    /// Bounds of the app at this vendor, where they are not the usual ones.
    #[serde(default)]
    pub rates: Rates,
    /// When its key ends, in milliseconds since 1970, as the operator entered it; certificates say it themselves.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at_ms: Option<u64>,
    /// When it was set, in milliseconds since 1970.
    pub updated_at_ms: u64,
}

impl KeptCredential {
    /// A credential with the usual bounds.
    pub fn new(credential: Credential, now_ms: u64) -> Self {
        Self { credential, rates: Rates::default(), expires_at_ms: None, updated_at_ms: now_ms }
    }
}

/// One of an app's credentials at a vendor.
pub(crate) fn load(
    tx: &Tx<'_>,
    app: &AppId,
    vendor: VendorName,
    name: &CredentialName,
) -> Result<Option<KeptCredential>, StoreError> {
    tx.load_sealed(Space::Apps, &keys::credential(app, vendor, name))
}

/// The credential of a lane.
pub(crate) fn of_lane(tx: &Tx<'_>, lane: &Lane) -> Result<Option<KeptCredential>, StoreError> {
    load(tx, &lane.app, lane.vendor, &lane.credential)
}

/// Whether the pushes of a lane are counted by the day.
pub(crate) fn has_daily_quota(tx: &Tx<'_>, lane: &Lane) -> Result<bool, StoreError> {
    let rates = of_lane(tx, lane)?.map(|kept| kept.rates.or_usual(lane.vendor)).unwrap_or_default();
    Ok(rates.per_day.is_some() || rates.of(lane.class).per_day.is_some())
}

/// Adds or replaces a credential. It is used from the next push on. `false` when the app has too many.
pub(crate) fn save(
    tx: &mut Tx<'_>,
    app: &AppId,
    name: &CredentialName,
    kept: &KeptCredential,
) -> Result<bool, StoreError> {
    let vendor = kept.credential.vendor_name();
    let others = at_vendor(tx, app, vendor)?.into_iter().filter(|(known, _)| known != name).count();
    if others >= CREDENTIALS_MAX {
        return Ok(false);
    }
    tx.save_sealed(Space::Apps, keys::credential(app, vendor, name), kept)?;
    changed(tx, app, vendor, name)?;
    Ok(true)
}

/// Removes a credential; what it was. What waits for it is told at its turn.
pub(crate) fn remove(
    tx: &mut Tx<'_>,
    app: &AppId,
    vendor: VendorName,
    name: &CredentialName,
) -> Result<Option<KeptCredential>, StoreError> {
    let Some(removed) = load(tx, app, vendor, name)? else { return Ok(None) };
    tx.remove(Space::Apps, keys::credential(app, vendor, name));
    changed(tx, app, vendor, name)?;
    Ok(Some(removed))
}

/// Wakes what waits, and notes in the clear what device tokens are found by: reading every secret for each of a
/// million devices would be slow.
fn changed(
    tx: &mut Tx<'_>,
    app: &AppId,
    vendor: VendorName,
    name: &CredentialName,
) -> Result<(), StoreError> {
    let now_ms = tx.now_ms();
    for lane in Lane::all_of(app, vendor, name) {
        tx.touched().lanes.note(lane, now_ms);
    }
    let addresses = read_addresses(tx, app, vendor)?;
    tx.save(Space::Apps, keys::addresses(app, vendor), &addresses)
}

/// Every credential of an app, by vendor and name.
pub(crate) fn list(tx: &Tx<'_>, app: &AppId) -> Result<Vec<(CredentialName, KeptCredential)>, StoreError> {
    scan(tx, &keys::credentials_of(app), VendorName::ALL.len() * CREDENTIALS_MAX)
}

/// An app's credentials at one vendor, by name.
pub(crate) fn at_vendor(
    tx: &Tx<'_>,
    app: &AppId,
    vendor: VendorName,
) -> Result<Vec<(CredentialName, KeptCredential)>, StoreError> {
    scan(tx, &keys::credential(app, vendor, &CredentialName::default()), CREDENTIALS_MAX)
}

fn scan(
    tx: &Tx<'_>,
    prefix: &[u8],
    limit: usize,
) -> Result<Vec<(CredentialName, KeptCredential)>, StoreError> {
    let found = tx.scan(Space::Apps, prefix, None, Order::Forward, limit)?;
    let mut all = Vec::with_capacity(found.len());
    for (key, kept) in found {
        let name = keys::credential_name(&key).unwrap_or_default();
        all.push((name, tx.unseal(&key, kept)?));
    }
    Ok(all)
}

fn read_addresses(tx: &Tx<'_>, app: &AppId, vendor: VendorName) -> Result<Vec<Address>, StoreError> {
    let all = at_vendor(tx, app, vendor)?;
    Ok(all.into_iter().map(|(name, kept)| kept.credential.address(name)).collect())
}

/// Which credential a device token with this home goes with; `None` when the app has none for it.
pub(crate) fn find(
    tx: &Tx<'_>,
    app: &AppId,
    vendor: VendorName,
    home: &Home,
) -> Result<Option<CredentialName>, StoreError> {
    if home.credential.is_some() || home.is_anywhere() {
        return Ok(home.find(&[]));
    }
    let noted = tx.load::<Vec<Address>>(Space::Apps, &keys::addresses(app, vendor))?;
    let addresses = match noted {
        Some(noted) => noted,
        None => read_addresses(tx, app, vendor)?, // set by a release that noted none
    };
    Ok(home.find(&addresses))
}

/// Encrypts credentials that an older release kept in the clear; how many.
pub(crate) async fn seal_all(store: &Store) -> Result<usize, StoreError> {
    store
        .write(|tx| {
            let found = tx.scan(Space::Apps, &keys::credentials(), None, Order::Forward, usize::MAX)?;
            let open = found.into_iter().filter(|(_, kept)| !Vault::is_sealed(kept));
            let mut count = 0;
            for (key, kept) in open {
                let kept: KeptCredential = decode(&kept)?;
                tx.save_sealed(Space::Apps, key, &kept)?;
                count += 1;
            }
            Ok(count)
        })
        .await
}

/// The day of a lane's pushes, in the hands of one transaction: what the credential and the class still have.
pub(crate) struct Days {
    lane: Lane,
    rates: Rates,
    all: Day,
    class: Day,
}

impl Days {
    /// Reads both counts.
    pub fn load(tx: &Tx<'_>, lane: &Lane, rates: Rates) -> Result<Self, StoreError> {
        let (all, class) = (keys::day(lane, None), keys::day(lane, Some(lane.class)));
        Ok(Self {
            rates,
            all: tx.load(Space::Apps, &all)?.unwrap_or_default(),
            class: tx.load(Space::Apps, &class)?.unwrap_or_default(),
            lane: lane.clone(),
        })
    }

    /// Counts one push.
    ///
    /// # Errors
    /// When the day is used up: the moment at which the next one begins, in milliseconds since 1970.
    pub fn use_one(&mut self, now_ms: u64) -> Result<(), u64> {
        let vendor = self.lane.vendor;
        let (mut all, mut class) = (self.all, self.class);
        if let Some(per_day) = self.rates.per_day {
            all.use_one(vendor, per_day, now_ms)?;
        }
        if let Some(per_day) = self.rates.of(self.lane.class).per_day {
            class.use_one(vendor, per_day, now_ms)?;
        }
        (self.all, self.class) = (all, class); // both or neither
        Ok(())
    }

    /// Writes what is counted.
    pub fn save(self, tx: &mut Tx<'_>) -> Result<(), StoreError> {
        if self.rates.per_day.is_some() {
            tx.save(Space::Apps, keys::day(&self.lane, None), &self.all)?;
        }
        if self.rates.of(self.lane.class).per_day.is_some() {
            tx.save(Space::Apps, keys::day(&self.lane, Some(self.lane.class)), &self.class)?;
        }
        Ok(())
    }
}
