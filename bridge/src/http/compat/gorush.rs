//! `POST /compat/gorush/api/push` with gorush's answers, and devices for its device tokens.

use axum::body::Bytes;
use axum::extract::State;
use axum::extract::rejection::BytesRejection;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use reveille_proto::ids::AppId;
use serde::Serialize;
use utoipa::ToSchema;

use super::{Guest, id_and_estimate, read};
use crate::apps::{hex, sha256};
use crate::compat::Translated;
use crate::compat::gorush::{Home, Notification, Push, WITHOUT_EFFECT};
use crate::devices;
use crate::http::Api;
use crate::http::body::parse;
use crate::http::idempotency;
use crate::http::problem::Problem;
use crate::lane;
use crate::store::{StoreError, Tx};
use crate::tokens;
use crate::vendor::DeviceToken;

/// Notifications of one call at most: gorush's own usual bound.
const NOTIFICATIONS_MAX: usize = 100;
/// Device tokens of one notification at most.
const TOKENS_MAX: usize = 10_000;
/// Bytes of a hash that name a device.
const NAME_BYTES: usize = 16;

/// What gorush answers.
#[derive(Serialize, ToSchema)]
#[schema(as = GorushAnswer)]
pub(in crate::http) struct Answer {
    success: &'static str,
    /// Device tokens of the notifications that were taken.
    counts: usize,
    /// What was not taken, and why.
    logs: Vec<Log>,
    /// The message of each notification, in their order; `null` for one that was not taken.
    messages: Vec<Option<String>>,
}

#[derive(Serialize, ToSchema)]
#[schema(as = GorushLog)]
struct Log {
    r#type: &'static str,
    platform: &'static str,
    token: String,
    message: String,
    error: String,
}

/// What gorush answers when it takes nothing.
#[derive(Serialize, ToSchema)]
#[schema(as = GorushRefused)]
pub(in crate::http) struct Failure {
    code: u16,
    message: String,
}

/// Sends notifications in gorush's words.
#[utoipa::path(
    post,
    path = "/compat/gorush/api/push",
    tag = "compat",
    request_body = Push,
    responses(
        (status = 200, description = "Accepted and durable, but for what the logs say", body = Answer),
        (status = "default", description = "Why not, in gorush's form", body = Failure),
    ),
)]
pub(in crate::http) async fn push(
    State(shared): State<Api>,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Response {
    match accept(&shared, &headers, body).await {
        Ok(answer) => axum::Json(answer).into_response(),
        Err(problem) => {
            let code = problem.errno().status();
            let status = StatusCode::from_u16(code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
            (status, axum::Json(Failure { code, message: problem.words() })).into_response()
        }
    }
}

async fn accept(
    shared: &Api,
    headers: &HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Result<Answer, Problem> {
    let guest = Guest::of(headers, shared).await?;
    let push: Push = read(body, WITHOUT_EFFECT)?;
    if !(1..=NOTIFICATIONS_MAX).contains(&push.notifications.len()) {
        let bound = format!("has 1 to {NOTIFICATIONS_MAX} notifications");
        return Err(Problem::field("/notifications", bound));
    }
    let key = idempotency::header(headers)?;
    let mut answer = Answer { success: "ok", counts: 0, logs: Vec::new(), messages: Vec::new() };
    let mut first = None;
    for (at, notification) in push.notifications.into_iter().enumerate() {
        let key = key.as_ref().map(|key| format!("{key}\u{1}{at}")); // which no header can hold
        let taken = take(shared, &guest, key, notification, &mut answer).await;
        let taken = taken.map_err(|problem| problem.below(&format!("/notifications/{at}")));
        match taken {
            Ok(id) => answer.messages.push(Some(id)),
            Err(problem) if problem.errno().status() >= 500 => return Err(problem), // the rest would fare no better
            Err(problem) => {
                answer.messages.push(None);
                first.get_or_insert(problem);
            }
        }
    }
    match first {
        Some(problem) if answer.messages.iter().all(Option::is_none) => Err(problem),
        _ => Ok(answer),
    }
}

/// Sends one notification; what is wrong with it or one of its tokens stands in the logs.
async fn take(
    shared: &Api,
    guest: &Guest,
    key: Option<String>,
    notification: serde_json::Value,
    answer: &mut Answer,
) -> Result<String, Problem> {
    let asked = notification.to_string();
    let notification: Notification = match parse(asked.as_bytes()) {
        Ok(notification) => notification,
        Err(problem) => {
            answer.logs.push(Log::of("", "", String::new(), problem.words()));
            return Err(problem);
        }
    };
    let (text, tokens) = (notification.text().to_owned(), notification.tokens());
    let sent = send(shared, guest, (key, &asked), notification, answer).await;
    if let Err(problem) = &sent {
        let log = |token: &String| Log::of("", &text, token.clone(), problem.words());
        match tokens.is_empty() {
            true => answer.logs.push(log(&String::new())),
            false => answer.logs.extend(tokens.iter().map(log)),
        }
    }
    sent
}

async fn send(
    shared: &Api,
    guest: &Guest,
    (key, asked): (Option<String>, &str),
    notification: Notification,
    answer: &mut Answer,
) -> Result<String, Problem> {
    let home = notification.home()?;
    let mut tokens = Vec::new();
    for token in notification.tokens() {
        match DeviceToken::parse(&token) {
            Ok(token) => tokens.push(token),
            Err(error) => {
                answer.logs.push(Log::of(home.platform, notification.text(), token, error.to_string()));
            }
        }
    }
    if !(1..=TOKENS_MAX).contains(&tokens.len()) {
        return Err(Problem::field("/tokens", format!("has 1 to {TOKENS_MAX} device tokens")));
    }
    let count = tokens.len();
    let app = guest.app.clone();
    let find = move |tx: &mut Tx<'_>| owners(tx, &app, &home, tokens);
    let owners = shared.store.write(find).await?;
    let body = notification.translate(&owners.devices, owners.has_sockets, shared.store.now_ms())?;
    let (id, _) = id_and_estimate(guest.send_as(shared, Translated { body, key }, asked).await?);
    answer.counts += count;
    Ok(id)
}

impl Log {
    fn of(platform: &'static str, message: &str, token: String, error: String) -> Self {
        Self { r#type: "failed-push", platform, token, message: message.to_owned(), error }
    }
}

/// Whose device tokens they are.
struct Owners {
    devices: Vec<String>,
    /// Whether one of them was ever connected.
    has_sockets: bool,
}

/// Each token's device. A token that no device has gets one of its own, named after it: the same token again is the same
/// device, and when the phone registers the token itself, it moves there.
fn owners(tx: &mut Tx<'_>, app: &AppId, home: &Home, tokens: Vec<DeviceToken>) -> Result<Owners, Problem> {
    let mut owners = Owners { devices: Vec::with_capacity(tokens.len()), has_sockets: false };
    for token in tokens {
        let id = match tokens::owner(tx, app, home.vendor, &token)? {
            Some(id) => id,
            None => make(tx, app, home, token)?,
        };
        owners.has_sockets |= devices::presence(tx, app, &id)?.is_some();
        owners.devices.push(id);
    }
    Ok(owners)
}

fn make(tx: &mut Tx<'_>, app: &AppId, home: &Home, token: DeviceToken) -> Result<String, Problem> {
    let registered = lane::Registered {
        environment: home.environment,
        bundle_id: home.bundle_id.clone(),
        ..lane::Registered::default()
    };
    let home_of_token = registered.check();
    let home_of_token = home_of_token.map_err(|(_, problem)| Problem::field("/topic", problem))?;
    let hash = sha256(token.as_str().as_bytes());
    let id = format!("gorush-{}-{}", home.vendor, hex(hash.get(..NAME_BYTES).unwrap_or_default()));
    let mut device = devices::load_or_new(tx, app, &id)?;
    device.attributes.platform = Some(home.platform.to_owned());
    tokens::register(tx, app, &mut device, home.vendor, token, home_of_token)?;
    devices::save(tx, app, &device)?;
    Ok::<_, StoreError>(id).map_err(Problem::from)
}
