//! The encryption of one Web Push message: RFC 8291 over RFC 8188, in a single record.
//!
//! Randomness has no place in a pure file. The key pair and the salt that RFC 8291 wants fresh for each message are
//! derived from our private key, the message, the subscription and the moment, by HMAC: nobody without our key can tell
//! them from random, and no two attempts have the same ones.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use p256::elliptic_curve::sec1::ToEncodedPoint;
use p256::pkcs8::DecodePrivateKey;
use p256::{PublicKey, SecretKey};
use reveille_proto::ids::MessageId;
use ring::aead::{AES_128_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use ring::hmac;

/// Record size that is announced; one record holds everything.
const RECORD_SIZE: u32 = 4096;
/// The last record of a message ends so. RFC 8188 section 2.
const LAST_RECORD: u8 = 2;
/// Bytes of an uncompressed point of the curve.
const POINT_BYTES: usize = 65;

/// What the device gave out.
pub(super) struct Keys {
    public: PublicKey,
    auth: [u8; 16],
}

impl Keys {
    /// Reads both; browsers leave the padding out, some libraries do not.
    pub(super) fn read(p256dh: &str, auth: &str) -> Option<Self> {
        let bytes = |text: &str| URL_SAFE_NO_PAD.decode(text.trim_end_matches('=')).ok();
        let public = PublicKey::from_sec1_bytes(&bytes(p256dh)?).ok()?;
        Some(Self { public, auth: bytes(auth)?.try_into().ok()? })
    }
}

/// The key pair and the salt of one message.
pub(super) struct Seed {
    secret: SecretKey,
    salt: [u8; 16],
}

impl Seed {
    /// For one message to one subscription at one moment.
    pub(super) fn new(ours: &SecretKey, id: &MessageId, endpoint: &str, now_ms: u64) -> Self {
        let key = hmac::Key::new(hmac::HMAC_SHA256, &ours.to_bytes());
        let derive = |purpose: &[u8], try_no: u32| {
            let mut context = hmac::Context::with_key(&key);
            for part in
                [purpose, id.0.as_slice(), &now_ms.to_be_bytes(), &try_no.to_be_bytes(), endpoint.as_bytes()]
            {
                context.update(part);
            }
            context.sign()
        };
        // All but one in 2^32 numbers of 256 bits are private keys of this curve.
        let secret =
            (0..).find_map(|try_no| SecretKey::from_slice(derive(b"web push key", try_no).as_ref()).ok());
        let mut salt = [0; 16];
        salt.iter_mut().zip(derive(b"web push salt", 0).as_ref()).for_each(|(to, from)| *to = *from);
        Self { secret: secret.unwrap_or_else(|| ours.clone()), salt }
    }

    #[cfg(test)]
    pub(super) fn given(secret: SecretKey, salt: [u8; 16]) -> Self {
        Self { secret, salt }
    }
}

/// Reads a P-256 key from PEM (PKCS#8).
pub(super) fn secret_key(pem: &str) -> Result<SecretKey, &'static str> {
    SecretKey::from_pkcs8_pem(pem.trim()).map_err(|_| "is not a P-256 private key in PEM (PKCS#8)")
}

/// The public half as browsers want it for `applicationServerKey`.
pub(super) fn public_text(key: &SecretKey) -> String {
    url_text(key.public_key().to_encoded_point(false).as_bytes())
}

/// base64url without padding.
pub(super) fn url_text(bytes: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

/// HKDF-SHA-256 with one block of output, which is all that is needed here. RFC 5869.
fn hkdf(salt: &[u8], input: &[u8], info: &[&[u8]]) -> hmac::Tag {
    let extracted = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, salt), input);
    let mut context = hmac::Context::with_key(&hmac::Key::new(hmac::HMAC_SHA256, extracted.as_ref()));
    info.iter().for_each(|part| context.update(part));
    context.update(&[1]);
    context.sign()
}

/// The body of the request: header and one record. `None` only if the cipher refuses, which it does not below 4 KB.
pub(super) fn encrypt(text: &[u8], theirs: &Keys, seed: &Seed) -> Option<Vec<u8>> {
    let their_point = theirs.public.to_encoded_point(false);
    let our_point = seed.secret.public_key().to_encoded_point(false);
    let shared = p256::ecdh::diffie_hellman(seed.secret.to_nonzero_scalar(), theirs.public.as_affine());
    let info: [&[u8]; 3] = [b"WebPush: info\0", their_point.as_bytes(), our_point.as_bytes()];
    let input = hkdf(&theirs.auth, shared.raw_secret_bytes(), &info);
    let key = hkdf(&seed.salt, input.as_ref(), &[b"Content-Encoding: aes128gcm\0"]);
    let nonce = hkdf(&seed.salt, input.as_ref(), &[b"Content-Encoding: nonce\0"]);
    let key = UnboundKey::new(&AES_128_GCM, key.as_ref().get(..16)?).ok()?;
    let nonce = Nonce::try_assume_unique_for_key(nonce.as_ref().get(..12)?).ok()?;
    let mut record = text.to_vec();
    record.push(LAST_RECORD);
    LessSafeKey::new(key).seal_in_place_append_tag(nonce, Aad::empty(), &mut record).ok()?;
    let mut body = Vec::with_capacity(16 + 4 + 1 + POINT_BYTES + record.len());
    body.extend_from_slice(&seed.salt);
    body.extend_from_slice(&RECORD_SIZE.to_be_bytes());
    body.push(u8::try_from(our_point.as_bytes().len()).ok()?);
    body.extend_from_slice(our_point.as_bytes());
    body.extend_from_slice(&record);
    Some(body)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(text: &str) -> Vec<u8> {
        URL_SAFE_NO_PAD.decode(text).unwrap()
    }

    /// RFC 8291, appendix A.
    #[test]
    fn the_example_of_the_standard_is_encrypted_to_the_byte() {
        let theirs = Keys::read(
            "BCVxsr7N_eNgVRqvHtD0zTZsEc6-VV-JvLexhqUzORcxaOzi6-AYWXvTBHm4bjyPjs7Vd8pZGH6SRpkNtoIAiw4",
            "BTBZMqHH6r4Tts7J_aSIgg",
        )
        .unwrap();
        let secret = SecretKey::from_slice(&bytes("yfWPiYE-n46HLnH0KqZOF1fJJU3MYrct3AELtAQ-oRw")).unwrap();
        let seed = Seed::given(secret, bytes("DGv6ra1nlYgDCS1FRnbzlw").try_into().unwrap());
        let body = encrypt(b"When I grow up, I want to be a watermelon", &theirs, &seed).unwrap();
        let wanted = "DGv6ra1nlYgDCS1FRnbzlwAAEABBBP4z9KsN6nGRTbVYI_c7VJSPQTBtkgcy27mlmlMoZIIgDll6e3vCYLocInmYWAmS6TlzAC8\
                      wEqKK6PBru3jl7A_yl95bQpu6cVPTpK4Mqgkf1CXztLVBSt2Ks3oZwbuwXPXLWyouBWLVWGNWQexSgSxsj_Qulcy4a-fN";
        assert_eq!(url_text(&body), wanted);
    }

    #[test]
    fn no_two_attempts_share_a_key_or_a_salt() {
        let ours = SecretKey::from_slice(&[7; 32]).unwrap();
        let seeds = [
            Seed::new(&ours, &MessageId([1; 16]), "https://a/1", 1),
            Seed::new(&ours, &MessageId([1; 16]), "https://a/1", 2),
            Seed::new(&ours, &MessageId([2; 16]), "https://a/1", 1),
            Seed::new(&ours, &MessageId([1; 16]), "https://a/2", 1),
        ];
        for (at, a) in seeds.iter().enumerate() {
            for b in seeds.iter().skip(at + 1) {
                assert_ne!(a.secret.to_bytes(), b.secret.to_bytes());
                assert_ne!(a.salt, b.salt);
            }
        }
    }

    #[test]
    fn keys_that_are_none_are_refused() {
        let point = "BCVxsr7N_eNgVRqvHtD0zTZsEc6-VV-JvLexhqUzORcxaOzi6-AYWXvTBHm4bjyPjs7Vd8pZGH6SRpkNtoIAiw4";
        for (p256dh, auth) in [
            ("", "BTBZMqHH6r4Tts7J_aSIgg"),
            (point, ""),
            (point, "AAAA"),
            ("AAAA", "BTBZMqHH6r4Tts7J_aSIgg"),
            ("!", "!"),
        ] {
            assert!(Keys::read(p256dh, auth).is_none(), "{p256dh} {auth}");
        }
        assert!(Keys::read(&format!("{point}="), "BTBZMqHH6r4Tts7J_aSIgg==").is_some());
    }
}
