//! What a vendor tells after it took a push, by calling us: read and verified. Pure.

use http::HeaderMap;
use reveille_proto::ids::MessageId;
use serde_json::Value;

use super::{Secret, form, reason};

/// Receipts that are taken from one call; vendors send up to 1,000.
pub const RECEIPTS_MAX: usize = 10_000;

/// A vendor's call.
#[derive(Clone, Copy, Debug)]
pub struct ReceiptCall<'a> {
    /// Its headers.
    pub headers: &'a HeaderMap,
    /// Its body.
    pub body: &'a [u8],
    /// The query of its address: the secret for vendors that do not sign, the signature of some that do.
    pub query: &'a str,
    /// Now, in milliseconds since 1970.
    pub now_ms: u64,
}

impl ReceiptCall<'_> {
    /// A parameter of the address.
    pub fn parameter(&self, name: &str) -> Option<String> {
        let found = form_urlencoded::parse(self.query.as_bytes()).find(|(known, _)| known == name);
        found.map(|(_, value)| value.into_owned())
    }
}

/// One word of a vendor about one push to one device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Receipt {
    /// The message; `None` when the vendor did not give our parameter back.
    pub message: Option<MessageId>,
    /// The vendor's own name for the push, from vendors that give nothing of ours back.
    pub vendor_id: Option<String>,
    /// The device token, as we sent it.
    pub token: String,
    /// What the vendor says.
    pub told: Told,
    /// When, in milliseconds since 1970; `None`: now.
    pub at_ms: Option<u64>,
}

/// What a receipt says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Told {
    /// The device has it.
    Delivered,
    /// The user opened it.
    Clicked,
    /// The device token is no longer valid.
    TokenDead(String),
    /// It will not be shown: switched off, folded, too many.
    NotShown(String),
    /// Anything else: for the record only.
    Noted(String),
}

/// Why a call is not believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReceiptRefused {
    /// This vendor sends none, or the credential has no secret for them.
    #[error("no receipts are expected: the credential has no `receipt` secret")]
    NotExpected,
    /// The signature or the secret is wrong.
    #[error("the signature or secret is wrong")]
    Forged,
    /// Not the vendor's form.
    #[error("not in the vendor's form")]
    Malformed,
}

/// Checks the secret of an address.
///
/// # Errors
/// [`ReceiptRefused`] when there is none to compare with, or it is another.
pub(super) fn check_secret(wanted: Option<&Secret>, call: &ReceiptCall<'_>) -> Result<(), ReceiptRefused> {
    let wanted = wanted.ok_or(ReceiptRefused::NotExpected)?;
    match call.parameter("secret") {
        Some(given) if is_same(wanted.reveal().as_bytes(), given.as_bytes()) => Ok(()),
        Some(_) | None => Err(ReceiptRefused::Forged),
    }
}

/// Compares by digests, so that the time says nothing about where they differ.
pub(super) fn is_same(wanted: &[u8], given: &[u8]) -> bool {
    let (wanted, given) = (crate::apps::sha256(wanted), crate::apps::sha256(given));
    let difference = wanted.iter().zip(given).fold(0, |difference, (a, b)| difference | (a ^ b));
    std::hint::black_box(difference) == 0
}

/// A body that is JSON, or a form with JSON under one name: vendors' pages and their servers differ.
///
/// # Errors
/// [`ReceiptRefused::Malformed`] when it is neither.
pub(super) fn json_or_form(call: &ReceiptCall<'_>, name: &str) -> Result<Value, ReceiptRefused> {
    if let Ok(value) = serde_json::from_slice(call.body) {
        return Ok(value);
    }
    let field = form_urlencoded::parse(call.body).find(|(field, _)| field == name);
    let (_, text) = field.ok_or(ReceiptRefused::Malformed)?;
    serde_json::from_str(&text).map_err(|_| ReceiptRefused::Malformed)
}

/// The device tokens of a receipt: a list, or text with commas between.
pub(super) fn tokens(value: Option<&Value>) -> Vec<String> {
    match value {
        Some(Value::Array(list)) => list.iter().filter_map(Value::as_str).map(str::to_owned).collect(),
        Some(Value::String(text)) => {
            text.split(',').map(str::trim).filter(|text| !text.is_empty()).map(str::to_owned).collect()
        }
        _ => Vec::new(),
    }
}

/// A receipt for each device token; our parameter is the message's id.
pub(super) fn each(
    tokens: Vec<String>,
    parameter: Option<&Value>,
    told: &Told,
    at_ms: Option<u64>,
) -> Vec<Receipt> {
    let message = parameter.and_then(Value::as_str).and_then(|text| MessageId::parse(text).ok());
    let receipt = |token| Receipt { message, vendor_id: None, token, told: told.clone(), at_ms };
    tokens.into_iter().map(receipt).collect()
}

/// A status that no page explains, or that needs no action.
pub(super) fn noted(status: &Value) -> Told {
    Told::Noted(reason(&format!(
        "status {}",
        status.as_str().map_or_else(|| status.to_string(), str::to_owned)
    )))
}

/// A moment in milliseconds, as a number or its text.
pub(super) fn at_ms(value: &Value, name: &str) -> Option<u64> {
    form::code(value, name).and_then(|ms| u64::try_from(ms).ok()).filter(|ms| *ms > 0)
}

/// All entries, at most [`RECEIPTS_MAX`].
///
/// # Errors
/// [`ReceiptRefused::Malformed`] when there are more.
pub(super) fn bounded(receipts: Vec<Receipt>) -> Result<Vec<Receipt>, ReceiptRefused> {
    if receipts.len() > RECEIPTS_MAX { Err(ReceiptRefused::Malformed) } else { Ok(receipts) }
}
