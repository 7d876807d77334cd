//! `POST /v1/vendors/{vendor}/receipts/{app}`: where vendors report what became of pushes. No API key: each call is
//! verified in the vendor's own way, with the app's credential.

use axum::extract::{Query, State};
use axum::http::HeaderMap;
use axum::response::IntoResponse;
use bytes::Bytes;
use reveille_proto::ids::AppId;
use serde::Deserialize;
use serde_json::json;

use super::Api;
use super::body::Params;
use super::credentials::vendor;
use super::problem::{Errno, Problem};
use crate::apps;
use crate::receipts;
use crate::store::{StoreError, Tx};
use crate::vendor::receipt::{ReceiptCall, ReceiptRefused};

/// The part of the address that proves a vendor which does not sign. Vendors may add parameters of their own.
#[derive(Deserialize)]
pub(super) struct Address {
    secret: Option<String>,
}

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
    Query(address): Query<Address>,
    headers: HeaderMap,
    State(shared): State<Api>,
    body: Bytes,
) -> Result<impl IntoResponse, Problem> {
    let vendor = vendor(&name)?;
    let app = AppId::parse(&app).map_err(|_| Problem::new(Errno::ReceiptRefused))?;
    let wanted = app.clone();
    let kept = shared.store.read(move |tx| apps::credential(tx, &wanted, vendor)).await?;
    let kept = kept.ok_or_else(|| Problem::new(Errno::ReceiptRefused))?;
    let call = ReceiptCall {
        headers: &headers,
        body: &body,
        secret: address.secret.as_deref(),
        now_ms: shared.store.now_ms(),
    };
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
    // Each vendor looks for another one of these.
    Ok(axum::Json(json!({"code": "0", "message": "success", "errno": 0, "errmsg": "success"})))
}
