//! `/v1/apps/{app}/policies`: frequency caps, quiet hours and the other rules that messages name.

use std::collections::BTreeSet;

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::IntoResponse;
use reveille_proto::ids::AppId;
use serde::Deserialize;
use utoipa::ToSchema;

use super::Api;
use super::body::{Json, Params};
use super::etag::{self, IfMatch};
use super::guard::{Guarded, READ, SEND};
use super::paging::{Listed, Page, PageQuery};
use super::problem::{Errno, Problem};
use crate::policies::{self, Cap, Coalesce, POLICIES_MAX, Policy, QuietHours};
use crate::segments::is_segment_name;
use crate::store::{Order, Tx};

/// The rules of a policy. What is left out does not rule.
#[derive(Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub(super) struct PolicyBody {
    /// A word for people.
    description: String,
    /// Messages of these categories that name no policy are under this one. No two policies may claim the same.
    categories: BTreeSet<String>,
    /// How many messages a recipient gets at most.
    caps: Vec<Cap>,
    /// When recipients are left alone.
    quiet_hours: Option<QuietHours>,
    /// What is pushed to a device that stays offline.
    coalesce: Coalesce,
    /// Whether a push that costs a vendor's daily quota waits for a device that is usually online before long.
    save_quota: bool,
    /// Messages a second at most, over all messages of the policy and all their recipients.
    #[schema(minimum = 1, maximum = 100_000)]
    rate_per_s: Option<u32>,
}

/// Makes or replaces a policy. It rules what still waits, too: held messages ask it again when their moment comes.
#[utoipa::path(
    put,
    path = "/v1/apps/{app}/policies/{policy}",
    tag = "policies",
    request_body = PolicyBody,
    responses((status = 200, description = "The policy", body = Policy), (status = 201, description = "The policy, which is new", body = Policy)),
)]
pub(super) async fn set(
    Guarded { app, .. }: Guarded<SEND>,
    Params((_, name)): Params<(String, String)>,
    headers: HeaderMap,
    State(shared): State<Api>,
    Json(body, _): Json<PolicyBody>,
) -> Result<impl IntoResponse, Problem> {
    if !is_segment_name(&name) {
        return Err(Problem::because(Errno::InvalidPath, "a policy's name is 1 to 64 of A-Z a-z 0-9 _ - ."));
    }
    let PolicyBody { description, categories, caps, quiet_hours, coalesce, save_quota, rate_per_s } = body;
    let policy = Policy {
        name,
        description,
        categories,
        caps,
        quiet_hours,
        coalesce,
        save_quota,
        rate_per_s,
        ..Policy::default()
    };
    let errors = policy.errors();
    if !errors.is_empty() {
        return Err(Problem::fields(errors));
    }
    let if_match = IfMatch::of(&headers);
    let (status, policy) = shared
        .store
        .write(move |tx| {
            let old = policies::load(tx, &app, &policy.name)?;
            if_match.check(old.as_ref())?;
            let policy = keep(tx, &app, policy, old.as_ref())?;
            Ok::<_, Problem>((if old.is_none() { StatusCode::CREATED } else { StatusCode::OK }, policy))
        })
        .await?;
    Ok((status, etag::header(&policy), axum::Json(policy)))
}

fn keep(tx: &mut Tx<'_>, app: &AppId, policy: Policy, old: Option<&Policy>) -> Result<Policy, Problem> {
    let all = policies::all(tx, app)?;
    if old.is_none() && all.len() >= POLICIES_MAX {
        return Err(Problem::because(Errno::TooManyPolicies, format!("at most {POLICIES_MAX}")));
    }
    for other in all.iter().filter(|other| other.name != policy.name) {
        if let Some(category) = other.categories.intersection(&policy.categories).next() {
            let detail = format!("the category {category} is under the policy {}", other.name);
            return Err(Problem::because(Errno::CategoryTaken, detail));
        }
    }
    let now_ms = tx.now_ms();
    let created_at_ms = old.map_or(now_ms, |old| old.created_at_ms);
    let policy = Policy { created_at_ms, updated_at_ms: now_ms, ..policy };
    policies::save(tx, app, &policy)?;
    Ok(policy)
}

/// One policy.
#[utoipa::path(
    get,
    path = "/v1/apps/{app}/policies/{policy}",
    tag = "policies",
    responses((status = 200, description = "The policy", body = Policy)),
)]
pub(super) async fn show(
    Guarded { app, .. }: Guarded<READ>,
    Params((_, name)): Params<(String, String)>,
    State(shared): State<Api>,
) -> Result<impl IntoResponse, Problem> {
    let policy = shared.store.read(move |tx| policies::load(tx, &app, &name)).await?;
    let policy = policy.ok_or_else(|| Problem::new(Errno::PolicyUnknown))?;
    Ok((etag::header(&policy), axum::Json(policy)))
}

/// Policies by name.
#[utoipa::path(
    get,
    path = "/v1/apps/{app}/policies",
    tag = "policies",
    params(PageQuery),
    responses((status = 200, description = "One page", body = Listed<Policy>)),
)]
pub(super) async fn list(
    Guarded { app, .. }: Guarded<READ>,
    page: Page,
    State(shared): State<Api>,
) -> Result<axum::Json<Listed<Policy>>, Problem> {
    let found = shared
        .store
        .read(move |tx| {
            let read = |from: Option<&str>, order, limit| policies::list(tx, &app, from, order, limit);
            page.walk(Order::Forward, read, |policy| policy.name.clone())
        })
        .await?;
    Ok(found.show(|policy| policy))
}

/// Removes a policy. Messages that named it are ruled by nothing from then on: what it holds goes when its moment comes.
#[utoipa::path(
    delete,
    path = "/v1/apps/{app}/policies/{policy}",
    tag = "policies",
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
            let policy = policies::load(tx, &app, &name)?;
            let policy = policy.ok_or_else(|| Problem::new(Errno::PolicyUnknown))?;
            if_match.check(Some(&policy))?;
            policies::remove(tx, &app, &name);
            Ok::<_, Problem>(())
        })
        .await?;
    Ok(StatusCode::NO_CONTENT)
}
