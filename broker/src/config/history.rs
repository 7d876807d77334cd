//! The tables `[[broker.history]]`: topics whose last values are kept in memory.

use super::{ConfigError, default_app, parse_app};
use reveille_proto::ids::AppId;
use reveille_proto::topic::{TopicFilter, TopicName};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Rules at most: each message is compared with them.
const RULES_MAX: usize = 100;
/// Values of one topic at most.
const POINTS_MAX: usize = 100_000;

/// Keeps the last values of topics under a filter.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct HistoryConfig {
    /// Whose topics.
    #[serde(default = "default_app")]
    pub app: String,
    /// Which topics.
    pub filter: String,
    /// Where the number stands: `json` for a payload that is one, `json:/temp` for a JSON pointer into it.
    #[serde(default = "whole")]
    pub value: String,
    /// Values of each topic; the oldest goes.
    #[serde(default = "points")]
    pub points: usize,
}

fn whole() -> String {
    "json".to_owned()
}

fn points() -> usize {
    600
}

/// Why nothing is kept.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HistoryError {
    /// The filter.
    #[error("{0:?} is no topic filter")]
    Filter(String),
    /// The place of the number.
    #[error("value is json, or json: and a JSON pointer such as json:/temp, not {0:?}")]
    Value(String),
    /// The bound.
    #[error("points is 1 to {POINTS_MAX}")]
    Points,
    /// As many as there may be.
    #[error("at most {RULES_MAX} rules are possible")]
    TooMany,
}

/// A rule, checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct HistoryRule {
    app: AppId,
    filter: TopicFilter,
    /// Empty for the whole payload.
    pointer: String,
    pub(crate) points: usize,
}

impl HistoryConfig {
    /// Checks the rule.
    ///
    /// # Errors
    /// [`ConfigError`] names what is wrong.
    pub(crate) fn parse(&self) -> Result<HistoryRule, ConfigError> {
        let app = parse_app("history.app", &self.app)?;
        let filter = TopicFilter::parse(self.filter.clone());
        let filter =
            filter.map_err(|_| HistoryError::Filter(self.filter.clone())).map_err(ConfigError::History)?;
        let pointer = match self.value.strip_prefix("json") {
            Some("") => Some(""),
            Some(rest) => rest.strip_prefix(':').filter(|pointer| pointer.starts_with('/')),
            None => None,
        };
        let pointer = pointer.ok_or_else(|| ConfigError::History(HistoryError::Value(self.value.clone())))?;
        if !(1..=POINTS_MAX).contains(&self.points) {
            return Err(ConfigError::History(HistoryError::Points));
        }
        Ok(HistoryRule { app, filter, pointer: pointer.to_owned(), points: self.points })
    }
}

pub(super) fn check(rules: &[HistoryConfig]) -> Result<(), ConfigError> {
    if rules.len() > RULES_MAX {
        return Err(ConfigError::History(HistoryError::TooMany));
    }
    rules.iter().try_for_each(|rule| rule.parse().map(drop))
}

impl HistoryRule {
    /// Whether it is about this topic.
    pub(crate) fn names(&self, app: &AppId, topic: &TopicName) -> bool {
        self.app == *app && self.filter.matches(topic)
    }

    /// The number in a payload; a truth value is 1 or 0, as switches tell it.
    pub(crate) fn value(&self, payload: &[u8]) -> Option<f64> {
        let json: Value = serde_json::from_slice(payload).ok()?;
        let found = json.pointer(&self.pointer)?;
        let value =
            found.as_f64().or_else(|| found.as_bool().map(|is_true| if is_true { 1.0 } else { 0.0 }))?;
        value.is_finite().then_some(value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(value: &str) -> HistoryConfig {
        HistoryConfig {
            app: default_app(),
            filter: "厂/+/temp".to_owned(),
            value: value.to_owned(),
            points: 10,
        }
    }

    #[test]
    fn a_number_is_found_where_the_rule_says_it_stands() {
        for (value, payload, wanted) in [
            ("json", "21.5", Some(21.5)),
            ("json", " -3 ", Some(-3.0)),
            ("json", "true", Some(1.0)),
            ("json", r#"{"temp":1}"#, None),
            ("json", "21,5", None),
            ("json:/temp", r#"{"temp":80}"#, Some(80.0)),
            ("json:/a/1", r#"{"a":[0,7]}"#, Some(7.0)),
            ("json:/a~1b", r#"{"a/b":2}"#, Some(2.0)),
            ("json:/temp", r#"{"temp":"80"}"#, None),
            ("json:/temp", r#"{"other":80}"#, None),
            ("json:/temp", "{", None),
        ] {
            let rule = rule(value).parse().unwrap();
            assert_eq!(rule.value(payload.as_bytes()), wanted, "{value} {payload}");
        }
    }

    #[test]
    fn a_rule_that_cannot_be_is_named() {
        for (rule, words) in [
            (HistoryConfig { filter: "a#".to_owned(), ..rule("json") }, "topic filter"),
            (rule("xml:/a"), "JSON pointer"),
            (rule("json:temp"), "JSON pointer"),
            (HistoryConfig { points: 0, ..rule("json") }, "100000"),
        ] {
            let error = check(&[rule]).unwrap_err().to_string();
            assert!(error.starts_with("history: ") && error.contains(words), "{error}");
        }
        assert!(check(&vec![rule("json"); RULES_MAX + 1]).is_err());
    }
}
