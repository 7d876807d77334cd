//! The operations listener: is it alive, is it ready, what did it count. Not for the internet.

use crate::health::{Health, ThreadWatch};
use crate::metrics::Metrics;
use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use std::io;
use std::net::TcpListener;
use std::sync::Arc;
use std::thread::{Builder, JoinHandle};
use tokio::sync::oneshot;

/// The content type that Prometheus asks for.
const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

#[derive(Clone)]
struct Operations {
    health: Arc<Health>,
    metrics: Metrics,
}

/// The listener's thread.
pub(crate) struct Http {
    stop: oneshot::Sender<()>,
    thread: JoinHandle<()>,
}

impl Http {
    /// Serves on a listening socket, on a thread of its own: a scrape costs the shards nothing but their report.
    pub(crate) fn start(listener: TcpListener, health: Arc<Health>, metrics: Metrics) -> io::Result<Self> {
        const NAME: &str = "operations";
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let (stop, stopped) = oneshot::channel::<()>();
        let watch = ThreadWatch::new(Arc::clone(&health), NAME.to_owned());
        let routes = routes(Operations { health, metrics });
        let thread = Builder::new().name(NAME.to_owned()).spawn(move || {
            let _watch = watch;
            runtime.block_on(async move {
                let serving =
                    async move { axum::serve(tokio::net::TcpListener::from_std(listener)?, routes).await };
                tokio::select! {
                    result = serving => if let Err(error) = result {
                        tracing::error!(%error, "the operations listener ended");
                    },
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

fn routes(operations: Operations) -> Router {
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
    ([(header::CONTENT_TYPE, OPENMETRICS)], operations.metrics.text()).into_response()
}
