//! The description of the API, made from the code that serves it: a route cannot be in one and not in the other.

use super::admin::Api;
use super::problem::ProblemBody;
use super::{bans, networks, program, publish, queues, retained, sessions, status, subscriptions, topics};
use axum::Router;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use std::sync::Arc;
use utoipa::openapi::path::Operation;
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityRequirement, SecurityScheme};
use utoipa::openapi::{ContentBuilder, OpenApi, Ref, RefOr, Response as Described, ResponseBuilder};
use utoipa::{OpenApi as _, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

/// Where the API is, whoever serves it.
pub(crate) const PREFIX: &str = "/v1/broker";

/// The name of the security scheme in the description.
const SCHEME: &str = "key";

#[derive(utoipa::OpenApi)]
#[openapi(
    info(title = "Reveille broker", description = "What operators see and do. Times are milliseconds since 1970."),
    components(schemas(ProblemBody)),
    tags(
        (name = "sessions", description = "What the broker keeps of each client"),
        (name = "subscriptions", description = "Who gets what"),
        (name = "queues", description = "Messages that are not done"),
        (name = "retained", description = "The newest message of each topic that keeps one"),
        (name = "topics", description = "What topics say, for those without MQTT"),
        (name = "publish", description = "Messages over HTTP"),
        (name = "bans", description = "Who may not connect"),
        (name = "networks", description = "For how long a connection may be silent"),
        (name = "broker", description = "What runs, and how it fares"),
        (name = "program", description = "Log, traces, configuration, drain"),
    )
)]
struct Description;

/// Every route below [`PREFIX`], and what it serves at `/openapi.json`.
pub(crate) fn routes(api: Api) -> Router {
    let (router, description) = described().split_for_parts();
    let text: Arc<str> = text(description).into();
    router.with_state(api).route("/openapi.json", get(move || async move { json(&text) }))
}

fn described() -> OpenApiRouter<Api> {
    OpenApiRouter::with_openapi(Description::openapi())
        .routes(routes!(sessions::list))
        .routes(routes!(sessions::show, sessions::end))
        .routes(routes!(sessions::kick))
        .routes(routes!(subscriptions::of_session))
        .routes(routes!(queues::queued, queues::purge))
        .routes(routes!(subscriptions::list))
        .routes(routes!(subscriptions::receivers))
        .routes(routes!(queues::rank))
        .routes(routes!(retained::list, retained::delete_all))
        .routes(routes!(retained::show, retained::set, retained::delete))
        .routes(routes!(topics::last))
        .routes(routes!(topics::history))
        .routes(routes!(topics::stream))
        .routes(routes!(publish::publish))
        .routes(routes!(bans::list, bans::add))
        .routes(routes!(bans::remove))
        .routes(routes!(networks::list))
        .routes(routes!(status::stats))
        .routes(routes!(status::shards))
        .routes(routes!(status::listeners))
        .routes(routes!(status::build))
        .routes(routes!(program::log, program::set_log))
        .routes(routes!(program::config))
        .routes(routes!(program::reload))
        .routes(routes!(program::traces, program::trace))
        .routes(routes!(program::end_trace))
        .routes(routes!(program::drain))
}

fn text(mut description: OpenApi) -> String {
    for item in std::mem::take(&mut description.paths.paths) {
        let (path, mut item) = item;
        for operation in
            [&mut item.get, &mut item.put, &mut item.post, &mut item.delete].into_iter().flatten()
        {
            complete(operation);
        }
        description.paths.paths.insert(format!("{PREFIX}{path}"), item);
    }
    let scheme = SecurityScheme::Http(HttpBuilder::new().scheme(HttpAuthScheme::Bearer).build());
    if let Some(components) = &mut description.components {
        components.security_schemes.insert(SCHEME.to_owned(), scheme.into());
    }
    description.security = Some(vec![SecurityRequirement::new(SCHEME, Vec::<String>::new())]);
    description.to_json().unwrap_or_default() // numbers, texts and lists only: it cannot fail
}

/// What every operation has: whatever is no success is a problem.
fn complete(operation: &mut Operation) {
    let schema = RefOr::Ref(Ref::from_schema_name(ProblemBody::name()));
    let content = ContentBuilder::new().schema(Some(schema)).build();
    let problem = ResponseBuilder::new().description("Why not").content("application/problem+json", content);
    let problem: RefOr<Described> = problem.build().into();
    operation.responses.responses.insert("default".to_owned(), problem);
}

fn json(text: &str) -> Response {
    ([(axum::http::header::CONTENT_TYPE, "application/json")], text.to_owned()).into_response()
}
