//! The `audience` of a request body, and `POST /v1/apps/{app}/audiences:estimate`.

use std::collections::{BTreeMap, BTreeSet};

use axum::extract::State;
use reveille_proto::ids::AppId;
use reveille_proto::topic::TopicName;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::Api;
use super::body::{Errors, Json};
use super::guard::{Limited, READ};
use super::problem::Problem;
use super::subscribers;
use crate::audience::{Audience, ENTRIES_MAX, Expression, Look, NotReady};
use crate::devices::{USER, is_device_id, is_label};
use crate::index::Summary;
use crate::lists::LISTS_MAX;
use crate::segments::WriteOutError;

/// Devices that an estimate shows.
pub(super) const SAMPLE: usize = 10;

/// A list of aliases means the alias type `user`.
#[derive(Deserialize, ToSchema)]
#[serde(untagged)]
enum Aliases {
    Users(Vec<String>),
    ByType(BTreeMap<String, Vec<String>>),
}

/// Whom a message is for.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct AudienceBody {
    #[serde(default)]
    devices: Vec<String>,
    aliases: Option<Aliases>,
    #[serde(default)]
    tags: Vec<String>,
    #[serde(default)]
    all: bool,
    /// A line of the audience language.
    #[schema(example = "tag:vip & (city:bj | city:sh)")]
    expr: Option<String>,
    /// Lists of ids that were uploaded, by the id of the upload.
    #[serde(default)]
    lists: Vec<String>,
    /// Whoever subscribes to this topic now, connected or not.
    topic: Option<String>,
    /// Of all these only whoever this expression means too.
    only: Option<String>,
}

impl AudienceBody {
    /// Checks it; its segments are still names.
    pub fn check(self, errors: &mut Errors) -> Audience {
        let aliases = match self.aliases {
            None => BTreeMap::new(),
            Some(Aliases::Users(users)) => BTreeMap::from([(USER.to_owned(), users)]),
            Some(Aliases::ByType(aliases)) => aliases,
        };
        for (at, device) in self.devices.iter().enumerate() {
            if !is_device_id(device) {
                errors.add(format!("/audience/devices/{at}"), "is a client id of 1 to 1,024 bytes");
            }
        }
        let has_expr = self.expr.is_some();
        let expr = self.expr.and_then(|text| errors.expression("/audience/expr", &text));
        let only = self.only.and_then(|text| errors.expression("/audience/only", &text));
        if self.lists.len() > LISTS_MAX {
            errors.add("/audience/lists", format!("has at most {LISTS_MAX} lists"));
        }
        for (at, list) in self.lists.iter().enumerate() {
            if !is_label(list) {
                errors.add(format!("/audience/lists/{at}"), "is the id of an upload");
            }
        }
        if let Some(Err(error)) = self.topic.as_ref().map(|topic| TopicName::parse(topic.clone())) {
            errors.add("/audience/topic", error.to_string());
        }
        let audience = Audience {
            devices: self.devices,
            aliases,
            tags: self.tags,
            all: self.all,
            expr,
            lists: self.lists,
            topic: self.topic,
            only,
            within: BTreeSet::new(),
        };
        if audience.is_empty() && !has_expr {
            errors.add("/audience", "names nobody: give devices, aliases, tags, lists, topic, expr, or all");
        }
        if audience.entries() > ENTRIES_MAX {
            errors.add("/audience", format!("has at most {ENTRIES_MAX} entries; use a tag for more"));
        }
        audience.in_order()
    }
}

impl Errors {
    /// Reads an expression, or notes why it is none.
    pub fn expression(&mut self, pointer: &str, text: &str) -> Option<Expression> {
        Expression::parse(text).map_err(|error| self.add(pointer, error.to_string())).ok()
    }
}

/// A problem of an expression that stands at this place of the body.
pub(super) fn not_written_out(error: WriteOutError, pointer: &str) -> Problem {
    match error {
        WriteOutError::Store(error) => error.into(),
        WriteOutError::Unknown(_)
        | WriteOutError::TooDeep(_)
        | WriteOutError::TooMany
        | WriteOutError::TooLarge(_) => Problem::field(pointer, error.to_string()),
    }
}

impl From<NotReady> for Problem {
    fn from(error: NotReady) -> Self {
        match error {
            NotReady::Store(error) => error.into(),
            NotReady::Expression { .. } | NotReady::ListGrows { .. } | NotReady::ListUnknown { .. } => {
                Self::field(error.pointer(), error.to_string())
            }
        }
    }
}

/// Writes out the segments, and counts.
pub(super) async fn count(
    shared: &Api,
    app: &AppId,
    mut audience: Audience,
) -> Result<(Audience, u64), Problem> {
    if let Some(count) = audience.listed_only() {
        return Ok((audience, count));
    }
    subscribers::keep(shared, app, &mut audience).await?;
    let app = app.clone();
    shared
        .store
        .read(move |tx| {
            audience.make_ready(tx, &app)?;
            let count = audience.estimate(tx, &app)?;
            Ok((audience, count))
        })
        .await
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct EstimateBody {
    audience: AudienceBody,
}

/// Counts an audience without sending.
#[utoipa::path(
    post,
    path = "/v1/apps/{app}/audiences:estimate",
    tag = "audiences",
    request_body = EstimateBody,
    responses((status = 200, description = "How many, of what kind, and some of them", body = Estimate)),
)]
pub(super) async fn estimate(
    Limited { app, caller }: Limited<READ>,
    State(shared): State<Api>,
    Json(body, _): Json<EstimateBody>,
) -> Result<axum::Json<Estimate>, Problem> {
    let mut errors = Errors::default();
    let mut audience = body.audience.check(&mut errors);
    errors.or_ok()?;
    subscribers::look(&shared, &app, &mut audience).await?;
    audience.within = caller.tags().clone();
    let look = shared
        .store
        .read(move |tx| {
            audience.make_ready(tx, &app)?;
            Ok::<_, Problem>(audience.look(tx, &app, SAMPLE)?)
        })
        .await?;
    Ok(axum::Json(look.into()))
}

/// Whom an audience means.
#[derive(Serialize, ToSchema)]
pub(super) struct Estimate {
    devices: u64,
    online: u64,
    /// Devices with a live token, by vendor; a device may have several.
    by_vendor: BTreeMap<String, u64>,
    without_token: u64,
    /// The ids of some of them.
    sample: Vec<String>,
}

impl From<Look> for Estimate {
    fn from(Look { summary, sample }: Look) -> Self {
        let Summary { devices, online, by_vendor, without_token } = summary;
        Self { devices, online, by_vendor, without_token, sample }
    }
}
