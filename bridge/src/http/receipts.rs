//! `POST /v1/vendors/{vendor}/receipts/{app}`: where vendors report what became of pushes. No API key: each call is
//! verified in the vendor's own way, with the app's credential.

use axum::extract::{RawQuery, State};
use axum::http::HeaderMap;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use reveille_proto::ids::AppId;
use serde_json::json;

use super::Api;
use super::body::Params;
use super::credentials::vendor;
use super::problem::{Errno, Problem};
use crate::apps::{self, KeptCredential};
use crate::receipts;
use crate::store::{StoreError, Tx};
use crate::vendor::VendorName;
use crate::vendor::receipt::{ReceiptCall, ReceiptRefused};

impl From<ReceiptRefused> for Problem {
    fn from(refused: ReceiptRefused) -> Self {
        match refused {
            // The same answer as for an app that does not exist: a stranger learns nothing of it.
            ReceiptRefused::NotExpected | ReceiptRefused::Forged => Self::new(Errno::ReceiptRefused),
            ReceiptRefused::Malformed => Self::new(Errno::ReceiptMalformed),
        }
    }
}

/// Takes what a vendor reports; durable when it is answered. Repeating it is harmless.
pub(super) async fn take(
    Params((name, app)): Params<(String, String)>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
    State(shared): State<Api>,
    body: Bytes,
) -> Result<Response, Problem> {
    let vendor = vendor(&name)?;
    let app = AppId::parse(&app).map_err(|_| Problem::new(Errno::ReceiptRefused))?;
    let kept = credential(&shared, &app, vendor).await?;
    let query = query.unwrap_or_default();
    let call = ReceiptCall { headers: &headers, body: &body, query: &query, now_ms: shared.store.now_ms() };
    let told = kept.credential.vendor().receipts(&call).inspect_err(|refused| {
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
    Ok(axum::Json(json!({"code": "0", "message": "success", "errno": 0, "errmsg": "success"}))
        .into_response())
}

/// Answers a vendor that asks whether the address is ours.
pub(super) async fn greet(
    Params((name, app)): Params<(String, String)>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
    State(shared): State<Api>,
) -> Result<String, Problem> {
    let vendor = vendor(&name)?;
    let app = AppId::parse(&app).map_err(|_| Problem::new(Errno::ReceiptRefused))?;
    let kept = credential(&shared, &app, vendor).await?;
    let query = query.unwrap_or_default();
    let call = ReceiptCall { headers: &headers, body: &[], query: &query, now_ms: shared.store.now_ms() };
    Ok(kept.credential.vendor().greeting(&call)?)
}

async fn credential(shared: &Api, app: &AppId, vendor: VendorName) -> Result<KeptCredential, Problem> {
    let app = app.clone();
    let kept = shared.store.read(move |tx| apps::credential(tx, &app, vendor)).await?;
    kept.ok_or_else(|| Problem::new(Errno::ReceiptRefused))
}
