//! `POST /compat/jpush/v3/push` with JPush's answers.

use axum::body::Bytes;
use axum::extract::rejection::{BytesRejection, QueryRejection};
use axum::extract::{Query, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use reveille_proto::ids::{AppId, MessageId};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::{IntoParams, ToSchema};

use super::{Guest, id_and_estimate, read};
use crate::compat::jpush::{Push, WITHOUT_EFFECT};
use crate::compat::{Refused, Translated};
use crate::http::Api;
use crate::http::messages::recall;
use crate::http::problem::{Errno, Problem};
use crate::messages::{self, Extent};
use crate::store::{StoreError, Tx};

/// Names of requests in one call at most.
const CIDS_MAX: usize = 1000;

/// What JPush answers.
#[derive(Serialize, ToSchema)]
#[schema(as = JpushAccepted)]
pub(in crate::http) struct Accepted {
    /// As it was given; else 0.
    sendno: String,
    /// The message's number: a whole number of at most 53 bits until the year 2039.
    msg_id: String,
}

/// What JPush answers when it does not.
#[derive(Serialize, ToSchema)]
#[schema(as = JpushRefused)]
pub(in crate::http) struct Failure {
    error: Error,
}

#[derive(Serialize, ToSchema)]
#[schema(as = JpushError)]
struct Error {
    /// 1002, 1003, 1004, 1005, 1011, 1030, 2002 or 2004.
    code: u16,
    message: String,
}

/// Names for requests.
#[derive(Serialize, ToSchema)]
#[schema(as = JpushCids)]
pub(in crate::http) struct Cids {
    cidlist: Vec<String>,
}

/// Why a push is not taken.
enum Refusal {
    Problem(Problem),
    Missing(String),
    NoTarget,
    NothingToReplace,
}

impl<E: Into<Problem>> From<E> for Refusal {
    fn from(error: E) -> Self {
        Self::Problem(error.into())
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let (status, code, message) = match self {
            Self::Missing(message) => (400, 1002, message),
            Self::NoTarget => (400, 1011, "cannot find user by this audience".to_owned()),
            Self::NothingToReplace => {
                (400, 1003, "options.override_msg_id is no message of this app, or is over".to_owned())
            }
            Self::Problem(problem) => {
                let (status, code) = code(problem.errno());
                (status, code, problem.words())
            }
        };
        let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        (status, axum::Json(Failure { error: Error { code, message } })).into_response()
    }
}

/// The HTTP status and JPush's number.
fn code(errno: Errno) -> (u16, u16) {
    match errno {
        Errno::KeyMissing | Errno::KeyWrong | Errno::AppUnknown => (401, 1004),
        Errno::KeyForbidden => (403, 2004),
        Errno::TooManyWrongKeys => (429, 2002),
        Errno::BodyTooLarge => (400, 1005),
        errno if errno.status() == 429 => (429, 2002),
        errno if errno.status() >= 500 => (503, 1030),
        _ => (400, 1003),
    }
}

/// Sends a push in JPush's words.
#[utoipa::path(
    post,
    path = "/compat/jpush/v3/push",
    tag = "compat",
    request_body = Push,
    responses(
        (status = 200, description = "Accepted and durable", body = Accepted),
        (status = "default", description = "Why not, in JPush's form", body = Failure),
    ),
)]
pub(in crate::http) async fn push(
    State(shared): State<Api>,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Response {
    accept(&shared, &headers, body, false)
        .await
        .map_or_else(IntoResponse::into_response, IntoResponse::into_response)
}

/// Checks a push in JPush's words, and sends nothing.
#[utoipa::path(
    post,
    path = "/compat/jpush/v3/push/validate",
    tag = "compat",
    request_body = Push,
    responses(
        (status = 200, description = "It would be accepted", body = Accepted),
        (status = "default", description = "Why not, in JPush's form", body = Failure),
    ),
)]
pub(in crate::http) async fn validate(
    State(shared): State<Api>,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Response {
    accept(&shared, &headers, body, true)
        .await
        .map_or_else(IntoResponse::into_response, IntoResponse::into_response)
}

async fn accept(
    shared: &Api,
    headers: &HeaderMap,
    body: Result<Bytes, BytesRejection>,
    is_dry: bool,
) -> Result<axum::Json<Accepted>, Refusal> {
    let guest = Guest::of(headers, shared).await?;
    let push: Push = read(body, WITHOUT_EFFECT)?;
    let send = push.translate().map_err(|refused| match refused {
        Refused::Missing(_) => Refusal::Missing(refused.to_string()),
        Refused::Wrong { .. } => Refusal::from(refused),
    })?;
    let (mut translated, sendno) = (send.translated, send.sendno.to_string());
    let old = match send.replaces {
        Some(number) => Some(replace(shared, &guest.app, number, &mut translated).await?),
        None => None,
    };
    if is_dry {
        if let Value::Object(fields) = &mut translated.body {
            fields.insert("dry_run".to_owned(), true.into());
        }
        guest.send(shared, translated).await?;
        return Ok(axum::Json(Accepted { sendno, msg_id: "0".to_owned() }));
    }
    let (id, estimate) = id_and_estimate(guest.send(shared, translated).await?);
    // After the new one is durable, and again when the call is repeated: a crash in between loses neither.
    if let Some(old) = old {
        let app = guest.app.clone();
        shared.store.write(move |tx| recall(tx, &app, old, Extent::Unreached)).await?;
    }
    match MessageId::parse(&id) {
        Ok(id) if estimate > 0 => Ok(axum::Json(Accepted { sendno, msg_id: number(id).to_string() })),
        _ => Err(Refusal::NoTarget),
    }
}

/// Lets a new message take the place of an old one on screens too: vendors and devices go by the collapse key, and without
/// one by the message's id.
async fn replace(
    shared: &Api,
    app: &AppId,
    number: u64,
    translated: &mut Translated,
) -> Result<MessageId, Refusal> {
    let wanted = app.clone();
    let old = shared.store.read(move |tx| find(tx, &wanted, number)).await.map_err(Problem::from)?;
    let old = old.ok_or(Refusal::NothingToReplace)?;
    let key = old.collapse_key.unwrap_or_else(|| old.id.to_string());
    if let Some(body) = translated.body.as_object_mut() {
        let delivery = body.entry("delivery").or_insert_with(|| serde_json::json!({}));
        if let Some(delivery) = delivery.as_object_mut() {
            delivery.insert("collapse_key".to_owned(), key.into());
        }
    }
    Ok(old.id)
}

/// The number of a message: the 48 bits of its moment and the 12 that follow the version in a UUID of version 7. Client
/// libraries read `msg_id` as a whole number.
fn number(id: MessageId) -> u64 {
    let bits = u128::from_be_bytes(id.0) >> 64;
    u64::try_from(((bits >> 16) << 12) | (bits & 0xfff)).unwrap_or(0) // 60 bits
}

/// The one message with this number; none where two have it.
fn find(tx: &Tx<'_>, app: &AppId, number: u64) -> Result<Option<messages::Message>, StoreError> {
    let bits = ((u128::from(number) >> 12) << 16) | 0x7000 | (u128::from(number) & 0xfff);
    let last = MessageId(((bits << 64) | u128::from(u64::MAX)).to_be_bytes());
    let mut found = messages::list_from(tx, app, last, 2)?;
    found.retain(|message| self::number(message.id) == number);
    Ok(found.pop().filter(|_| found.is_empty()))
}

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(in crate::http) struct CidQuery {
    /// How many.
    #[param(minimum = 1, maximum = 1000, default = 1)]
    count: Option<usize>,
    /// `push`.
    #[serde(rename = "type")]
    kind: Option<String>,
}

/// Names for requests. Any text of up to 255 bytes is one too.
#[utoipa::path(
    get,
    path = "/compat/jpush/v3/push/cid",
    tag = "compat",
    params(CidQuery),
    responses(
        (status = 200, description = "The names", body = Cids),
        (status = "default", description = "Why not, in JPush's form", body = Failure),
    ),
)]
pub(in crate::http) async fn cids(
    State(shared): State<Api>,
    headers: HeaderMap,
    query: Result<Query<CidQuery>, QueryRejection>,
) -> Result<axum::Json<Cids>, Response> {
    let guest =
        Guest::of(&headers, &shared).await.map_err(|problem| Refusal::Problem(problem).into_response())?;
    let wrong = || {
        let problem = Problem::because(Errno::InvalidQuery, "count is 1 to 1000, and type is push");
        Refusal::Problem(problem).into_response()
    };
    let Query(query) = query.map_err(|_| wrong())?;
    let count = query.count.unwrap_or(1);
    if !(1..=CIDS_MAX).contains(&count) || query.kind.is_some_and(|kind| kind != "push") {
        return Err(wrong());
    }
    let name = || format!("{}-{}", guest.caller.key_id, uuid::Uuid::now_v7());
    Ok(axum::Json(Cids { cidlist: std::iter::repeat_with(name).take(count).collect() }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::messages::{Message, new_id};
    use crate::store::Store;
    use std::sync::Arc;

    #[tokio::test]
    async fn a_message_is_found_by_its_number_and_by_no_other() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path(), Arc::new(|| 1_000)).unwrap();
        let app = AppId::default();
        let ids: Vec<_> = (0..50).map(|_| new_id()).collect();
        let (kept, wanted) = (ids.clone(), app.clone());
        let write = move |tx: &mut Tx<'_>| {
            kept.iter().try_for_each(|id| messages::save(tx, &Message::unknown(&wanted, *id, 1)))
        };
        store.write(write).await.unwrap();
        let read = move |tx: &Tx<'_>| {
            for id in &ids {
                assert!(number(*id) < 1 << 53, "not whole in a double");
                let same = ids.iter().filter(|other| number(**other) == number(*id)).count();
                let found = find(tx, &app, number(*id))?.map(|message| message.id);
                assert_eq!(found, Some(*id).filter(|_| same == 1));
            }
            assert_eq!(find(tx, &app, 5)?, None);
            Ok::<_, StoreError>(())
        };
        store.read(read).await.unwrap();
    }
}
