//! The operations listener: is it alive, is it ready, what did it count, and the API for operators.
//!
//! One file a resource. Every answer that is no success is a problem of RFC 9457. Nothing in here touches a session:
//! shards are asked, a bounded piece at a time, see [`admin`].

mod admin;
mod bans;
mod keys;
mod networks;
mod openapi;
mod problem;
mod program;
mod publish;
mod queues;
mod read;
mod retained;
mod serve;
mod sessions;
mod status;
mod subscriptions;
mod topics;

pub(crate) use admin::Admin;

use crate::health::{Health, ThreadWatch};
use crate::metrics::Metrics;
use admin::Api;
use axum::Router;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::{StatusCode, header};
use axum::middleware::{from_fn, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use keys::Guard;
use openapi::PREFIX;
use problem::{Errno, Problem};
use std::io;
use std::net::TcpListener;
use std::sync::Arc;
use std::thread::{Builder, JoinHandle};
use tokio::sync::oneshot;

/// The content type that Prometheus asks for.
const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Bytes of a request body: the largest packet of the default limits in base64 fits.
const BODY_BYTES_MAX: usize = 2 << 20;

/// The listener's thread.
pub(crate) struct Http {
    stop: oneshot::Sender<()>,
    thread: JoinHandle<()>,
}

impl Http {
    /// Serves on a listening socket, on a thread of its own: a scrape costs the shards nothing but their report.
    pub(crate) fn start(listener: TcpListener, api: Api) -> io::Result<Self> {
        const NAME: &str = "operations";
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let (stop, stopped) = oneshot::channel::<()>();
        let watch = ThreadWatch::new(Arc::clone(&api.shared.health), NAME.to_owned());
        let router = router(api);
        let thread = Builder::new().name(NAME.to_owned()).spawn(move || {
            let _watch = watch;
            runtime.block_on(async move {
                let serving = async move {
                    match tokio::net::TcpListener::from_std(listener) {
                        Ok(listener) => serve::serve(listener, router).await,
                        Err(error) => tracing::error!(%error, "the operations listener could not be served"),
                    }
                };
                tokio::select! {
                    () = serving => {}
                    _ = stopped => {}
                }
            });
        })?;
        Ok(Self { stop, thread })
    }

    /// Ends it.
    pub(crate) fn stop(self) {
        let _ = self.stop.send(()); // it may have ended
        let _ = self.thread.join(); // a panic was reported by its watch
    }
}

/// What the operations listener serves: health and metrics to everybody, the API to whoever has a key.
fn router(api: Api) -> Router {
    let guard = Guard::new(Arc::clone(&api.shared.admin_keys));
    let health = Operations { health: Arc::clone(&api.shared.health), metrics: api.shared.metrics.clone() };
    Router::new()
        .nest(PREFIX, routes(api).layer(from_fn_with_state(guard, keys::guard)))
        .merge(operations(health))
        .method_not_allowed_fallback(|| async { Problem::new(Errno::MethodNotAllowed) })
        .fallback(|| async { Problem::new(Errno::PathUnknown) })
        .layer(from_fn(serve::in_time))
}

/// The API without the question who asks: for whoever has asked already. To be nested below `/v1/broker`.
pub(crate) fn routes(api: Api) -> Router {
    openapi::routes(api)
        .method_not_allowed_fallback(|| async { Problem::new(Errno::MethodNotAllowed) })
        .fallback(|| async { Problem::new(Errno::PathUnknown) })
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
}

#[derive(Clone)]
struct Operations {
    health: Arc<Health>,
    metrics: Metrics,
}

fn operations(operations: Operations) -> Router {
    Router::new()
        .route("/healthz", get(alive))
        .route("/readyz", get(ready))
        .route("/metrics", get(metrics))
        .with_state(operations)
}

async fn alive(State(operations): State<Operations>) -> Response {
    answer(operations.health.is_alive(), "alive\n", "a thread ended\n")
}

async fn ready(State(operations): State<Operations>) -> Response {
    answer(
        operations.health.is_ready(),
        "ready\n",
        "not ready: starting, stopping, or the store takes no writes\n",
    )
}

fn answer(is_well: bool, yes: &'static str, no: &'static str) -> Response {
    if is_well {
        (StatusCode::OK, yes).into_response()
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, no).into_response()
    }
}

async fn metrics(State(operations): State<Operations>) -> Response {
    let text = tokio::task::spawn_blocking(move || operations.metrics.text()).await;
    ([(header::CONTENT_TYPE, OPENMETRICS)], text.unwrap_or_default()).into_response()
}
