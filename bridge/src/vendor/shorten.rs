//! Makes a push fit a vendor's size bound: what is left out, in which order.
//!
//! 1. as it is;
//! 2. the body is cut, but not below [`BODY_KEPT`] bytes;
//! 3. the data fields are left out: the device has the whole message in its MQTT queue;
//! 4. title and body only, both cut; sound, category, overrides and everything else are left out.
//!
//! A data push has nothing to cut but its data, so step 4 is a bare wake-up. From step 3 on the push says
//! `"cut":"1"` beside `mid`, so that the app knows to fetch the rest over MQTT.

use std::borrow::Cow;

use serde_json::{Map, Value};

use super::{Push, PushKind};

/// A body is not cut below this many bytes while other parts can still be left out; phones show fewer.
pub const BODY_KEPT: usize = 256;
/// A title is not cut below this many bytes.
pub const TITLE_KEPT: usize = 128;

/// How much of a push was left out. Found in the request's extensions when anything was.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Shortened {
    /// The body was cut.
    Body,
    /// The body was cut and the data fields left out.
    Data,
    /// Only a wake-up with the message id, and a cut title and body, remained.
    WakeUp,
}

impl Shortened {
    /// A short name for metric labels and delivery records.
    pub fn name(self) -> &'static str {
        match self {
            Self::Body => "body_cut",
            Self::Data => "data_left_out",
            Self::WakeUp => "wake_up_only",
        }
    }
}

/// The parts of a push that may be sent at one step of the ladder.
pub(super) struct Parts<'a> {
    /// The title, perhaps cut.
    pub title: Option<Cow<'a, str>>,
    /// The body, perhaps cut.
    pub body: Option<Cow<'a, str>>,
    /// The data fields, or `None` when left out.
    pub data: Option<&'a Map<String, Value>>,
    /// Whether to say that something is missing.
    pub is_cut: bool,
    /// Whether sound, image, category, overrides and the like are still in.
    pub has_extras: bool,
}

impl Parts<'_> {
    /// Title and body for a vendor that wants both: one that is missing says what the other says.
    pub fn both(&self) -> [(&'static str, Option<&str>); 2] {
        let title = self.title.as_deref().filter(|text| !text.trim().is_empty());
        let body = self.body.as_deref().filter(|text| !text.trim().is_empty());
        [("title", title.or(body)), ("body", body.or(title))]
    }
}

/// Builds the largest form of the push whose JSON has at most `bytes_max` bytes; the form and what was left
/// out. `None` when not even the wake-up fits.
pub(super) fn fit(
    push: &Push,
    bytes_max: usize,
    build: impl Fn(&Parts<'_>) -> Value,
) -> Option<(Value, Option<Shortened>)> {
    let fits = |parts: &Parts<'_>| {
        let json = build(parts);
        (json.to_string().len() <= bytes_max).then_some(json)
    };
    if let Some(json) = fits(&whole(push)) {
        return Some((json, None));
    }
    if let Some(json) = longest_body(push, fits) {
        return Some((json, Some(Shortened::Body)));
    }
    let mut parts = with_body(push, BODY_KEPT);
    (parts.data, parts.is_cut) = (None, true);
    if let Some(json) = fits(&parts) {
        return Some((json, Some(Shortened::Data)));
    }
    parts.title = parts.title.map(|title| cut(title, TITLE_KEPT));
    parts.has_extras = false;
    fits(&parts).map(|json| (json, Some(Shortened::WakeUp)))
}

/// The longest cut body with which the rest still fits, by bisection over its length.
fn longest_body(push: &Push, fits: impl Fn(&Parts<'_>) -> Option<Value>) -> Option<Value> {
    let mut best = fits(&with_body(push, BODY_KEPT))?;
    let (mut good, mut bad) = (BODY_KEPT, push.body.as_ref().map_or(0, String::len));
    while good + 1 < bad {
        let middle = good.midpoint(bad);
        match fits(&with_body(push, middle)) {
            Some(json) => (good, best) = (middle, json),
            None => bad = middle,
        }
    }
    Some(best)
}

fn whole(push: &Push) -> Parts<'_> {
    Parts {
        title: push.title.as_deref().map(Cow::Borrowed),
        body: push.body.as_deref().map(Cow::Borrowed),
        data: Some(&push.data),
        is_cut: false,
        has_extras: true,
    }
}

fn with_body(push: &Push, bytes_max: usize) -> Parts<'_> {
    let parts = whole(push);
    Parts { body: parts.body.map(|body| cut(body, bytes_max)), ..parts }
}

/// Title and body for a vendor that bounds both in characters and shows nothing without a title.
pub(super) struct Texts {
    /// Never blank.
    pub title: String,
    /// Never blank.
    pub body: String,
    /// Whether one of them was cut.
    pub is_cut: bool,
}

/// Cuts title and body to so many characters each; one that is missing says what the other says. `None` when there is
/// nothing to show.
pub(super) fn texts(push: &Push, title_max: usize, body_max: usize) -> Option<Texts> {
    let shown = |text: &Option<String>| {
        text.as_deref().map(str::trim).filter(|text| !text.is_empty()).map(str::to_owned)
    };
    let (title, body) = (shown(&push.title), shown(&push.body));
    let whole_title = title.clone().or_else(|| body.clone())?;
    let whole_body = body.unwrap_or_else(|| whole_title.clone());
    let (title, body) = (cut_chars(&whole_title, title_max), cut_chars(&whole_body, body_max));
    // A title that only repeats the body has lost nothing when it is cut.
    let is_title_cut = push.title.is_some() && title != whole_title;
    let is_cut = is_title_cut || body != whole_body;
    Some(Texts { title, body, is_cut })
}

/// At most `chars_max` characters of the text, ended with an ellipsis when it was cut.
pub(super) fn cut_chars(text: &str, chars_max: usize) -> String {
    if text.chars().count() <= chars_max {
        return text.to_owned();
    }
    let mut cut: String = text.chars().take(chars_max.saturating_sub(1)).collect();
    cut.push('…');
    cut
}

/// The app's data with `mid`, as JSON text of at most `bytes_max` bytes; when that is too small for the data, `mid` and
/// `cut` alone, and `true`.
pub(super) fn data_text(push: &Push, bytes_max: usize) -> (String, bool) {
    let mut data = push.data.clone();
    data.insert("mid".to_owned(), push.id.to_string().into());
    let text = Value::Object(data).to_string();
    if text.len() <= bytes_max {
        return (text, false);
    }
    (serde_json::json!({"mid": push.id.to_string(), "cut": "1"}).to_string(), true)
}

/// The app's data with `mid`, and with `cut` where something is missing. A data push carries title and body here too,
/// unless the app has fields of these names.
pub(super) fn data_fields(push: &Push, parts: &Parts<'_>) -> Map<String, Value> {
    let mut data = parts.data.cloned().unwrap_or_default();
    data.insert("mid".to_owned(), push.id.to_string().into());
    if parts.is_cut {
        data.insert("cut".to_owned(), "1".into());
    }
    if push.kind == PushKind::Data {
        for (name, value) in [("title", &parts.title), ("body", &parts.body)] {
            if let Some(value) = value {
                data.entry(name).or_insert_with(|| value.as_ref().into());
            }
        }
    }
    data
}

/// What was left out, from whether texts and data were cut.
pub(super) fn shortened(is_text_cut: bool, is_data_cut: bool) -> Option<Shortened> {
    match (is_text_cut, is_data_cut) {
        (_, true) => Some(Shortened::Data),
        (true, false) => Some(Shortened::Body),
        (false, false) => None,
    }
}

/// At most `bytes_max` bytes of the text, cut between characters and ended with an ellipsis.
fn cut(text: Cow<'_, str>, bytes_max: usize) -> Cow<'_, str> {
    const ELLIPSIS: &str = "…";
    if text.len() <= bytes_max {
        return text;
    }
    let mut cut = text.into_owned();
    cut.truncate(cut.floor_char_boundary(bytes_max.saturating_sub(ELLIPSIS.len())));
    cut.push_str(ELLIPSIS);
    Cow::Owned(cut)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cut_text_ends_between_characters() {
        let table = [
            ("abc", 3, "abc"),
            ("abcd", 3, "…"),
            ("abcdef", 5, "ab…"),
            ("设备设备", 7, "设…"),
            ("设备", 6, "设备"),
            ("ab", 0, "…"),
        ];
        for (text, bytes_max, wanted) in table {
            assert_eq!(cut(text.into(), bytes_max), wanted, "{text} {bytes_max}");
        }
    }
}
