//! An app's certificate at Apple: for which topics it is, and when it ends. Pure.

use x509_parser::asn1_rs::{Any, FromDer as _, Tag};
use x509_parser::oid_registry::{Oid, asn1_rs::oid};
use x509_parser::pem::Pem;
use x509_parser::prelude::X509Certificate;

/// What a certificate says of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Facts {
    /// The bundle id that it was made for, which is the usual topic.
    pub bundle_id: Option<String>,
    /// Every topic that it is good for; empty when it does not say.
    pub topics: Vec<String>,
    /// When it ends, in milliseconds since 1970.
    pub not_after_ms: u64,
}

/// Reads the first certificate of a PEM text.
pub(crate) fn read(pem: &str) -> Option<Facts> {
    let first = Pem::iter_from_buffer(pem.as_bytes()).next()?.ok()?;
    let certificate = first.parse_x509().ok()?;
    Some(Facts {
        bundle_id: user_id(&certificate),
        topics: topics(&certificate),
        not_after_ms: milliseconds(certificate.validity().not_after.timestamp()),
    })
}

/// When the first of the certificates of a PEM text ends, in milliseconds since 1970.
pub(crate) fn first_end_ms(pem: &str) -> Option<u64> {
    let all = Pem::iter_from_buffer(pem.as_bytes()).filter_map(Result::ok);
    let end = |pem: Pem| Some(milliseconds(pem.parse_x509().ok()?.validity().not_after.timestamp()));
    all.filter_map(end).min()
}

fn milliseconds(seconds: i64) -> u64 {
    u64::try_from(seconds).unwrap_or(0).saturating_mul(1000)
}

/// The subject's UID (RFC 4519) is the bundle id.
fn user_id(certificate: &X509Certificate<'_>) -> Option<String> {
    let uid: Oid<'static> = oid!(0.9.2342.19200300.100.1.1);
    let found = certificate.subject().iter_by_oid(&uid).next()?;
    found.as_str().ok().map(str::to_owned)
}

/// Apple's extension is a sequence of topics, each followed by a sequence that says what kind it is.
fn topics(certificate: &X509Certificate<'_>) -> Vec<String> {
    let topics: Oid<'static> = oid!(1.2.840.113635.100.6.3.6);
    let Ok(Some(extension)) = certificate.get_extension_unique(&topics) else { return Vec::new() };
    let Ok((_, all)) = Any::from_der(extension.value) else { return Vec::new() };
    let (mut rest, mut found) = (all.data, Vec::new());
    while let Ok((next, item)) = Any::from_der(rest) {
        if item.tag() == Tag::Utf8String {
            found.extend(std::str::from_utf8(item.data).map(str::to_owned));
        }
        rest = next;
    }
    found
}
