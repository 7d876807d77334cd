//! What a push becomes for Apple: its push type with priority and expiry, and a payload that fits the type. Pure.
//!
//! The sender chooses another push type than the usual two in `overrides.apns.headers`; everything else of the block is
//! merged over the payload.

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::{ApnsCredential, COLLAPSE_ID_MAX, PushType};
use crate::vendor::shorten::{Parts, Shortened, fit};
use crate::vendor::{CannotSend, Push, PushKind, merge};

/// The part of the overrides that is about the request's headers.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct OwnHeaders {
    #[serde(rename = "apns-push-type")]
    push_type: Option<PushType>,
    #[serde(rename = "apns-priority")]
    priority: Option<u8>,
    /// Seconds since 1970; 0 is now or never.
    #[serde(rename = "apns-expiration")]
    expiration: Option<u64>,
    #[serde(rename = "apns-collapse-id")]
    pub collapse_id: Option<String>,
}

/// See the module.
pub(super) struct Form<'a> {
    pub push: &'a Push,
    pub push_type: PushType,
    pub priority: u8,
    pub own: OwnHeaders,
    overrides: Cow<'a, Value>,
    now_s: u64,
}

impl<'a> Form<'a> {
    /// Checks that Apple takes this combination, before anything is sent.
    pub fn of(push: &'a Push, credential: &ApnsCredential, now_ms: u64) -> Result<Self, CannotSend> {
        let (own, overrides) = split(&push.overrides)?;
        let usual = match push.kind {
            PushKind::Alert => PushType::Alert,
            PushKind::Data => PushType::Background,
        };
        let push_type = own.push_type.unwrap_or(usual);
        let priority = own.priority.unwrap_or_else(|| push_type.priority(push.priority));
        if !push_type.takes(priority) {
            return Err(CannotSend::Payload("apns-priority does not fit apns-push-type"));
        }
        if own.collapse_id.as_ref().is_some_and(|id| id.is_empty() || id.len() > COLLAPSE_ID_MAX) {
            return Err(CannotSend::Payload("apns-collapse-id has 1 to 64 bytes"));
        }
        if push_type == PushType::Location && credential.certificate.is_some() {
            return Err(CannotSend::Config("location pushes need a token key"));
        }
        if push_type == PushType::Mdm && overrides.get("mdm").is_none() {
            return Err(CannotSend::Payload("an MDM push needs the device's `mdm` in overrides.apns"));
        }
        Ok(Self { push, push_type, priority, own, overrides, now_s: now_ms / 1000 })
    }

    /// `apns-expiration`: the sender's own, or the message's. A talk is over when it is not heard at once.
    pub fn expiration(&self, usual: Option<u64>) -> Option<u64> {
        match self.push_type {
            PushType::PushToTalk => Some(self.own.expiration.unwrap_or(0)),
            _ => self.own.expiration.or(usual),
        }
    }

    /// The largest payload that fits, and what was left out. `None` when nothing sensible fits.
    pub fn payload(&self) -> Option<(Value, Option<Shortened>)> {
        let (payload, shortened) =
            fit(self.push, self.push_type.payload_max(), |parts| self.payload_of(parts))?;
        // A Live Activity shows its content state and nothing else: without it the push would be broken.
        let is_broken = self.push_type == PushType::LiveActivity
            && matches!(shortened, Some(Shortened::Data | Shortened::WakeUp));
        (!is_broken).then_some((payload, shortened))
    }

    fn payload_of(&self, parts: &Parts<'_>) -> Value {
        if self.push_type == PushType::Mdm {
            return self.overrides.clone().into_owned(); // nothing else may stand there
        }
        let mut root = Map::new();
        if let Some(data) = parts.data
            && self.push_type != PushType::LiveActivity
        {
            root.extend(data.clone());
        }
        root.insert("aps".to_owned(), self.aps(parts));
        if parts.has_extras {
            for (name, value) in [("image", &self.push.image), ("click", &self.push.click)] {
                if let Some(text) = value {
                    root.entry(name).or_insert_with(|| text.as_str().into());
                }
            }
        }
        let mut payload = Value::Object(root);
        if parts.has_extras && self.overrides.is_object() {
            merge(&mut payload, &self.overrides);
        }
        if let Value::Object(root) = &mut payload {
            root.insert("mid".to_owned(), self.push.id.to_string().into());
            if parts.is_cut {
                root.insert("cut".to_owned(), "1".into());
            }
        }
        payload
    }

    fn aps(&self, parts: &Parts<'_>) -> Value {
        match self.push_type {
            PushType::Alert => shown(self.push, parts),
            PushType::Background => json!({"content-available": 1}),
            PushType::LiveActivity => self.activity(parts),
            PushType::Widgets | PushType::Controls => json!({"content-changed": true}),
            PushType::Voip
            | PushType::Complication
            | PushType::FileProvider
            | PushType::Location
            | PushType::PushToTalk
            | PushType::Mdm => json!({}),
        }
    }

    /// An update of the content state, which is the app's data; the overrides make a start or an end of it.
    fn activity(&self, parts: &Parts<'_>) -> Value {
        let mut aps = json!({"timestamp": self.now_s, "event": "update"});
        if let Some(data) = parts.data
            && let Value::Object(fields) = &mut aps
        {
            fields.insert("content-state".to_owned(), Value::Object(data.clone()));
        }
        if self.push.kind == PushKind::Alert {
            merge(&mut aps, &shown(self.push, parts));
        }
        aps
    }
}

fn split(overrides: &Value) -> Result<(OwnHeaders, Cow<'_, Value>), CannotSend> {
    let Some(headers) = overrides.get("headers") else {
        return Ok((OwnHeaders::default(), Cow::Borrowed(overrides)));
    };
    let own = OwnHeaders::deserialize(headers).map_err(|_| {
        CannotSend::Payload("overrides.apns.headers has a header or value that is not offered")
    })?;
    let mut rest = overrides.clone();
    if let Value::Object(fields) = &mut rest {
        fields.remove("headers");
    }
    Ok((own, Cow::Owned(rest)))
}

fn shown(push: &Push, parts: &Parts<'_>) -> Value {
    let mut aps = Map::new();
    let texts = [("title", &parts.title), ("body", &parts.body)];
    let alert: Map<String, Value> = texts
        .into_iter()
        .filter_map(|(name, text)| Some((name.to_owned(), text.as_deref()?.into())))
        .collect();
    aps.insert("alert".to_owned(), Value::Object(alert));
    if parts.has_extras {
        let texts = [("sound", &push.sound), ("thread-id", &push.channel), ("category", &push.category)];
        aps.extend(
            texts.into_iter().filter_map(|(name, text)| Some((name.to_owned(), text.as_deref()?.into()))),
        );
        if push.image.is_some() {
            aps.insert("mutable-content".to_owned(), 1.into()); // lets the app's extension fetch the picture
        }
    }
    if let Some(badge) = push.badge {
        aps.insert("badge".to_owned(), badge.into());
    }
    Value::Object(aps)
}
