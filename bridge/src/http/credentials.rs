//! `/v1/apps/{app}/credentials/{vendor}`: an app's credential at a vendor. Secrets go in and never come out.

use axum::extract::State;
use axum::response::IntoResponse;
use serde_json::{Map, Value, json};

use super::Api;
use super::body::{Json, Params, parse};
use super::guard::{ADMIN, Guarded};
use super::problem::{Errno, Problem};
use crate::apps::{self, KeptCredential};
use crate::store::{StoreError, Tx};
use crate::vendor::{Credential, VendorName};

pub(super) fn vendor(text: &str) -> Result<VendorName, Problem> {
    text.parse().map_err(|error: crate::vendor::UnknownVendor| {
        Problem::because(Errno::VendorUnknown, error.to_string())
    })
}

fn show_kept(kept: &KeptCredential) -> Value {
    json!({
        "vendor": kept.credential.vendor_name(),
        "summary": kept.credential.summary(),
        "updated_at_ms": kept.updated_at_ms,
    })
}

/// Sets or replaces a credential. It is used from the next push on.
pub(super) async fn set(
    Guarded { app, caller }: Guarded<ADMIN>,
    Params((_, name)): Params<(String, String)>,
    State(shared): State<Api>,
    Json(mut fields, _): Json<Map<String, Value>>,
) -> Result<impl IntoResponse, Problem> {
    let vendor = vendor(&name)?;
    let named = fields.insert("vendor".to_owned(), vendor.as_str().into());
    if named.is_some_and(|named| named != vendor.as_str()) {
        return Err(Problem::field("/vendor", "is another vendor than the path's"));
    }
    let credential: Credential = parse(&serde_json::to_vec(&fields).unwrap_or_default())?;
    credential.validate().map_err(|error| Problem::field(format!("/{}", error.field), error.problem))?;
    if let Credential::Record(record) = &credential
        && record.path.is_some()
        && !caller.is_operator()
    {
        return Err(Problem::field(
            "/path",
            "names a file of this machine, which only the operator's key may",
        ));
    }
    let (kept, replaced) = shared
        .store
        .write(move |tx: &mut Tx<'_>| {
            let replaced = apps::credential(tx, &app, vendor)?;
            let kept = KeptCredential { credential, updated_at_ms: tx.now_ms() };
            apps::save_credential(tx, &app, &kept)?;
            Ok::<_, StoreError>((kept, replaced))
        })
        .await?;
    if let Some(replaced) = replaced {
        shared.sender.forget(&replaced.credential);
    }
    Ok(axum::Json(show_kept(&kept)))
}

/// What may be shown of a credential.
pub(super) async fn show(
    Guarded { app, .. }: Guarded<ADMIN>,
    Params((_, name)): Params<(String, String)>,
    State(shared): State<Api>,
) -> Result<impl IntoResponse, Problem> {
    let vendor = vendor(&name)?;
    let kept = shared.store.read(move |tx| apps::credential(tx, &app, vendor)).await?;
    kept.map(|kept| axum::Json(show_kept(&kept))).ok_or_else(|| Problem::new(Errno::CredentialUnknown))
}
