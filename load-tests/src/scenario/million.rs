//! One message for very many devices over vendors with batches: memory, time to find all devices, pushes a second and
//! for each processor second, and whether every device got it once.
//!
//! The bridge runs in a process of its own; the vendors are played here, as lightly as can be: they check the bound of
//! each batch and note every device token.

use crate::Arguments;
use crate::bridge::{Bridge, Program, broken};
use crate::client::LoadError;
use crate::process;
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use std::convert::Infallible;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::net::TcpListener;
use tokio::task::JoinSet;

/// Calls under way at once while devices are registered.
const WINDOW: usize = 256;
/// Longest wait until everybody has it.
const PATIENCE: Duration = Duration::from_secs(3600);
const APP: &str = "/v1/apps/default";
/// The vendors, and device tokens in one request of each.
const VENDORS: [(&str, usize); 3] = [("huawei", 1000), ("xiaomi", 1000), ("meizu", 100)];
/// More than this machine can do, so that it is the machine that is measured.
const PER_SECOND: u32 = 1_000_000;

/// What the vendors saw.
#[derive(Default)]
struct Seen {
    /// How often each device's token came.
    times: Vec<u8>,
    requests: usize,
    /// Requests with more device tokens than their vendor takes.
    too_large: usize,
}

type Vendors = Arc<Mutex<Seen>>;

/// Registers devices, sends, measures, and prints a table.
pub async fn million(arguments: &Arguments) -> Result<(), LoadError> {
    let devices = arguments.messages;
    let vendors: Vendors = Arc::new(Mutex::new(Seen { times: vec![0; devices], ..Seen::default() }));
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let endpoint = format!("http://{}", listener.local_addr()?);
    let serving = tokio::spawn(serve(listener, Arc::clone(&vendors)));
    let bridge = Arc::new(Bridge::start(Program::BridgeAlone).await?);
    for (vendor, _) in VENDORS {
        let path = format!("{APP}/credentials/{vendor}");
        bridge.ask("PUT", &path, &credential(vendor, &endpoint)).await?;
    }
    let began = Instant::now();
    register(&bridge, devices).await?;
    let registered = devices as f64 / began.elapsed().as_secs_f64();
    println!("| what | figure |");
    println!("|---|---|");
    println!("| devices; registered a second, over HTTP | {devices}; {registered:.0} |");
    send(&bridge, devices).await?;
    let seen = vendors.lock().unwrap_or_else(PoisonError::into_inner);
    let lost = seen.times.iter().filter(|times| **times == 0).count();
    let doubled = seen.times.iter().filter(|times| **times > 1).count();
    println!(
        "| requests; pushes in each | {}; {:.0} |",
        seen.requests,
        devices as f64 / seen.requests as f64
    );
    println!("| lost; doubled; batches too large | {lost}; {doubled}; {} |", seen.too_large);
    serving.abort();
    Ok(())
}

fn mib(bytes: u64) -> f64 {
    bytes as f64 / 1024.0 / 1024.0
}

fn credential(vendor: &str, endpoint: &str) -> Value {
    let rates = json!({ "per_second": PER_SECOND });
    match vendor {
        "huawei" => json!({"app_id": "1", "app_secret": "s", "category": "WORK", "endpoint": endpoint,
            "token_uri": format!("{endpoint}/login"), "rates": rates}),
        "xiaomi" => {
            json!({"app_secret": "s", "package": "com.example", "channel_id": "1", "endpoint": endpoint,
            "rates": rates})
        }
        _ => json!({"app_id": 1, "app_secret": "s", "endpoint": endpoint, "rates": rates}),
    }
}

async fn register(bridge: &Arc<Bridge>, devices: usize) -> Result<(), LoadError> {
    let mut under_way = JoinSet::new();
    for number in 0..devices {
        if under_way.len() >= WINDOW
            && let Some(done) = under_way.join_next().await
        {
            done.map_err(broken)??;
        }
        let bridge = Arc::clone(bridge);
        let vendor = VENDORS.get(number % VENDORS.len()).map_or("", |(vendor, _)| *vendor);
        under_way.spawn(async move {
            let path = format!("{APP}/devices/device-{number:08}/tokens/{vendor}");
            let token = json!({"token": format!("token-of-a-usual-length-for-a-vendor-{number}")});
            bridge.ask("PUT", &path, &token).await.map(drop)
        });
    }
    while let Some(done) = under_way.join_next().await {
        done.map_err(broken)??;
    }
    Ok(())
}

/// From the call until every push was accepted, and the load of the bridge's process meanwhile.
async fn send(bridge: &Bridge, devices: usize) -> Result<(), LoadError> {
    let before = process::rss(bridge.pid());
    process::forget_peak(bridge.pid());
    let cpu = process::cpu(bridge.pid());
    let body = json!({
        "audience": {"all": true}, "notification": {"title": "标题", "body": "正文"},
        "delivery": {"strategy": "vendor_only"},
    });
    let began = Instant::now();
    let sent = bridge.ask("POST", &format!("{APP}/messages"), &body).await?;
    let path = format!("{APP}/messages/{}", sent.get("id").and_then(Value::as_str).unwrap_or_default());
    let (mut found_after, mut fastest) = (None, 0);
    while began.elapsed() < PATIENCE {
        tokio::time::sleep(Duration::from_millis(200)).await;
        let message = bridge.ask("GET", &path, &json!({})).await?;
        let number = |pointer: &str| message.pointer(pointer).and_then(Value::as_u64).unwrap_or_default();
        fastest = number("/progress/per_s").max(fastest);
        if message.get("state").is_some_and(|state| state != "expanding") {
            found_after.get_or_insert(began.elapsed().as_secs_f64());
        }
        if number("/funnel/vendor_accepted") == devices as u64 {
            let (took, cpu) = (began.elapsed().as_secs_f64(), process::cpu(bridge.pid()) - cpu);
            let peak = process::peak_rss(bridge.pid());
            println!("| last device found after, s | {:.1} |", found_after.unwrap_or(took));
            println!("| last push accepted after, s | {took:.1} |");
            println!(
                "| pushes a second; at most by its progress | {:.0}; {fastest} |",
                devices as f64 / took
            );
            println!("| pushes for each processor second of the bridge | {:.0} |", devices as f64 / cpu);
            println!("| memory of the bridge before; at most, MiB | {:.0}; {:.0} |", mib(before), mib(peak));
            return Ok(());
        }
    }
    Err(broken("not everybody got it in time"))
}

async fn serve(listener: TcpListener, vendors: Vendors) {
    let mut connections = JoinSet::new(); // dropped with this task, which ends them
    while let Ok((tcp, _)) = listener.accept().await {
        let vendors = Arc::clone(&vendors);
        connections.spawn(async move {
            let service = service_fn(move |request| answer(Arc::clone(&vendors), request));
            let server = hyper::server::conn::http1::Builder::new();
            let _ = server.serve_connection(TokioIo::new(tcp), service).await; // the client's end is no concern
        });
    }
}

async fn answer(
    vendors: Vendors,
    request: hyper::Request<Incoming>,
) -> Result<hyper::Response<Full<Bytes>>, Infallible> {
    let path = request.uri().path().to_owned();
    let body =
        request.into_body().collect().await.map(http_body_util::Collected::to_bytes).unwrap_or_default();
    let answer = match path.as_str() {
        "/login" => json!({"access_token": "t", "expires_in": 3600}),
        "/v1/1/messages:send" => {
            let body: Value = serde_json::from_slice(&body).unwrap_or_default();
            let tokens =
                body.pointer("/message/token").and_then(Value::as_array).cloned().unwrap_or_default();
            note(&vendors, 1000, tokens.iter().filter_map(Value::as_str));
            json!({"code": "80000000", "msg": "Success", "requestId": "r"})
        }
        "/v3/message/regid" => {
            note(&vendors, 1000, field(&body, "registration_id").split(','));
            json!({"code": 0, "result": "ok", "data": {"id": "m"}})
        }
        _ => {
            note(&vendors, 100, field(&body, "pushIds").split(','));
            json!({"code": "200", "message": "", "value": {}, "msgId": "m"})
        }
    };
    Ok(hyper::Response::new(Full::new(Bytes::from(answer.to_string()))))
}

/// The value of a field of a form. Device tokens here need no unescaping but that of their commas.
fn field(form: &[u8], name: &str) -> String {
    let form = std::str::from_utf8(form).unwrap_or_default();
    let value = form.split('&').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='));
    value.unwrap_or_default().replace("%2C", ",")
}

fn note<'t>(vendors: &Vendors, batch_max: usize, tokens: impl Iterator<Item = &'t str>) {
    let mut seen = vendors.lock().unwrap_or_else(PoisonError::into_inner);
    let mut count = 0;
    for token in tokens {
        count += 1;
        let number: Option<usize> = token.rsplit('-').next().and_then(|number| number.parse().ok());
        if let Some(times) = number.and_then(|number| seen.times.get_mut(number)) {
            *times = times.saturating_add(1);
        }
    }
    seen.requests += 1;
    seen.too_large += usize::from(count > batch_max);
}
