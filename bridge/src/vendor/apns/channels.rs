//! Apple's broadcast channels, which carry one Live Activity update to everybody who listens: made, read, listed, deleted
//! and sent to. Pure.

use bytes::Bytes;
use http::{HeaderValue, Method, Request};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use utoipa::ToSchema;

use super::{ApnsCredential, PushType};
use crate::vendor::{Answer, CannotSend, Verdict};

/// Largest payload of a broadcast, in bytes: the bound of every Live Activity. A secondary source has 5 KB.
pub const PAYLOAD_MAX: usize = super::PAYLOAD_MAX;
/// Longest name of a channel that is taken; Apple's have about 24 characters.
const NAME_MAX: usize = 256;

/// Whether a device that was offline gets the last broadcast when it comes back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Storage {
    /// It does not.
    None,
    /// It gets the newest.
    MostRecent,
}

/// A channel's name, which Apple chose: Base64.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Channel(HeaderValue);

impl Channel {
    /// Checks a name that somebody gave us.
    pub fn parse(text: &str) -> Option<Self> {
        let is_base64 = |b: u8| b.is_ascii_alphanumeric() || b"+/=-_".contains(&b);
        if text.is_empty() || text.len() > NAME_MAX || !text.bytes().all(is_base64) {
            return None;
        }
        HeaderValue::from_str(text).ok().map(Self)
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        self.0.to_str().unwrap_or_default()
    }
}

/// What is asked of Apple.
#[derive(Clone, Debug, PartialEq)]
pub enum Ask {
    /// Make a channel.
    Create(Storage),
    /// How a channel was made.
    Read(Channel),
    /// Every channel of the app.
    List,
    /// Remove a channel.
    Delete(Channel),
    /// Send to a channel.
    Send {
        /// Which.
        channel: Channel,
        /// The payload; `aps` has what Live Activities need.
        payload: Value,
        /// 5 or 10.
        priority: u8,
        /// Seconds since 1970; 0 is now or never, which channels without storage need.
        expiration_s: u64,
    },
}

/// What Apple told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Told {
    /// A channel of this name was made.
    Made(String),
    /// One channel.
    One {
        /// Its name.
        channel: String,
        /// What a device gets that was offline.
        storage: Storage,
    },
    /// The names of all.
    All(Vec<String>),
    /// It is removed.
    Gone,
    /// The update goes out.
    Sent {
        /// Apple's name for the request.
        request_id: Option<String>,
    },
}

/// An update of a Live Activity for everybody who listens to a channel.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Broadcast {
    /// What the activity shows now.
    #[schema(value_type = Object)]
    content_state: Map<String, Value>,
    /// `update` (usual) or `end`.
    #[serde(default)]
    event: ActivityEvent,
    /// Shown besides, as Apple's `alert`.
    #[schema(value_type = Option<Object>)]
    alert: Option<Value>,
    /// Further fields of `aps`, such as `dismissal-date`.
    #[serde(default)]
    #[schema(value_type = Object)]
    aps: Map<String, Value>,
    /// 5 or 10 (usual).
    priority: Option<u8>,
    /// How long Apple keeps it for devices that are offline, in seconds; 0 (usual): not at all.
    #[serde(default)]
    ttl_s: u64,
}

/// What becomes of the activity.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum ActivityEvent {
    /// It shows something else.
    #[default]
    Update,
    /// It ends.
    End,
}

impl Broadcast {
    /// What Apple is asked.
    ///
    /// # Errors
    /// [`CannotSend::Payload`] when it is too large or its priority is none of Apple's.
    pub fn into_ask(self, channel: Channel, now_ms: u64) -> Result<Ask, CannotSend> {
        let event = match self.event {
            ActivityEvent::Update => "update",
            ActivityEvent::End => "end",
        };
        let mut aps = self.aps;
        aps.insert("timestamp".to_owned(), (now_ms / 1000).into());
        aps.insert("event".to_owned(), event.into());
        aps.insert("content-state".to_owned(), Value::Object(self.content_state));
        if let Some(alert) = self.alert {
            aps.insert("alert".to_owned(), alert);
        }
        let payload = json!({ "aps": aps });
        let priority = self.priority.unwrap_or(10);
        if !matches!(priority, 5 | 10) {
            return Err(CannotSend::Payload("priority is 5 or 10"));
        }
        if payload.to_string().len() > PAYLOAD_MAX {
            return Err(CannotSend::Payload("payload is too large"));
        }
        let expiration_s = match self.ttl_s {
            0 => 0,
            ttl_s => (now_ms / 1000).saturating_add(ttl_s),
        };
        Ok(Ask::Send { channel, payload, priority, expiration_s })
    }
}

impl ApnsCredential {
    /// The request for one of these.
    ///
    /// # Errors
    /// [`CannotSend::Config`] when the credential's address makes no URL, or has no provider token.
    pub fn channel_request(&self, ask: &Ask, login: Option<&str>) -> Result<Request<Bytes>, CannotSend> {
        let (base, app) = (self.channels_base(), &self.bundle_id);
        let channels = format!("{base}/1/apps/{app}/channels");
        let (method, uri) = match ask {
            Ask::Create(_) => (Method::POST, channels),
            Ask::Read(_) => (Method::GET, channels),
            Ask::Delete(_) => (Method::DELETE, channels),
            Ask::List => (Method::GET, format!("{base}/1/apps/{app}/all-channels")),
            Ask::Send { .. } => (Method::POST, format!("{}/4/broadcasts/apps/{app}", self.base())),
        };
        let body = match ask {
            Ask::Create(storage) => {
                let policy = u8::from(*storage == Storage::MostRecent);
                json!({"message-storage-policy": policy, "push-type": "LiveActivity"}).to_string()
            }
            Ask::Send { payload, .. } => payload.to_string(),
            Ask::Read(_) | Ask::Delete(_) | Ask::List => String::new(),
        };
        let mut request = Request::builder().method(method).uri(uri);
        if !body.is_empty() {
            request = request.header(http::header::CONTENT_TYPE, "application/json");
        }
        if let Ask::Read(channel) | Ask::Delete(channel) | Ask::Send { channel, .. } = ask {
            request = request.header("apns-channel-id", channel.0.clone());
        }
        if let Ask::Send { priority, expiration_s, .. } = ask {
            request = request
                .header("apns-push-type", PushType::LiveActivity.as_str())
                .header("apns-priority", priority.to_string())
                .header("apns-expiration", expiration_s.to_string());
        }
        let mut request =
            request.body(Bytes::from(body)).map_err(|_| CannotSend::Config("endpoint makes no URL"))?;
        if self.certificate.is_none() {
            let login = login.ok_or(CannotSend::Config("no provider token"))?;
            let name = http::header::AUTHORIZATION;
            crate::vendor::form::secret_header(&mut request, name, &format!("bearer {login}"))?;
        }
        Ok(request)
    }

    /// Reads the answer to one of these: what Apple told.
    ///
    /// # Errors
    /// The verdict when Apple did not do it.
    pub fn read_channel(&self, ask: &Ask, answer: &Answer, now_ms: u64) -> Result<Told, Verdict> {
        use crate::vendor::Vendor as _;
        let header = |name: &str| answer.headers.get(name).and_then(|value| value.to_str().ok());
        let body = || serde_json::from_slice::<Value>(&answer.body).unwrap_or_default();
        match (ask, answer.status) {
            (Ask::Create(_), 201) => match header("apns-channel-id") {
                Some(id) => Ok(Told::Made(id.to_owned())),
                None => Err(Verdict::Retry { after: None, reason: "Apple named no channel".to_owned() }),
            },
            (Ask::Read(channel), 200) => {
                let policy = body().get("message-storage-policy").and_then(Value::as_u64);
                let storage = if policy == Some(0) { Storage::None } else { Storage::MostRecent };
                Ok(Told::One { channel: channel.as_str().to_owned(), storage })
            }
            (Ask::List, 200) => {
                let body = body();
                let names = body.get("channels").and_then(Value::as_array).into_iter().flatten();
                Ok(Told::All(names.filter_map(Value::as_str).map(str::to_owned).collect()))
            }
            (Ask::Delete(_), 200 | 204) => Ok(Told::Gone),
            (Ask::Send { .. }, 200) => {
                Ok(Told::Sent { request_id: header("apns-request-id").map(str::to_owned) })
            }
            // A status that says nothing of this is no success.
            (_, 200..=299) => {
                Err(Verdict::Retry { after: None, reason: format!("status {}", answer.status) })
            }
            _ => Err(self.verdict(answer, now_ms)),
        }
    }
}
