//! `POST /v1/vendors/{vendor}/receipts/{app}`: where vendors report what became of pushes. No API key: each call is
//! verified in the vendor's own way, with the app's credential.

use axum::extract::{RawQuery, State};
use axum::http::HeaderMap;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use reveille_proto::ids::AppId;
use serde::Serialize;
use utoipa::ToSchema;

use super::Api;
use super::body::Params;
use super::credentials::vendor;
use super::problem::{Errno, Problem};
use crate::credentials::{self, KeptCredential};
use crate::lane::CredentialName;
use crate::receipts;
use crate::store::{StoreError, Tx};
use crate::vendor::receipt::{ReceiptCall, ReceiptRefused};
use crate::vendor::{Vendor, VendorName};

impl From<ReceiptRefused> for Problem {
    fn from(refused: ReceiptRefused) -> Self {
        match refused {
            // The same answer as for an app that does not exist: a stranger learns nothing of it.
            ReceiptRefused::NotExpected | ReceiptRefused::Forged => Self::new(Errno::ReceiptRefused),
            ReceiptRefused::Malformed => Self::new(Errno::ReceiptMalformed),
        }
    }
}

/// What vendors want to read; each looks at a field of its own.
#[derive(Serialize, ToSchema)]
pub(super) struct Heard {
    code: &'static str,
    message: &'static str,
    errno: u16,
    errmsg: &'static str,
}

/// Takes what a vendor reports; durable when it is answered. Repeating it is harmless.
#[utoipa::path(
    post,
    path = "/v1/vendors/{vendor}/receipts/{app}",
    tag = "vendors",
    request_body = String,
    responses((status = 200, description = "Taken", content((Heard = "application/json"), (String = "text/plain")))),
)]
pub(super) async fn take(
    Params((name, app)): Params<(String, String)>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
    State(shared): State<Api>,
    body: Bytes,
) -> Result<Response, Problem> {
    let vendor = vendor(&name)?;
    let app = AppId::parse(&app).map_err(|_| Problem::new(Errno::ReceiptRefused))?;
    let kept = kept(&shared, &app, vendor).await?;
    let query = query.unwrap_or_default();
    let call = ReceiptCall { headers: &headers, body: &body, query: &query, now_ms: shared.store.now_ms() };
    let told = first_that_knows(&kept, |vendor| vendor.receipts(&call)).inspect_err(|refused| {
        tracing::warn!(%app, %vendor, %refused, "a vendor's receipt was refused");
    })?;
    let taken = shared
        .store
        .write(move |tx: &mut Tx<'_>| {
            told.iter()
                .map(|receipt| receipts::take(tx, &app, vendor, receipt))
                .collect::<Result<Vec<_>, StoreError>>()
        })
        .await?;
    for taken in taken {
        shared.metrics.receipt(vendor.as_str(), taken.name());
    }
    if vendor == VendorName::Wechat {
        return Ok("success".into_response()); // every other word is shown to the user as an answer
    }
    // Each vendor looks for another one of these.
    Ok(axum::Json(Heard { code: "0", message: "success", errno: 0, errmsg: "success" }).into_response())
}

/// Answers a vendor that asks whether the address is ours.
#[utoipa::path(
    get,
    path = "/v1/vendors/{vendor}/receipts/{app}",
    tag = "vendors",
    responses((status = 200, description = "What the vendor wants to hear", body = String)),
)]
pub(super) async fn greet(
    Params((name, app)): Params<(String, String)>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
    State(shared): State<Api>,
) -> Result<String, Problem> {
    let vendor = vendor(&name)?;
    let app = AppId::parse(&app).map_err(|_| Problem::new(Errno::ReceiptRefused))?;
    let kept = kept(&shared, &app, vendor).await?;
    let query = query.unwrap_or_default();
    let call = ReceiptCall { headers: &headers, body: &[], query: &query, now_ms: shared.store.now_ms() };
    Ok(first_that_knows(&kept, |vendor| vendor.greeting(&call))?)
}

type Kept = Vec<(CredentialName, KeptCredential)>;

async fn kept(shared: &Api, app: &AppId, vendor: VendorName) -> Result<Kept, Problem> {
    let app = app.clone();
    Ok(shared.store.read(move |tx| credentials::at_vendor(tx, &app, vendor)).await?)
}

/// A vendor signs with the key of one of the app's credentials and does not say of which: the first that knows the
/// signature reads it.
fn first_that_knows<T>(
    kept: &Kept,
    read: impl Fn(&dyn Vendor) -> Result<T, ReceiptRefused>,
) -> Result<T, ReceiptRefused> {
    let mut refused = ReceiptRefused::NotExpected;
    for (_, kept) in kept {
        match read(kept.credential.vendor()) {
            Err(ReceiptRefused::NotExpected) => {}
            Err(ReceiptRefused::Forged) => refused = ReceiptRefused::Forged,
            read @ (Ok(_) | Err(ReceiptRefused::Malformed)) => return read,
        }
    }
    Err(refused)
}
