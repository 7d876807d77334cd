//! What a send would do: whom it would reach, and what each vendor would be asked. Nothing is kept, nobody is called.

use reveille_proto::ids::AppId;
use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;

use super::send::find_policy;
use super::send::with_texts;
use crate::audience::{Audience, Look};
use crate::credentials;
use crate::devices;
use crate::http::Api;
use crate::http::audiences::{Estimate, SAMPLE};
use crate::http::problem::Problem;
use crate::http::subscribers;
use crate::inbox;
use crate::languages::DEFAULT;
use crate::messages::Message;
use crate::store::{StoreError, Tx};
use crate::tokens::Token;
use crate::vendor::shorten::Shortened;
use crate::vendor::{TOKEN_SHOWN, Vendor, VendorName};

/// Stands where a login would.
const LOGIN: &str = "login";

/// What sending a message would do.
#[derive(Serialize, ToSchema)]
pub(in crate::http) struct Rehearsal {
    /// Always `true`.
    dry_run: bool,
    /// The policy that it would be under.
    #[schema(required)]
    policy: Option<String>,
    audience: Estimate,
    /// The template with the version.
    #[schema(required)]
    template: Option<String>,
    /// In the default language.
    #[schema(required)]
    socket: Option<OverSocket>,
    /// In the default language: for each vendor at which some device of the audience has a live token.
    vendors: Vec<AtVendor>,
    /// The same in each language, the default one first.
    languages: Vec<InLanguage>,
}

/// What readers of a language would get.
#[derive(Clone, Serialize, ToSchema)]
struct InLanguage {
    language: String,
    socket: OverSocket,
    vendors: Vec<AtVendor>,
}

/// What devices would get over the socket.
#[derive(Clone, Serialize, ToSchema)]
struct OverSocket {
    #[schema(value_type = Object)]
    payload: Value,
    bytes: usize,
}

/// What one vendor would be asked, for one device.
#[derive(Clone, Serialize, ToSchema)]
struct AtVendor {
    vendor: VendorName,
    /// Devices with a live token there.
    devices: u64,
    /// The one that this is for.
    device: String,
    /// The request's body; a text for vendors that take no JSON, `null` where it is encrypted.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Value)]
    payload: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    bytes: Option<usize>,
    /// What does not fit into the vendor's bounds: `body_cut`, `data_left_out` or `wake_up_only`.
    left_out: Option<&'static str>,
    /// Why it could not be asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    problem: Option<String>,
}

/// Looks, and tells.
pub(super) async fn rehearse(shared: &Api, mut message: Message) -> Result<Rehearsal, Problem> {
    subscribers::look(shared, &message.app, &mut message.audience).await?;
    shared
        .store
        .read(move |tx| {
            let app = message.app.clone();
            find_policy(tx, &mut message)?;
            message.audience.make_ready(tx, &app)?;
            let message = with_texts(tx, message)?;
            let look = message.audience.look(tx, &app, SAMPLE)?;
            let device = match look.sample.first() {
                Some(id) => devices::load(tx, &app, id)?,
                None => None,
            };
            let mut all = Vec::new();
            for language in languages_of(&message) {
                let mut message = message.clone();
                message.speak(language, device.as_ref());
                let payload = message.payload();
                all.push(InLanguage {
                    language: language.unwrap_or(DEFAULT).to_owned(),
                    socket: OverSocket { bytes: payload.to_string().len(), payload },
                    vendors: vendors(tx, &app, &message, &look)?,
                });
            }
            let first = all.first().cloned();
            Ok(Rehearsal {
                dry_run: true,
                policy: message.policy,
                audience: look.into(),
                template: message.template,
                socket: first.as_ref().map(|first| first.socket.clone()),
                vendors: first.map(|first| first.vendors).unwrap_or_default(),
                languages: all,
            })
        })
        .await
}

/// The default first.
fn languages_of(message: &Message) -> Vec<Option<&str>> {
    let notification = message.content.as_ref().and_then(|content| content.notification.as_ref());
    let others = notification.into_iter().flat_map(|notification| notification.i18n.keys());
    std::iter::once(None).chain(others.map(|language| Some(language.as_str()))).collect()
}

fn vendors(tx: &Tx<'_>, app: &AppId, message: &Message, look: &Look) -> Result<Vec<AtVendor>, StoreError> {
    let mut all = Vec::new();
    for (name, devices) in &look.summary.by_vendor {
        let Ok(vendor) = name.parse::<VendorName>() else { continue };
        let Some((device, token)) = somebody_at(tx, app, &message.audience, vendor)? else { continue };
        let name = credentials::find(tx, app, vendor, &token.home)?;
        let kept = name.map(|name| credentials::load(tx, app, vendor, &name)).transpose()?.flatten();
        let asked = match kept {
            Some(kept) => {
                let unread = inbox::unread_at(tx, app, &device, message)?;
                let push = message.push(vendor, token.token, unread);
                request(kept.credential.vendor(), &push, tx.now_ms())
            }
            None => Err("the app has no credential at this vendor".to_owned()),
        };
        let (payload, bytes, left_out, problem) = match asked {
            Ok(Asked { payload, bytes, left_out }) => (Some(payload), Some(bytes), left_out, None),
            Err(problem) => (None, None, None, Some(problem)),
        };
        all.push(AtVendor { vendor, devices: *devices, device, payload, bytes, left_out, problem });
    }
    Ok(all)
}

/// The first device of the audience that has a live token there.
fn somebody_at(
    tx: &Tx<'_>,
    app: &AppId,
    audience: &Audience,
    vendor: VendorName,
) -> Result<Option<(String, Token)>, StoreError> {
    let Some(id) = audience.first_at(tx, app, vendor)? else { return Ok(None) };
    let device = devices::load(tx, app, &id)?;
    let tokens = device.map(|device| device.tokens).unwrap_or_default();
    let token = tokens.into_iter().find(|token| token.vendor == vendor && token.is_active(tx.now_ms()));
    Ok(token.map(|token| (id, token)))
}

struct Asked {
    payload: Value,
    bytes: usize,
    /// What does not fit into the vendor's bounds.
    left_out: Option<&'static str>,
}

fn request(vendor: &dyn Vendor, push: &crate::vendor::Push, now_ms: u64) -> Result<Asked, String> {
    let login = vendor.account().map(|_| LOGIN);
    let request = vendor.request(push, login, now_ms).map_err(|error| error.to_string())?;
    let left_out = request.extensions().get::<Shortened>().map(|shortened| shortened.name());
    let body = request.body();
    let mut payload = read(body);
    hide(&mut payload, push.token.as_str());
    Ok(Asked { payload, bytes: body.len(), left_out })
}

/// JSON, a form, or text; `null` for what is encrypted for the device.
fn read(body: &[u8]) -> Value {
    if let Ok(json) = serde_json::from_slice(body) {
        return json;
    }
    match std::str::from_utf8(body) {
        Ok(text) if text.contains('=') && !text.starts_with('<') => {
            let fields = form_urlencoded::parse(body);
            Value::Object(
                fields.map(|(name, value)| (name.into_owned(), value.into_owned().into())).collect(),
            )
        }
        Ok(text) => text.into(),
        Err(_) => Value::Null,
    }
}

/// Without the whole device token: whoever has it and a key can push to the device.
fn hide(value: &mut Value, token: &str) {
    match value {
        Value::String(text) if text.contains(token) => {
            let start: String = token.chars().take(TOKEN_SHOWN).collect();
            *text = text.replace(token, &format!("{start}…"));
        }
        Value::Array(items) => items.iter_mut().for_each(|item| hide(item, token)),
        Value::Object(fields) => fields.values_mut().for_each(|value| hide(value, token)),
        Value::String(_) | Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}
