//! One connection of the fake APNs.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use bytes::{Bytes, BytesMut};
use h2::server::SendResponse;
use h2::{Reason, RecvStream};
use http::{HeaderMap, Request, Response};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

use super::io::{FrameIo, Inject};
use super::{ApnsAnswer, ApnsCall, Script, Shared, TokenSeen, channels, now_s, rules};
use crate::log::lock;

/// The longest body that is read; more than any payload may have.
const BODY_MAX: usize = 64 * 1024;

/// What the streams of one connection share.
struct State {
    shared: Arc<Shared>,
    number: usize,
    /// Whether the client showed a certificate that we believe.
    is_certified: bool,
    is_proven: AtomicBool,
    open: AtomicUsize,
    seen: Mutex<TokenSeen>,
}

/// What to do with a request, by the script.
enum Fate {
    Process,
    GoAway,
    Cut,
}

/// Serves one connection until it ends, is cut or falls silent.
pub(super) async fn serve(shared: Arc<Shared>, number: usize, tls: TlsAcceptor, tcp: TcpStream) {
    let (mut cuts, mut freezes) = (shared.cuts.subscribe(), shared.freezes.subscribe());
    let running = run(shared, number, tls, tcp);
    tokio::pin!(running);
    tokio::select! {
        _ = &mut running => return,
        _ = cuts.changed() => return,
        _ = freezes.changed() => {}
    }
    let _ = cuts.changed().await; // `running` is not polled any more, but keeps its socket
}

async fn run(shared: Arc<Shared>, number: usize, tls: TlsAcceptor, tcp: TcpStream) -> Option<()> {
    tcp.set_nodelay(true).ok()?;
    let inject = Inject::default();
    let tls = tls.accept(tcp).await.ok()?;
    let is_certified = tls.get_ref().1.peer_certificates().is_some();
    let io = FrameIo::new(tls, inject.clone());
    let mut builder = h2::server::Builder::new();
    builder.max_concurrent_streams(shared.options.max_concurrent_streams);
    let mut connection = builder.handshake::<_, Bytes>(io).await.ok()?;
    let state = Arc::new(State {
        shared,
        number,
        is_certified,
        is_proven: AtomicBool::new(is_certified),
        open: AtomicUsize::new(0),
        seen: Mutex::default(),
    });
    let mut streams = JoinSet::new();
    let mut after_go_away = Vec::new();
    let mut last_stream = 0;
    while let Some(Ok((request, respond))) = connection.accept().await {
        let is_going = !after_go_away.is_empty();
        match if is_going { Fate::GoAway } else { state.fate() } {
            Fate::Process => {
                last_stream = respond.stream_id().as_u32();
                streams.spawn(process(Arc::clone(&state), request, respond));
            }
            Fate::GoAway => {
                if !is_going {
                    inject.go_away(last_stream);
                }
                state.shared.ignored.fetch_add(1, Ordering::SeqCst);
                after_go_away.push((request, respond)); // kept, so that no reset tells more than the GOAWAY does
            }
            Fate::Cut => {
                // The body is still read, by a task, while this one keeps the connection moving.
                let record = record(&state, request, &respond);
                tokio::pin!(record);
                loop {
                    tokio::select! {
                        biased;
                        _ = &mut record => return None,
                        next = connection.accept() => {
                            next?.ok()?;
                        }
                    }
                }
            }
        }
    }
    Some(())
}

impl State {
    fn fate(&self) -> Fate {
        let mut script = lock(&self.shared.script);
        if Script::counts_out(&mut script.go_away_after) {
            return Fate::GoAway;
        }
        if Script::counts_out(&mut script.cut_after) { Fate::Cut } else { Fate::Process }
    }
}

async fn process(state: Arc<State>, request: Request<RecvStream>, mut respond: SendResponse<Bytes>) {
    let others = state.open.fetch_add(1, Ordering::SeqCst);
    state.shared.peak_streams.fetch_max(others + 1, Ordering::SeqCst);
    if others > 0 && !state.is_proven.load(Ordering::SeqCst) {
        state.shared.first_stream_violations.fetch_add(1, Ordering::SeqCst);
        state.open.fetch_sub(1, Ordering::SeqCst);
        return respond.send_reset(Reason::REFUSED_STREAM);
    }
    let call = record(&state, request, &respond).await;
    if let Some(call) = &call {
        until_time_to_answer(&state, call).await;
    }
    // Before the answer is on the wire: the client may open the next stream at once.
    state.open.fetch_sub(1, Ordering::SeqCst);
    if let Some(call) = &call {
        send(call, &mut respond);
    }
}

/// Reads and checks the request and writes it into the log.
async fn record(
    state: &State,
    request: Request<RecvStream>,
    respond: &SendResponse<Bytes>,
) -> Option<ApnsCall> {
    let (parts, body) = request.into_parts();
    let body = read(body).await?;
    let tokens_before_s = lock(&state.shared.script).tokens_before_s;
    let (token, answer) = {
        let mut seen = lock(&state.seen);
        let is_certified = state.is_certified;
        let mut when = rules::When { now_s: now_s(), tokens_before_s, is_certified, seen: &mut seen };
        let account = &state.shared.account;
        let path = parts.uri.path();
        if channels::is_about(path) {
            let mut kept = lock(&state.shared.channels);
            (path.to_owned(), channels::answer(account, &parts, &body, &mut when, &mut kept))
        } else {
            match rules::check(account, &parts, &body, &mut when) {
                Ok(token) => {
                    let answer = state.shared.scripted(&token);
                    (token, answer)
                }
                Err(answer) => (path.trim_start_matches("/3/device/").to_owned(), answer),
            }
        }
    };
    if let Some((provider_token, _)) = &lock(&state.seen).last {
        lock(&state.shared.provider_tokens).insert(provider_token.clone());
    }
    let call = ApnsCall {
        token,
        headers: texts(&parts.headers),
        payload: serde_json::from_slice(&body).unwrap_or(Value::Null),
        size: body.len(),
        connection: state.number,
        stream: respond.stream_id().as_u32(),
        answer,
    };
    state.shared.log.add(call.clone());
    Some(call)
}

async fn until_time_to_answer(state: &State, call: &ApnsCall) {
    if call.answer.hangs {
        return std::future::pending().await;
    }
    let latency = lock(&state.shared.script).latency;
    tokio::time::sleep(latency).await;
    let mut held = state.shared.is_held.subscribe();
    let _ = held.wait_for(|is_held| !is_held).await;
    if call.answer.status == 200 {
        state.is_proven.store(true, Ordering::SeqCst);
    }
}

/// A client that is gone is no concern of the fake.
fn send(call: &ApnsCall, respond: &mut SendResponse<Bytes>) -> Option<()> {
    let ApnsAnswer { status, reason, timestamp, headers, body, .. } = &call.answer;
    let id = call.headers.get("apns-id").map_or("00000000-0000-0000-0000-000000000000", String::as_str);
    let mut head = Response::builder().status(*status).header("apns-id", id);
    for (name, value) in headers {
        head = head.header(*name, value);
    }
    let head = head.body(()).ok()?;
    if let Some(body) = body {
        return respond.send_response(head, false).ok()?.send_data(body.to_string().into(), true).ok();
    }
    if (200..300).contains(status) {
        respond.send_response(head, true).ok()?;
        return Some(());
    }
    let mut body = json!({"reason": reason});
    if let (Some(timestamp), Value::Object(fields)) = (timestamp, &mut body) {
        fields.insert("timestamp".to_owned(), (*timestamp).into());
    }
    let mut stream = respond.send_response(head, false).ok()?;
    stream.send_data(body.to_string().into(), true).ok()
}

async fn read(mut body: RecvStream) -> Option<Bytes> {
    let mut all = BytesMut::new();
    while let Some(chunk) = body.data().await {
        let chunk = chunk.ok()?;
        body.flow_control().release_capacity(chunk.len()).ok()?;
        if all.len() + chunk.len() > BODY_MAX {
            return None;
        }
        all.extend_from_slice(&chunk);
    }
    Some(all.freeze())
}

fn texts(headers: &HeaderMap) -> std::collections::HashMap<String, String> {
    let text = |value: &http::HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
    headers.iter().map(|(name, value)| (name.to_string(), text(value))).collect()
}
