//! The HTTP API: one file a resource. Every answer that is no success is a problem of RFC 9457.

mod aliases;
mod apns_channels;
mod apps;
mod audiences;
mod audit;
mod body;
mod compat;
mod credentials;
mod dead_tokens;
mod deliveries;
mod device_queue;
mod devices;
mod docs;
mod endless;
mod etag;
mod events;
mod exports;
mod guard;
mod idempotency;
pub(crate) mod imports;
mod inbox;
mod long_operations;
mod messages;
mod openapi;
mod operations;
mod paging;
mod policies;
pub mod problem;
mod publish;
mod rates;
mod receipts;
mod schedules;
mod segments;
mod stats;
mod subscribers;
mod tags;
mod templates;
pub mod tls;
mod topics;
mod webhooks;

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{DefaultBodyLimit, Request, State};
use axum::http::{HeaderValue, Method, header};
use axum::middleware::{Next, from_fn, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use hyper::service::{Service as _, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

use crate::audit::request::watch;
use crate::config::Config;
use crate::console::Peer;
use crate::shared::Shared;
pub(crate) use audit::file as audit_file;
pub(crate) use deliveries::row as show_delivery;
pub(crate) use exports::Downloads;
pub(crate) use messages::state as message_state;
use problem::{Errno, Problem};
pub(crate) use rates::Rates;
use tls::Certificates;

/// How long a connection may be idle, or take for the head of a request.
const HEAD_TIMEOUT: Duration = Duration::from_secs(30);
/// How long a TLS handshake may take.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// How long requests under way may take when the bridge stops.
const STOP_TIMEOUT: Duration = Duration::from_secs(5);

type Api = Arc<Shared>;

/// Every path of the API. What is not named here does not exist.
fn router(shared: &Api, config: &Config, operations: Option<Router>) -> Router {
    let timeout = Duration::from_secs(config.request_timeout_s);
    let nothing = || Router::new().fallback(|| async { Problem::new(Errno::PathUnknown) });
    let operations = operations.unwrap_or_else(nothing);
    let operations = operations.layer(from_fn_with_state(Arc::clone(shared), guard::operators_only));
    let (routes, description) = openapi::described().split_for_parts();
    let text: Arc<str> = openapi::text(description).into();
    let page: Arc<str> = docs::page(&text).into();
    let api = routes
        .nest_service("/v1/broker", operations)
        .route("/v1/openapi.json", get(move || async move { openapi::answer(&text) }))
        .route("/v1/docs", get(move || async move { docs::answer(&page) }))
        .route("/v1/docs/style.css", get(docs::style))
        .method_not_allowed_fallback(|| async { Problem::new(Errno::MethodNotAllowed) })
        .fallback(|| async { Problem::new(Errno::PathUnknown) })
        .layer(from_fn_with_state(Arc::clone(shared), watch))
        .layer(DefaultBodyLimit::max(config.body_bytes_max))
        .layer(from_fn_with_state((Arc::clone(shared), timeout), watch_over))
        .with_state(Arc::clone(shared));
    if config.console { crate::console::mount(api, shared, config) } else { api }
}

/// Bounds each request in time and counts its answer.
async fn watch_over(
    State((shared, timeout)): State<(Api, Duration)>,
    request: Request,
    next: Next,
) -> Response {
    // An upload is as slow as the network that it comes over; its own handler bounds it.
    let is_upload = request.method() == Method::POST && request.uri().path().ends_with("/imports");
    let timeout = if is_upload { imports::UPLOAD_TIMEOUT } else { timeout };
    let answer = tokio::time::timeout(timeout, next.run(request)).await;
    let mut answer = answer.unwrap_or_else(|_| Problem::new(Errno::RequestTimeout).into_response());
    // Answers hold keys, tokens and what people are told: no cache keeps them, and nothing in them is run.
    let headers = answer.headers_mut();
    headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    shared.metrics.answer(answer.status().as_u16());
    answer
}

/// Serves until told to stop; then finishes the requests that are under way.
pub(crate) async fn serve(
    shared: Api,
    config: Config,
    operations: Option<Router>,
    listener: TcpListener,
    certificates: Option<Certificates>,
    mut stop: watch::Receiver<bool>,
) {
    let router = router(&shared, &config, operations);
    let room = Arc::new(Semaphore::new(config.connections_max));
    let mut connections = JoinSet::new();
    loop {
        let Ok(permit) = Arc::clone(&room).acquire_owned().await else { return };
        tokio::select! {
            () = stopped(&mut stop) => break,
            accepted = listener.accept() => match accepted {
                Ok((socket, _)) => {
                    let served = serve_socket(router.clone(), socket, certificates.clone(), permit, stop.clone());
                    connections.spawn(served);
                }
                Err(error) => {
                    // Too many open files passes; a loop without a pause would not let it.
                    tracing::warn!(%error, "a connection could not be accepted");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            },
        }
        while connections.try_join_next().is_some() {}
    }
    drop(listener);
    let _ =
        tokio::time::timeout(STOP_TIMEOUT, async { while connections.join_next().await.is_some() {} }).await;
}

async fn serve_socket(
    router: Router,
    socket: TcpStream,
    certificates: Option<Certificates>,
    _permit: OwnedSemaphorePermit,
    mut stop: watch::Receiver<bool>,
) {
    let _ = socket.set_nodelay(true); // a socket that is gone shows it at the first read
    let peer = socket.peer_addr().ok().map(|peer| Peer(peer.ip()));
    let Some(certificates) = certificates else { return serve_one(router, socket, peer, stop).await };
    let handshake = TlsAcceptor::from(certificates.server_config()).accept(socket);
    let shaken = tokio::select! {
        shaken = tokio::time::timeout(HANDSHAKE_TIMEOUT, handshake) => shaken,
        () = stopped(&mut stop) => return,
    };
    match shaken {
        Ok(Ok(socket)) => serve_one(router.layer(from_fn(over_tls)), socket, peer, stop).await,
        Ok(Err(error)) => tracing::debug!(%error, "a TLS handshake failed"),
        Err(_) => tracing::debug!("a TLS handshake took too long"),
    }
}

/// Says to whoever sets cookies that the request came over TLS, as a proxy in front would.
async fn over_tls(mut request: Request, next: Next) -> Response {
    request.headers_mut().insert("x-forwarded-proto", HeaderValue::from_static("https"));
    next.run(request).await
}

async fn serve_one(
    router: Router,
    socket: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    peer: Option<Peer>,
    mut stop: watch::Receiver<bool>,
) {
    let service = TowerToHyperService::new(router);
    let service = service_fn(move |mut request: hyper::Request<hyper::body::Incoming>| {
        if let Some(peer) = peer {
            request.extensions_mut().insert(peer);
        }
        service.call(request)
    });
    let mut builder = hyper::server::conn::http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(HEAD_TIMEOUT);
    let connection = builder.serve_connection(TokioIo::new(socket), service);
    let mut connection = std::pin::pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = stopped(&mut stop) => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "an HTTP connection ended early");
    }
}

/// Ends when the bridge is told to stop.
async fn stopped(stop: &mut watch::Receiver<bool>) {
    let _ = stop.wait_for(|stop| *stop).await; // whoever could tell is gone: stop too
}
