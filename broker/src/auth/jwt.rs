//! JSON Web Tokens as credentials. The key says which algorithm it is for; what a token says about itself has to agree.

use crate::auth::{Answer, Grant, tenant};
use crate::config::{JwtAlgorithm, JwtConfig};
use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve, Jwk, JwkSet, KeyAlgorithm, PublicKeyUse};
use jsonwebtoken::{Algorithm, DecodingKey, Validation, decode, decode_header};
use reveille_broker_core::acl::{Acl, Action, Effect, OnDenied, Pattern, Rule};
use reveille_broker_core::message::Time;
use reveille_proto::ids::{AppId, ClientId};
use reveille_proto::reason::ReasonCode;
use serde_json::{Map, Value};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Topic filters that one token may bring.
pub(crate) const PATTERNS_MAX: usize = 256;

/// Keys of one JWKS.
const KEYS_MAX: usize = 64;

/// Why tokens cannot be checked.
#[derive(Debug, thiserror::Error)]
pub enum JwtError {
    /// The file of a key or of a set of keys.
    #[error("{}: {error}", path.display())]
    Io {
        /// Which file.
        path: PathBuf,
        /// Why.
        #[source]
        error: std::io::Error,
    },
    /// The file has no key that can be used.
    #[error("{}: {what}", path.display())]
    Key {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        what: &'static str,
    },
}

/// A key and the one algorithm that it is for.
struct Key {
    id: Option<String>,
    algorithm: Algorithm,
    key: DecodingKey,
}

/// Checks tokens.
pub(crate) struct Jwt {
    keys: Vec<Key>,
    config: JwtConfig,
    app: AppId,
    on_denied: OnDenied,
}

impl std::fmt::Debug for Jwt {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Jwt").field("keys", &self.keys.len()).finish_non_exhaustive()
    }
}

impl Jwt {
    /// Reads the keys.
    ///
    /// # Errors
    /// [`JwtError`] names the file.
    pub(crate) fn load(config: &JwtConfig, on_denied: OnDenied) -> Result<Self, JwtError> {
        let keys = match (&config.jwks_file, &config.key_file, config.algorithm) {
            (Some(path), _, _) => read_set(path)?,
            (None, Some(path), Some(algorithm)) => vec![read_key(path, algorithm)?],
            (None, _, _) => {
                let secret = config.secret.as_ref().map(|secret| secret.reveal()).unwrap_or_default();
                vec![Key {
                    id: None,
                    algorithm: Algorithm::HS256,
                    key: DecodingKey::from_secret(secret.as_bytes()),
                }]
            }
        };
        let app = AppId::parse(&config.app).unwrap_or_default();
        Ok(Self { keys, config: config.clone(), app, on_denied })
    }

    /// What a password says, when it is a token.
    pub(crate) fn check(&self, password: &[u8], client_id: &ClientId) -> Answer {
        let Some(token) = std::str::from_utf8(password).ok().filter(|text| looks_like_token(text)) else {
            return Answer::NotMine;
        };
        match self.grant(token, client_id) {
            Some(grant) => Answer::Allow(Box::new(grant)),
            None => Answer::Deny(ReasonCode::NOT_AUTHORIZED),
        }
    }

    fn grant(&self, token: &str, client_id: &ClientId) -> Option<Grant> {
        let header = decode_header(token).ok()?;
        let key = self.key_of(header.kid.as_deref(), header.alg)?;
        let claims: Map<String, Value> =
            decode(token, &key.key, &self.validation(key.algorithm)).ok()?.claims;
        if let Some(wanted) = claims.get(&self.config.client_id_claim)
            && wanted.as_str() != Some(client_id.as_str())
        {
            return None;
        }
        let app = match claims.get(&self.config.app_claim) {
            Some(app) => tenant(app.as_str()?)?,
            None => self.app.clone(),
        };
        let user = match claims.get(&self.config.user_claim) {
            Some(name) => Some(name.as_str()?.into()),
            None => None,
        };
        let acl = match claims.get(&self.config.acl_claim) {
            Some(value) => Some(Arc::new(acl_of(value, self.on_denied)?)),
            None => None,
        };
        Some(Grant { app, user, acl, expires_at: self.end_of(&claims) })
    }

    /// The clocks may differ after the connection was made as much as before.
    fn end_of(&self, claims: &Map<String, Value>) -> Option<Time> {
        let end = claims.get("exp")?;
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a float saturates, and is positive"
        )]
        let seconds = end.as_u64().or_else(|| end.as_f64().map(|end| end.max(0.0) as u64))?;
        Some(Time(seconds.saturating_add(self.config.leeway_s).saturating_mul(1000)))
    }

    /// A token that names a key is checked with that key only; one that names none, with the only key for its algorithm.
    fn key_of(&self, id: Option<&str>, algorithm: Algorithm) -> Option<&Key> {
        let mut fitting = self.keys.iter().filter(|key| {
            let is_named = match (&key.id, id) {
                (Some(known), Some(id)) => known == id,
                (None, _) | (_, None) => true,
            };
            is_named && key.algorithm == algorithm
        });
        let key = fitting.next()?;
        fitting.next().is_none().then_some(key)
    }

    fn validation(&self, algorithm: Algorithm) -> Validation {
        let mut validation = Validation::new(algorithm);
        validation.leeway = self.config.leeway_s;
        validation.validate_nbf = true;
        let mut required = Vec::new();
        if self.config.require_expiry {
            required.push("exp");
        }
        if let Some(issuer) = &self.config.issuer {
            validation.set_issuer(&[issuer]);
            required.push("iss");
        }
        match &self.config.audience {
            Some(audience) => {
                validation.set_audience(&[audience]);
                required.push("aud");
            }
            None => validation.validate_aud = false,
        }
        validation.required_spec_claims = required.into_iter().map(str::to_owned).collect();
        validation
    }
}

/// Three parts of base64url, the first of which is JSON: passwords of people are not.
fn looks_like_token(text: &str) -> bool {
    let is_base64url = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    let parts = text.split('.').filter(|part| part.bytes().all(is_base64url)).count();
    text.starts_with("eyJ") && parts == 3 && text.matches('.').count() == 2
}

/// `{"publish": [filters], "subscribe": [filters], "retain": [filters], "read_retained": [filters]}`: what is listed may be
/// done, and nothing else. Where `retain` or `read_retained` are absent they go with publishing and subscribing.
/// `None` for anything that cannot be understood: whoever writes such a thing wanted to limit something.
pub(crate) fn acl_of(value: &Value, on_denied: OnDenied) -> Option<Acl> {
    let mut rules = Vec::new();
    for (name, filters) in value.as_object()? {
        let action = match name.as_str() {
            "publish" => Action::Publish,
            "subscribe" => Action::Subscribe,
            "retain" => Action::Retain,
            "read_retained" => Action::ReadRetained,
            _ => return None,
        };
        let actions = [action].into_iter().collect();
        for filter in filters.as_array()? {
            let pattern = Pattern::parse(filter.as_str()?).ok()?;
            rules.push(Rule { effect: Effect::Allow, actions, pattern });
        }
        if matches!(action, Action::Retain | Action::ReadRetained) {
            rules.push(Rule { effect: Effect::Deny, actions, pattern: Pattern::parse("#").ok()? });
        }
    }
    (rules.len() <= PATTERNS_MAX).then(|| Acl::new(rules, Effect::Deny, on_denied).of_credential())
}

fn read(path: &Path) -> Result<Vec<u8>, JwtError> {
    std::fs::read(path).map_err(|error| JwtError::Io { path: path.to_owned(), error })
}

fn read_key(path: &Path, algorithm: JwtAlgorithm) -> Result<Key, JwtError> {
    let bytes = read(path)?;
    let wrong = |what| JwtError::Key { path: path.to_owned(), what };
    let (algorithm, key) = match algorithm {
        JwtAlgorithm::HS256 if bytes.len() < 32 => {
            return Err(wrong("a secret of HS256 has 32 bytes or more"));
        }
        JwtAlgorithm::HS256 => (Algorithm::HS256, Ok(DecodingKey::from_secret(&bytes))),
        JwtAlgorithm::RS256 => (Algorithm::RS256, DecodingKey::from_rsa_pem(&bytes)),
        JwtAlgorithm::ES256 => (Algorithm::ES256, DecodingKey::from_ec_pem(&bytes)),
        JwtAlgorithm::EdDSA => (Algorithm::EdDSA, DecodingKey::from_ed_pem(&bytes)),
    };
    let key = key.map_err(|_| wrong("it has no public key of this algorithm in PEM"))?;
    Ok(Key { id: None, algorithm, key })
}

fn read_set(path: &Path) -> Result<Vec<Key>, JwtError> {
    let wrong = |what| JwtError::Key { path: path.to_owned(), what };
    let set: JwkSet = serde_json::from_slice(&read(path)?).map_err(|_| wrong("it is no JSON Web Key Set"))?;
    let keys: Vec<Key> = set.keys.iter().filter_map(key_of_set).collect();
    match keys.len() {
        0 => Err(wrong("no key in it is for signatures of HS256, RS256, ES256 or EdDSA")),
        count if count > KEYS_MAX => Err(wrong("more than 64 keys")),
        _ => Ok(keys),
    }
}

/// `None` for a key that is for something else: a set may have such.
fn key_of_set(jwk: &Jwk) -> Option<Key> {
    if jwk.common.public_key_use.as_ref().is_some_and(|usage| *usage != PublicKeyUse::Signature) {
        return None;
    }
    let algorithm = match &jwk.algorithm {
        AlgorithmParameters::RSA(_) => (Algorithm::RS256, KeyAlgorithm::RS256),
        AlgorithmParameters::EllipticCurve(curve) if curve.curve == EllipticCurve::P256 => {
            (Algorithm::ES256, KeyAlgorithm::ES256)
        }
        AlgorithmParameters::OctetKeyPair(pair) if pair.curve == EllipticCurve::Ed25519 => {
            (Algorithm::EdDSA, KeyAlgorithm::EdDSA)
        }
        AlgorithmParameters::OctetKey(_) => (Algorithm::HS256, KeyAlgorithm::HS256),
        _ => return None,
    };
    if jwk.common.key_algorithm.is_some_and(|named| named != algorithm.1) {
        return None;
    }
    let key = DecodingKey::from_jwk(jwk).ok()?;
    Some(Key { id: jwk.common.key_id.clone(), algorithm: algorithm.0, key })
}
