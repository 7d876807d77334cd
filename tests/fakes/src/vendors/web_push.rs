//! A browser's side of Web Push: subscriptions, and reading what was encrypted for them. RFC 8291, RFC 8188, RFC 8292.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64;
use jsonwebtoken::{Algorithm, DecodingKey, Validation};
use p256::elliptic_curve::sec1::ToEncodedPoint;
use p256::{PublicKey, SecretKey};
use ring::aead::{AES_128_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use ring::hkdf::{HKDF_SHA256, KeyType, Salt};
use serde_json::{Value, json};

/// One browser; all its subscriptions share a key, which is of no concern to a sender.
pub struct Browser {
    secret: SecretKey,
    auth: [u8; 16],
}

/// So many bytes of key material.
struct Bytes(usize);

impl KeyType for Bytes {
    fn len(&self) -> usize {
        self.0
    }
}

fn expand(salt: &[u8], input: &[u8], info: &[&[u8]], length: usize) -> Option<Vec<u8>> {
    let mut out = vec![0; length];
    Salt::new(HKDF_SHA256, salt).extract(input).expand(info, Bytes(length)).ok()?.fill(&mut out).ok()?;
    Some(out)
}

impl Browser {
    pub(super) fn new() -> Self {
        let bytes = [0x2a; 32];
        #[expect(clippy::expect_used, reason = "a constant that is below the order of the curve")]
        let secret = SecretKey::from_slice(&bytes).expect("a key");
        Self { secret, auth: [0x17; 16] }
    }

    /// What `JSON.stringify(subscription)` gives.
    pub(super) fn subscription(&self, endpoint: &str) -> String {
        let point = self.secret.public_key().to_encoded_point(false);
        json!({
            "endpoint": endpoint,
            "keys": {"p256dh": BASE64.encode(point.as_bytes()), "auth": BASE64.encode(self.auth)},
        })
        .to_string()
    }

    /// The text that was encrypted for this browser.
    pub(super) fn decrypt(&self, body: &[u8]) -> Option<Value> {
        let (salt, rest) = body.split_at_checked(16)?;
        let (size, rest) = rest.split_at_checked(4)?;
        let size = u32::from_be_bytes(size.try_into().ok()?) as usize;
        let (length, rest) = rest.split_first()?;
        let (sender, record) = rest.split_at_checked(usize::from(*length))?;
        if record.len() > size || body.len() > 4096 {
            return None; // several records, or more than a service has to take
        }
        let public = PublicKey::from_sec1_bytes(sender).ok()?;
        let shared = p256::ecdh::diffie_hellman(self.secret.to_nonzero_scalar(), public.as_affine());
        let ours = self.secret.public_key().to_encoded_point(false);
        let info: [&[u8]; 3] = [b"WebPush: info\0", ours.as_bytes(), sender];
        let input = expand(&self.auth, shared.raw_secret_bytes(), &info, 32)?;
        let key = expand(salt, &input, &[b"Content-Encoding: aes128gcm\0"], 16)?;
        let nonce = expand(salt, &input, &[b"Content-Encoding: nonce\0"], 12)?;
        let key = LessSafeKey::new(UnboundKey::new(&AES_128_GCM, &key).ok()?);
        let mut record = record.to_vec();
        let nonce = Nonce::try_assume_unique_for_key(&nonce).ok()?;
        let text = key.open_in_place(nonce, Aad::empty(), &mut record).ok()?;
        let text = text.strip_suffix(&[2])?; // the delimiter of the last record, without padding
        serde_json::from_slice(text).ok()
    }
}

/// Checks `vapid t=…, k=…`: signature, origin, and an end within a day.
pub(super) fn check_vapid(header: &str, origin: &str, now_s: u64) -> Result<(), &'static str> {
    let rest = header.strip_prefix("vapid ").ok_or("authorization is not vapid")?;
    let field =
        |name: &str| rest.split(',').find_map(|part| part.trim().strip_prefix(name)?.strip_prefix('='));
    let (token, key) = field("t").zip(field("k")).ok_or("vapid needs t and k")?;
    let key = BASE64.decode(key).map_err(|_| "k is not base64url")?;
    let mut validation = Validation::new(Algorithm::ES256);
    validation.set_audience(&[origin]);
    validation.set_required_spec_claims(&["exp", "aud", "sub"]);
    validation.validate_exp = false; // by the time given, below
    let claims = jsonwebtoken::decode::<Value>(token, &DecodingKey::from_ec_der(&key), &validation)
        .map_err(|_| "the vapid token is not valid for this origin")?
        .claims;
    let end = claims.get("exp").and_then(Value::as_u64).unwrap_or(u64::MAX);
    if end <= now_s {
        return Err("exp is over");
    }
    if end > now_s + 24 * 3600 {
        return Err("exp is more than a day ahead");
    }
    let subject = claims.get("sub").and_then(Value::as_str).unwrap_or_default();
    if !subject.starts_with("mailto:") && !subject.starts_with("https:") {
        return Err("sub is neither mailto: nor https:");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of RFC 8292 section 2.4, with the line breaks taken out.
    const EXAMPLE: &str = "vapid t=eyJ0eXAiOiJKV1QiLCJhbGciOiJFUzI1NiJ9.eyJhdWQiOiJodHRwczovL3B1c2guZXhhbXBsZS5uZXQiLCJleHAiOjE0NTM1MjM3NjgsInN1YiI6Im1haWx0bzpwdXNoQGV4YW1wbGUuY29tIn0.i3CYb7t4xfxCDquptFOepC9GAu_HLGkMlMuCGSK2rpiUfnK9ojFwDXb1JrErtmysazNjjvW2L9OkSSHzvoD1oA, k=BA1Hxzyi1RUM1b5wjxsn7nGxAszw2u61m164i3MrAIxHF6YK5h4SDYic-dRuU_RCPCfA5aq9ojSwk5Y2EmClBPs";
    /// When it ends, in seconds since 1970.
    const END_S: u64 = 1_453_523_768;

    #[test]
    fn the_example_of_the_standard_is_valid_for_its_origin_in_the_day_before_its_end() {
        let origin = "https://push.example.net";
        let forged = EXAMPLE.replace("k=BA1H", "k=BA1I");
        for (header, origin, now_s, is_valid) in [
            (EXAMPLE, origin, END_S - 1, true),
            (EXAMPLE, origin, END_S - 24 * 3600, true),
            (EXAMPLE, origin, END_S - 24 * 3600 - 1, false),
            (EXAMPLE, origin, END_S, false),
            (EXAMPLE, "https://push.example.org", END_S - 1, false),
            (&forged, origin, END_S - 1, false),
        ] {
            assert_eq!(check_vapid(header, origin, now_s).is_ok(), is_valid, "{origin} {now_s}");
        }
    }
}
