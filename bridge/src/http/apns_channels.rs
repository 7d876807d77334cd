//! `/v1/apps/{app}/apns-channels`: Apple's broadcast channels, through the app's credential.

use std::sync::Arc;

use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use reveille_proto::ids::AppId;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::Api;
use super::body::{Json, Params};
use super::guard::{ADMIN, Guarded, SEND};
use super::idempotency::{IdempotencyHeader, NotDone, Once};
use super::problem::{Errno, Problem};
use crate::credentials;
use crate::lane::CredentialName;
use crate::vendor::apns::channels::{Ask, Broadcast, Channel, Storage, Told};
use crate::vendor::{CannotSend, Credential, VendorName, Verdict};

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct NewChannel {
    /// `none` or `most_recent`.
    #[schema(value_type = String)]
    storage: Storage,
}

/// A channel that was made.
#[derive(Serialize, Deserialize, ToSchema)]
pub(super) struct MadeChannel {
    /// Its name at Apple, Base64.
    channel: String,
}

/// The app's channels at Apple.
#[derive(Serialize, ToSchema)]
pub(super) struct Channels {
    /// Their names, as Apple lists them: all at once.
    items: Vec<String>,
}

/// A channel.
#[derive(Serialize, ToSchema)]
pub(super) struct ChannelView {
    channel: String,
    /// `none` or `most_recent`.
    #[schema(value_type = String)]
    storage: Storage,
}

/// An update that Apple took.
#[derive(Serialize, Deserialize, ToSchema)]
pub(super) struct Taken {
    /// Apple's name for the request.
    #[schema(required)]
    request_id: Option<String>,
}

/// Which of the app's credentials at Apple; the usual one unless `?credential=` names another.
#[derive(Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(super) struct WhichCredential {
    /// The usual one unless named.
    #[param(value_type = Option<String>)]
    credential: Option<CredentialName>,
}

type Which = Result<Query<WhichCredential>, QueryRejection>;

/// Makes a channel.
#[utoipa::path(
    post,
    path = "/v1/apps/{app}/apns-channels",
    tag = "vendors",
    params(WhichCredential, IdempotencyHeader),
    request_body = NewChannel,
    responses((status = 201, description = "The channel", body = MadeChannel)),
)]
pub(super) async fn create(
    Guarded { app, caller }: Guarded<ADMIN>,
    which: Which,
    State(shared): State<Api>,
    headers: HeaderMap,
    Json(new, bytes): Json<NewChannel>,
) -> Result<Response, Problem> {
    let once = Once::making("apns-channels", &app, &caller.key_id, &headers, &bytes)?;
    let for_ask = shared.clone();
    let work = async move {
        match ask(&for_ask, &app, which, Ask::Create(new.storage)).await? {
            Told::Made(channel) => Ok(MadeChannel { channel }),
            other => Err(unexpected(&other)),
        }
    };
    Ok(once.run_outside(&shared, work).await?.answer(StatusCode::CREATED))
}

/// Every channel.
#[utoipa::path(
    get,
    path = "/v1/apps/{app}/apns-channels",
    tag = "vendors",
    params(WhichCredential),
    responses((status = 200, description = "Every channel of the app", body = Channels)),
)]
pub(super) async fn list(
    Guarded { app, .. }: Guarded<ADMIN>,
    which: Which,
    State(shared): State<Api>,
) -> Result<impl IntoResponse, Problem> {
    match ask(&shared, &app, which, Ask::List).await.map_err(NotDone::problem)? {
        Told::All(items) => Ok(axum::Json(Channels { items })),
        other => Err(unexpected(&other).problem()),
    }
}

/// One channel.
#[utoipa::path(
    get,
    path = "/v1/apps/{app}/apns-channels/{channel}",
    tag = "vendors",
    params(WhichCredential),
    responses((status = 200, description = "The channel", body = ChannelView)),
)]
pub(super) async fn show(
    Guarded { app, .. }: Guarded<ADMIN>,
    Params((_, name)): Params<(String, String)>,
    which: Which,
    State(shared): State<Api>,
) -> Result<impl IntoResponse, Problem> {
    match ask(&shared, &app, which, Ask::Read(channel(&name)?)).await.map_err(NotDone::problem)? {
        Told::One { channel, storage } => Ok(axum::Json(ChannelView { channel, storage })),
        other => Err(unexpected(&other).problem()),
    }
}

/// Removes a channel.
#[utoipa::path(
    delete,
    path = "/v1/apps/{app}/apns-channels/{channel}",
    tag = "vendors",
    params(WhichCredential),
    responses((status = 204, description = "Done")),
)]
pub(super) async fn remove(
    Guarded { app, .. }: Guarded<ADMIN>,
    Params((_, name)): Params<(String, String)>,
    which: Which,
    State(shared): State<Api>,
) -> Result<Response, Problem> {
    ask(&shared, &app, which, Ask::Delete(channel(&name)?)).await.map_err(NotDone::problem)?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

/// Sends an update of a Live Activity to a channel. Answered when Apple has taken it; nothing is kept or repeated here.
#[utoipa::path(
    post,
    path = "/v1/apps/{app}/apns-channels/{channel}",
    tag = "vendors",
    params(WhichCredential, IdempotencyHeader),
    request_body = Broadcast,
    responses((status = 200, description = "Apple took it", body = Taken)),
)]
pub(super) async fn send(
    Guarded { app, caller }: Guarded<SEND>,
    Params((_, name)): Params<(String, String)>,
    which: Which,
    State(shared): State<Api>,
    headers: HeaderMap,
    Json(broadcast, bytes): Json<Broadcast>,
) -> Result<Response, Problem> {
    let to = [name.as_bytes(), b"\n", &bytes].concat();
    let once = Once::making("apns-broadcasts", &app, &caller.key_id, &headers, &to)?;
    let asked = broadcast.into_ask(channel(&name)?, shared.store.now_ms());
    let asked =
        asked.map_err(|(CannotSend::Payload(why) | CannotSend::Token(why) | CannotSend::Config(why))| {
            Problem::field("", why)
        })?;
    let for_ask = shared.clone();
    let work = async move {
        match ask(&for_ask, &app, which, asked).await? {
            Told::Sent { request_id } => Ok(Taken { request_id }),
            other => Err(unexpected(&other)),
        }
    };
    Ok(once.run_outside(&shared, work).await?.answer(StatusCode::OK))
}

fn channel(name: &str) -> Result<Channel, Problem> {
    Channel::parse(name).ok_or_else(|| Problem::because(Errno::InvalidPath, "a channel's name is Base64"))
}

/// Apple took it, whatever it says of it.
fn unexpected(told: &Told) -> NotDone {
    NotDone::Perhaps(Problem::because(Errno::VendorFailed, format!("apns told something else: {told:?}")))
}

async fn ask(shared: &Api, app: &AppId, which: Which, ask: Ask) -> Result<Told, NotDone> {
    let credential = Arc::new(credential(shared, app, which).await.map_err(NotDone::Surely)?);
    let Credential::Apns(apns) = &*credential else {
        return Err(NotDone::Surely(Problem::new(Errno::CredentialUnknown)));
    };
    let answer = shared.sender.ask(&credential, |login, _| apns.channel_request(&ask, login)).await;
    let answer = answer.map_err(|missing| match missing.is_perhaps_done {
        true => NotDone::Perhaps(refused(&missing.verdict)),
        false => NotDone::Surely(refused(&missing.verdict)),
    })?;
    let told = apns.read_channel(&ask, &answer, shared.store.now_ms());
    told.map_err(|verdict| match answer.status {
        200..=299 => NotDone::Perhaps(refused(&verdict)), // a success that does not say of what
        _ => NotDone::Surely(refused(&verdict)),
    })
}

async fn credential(shared: &Api, app: &AppId, which: Which) -> Result<Credential, Problem> {
    let which =
        which.map_err(|_| Problem::because(Errno::InvalidQuery, "only credential=NAME is known here"))?;
    let (app, name) = (app.clone(), which.0.credential.unwrap_or_default());
    let kept = shared.store.read(move |tx| credentials::load(tx, &app, VendorName::Apns, &name)).await?;
    Ok(kept.ok_or_else(|| Problem::new(Errno::CredentialUnknown))?.credential)
}

/// What a vendor does not do is no fault of the caller's request here, unless it says so.
fn refused(verdict: &Verdict) -> Problem {
    let why = format!("apns: {} ({})", verdict.name(), verdict.reason());
    match verdict {
        Verdict::PayloadRejected { .. } | Verdict::TokenMismatch { .. } | Verdict::TokenDead { .. } => {
            Problem::because(Errno::VendorRefused, why)
        }
        _ => Problem::because(Errno::VendorFailed, why),
    }
}
