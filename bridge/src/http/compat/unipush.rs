//! `POST /compat/unipush/sendMessage` with the answers of uni-push's cloud functions.

use std::collections::BTreeMap;

use axum::body::Bytes;
use axum::extract::State;
use axum::extract::rejection::BytesRejection;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use utoipa::ToSchema;

use super::{Guest, id_and_estimate, read};
use crate::compat::unipush::{Message, WITHOUT_EFFECT};
use crate::devices;
use crate::http::Api;
use crate::http::problem::Problem;
use crate::store::Tx;

/// What uni-push answers.
#[derive(Serialize, ToSchema)]
#[schema(as = UnipushAnswer)]
pub(in crate::http) struct Answer {
    /// 0, or the `errno` of `docs/errors.md`.
    #[serde(rename = "errCode")]
    code: u16,
    #[serde(rename = "errMsg")]
    message: String,
    /// By the message's id, what becomes of each client that `push_clientid` named.
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<BTreeMap<String, BTreeMap<String, &'static str>>>,
}

/// Sends a message in uni-push's words.
#[utoipa::path(
    post,
    path = "/compat/unipush/sendMessage",
    tag = "compat",
    request_body = Message,
    responses(
        (status = 200, description = "Accepted and durable", body = Answer),
        (status = "default", description = "Why not, in uni-push's form", body = Answer),
    ),
)]
pub(in crate::http) async fn send(
    State(shared): State<Api>,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Response {
    match accept(&shared, &headers, body).await {
        Ok(answer) => answer.into_response(),
        Err(problem) => {
            let errno = problem.errno();
            let status = StatusCode::from_u16(errno.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
            let answer = Answer { code: errno.number(), message: problem.words(), data: None };
            (status, axum::Json(answer)).into_response()
        }
    }
}

async fn accept(
    shared: &Api,
    headers: &HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Result<axum::Json<Answer>, Problem> {
    let guest = Guest::of(headers, shared).await?;
    let message: Message = read(body, WITHOUT_EFFECT)?;
    let send = message.translate()?;
    let (id, _) = id_and_estimate(guest.send(shared, send.translated).await?);
    let app = guest.app;
    let look = move |tx: &Tx<'_>| {
        let mut states = BTreeMap::new();
        for client in send.clients {
            let presence = devices::presence(tx, &app, &client)?;
            let state = match presence {
                Some(presence) if presence.online => "successed_online",
                None if devices::load(tx, &app, &client)?.is_none() => "successed_ignore",
                Some(_) | None => "successed_offline",
            };
            states.insert(client, state);
        }
        Ok::<_, Problem>(states)
    };
    let states = shared.store.read(look).await?;
    let data = Some(BTreeMap::from([(id, states)]));
    Ok(axum::Json(Answer { code: 0, message: "success".to_owned(), data }))
}
