//! From a text with placeholders to a text: `Order {{ order }} is on its way, {{ device.name }}.` Pure.
//!
//! Work and memory are bounded: each step and each 64 bytes that a step makes cost one unit of fuel.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, LazyLock};

use minijinja::value::{Object, Serde};
use minijinja::{Environment, UndefinedBehavior, Value};
use serde_json::Map;

/// Work of one text: with 64 bytes a unit at most about a megabyte passes through its hands.
const FUEL: u64 = 20_000;
/// Longest filled text, in bytes: what a message may have.
const FILLED_MAX: usize = 16 * 1024;
/// How deep blocks and calls go.
const RECURSION_MAX: usize = 32;
/// The variable that stands for the device.
const DEVICE: &str = "device";

static ENGINE: LazyLock<Environment<'static>> = LazyLock::new(|| {
    let mut engine = Environment::new();
    engine.set_undefined_behavior(UndefinedBehavior::Strict);
    engine.set_fuel(Some(FUEL));
    engine.set_recursion_limit(RECURSION_MAX);
    engine
});

/// Why a text is none, or cannot be filled.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) struct TextError {
    /// In which line of it.
    line: usize,
    reason: String,
}

impl fmt::Display for TextError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}: {}", self.line, self.reason)
    }
}

impl From<minijinja::Error> for TextError {
    fn from(error: minijinja::Error) -> Self {
        let kind = error.kind();
        let reason = match (kind, error.detail()) {
            (minijinja::ErrorKind::OutOfFuel, _) => "takes too much work".to_owned(),
            (minijinja::ErrorKind::UndefinedError, None) => {
                "uses a value that the data does not have".to_owned()
            }
            (minijinja::ErrorKind::SyntaxError, Some(detail)) => detail.to_owned(),
            (_, Some(detail)) => format!("{kind}: {detail}"),
            (_, None) => kind.to_string(),
        };
        Self { line: error.line().unwrap_or(1), reason }
    }
}

/// What is known of a device, under the words of the audience language. What is not known is an empty text.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Words(pub BTreeMap<String, String>);

impl Object for Words {
    fn get_value(self: &Arc<Self>, key: &Value) -> Option<Value> {
        let known = key.as_str().and_then(|name| self.0.get(name));
        Some(known.map_or_else(|| Value::from(""), |word| Value::from(word.as_str())))
    }
}

/// Reads a text. `true`: what it says depends on the device.
///
/// # Errors
/// [`TextError`] with the line and what was expected there.
pub(crate) fn read(text: &str) -> Result<bool, TextError> {
    let read = ENGINE.template_from_str(text)?;
    Ok(read.undeclared_variables(false).contains(DEVICE))
}

/// Fills a text.
///
/// # Errors
/// [`TextError`]: it is none, the data lack something, or it takes too much work.
pub(crate) fn fill(
    text: &str,
    data: &Map<String, serde_json::Value>,
    device: &Words,
) -> Result<String, TextError> {
    if !text.contains('{') {
        return Ok(text.to_owned()); // every placeholder begins with one
    }
    let mut values: BTreeMap<String, Value> =
        data.iter().map(|(name, value)| (name.clone(), Value::from(Serde(value)))).collect();
    values.insert(DEVICE.to_owned(), Value::from_object(device.clone()));
    let filled = ENGINE.template_from_str(text)?.render(Value::from(values))?;
    match filled.len() <= FILLED_MAX {
        true => Ok(filled),
        false => {
            Err(TextError { line: 1, reason: format!("has more than {FILLED_MAX} bytes when it is filled") })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    fn filled(text: &str, data: serde_json::Value) -> Result<String, String> {
        let serde_json::Value::Object(data) = data else { panic!("{data} is no object") };
        let device = Words(BTreeMap::from([("name".to_owned(), "Ana".to_owned())]));
        fill(text, &data, &device).map_err(|error| error.to_string())
    }

    #[test]
    fn gaps_are_filled_from_the_data_and_the_device() {
        for (text, wanted) in [
            ("no placeholder", "no placeholder"),
            ("Order {{ order.id }} to {{ city|upper }}", "Order 7 to 北京"),
            ("Olá {{ device.name }}{% if device.city %} in {{ device.city }}{% endif %}!", "Olá Ana!"),
            ("{% for item in order.items %}{{ item }};{% endfor %}", "a;b;"),
            ("{{ nothing|default('–') }} <b> {{ '<' }}", "– <b> <"),
            ("{{ count }} {{ 'item' if count == 1 else 'items' }}", "2 items"),
        ] {
            let data = json!({"order": {"id": 7, "items": ["a", "b"]}, "city": "北京", "count": 2});
            assert_eq!(filled(text, data), Ok(wanted.to_owned()), "{text}");
        }
        assert_eq!(read("{{ order }}"), Ok(false));
        assert_eq!(read("{{ device.name }}"), Ok(true));
    }

    #[test]
    fn errors_name_the_line_and_what_was_expected() {
        for (text, wanted) in [
            ("a\n{{ order", "line 2: unexpected end of input, expected end of variable block"),
            ("{% if order %}a", "line 1: unexpected end of input, expected end of block"),
            ("{{ order|nosuch }}", "line 1: "),
            ("\n\n{{ missing }}", "line 3: uses a value that the data does not have"),
            ("{% include 'x' %}", "line 1: "),
        ] {
            let error = filled(text, json!({"order": 7})).unwrap_err();
            assert!(error.starts_with(wanted), "{text}: {error}");
        }
    }

    #[test]
    fn no_text_takes_much_work_or_memory() {
        for text in [
            "{% for a in range(10000) %}{% for b in range(10000) %}x{% endfor %}{% endfor %}".to_owned(),
            "{{ 'x' * 1000000000 }}".to_owned(),
            format!("{{% set a = 'xxxxxxxx' %}}{}{{{{ a }}}}", "{% set a = a ~ a ~ a ~ a %}".repeat(30)),
            format!("{{% set a = 'xxxxxxxx' %}}{}{{{{ a }}}}", "{% set a = a|replace('x', a) %}".repeat(30)),
            format!("{}{{{{ 'x' }}}}", "x".repeat(17_000)),
            "{% for a in range(100000) %}{% set b = [a] * 10000 %}{% endfor %}".to_owned(),
        ] {
            let error = filled(&text, json!({})).unwrap_err();
            assert!(
                error.contains("too much work") || error.contains("large") || error.contains("more than"),
                "{error}"
            );
        }
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused_with_a_line(text in "[a-z{}%# .|()'\n]{0,60}") {
            if let Err(error) = read(&text) {
                prop_assert!(error.line >= 1 && !error.reason.is_empty());
            }
            let _ = fill(&text, &Map::new(), &Words::default());
        }
    }
}
