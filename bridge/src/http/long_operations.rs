//! `/v1/operations/{operation}`: how far something is that takes longer than a request.

use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use reveille_proto::ids::AppId;

use super::Api;
use super::body::Params;
use super::guard::Known;
use super::idempotency::Done;
use super::problem::{Errno, Problem};
use crate::apps::Access;
use crate::operations::{self, Kind, Operation};

/// The answer to a request that began an operation, now or when it was made first: 202, and where to ask for it.
pub(super) fn accepted(operation: Done<Operation>) -> Response {
    let (Done::Now(begun) | Done::Before(begun)) = &operation;
    let location = [(header::LOCATION, format!("/v1/operations/{}", begun.id))];
    (location, operation.answer(StatusCode::ACCEPTED)).into_response()
}

/// A long operation. It goes on after a restart, and is shown for a week after its end.
#[utoipa::path(
    get,
    path = "/v1/operations/{operation}",
    tag = "operations",
    responses((status = 200, description = "The operation", body = Operation)),
)]
pub(super) async fn show(
    Known(caller): Known,
    Params(id): Params<String>,
    State(shared): State<Api>,
) -> Result<axum::Json<Operation>, Problem> {
    let operation = shared.store.read(move |tx| operations::load(tx, &id)).await?;
    let may_see = |operation: &Operation| {
        // Whoever may write devices uploads them.
        let is_own = |app: AppId| operation.kind == Kind::Import && caller.may(&app, Access::Send);
        AppId::parse(&operation.app).is_ok_and(|app| caller.may(&app, Access::Read) || is_own(app))
    };
    // Whoever may not see it is not told that it exists.
    operation.filter(may_see).map(axum::Json).ok_or_else(|| Problem::new(Errno::OperationUnknown))
}
