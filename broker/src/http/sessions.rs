//! Sessions: list, one, kick, end.

use super::admin::{Api, Listed, check_not_bridge};
use super::problem::{Errno, Problem};
use super::read::{Asked, Cursor, Params, app_asked, client, limit};
use axum::extract::State;
use axum::http::StatusCode;
use reveille_broker_core::admin::{
    ConnectionView, Glob, Network, Page, QueueView, SessionFilter, SessionView, WillView, Wish,
};
use reveille_broker_core::io::Input;
use reveille_proto::mqtt::Version;
use reveille_proto::reason::ReasonCode;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::mailbox::Command;

/// Which sessions. Parameters that are left out do not matter.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct SessionsQuery {
    /// Of this app.
    app: Option<String>,
    /// Whose client id is this; `*` stands for any characters, `?` for one.
    client_id: Option<String>,
    /// With (`true`) or without (`false`) a network connection.
    online: Option<bool>,
    /// Connected through this listener.
    listener: Option<String>,
    /// Connected from this address or network, as `10.0.0.0/8`.
    network: Option<String>,
    /// Connected with a credential of this user name; wildcards as in `client_id`.
    user: Option<String>,
    /// With at least so many messages in the queue.
    queue_min: Option<usize>,
    /// Whose client takes its messages too slowly.
    slow: Option<bool>,
    /// The cursor of the page before.
    after: Option<String>,
    /// Entries at most.
    #[param(minimum = 1, maximum = 1000, default = 100)]
    limit: Option<usize>,
}

/// What the broker keeps of a client between its connections.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Session {
    app: String,
    client_id: String,
    /// Whether it has a network connection.
    online: bool,
    /// The number of its newest network connection; grows over restarts.
    epoch: u64,
    /// Since when it has no network connection.
    #[schema(required)]
    offline_since_ms: Option<u64>,
    /// How long it outlives its connection; `null`: for ever.
    #[schema(required)]
    expiry_s: Option<u32>,
    /// When it ends, should the client stay away.
    #[schema(required)]
    ends_at_ms: Option<u64>,
    /// Whether subscriptions and queue are on disk.
    durable: bool,
    subscriptions: usize,
    queue: Queue,
    /// QoS 2 packet identifiers of the client that are in use.
    exactly_once_received: usize,
    #[schema(required)]
    connection: Option<Connection>,
    #[schema(required)]
    will: Option<Will>,
}

/// Its messages that are not done.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Queue {
    messages: usize,
    /// Bytes of topics and payloads.
    bytes: u64,
    /// Sent and not acknowledged.
    in_flight: usize,
    /// When the oldest was queued; after a restart not before the restart.
    #[schema(required)]
    oldest_at_ms: Option<u64>,
    #[schema(required)]
    oldest_age_s: Option<u64>,
}

/// Its network connection.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Connection {
    /// `3.1`, `3.1.1` or `5.0`.
    protocol: &'static str,
    since_ms: u64,
    last_seen_ms: u64,
    /// 0: none.
    keep_alive_s: u16,
    /// Where it comes from.
    network: String,
    /// The name of the listener that it came through.
    listener: String,
    /// The user name of its credential.
    #[schema(required)]
    user: Option<String>,
    /// When its credential, and the connection with it, ends.
    #[schema(required)]
    expires_at_ms: Option<u64>,
    in_flight_max: u16,
    packet_size_max: u32,
    /// Bytes that its socket has not taken.
    unsent_bytes: usize,
    /// Publishes of the client that the broker has not acknowledged.
    unacknowledged: usize,
    /// The broker does not read from it at the moment.
    paused: bool,
    /// It takes its messages too slowly.
    slow: bool,
    publishes_received: u64,
    publishes_sent: u64,
}

/// What is published should its connection end badly.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Will {
    topic: String,
    qos: u8,
    retain: bool,
    payload_bytes: usize,
    delay_s: u32,
}

impl Session {
    pub(crate) fn of(view: SessionView, now_ms: u64) -> Self {
        Self {
            app: view.app.to_string(),
            client_id: view.client_id.to_string(),
            online: view.connection.is_some(),
            epoch: view.epoch.0,
            offline_since_ms: view.offline_since.map(|time| time.0),
            expiry_s: (view.expiry_interval != u32::MAX).then_some(view.expiry_interval),
            ends_at_ms: view.ends_at.map(|time| time.0),
            durable: view.is_durable,
            subscriptions: view.subscriptions,
            queue: Queue::of(view.queue, now_ms),
            exactly_once_received: view.exactly_once_received,
            connection: view.connection.map(Connection::of),
            will: view.will.map(Will::of),
        }
    }
}

impl Queue {
    pub(crate) fn of(view: QueueView, now_ms: u64) -> Self {
        Self {
            messages: view.messages,
            bytes: view.bytes,
            in_flight: view.in_flight,
            oldest_at_ms: view.oldest_at.map(|time| time.0),
            oldest_age_s: view.oldest_at.map(|time| now_ms.saturating_sub(time.0) / 1000),
        }
    }
}

impl Connection {
    fn of(view: ConnectionView) -> Self {
        let protocol = match view.version {
            Version::V3_1 => "3.1",
            Version::V3_1_1 => "3.1.1",
            Version::V5 => "5.0",
        };
        Self {
            protocol,
            since_ms: view.since.0,
            last_seen_ms: view.last_seen.0,
            keep_alive_s: view.keep_alive,
            network: view.network.to_string(),
            listener: view.listener.to_string(),
            user: view.user.map(|user| user.to_string()),
            expires_at_ms: view.expires_at.map(|time| time.0),
            in_flight_max: view.in_flight_max,
            packet_size_max: view.packet_size_max,
            unsent_bytes: view.unsent_bytes,
            unacknowledged: view.unacknowledged,
            paused: view.is_paused,
            slow: view.is_slow,
            publishes_received: view.publishes_received,
            publishes_sent: view.publishes_sent,
        }
    }
}

impl Will {
    fn of(view: WillView) -> Self {
        Self {
            topic: view.topic.to_string(),
            qos: view.qos as u8,
            retain: view.retain,
            payload_bytes: view.payload_bytes,
            delay_s: view.delay_interval,
        }
    }
}

impl SessionsQuery {
    fn filter(&self) -> Result<SessionFilter, Problem> {
        let network = self.network.as_deref().map(|text| {
            Network::parse(text).ok_or_else(|| {
                Problem::because(Errno::InvalidQuery, "network is an address or a network as 10.0.0.0/8")
            })
        });
        Ok(SessionFilter {
            app: app_asked(self.app.as_deref())?,
            client_id: self.client_id.as_deref().map(Glob::new),
            is_online: self.online,
            listener: self.listener.clone().map(Into::into),
            network: network.transpose()?,
            user: self.user.as_deref().map(Glob::new),
            queue_min: self.queue_min,
            is_slow: self.slow,
        })
    }
}

/// Sessions, in an order of the broker's own. A walk over all pages meets every session that lived through it once.
#[utoipa::path(get, path = "/sessions", tag = "sessions", params(SessionsQuery),
    responses((status = 200, body = Listed<Session>)))]
pub(crate) async fn list(
    State(api): State<Api>,
    Asked(query): Asked<SessionsQuery>,
) -> Result<axum::Json<Listed<Session>>, Problem> {
    let (filter, limit) = (query.filter()?, limit(query.limit)?);
    let cursor = Cursor::parse(query.after.as_deref(), api.boot())?;
    let read = move |shard: &reveille_broker_core::shard::Shard, from: Cursor, room: usize| {
        let Page { items, next } = shard.sessions(&filter, from.at, room);
        Page { items, next: next.map(|at| Cursor { at, ..from }) }
    };
    let (found, next) = api.gather(cursor, limit, read).await?;
    let now_ms = api.now().0;
    Ok(Listed::new(found.into_iter().map(|view| Session::of(view, now_ms)).collect(), next, limit))
}

/// One session with everything that is known about it.
#[utoipa::path(get, path = "/apps/{app}/sessions/{client_id}", tag = "sessions",
    params(("app" = String, Path), ("client_id" = String, Path)),
    responses((status = 200, body = Session)))]
pub(crate) async fn show(
    State(api): State<Api>,
    Params(params): Params<(String, String)>,
) -> Result<axum::Json<Session>, Problem> {
    let view = find(&api, &params).await?;
    Ok(axum::Json(Session::of(view, api.now().0)))
}

/// A session, or the error that there is none.
pub(crate) async fn find(api: &Api, params: &(String, String)) -> Result<SessionView, Problem> {
    let (app, client_id) = client(params)?;
    let owner = api.owner(&app, &client_id);
    let view = api.look(owner, move |shard| shard.session_of(&app, &client_id)).await?;
    view.ok_or_else(|| Problem::new(Errno::SessionUnknown))
}

/// Ends a session, with its connection if it has one: subscriptions and queue are gone, on disk too, when this answers.
/// The client hears 0x98.
#[utoipa::path(delete, path = "/apps/{app}/sessions/{client_id}", tag = "sessions",
    params(("app" = String, Path), ("client_id" = String, Path)),
    responses((status = 204)))]
pub(crate) async fn end(
    State(api): State<Api>,
    Params(params): Params<(String, String)>,
) -> Result<StatusCode, Problem> {
    let (app, client_id) = client(&params)?;
    check_not_bridge(&app)?;
    let owner = api.owner(&app, &client_id);
    api.wish(owner, Wish::EndSession { app, client_id }).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// With which words a client is sent away.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct KickQuery {
    /// The reason code that a client of 5.0 gets.
    #[serde(default)]
    #[param(inline)]
    reason: KickReason,
}

/// Reason codes that an operator may give.
#[derive(Clone, Copy, Debug, Default, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum KickReason {
    /// 0x98: come back as you like.
    #[default]
    AdministrativeAction,
    /// 0x87.
    NotAuthorized,
    /// 0x89.
    ServerBusy,
    /// 0x8B.
    ServerShuttingDown,
    /// 0x9C: go elsewhere for a while.
    UseAnotherServer,
    /// 0x9D: go elsewhere for good.
    ServerMoved,
}

impl From<KickReason> for ReasonCode {
    fn from(reason: KickReason) -> Self {
        match reason {
            KickReason::AdministrativeAction => Self::ADMINISTRATIVE_ACTION,
            KickReason::NotAuthorized => Self::NOT_AUTHORIZED,
            KickReason::ServerBusy => Self::SERVER_BUSY,
            KickReason::ServerShuttingDown => Self::SERVER_SHUTTING_DOWN,
            KickReason::UseAnotherServer => Self::USE_ANOTHER_SERVER,
            KickReason::ServerMoved => Self::SERVER_MOVED,
        }
    }
}

/// Ends a session's network connection. The session stays; the client may come back at once.
#[utoipa::path(delete, path = "/apps/{app}/sessions/{client_id}/connection", tag = "sessions",
    params(("app" = String, Path), ("client_id" = String, Path), KickQuery),
    responses((status = 204)))]
pub(crate) async fn kick(
    State(api): State<Api>,
    Params(params): Params<(String, String)>,
    Asked(query): Asked<KickQuery>,
) -> Result<StatusCode, Problem> {
    if find(&api, &params).await?.connection.is_none() {
        return Err(Problem::new(Errno::NotConnected));
    }
    let (app, client_id) = client(&params)?;
    let owner = api.owner(&app, &client_id);
    let kick = Input::Kick { app: app.clone(), client_id: client_id.clone(), reason: query.reason.into() };
    api.shared.mailboxes.send(owner, Command::Input(kick));
    api.look(owner, |_| ()).await?; // behind the kick, so that it has happened
    Ok(StatusCode::NO_CONTENT)
}
