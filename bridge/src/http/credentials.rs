//! `/v1/apps/{app}/credentials/{vendor}`: an app's credential at a vendor. Secrets go in and never come out.

use std::sync::Arc;

use axum::extract::State;
use axum::response::IntoResponse;
use reveille_proto::ids::MessageId;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::Api;
use super::body::{Json, Params, parse};
use super::guard::{ADMIN, Guarded};
use super::problem::{Errno, Problem};
use crate::apps::{self, KeptCredential};
use crate::limiter::Rates;
use crate::sender::CredentialKey;
use crate::store::{StoreError, Tx};
use crate::vendor::{Credential, DeviceToken, Push, VendorName};

pub(super) fn vendor(text: &str) -> Result<VendorName, Problem> {
    text.parse().map_err(|error: crate::vendor::UnknownVendor| {
        Problem::because(Errno::VendorUnknown, error.to_string())
    })
}

fn show_kept(kept: &KeptCredential) -> Value {
    json!({
        "vendor": kept.credential.vendor_name(),
        "summary": kept.credential.summary(),
        "rates": kept.rates.or_usual(kept.credential.vendor_name()),
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
    let rates = fields.remove("rates").map(|rates| parse::<Rates>(rates.to_string().as_bytes()));
    let rates = rates.transpose().map_err(|problem| problem.below("/rates"))?.unwrap_or_default();
    if rates.per_second == Some(0) {
        return Err(Problem::field("/rates/per_second", "is at least 1"));
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
            let kept = KeptCredential { credential, rates, updated_at_ms: tx.now_ms() };
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

/// Every credential of an app.
pub(super) async fn list(
    Guarded { app, .. }: Guarded<ADMIN>,
    State(shared): State<Api>,
) -> Result<impl IntoResponse, Problem> {
    let kept = shared.store.read(move |tx| apps::credentials(tx, &app)).await?;
    Ok(axum::Json(json!({"items": kept.iter().map(show_kept).collect::<Vec<_>>()})))
}

/// Removes a credential. Pushes that wait for it are told at their turn that there is none.
pub(super) async fn remove(
    Guarded { app, .. }: Guarded<ADMIN>,
    Params((_, name)): Params<(String, String)>,
    State(shared): State<Api>,
) -> Result<impl IntoResponse, Problem> {
    let vendor = vendor(&name)?;
    let removed = shared
        .store
        .write(move |tx: &mut Tx<'_>| {
            let removed = apps::credential(tx, &app, vendor)?;
            apps::remove_credential(tx, &app, vendor);
            Ok::<_, StoreError>(removed)
        })
        .await?;
    let removed = removed.ok_or_else(|| Problem::new(Errno::CredentialUnknown))?;
    shared.sender.forget(&removed.credential);
    Ok(axum::http::StatusCode::NO_CONTENT)
}

/// A trial: where to.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Trial {
    token: DeviceToken,
    title: Option<String>,
}

/// `POST …/credentials/{vendor}:test`: sends one alert to a device token, past every queue and rate, and says what the
/// vendor answered.
pub(super) async fn act(
    Guarded { app, .. }: Guarded<ADMIN>,
    Params((_, name)): Params<(String, String)>,
    State(shared): State<Api>,
    Json(trial, _): Json<Trial>,
) -> Result<impl IntoResponse, Problem> {
    let vendor = vendor(name.strip_suffix(":test").ok_or_else(|| Problem::new(Errno::MethodNotAllowed))?)?;
    let wanted = app.clone();
    let kept = shared.store.read(move |tx| apps::credential(tx, &wanted, vendor)).await?;
    let kept = kept.ok_or_else(|| Problem::new(Errno::CredentialUnknown))?;
    let id = MessageId(*uuid::Uuid::now_v7().as_bytes());
    let title = trial.title.unwrap_or_else(|| "Reveille".to_owned());
    let push =
        Push { title: Some(title), body: Some("test".to_owned()), ..Push::new(id, app.clone(), trial.token) };
    let sent = shared.sender.send(&CredentialKey { app, vendor }, &Arc::new(kept.credential), &push).await;
    Ok(axum::Json(json!({
        "verdict": sent.verdict.name(),
        "reason": sent.verdict.reason(),
        "answered": sent.was_answered,
        "took_ms": u64::try_from(sent.took.as_millis()).unwrap_or(u64::MAX),
    })))
}
