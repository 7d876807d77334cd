//! `/compat/…`: other push services' paths, bodies and answers. `crate::compat` reads the bodies; from there on a message is
//! one like any other.

pub(super) mod gorush;
pub(super) mod jpush;
pub(super) mod keys;
pub(super) mod unipush;

use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::http::HeaderMap;
use axum::http::header::AUTHORIZATION;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use reveille_proto::ids::AppId;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::Api;
use super::body::{parse, unread};
use super::guard;
use super::idempotency::{Done, Once};
use super::messages::send::{SendBody, Sent, send_one};
use super::problem::{Errno, Problem};
use crate::apps::{self, Access, Caller};
use crate::audit::request::note_caller;
use crate::compat::{Refused, Translated, strip};

/// Longest name of a request, in bytes: a header's and the number of a notification.
const GUEST_KEY_MAX: usize = 255 + 8;

/// Whoever called, and the app that is theirs.
struct Guest {
    app: AppId,
    caller: Caller,
}

impl Guest {
    /// Reads `Authorization`: `Bearer` with a key, or `Basic` with the two halves of one, or with an app and a whole key.
    /// Without a named app it is the key's own; for the operator's key the app `default`.
    async fn of(headers: &HeaderMap, shared: &Api) -> Result<Self, Problem> {
        let header = headers.get(AUTHORIZATION).ok_or_else(|| Problem::new(Errno::KeyMissing))?;
        let text = header.to_str().map_err(|_| Problem::new(Errno::KeyWrong))?;
        let (scheme, rest) = text.split_once(' ').ok_or_else(|| Problem::new(Errno::KeyMissing))?;
        let (named, key) = match scheme.to_ascii_lowercase().as_str() {
            "bearer" => (None, rest.trim().to_owned()),
            "basic" => halves(rest.trim())?,
            _ => return Err(Problem::new(Errno::KeyMissing)),
        };
        let caller = guard::known(&key, shared).await?;
        note_caller(&caller);
        let app = named.or_else(|| caller.app()).unwrap_or_default();
        // Other services' words know nothing of keys that are for certain tags only.
        if !caller.may(&app, Access::Send) || !caller.tags().is_empty() {
            return Err(Problem::new(Errno::KeyForbidden));
        }
        let wanted = app.clone();
        match shared.store.read(move |tx| apps::load(tx, &wanted)).await? {
            Some(_) => Ok(Self { app, caller }),
            None => Err(Problem::new(Errno::AppUnknown)),
        }
    }

    /// Sends what was translated.
    async fn send(&self, shared: &Api, translated: Translated) -> Result<Sent, Problem> {
        let asked = translated.body.to_string();
        self.send_as(shared, translated, &asked).await
    }

    /// The same where what was translated depends on the moment: the same `asked` with the same key is the same request.
    async fn send_as(&self, shared: &Api, translated: Translated, asked: &str) -> Result<Sent, Problem> {
        let body: SendBody = parse(translated.body.to_string().as_bytes())?;
        let key = translated.key.as_deref();
        if key.is_some_and(|key| !(1..=GUEST_KEY_MAX).contains(&key.len())) {
            return Err(Problem::new(Errno::InvalidIdempotencyKey));
        }
        let once = Once::sending(&self.app, &self.caller.key_id, key, asked.as_bytes());
        send_one(shared, &self.app, &self.caller, once, body).await
    }
}

/// A user name and a password: id and secret of a key, or an app and a key.
fn halves(encoded: &str) -> Result<(Option<AppId>, String), Problem> {
    let wrong = || Problem::new(Errno::KeyWrong);
    let text = STANDARD.decode(encoded).map_err(|_| wrong())?;
    let text = String::from_utf8(text).map_err(|_| wrong())?;
    let (user, password) = text.split_once(':').ok_or_else(wrong)?;
    match password.contains('.') {
        true => Ok((Some(AppId::parse(user).map_err(|_| wrong())?), password.to_owned())),
        false => Ok((None, format!("{user}.{password}"))),
    }
}

/// A body without what has no effect.
fn read<T: DeserializeOwned>(
    body: Result<Bytes, BytesRejection>,
    without_effect: &[(&str, &[&str])],
) -> Result<T, Problem> {
    let bytes = body.map_err(|error| unread(&error))?;
    let mut body: Value = parse(&bytes)?;
    strip(&mut body, without_effect);
    parse(body.to_string().as_bytes())
}

impl From<Refused> for Problem {
    fn from(refused: Refused) -> Self {
        match &refused {
            Refused::Missing(field) => Self::field(pointer(field), "is missing"),
            Refused::Wrong { field, problem } => Self::field(pointer(field), problem.clone()),
        }
    }
}

fn pointer(field: &str) -> String {
    format!("/{}", field.replace('.', "/"))
}

/// What a send came to: its id, and for how many.
fn id_and_estimate(sent: Sent) -> (String, u64) {
    match sent {
        Sent::Accepted(Done::Now(accepted) | Done::Before(accepted)) => {
            (accepted.id, accepted.audience_estimate)
        }
        Sent::Dry(_) => (String::new(), 0),
    }
}
