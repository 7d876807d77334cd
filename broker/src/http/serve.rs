//! Serving HTTP with a bound on everything that a stranger could hold: connections, heads, bodies, time.

use super::keys::Peer;
use super::problem::{Errno, Problem};
use axum::Router;
use axum::extract::Request;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use hyper::server::conn::http1;
use hyper::service::{Service as _, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;

/// Connections at once. Scrapes and operators need few; each is a task and some kilobytes.
const CONNECTIONS_MAX: usize = 256;

/// How long a connection may be idle, or take for the head of a request.
const HEAD_TIMEOUT: Duration = Duration::from_secs(15);

/// How long one request may take. Longer than a commit on a slow disk.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);

/// Pause when the process has no file descriptor left.
const DESCRIPTOR_PAUSE: Duration = Duration::from_millis(100);

/// Serves for as long as it is polled; dropping it ends every connection.
pub(crate) async fn serve(listener: TcpListener, router: Router) {
    let room = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let mut connections = JoinSet::new();
    loop {
        let Ok(permit) = Arc::clone(&room).acquire_owned().await else { return };
        match listener.accept().await {
            Ok((socket, peer)) => {
                let peer = Peer(peer.ip().to_canonical());
                connections.spawn(serve_one(router.clone(), socket, peer, permit));
            }
            Err(error) => {
                tracing::warn!(%error, "an HTTP connection could not be accepted");
                tokio::time::sleep(DESCRIPTOR_PAUSE).await;
            }
        }
        while connections.try_join_next().is_some() {}
    }
}

async fn serve_one(router: Router, socket: TcpStream, peer: Peer, _permit: OwnedSemaphorePermit) {
    let _ = socket.set_nodelay(true); // a socket that is gone shows it at the first read
    let service = TowerToHyperService::new(router);
    let service = service_fn(move |mut request: hyper::Request<hyper::body::Incoming>| {
        request.extensions_mut().insert(peer);
        service.call(request)
    });
    let mut builder = http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(HEAD_TIMEOUT);
    if let Err(error) = builder.serve_connection(TokioIo::new(socket), service).await {
        tracing::debug!(%error, "an HTTP connection ended early");
    }
}

/// Bounds a request in time, its body included.
pub(crate) async fn in_time(request: Request, next: Next) -> Response {
    let answer = tokio::time::timeout(REQUEST_TIMEOUT, next.run(request)).await;
    answer.unwrap_or_else(|_| Problem::new(Errno::RequestTimeout).into_response())
}
