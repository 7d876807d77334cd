//! `/v1/apps/{app}/segments`: audiences under a name.

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::IntoResponse;
use reveille_proto::ids::AppId;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::Api;
use super::audiences::not_written_out;
use super::body::{Json, Params};
use super::etag::{self, IfMatch};
use super::guard::{Guarded, READ, SEND};
use super::paging::{Listed, Page, PageQuery};
use super::problem::{Errno, Problem};
use crate::audience::{Audience, Expression};
use crate::segments::{self, SEGMENTS_MAX, Segment, is_segment_name};
use crate::store::{Order, Tx};

const DESCRIPTION_MAX: usize = 256;

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct SegmentBody {
    /// Whom it means, in the audience language.
    #[schema(min_length = 1, example = "city:gz | city:sz")]
    expr: String,
    #[serde(default)]
    #[schema(max_length = 256)]
    description: String,
}

/// A segment.
#[derive(Serialize, ToSchema)]
#[schema(as = Segment)]
pub(super) struct SegmentView {
    name: String,
    /// The expression, as the server writes it.
    expr: String,
    description: String,
    created_at_ms: u64,
    updated_at_ms: u64,
    /// How many devices are in it now, where one segment is asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    devices: Option<u64>,
}

impl From<Segment> for SegmentView {
    fn from(segment: Segment) -> Self {
        let Segment { name, expr, description, created_at_ms, updated_at_ms } = segment;
        Self { name, expr: expr.to_string(), description, created_at_ms, updated_at_ms, devices: None }
    }
}

/// Makes or replaces a segment. Messages that were sent to it before keep the audience that it had then.
#[utoipa::path(
    put,
    path = "/v1/apps/{app}/segments/{segment}",
    tag = "audiences",
    request_body = SegmentBody,
    responses((status = 200, description = "The segment", body = SegmentView), (status = 201, description = "The segment, which is new", body = SegmentView)),
)]
pub(super) async fn set(
    Guarded { app, .. }: Guarded<SEND>,
    Params((_, name)): Params<(String, String)>,
    headers: HeaderMap,
    State(shared): State<Api>,
    Json(body, _): Json<SegmentBody>,
) -> Result<impl IntoResponse, Problem> {
    if !is_segment_name(&name) {
        return Err(Problem::because(Errno::InvalidPath, "a segment's name is 1 to 64 of A-Z a-z 0-9 _ - ."));
    }
    let expr = Expression::parse(&body.expr).map_err(|error| Problem::field("/expr", error.to_string()))?;
    if body.description.len() > DESCRIPTION_MAX {
        return Err(Problem::field("/description", format!("has at most {DESCRIPTION_MAX} bytes")));
    }
    let (if_match, description) = (IfMatch::of(&headers), body.description);
    let (status, segment) = shared
        .store
        .write(move |tx| {
            let old = segments::load(tx, &app, &name)?;
            if_match.check(old.as_ref())?;
            let now_ms = tx.now_ms();
            let created_at_ms = old.as_ref().map_or(now_ms, |old| old.created_at_ms);
            let segment = Segment { name, expr, description, created_at_ms, updated_at_ms: now_ms };
            keep(tx, &app, &segment, old.is_none())?;
            Ok::<_, Problem>((if old.is_none() { StatusCode::CREATED } else { StatusCode::OK }, segment))
        })
        .await?;
    Ok((status, etag::header(&segment), axum::Json(SegmentView::from(segment))))
}

/// Writes a segment that can be written out: what it names exists, and it does not stand within itself.
fn keep(tx: &mut Tx<'_>, app: &AppId, segment: &Segment, is_new: bool) -> Result<(), Problem> {
    if is_new && segments::are_full(tx, app)? {
        return Err(Problem::because(Errno::TooManySegments, format!("at most {SEGMENTS_MAX}")));
    }
    segments::save(tx, app, segment)?;
    segments::write_out(tx, app, &segment.expr).map_err(|error| not_written_out(error, "/expr"))?;
    Ok(())
}

/// One segment with how many devices are in it now.
#[utoipa::path(
    get,
    path = "/v1/apps/{app}/segments/{segment}",
    tag = "audiences",
    responses((status = 200, description = "The segment", body = SegmentView)),
)]
pub(super) async fn show(
    Guarded { app, .. }: Guarded<READ>,
    Params((_, name)): Params<(String, String)>,
    State(shared): State<Api>,
) -> Result<impl IntoResponse, Problem> {
    let (segment, shown) = shared
        .store
        .read(move |tx| {
            let segment = segments::load(tx, &app, &name)?;
            let segment = segment.ok_or_else(|| Problem::new(Errno::SegmentUnknown))?;
            let shown = counted(tx, &app, &segment)?;
            Ok::<_, Problem>((segment, shown))
        })
        .await?;
    Ok((etag::header(&segment), axum::Json(shown)))
}

fn counted(tx: &Tx<'_>, app: &AppId, segment: &Segment) -> Result<SegmentView, Problem> {
    let expr =
        segments::write_out(tx, app, &segment.expr).map_err(|error| not_written_out(error, "/expr"))?;
    let audience = Audience { expr: Some(expr), ..Audience::default() };
    Ok(SegmentView { devices: Some(audience.estimate(tx, app)?), ..segment.clone().into() })
}

/// Segments by name.
#[utoipa::path(
    get,
    path = "/v1/apps/{app}/segments",
    tag = "audiences",
    params(PageQuery),
    responses((status = 200, description = "One page", body = Listed<SegmentView>)),
)]
pub(super) async fn list(
    Guarded { app, .. }: Guarded<READ>,
    page: Page,
    State(shared): State<Api>,
) -> Result<axum::Json<Listed<SegmentView>>, Problem> {
    let read = move |tx: &Tx<'_>| {
        let read = |from: Option<&str>, order, limit| segments::page(tx, &app, from, order, limit);
        page.walk(Order::Forward, read, |segment| segment.name.clone())
    };
    Ok(shared.store.read(read).await?.show(SegmentView::from))
}

/// Removes a segment that no other one names.
#[utoipa::path(
    delete,
    path = "/v1/apps/{app}/segments/{segment}",
    tag = "audiences",
    responses((status = 204, description = "Done")),
)]
pub(super) async fn remove(
    Guarded { app, .. }: Guarded<SEND>,
    Params((_, name)): Params<(String, String)>,
    headers: HeaderMap,
    State(shared): State<Api>,
) -> Result<impl IntoResponse, Problem> {
    let if_match = IfMatch::of(&headers);
    shared
        .store
        .write(move |tx| {
            let segment = segments::load(tx, &app, &name)?;
            let segment = segment.ok_or_else(|| Problem::new(Errno::SegmentUnknown))?;
            if_match.check(Some(&segment))?;
            if let Some(user) = segments::user_of(tx, &app, &name)? {
                return Err(Problem::because(Errno::SegmentInUse, format!("by the segment {user}")));
            }
            segments::remove(tx, &app, &name);
            Ok(())
        })
        .await?;
    Ok(StatusCode::NO_CONTENT)
}
