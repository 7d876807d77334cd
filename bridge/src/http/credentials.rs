//! `/v1/apps/{app}/credentials/{vendor}` and `…/{vendor}/{name}`: an app's credentials at a vendor. Secrets go in and
//! never come out.

use std::sync::Arc;

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use reveille_proto::ids::MessageId;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use utoipa::ToSchema;

use super::Api;
use super::body::{Json, Params, parse};
use super::etag::{self, IfMatch};
use super::guard::{ADMIN, Guarded};
use super::idempotency::{IdempotencyHeader, Once};
use super::paging::{Listed, Page, PageQuery};
use super::problem::{Errno, Problem};
use crate::credentials::{self, KeptCredential};
use crate::expiry;
use crate::lane::CredentialName;
use crate::limiter::Rates;
use crate::sender::CredentialKey;
use crate::store::Tx;
use crate::vendor::{Credential, DeviceToken, Push, VendorName};

pub(super) fn vendor(text: &str) -> Result<VendorName, Problem> {
    text.parse().map_err(|error: crate::vendor::UnknownVendor| {
        Problem::because(Errno::VendorUnknown, error.to_string())
    })
}

/// What may be shown of a credential.
#[derive(Serialize, ToSchema)]
#[schema(as = Credential)]
pub(super) struct CredentialView {
    vendor: VendorName,
    #[schema(value_type = String)]
    name: CredentialName,
    /// Which account it is of, without its secrets.
    summary: String,
    /// What bounds its pushes: its own, else the vendor's usual.
    rates: Rates,
    updated_at_ms: u64,
    /// When it ends, where that is known.
    #[schema(required)]
    ends_at_ms: Option<u64>,
}

impl From<(CredentialName, KeptCredential)> for CredentialView {
    fn from((name, kept): (CredentialName, KeptCredential)) -> Self {
        let vendor = kept.credential.vendor_name();
        Self {
            vendor,
            name,
            summary: kept.credential.summary(),
            rates: kept.rates.or_usual(vendor),
            updated_at_ms: kept.updated_at_ms,
            ends_at_ms: expiry::ends(&kept).first().map(|end| end.at_ms),
        }
    }
}

/// What stands for a credential and its secrets in an ETag.
fn tag(kept: &KeptCredential) -> (u64, String) {
    (kept.updated_at_ms, kept.credential.summary())
}

/// The vendor and name of a credential in a path. Without a name it is the usual one.
#[derive(Deserialize)]
pub(super) struct Which {
    vendor: String,
    name: Option<String>,
}

impl Which {
    fn parse(self) -> Result<(VendorName, CredentialName), Problem> {
        let vendor = vendor(&self.vendor)?;
        let name = self.name.map_or(Ok(CredentialName::default()), |name| CredentialName::parse(&name));
        name.map(|name| (vendor, name))
            .map_err(|error| Problem::because(Errno::CredentialUnknown, error.to_string()))
    }

    /// What is to be done with the credential: the path ends with it, after a colon.
    fn split_action(mut self) -> Result<(Self, String), Problem> {
        let last = self.name.as_mut().unwrap_or(&mut self.vendor);
        let Some((rest, action)) =
            last.split_once(':').map(|(rest, action)| (rest.to_owned(), action.to_owned()))
        else {
            return Err(Problem::new(Errno::MethodNotAllowed));
        };
        *last = rest;
        Ok((self, action))
    }
}

/// Sets or replaces a credential. It is used from the next push on.
#[utoipa::path(
    put,
    path = "/v1/apps/{app}/credentials/{vendor}",
    tag = "credentials",
    request_body = Object,
    responses((status = 200, description = "What may be shown of it", body = CredentialView)),
)]
pub(super) async fn set(
    Guarded { app, caller }: Guarded<ADMIN>,
    Params(which): Params<Which>,
    headers: HeaderMap,
    State(shared): State<Api>,
    Json(mut fields, _): Json<Map<String, Value>>,
) -> Result<impl IntoResponse, Problem> {
    let (vendor, name) = which.parse()?;
    let named = fields.insert("vendor".to_owned(), vendor.as_str().into());
    if named.is_some_and(|named| named != vendor.as_str()) {
        return Err(Problem::field("/vendor", "is another vendor than the path's"));
    }
    let rates = fields.remove("rates").map(|rates| parse::<Rates>(rates.to_string().as_bytes()));
    let rates = rates.transpose().map_err(|problem| problem.below("/rates"))?.unwrap_or_default();
    check_rates(&rates)?;
    let expires = fields.remove("expires_at_ms").map(|at_ms| parse::<u64>(at_ms.to_string().as_bytes()));
    let expires_at_ms = expires.transpose().map_err(|problem| problem.below("/expires_at_ms"))?;
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
    let if_match = IfMatch::of(&headers);
    let (kept, replaced) = shared
        .store
        .write(move |tx: &mut Tx<'_>| {
            let replaced = credentials::load(tx, &app, vendor, &name)?;
            if_match.check(replaced.as_ref().map(tag).as_ref())?;
            let kept =
                KeptCredential { rates, expires_at_ms, ..KeptCredential::new(credential, tx.now_ms()) };
            if !credentials::save(tx, &app, &name, &kept)? {
                return Err(Problem::new(Errno::TooManyCredentials));
            }
            Ok(((name, kept), replaced))
        })
        .await?;
    if let Some(replaced) = replaced {
        shared.sender.forget(&replaced.credential);
    }
    Ok((etag::header(&tag(&kept.1)), axum::Json(CredentialView::from(kept))))
}

fn check_rates(rates: &Rates) -> Result<(), Problem> {
    for (pointer, per_second) in [
        ("/rates/per_second", rates.per_second),
        ("/rates/service/per_second", rates.service.per_second),
        ("/rates/marketing/per_second", rates.marketing.per_second),
    ] {
        if per_second == Some(0) {
            return Err(Problem::field(pointer, "is at least 1"));
        }
    }
    Ok(())
}

/// What may be shown of a credential.
#[utoipa::path(
    get,
    path = "/v1/apps/{app}/credentials/{vendor}",
    tag = "credentials",
    responses((status = 200, description = "What may be shown of it", body = CredentialView)),
)]
pub(super) async fn show(
    Guarded { app, .. }: Guarded<ADMIN>,
    Params(which): Params<Which>,
    State(shared): State<Api>,
) -> Result<impl IntoResponse, Problem> {
    let (vendor, name) = which.parse()?;
    let wanted = name.clone();
    let kept = shared.store.read(move |tx| credentials::load(tx, &app, vendor, &wanted)).await?;
    let kept = kept.ok_or_else(|| Problem::new(Errno::CredentialUnknown))?;
    Ok((etag::header(&tag(&kept)), axum::Json(CredentialView::from((name, kept)))))
}

/// Every credential of an app.
#[utoipa::path(
    get,
    path = "/v1/apps/{app}/credentials",
    tag = "credentials",
    params(PageQuery),
    responses((status = 200, description = "One page", body = Listed<CredentialView>)),
)]
pub(super) async fn list(
    Guarded { app, .. }: Guarded<ADMIN>,
    page: Page,
    State(shared): State<Api>,
) -> Result<axum::Json<Listed<CredentialView>>, Problem> {
    let kept = shared.store.read(move |tx| credentials::list(tx, &app)).await?;
    let cursor =
        |(name, kept): &(CredentialName, KeptCredential)| format!("{}/{name}", kept.credential.vendor_name());
    Ok(page.cut(&kept, cursor)?.show(CredentialView::from))
}

/// Removes a credential. Pushes that wait for it are told at their turn that there is none.
#[utoipa::path(
    delete,
    path = "/v1/apps/{app}/credentials/{vendor}",
    tag = "credentials",
    responses((status = 204, description = "Done")),
)]
pub(super) async fn remove(
    Guarded { app, .. }: Guarded<ADMIN>,
    Params(which): Params<Which>,
    State(shared): State<Api>,
) -> Result<impl IntoResponse, Problem> {
    let (vendor, name) = which.parse()?;
    let removed = shared.store.write(move |tx| credentials::remove(tx, &app, vendor, &name)).await?;
    let removed = removed.ok_or_else(|| Problem::new(Errno::CredentialUnknown))?;
    shared.sender.forget(&removed.credential);
    Ok(StatusCode::NO_CONTENT)
}

/// A trial: where to.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Trial {
    #[schema(value_type = String)]
    token: DeviceToken,
    title: Option<String>,
}

/// What the vendor answered to a trial.
#[derive(Serialize, Deserialize, ToSchema)]
pub(super) struct Tried {
    /// Our reading of it, such as `accepted` or `token_dead`.
    verdict: String,
    /// The vendor's words.
    reason: String,
    /// Whether it answered at all.
    answered: bool,
    took_ms: u64,
}

/// `POST …/credentials/{vendor}:test` and `…/{vendor}/{name}:test`: sends one alert to a device token, past every queue and rate, and says what the
/// vendor answered.
#[utoipa::path(
    post,
    path = "/v1/apps/{app}/credentials/{vendor}",
    tag = "credentials",
    params(IdempotencyHeader),
    request_body = Trial,
    responses((status = 200, description = "What the vendor answered", body = Tried)),
)]
pub(super) async fn act(
    Guarded { app, caller }: Guarded<ADMIN>,
    Params(which): Params<Which>,
    State(shared): State<Api>,
    headers: HeaderMap,
    Json(trial, bytes): Json<Trial>,
) -> Result<Response, Problem> {
    let (which, action) = which.split_action()?;
    if action != "test" {
        return Err(Problem::new(Errno::MethodNotAllowed));
    }
    let (vendor, name) = which.parse()?;
    let to = [format!("{vendor} {name}\n").as_bytes(), &bytes].concat();
    let once = Once::making("credential-tests", &app, &caller.key_id, &headers, &to)?;
    let wanted = app.clone();
    let kept = shared.store.read(move |tx| credentials::load(tx, &wanted, vendor, &name)).await?;
    let kept = kept.ok_or_else(|| Problem::new(Errno::CredentialUnknown))?;
    let id = MessageId(*uuid::Uuid::now_v7().as_bytes());
    let title = trial.title.unwrap_or_else(|| "Reveille".to_owned());
    let push =
        Push { title: Some(title), body: Some("test".to_owned()), ..Push::new(id, app.clone(), trial.token) };
    let (for_send, credential) = (shared.clone(), Arc::new(kept.credential));
    let work = async move {
        let sent = for_send.sender.send(&CredentialKey { app, vendor }, &credential, &push).await;
        Ok(Tried {
            verdict: sent.verdict.name().to_owned(),
            reason: sent.verdict.reason().to_owned(),
            answered: sent.was_answered,
            took_ms: u64::try_from(sent.took.as_millis()).unwrap_or(u64::MAX),
        })
    };
    Ok(once.run_outside(&shared, work).await?.answer(StatusCode::OK))
}
