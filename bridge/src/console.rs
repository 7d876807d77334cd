//! The operator's console: pages made here, changes made by the API.
//!
//! Whatever a page changes it asks of the API in this process, in the name of its visitor (`door.rs`): what a key may not
//! do there it cannot do here, and every rule stands once. What a visitor sees comes from the pure functions of `view`:
//! data in, HTML out. No page needs its script; scripts only keep pages fresh and shorten ways.

mod assets;
mod attempts;
mod door;
mod form;
pub(crate) mod history;
mod pages;
mod sessions;
mod texts;
mod view;
mod visitor;
mod words;

use std::sync::Arc;

use axum::Router;
use axum::extract::{DefaultBodyLimit, Request};
use axum::http::{HeaderName, HeaderValue, header};
use axum::middleware::{Next, from_fn, from_fn_with_state};
use axum::response::Response;
use axum::routing::{any, get, post};

use crate::audit::request::watch;
use crate::config::Config;
use crate::shared::Shared;
use attempts::Attempts;
use door::Door;
use sessions::Sessions;
pub(crate) use visitor::Peer;

/// Largest form: a service account and some certificates.
const FORM_BYTES_MAX: usize = 256 * 1024;

/// What a page may load and where a form may go: nothing and nowhere but here. No script or style stands in a page.
const CONTENT_SECURITY_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; \
     connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'";

/// What the pages share.
struct Console {
    shared: Arc<Shared>,
    door: Door,
    sessions: Sessions,
    attempts: Attempts,
}

type Here = Arc<Console>;

/// The API with the console in front of it.
pub(crate) fn mount(api: Router, shared: &Arc<Shared>, config: &Config) -> Router {
    let console = Arc::new(Console {
        shared: Arc::clone(shared),
        door: Door::new(api.clone()),
        sessions: Sessions::new(config.console_session_s.saturating_mul(1000)),
        attempts: Attempts::default(),
    });
    let app = "/console/apps/{app}";
    let of = |path: &str| format!("{app}{path}");
    Router::new()
        .route("/", get(pages::home))
        .route("/console", get(pages::home))
        .route("/console/", get(pages::home))
        .route("/console/assets/{name}", get(assets::serve))
        .route("/console/login", get(pages::login::show).post(pages::login::enter))
        .route("/console/logout", post(pages::login::leave))
        .route("/console/look", post(pages::login::look))
        .route("/console/apps", get(pages::apps::list).post(pages::apps::create))
        .route("/console/people", get(pages::people::list).post(pages::people::add))
        .route("/console/people/remove", post(pages::people::remove))
        .route("/console/password", get(pages::people::password).post(pages::people::set_password))
        .route(&of(""), get(pages::overview::show))
        .route(&of("/messages"), get(pages::messages::list))
        .route(&of("/messages/{message}"), get(pages::messages::show))
        .route(&of("/messages/{message}/recall"), post(pages::messages::recall))
        .route(&of("/messages/{message}/pause"), post(pages::messages::pause))
        .route(&of("/messages/{message}/resume"), post(pages::messages::resume))
        .route(&of("/messages/{message}/devices/{device}"), get(pages::trace::show))
        .route(&of("/compose"), get(pages::compose::show).post(pages::compose::send))
        .route(&of("/compose/count"), post(pages::compose::count))
        .route(&of("/devices"), get(pages::devices::list).post(pages::devices::register))
        .route(&of("/devices/{device}"), get(pages::devices::show))
        .route(&of("/devices/{device}/remove"), post(pages::devices::remove))
        .route(&of("/users/{user}"), get(pages::users::show))
        .route(&of("/users/{user}/read"), post(pages::users::read))
        .route(&of("/users/{user}/delete"), post(pages::users::delete))
        .route(&of("/audiences"), get(pages::audiences::list).post(pages::audiences::save))
        .route(&of("/audiences/remove"), post(pages::audiences::remove))
        .route(&of("/schedules"), get(pages::schedules::list))
        .route(&of("/schedules/{schedule}"), get(pages::schedules::show))
        .route(&of("/schedules/{schedule}/{act}"), post(pages::schedules::act))
        .route(&of("/templates"), get(pages::templates::list).post(pages::templates::save))
        .route(&of("/templates/{template}"), get(pages::templates::show))
        .route(&of("/templates/{template}/remove"), post(pages::templates::remove))
        .route(&of("/policies"), get(pages::policies::list).post(pages::policies::save))
        .route(&of("/policies/edit"), get(pages::policies::edit))
        .route(&of("/policies/remove"), post(pages::policies::remove))
        .route(&of("/webhooks"), get(pages::webhooks::list).post(pages::webhooks::create))
        .route(&of("/webhooks/{webhook}"), get(pages::webhooks::show))
        .route(&of("/webhooks/{webhook}/replay"), post(pages::webhooks::replay))
        .route(&of("/webhooks/{webhook}/remove"), post(pages::webhooks::remove))
        .route(&of("/vendors"), get(pages::vendors::list))
        .route(&of("/vendors/{vendor}"), get(pages::vendors::show).post(pages::vendors::set))
        .route(&of("/vendors/{vendor}/test"), post(pages::vendors::test))
        .route(&of("/vendors/{vendor}/remove"), post(pages::vendors::remove))
        .route(&of("/statistics"), get(pages::statistics::show))
        .route(&of("/events"), get(pages::events::list))
        .route(&of("/audit"), get(pages::audit::of_app))
        .route("/console/audit", get(pages::audit::of_all))
        .route("/console/audit.ndjson", get(pages::audit::export))
        .route(&of("/dead-tokens"), get(pages::dead_tokens::list))
        .route(&of("/dead-tokens.csv"), get(pages::dead_tokens::csv))
        .route(&of("/keys"), get(pages::keys::list).post(pages::keys::create))
        .route(&of("/keys/remove"), post(pages::keys::remove))
        .route("/console/broker", get(pages::broker::status))
        .route("/console/broker/sessions", get(pages::sessions::list))
        .route("/console/broker/sessions/{app}/{client}", get(pages::sessions::show))
        .route("/console/broker/sessions/{app}/{client}/{action}", post(pages::sessions::act))
        .route("/console/broker/queues", get(pages::broker::queues))
        .route("/console/broker/networks", get(pages::networks::list))
        .route("/console/broker/retained", get(pages::topics::retained).post(pages::topics::delete_retained))
        .route("/console/broker/topics", get(pages::topics::receivers).post(pages::topics::publish))
        .route("/console/{*rest}", any(pages::not_found))
        .layer(DefaultBodyLimit::max(FORM_BYTES_MAX))
        .layer(from_fn_with_state(Arc::clone(shared), watch))
        .layer(from_fn(protect))
        .with_state(console)
        .fallback_service(api)
}

/// The headers that keep other sites, old browsers and caches out of it.
async fn protect(request: Request, next: Next) -> Response {
    let mut answer = next.run(request).await;
    let headers = answer.headers_mut();
    for (name, value) in [
        (header::CONTENT_SECURITY_POLICY, CONTENT_SECURITY_POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::X_FRAME_OPTIONS, "DENY"),
        (header::REFERRER_POLICY, "no-referrer"),
        (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    answer
}
