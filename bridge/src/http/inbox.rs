//! `/v1/apps/{app}/users/{user}/inbox`: what a user has kept to read.

use axum::extract::{Query, State};
use axum::response::IntoResponse;
use reveille_proto::ids::MessageId;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use utoipa::{IntoParams, ToSchema};

use super::Api;
use super::body::{Json, Params, message_id};
use super::guard::{Guarded, READ, SEND};
use super::paging::{Found, Listed, Page};
use super::problem::{Errno, Problem};
use crate::devices::is_label;
use crate::inbox::device::{Changed, tell_all};
use crate::inbox::{self, IDS_MAX, Inbox, Part, device};
use crate::store::{StoreError, Tx};

/// The parameters of an inbox.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct InboxQuery {
    /// The cursor that the page before gave.
    after: Option<String>,
    /// Entries at most.
    #[param(minimum = 1, maximum = 1000, default = 100)]
    limit: Option<usize>,
    /// Only what was not read.
    unread: Option<bool>,
    /// Texts in this language, where the message has them.
    language: Option<String>,
}

/// One message in an inbox.
#[derive(ToSchema)]
#[expect(dead_code, reason = "describes what `device::show` writes")]
pub(super) struct InboxEntry {
    /// The message.
    id: String,
    title: Option<String>,
    body: Option<String>,
    /// URL of a picture.
    image: Option<String>,
    /// What opening it opens.
    url: Option<String>,
    /// The app's own fields.
    data: Option<Map<String, Value>>,
    /// When the message was accepted.
    sent_at_ms: u64,
    /// When it came into the inbox.
    received_at_ms: u64,
    /// When it goes by itself.
    expires_at_ms: u64,
    /// When the user read it; absent: not yet.
    read_at_ms: Option<u64>,
}

/// How much of an inbox was not read.
#[derive(Serialize, ToSchema)]
pub(super) struct Unread {
    /// Messages that were not read.
    unread: u64,
    /// Grows with every change of the inbox.
    revision: u64,
}

/// What was read.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ReadBody {
    /// These messages.
    #[schema(max_items = 1000)]
    ids: Option<Vec<String>>,
    /// This message and every older one.
    up_to: Option<String>,
    /// Everything.
    #[serde(default)]
    all: bool,
}

/// What became of a call.
#[derive(Serialize, ToSchema)]
pub(super) struct ReadAnswer {
    /// Messages that were unread and are read now.
    read: u64,
    /// Messages that are not read.
    unread: u64,
}

/// A user's id from a path.
fn user_of(text: String) -> Result<String, Problem> {
    match is_label(&text) {
        true => Ok(text),
        false => Err(Problem::because(Errno::InvalidPath, "a user has 1 to 256 bytes without controls")),
    }
}

/// A user's inbox, newest message first. A user who is not known has an empty one.
#[utoipa::path(
    get,
    path = "/v1/apps/{app}/users/{user}/inbox",
    tag = "inbox",
    params(InboxQuery),
    responses((status = 200, description = "One page", body = Listed<InboxEntry>)),
)]
pub(super) async fn list(
    Guarded { app, .. }: Guarded<READ>,
    Params((_, user)): Params<(String, String)>,
    query: Result<Query<InboxQuery>, axum::extract::rejection::QueryRejection>,
    State(shared): State<Api>,
) -> Result<impl IntoResponse, Problem> {
    let user = user_of(user)?;
    let wrong = |_| {
        Problem::because(
            Errno::InvalidQuery,
            "an inbox knows the parameters after, limit, unread and language",
        )
    };
    let Query(query) = query.map_err(wrong)?;
    let wrong = |_| Problem::because(Errno::InvalidQuery, "after is a cursor of the page before");
    let before = query.after.as_deref().map(MessageId::parse).transpose().map_err(wrong)?;
    let Page { limit, .. } = Page::new(query.after, None, query.limit)?;
    let part = Part { before, limit, is_unread: query.unread.unwrap_or(false) };
    let (lines, is_more) = shared.store.read(move |tx| inbox::page(tx, &app, &user, part)).await?;
    let reader = device::Reader::Server(query.language.as_deref());
    let next = lines.last().filter(|_| is_more).map(|line| line.place.0.to_string());
    Ok(Found::onward(lines, next, limit).show(|line| device::show(&line, &reader)))
}

/// How many messages a user has not read.
#[utoipa::path(
    get,
    path = "/v1/apps/{app}/users/{user}/unread-count",
    tag = "inbox",
    responses((status = 200, description = "The count", body = Unread)),
)]
pub(super) async fn unread_count(
    Guarded { app, .. }: Guarded<READ>,
    Params((_, user)): Params<(String, String)>,
    State(shared): State<Api>,
) -> Result<impl IntoResponse, Problem> {
    let user = user_of(user)?;
    let (unread, revision) = shared.store.read(move |tx| inbox::counts(tx, &app, &user)).await?;
    Ok(axum::Json(Unread { unread, revision }))
}

/// Marks messages as read, and tells the user's devices. What is not in the inbox is passed over.
#[utoipa::path(
    post,
    path = "/v1/apps/{app}/users/{user}/inbox:read",
    tag = "inbox",
    request_body = ReadBody,
    responses((status = 200, description = "Done and durable", body = ReadAnswer)),
)]
pub(super) async fn read(
    Guarded { app, .. }: Guarded<SEND>,
    Params((_, user)): Params<(String, String)>,
    State(shared): State<Api>,
    Json(body, _): Json<ReadBody>,
) -> Result<impl IntoResponse, Problem> {
    let (user, wanted) = (user_of(user)?, body.check()?);
    let mark = move |tx: &mut Tx<'_>| {
        let mut inbox = Inbox::open(tx, &app, &user)?;
        let read = match wanted {
            Wanted::UpTo(last) => inbox.read_up_to(tx, last)?,
            Wanted::These(ids) => {
                let mut read = Vec::new();
                for id in ids {
                    read.extend(inbox.read(tx, id)?.then_some(id));
                }
                read
            }
        };
        let (count, unread) = (read.len() as u64, inbox.close(tx)?);
        tell_all(tx, &app, &user, None, &Changed { read, ..Changed::default() })?;
        Ok::<_, StoreError>(ReadAnswer { read: count, unread })
    };
    Ok(axum::Json(shared.store.write(mark).await?))
}

enum Wanted {
    These(Vec<MessageId>),
    /// `None`: everything.
    UpTo(Option<MessageId>),
}

impl ReadBody {
    fn check(self) -> Result<Wanted, Problem> {
        let id = |pointer: String, text: &str| {
            MessageId::parse(text).map_err(|_| Problem::field(pointer, "is the id of a message"))
        };
        match (self.ids, self.up_to, self.all) {
            (Some(ids), None, false) if ids.len() <= IDS_MAX => {
                let ids = ids.iter().enumerate().map(|(at, text)| id(format!("/ids/{at}"), text));
                Ok(Wanted::These(ids.collect::<Result<_, _>>()?))
            }
            (Some(_), None, false) => Err(Problem::field("/ids", format!("has at most {IDS_MAX} ids"))),
            (None, Some(last), false) => Ok(Wanted::UpTo(Some(id("/up_to".to_owned(), &last)?))),
            (None, None, true) => Ok(Wanted::UpTo(None)),
            (_, _, _) => Err(Problem::field("", "has one of ids, up_to and all")),
        }
    }
}

/// Deletes a message from a user's inbox, and tells the user's devices.
#[utoipa::path(
    delete,
    path = "/v1/apps/{app}/users/{user}/inbox/{message}",
    tag = "inbox",
    responses((status = 200, description = "Gone", body = Unread)),
)]
pub(super) async fn delete(
    Guarded { app, .. }: Guarded<SEND>,
    Params((_, user, id)): Params<(String, String, String)>,
    State(shared): State<Api>,
) -> Result<impl IntoResponse, Problem> {
    let (user, id) = (user_of(user)?, message_id(&id)?);
    let delete = move |tx: &mut Tx<'_>| {
        let mut inbox = Inbox::open(tx, &app, &user)?;
        let was_there = inbox.delete(tx, id)?;
        inbox.close(tx)?;
        if !was_there {
            return Err(Problem::new(Errno::MessageUnknown));
        }
        tell_all(tx, &app, &user, None, &Changed { deleted: vec![id], ..Changed::default() })?;
        let (unread, revision) = inbox::counts(tx, &app, &user)?;
        Ok(Unread { unread, revision })
    };
    Ok(axum::Json(shared.store.write(delete).await?))
}
