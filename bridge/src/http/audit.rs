//! `/v1/audit`: who changed what; the whole log as a file; whether it is still what it was.

use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderValue, header};
use axum::response::Response;
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;
use utoipa::{IntoParams, ToSchema};

use super::Api;
use super::body::Asked;
use super::guard::{Known, Operator};
use super::paging::{Page, Place};
use super::problem::{Errno, Problem};
use crate::apps::{Access, hex};
use crate::audit::{self, Broken, Filter, Kept, Record};
use crate::events::reader::Frames;
use crate::store::Store;

/// Which records.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct AuditQuery {
    /// About this app only.
    app: Option<String>,
    /// Of this key (its public half) or person (`@name`) only.
    actor: Option<String>,
    /// Not before this moment, in milliseconds since 1970.
    from: Option<u64>,
    /// Before this moment, in milliseconds since 1970.
    to: Option<u64>,
    /// The cursor that the page before gave.
    after: Option<String>,
    /// Entries at most.
    #[param(minimum = 1, maximum = 1000, default = 100)]
    limit: Option<usize>,
}

/// A page of records.
#[derive(Serialize, ToSchema)]
pub(super) struct AuditPage {
    items: Vec<Record>,
    page: AuditNext,
}

/// How to go on.
#[derive(Serialize, ToSchema)]
pub(super) struct AuditNext {
    /// The cursor of the next page; `null`: there is none.
    next: Option<String>,
    limit: usize,
}

/// Records, newest first; with an app's key those about the app. A page looks at 10,000 records at most, so it may have
/// few or none and a next one all the same.
#[utoipa::path(
    get,
    path = "/v1/audit",
    tag = "audit",
    params(AuditQuery),
    responses((status = 200, description = "One page", body = AuditPage)),
)]
pub(super) async fn list(
    Known(caller): Known,
    Asked(query): Asked<AuditQuery>,
    State(shared): State<Api>,
) -> Result<Json<AuditPage>, Problem> {
    if !caller.has(Access::Admin) {
        return Err(Problem::new(Errno::KeyForbidden));
    }
    let only = caller.app().map(|app| app.as_str().to_owned());
    if only.is_some() && query.app.is_some() && query.app != only {
        return Err(Problem::new(Errno::KeyForbidden));
    }
    let Page { place, limit } = Page::new(query.after, None, query.limit)?;
    let before = match place {
        Place::After(cursor) => Some(cursor.parse::<u64>().map_err(|_| Problem::new(Errno::InvalidCursor))?),
        Place::Beginning | Place::Before(_) => None,
    };
    let filter = Filter { app: only.or(query.app), actor: query.actor, from_ms: query.from, to_ms: query.to };
    let (items, next) = shared.store.read(move |tx| audit::list(tx, &filter, before, limit)).await?;
    Ok(Json(AuditPage { items, page: AuditNext { next: next.map(|next| next.to_string()), limit } }))
}

/// The whole log, oldest first, a JSON object a line: `prev` and `hash` in hexadecimal, and the `record` as it was hashed.
#[utoipa::path(
    get,
    path = "/v1/audit/export",
    tag = "audit",
    responses((status = 200, description = "A record a line", body = String, content_type = "application/x-ndjson")),
)]
pub(super) async fn export(_: Operator, State(shared): State<Api>) -> Response {
    file(shared.store.clone())
}

/// The answer with the whole log, made while it is read.
pub(crate) fn file(store: Store) -> Response {
    let (out, frames) = mpsc::channel(1);
    tokio::spawn(write_all(store, out));
    let mut answer = Response::new(Body::new(Frames::new(frames)));
    let headers = answer.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/x-ndjson"));
    headers.insert(
        header::CONTENT_DISPOSITION,
        HeaderValue::from_static("attachment; filename=\"audit.ndjson\""),
    );
    answer
}

/// Chunk after chunk, as fast as the reader takes them; ends with the reader.
async fn write_all(store: Store, out: mpsc::Sender<Bytes>) {
    let mut last = 0;
    loop {
        let found = match store.read(move |tx| audit::after(tx, last)).await {
            Ok(found) => found,
            Err(error) => return tracing::error!(%error, "the audit log cannot be read"),
        };
        let Some(newest) = found.last() else { return };
        last = newest.seq;
        let text: String = found.iter().map(line).collect();
        if out.send(text.into()).await.is_err() {
            return;
        }
    }
}

fn line(kept: &Kept) -> String {
    // As it was hashed: written anew it might be other bytes.
    let record = String::from_utf8_lossy(&kept.json);
    format!("{{\"prev\":\"{}\",\"hash\":\"{}\",\"record\":{record}}}\n", hex(&kept.prev), hex(&kept.hash))
}

/// Whether the log is what it was.
#[derive(Serialize, ToSchema)]
pub(super) struct AuditVerdict {
    is_whole: bool,
    /// Records that are what they were.
    records: u64,
    /// The number of the first that is kept.
    first_seq: u64,
    /// The number of the newest.
    head_seq: u64,
    /// The newest record's hash: kept elsewhere, it shows later that nothing before it was changed.
    head_hash: String,
    /// The first record that is not what it was.
    broken: Option<Broken>,
}

/// Looks at every record of the log and at its chain.
#[utoipa::path(
    get,
    path = "/v1/audit/verify",
    tag = "audit",
    responses((status = 200, description = "Whether it is whole", body = AuditVerdict)),
)]
pub(super) async fn verify(_: Operator, State(shared): State<Api>) -> Result<Json<AuditVerdict>, Problem> {
    let found = shared.store.read(audit::verify).await?;
    Ok(Json(AuditVerdict {
        is_whole: found.broken.is_none(),
        records: found.records,
        first_seq: found.first_seq,
        head_seq: found.head_seq,
        head_hash: hex(&found.head_hash),
        broken: found.broken,
    }))
}
