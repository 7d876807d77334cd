//! Templates: texts with placeholders that the business keeps under a name, in versions and languages; and how a message
//! gets its texts from one.
//!
//! A version never changes. A message takes the texts of its version when it is accepted, filled with its data, so that
//! nothing has to be looked up for its devices; only texts that speak of the device are filled for each.

pub(crate) mod engine;

use std::collections::BTreeMap;

use reveille_proto::ids::AppId;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use utoipa::ToSchema;

use crate::devices::{Device, USER};
use crate::languages::{self, DEFAULT};
use crate::messages::{Content, Message, Texts};
use crate::store::{Order, Space, StoreError, Tx, decode, keys};
use engine::{TextError, Words};

/// Templates of one app at most.
pub const TEMPLATES_MAX: usize = 1000;
/// Versions of one template that are kept; then the oldest goes.
pub const VERSIONS_MAX: u64 = 100;
/// Languages of one template, or of one message.
pub const LANGUAGES_MAX: usize = 64;
/// Longest name, in bytes.
const NAME_MAX: usize = 64;

/// One version of a template.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Template {
    /// Its name in paths and messages.
    pub name: String,
    /// From 1 on.
    pub version: u64,
    /// A word for people.
    #[serde(default)]
    pub description: String,
    /// What it says, by language; `default` for all others.
    pub texts: BTreeMap<String, Texts>,
    /// Data to try it with.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    #[schema(value_type = Object)]
    pub sample: Map<String, Value>,
    /// When this version was made, in milliseconds since 1970.
    pub created_at_ms: u64,
}

/// Which template a message takes its texts from: `order_shipped@3`, or the newest version without the number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reference {
    /// The template.
    pub name: String,
    /// Its version; `None`: the newest.
    pub version: Option<u64>,
}

impl Reference {
    /// Reads the text.
    pub fn parse(text: &str) -> Option<Self> {
        let (name, version) = match text.split_once('@') {
            None => (text, None),
            Some((name, version)) => (name, Some(version.parse().ok().filter(|version| *version > 0)?)),
        };
        is_template_name(name).then(|| Self { name: name.to_owned(), version })
    }
}

/// Whether a template can have this name.
pub fn is_template_name(name: &str) -> bool {
    let is_part = |byte: u8| byte.is_ascii_alphanumeric() || b"_-.".contains(&byte);
    (1..=NAME_MAX).contains(&name.len()) && name.bytes().all(is_part)
}

/// A text of a template that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{error}")]
pub(crate) struct WrongText {
    pub language: String,
    pub field: &'static str,
    pub error: TextError,
}

/// Why a message cannot take its texts from a template.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TakeError {
    /// There is no such template, or not this version of it.
    #[error("template {0} does not exist")]
    Unknown(String),
    /// Its placeholders cannot be filled with the message's data.
    #[error("{name}, language {}, {}: {}", .wrong.language, .wrong.field, .wrong.error)]
    Text { name: String, wrong: WrongText },
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Checks every text for its form. All that is wrong is told at once.
pub(crate) fn check(texts: &BTreeMap<String, Texts>) -> Vec<WrongText> {
    each(texts)
        .filter_map(|(language, field, text)| Some(wrong(language, field, engine::read(text).err()?)))
        .collect()
}

/// Fills every text, as a message would.
pub(crate) fn check_filled(texts: &BTreeMap<String, Texts>, data: &Map<String, Value>) -> Vec<WrongText> {
    let nobody = Words::default();
    let error = |text: &str| engine::fill(text, data, &nobody).err();
    each(texts).filter_map(|(language, field, text)| Some(wrong(language, field, error(text)?))).collect()
}

/// Whether the data of a content fill its texts, where those are filled for each device.
pub(crate) fn check_personal(content: &Content) -> Result<(), WrongText> {
    let Some(mut notification) = content.notification.clone().filter(|_| content.is_personal) else {
        return Ok(());
    };
    let mut texts = std::mem::take(&mut notification.i18n);
    texts.insert(DEFAULT.to_owned(), notification.take());
    check_filled(&texts, &content.data).into_iter().next().map_or(Ok(()), Err)
}

fn wrong(language: &str, field: &'static str, error: TextError) -> WrongText {
    WrongText { language: language.to_owned(), field, error }
}

fn each(texts: &BTreeMap<String, Texts>) -> impl Iterator<Item = (&str, &'static str, &str)> {
    texts.iter().flat_map(|(language, texts)| {
        texts.fields().into_iter().filter_map(move |(field, text)| Some((language.as_str(), field, text?)))
    })
}

/// What a device is called in templates.
pub(crate) fn words(device: Option<&Device>) -> Words {
    let Some(device) = device else { return Words::default() };
    let own = &device.attributes;
    let own = [
        ("platform", own.platform.as_ref()),
        ("app_version", own.app_version.as_ref()),
        ("language", own.language.as_ref()),
        ("timezone", own.timezone.as_ref()),
        ("id", Some(&device.id)),
        (USER, device.alias.get(USER)),
    ];
    let own = own.into_iter().filter_map(|(name, word)| Some((name.to_owned(), word?.clone())));
    Words(device.custom.clone().into_iter().chain(own).collect())
}

impl Template {
    /// How a message names this version.
    pub fn reference(&self) -> String {
        format!("{}@{}", self.name, self.version)
    }

    /// Puts its texts into a message's content, filled with the content's data; those that speak of the device are
    /// filled for each.
    ///
    /// # Errors
    /// The first text that the data cannot fill.
    pub(crate) fn put_into(&self, content: &mut Content) -> Result<(), WrongText> {
        if let Some(wrong) = check_filled(&self.texts, &content.data).into_iter().next() {
            return Err(wrong);
        }
        content.is_personal = each(&self.texts).any(|(_, _, text)| engine::read(text) == Ok(true));
        let mut texts = self.texts.clone();
        if !content.is_personal {
            texts.values_mut().for_each(|texts| fill(texts, &content.data, &Words::default()));
        }
        let notification = content.notification.get_or_insert_default();
        if let Some(default) = texts.remove(DEFAULT) {
            notification.put(default);
        }
        notification.i18n = texts;
        Ok(())
    }
}

/// Fills what can be filled; what cannot is left out, so that nobody sees a placeholder.
pub(crate) fn fill(texts: &mut Texts, data: &Map<String, Value>, device: &Words) {
    texts.each_mut(|text| {
        *text = text.as_deref().and_then(|text| engine::fill(text, data, device).ok());
    });
}

/// Gives a message the texts of the template that it names; without one nothing changes.
pub(crate) fn write_out(tx: &Tx<'_>, message: &mut Message) -> Result<(), TakeError> {
    let Some(named) = message.template.clone() else { return Ok(()) };
    let found = match Reference::parse(&named) {
        Some(Reference { name, version }) => find(tx, &message.app, &name, version)?,
        None => None,
    };
    let template = found.ok_or(TakeError::Unknown(named))?;
    let name = template.reference();
    let content = message.content.get_or_insert_default();
    template.put_into(content).map_err(|wrong| TakeError::Text { name: name.clone(), wrong })?;
    message.template = Some(name);
    Ok(())
}

/// A version of a template; without a number the newest.
pub(crate) fn find(
    tx: &Tx<'_>,
    app: &AppId,
    name: &str,
    version: Option<u64>,
) -> Result<Option<Template>, StoreError> {
    match version {
        None => tx.load(Space::Apps, &keys::template(app, name)),
        Some(version) => tx.load(Space::Apps, &keys::template_version(app, name, version)),
    }
}

/// Writes a new version, after the newest. One that says the same as the newest is none.
pub(crate) fn save(tx: &mut Tx<'_>, app: &AppId, mut template: Template) -> Result<Template, StoreError> {
    let newest = find(tx, app, &template.name, None)?;
    if let Some(newest) = newest
        && (&newest.texts, &newest.sample, &newest.description)
            == (&template.texts, &template.sample, &template.description)
    {
        return Ok(newest);
    }
    // Numbers go on where a template of this name was removed: `@3` never means two texts.
    let last: u64 = tx.load(Space::Apps, &keys::template_last(app, &template.name))?.unwrap_or(0);
    template.version = last.saturating_add(1);
    tx.save(Space::Apps, keys::template_last(app, &template.name), &template.version)?;
    tx.save(Space::Apps, keys::template(app, &template.name), &template)?;
    tx.save(Space::Apps, keys::template_version(app, &template.name, template.version), &template)?;
    if let Some(oldest) = template.version.checked_sub(VERSIONS_MAX) {
        tx.remove(Space::Apps, keys::template_version(app, &template.name, oldest));
    }
    Ok(template)
}

/// Removes a template with every version.
pub(crate) fn remove(tx: &mut Tx<'_>, app: &AppId, name: &str) -> Result<(), StoreError> {
    tx.remove(Space::Apps, keys::template(app, name));
    for version in versions(tx, app, name)? {
        tx.remove(Space::Apps, keys::template_version(app, name, version));
    }
    Ok(())
}

/// The versions that are kept, oldest first.
pub(crate) fn versions(tx: &Tx<'_>, app: &AppId, name: &str) -> Result<Vec<u64>, StoreError> {
    let prefix = keys::template_versions(app, name);
    let kept = usize::try_from(VERSIONS_MAX).unwrap_or(usize::MAX);
    let found = tx.scan(Space::Apps, &prefix, None, Order::Forward, kept)?;
    Ok(found.iter().filter_map(|(key, _)| keys::number_at(key, prefix.len())).collect())
}

/// Whether an app has as many as it may have.
pub(crate) fn are_full(tx: &Tx<'_>, app: &AppId) -> Result<bool, StoreError> {
    Ok(tx.count(Space::Apps, &keys::templates(app), TEMPLATES_MAX)? >= TEMPLATES_MAX)
}

/// The newest versions of templates by name, from one on, in either direction.
pub(crate) fn page(
    tx: &Tx<'_>,
    app: &AppId,
    from: Option<&str>,
    order: Order,
    limit: usize,
) -> Result<Vec<Template>, StoreError> {
    let from = from.map(|from| keys::template(app, from));
    let found = tx.scan(Space::Apps, &keys::templates(app), from.as_deref(), order, limit)?;
    found.iter().map(|(_, template)| decode(template)).collect()
}

/// The language of these texts that a device gets: a name of theirs, or none for the default.
pub(crate) fn language_for<T>(texts: &BTreeMap<String, T>, wanted: Option<&str>) -> Option<String> {
    languages::best(texts, wanted?).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::messages::Notification;
    use serde_json::json;

    fn template(texts: Value) -> Template {
        serde_json::from_value(json!({"name": "t", "version": 3, "texts": texts, "created_at_ms": 0}))
            .unwrap()
    }

    fn content(data: Value) -> Content {
        serde_json::from_value(json!({"notification": {"sound": "ding"}, "data": data})).unwrap()
    }

    #[test]
    fn a_reference_is_a_name_with_or_without_a_version() {
        for (text, wanted) in [
            ("order_shipped@3", Some(("order_shipped", Some(3)))),
            ("order.shipped", Some(("order.shipped", None))),
            ("order@0", None),
            ("order@", None),
            ("order@x", None),
            ("@3", None),
            ("a b", None),
            ("", None),
        ] {
            let found = Reference::parse(text);
            let found = found.as_ref().map(|found| (found.name.as_str(), found.version));
            assert_eq!(found, wanted, "{text}");
        }
    }

    #[test]
    fn a_message_gets_every_language_filled_with_its_data() {
        let template = template(json!({
            "default": {"title": "Order {{ order }}", "body": "On its way"},
            "pt": {"title": "Pedido {{ order }}"},
        }));
        let mut content = content(json!({"order": 7}));
        template.put_into(&mut content).unwrap();
        let mut notification = content.notification.clone().unwrap();
        assert_eq!(
            (notification.title.as_deref(), notification.body.as_deref()),
            (Some("Order 7"), Some("On its way"))
        );
        assert_eq!(notification.sound.as_deref(), Some("ding"), "what the message says besides stays");
        notification.speak(Some("pt"));
        let wanted = Notification {
            title: Some("Pedido 7".to_owned()),
            body: Some("On its way".to_owned()), // each text falls back by itself
            sound: Some("ding".to_owned()),
            ..Notification::default()
        };
        assert_eq!(notification, wanted);
        assert!(!content.is_personal);
    }

    #[test]
    fn data_that_do_not_fill_a_text_name_it() {
        let template =
            template(json!({"default": {"title": "a"}, "pt": {"title": "b", "body": "\n{{ order }}"}}));
        let wrong = template.put_into(&mut content(json!({"x": 1}))).unwrap_err();
        assert_eq!((wrong.language.as_str(), wrong.field), ("pt", "body"));
        assert!(wrong.to_string().starts_with("line 2: "), "{wrong}");
    }

    #[test]
    fn texts_that_speak_of_the_device_are_filled_for_each() {
        let template = template(json!({"default": {"title": "{{ device.name }}: {{ order }}"}}));
        let mut content = content(json!({"order": 7}));
        template.put_into(&mut content).unwrap();
        assert!(content.is_personal);
        let custom = BTreeMap::from([("name".to_owned(), "Ana".to_owned())]);
        let device = Device { id: "d1".to_owned(), custom, ..Device::default() };
        for (device, wanted) in [(Some(&device), "Ana: 7"), (None, ": 7")] {
            let mut content = content.clone();
            content.speak(None, device);
            assert_eq!(content.notification.unwrap().title.as_deref(), Some(wanted));
        }
    }
}
