//! Answers for people: a table for a list, a fact a line for the rest.

use serde_json::Value;

/// A heading, and where the value stands in an item.
pub type Column = (&'static str, &'static str);

/// A heading line and a line for each item; columns as wide as they have to be.
pub fn lines(items: &[Value], columns: &[Column]) -> Vec<String> {
    let heading = columns.iter().map(|(heading, _)| (*heading).to_owned()).collect();
    let row = |item: &Value| columns.iter().map(|(_, at)| text(item.pointer(at))).collect();
    let rows: Vec<Vec<String>> = std::iter::once(heading).chain(items.iter().map(row)).collect();
    let width = |column: usize| {
        rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..columns.len()).map(width).collect();
    let line = |row: &Vec<String>| {
        let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}"));
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    };
    rows.iter().map(line).collect()
}

/// Each value of an object, with its place in it.
pub fn facts(answer: &Value) -> Vec<String> {
    let mut facts = Vec::new();
    collect("", answer, &mut facts);
    facts
}

fn collect(name: &str, value: &Value, facts: &mut Vec<String>) {
    match value {
        Value::Object(fields) => {
            for (field, value) in fields {
                let name = if name.is_empty() { field.clone() } else { format!("{name}.{field}") };
                collect(&name, value, facts);
            }
        }
        Value::Array(items) => {
            let items: Vec<_> = items.iter().map(|item| text(Some(item))).collect();
            facts.push(format!("{name}: {}", items.join(", ")));
        }
        value => facts.push(format!("{name}: {}", text(Some(value)))),
    }
}

/// A terminal must not be steered by a client id: control characters are shown, not sent.
fn text(value: Option<&Value>) -> String {
    match value {
        None | Some(Value::Null) => "-".to_owned(),
        Some(Value::String(text)) => text.chars().flat_map(shown).collect(),
        Some(other) => other.to_string(),
    }
}

fn shown(character: char) -> Vec<char> {
    match character.is_control() {
        true => character.escape_default().collect(),
        false => vec![character],
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_table_is_as_wide_as_its_cells() {
        let items = [json!({"a": "long text", "b": {"c": 1}}), json!({"a": "x\u{1b}[2J"})];
        let wanted = ["A           C", "long text   1", "x\\u{1b}[2J  -"];
        assert_eq!(lines(&items, &[("A", "/a"), ("C", "/b/c")]), wanted);
    }

    #[test]
    fn facts_stand_one_a_line() {
        let answer = json!({"a": 1, "b": {"c": null, "d": ["x", "y"]}});
        assert_eq!(facts(&answer), ["a: 1", "b.c: -", "b.d: x, y"]);
    }
}
