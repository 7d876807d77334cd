//! Requests to vendors that speak plain HTTP/1.1 or HTTP/2, and to their login services.

use std::collections::HashMap;
use std::sync::Mutex;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::Request;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioTimer;
use tokio::time::{Instant, timeout_at};

use super::reach::{Reach, Resolver};
use super::tasks::{Tasks, lock};
use super::{ANSWER_MAX, Lost, tls};
use crate::vendor::Answer;

/// A client with its connections. Cloning shares them.
pub(super) type HttpsClient = Client<HttpsConnector<HttpConnector<Resolver>>, Full<Bytes>>;

/// Idle connections kept to one host, at most.
const IDLE_MAX: usize = 32;
/// How long an idle connection is kept.
const IDLE_FOR: Duration = Duration::from_secs(90);

/// One client for each set of trusted certificates and each reach, so that nobody rides on another's trust.
pub(super) struct HttpsClients {
    clients: Mutex<HashMap<(Option<String>, Reach), HttpsClient>>,
    connect_deadline: Duration,
    tasks: Tasks,
}

impl HttpsClients {
    /// Clients whose connections are tasks of this owner.
    pub fn new(connect_deadline: Duration, tasks: Tasks) -> Self {
        Self { clients: Mutex::default(), connect_deadline, tasks }
    }

    /// The client that trusts the public roots and these certificates, and calls what is in reach.
    pub fn client(&self, ca_pem: Option<&str>, reach: Reach) -> Result<HttpsClient, &'static str> {
        let key = (ca_pem.map(str::to_owned), reach);
        if let Some(client) = lock(&self.clients).get(&key) {
            return Ok(client.clone());
        }
        let client = self.new_client(ca_pem, reach)?;
        Ok(lock(&self.clients).entry(key).or_insert(client).clone())
    }

    /// Closes idle connections; others close after their answer.
    pub fn clear(&self) {
        lock(&self.clients).clear();
    }

    fn new_client(&self, ca_pem: Option<&str>, reach: Reach) -> Result<HttpsClient, &'static str> {
        let mut tcp = HttpConnector::new_with_resolver(Resolver::new(reach));
        tcp.enforce_http(false);
        tcp.set_nodelay(true);
        tcp.set_connect_timeout(Some(self.connect_deadline));
        let connector = HttpsConnectorBuilder::new()
            .with_tls_config(tls::client_config(ca_pem, None)?)
            .https_or_http() // http only to this machine: the credential's check saw to that
            .enable_all_versions()
            .wrap_connector(tcp);
        let client = Client::builder(self.tasks.clone())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE_FOR)
            .pool_max_idle_per_host(IDLE_MAX)
            .build(connector);
        Ok(client)
    }
}

/// Sends one request and reads the whole answer, up to a bound, before the deadline.
///
/// # Errors
/// [`Lost::NotSent`] when no connection came about, [`Lost::Unknown`] when the vendor may have acted.
pub(super) async fn exchange(
    client: &HttpsClient,
    request: Request<Bytes>,
    deadline: Instant,
) -> Result<Answer, Lost> {
    let work = async {
        let response = client.request(request.map(Full::new)).await.map_err(|error| {
            let why = describe(&error);
            if error.is_connect() { Lost::NotSent(why) } else { Lost::Unknown(why) }
        })?;
        let (parts, body) = response.into_parts();
        let body = read_body(body).await.map_err(|error| Lost::Unknown(error.to_string()))?;
        Ok(Answer { status: parts.status.as_u16(), headers: parts.headers, body })
    };
    match timeout_at(deadline, work).await {
        Ok(result) => result,
        Err(_) => Err(Lost::Unknown("no answer before the deadline".to_owned())),
    }
}

async fn read_body(mut body: Incoming) -> Result<Bytes, hyper::Error> {
    let mut all = BytesMut::new();
    while let Some(frame) = body.frame().await {
        if let Ok(chunk) = frame?.into_data() {
            let room = ANSWER_MAX.saturating_sub(all.len());
            all.extend_from_slice(chunk.get(..room.min(chunk.len())).unwrap_or_default());
            if room < chunk.len() {
                break; // dropping the body closes or resets
            }
        }
    }
    Ok(all.freeze())
}

/// The error with its causes: the outermost one of this client says only "client error".
fn describe(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        text = format!("{text}: {inner}");
        cause = inner.source();
    }
    text
}
