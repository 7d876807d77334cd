//! The description of the API, made from the code that serves it: a route cannot be in one and not in the other.

use axum::response::{IntoResponse, Response};
use axum::routing::put;
use utoipa::openapi::path::{HttpMethod, Operation, ParameterBuilder, ParameterIn, PathItem};
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityRequirement, SecurityScheme};
use utoipa::openapi::{
    ContentBuilder, ObjectBuilder, OpenApi, Ref, RefOr, Required, Response as Described, ResponseBuilder,
    Type,
};
use utoipa::{OpenApi as _, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::problem::ProblemBody;
use super::{
    Api, aliases, apns_channels, apps, audiences, audit, compat, credentials, dead_tokens, deliveries,
    device_queue, devices, events, exports, imports, inbox, long_operations, messages, operations, policies,
    publish, receipts, schedules, segments, stats, tags, templates, topics, webhooks,
};

/// The name of the security scheme in the description.
const SCHEME: &str = "key";

/// The usual credential of a vendor, and one with a name: the same handlers.
const CREDENTIAL: &str = "/v1/apps/{app}/credentials/{vendor}";
const NAMED_CREDENTIAL: &str = "/v1/apps/{app}/credentials/{vendor}/{name}";

/// What stands behind a name and a colon: routes know whole segments of a path only, so one handler reads it.
const ACTS: &[(&str, &[&str])] = &[
    (CREDENTIAL, &["test"]),
    (NAMED_CREDENTIAL, &["test"]),
    ("/v1/apps/{app}/messages/{message}", &["pause", "resume"]),
    ("/v1/apps/{app}/aliases/{type}/{alias}", &["add", "remove"]),
    ("/v1/apps/{app}/schedules/{schedule}", &["pause", "resume", "run"]),
    ("/v1/apps/{app}/tags/{tag}", &["add", "remove"]),
    ("/v1/apps/{app}/templates/{template}", &["render"]),
    ("/v1/apps/{app}/webhooks/{webhook}", &["replay"]),
];

/// These ask for no key.
const OPEN: [&str; 4] = ["/healthz", "/readyz", "/metrics", "/v1/vendors/{vendor}/receipts/{app}"];

#[derive(utoipa::OpenApi)]
#[openapi(
    info(title = "Reveille push server", description = "Times are milliseconds since 1970."),
    components(schemas(ProblemBody)),
    tags(
        (name = "apps", description = "Tenants and their keys"),
        (name = "audit", description = "Who changed what"),
        (name = "audiences", description = "Users, tags, segments: whom a message is for"),
        (name = "compat", description = "Paths, bodies and answers of other push services; see docs/migrating.md"),
        (name = "credentials", description = "What an app needs to speak to a vendor"),
        (name = "devices", description = "Installs of an app, their tokens and presence"),
        (name = "events", description = "What happens, told live"),
        (name = "imports", description = "Files of devices and ids, in and out"),
        (name = "inbox", description = "What users have kept to read, and what they have not read"),
        (name = "messages", description = "Send, follow, withdraw"),
        (name = "planning", description = "Templates and schedules"),
        (name = "operations", description = "What runs, and how it fares"),
        (name = "policies", description = "How often, when and how an app speaks to its users"),
        (name = "statistics", description = "What deliveries passed when"),
        (name = "topics", description = "What topics say, for dashboards without MQTT"),
        (name = "vendors", description = "What vendors report"),
        (name = "webhooks", description = "Who is told what happens"),
    )
)]
struct Description;

/// Every route, with what is said of it.
pub(super) fn described() -> OpenApiRouter<Api> {
    OpenApiRouter::with_openapi(Description::openapi())
        .routes(routes!(apps::create, apps::list))
        .routes(routes!(apps::show, apps::change, apps::remove))
        .routes(routes!(apps::create_key, apps::list_keys))
        .routes(routes!(apps::remove_key))
        .routes(routes!(long_operations::show))
        .routes(routes!(credentials::list))
        .routes(routes!(credentials::set, credentials::show, credentials::remove, credentials::act))
        .route(
            NAMED_CREDENTIAL,
            put(credentials::set).get(credentials::show).delete(credentials::remove).post(credentials::act),
        )
        .routes(routes!(devices::list))
        .routes(routes!(devices::import))
        .routes(routes!(devices::set, devices::change, devices::show, devices::remove))
        .routes(routes!(devices::set_token))
        .routes(routes!(devices::presence))
        .routes(routes!(device_queue::show, device_queue::purge))
        .routes(routes!(deliveries::of_device))
        .routes(routes!(dead_tokens::list))
        .routes(routes!(audiences::estimate))
        .routes(routes!(aliases::show_user))
        .routes(routes!(aliases::devices_of_user))
        .routes(routes!(aliases::show, aliases::act))
        .routes(routes!(topics::last))
        .routes(routes!(topics::history))
        .routes(routes!(topics::stream))
        .routes(routes!(inbox::list))
        .routes(routes!(inbox::read))
        .routes(routes!(inbox::delete))
        .routes(routes!(inbox::unread_count))
        .routes(routes!(tags::list))
        .routes(routes!(tags::show, tags::act))
        .routes(routes!(segments::list))
        .routes(routes!(segments::set, segments::show, segments::remove))
        .routes(routes!(policies::list))
        .routes(routes!(policies::set, policies::show, policies::remove))
        .routes(routes!(schedules::create, schedules::list))
        .routes(routes!(schedules::show, schedules::replace, schedules::remove, schedules::act))
        .routes(routes!(templates::list))
        .routes(routes!(templates::set, templates::show, templates::remove, templates::act))
        .routes(routes!(receipts::take, receipts::greet))
        .routes(routes!(messages::send::send, messages::list))
        .routes(routes!(messages::send::validate))
        .routes(routes!(messages::batch::send_all))
        .routes(routes!(messages::show, messages::replacing::replace, messages::withdraw, messages::act))
        .routes(routes!(deliveries::list))
        .routes(routes!(deliveries::show))
        .routes(routes!(apns_channels::list, apns_channels::create))
        .routes(routes!(apns_channels::show, apns_channels::remove, apns_channels::send))
        .routes(routes!(webhooks::list, webhooks::create))
        .routes(routes!(webhooks::show, webhooks::set, webhooks::remove, webhooks::act))
        .routes(routes!(webhooks::attempts))
        .routes(routes!(webhooks::dead_letters))
        .routes(routes!(compat::keys::adopt))
        .routes(routes!(compat::jpush::push))
        .routes(routes!(compat::jpush::validate))
        .routes(routes!(compat::jpush::cids))
        .routes(routes!(compat::unipush::send))
        .routes(routes!(compat::gorush::push))
        .routes(routes!(audit::list))
        .routes(routes!(audit::export))
        .routes(routes!(audit::verify))
        .routes(routes!(stats::show))
        .routes(routes!(events::of_all))
        .routes(routes!(events::of_app))
        .routes(routes!(publish::publish))
        .routes(routes!(imports::begin))
        .routes(routes!(imports::show))
        .routes(routes!(imports::errors))
        .routes(routes!(exports::begin))
        .routes(routes!(exports::fetch, exports::remove))
        .routes(routes!(operations::record))
        .routes(routes!(operations::healthz))
        .routes(routes!(operations::readyz))
        .routes(routes!(operations::metrics))
}

/// The finished text.
pub(super) fn text(mut description: OpenApi) -> String {
    if let Some(item) = description.paths.paths.get(CREDENTIAL).cloned() {
        description.paths.paths.insert(NAMED_CREDENTIAL.to_owned(), item);
    }
    for (path, mut item) in std::mem::take(&mut description.paths.paths) {
        let acts = ACTS.iter().find(|(of, _)| *of == path).map_or(&[][..], |(_, acts)| acts);
        if let Some(operation) = item.post.take_if(|_| !acts.is_empty()) {
            for act in acts {
                let mut item = PathItem::new(HttpMethod::Post, operation.clone());
                let path = format!("{path}:{act}");
                complete(&path, &mut item);
                description.paths.paths.insert(path, item);
            }
        }
        complete(&path, &mut item);
        description.paths.paths.insert(path, item);
    }
    let scheme = SecurityScheme::Http(HttpBuilder::new().scheme(HttpAuthScheme::Bearer).build());
    if let Some(components) = &mut description.components {
        components.security_schemes.insert(SCHEME.to_owned(), scheme.into());
    }
    description.security = Some(vec![SecurityRequirement::new(SCHEME, Vec::<String>::new())]);
    description.to_json().unwrap_or_default() // numbers, texts and lists only: it cannot fail
}

/// What every operation has.
fn complete(path: &str, item: &mut PathItem) {
    for (method, operation) in [
        ("get", &mut item.get),
        ("put", &mut item.put),
        ("post", &mut item.post),
        ("patch", &mut item.patch),
        ("delete", &mut item.delete),
    ] {
        if let Some(operation) = operation {
            complete_one(method, path, operation);
        }
    }
}

fn complete_one(method: &str, path: &str, operation: &mut Operation) {
    let words =
        path.split(|c: char| !c.is_ascii_alphanumeric()).filter(|word| !word.is_empty() && *word != "v1");
    operation.operation_id = Some(words.fold(method.to_owned(), |id, word| format!("{id}_{word}")));
    let names = path.split('{').skip(1).filter_map(|rest| Some(rest.split_once('}')?.0));
    let text = ObjectBuilder::new().schema_type(Type::String).build();
    for name in names {
        let parameter = ParameterBuilder::new()
            .name(name)
            .parameter_in(ParameterIn::Path)
            .required(Required::True)
            .schema(Some(text.clone()));
        operation.parameters.get_or_insert_default().push(parameter.build().into());
    }
    if OPEN.contains(&path) {
        operation.security = Some(vec![SecurityRequirement::default()]);
    }
    // Whatever is no success is a problem.
    let schema = RefOr::Ref(Ref::from_schema_name(ProblemBody::name()));
    let content = ContentBuilder::new().schema(Some(schema)).build();
    let problem = ResponseBuilder::new().description("Why not").content("application/problem+json", content);
    let problem: RefOr<Described> = problem.build().into();
    operation.responses.responses.entry("default".to_owned()).or_insert(problem);
}

/// The answer of `/v1/openapi.json`.
pub(super) fn answer(text: &str) -> Response {
    ([(axum::http::header::CONTENT_TYPE, "application/json")], text.to_owned()).into_response()
}
