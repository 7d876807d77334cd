//! What WeChat tells by calling us: XML or JSON, in the clear or encrypted, signed either way. Pure.
//!
//! Rules from WeChat's "message push" and "subscribe message" pages. A signature is the SHA-1 of the sorted parts; the
//! encryption is AES-256-CBC with a random beginning, a length, the message and the app id.

use aes::Aes256;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD as BASE64;
use cbc::cipher::{BlockModeDecrypt as _, KeyIvInit as _};
use ring::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};
use serde_json::{Map, Value};

use super::super::form::{code, hex, text, words};
use super::super::receipt::{Receipt, ReceiptCall, ReceiptRefused, Told, is_same, noted};
use super::WechatCredential;
use crate::vendor::reason;

/// Characters of the key for events: 43 of Base64, which are 32 bytes.
pub(super) const KEY_CHARS: usize = 43;
/// How far WeChat's clock may be off, in seconds.
const SKEW_MAX_S: u64 = 5 * 60;
/// WeChat pads to whole blocks of this size, although those of AES have 16 bytes.
const PADDED_TO: usize = 32;
/// Random bytes before the length of the message.
const RANDOM_BYTES: usize = 16;
/// Bytes of the length of the message.
const LENGTH_BYTES: usize = 4;
/// Elements inside each other that are read; events have four.
const DEPTH_MAX: usize = 8;

/// The word that WeChat wants back when the address is entered, if it asks with the right signature.
pub(super) fn greeting(wechat: &WechatCredential, call: &ReceiptCall<'_>) -> Result<String, ReceiptRefused> {
    check(wechat, call, "signature", None)?;
    call.parameter("echostr").ok_or(ReceiptRefused::Malformed)
}

/// Verifies and reads one call.
pub(super) fn read(
    wechat: &WechatCredential,
    call: &ReceiptCall<'_>,
) -> Result<Vec<Receipt>, ReceiptRefused> {
    let body = std::str::from_utf8(call.body).map_err(|_| ReceiptRefused::Malformed)?;
    let Some(key) = &wechat.event_key else {
        check(wechat, call, "signature", None)?;
        return Ok(receipts(&parse(body)?));
    };
    let sealed = text_of(&parse(body)?, "Encrypt").ok_or(ReceiptRefused::Malformed)?;
    check(wechat, call, "msg_signature", Some(&sealed))?;
    let opened = decrypt(key.reveal(), &wechat.app_id, &sealed).ok_or(ReceiptRefused::Forged)?;
    Ok(receipts(&parse(&opened)?))
}

/// The signature is over token, moment, nonce, and the encrypted body where there is one. A call that is not of now is
/// refused: the signature of one in the clear says nothing about its body.
fn check(
    wechat: &WechatCredential,
    call: &ReceiptCall<'_>,
    name: &str,
    sealed: Option<&str>,
) -> Result<(), ReceiptRefused> {
    let token = wechat.event_token.as_ref().ok_or(ReceiptRefused::NotExpected)?;
    let given = |name: &str| call.parameter(name).unwrap_or_default();
    let (timestamp, nonce) = (given("timestamp"), given("nonce"));
    let wanted = signature(&[token.reveal(), &timestamp, &nonce, sealed.unwrap_or_default()]);
    let is_recent =
        timestamp.parse::<u64>().is_ok_and(|at_s| at_s.abs_diff(call.now_ms / 1000) <= SKEW_MAX_S);
    if is_recent && is_same(wanted.as_bytes(), given(name).as_bytes()) {
        return Ok(());
    }
    Err(ReceiptRefused::Forged)
}

/// An empty part sorts first and adds nothing.
fn signature(parts: &[&str]) -> String {
    let mut sorted = parts.to_vec();
    sorted.sort_unstable();
    hex(digest(&SHA1_FOR_LEGACY_USE_ONLY, sorted.concat().as_bytes()).as_ref())
}

/// The key is also where its first half is the beginning of the chain. `None` when it is not for this app.
fn decrypt(key: &str, app_id: &str, sealed: &str) -> Option<String> {
    let key = key_bytes(key)?;
    let mut bytes = base64::engine::general_purpose::STANDARD.decode(sealed.trim()).ok()?;
    let (blocks, rest) = aes::cipher::array::Array::slice_as_chunks_mut(&mut bytes);
    if !rest.is_empty() {
        return None;
    }
    cbc::Decryptor::<Aes256>::new_from_slices(&key, key.get(..16)?).ok()?.decrypt_blocks(blocks);
    let padding = usize::from(*bytes.last()?);
    if !(1..=PADDED_TO).contains(&padding) {
        return None;
    }
    bytes.truncate(bytes.len().checked_sub(padding)?);
    let length = bytes.get(RANDOM_BYTES..RANDOM_BYTES + LENGTH_BYTES)?;
    let length = usize::try_from(u32::from_be_bytes(length.try_into().ok()?)).ok()?;
    let (message, owner) = bytes.get(RANDOM_BYTES + LENGTH_BYTES..)?.split_at_checked(length)?;
    if owner != app_id.as_bytes() {
        return None;
    }
    String::from_utf8(message.to_vec()).ok()
}

/// The 32 bytes of a key for events.
pub(super) fn key_bytes(text: &str) -> Option<[u8; 32]> {
    // The last character carries two bits more than 32 bytes have, and WeChat draws them at random.
    let config = base64::engine::GeneralPurposeConfig::new()
        .with_decode_allow_trailing_bits(true)
        .with_decode_padding_mode(base64::engine::DecodePaddingMode::Indifferent);
    let lenient = base64::engine::GeneralPurpose::new(&base64::alphabet::STANDARD, config);
    debug_assert_eq!(BASE64.encode([0; 32]).len(), KEY_CHARS);
    lenient.decode(text).ok()?.try_into().ok()
}

/// JSON, or XML made into the same shape.
fn parse(text: &str) -> Result<Value, ReceiptRefused> {
    if text.trim_start().starts_with('{') {
        return serde_json::from_str(text).map_err(|_| ReceiptRefused::Malformed);
    }
    let document = roxmltree::Document::parse(text).map_err(|_| ReceiptRefused::Malformed)?;
    Ok(element(document.root_element(), 0))
}

/// An element with children is an object, one without is its text; children of one name are a list.
fn element(node: roxmltree::Node<'_, '_>, depth: usize) -> Value {
    let mut fields = Map::new();
    if depth < DEPTH_MAX {
        for child in node.children().filter(roxmltree::Node::is_element) {
            let value = element(child, depth + 1);
            match fields.get_mut(child.tag_name().name()) {
                None => drop(fields.insert(child.tag_name().name().to_owned(), value)),
                Some(Value::Array(list)) => list.push(value),
                Some(first) => *first = Value::Array(vec![first.take(), value]),
            }
        }
    }
    if fields.is_empty() {
        let words: String = node.children().filter_map(|child| child.text()).collect();
        return words.trim().into();
    }
    Value::Object(fields)
}

fn text_of(body: &Value, name: &str) -> Option<String> {
    body.get(name)?.as_str().map(str::to_owned)
}

/// What an event says of pushes and users. JSON has the list at the top, XML inside an element of the event's name.
fn receipts(event: &Value) -> Vec<Receipt> {
    let name = text_of(event, "Event").unwrap_or_default();
    let openid = text_of(event, "FromUserName").unwrap_or_default();
    let at_ms = code(event, "CreateTime").and_then(|at_s| u64::try_from(at_s).ok()).map(|at_s| at_s * 1000);
    let inner = ["SubscribeMsgSentEvent", "SubscribeMsgPopupEvent", "SubscribeMsgChangeEvent"]
        .into_iter()
        .find_map(|inner| event.get(inner));
    let list = match inner.unwrap_or(event).get("List") {
        Some(Value::Array(list)) => list.iter().collect(),
        Some(one) => vec![one],
        None => Vec::new(),
    };
    let receipt = |token: &str, vendor_id, told| Receipt {
        message: None,
        vendor_id,
        token: token.to_owned(),
        told,
        at_ms,
    };
    match name.as_str() {
        "subscribe_msg_sent_event" => {
            list.into_iter().map(|entry| receipt(&openid, text(entry, "MsgID"), sent(entry))).collect()
        }
        // The user closed the account, or the app's right to know it: there is nobody under this openid any more.
        "user_authorization_cancellation" => {
            let owner = text_of(event, "OpenID").unwrap_or(openid);
            let dead = receipt(&owner, None, Told::TokenDead(name));
            // Times are whole seconds: a registration in the same second was before it.
            vec![Receipt { at_ms: at_ms.map(|at_ms| at_ms + 999), ..dead }]
        }
        // A consent that was given or refused is not of one push: the next one will tell.
        _ => vec![receipt(&openid, None, noted(&name.into()))],
    }
}

fn sent(entry: &Value) -> Told {
    let status = text(entry, "ErrorStatus");
    match code(entry, "ErrorCode") {
        Some(0) => Told::Delivered,
        Some(40_003) => Told::TokenDead(words(40_003, status)),
        Some(code) => Told::NotShown(words(code, status)),
        None => Told::Noted(reason(&status.unwrap_or_default())),
    }
}

#[cfg(test)]
mod tests;
