//! From the 202 of a message to its push at the vendor: eleven vendors at once, all well and with two of them ill, side
//! by side. What the healthy ones take must not change.

use crate::Arguments;
use crate::bridge::{Bridge, Program, broken};
use crate::client::LoadError;
use reveille_fakes::vendors::VENDORS;
use reveille_fakes::{FakeVendors, Fault};
use serde_json::{Value, json};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::time::{Duration, Instant};

/// Ill in every second run, in two ways.
const ILL: [(&str, Fault); 2] = [("huawei", Fault::Hangs), ("xiaomi", Fault::Status(500))];
/// Between two messages; each is a push at every vendor.
const PACE: Duration = Duration::from_millis(20);
/// Longest wait for the last push.
const PATIENCE: Duration = Duration::from_secs(60);

/// All repetitions, and the table.
pub async fn vendors(arguments: &Arguments) -> Result<(), LoadError> {
    let (mut well, mut ill) = (Latencies::default(), Latencies::default());
    for repetition in 1..=arguments.repetitions {
        eprintln!("all well {repetition}/{}", arguments.repetitions);
        run(arguments, false, &mut well).await?;
        eprintln!("two ill {repetition}/{}", arguments.repetitions);
        run(arguments, true, &mut ill).await?;
    }
    println!(
        "| vendor | p50 ms, all well | p50 ms, two ill | p99 ms, all well | p99 ms, two ill | lost | doubled |"
    );
    println!("|---|---|---|---|---|---|---|");
    for vendor in healthy() {
        let (a, b) = (well.of(vendor), ill.of(vendor));
        println!(
            "| {vendor} | {:.1} | {:.1} | {:.1} | {:.1} | {} | {} |",
            percentile(&a, 50),
            percentile(&b, 50),
            percentile(&a, 99),
            percentile(&b, 99),
            well.lost + ill.lost,
            well.doubled + ill.doubled
        );
    }
    Ok(())
}

fn healthy() -> impl Iterator<Item = &'static str> {
    // WeChat carries no message id, so its pushes cannot be told apart.
    VENDORS.into_iter().filter(|vendor| *vendor != "wechat" && !ILL.iter().any(|(ill, _)| ill == vendor))
}

#[derive(Default)]
struct Latencies {
    by_vendor: BTreeMap<&'static str, Vec<f64>>,
    lost: usize,
    doubled: usize,
}

impl Latencies {
    fn of(&self, vendor: &str) -> Vec<f64> {
        let mut all = self.by_vendor.get(vendor).cloned().unwrap_or_default();
        all.sort_by(f64::total_cmp);
        all
    }
}

fn percentile(sorted: &[f64], percent: usize) -> f64 {
    sorted
        .get((sorted.len() * percent / 100).min(sorted.len().saturating_sub(1)))
        .copied()
        .unwrap_or(f64::NAN)
}

async fn run(arguments: &Arguments, is_ill: bool, latencies: &mut Latencies) -> Result<(), LoadError> {
    let (fake, bridge) = (
        FakeVendors::start().await.map_err(broken)?,
        Bridge::start(Program::Whole(arguments.reveille.clone())).await?,
    );
    for vendor in VENDORS {
        let mut credential = fake.credential(vendor);
        if let Value::Object(fields) = &mut credential {
            fields.remove("vendor");
        }
        bridge.ask("PUT", &format!("/v1/apps/default/credentials/{vendor}"), &credential).await?;
        let token = json!({"token": fake.token(vendor, 1)});
        bridge.ask("PUT", &format!("/v1/apps/default/devices/{vendor}/tokens/{vendor}"), &token).await?;
    }
    for (vendor, fault) in ILL.into_iter().filter(|_| is_ill) {
        fake.fault(vendor, Some(fault));
    }
    let mut accepted = HashMap::new();
    for _ in 0..arguments.messages {
        let body = json!({
            "audience": {"devices": VENDORS}, "notification": {"title": "标题", "body": "正文"},
            "delivery": {"strategy": "vendor_only"},
        });
        let answer = bridge.ask("POST", "/v1/apps/default/messages", &body).await?;
        let id = answer.get("id").and_then(Value::as_str).unwrap_or_default().to_owned();
        accepted.insert(id, Instant::now());
        tokio::time::sleep(PACE).await;
    }
    let wanted = arguments.messages * healthy().count();
    let end = Instant::now() + PATIENCE;
    let is_healthy = |vendor: &str| healthy().any(|known| known == vendor);
    while fake.calls().iter().filter(|call| is_healthy(call.vendor)).count() < wanted && Instant::now() < end
    {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let mut seen = HashSet::new();
    for call in fake.calls().into_iter().filter(|call| is_healthy(call.vendor)) {
        let Some(accepted_at) = accepted.get(&call.mid) else { continue };
        if !seen.insert((call.vendor, call.mid.clone())) {
            latencies.doubled += 1;
            continue;
        }
        // A push may be faster than the way of the 202 back to us.
        let took = call.at.saturating_duration_since(*accepted_at).as_secs_f64() * 1000.0;
        latencies.by_vendor.entry(call.vendor).or_default().push(took);
    }
    latencies.lost += wanted - seen.len();
    Ok(())
}
