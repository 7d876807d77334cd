//! Who a client is: sources are asked in their order until one knows it; the end of the list refuses.
//!
//! ```text
//!  CONNECT -> bans -> failures so far -> source 1 -> source 2 -> ... -> nobody: refused
//!                                          |  allow: an identity, with what it may do and until when
//!                                          |  deny: refused, and remembered as a failure
//!                                          v  not mine: the next one
//! ```
//! All of it is replaced as a whole when the configuration is read again; what has to survive that is in [`Keeper`].

pub(crate) mod attempts;
pub(crate) mod bans;
pub(crate) mod cache;
pub(crate) mod credential;
pub(crate) mod enhanced;
pub(crate) mod error;
pub(crate) mod hook;
pub(crate) mod jwt;
pub(crate) mod keeper;
pub(crate) mod password_file;
pub(crate) mod review;
pub(crate) mod rules;
pub(crate) mod scram;
pub(crate) mod worker;

use crate::config::{Config, Secret, SourceName, parse_app};
use crate::listener::{Listener, Peer};
use attempts::Allowed;
use bytestring::ByteString;
use cache::Cache;
use credential::{Credential, is_same};
use error::AuthError;
use hook::Hook;
use jwt::Jwt;
use keeper::Keeper;
use password_file::Entry;
use reveille_broker_core::acl::{Acl, Who};
use reveille_broker_core::io::Identity;
use reveille_broker_core::message::Time;
use reveille_broker_core::presence::BRIDGE_APP;
use reveille_proto::ids::{AppId, ClientId};
use reveille_proto::mqtt::Connect;
use reveille_proto::reason::ReasonCode;
use rules::Rules;
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The user name of the bridge on the internal listener.
pub const BRIDGE_USER: &str = "bridge";

/// What an identity without a credential has as its source.
pub(crate) const ANONYMOUS: &str = "anonymous";

/// Passwords that were found right are remembered, so that a fleet which comes back is not hashed again.
const VERIFIED_MAX: usize = 65_536;

/// For so long.
const VERIFIED_FOR: Duration = Duration::from_secs(600);

/// A hash that no password has. Somebody unknown costs as much time as somebody known.
const NOBODY: &str =
    "$argon2id$v=19$m=19456,t=2,p=1$bm9ib2R5J3Mgc2FsdCEh$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";

/// Through which listener a client came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Door {
    /// Devices and servers.
    Public,
    /// The bridge only.
    Internal,
}

/// Everything that is known about a client that wants to come in.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Attempt<'a> {
    /// Through which listener it came.
    pub(crate) listener: &'a Listener,
    /// What it said.
    pub(crate) connect: &'a Connect,
    /// Its client identifier, ours when it gave none.
    pub(crate) client_id: &'a ClientId,
    /// Where it comes from.
    pub(crate) address: Option<IpAddr>,
    /// Whom its verified certificate names.
    pub(crate) certificate: Option<&'a str>,
    /// Now.
    pub(crate) now: Time,
}

impl<'a> Attempt<'a> {
    /// A CONNECT that came from there.
    pub(crate) fn new(peer: &'a Peer, connect: &'a Connect, client_id: &'a ClientId, now: Time) -> Self {
        Self {
            listener: &peer.listener,
            connect,
            client_id,
            address: peer.address.map(|address| address.ip().to_canonical()),
            certificate: peer.certificate_identity.as_deref(),
            now,
        }
    }

    /// Whether it claims to be somebody. A certificate claims nothing where nobody is asked about certificates.
    fn has_credential(&self) -> bool {
        self.connect.username.is_some() || self.connect.password.is_some()
    }
}

/// What a source says about a client.
#[derive(Debug)]
pub(crate) enum Answer {
    /// This is who it is.
    Allow(Box<Grant>),
    /// Its credential is for this source, and wrong.
    Deny(ReasonCode),
    /// Its credential is for another source.
    NotMine,
}

/// What a source found out.
#[derive(Clone, Debug)]
pub(crate) struct Grant {
    /// The tenant.
    pub(crate) app: AppId,
    /// The user's name.
    pub(crate) user: Option<ByteString>,
    /// What it may do, where the credential says so itself; else the rules do.
    pub(crate) acl: Option<Arc<Acl>>,
    /// When the credential ends.
    pub(crate) expires_at: Option<Time>,
}

/// Where credentials are checked.
#[derive(Debug)]
enum Source {
    Passwords(HashMap<String, Entry>),
    Jwt(Box<Jwt>),
    Certificate(AppId),
    Http(Box<Hook>),
}

/// Every credential, and what comes with it.
pub(crate) struct Auth {
    sources: Vec<(SourceName, Source)>,
    rules: Rules,
    internal_password: Option<Secret>,
    bridge_app: AppId,
    admits_anonymous: bool,
    allowed: Allowed,
    verified: Cache<()>,
    keeper: Arc<Keeper>,
}

impl std::fmt::Debug for Auth {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Auth").field("sources", &self.sources.len()).finish_non_exhaustive()
    }
}

impl Auth {
    /// Reads what a checked configuration names. Blocks for as long as the disk takes.
    ///
    /// # Errors
    /// [`AuthError`] names the key or the file.
    pub(crate) fn load(config: &Config, bridge_app: AppId, keeper: &Arc<Keeper>) -> Result<Self, AuthError> {
        let order = config.auth.order(!config.users.is_empty());
        let sources: Result<Vec<_>, AuthError> =
            order.into_iter().map(|name| Ok((name, source(name, config, keeper)?))).collect();
        Ok(Self {
            sources: sources?,
            rules: Rules::load(&config.acl, config.has_credentials())?,
            internal_password: config.internal_password.clone(),
            bridge_app,
            admits_anonymous: config.admits_anonymous(),
            allowed: Allowed {
                address: config.auth.address_failures_max,
                user: config.auth.user_failures_max,
                recovery: Duration::from_secs(config.auth.failure_recovery_s),
            },
            verified: Cache::new(keeper.secret(), VERIFIED_MAX),
            keeper: Arc::clone(keeper),
        })
    }

    /// Who sent this CONNECT. Takes as long as a hash or a hook takes; the shard goes on meanwhile.
    ///
    /// # Errors
    /// The reason code for the refusing CONNACK.
    pub(crate) async fn identify(&self, attempt: &Attempt<'_>) -> Result<Identity, ReasonCode> {
        match attempt.listener.door {
            Door::Internal => self.bridge(attempt.connect),
            Door::Public => self.client(attempt).await,
        }
    }

    fn bridge(&self, connect: &Connect) -> Result<Identity, ReasonCode> {
        let is_bridge = connect.username.as_deref() == Some(BRIDGE_USER);
        let wanted =
            self.internal_password.as_ref().filter(|_| is_bridge).ok_or(ReasonCode::NOT_AUTHORIZED)?;
        match is_same(wanted.reveal().as_bytes(), connect.password.as_deref().unwrap_or_default()) {
            true => Ok(Identity::bridge(self.bridge_app.clone())),
            false => Err(ReasonCode::BAD_USER_NAME_OR_PASSWORD),
        }
    }

    async fn client(&self, attempt: &Attempt<'_>) -> Result<Identity, ReasonCode> {
        let admits_anonymous = attempt.listener.allow_anonymous.unwrap_or(self.admits_anonymous);
        let sources = self.sources_of(attempt.listener);
        let shows_nothing = !attempt.has_credential() && attempt.certificate.is_none();
        if admits_anonymous && (sources.is_empty() || shows_nothing) {
            return Ok(self.anonymous(attempt.client_id));
        }
        let user = attempt.connect.username.as_deref();
        self.check_failures(attempt.address, user)?;
        for (name, source) in sources {
            match self.ask(source, attempt).await {
                Answer::Allow(grant) => {
                    return self.identity(*grant, name.as_str(), attempt.client_id, attempt.now);
                }
                Answer::Deny(reason) => return Err(self.denied(attempt.address, user, reason)),
                Answer::NotMine => {}
            }
        }
        match (attempt.has_credential(), user, &attempt.connect.password) {
            (false, ..) if admits_anonymous => Ok(self.anonymous(attempt.client_id)),
            (false, ..) => Err(ReasonCode::NOT_AUTHORIZED),
            (true, Some(_), Some(password)) => {
                self.pretend(password).await;
                Err(self.denied(attempt.address, user, ReasonCode::BAD_USER_NAME_OR_PASSWORD))
            }
            (true, ..) => Err(self.denied(attempt.address, user, ReasonCode::BAD_USER_NAME_OR_PASSWORD)),
        }
    }

    /// Those that the listener names, in its order, or all.
    fn sources_of(&self, listener: &Listener) -> Vec<&(SourceName, Source)> {
        match &listener.sources {
            Some(names) => {
                let find = |name: &SourceName| self.sources.iter().find(|(known, _)| known == name);
                names.iter().filter_map(find).collect()
            }
            None => self.sources.iter().collect(),
        }
    }

    async fn ask(&self, source: &Source, attempt: &Attempt<'_>) -> Answer {
        let password = attempt.connect.password.as_deref();
        match source {
            Source::Passwords(entries) => match attempt.connect.username.as_deref() {
                Some(name) => self.ask_passwords(entries, name, password.unwrap_or_default()).await,
                None => Answer::NotMine,
            },
            Source::Jwt(jwt) => {
                password.map_or(Answer::NotMine, |password| jwt.check(password, attempt.client_id))
            }
            Source::Certificate(app) => match attempt.certificate {
                Some(name) => Answer::Allow(Box::new(Grant::plain(app, Some(name.into())))),
                None => Answer::NotMine,
            },
            Source::Http(hook) => hook.check(attempt).await,
        }
    }

    async fn ask_passwords(&self, entries: &HashMap<String, Entry>, name: &str, password: &[u8]) -> Answer {
        let Some(Entry { credential, app }) = entries.get(name) else { return Answer::NotMine };
        match self.is_right(name, credential, password).await {
            Some(true) => Answer::Allow(Box::new(Grant::plain(app, Some(name.into())))),
            Some(false) => Answer::Deny(ReasonCode::BAD_USER_NAME_OR_PASSWORD),
            None => Answer::Deny(ReasonCode::SERVER_BUSY),
        }
    }

    /// `None`: there was no time to find out.
    async fn is_right(&self, name: &str, credential: &Credential, password: &[u8]) -> Option<bool> {
        if !credential.is_slow() {
            return Some(credential.is(password));
        }
        let question = self.verified.question(&[Some(name.as_bytes()), Some(password)]);
        if self.verified.get(&question, Instant::now()).is_some() {
            return Some(true);
        }
        let (credential, password) = (credential.clone(), password.to_vec());
        let is_right = self.keeper.worker().hash(move || credential.is(&password)).await?;
        if is_right {
            self.verified.put(question, (), VERIFIED_FOR, Instant::now());
        }
        Some(is_right)
    }

    /// Spends the time that a known user would have cost, where such users are.
    async fn pretend(&self, password: &[u8]) {
        let has_slow = |source: &Source| match source {
            Source::Passwords(entries) => entries.values().any(|entry| entry.credential.is_slow()),
            Source::Jwt(_) | Source::Certificate(_) | Source::Http(_) => false,
        };
        if self.sources.iter().any(|(_, source)| has_slow(source))
            && let Ok(nobody) = Credential::parse(NOBODY)
        {
            let password = password.to_vec();
            let _ = self.keeper.worker().hash(move || nobody.is(&password)).await; // whatever comes of it
        }
    }

    fn check_failures(&self, address: Option<IpAddr>, user: Option<&str>) -> Result<(), ReasonCode> {
        match self.keeper.attempts().may_try(self.allowed, address, user, Instant::now()) {
            true => Ok(()),
            false => Err(ReasonCode::CONNECTION_RATE_EXCEEDED),
        }
    }

    /// Remembers a wrong credential. That we could not check it is nobody's failure but ours.
    fn denied(&self, address: Option<IpAddr>, user: Option<&str>, reason: ReasonCode) -> ReasonCode {
        if !matches!(reason, ReasonCode::SERVER_BUSY | ReasonCode::SERVER_UNAVAILABLE) {
            self.keeper.attempts().failed(self.allowed, address, user, Instant::now());
        }
        reason
    }

    fn anonymous(&self, client_id: &ClientId) -> Identity {
        let app = AppId::default();
        let acl = self.rules.of(Who { user: None, client_id: client_id.as_str(), app: app.as_str() });
        Identity { acl, source: ANONYMOUS, ..Identity::of(app) }
    }

    fn identity(
        &self,
        grant: Grant,
        source: &'static str,
        client_id: &ClientId,
        now: Time,
    ) -> Result<Identity, ReasonCode> {
        let Grant { app, user, acl, expires_at } = grant;
        if expires_at.is_some_and(|end| end <= now) {
            return Err(ReasonCode::NOT_AUTHORIZED);
        }
        let who = Who { user: user.as_deref(), client_id: client_id.as_str(), app: app.as_str() };
        let acl = acl.or_else(|| self.rules.of(who));
        Ok(Identity { app, is_bridge: false, user, acl, expires_at, source })
    }
}

impl Grant {
    /// The rules say what it may do.
    fn plain(app: &AppId, user: Option<ByteString>) -> Self {
        Self { app: app.clone(), user, acl: None, expires_at: None }
    }
}

fn source(name: SourceName, config: &Config, keeper: &Keeper) -> Result<Source, AuthError> {
    let on_denied = config.acl.denied_publish.into();
    let auth = &config.auth;
    Ok(match name {
        SourceName::Users => Source::Passwords(users(config)?),
        SourceName::PasswordFile => match &auth.password_file {
            Some(path) => Source::Passwords(password_file::load(path)?),
            None => Source::Passwords(HashMap::new()),
        },
        SourceName::Jwt => match &auth.jwt {
            Some(jwt) => Source::Jwt(Box::new(Jwt::load(jwt, on_denied)?)),
            None => return Err(AuthError::Missing("auth.jwt")),
        },
        SourceName::Certificate => {
            let certificate = auth.certificate.clone().unwrap_or_default();
            Source::Certificate(parse_app("auth.certificate.app", &certificate.app)?)
        }
        SourceName::Http => match &auth.http {
            Some(http) => {
                let handle = keeper.worker().handle();
                Source::Http(Box::new(Hook::new(http, handle, keeper.secret(), on_denied)?))
            }
            None => return Err(AuthError::Missing("auth.http")),
        },
    })
}

fn users(config: &Config) -> Result<HashMap<String, Entry>, AuthError> {
    let entry = |user: &crate::config::User| {
        let wrong = |error| AuthError::User { name: user.name.clone(), error };
        let credential = Credential::of_config(&user.password).map_err(wrong)?;
        Ok((user.name.clone(), Entry { credential, app: parse_app("users.app", &user.app)? }))
    };
    config.users.iter().map(entry).collect()
}

/// An app that clients may belong to. The bridge's is none of them, whoever signs for it.
pub(crate) fn tenant(text: &str) -> Option<AppId> {
    AppId::parse(text).ok().filter(|app| app.as_str() != BRIDGE_APP)
}

#[cfg(test)]
mod tests;
