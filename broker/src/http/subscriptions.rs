//! Subscriptions: of everyone, of one session, and of whoever would get a topic.

use super::admin::{Api, Listed};
use super::problem::{Errno, Problem};
use super::read::{Asked, Cursor, Params, app, app_asked, client, filter, limit, topic_asked};
use axum::extract::State;
use reveille_broker_core::admin::{Glob, Page, SubscriptionFilter, SubscriptionPlace, SubscriptionView};
use reveille_broker_core::shard::Shard;
use reveille_proto::mqtt::RetainHandling;
use reveille_proto::topic::Subscription as Wanted;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

/// Which subscriptions. Parameters that are left out do not matter.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct SubscriptionsQuery {
    /// Of this app.
    app: Option<String>,
    /// Of clients with this id; `*` stands for any characters, `?` for one.
    client_id: Option<String>,
    /// To exactly this topic filter, without `$share/{group}/`.
    filter: Option<String>,
    /// Of this group of shared subscriptions.
    group: Option<String>,
    /// The cursor of the page before.
    after: Option<String>,
    /// Entries at most.
    #[param(minimum = 1, maximum = 1000, default = 100)]
    limit: Option<usize>,
}

/// A page of a list that has no filter.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct PageQuery {
    /// The cursor of the page before.
    pub(crate) after: Option<String>,
    /// Entries at most.
    #[param(minimum = 1, maximum = 1000, default = 100)]
    pub(crate) limit: Option<usize>,
}

/// Whose receivers.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct ReceiversQuery {
    /// The topic of a message.
    topic: String,
    /// The cursor of the page before.
    after: Option<String>,
    /// Entries at most.
    #[param(minimum = 1, maximum = 1000, default = 100)]
    limit: Option<usize>,
}

/// What one client subscribed to.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Subscription {
    app: String,
    client_id: String,
    /// Whether the client is connected.
    online: bool,
    filter: String,
    /// The group, for a shared subscription.
    #[schema(required)]
    group: Option<String>,
    /// The highest QoS that it gets.
    qos: u8,
    no_local: bool,
    retain_as_published: bool,
    /// `always`, `if_new` or `never`.
    retain_handling: &'static str,
    /// The subscription identifier.
    #[schema(required)]
    identifier: Option<u32>,
}

impl Subscription {
    fn of(view: SubscriptionView) -> Self {
        let options = view.granted.options;
        Self {
            app: view.app.to_string(),
            client_id: view.client_id.to_string(),
            online: view.is_online,
            filter: view.subscription.filter.to_string(),
            group: view.subscription.group.map(|group| group.to_string()),
            qos: options.qos as u8,
            no_local: options.no_local,
            retain_as_published: options.retain_as_published,
            retain_handling: match options.retain_handling {
                RetainHandling::Always => "always",
                RetainHandling::IfNew => "if_new",
                RetainHandling::Never => "never",
            },
            identifier: Some(view.granted.identifier).filter(|identifier| *identifier > 0),
        }
    }
}

/// Subscriptions of all sessions, in an order of the broker's own.
#[utoipa::path(get, path = "/subscriptions", tag = "subscriptions", params(SubscriptionsQuery),
    responses((status = 200, body = Listed<Subscription>)))]
pub(crate) async fn list(
    State(api): State<Api>,
    Asked(query): Asked<SubscriptionsQuery>,
) -> Result<axum::Json<Listed<Subscription>>, Problem> {
    let wanted = SubscriptionFilter {
        app: app_asked(query.app.as_deref())?,
        client_id: query.client_id.as_deref().map(Glob::new),
        filter: query.filter.as_deref().map(filter).transpose()?,
        group: query.group.map(Into::into),
    };
    let read = move |shard: &Shard, from, room| shard.subscriptions(&wanted, from, room);
    answer(&api, query.after.as_deref(), query.limit, read).await
}

/// Who would get a message with this topic. A member of a shared group is listed like the others, though only one member
/// of each group gets the message.
#[utoipa::path(get, path = "/apps/{app}/receivers", tag = "subscriptions",
    params(("app" = String, Path), ReceiversQuery),
    responses((status = 200, body = Listed<Subscription>)))]
pub(crate) async fn receivers(
    State(api): State<Api>,
    Params(of): Params<String>,
    Asked(query): Asked<ReceiversQuery>,
) -> Result<axum::Json<Listed<Subscription>>, Problem> {
    let (app, topic) = (app(&of)?, topic_asked(&query.topic)?);
    let read = move |shard: &Shard, from, room| shard.receivers(&app, &topic, from, room);
    answer(&api, query.after.as_deref(), query.limit, read).await
}

/// Subscriptions of one session.
#[utoipa::path(get, path = "/apps/{app}/sessions/{client_id}/subscriptions", tag = "subscriptions",
    params(("app" = String, Path), ("client_id" = String, Path), PageQuery),
    responses((status = 200, body = Listed<Subscription>)))]
pub(crate) async fn of_session(
    State(api): State<Api>,
    Params(params): Params<(String, String)>,
    Asked(query): Asked<PageQuery>,
) -> Result<axum::Json<Listed<Subscription>>, Problem> {
    let ((app, client_id), limit) = (client(&params)?, limit(query.limit)?);
    let from = place(Cursor::parse(query.after.as_deref(), api.boot())?)?;
    let owner = api.owner(&app, &client_id);
    let read = move |shard: &Shard| shard.subscriptions_of_one(&app, &client_id, from.after, limit);
    let page = api.look(owner, read).await?.ok_or_else(|| Problem::new(Errno::SessionUnknown))?;
    let next = page.next.map(|place| cursor(owner.0, &place).text(api.boot()));
    Ok(Listed::new(page.items.into_iter().map(Subscription::of).collect(), next, limit))
}

async fn answer(
    api: &Api,
    after: Option<&str>,
    asked: Option<usize>,
    read: impl Fn(&Shard, SubscriptionPlace, usize) -> Page<SubscriptionView, SubscriptionPlace>
    + Clone
    + Send
    + 'static,
) -> Result<axum::Json<Listed<Subscription>>, Problem> {
    let (limit, from) = (limit(asked)?, Cursor::parse(after, api.boot())?);
    place(from.clone())?;
    let read = move |shard: &Shard, from: Cursor, room: usize| {
        let no = from.shard;
        let Page { items, next } = read(shard, place(from).unwrap_or_default(), room); // was checked
        Page { items, next: next.map(|place| cursor(no, &place)) }
    };
    let (found, next) = api.gather(from, limit, read).await?;
    Ok(Listed::new(found.into_iter().map(Subscription::of).collect(), next, limit))
}

fn cursor(shard: u16, place: &SubscriptionPlace) -> Cursor {
    Cursor { shard, at: place.at, behind: place.after.as_ref().map(ToString::to_string) }
}

fn place(cursor: Cursor) -> Result<SubscriptionPlace, Problem> {
    let after = cursor.behind.map(Wanted::parse).transpose();
    let after = after.map_err(|_| Problem::new(Errno::InvalidCursor))?;
    Ok(SubscriptionPlace { at: cursor.at, after })
}
