//! The tables `[broker.auth]` and `[broker.acl]`: whom the broker believes, and what clients may do then.

use super::{ConfigError, Secret};
use reveille_broker_core::acl::{Action, Effect, OnDenied, Pattern};
use serde::{Deserialize, Serialize, Serializer};
use std::path::PathBuf;

/// Rules of one broker: each costs a look at every new topic of a client whom it concerns.
const RULES_MAX: usize = 10_000;

/// Where credentials are checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum SourceName {
    /// `[[broker.users]]`.
    Users,
    /// `broker.auth.password_file`.
    PasswordFile,
    /// `[broker.auth.jwt]`.
    Jwt,
    /// `[broker.auth.certificate]`.
    Certificate,
    /// `[broker.auth.http]`.
    Http,
}

impl SourceName {
    /// As it stands in files, logs and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Users => "users",
            Self::PasswordFile => "password_file",
            Self::Jwt => "jwt",
            Self::Certificate => "certificate",
            Self::Http => "http",
        }
    }
}

/// The table `[broker.auth]`.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct AuthConfig {
    /// Who is asked, in this order; absent: everything that is configured, in the order of [`SourceName`].
    pub sources: Option<Vec<SourceName>>,
    /// Lines `user:hash[:app]`, as `reveille passwd` writes them.
    pub password_file: Option<PathBuf>,
    /// JSON Web Tokens.
    pub jwt: Option<JwtConfig>,
    /// Client certificates.
    pub certificate: Option<CertificateAuthConfig>,
    /// A service that is asked over HTTP.
    pub http: Option<HookConfig>,
    /// Passwords that are hashed at once. 2.
    pub hashes_max: usize,
    /// Wrong credentials that one address (one /64 network of IPv6) may send at once; 0: no bound. 100.
    pub address_failures_max: u32,
    /// Wrong passwords for one user name that may be sent at once; 0: no bound. 20.
    pub user_failures_max: u32,
    /// Seconds after which one more is allowed. 6.
    pub failure_recovery_s: u64,
}

impl Default for AuthConfig {
    fn default() -> Self {
        Self {
            sources: None,
            password_file: None,
            jwt: None,
            certificate: None,
            http: None,
            hashes_max: 2,
            address_failures_max: 100,
            user_failures_max: 20,
            failure_recovery_s: 6,
        }
    }
}

/// An algorithm of a JSON Web Token. What a token itself says is believed only where it says the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[allow(missing_docs, reason = "each variant is named as in RFC 7518 and RFC 8037")]
pub enum JwtAlgorithm {
    HS256,
    RS256,
    ES256,
    EdDSA,
}

/// The table `[broker.auth.jwt]`.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct JwtConfig {
    /// The algorithm of `secret` or `key_file`; keys of a JWKS say their own.
    pub algorithm: Option<JwtAlgorithm>,
    /// The secret of HS256, as text.
    pub secret: Option<Secret>,
    /// The secret of HS256 as bytes, or the public key of the others as PEM.
    pub key_file: Option<PathBuf>,
    /// A JSON Web Key Set.
    pub jwks_file: Option<PathBuf>,
    /// What `iss` must be; absent: anything.
    pub issuer: Option<String>,
    /// What `aud` must have; absent: anything.
    pub audience: Option<String>,
    /// Whether a token must have `exp`.
    #[serde(default = "yes")]
    pub require_expiry: bool,
    /// Seconds that clocks may differ.
    #[serde(default = "default_leeway")]
    pub leeway_s: u64,
    /// The app of tokens that name none.
    #[serde(default = "super::default_app")]
    pub app: String,
    /// The claim that has the user's name.
    #[serde(default = "default_user_claim")]
    pub user_claim: String,
    /// The claim that has the app.
    #[serde(default = "default_app_claim")]
    pub app_claim: String,
    /// The claim that has the client id, which then must be the one in CONNECT.
    #[serde(default = "default_client_id_claim")]
    pub client_id_claim: String,
    /// The claim that has what the client may do.
    #[serde(default = "default_acl_claim")]
    pub acl_claim: String,
}

/// The table `[broker.auth.certificate]`.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct CertificateAuthConfig {
    /// The app that clients with a certificate belong to.
    pub app: String,
}

impl Default for CertificateAuthConfig {
    fn default() -> Self {
        Self { app: super::default_app() }
    }
}

/// The table `[broker.auth.http]`.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct HookConfig {
    /// Where to ask, `http://` or `https://`.
    #[serde(serialize_with = "without_credentials")]
    pub url: String,
    /// What the hook gets as `Authorization`.
    pub authorization: Option<Secret>,
    /// PEM file with the authorities that are trusted besides the public ones.
    pub ca_file: Option<PathBuf>,
    /// How long the hook may take.
    #[serde(default = "default_hook_timeout")]
    pub timeout_ms: u64,
    /// Questions at once.
    #[serde(default = "default_concurrent")]
    pub concurrent_max: usize,
    /// How long an `allow` is remembered; 0: not at all.
    #[serde(default = "default_allow_cache")]
    pub cache_allow_s: u64,
    /// How long a `deny` is remembered; 0: not at all.
    #[serde(default = "default_deny_cache")]
    pub cache_deny_s: u64,
    /// Answers that are remembered.
    #[serde(default = "default_cache_entries")]
    pub cache_entries_max: usize,
}

/// The table `[broker.acl]`.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct AclConfig {
    /// A file with more `[[rules]]`, which come after those here.
    pub file: Option<PathBuf>,
    /// What holds where no rule speaks; absent: `deny` as soon as there are credentials and rules, else `allow`.
    pub default: Option<EffectName>,
    /// What becomes of a denied publish that has no answer in its version or QoS.
    pub denied_publish: DeniedPublish,
    /// The rules, in order.
    pub rules: Vec<AclRule>,
}

/// A file of rules.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AclFile {
    /// As [`AclConfig::rules`].
    pub rules: Vec<AclRule>,
}

/// What a rule says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
#[allow(missing_docs, reason = "each variant says itself")]
pub enum EffectName {
    Allow,
    Deny,
}

impl From<EffectName> for Effect {
    fn from(name: EffectName) -> Self {
        match name {
            EffectName::Allow => Self::Allow,
            EffectName::Deny => Self::Deny,
        }
    }
}

/// What a rule speaks of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
#[allow(missing_docs, reason = "each variant is the action of the same name")]
pub enum ActionName {
    Publish,
    Subscribe,
    Retain,
    ReadRetained,
}

impl From<ActionName> for Action {
    fn from(name: ActionName) -> Self {
        match name {
            ActionName::Publish => Self::Publish,
            ActionName::Subscribe => Self::Subscribe,
            ActionName::Retain => Self::Retain,
            ActionName::ReadRetained => Self::ReadRetained,
        }
    }
}

/// How a denied publish without an answer ends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum DeniedPublish {
    /// Acknowledged as usual, dropped, counted.
    #[default]
    Acknowledge,
    /// The connection ends.
    Disconnect,
}

impl From<DeniedPublish> for OnDenied {
    fn from(name: DeniedPublish) -> Self {
        match name {
            DeniedPublish::Acknowledge => Self::Acknowledge,
            DeniedPublish::Disconnect => Self::Disconnect,
        }
    }
}

/// One rule: a client whom it concerns may (not) do these things on these topics.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct AclRule {
    /// What it says.
    pub effect: EffectName,
    /// About which actions.
    pub actions: Vec<ActionName>,
    /// Topic filters with `%u`, `%c` and `%a`.
    pub topics: Vec<String>,
    /// User names whom it concerns, or beginnings of them with `*` behind; absent: all clients.
    pub users: Option<Vec<String>>,
    /// Client ids, likewise.
    pub client_ids: Option<Vec<String>>,
    /// Apps.
    pub apps: Option<Vec<String>>,
}

/// A URL as operators may see it: names and passwords, and what stands behind `?`, may be secrets.
fn without_credentials<S: Serializer>(url: &str, serializer: S) -> Result<S::Ok, S::Error> {
    let shown = url.split(['?', '#']).next().unwrap_or_default();
    let (scheme, rest) = shown.split_once("://").unwrap_or(("", shown));
    let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
    let host = authority.rsplit('@').next().unwrap_or_default();
    serializer.collect_str(&format_args!("{scheme}://{host}/{path}"))
}

fn yes() -> bool {
    true
}

fn default_leeway() -> u64 {
    30
}

fn default_user_claim() -> String {
    "sub".to_owned()
}

fn default_app_claim() -> String {
    "app".to_owned()
}

fn default_client_id_claim() -> String {
    "client_id".to_owned()
}

fn default_acl_claim() -> String {
    "acl".to_owned()
}

fn default_hook_timeout() -> u64 {
    3_000
}

fn default_concurrent() -> usize {
    64
}

fn default_allow_cache() -> u64 {
    60
}

fn default_deny_cache() -> u64 {
    10
}

fn default_cache_entries() -> usize {
    65_536
}

impl AuthConfig {
    /// Who is asked, in which order.
    pub fn order(&self, has_users: bool) -> Vec<SourceName> {
        if let Some(sources) = &self.sources {
            return sources.clone();
        }
        let configured = [
            (SourceName::Users, has_users),
            (SourceName::PasswordFile, self.password_file.is_some()),
            (SourceName::Jwt, self.jwt.is_some()),
            (SourceName::Certificate, self.certificate.is_some()),
            (SourceName::Http, self.http.is_some()),
        ];
        configured.into_iter().filter(|(_, is_there)| *is_there).map(|(name, _)| name).collect()
    }

    /// Checks what types cannot say.
    ///
    /// # Errors
    /// [`ConfigError`] names the first key that is wrong.
    pub(super) fn check(&self, has_users: bool) -> Result<(), ConfigError> {
        let wrong = |key, range| Err(ConfigError::Auth { key, range });
        for (at, name) in self.order(has_users).iter().enumerate() {
            let is_there = match name {
                SourceName::Users => has_users,
                SourceName::PasswordFile => self.password_file.is_some(),
                SourceName::Jwt => self.jwt.is_some(),
                SourceName::Certificate => true,
                SourceName::Http => self.http.is_some(),
            };
            if !is_there {
                return Err(ConfigError::NoSource { name: name.as_str() });
            }
            if self.order(has_users).iter().take(at).any(|other| other == name) {
                return wrong("auth.sources", "without repetition");
            }
        }
        if self.hashes_max == 0 || self.hashes_max > 64 {
            return wrong("auth.hashes_max", "1 to 64");
        }
        if self.failure_recovery_s == 0 || self.failure_recovery_s > 86_400 {
            return wrong("auth.failure_recovery_s", "1 to 86400");
        }
        if let Some(jwt) = &self.jwt {
            jwt.check()?;
        }
        if let Some(certificate) = &self.certificate {
            super::parse_app("auth.certificate.app", &certificate.app)?;
        }
        self.http.as_ref().map_or(Ok(()), HookConfig::check)
    }
}

impl JwtConfig {
    fn check(&self) -> Result<(), ConfigError> {
        let wrong = |key, range| Err(ConfigError::Auth { key, range });
        super::parse_app("auth.jwt.app", &self.app)?;
        let keys = [self.secret.is_some(), self.key_file.is_some(), self.jwks_file.is_some()];
        if keys.into_iter().filter(|is_there| *is_there).count() != 1 {
            return wrong("auth.jwt", "given exactly one of secret, key_file and jwks_file");
        }
        match (self.jwks_file.is_some(), self.algorithm) {
            (true, Some(_)) => wrong("auth.jwt.algorithm", "left out: the keys of a JWKS say their own"),
            (false, None) => wrong("auth.jwt.algorithm", "HS256, RS256, ES256 or EdDSA"),
            (false, Some(JwtAlgorithm::HS256)) => match &self.secret {
                Some(secret) if secret.reveal().len() < 32 => wrong("auth.jwt.secret", "32 bytes or longer"),
                Some(_) | None => Ok(()),
            },
            (false, Some(_)) if self.secret.is_some() => {
                wrong("auth.jwt.secret", "left out: only HS256 has a secret, others a key_file")
            }
            (true, None) | (false, Some(_)) => Ok(()),
        }
    }
}

impl HookConfig {
    fn check(&self) -> Result<(), ConfigError> {
        let wrong = |key, range| Err(ConfigError::Auth { key, range });
        if !self.url.starts_with("http://") && !self.url.starts_with("https://") {
            return wrong("auth.http.url", "a URL that begins with http:// or https://");
        }
        if self.timeout_ms < 10 || self.timeout_ms > 60_000 {
            return wrong("auth.http.timeout_ms", "10 to 60000");
        }
        if self.concurrent_max == 0 || self.concurrent_max > 10_000 {
            return wrong("auth.http.concurrent_max", "1 to 10000");
        }
        if self.cache_entries_max > 10_000_000 {
            return wrong("auth.http.cache_entries_max", "at most 10000000");
        }
        Ok(())
    }
}

impl AclConfig {
    /// Checks what types cannot say.
    ///
    /// # Errors
    /// [`ConfigError`] names the first rule that is wrong.
    pub(super) fn check(&self) -> Result<(), ConfigError> {
        check_rules(&self.rules)
    }

    /// Whether there is a rule or may be one.
    pub(crate) fn has_rules(&self) -> bool {
        !self.rules.is_empty() || self.file.is_some()
    }
}

/// Checks rules, wherever they stand.
///
/// # Errors
/// [`ConfigError`] names the first rule that is wrong.
pub(crate) fn check_rules(rules: &[AclRule]) -> Result<(), ConfigError> {
    if rules.len() > RULES_MAX {
        return Err(ConfigError::Auth { key: "acl.rules", range: "at most 10000" });
    }
    for rule in rules {
        for text in &rule.topics {
            Pattern::parse(text).map_err(|error| ConfigError::Pattern { text: text.clone(), error })?;
        }
    }
    Ok(())
}
