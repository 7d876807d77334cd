//! Bodies of other push services, read and written again as bodies of our own. Pure: what the store knows comes in.
//!
//! A field that says whom, when or what is taken or refused by its name. One that only decorates an alert is passed over;
//! the tables of `docs/migrating.md` and the lists beside each reader name them, and a test holds both together.

pub mod gorush;
pub mod jpush;
pub mod unipush;

use serde::Deserialize;
use serde_json::{Map, Value};
use utoipa::ToSchema;

use crate::audience::Expression;
use crate::audience::expression::{Field, Match};
use crate::inbox::badge::{ADD_MAX, Badge};

/// What another service's time of zero becomes, in seconds: whoever is connected now shall get it, nobody later.
pub const NOW_S: u64 = 10;

/// A send in our own words.
#[derive(Clone, Debug, PartialEq)]
pub struct Translated {
    /// The body of `POST …/messages`.
    pub body: Value,
    /// What the sender calls the request, so that a repetition is known.
    pub key: Option<String>,
}

/// Why a body is not taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// A field that must be there is not.
    #[error("{0} is missing")]
    Missing(&'static str),
    /// A field that says something that cannot be done.
    #[error("{field} {problem}")]
    Wrong {
        /// Which, by its names from the outside in.
        field: String,
        /// What it should be.
        problem: String,
    },
}

impl Refused {
    fn wrong(field: impl Into<String>, problem: impl Into<String>) -> Self {
        Self::Wrong { field: field.into(), problem: problem.into() }
    }
}

/// One text or several.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(untagged)]
pub enum OneOrMany {
    /// One.
    One(String),
    /// Several.
    Many(Vec<String>),
}

impl OneOrMany {
    fn into_vec(self) -> Vec<String> {
        match self {
            Self::One(text) => vec![text],
            Self::Many(texts) => texts,
        }
    }
}

/// Takes fields out that have no effect here, each by the object that it stands in (`""` is the body, `*` any member).
pub fn strip(body: &mut Value, without_effect: &[(&str, &[&str])]) {
    for (place, names) in without_effect {
        let path: Vec<&str> = place.split('.').filter(|part| !part.is_empty()).collect();
        strip_at(body, &path, names);
    }
}

fn strip_at(value: &mut Value, path: &[&str], names: &[&str]) {
    match (path.split_first(), value) {
        (None, Value::Object(fields)) => fields.retain(|name, _| !names.contains(&name.as_str())),
        (Some((&"*", rest)), Value::Object(fields)) => {
            fields.values_mut().for_each(|value| strip_at(value, rest, names));
        }
        (Some((&"*", rest)), Value::Array(items)) => {
            items.iter_mut().for_each(|value| strip_at(value, rest, names));
        }
        (Some((name, rest)), Value::Object(fields)) => {
            if let Some(value) = fields.get_mut(*name) {
                strip_at(value, rest, names);
            }
        }
        _ => {}
    }
}

/// Writes a value below names, making the objects on the way.
fn put(object: &mut Map<String, Value>, path: &[&str], value: Value) {
    let Some((last, above)) = path.split_last() else { return };
    let mut place = object;
    for name in above {
        let below = place.entry(*name).or_insert_with(|| Value::Object(Map::new()));
        if !below.is_object() {
            *below = Value::Object(Map::new());
        }
        let Value::Object(below) = below else { return };
        place = below;
    }
    place.insert((*last).to_owned(), value);
}

/// The same where there is a value.
fn put_some(object: &mut Map<String, Value>, path: &[&str], value: Option<impl Into<Value>>) {
    if let Some(value) = value {
        put(object, path, value.into());
    }
}

/// A text that says something.
fn said(text: Option<String>) -> Option<String> {
    text.filter(|text| !text.is_empty())
}

fn has(field: Field, value: impl Into<String>) -> Expression {
    Expression::Has(field, Match::Exactly(value.into()))
}

/// Devices of a platform by its name here.
fn platform(name: &str) -> Expression {
    has(Field::Attribute("platform".to_owned()), name)
}

/// Adds fields to the app's own. A name that is there already with another value is left to the caller.
fn add_data(data: &mut Map<String, Value>, more: Map<String, Value>) -> Vec<(String, Value)> {
    let mut others = Vec::new();
    for (name, value) in more {
        match data.get(&name) {
            None => {
                data.insert(name, value);
            }
            Some(known) if *known == value => {}
            Some(_) => others.push((name, value)),
        }
    }
    others
}

/// The number on an app's icon, or how many more; one that is to count down is left as it is, which no vendor can do.
fn badge(field: &str, badge: Option<&Value>) -> Result<Option<Badge>, Refused> {
    let wrong = || Refused::wrong(field, "is a number, or one with a sign as text");
    match badge {
        None | Some(Value::Null) => Ok(None),
        Some(Value::Number(number)) => {
            let number = number.as_u64().and_then(|number| u32::try_from(number).ok());
            number.map(|number| Some(Badge::Set(number))).ok_or_else(wrong)
        }
        Some(Value::String(text)) => {
            let number: i32 = text.parse().map_err(|_| wrong())?;
            let number = u32::try_from(number).ok(); // below 0 it counts down
            Ok(match text.starts_with('+') {
                true => number.and_then(more),
                false => number.map(Badge::Set),
            })
        }
        Some(_) => Err(wrong()),
    }
}

/// So many more; as many as fit where they are too many.
fn more(count: u32) -> Option<Badge> {
    (count > 0).then(|| Badge::Add(count.min(ADD_MAX)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn fields_without_effect_are_taken_out_wherever_they_stand() {
        let mut body =
            json!({"a": {"x": 1, "y": 2}, "list": [{"x": 1}, {"z": 3}], "x": 5, "map": {"m": {"x": 1}}});
        strip(&mut body, &[("a", &["x"]), ("list.*", &["x"]), ("map.*", &["x"]), ("absent", &["x"])]);
        assert_eq!(body, json!({"a": {"y": 2}, "list": [{}, {"z": 3}], "x": 5, "map": {"m": {}}}));
    }

    #[test]
    fn a_badge_is_set_or_counts_up_and_never_counts_down() {
        for (given, wanted) in [
            (json!(0), Some(json!(0))),
            (json!(7), Some(json!(7))),
            (json!("7"), Some(json!(7))),
            (json!("+1"), Some(json!("+1"))),
            (json!("+250"), Some(json!("+99"))),
            (json!("+0"), None),
            (json!("-1"), None),
            (Value::Null, None),
        ] {
            let read = badge("badge", Some(&given)).unwrap();
            assert_eq!(read.map(|badge| json!(badge)), wanted, "{given}");
        }
        for wrong in [json!("many"), json!(-1), json!(1.5), json!([])] {
            assert!(badge("badge", Some(&wrong)).is_err(), "{wrong}");
        }
    }

    #[test]
    fn every_field_without_effect_stands_in_the_document() {
        let document = include_str!("../../docs/migrating.md");
        let lists = [jpush::WITHOUT_EFFECT, unipush::WITHOUT_EFFECT, gorush::WITHOUT_EFFECT];
        for name in lists.concat().iter().flat_map(|(_, names)| *names) {
            assert!(document.contains(&format!("`{name}`")), "docs/migrating.md says nothing of {name}");
        }
    }
}
