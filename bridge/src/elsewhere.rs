//! The operations API of a broker in another process, as the router that a broker in this process would give: requests are passed on over
//! HTTP, with the bridge's own key.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::State;
use axum::http::header::{self, AUTHORIZATION, HeaderName};
use axum::http::{HeaderMap, HeaderValue, Request, StatusCode};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http_body_util::Full;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use tokio::sync::Semaphore;

use crate::http::problem::{Errno, Problem};
use crate::vendor::Secret;

/// How long a connection may take to come about.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// Silence after which a connection is probed, and between probes.
const KEEP_ALIVE: Duration = Duration::from_secs(15);
/// How long the broker may take until its answer begins. An answer without end, as a stream is one, may go on.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);
/// Requests whose answers did not begin yet.
const WAITING_MAX: usize = 64;
/// Idle connections that are kept, and for how long: less than the broker keeps them.
const IDLE_MAX: usize = 8;
const IDLE_FOR: Duration = Duration::from_secs(10);
/// Largest body of a request, as the broker has it.
const BODY_BYTES_MAX: usize = 2 << 20;
/// When to ask again for a broker that is away.
pub(crate) const AWAY_RETRY_S: u64 = 5;

/// What goes along with a request, and what comes back with an answer: nothing that is about one connection, and no key of the caller's.
const GOES: [HeaderName; 3] = [header::CONTENT_TYPE, header::ACCEPT, header::IF_MATCH];
const COMES: [HeaderName; 5] =
    [header::CONTENT_TYPE, header::CACHE_CONTROL, header::ETAG, header::LOCATION, header::RETRY_AFTER];

struct Elsewhere {
    address: SocketAddr,
    bearer: HeaderValue,
    client: Client<HttpConnector, Full<Bytes>>,
    turns: Semaphore,
}

/// The router for the broker at an address; `None` for a key that no header can hold.
pub(crate) fn router(address: SocketAddr, key: &Secret) -> Option<Router> {
    let mut bearer = HeaderValue::from_str(&format!("Bearer {}", key.reveal())).ok()?;
    bearer.set_sensitive(true);
    let mut connector = HttpConnector::new();
    connector.set_connect_timeout(Some(CONNECT_TIMEOUT));
    connector.set_nodelay(true);
    connector.set_keepalive(Some(KEEP_ALIVE)); // a stream that says nothing ends when the broker's machine is gone
    connector.set_keepalive_interval(Some(KEEP_ALIVE));
    let client = Client::builder(TokioExecutor::new())
        .pool_timer(TokioTimer::new())
        .pool_idle_timeout(IDLE_FOR)
        .pool_max_idle_per_host(IDLE_MAX)
        .build(connector);
    let elsewhere = Elsewhere { address, bearer, client, turns: Semaphore::new(WAITING_MAX) };
    Some(Router::new().fallback(pass_on).with_state(Arc::new(elsewhere)))
}

async fn pass_on(State(elsewhere): State<Arc<Elsewhere>>, request: Request<Body>) -> Response {
    elsewhere.ask(request).await.unwrap_or_else(IntoResponse::into_response)
}

fn away(why: &str) -> Problem {
    tracing::warn!(why, "the broker's HTTP API cannot be reached");
    Problem::later(Errno::BrokerAway, AWAY_RETRY_S)
}

impl Elsewhere {
    async fn ask(&self, request: Request<Body>) -> Result<Response, Problem> {
        let Ok(_turn) = self.turns.try_acquire() else { return Err(away("too many requests wait for it")) };
        let (parts, body) = request.into_parts();
        let body = to_bytes(body, BODY_BYTES_MAX).await.map_err(|_| Problem::new(Errno::BodyTooLarge))?;
        let path = parts.uri.path_and_query().map_or("/", |path| path.as_str());
        let mut asked = Request::new(Full::new(body));
        *asked.method_mut() = parts.method;
        *asked.uri_mut() = format!("http://{}/v1/broker{path}", self.address)
            .parse()
            .map_err(|_| Problem::new(Errno::PathUnknown))?;
        *asked.headers_mut() = some(&parts.headers, &GOES);
        asked.headers_mut().insert(AUTHORIZATION, self.bearer.clone());
        let answer = tokio::time::timeout(ANSWER_TIMEOUT, self.client.request(asked)).await;
        let (parts, body) = match answer {
            Ok(Ok(answer)) => answer.into_parts(),
            Ok(Err(error)) => return Err(away(&error.to_string())),
            Err(_) => return Err(away("no answer in time")),
        };
        // The caller's key is right: it is ours that is not.
        if matches!(parts.status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) {
            let words = "the broker does not take bridge.broker_key for this";
            return Err(Problem::because(Errno::BrokerFailed, words));
        }
        let mut response = Response::new(Body::new(body));
        *response.status_mut() = parts.status;
        *response.headers_mut() = some(&parts.headers, &COMES);
        Ok(response)
    }
}

fn some(headers: &HeaderMap, names: &[HeaderName]) -> HeaderMap {
    let found = names.iter().filter_map(|name| Some((name.clone(), headers.get(name)?.clone())));
    found.collect()
}
