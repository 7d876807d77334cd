//! Bans: who may not connect, whatever credential it shows.

use super::admin::{Api, Listed};
use super::problem::{Errno, Problem};
use super::read::{Asked, Json, Params, cursor_of, limit, text_of_cursor};
use super::subscriptions::PageQuery;
use crate::auth::bans::{Ban as Kept, BanError, Banned, Subnet};
use axum::extract::State;
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// A ban.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Ban {
    /// Takes it back.
    id: String,
    /// `client_id`, `user` or `address`.
    kind: &'static str,
    /// Only in this app; `null`: in all.
    #[schema(required)]
    app: Option<String>,
    /// The client id, the user name, or the network.
    who: String,
    /// When it ends by itself.
    #[schema(required)]
    until_ms: Option<u64>,
    reason: String,
}

/// What kind of name is banned.
#[derive(Clone, Copy, Debug, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Kind {
    ClientId,
    User,
    Address,
}

/// A ban to be put in force.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct NewBan {
    kind: Kind,
    /// The client id, the user name, or an address or network as `192.0.2.0/24`.
    #[schema(min_length = 1)]
    who: String,
    /// Only in this app; absent: in all.
    #[serde(default)]
    app: Option<String>,
    /// How long; absent: until it is removed.
    #[serde(default)]
    for_s: Option<u32>,
    /// Why, for people; at most 256 characters.
    #[serde(default)]
    reason: String,
}

/// The id of a new ban.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct BanId {
    id: String,
}

/// What is banned is its own id.
fn id_of(banned: &Banned) -> String {
    cursor_of(&serde_json::to_string(banned).unwrap_or_default()) // names and numbers only: it cannot fail
}

fn banned_of(id: &str) -> Option<Banned> {
    serde_json::from_str(&text_of_cursor(Some(id)).ok()??).ok()
}

impl Ban {
    fn of(ban: Kept) -> Self {
        let id = id_of(&ban.banned);
        let (kind, app, who) = match ban.banned {
            Banned::ClientId { app, client_id } => ("client_id", app, client_id),
            Banned::User { app, user } => ("user", app, user),
            Banned::Address { network } => ("address", None, network.to_string()),
        };
        Self { id, kind, app, who, until_ms: ban.until_ms, reason: ban.reason }
    }
}

impl NewBan {
    fn banned(&self) -> Result<Banned, Problem> {
        let (app, who) = (self.app.clone(), self.who.clone());
        match self.kind {
            Kind::ClientId => Ok(Banned::ClientId { app, client_id: who }),
            Kind::User => Ok(Banned::User { app, user: who }),
            Kind::Address if app.is_some() => Err(Problem::field("/app", "an address is banned in all apps")),
            Kind::Address => {
                let network: Result<Subnet, _> = who.parse();
                let wrong = |_| Problem::field("/who", "is an address, or a network as 192.0.2.0/24");
                network.map(|network| Banned::Address { network }).map_err(wrong)
            }
        }
    }
}

/// Bans that are in force.
#[utoipa::path(get, path = "/bans", tag = "bans", params(PageQuery),
    responses((status = 200, body = Listed<Ban>)))]
pub(crate) async fn list(
    State(api): State<Api>,
    Asked(query): Asked<PageQuery>,
) -> Result<axum::Json<Listed<Ban>>, Problem> {
    let limit = limit(query.limit)?;
    let after =
        query.after.as_deref().map(|id| banned_of(id).ok_or_else(|| Problem::new(Errno::InvalidCursor)));
    let bans = api.operator.bans(after.transpose()?.as_ref(), limit);
    let next = bans.last().filter(|_| bans.len() == limit).map(|ban| id_of(&ban.banned));
    Ok(Listed::new(bans.into_iter().map(Ban::of).collect(), next, limit))
}

/// Puts a ban in force. It is on disk when this answers; clients that it is about are sent away.
#[utoipa::path(post, path = "/bans", tag = "bans", request_body = NewBan,
    responses((status = 201, body = BanId)))]
pub(crate) async fn add(
    State(api): State<Api>,
    Json(asked): Json<NewBan>,
) -> Result<(StatusCode, axum::Json<BanId>), Problem> {
    let banned = asked.banned()?;
    let until_ms = asked.for_s.map(|seconds| api.now().0 + u64::from(seconds) * 1000);
    let ban = Kept { banned: banned.clone(), until_ms, reason: asked.reason };
    let operator = api.operator.clone();
    let added = tokio::task::spawn_blocking(move || operator.ban(ban)).await;
    added.map_err(|_| Problem::new(Errno::Stopping))?.map_err(refused)?;
    Ok((StatusCode::CREATED, axum::Json(BanId { id: id_of(&banned) })))
}

/// Lifts a ban.
#[utoipa::path(delete, path = "/bans/{id}", tag = "bans", params(("id" = String, Path)),
    responses((status = 204)))]
pub(crate) async fn remove(
    State(api): State<Api>,
    Params(id): Params<String>,
) -> Result<StatusCode, Problem> {
    let banned = banned_of(&id).ok_or_else(|| Problem::new(Errno::BanUnknown))?;
    let operator = api.operator.clone();
    let removed = tokio::task::spawn_blocking(move || operator.lift_ban(&banned)).await;
    match removed.map_err(|_| Problem::new(Errno::Stopping))?.map_err(refused)? {
        true => Ok(StatusCode::NO_CONTENT),
        false => Err(Problem::new(Errno::BanUnknown)),
    }
}

fn refused(error: BanError) -> Problem {
    match error {
        BanError::TooMany => Problem::new(Errno::TooManyBans),
        BanError::Form => Problem::field("", error.to_string()),
        BanError::Io { .. } | BanError::Damaged { .. } => {
            Problem::because(Errno::StoreFailed, error.to_string())
        }
    }
}
