//! The index of devices: memory, time to build at a start, ten expressions, and everybody as an audience.

use crate::Arguments;
use crate::bridge::{Bridge, Program, broken};
use crate::client::LoadError;
use crate::process;
use serde_json::{Map, Value, json};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::task::JoinSet;

/// Devices in a call, and calls under way at once, while they are registered.
const CALL: usize = 1000;
const WINDOW: usize = 4;
/// How often each expression is asked.
const TIMES: usize = 20;
/// Longest wait until everybody is queued.
const PATIENCE: Duration = Duration::from_secs(1800);
const APP: &str = "/v1/apps/default";

const EXPRESSIONS: [&str; 10] = [
    "all",
    "tag:vip",
    "tag:vip & (city:c3 | city:c7) & !platform:ios",
    "tag:t7 & app_version>=3.5 & lang:zh*",
    "user:u4711 | user:u17",
    "!tag:vip & !city:*",
    "level>=50",
    "app_version>=2.10 & app_version<4 & (tag:t1 | tag:t2 | tag:t3 | tag:t4)",
    "last_seen<7d",
    "(platform:ios | platform:android) & !(tag:vip & level<10) & !online",
];

/// Registers devices, measures, and prints a table.
pub async fn audience(arguments: &Arguments) -> Result<(), LoadError> {
    let devices = arguments.messages;
    let program = match arguments.bridge_alone {
        true => Program::BridgeAlone,
        false => Program::Whole(arguments.reveille.clone()),
    };
    let mut bridge = Bridge::start(program).await?;
    bridge.restart().await?; // the first start makes a key
    let (empty_ready, empty_bytes) = (bridge.ready_after, process::rss(bridge.pid()));
    let bridge = Arc::new(bridge);
    let began = Instant::now();
    register(&bridge, devices).await?;
    let per_second = devices as f64 / began.elapsed().as_secs_f64();
    let mut bridge = Arc::into_inner(bridge).ok_or_else(|| broken("a call is still under way"))?;
    bridge.restart().await?;
    println!("| what | figure |");
    println!("|---|---|");
    println!("| devices | {devices} |");
    println!("| registered a second, over HTTP | {per_second:.0} |");
    let (full, empty) = (process::rss(bridge.pid()), empty_bytes);
    println!("| memory after a start, MiB (with no device: {:.0}) | {:.0} |", mib(empty), mib(full));
    let (full, empty) = (bridge.ready_after.as_secs_f64(), empty_ready.as_secs_f64());
    println!("| ready after, s (with no device: {empty:.2}) | {full:.2} |");
    for expression in EXPRESSIONS {
        ask(&bridge, expression).await?;
    }
    everybody(&bridge, devices).await
}

fn mib(bytes: u64) -> f64 {
    bytes as f64 / 1024.0 / 1024.0
}

async fn register(bridge: &Arc<Bridge>, devices: usize) -> Result<(), LoadError> {
    let mut under_way = JoinSet::new();
    for from in (0..devices).step_by(CALL) {
        if under_way.len() >= WINDOW
            && let Some(done) = under_way.join_next().await
        {
            done.map_err(broken)??;
        }
        let bridge = Arc::clone(bridge);
        under_way.spawn(async move {
            let some = from..devices.min(from + CALL);
            let some: Map<_, _> =
                some.map(|number| (format!("device-{number:08}"), device(number))).collect();
            bridge.ask("POST", &format!("{APP}/devices:import"), &json!({"devices": some})).await.map(drop)
        });
    }
    while let Some(done) = under_way.join_next().await {
        done.map_err(broken)??;
    }
    Ok(())
}

/// Everyone has a user of their own, a platform, a version and a language; most a city; a tenth is `vip`.
fn device(number: usize) -> Value {
    let mixed = number.wrapping_mul(2_654_435_761) >> 7;
    let mut tags = vec![format!("t{}", mixed % 50)];
    if mixed.is_multiple_of(10) {
        tags.push("vip".to_owned());
    }
    let pick = |from: &[&'static str], by: usize| from.get(by % from.len()).copied().unwrap_or_default();
    let mut attributes = json!({"level": mixed % 100});
    if let (Value::Object(fields), false) = (&mut attributes, mixed.is_multiple_of(7)) {
        fields.insert("city".to_owned(), format!("c{}", mixed % 300).into());
    }
    json!({
        "alias": format!("u{number}"),
        "tags": tags,
        "platform": pick(&["android", "ios", "harmony"], mixed / 3),
        "app_version": format!("{}.{}", mixed % 5, mixed / 5 % 12),
        "language": pick(&["zh-CN", "zh-TW", "en-US", "pt-BR"], mixed / 11),
        "attributes": attributes,
    })
}

async fn ask(bridge: &Bridge, expression: &str) -> Result<(), LoadError> {
    let body = json!({"audience": {"expr": expression}});
    let mut took = Vec::with_capacity(TIMES);
    let mut count = 0;
    for _ in 0..TIMES {
        let began = Instant::now();
        let answer = bridge.ask("POST", &format!("{APP}/audiences:estimate"), &body).await?;
        took.push(began.elapsed().as_secs_f64() * 1000.0);
        count = answer.get("devices").and_then(Value::as_u64).unwrap_or_default();
    }
    took.sort_by(f64::total_cmp);
    let (median, most) = (took.get(TIMES / 2), took.last());
    let shown = expression.replace('|', "\\|");
    println!(
        "| `{shown}`: {count} devices, ms over HTTP, median and longest of {TIMES} | {:.1}, {:.1} |",
        median.copied().unwrap_or(f64::NAN),
        most.copied().unwrap_or(f64::NAN)
    );
    Ok(())
}

/// From the call until the last delivery is durable and handed on, and the load of the process meanwhile.
async fn everybody(bridge: &Bridge, devices: usize) -> Result<(), LoadError> {
    let cpu = process::cpu(bridge.pid());
    let body = json!({"audience": {"expr": "all"}, "notification": {"title": "t", "body": "b"}});
    let began = Instant::now();
    let sent = bridge.ask("POST", &format!("{APP}/messages"), &body).await?;
    let accepted = began.elapsed();
    let id = sent.get("id").and_then(Value::as_str).unwrap_or_default().to_owned();
    let path = format!("{APP}/messages/{id}");
    let mut most = 0;
    while began.elapsed() < PATIENCE {
        let message = bridge.ask("GET", &path, &json!({})).await?;
        most = process::rss(bridge.pid()).max(most);
        let targeted = message.pointer("/funnel/targeted").and_then(Value::as_u64).unwrap_or_default();
        let is_whole = message.get("state").is_some_and(|state| state != "expanding");
        if is_whole && targeted == devices as u64 {
            let (took, cpu) = (began.elapsed().as_secs_f64(), process::cpu(bridge.pid()) - cpu);
            println!("| 202 for everybody after, ms | {:.1} |", accepted.as_secs_f64() * 1000.0);
            println!("| last of {devices} targets queued after, s | {took:.1} |");
            println!(
                "| targets a second; processor seconds meanwhile | {:.0}; {cpu:.1} |",
                devices as f64 / took
            );
            println!("| most memory seen meanwhile, MiB | {:.0} |", mib(most));
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    Err(broken("not everybody was queued in time"))
}
