//! The table at the end: medians with their spread, and the ratio of the first contender to each other one, taken within
//! each repetition, because this machine's speed changes from minute to minute. The same as JSON.

use hdrhistogram::Histogram;
use serde_json::{Value, json};

/// One repetition's figures: name and value, the same names in the same order each time.
pub type Figures = Vec<(&'static str, f64)>;

/// A percentile of nanoseconds, in milliseconds; not a number where nothing was recorded.
pub fn percentile_ms(histogram: &Histogram<u64>, quantile: f64) -> f64 {
    if histogram.is_empty() { f64::NAN } else { histogram.value_at_quantile(quantile) as f64 / 1e6 }
}

/// One contender's repetitions.
pub struct Row {
    name: String,
    runs: Vec<Figures>,
}

/// Middle, least and greatest.
#[derive(Clone, Copy)]
struct Spread {
    median: f64,
    min: f64,
    max: f64,
}

impl Spread {
    fn of(mut values: Vec<f64>) -> Self {
        values.sort_by(f64::total_cmp);
        let at = |at: usize| values.get(at).copied().unwrap_or(f64::NAN);
        Self { median: at(values.len() / 2), min: at(0), max: at(values.len().saturating_sub(1)) }
    }
}

impl Row {
    /// Nothing measured yet.
    pub fn new(name: &str) -> Self {
        Self { name: name.to_owned(), runs: Vec::new() }
    }

    /// One repetition.
    pub fn add(&mut self, figures: Figures) {
        self.runs.push(figures);
    }

    fn values(&self, at: usize) -> Vec<f64> {
        self.runs.iter().filter_map(|run| run.get(at)).map(|(_, value)| *value).collect()
    }

    /// Of `first` to this one, repetition by repetition.
    fn ratios(&self, first: &Self, at: usize) -> Vec<f64> {
        first.values(at).iter().zip(self.values(at)).map(|(first, this)| first / this).collect()
    }
}

/// Prints a table in Markdown.
pub fn print(rows: &[Row]) {
    let Some(first) = rows.first() else { return };
    println!("| figure | broker | median | min | max | {} / this (min to max) |", first.name);
    println!("|---|---|---|---|---|---|");
    for (at, figure) in names(rows).iter().enumerate() {
        for row in rows {
            let (value, ratio) = (Spread::of(row.values(at)), Spread::of(row.ratios(first, at)));
            println!(
                "| {figure} | {} | {} | {} | {} | {:.2} ({:.2} to {:.2}) |",
                row.name,
                short(value.median),
                short(value.min),
                short(value.max),
                ratio.median,
                ratio.min,
                ratio.max
            );
        }
    }
}

fn names(rows: &[Row]) -> Vec<&'static str> {
    let longest = rows.iter().flat_map(|row| &row.runs).max_by_key(|run| run.len());
    longest.into_iter().flatten().map(|(name, _)| *name).collect()
}

fn short(value: f64) -> String {
    if value.is_nan() {
        return "-".to_owned();
    }
    if value >= 100.0 { format!("{value:.0}") } else { format!("{value:.3}") }
}

/// The same for programs.
pub fn json(rows: &[Row], scenario: &str, arguments: &str) -> Value {
    let broker = |at: usize, row: &Row| json!({"broker": row.name, "values": row.values(at), "median": Spread::of(row.values(at)).median});
    let figures: Vec<Value> = names(rows)
        .iter()
        .enumerate()
        .map(|(at, figure)| json!({"figure": figure, "brokers": rows.iter().map(|row| broker(at, row)).collect::<Vec<_>>()}))
        .collect();
    json!({
        "scenario": scenario,
        "arguments": arguments,
        "machine": {
            "cores": std::thread::available_parallelism().map_or(0, usize::from),
            "kernel": std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default().trim(),
        },
        "unix_time": std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |since| since.as_secs()),
        "figures": figures,
    })
}
