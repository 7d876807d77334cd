//! When credentials end: a certificate by its own date, a key by the date that the operator entered. Told in time as a
//! metric, a line of the log and an event, once when it comes near and once when it is over.

use std::sync::Arc;
use std::time::Duration;

use reveille_proto::ids::AppId;
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::credentials::KeptCredential;
use crate::shared::Shared;
use crate::store::{Order, Space, StoreError, Tx, keys};
use crate::vendor::{Credential, VendorName};
use crate::webhooks;

/// Dates move slowly.
const LOOK_EVERY: Duration = Duration::from_secs(60 * 60);

/// A credential and where it stands.
#[derive(Clone, Debug)]
pub(crate) struct Owned {
    /// Its place in the store.
    pub key: Vec<u8>,
    pub app: AppId,
    pub vendor: VendorName,
    /// Its name among the app's credentials there.
    pub name: String,
    pub kept: KeptCredential,
}

/// Every credential of every app.
pub(crate) fn all(tx: &Tx<'_>) -> Result<Vec<Owned>, StoreError> {
    let found = tx.scan(Space::Apps, &keys::credentials(), None, Order::Forward, usize::MAX)?;
    let mut all = Vec::with_capacity(found.len());
    for (key, sealed) in found {
        let Some((app, vendor, name)) = keys::credential_owner(&key) else { continue };
        let kept = match tx.unseal(&key, sealed.clone()) {
            Ok(kept) => kept,
            Err(error) => {
                tx.note_damaged(Space::Apps, key, sealed, &error);
                continue;
            }
        };
        all.push(Owned { key, app, vendor, name, kept });
    }
    Ok(all)
}

/// Something that ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct End {
    /// Which field of the credential.
    pub what: &'static str,
    /// When, in milliseconds since 1970.
    pub at_ms: u64,
}

/// Everything of a credential that ends, soonest first.
pub(crate) fn ends(kept: &KeptCredential) -> Vec<End> {
    let certificate = match &kept.credential {
        Credential::Apns(apns) => apns.not_after_ms(),
        _ => None,
    };
    let ca = kept.credential.vendor().ca_pem().and_then(crate::vendor::apns::certificate::first_end_ms);
    let dates = [("certificate", certificate), ("expires_at_ms", kept.expires_at_ms), ("ca_pem", ca)];
    let mut ends: Vec<End> =
        dates.into_iter().filter_map(|(what, at_ms)| Some(End { what, at_ms: at_ms? })).collect();
    ends.sort_by_key(|end| end.at_ms);
    ends
}

/// What was told about a credential, so that it is told once.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Told {
    what: String,
    ends_at_ms: u64,
    is_over: bool,
}

/// Tells the app's webhooks about an end, unless it was told. Whether it is news.
fn tell(tx: &mut Tx<'_>, owned: &Owned, end: End, now_ms: u64) -> Result<bool, StoreError> {
    let told = Told { what: end.what.to_owned(), ends_at_ms: end.at_ms, is_over: end.at_ms <= now_ms };
    let key = keys::told_expiry(&owned.key);
    if tx.load::<Told>(Space::Apps, &key)?.as_ref() == Some(&told) {
        return Ok(false);
    }
    tx.save(Space::Apps, key, &told)?;
    let about = format!("{} {}", owned.vendor, owned.name);
    let data = || {
        json!({
            "vendor": owned.vendor,
            "credential": owned.name,
            "what": end.what,
            "ends_at_ms": end.at_ms,
            "is_over": told.is_over,
            "summary": owned.kept.credential.summary(),
        })
    };
    webhooks::emit(tx, &owned.app, webhooks::CREDENTIAL_EXPIRING, &about, data)?;
    Ok(true)
}

/// Looks after the dates for ever.
pub(crate) async fn run(shared: Arc<Shared>) {
    loop {
        if let Err(error) = look(&shared).await {
            tracing::error!(%error, "the credentials' dates cannot be read");
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

async fn look(shared: &Arc<Shared>) -> Result<(), StoreError> {
    let all = shared.store.read(all).await?;
    let now_ms = shared.store.now_ms();
    shared.metrics.forget_expiries();
    for owned in all {
        let Some(end) = ends(&owned.kept).first().copied() else { continue };
        let left_s =
            (i64::try_from(end.at_ms).unwrap_or(i64::MAX) - i64::try_from(now_ms).unwrap_or(0)) / 1000;
        shared.metrics.expiry(owned.app.as_str(), owned.vendor.as_str(), &owned.name, left_s);
        if end.at_ms.saturating_sub(now_ms) > shared.rules.credential_warning_ms {
            continue;
        }
        let (app, vendor, name) = (owned.app.clone(), owned.vendor, owned.name.clone());
        let is_news = shared.store.write(move |tx| tell(tx, &owned, end, now_ms)).await?;
        if is_news && left_s <= 0 {
            tracing::error!(%app, %vendor, credential = name, what = end.what, "a credential has ended: its pushes fail until it is replaced");
        } else if is_news {
            tracing::warn!(%app, %vendor, credential = name, what = end.what, days_left = left_s / 86_400, "a credential ends soon: replace it");
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Store;

    const DAY_MS: u64 = 24 * 60 * 60 * 1000;

    fn owned(expires_at_ms: Option<u64>) -> Owned {
        let app = AppId::default();
        let credential: Credential = serde_json::from_value(json!({"vendor": "record"})).unwrap();
        let kept = KeptCredential { expires_at_ms, ..KeptCredential::new(credential, 0) };
        let key = b"c0".to_vec();
        Owned { key, app, vendor: VendorName::Record, name: "default".to_owned(), kept }
    }

    #[test]
    fn the_soonest_end_comes_first() {
        let fake = reveille_fakes::FakeApns::start();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let fake = runtime.block_on(fake).unwrap();
        let credential: Credential = serde_json::from_value(fake.certificate_credential()).unwrap();
        let kept = KeptCredential { expires_at_ms: Some(1), ..KeptCredential::new(credential, 0) };
        let named: Vec<&str> = ends(&kept).iter().map(|end| end.what).collect();
        assert_eq!(named.first(), Some(&"expires_at_ms"));
        assert!(named.contains(&"certificate") && named.contains(&"ca_pem"), "{named:?}");
        assert_eq!(ends(&owned(None).kept), []);
    }

    #[tokio::test]
    async fn an_end_is_told_once_when_it_is_near_and_once_when_it_is_over() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path(), Arc::new(|| 0)).unwrap();
        let end = |at_ms| End { what: "certificate", at_ms };
        for (end, now_ms, is_news) in [
            (end(10 * DAY_MS), DAY_MS, true),
            (end(10 * DAY_MS), 2 * DAY_MS, false),
            (end(10 * DAY_MS), 10 * DAY_MS, true),
            (end(10 * DAY_MS), 11 * DAY_MS, false),
            (end(20 * DAY_MS), 11 * DAY_MS, true), // replaced by another that ends soon
        ] {
            let told = store.write(move |tx| tell(tx, &owned(None), end, now_ms)).await.unwrap();
            assert_eq!(told, is_news, "{end:?} {now_ms}");
        }
    }
}
