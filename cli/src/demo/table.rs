//! The funnel of some messages as a table.

use crate::say::say;
use serde_json::Value;

/// The columns: parts of the funnel, each delivery in exactly one of all but the first and the last.
const COLUMNS: [&str; 9] = [
    "targeted",
    "acked",
    "vendor_accepted",
    "suppressed",
    "filtered",
    "expired",
    "failed",
    "in_flight",
    "shown",
];

/// A number of a funnel.
pub fn count(funnel: &Value, name: &str) -> u64 {
    funnel.get(name).and_then(Value::as_u64).unwrap_or_default()
}

/// How many deliveries are in some part.
pub fn parts(funnel: &Value) -> u64 {
    let outer = ["targeted", "shown"];
    COLUMNS.iter().filter(|name| !outer.contains(name)).map(|name| count(funnel, name)).sum()
}

/// What vendors took of it.
pub fn accepted_by_vendors(funnel: &Value) -> u64 {
    let vendors = funnel.get("by_vendor").and_then(Value::as_object);
    vendors.map_or(0, |vendors| vendors.values().map(|vendor| count(vendor, "accepted")).sum())
}

/// Prints one line a message.
pub fn print(rows: &[(String, Value)]) {
    let titles = rows.iter().map(|(title, _)| width(title)).max().unwrap_or(0);
    let heads = COLUMNS.map(|name| name.replace('_', " "));
    let pad = |text: &str| format!("{text}{}", " ".repeat(titles.saturating_sub(width(text))));
    say(&format!("  {}  {}  pushes taken", pad("message"), heads.join("  ")));
    for (title, funnel) in rows {
        let cells: Vec<_> = COLUMNS
            .iter()
            .zip(&heads)
            .map(|(name, head)| format!("{:>width$}", count(funnel, name), width = head.len()))
            .collect();
        say(&format!("  {}  {}  {:>12}", pad(title), cells.join("  "), accepted_by_vendors(funnel)));
    }
}

/// Columns on a terminal: Chinese characters take two.
fn width(text: &str) -> usize {
    text.chars().map(|c| if ('\u{2e80}'..='\u{ffef}').contains(&c) { 2 } else { 1 }).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_parts_of_a_funnel_are_counted_without_its_ends() {
        let funnel = json!({"targeted": 5, "acked": 2, "vendor_accepted": 1, "failed": 1, "in_flight": 1, "shown": 2,
                            "by_vendor": {"apns": {"accepted": 2}, "fcm": {"accepted": 1, "refused": 4}}});
        assert_eq!((parts(&funnel), accepted_by_vendors(&funnel)), (5, 3));
        assert_eq!(parts(&json!({})), 0);
    }

    #[test]
    fn chinese_characters_are_two_columns_wide() {
        for (text, wanted) in [("", 0), ("abc", 3), ("泵7", 3), ("，", 2)] {
            assert_eq!(width(text), wanted, "{text}");
        }
    }
}
