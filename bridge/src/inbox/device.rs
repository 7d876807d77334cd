//! The inbox over MQTT: what devices ask on `$push/inbox/ask`, and what they are told on `$push/inbox`.
//!
//! What a device is told is written when it leaves, from the inbox as it is then: the queue towards the broker holds only
//! what it is about, and of two changes the device that was away hears the last, which says all.

use reveille_proto::bridge::{self as wire, Strategy};
use reveille_proto::ids::{AppId, MessageId};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::{IDS_MAX, Inbox, Line, Part, State, counts, page, user_of};
use crate::audience::Asked;
use crate::audience::expression::{Expression, Field, Match};
use crate::devices::{self, Device, USER};
use crate::messages::{Content, app_text};
use crate::queues::{self, Out};
use crate::store::{StoreError, Tx};
use crate::templates;

/// Entries in one answer unless asked otherwise, and at most.
const PAGE: usize = 20;
const PAGE_MAX: usize = 50;
/// Entries in one answer end here, in bytes, so that phones take it; the first is always there.
const PAGE_BYTES: usize = 32 * 1024;
/// Longest name of a request, in bytes.
const REQUEST_MAX: usize = 64;
/// Devices of one user that are told of a change.
const DEVICES_TOLD_MAX: usize = 64;
/// Messages that one note names; of more it says only that something changed.
const NAMED_MAX: usize = 100;
/// An answer is of use while the device waits for it, in milliseconds.
const ANSWER_MS: u64 = 30_000;
/// Of several notes that wait for a device the last says all.
const COLLAPSE_KEY: &str = "$push/inbox";

/// What a device asks: at most one of these.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Ask {
    /// Comes back with the answer.
    request: Option<String>,
    get: Option<Get>,
    read: Option<Vec<String>>,
    read_up_to: Option<String>,
    delete: Option<Vec<String>>,
}

/// Which part of the inbox.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Get {
    #[serde(skip_serializing_if = "Option::is_none")]
    before: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    limit: Option<usize>,
    unread: bool,
}

impl Get {
    fn part(&self) -> Option<Part> {
        let before = self.before.as_deref().map(MessageId::parse).transpose().ok()?;
        let limit = self.limit.unwrap_or(PAGE).clamp(1, PAGE_MAX);
        Some(Part { before, limit, is_unread: self.unread })
    }
}

/// What became of which messages.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Changed {
    pub read: Vec<MessageId>,
    pub deleted: Vec<MessageId>,
}

impl Changed {
    fn is_nothing(&self) -> bool {
        self.read.is_empty() && self.deleted.is_empty()
    }

    fn tell(&self) -> Tell {
        let text = |ids: &[MessageId]| ids.iter().map(ToString::to_string).collect();
        match self.read.len() + self.deleted.len() > NAMED_MAX {
            true => Tell::Changed { read: Vec::new(), deleted: Vec::new() },
            false => Tell::Changed { read: text(&self.read), deleted: text(&self.deleted) },
        }
    }
}

/// What some devices are told; it waits for the broker in the outbox.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Note {
    #[serde(with = "app_text")]
    pub app: AppId,
    /// Whose inbox it is about. A device that has another user by the time it leaves is not told.
    pub user: Option<String>,
    pub devices: Vec<String>,
    pub tell: Tell,
}

/// What is told.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Tell {
    /// Something changed, by whoever.
    Changed {
        /// Messages that are read now.
        read: Vec<String>,
        /// Messages that are gone.
        deleted: Vec<String>,
    },
    /// The answer to an ask: the counts, and the part that was asked for.
    Answer { request: Option<String>, get: Option<Get> },
    /// An ask of no use.
    Refused { request: Option<String>, error: String },
}

/// Takes what a device asks. `Err`: why it is of no use; the device is told too.
pub(crate) fn take(tx: &mut Tx<'_>, said: &wire::FromDevice) -> Result<Result<(), &'static str>, StoreError> {
    let Ok(app) = AppId::parse(&said.app) else { return Ok(Err("no app in it")) };
    let ask = serde_json::from_slice::<Ask>(&said.payload).ok();
    let request = ask.as_ref().and_then(|ask| ask.request.clone()).filter(|name| name.len() <= REQUEST_MAX);
    let device = devices::load(tx, &app, &said.client_id)?;
    let user = device.as_ref().and_then(user_of).map(str::to_owned);
    let done = match (ask, &user) {
        (None, _) => Err("malformed"),
        (Some(_), None) => Err("no_user"),
        (Some(ask), Some(user)) => change(tx, &app, user, &said.client_id, &ask)?.map(|()| ask.get),
    };
    let (tell, result) = match done {
        Ok(get) => (Tell::Answer { request, get }, Ok(())),
        Err(error) => {
            (Tell::Refused { request, error: error.to_owned() }, Err("an ask for an inbox of no use"))
        }
    };
    tell_broker(tx, Note { app, user, devices: vec![said.client_id.clone()], tell })?;
    Ok(result)
}

/// Does what the ask wants changed, and tells the user's other devices.
fn change(
    tx: &mut Tx<'_>,
    app: &AppId,
    user: &str,
    device: &str,
    ask: &Ask,
) -> Result<Result<(), &'static str>, StoreError> {
    let Ask { request: _, get, read, read_up_to, delete } = ask;
    let wants = [get.is_some(), read.is_some(), read_up_to.is_some(), delete.is_some()];
    let ids = |texts: &Option<Vec<String>>| {
        let texts = texts.iter().flatten();
        texts
            .map(|text| MessageId::parse(text).ok())
            .collect::<Option<Vec<_>>>()
            .filter(|ids| ids.len() <= IDS_MAX)
    };
    let last = read_up_to.as_deref().map(MessageId::parse).transpose();
    let part = get.clone().unwrap_or_default().part();
    let (Some(read), Some(delete), Ok(last), Some(_)) = (ids(read), ids(delete), last, part) else {
        return Ok(Err("malformed"));
    };
    if wants.into_iter().filter(|wants| *wants).count() > 1 {
        return Ok(Err("malformed"));
    }
    let mut inbox = Inbox::open(tx, app, user)?;
    let mut changed = Changed::default();
    for id in read {
        changed.read.extend(inbox.read(tx, id)?.then_some(id));
    }
    if last.is_some() {
        changed.read.extend(inbox.read_up_to(tx, last)?);
    }
    for id in delete {
        changed.deleted.extend(inbox.delete(tx, id)?.then_some(id));
    }
    inbox.close(tx)?;
    tell_all(tx, app, user, Some(device), &changed)?;
    Ok(Ok(()))
}

fn tell_broker(tx: &mut Tx<'_>, note: Note) -> Result<(), StoreError> {
    queues::tell_broker(tx, &Out::Inbox(note))
}

/// Tells a user's devices of a change, but for the one that made it.
pub(crate) fn tell_all(
    tx: &mut Tx<'_>,
    app: &AppId,
    user: &str,
    except: Option<&str>,
    changed: &Changed,
) -> Result<(), StoreError> {
    if changed.is_nothing() {
        return Ok(());
    }
    let theirs = Expression::Has(Field::Alias(USER.to_owned()), Match::Exactly(user.to_owned()));
    let asked = Asked::new(tx, app, theirs, tx.now_ms())?;
    let (mut devices, _) = asked.ids_from(tx, app, None, DEVICES_TOLD_MAX)?;
    devices.retain(|device| Some(device.as_str()) != except);
    if devices.is_empty() {
        return Ok(());
    }
    tell_broker(tx, Note { app: app.clone(), user: Some(user.to_owned()), devices, tell: changed.tell() })
}

/// A device has another user, or none any more: what it knew of an inbox is void. What waited for it is replaced.
pub(crate) fn tell_of_user(
    tx: &mut Tx<'_>,
    app: &AppId,
    was: Option<&Device>,
    is: &Device,
) -> Result<(), StoreError> {
    let was = was.and_then(user_of);
    if was.is_none() || was == user_of(is) {
        return Ok(());
    }
    let user = user_of(is).map(str::to_owned);
    tell_broker(
        tx,
        Note { app: app.clone(), user, devices: vec![is.id.clone()], tell: Changed::default().tell() },
    )
}

/// The packet for the broker; `None` when nobody is to be told any more.
pub(crate) fn packet(tx: &Tx<'_>, note: Note) -> Result<Option<wire::Send>, StoreError> {
    let Note { app, user, devices, tell } = note;
    let (mut client_ids, mut reader) = (Vec::with_capacity(devices.len()), None);
    for id in devices {
        let device = devices::load(tx, &app, &id)?;
        if device.as_ref().and_then(user_of) == user.as_deref() {
            client_ids.push(id);
            reader = device;
        }
    }
    if client_ids.is_empty() {
        return Ok(None);
    }
    let is_answer = !matches!(tell, Tell::Changed { .. });
    let payload = payload(tx, &app, user.as_deref(), tell, reader.as_ref())?;
    let message = wire::Message {
        id: MessageId::note(uuid::Uuid::now_v7().into_bytes()).0.to_vec().into(),
        app: app.as_str().to_owned(),
        topic: wire::INBOX.to_owned(),
        payload: payload.to_string().into_bytes().into(),
        qos: 1,
        accepted_at_ms: tx.now_ms(),
        expires_at_ms: if is_answer { tx.now_ms() + ANSWER_MS } else { 0 },
        collapse_key: if is_answer { String::new() } else { COLLAPSE_KEY.to_owned() },
        strategy: Strategy::OnlineOnly.into(),
        content_type: "application/json".to_owned(),
        ..wire::Message::default()
    };
    Ok(Some(wire::Send { message: Some(message), client_ids }))
}

fn payload(
    tx: &Tx<'_>,
    app: &AppId,
    user: Option<&str>,
    tell: Tell,
    reader: Option<&Device>,
) -> Result<Value, StoreError> {
    let (unread, revision) = user.map_or(Ok((0, 0)), |user| counts(tx, app, user))?;
    let mut fields = Map::new();
    let mut put = |name: &str, value: Value| {
        if !value.is_null() {
            fields.insert(name.to_owned(), value);
        }
    };
    put("user", json!(user));
    match tell {
        Tell::Refused { request, error } => {
            put("request", json!(request));
            put("error", json!(error));
        }
        Tell::Changed { read, deleted } => {
            put("unread", json!(unread));
            put("revision", json!(revision));
            put("read", if read.is_empty() { Value::Null } else { json!(read) });
            put("deleted", if deleted.is_empty() { Value::Null } else { json!(deleted) });
        }
        Tell::Answer { request, get } => {
            put("request", json!(request));
            put("unread", json!(unread));
            put("revision", json!(revision));
            if let (Some(user), Some(part)) = (user, get.as_ref().and_then(Get::part)) {
                let (items, next) =
                    items(tx, app, user, part, &reader.map_or(Reader::Server(None), Reader::Device))?;
                put("items", items.into());
                put("next", json!(next));
            }
        }
    }
    Ok(Value::Object(fields))
}

/// As many lines as one packet takes, and where to go on.
fn items(
    tx: &Tx<'_>,
    app: &AppId,
    user: &str,
    part: Part,
    reader: &Reader<'_>,
) -> Result<(Vec<Value>, Option<String>), StoreError> {
    let (lines, mut is_more) = page(tx, app, user, part)?;
    let (mut items, mut bytes, mut last) = (Vec::new(), 0, None);
    for line in lines {
        let item = show(&line, reader);
        bytes += item.to_string().len();
        if bytes > PAGE_BYTES && last.is_some() {
            is_more = true;
            break;
        }
        last = Some(line.place.0.to_string());
        items.push(item);
    }
    Ok((items, last.filter(|_| is_more)))
}

/// Who reads an inbox, for texts in a language, and such that speak of the device.
pub(crate) enum Reader<'a> {
    /// A device.
    Device(&'a Device),
    /// A business server, in this language.
    Server(Option<&'a str>),
}

impl Reader<'_> {
    fn language(&self) -> Option<&str> {
        match self {
            Self::Device(device) => device.attributes.language.as_deref(),
            Self::Server(language) => *language,
        }
    }

    fn device(&self) -> Option<&Device> {
        match self {
            Self::Device(device) => Some(device),
            Self::Server(_) => None,
        }
    }
}

/// One line of an inbox as devices and business servers read it.
pub(crate) fn show(line: &Line, reader: &Reader<'_>) -> Value {
    let mut content = line.shown.content.clone().unwrap_or_default();
    let i18n = content.notification.as_ref().map(|notification| &notification.i18n);
    let language = i18n.and_then(|i18n| templates::language_for(i18n, reader.language()));
    content.speak(language.as_deref(), reader.device());
    let Content { notification, data, is_personal: _ } = content;
    let notification = notification.unwrap_or_default();
    // One that waited for its time was sent when it came.
    let sent_at_ms = if line.shown.start.is_some() { line.entry.since_ms } else { line.shown.accepted_at_ms };
    let read_at_ms = match line.entry.state {
        State::Read { at_ms } => Some(at_ms),
        State::Unread | State::Deleted => None,
    };
    let mut fields = Map::new();
    for (name, value) in [
        ("id", json!(line.id.to_string())),
        ("title", json!(notification.title)),
        ("body", json!(notification.body)),
        ("image", json!(notification.image)),
        ("url", json!(notification.click.map(|click| click.url))),
        ("data", if data.is_empty() { Value::Null } else { Value::Object(data) }),
        ("sent_at_ms", json!(sent_at_ms)),
        ("received_at_ms", json!(line.entry.since_ms)),
        ("expires_at_ms", json!(line.entry.until_ms)),
        ("read_at_ms", json!(read_at_ms)),
    ] {
        if !value.is_null() {
            fields.insert(name.to_owned(), value);
        }
    }
    Value::Object(fields)
}
