//! The configuration of the broker: one struct, one place for defaults, unknown keys are errors.
//!
//! `docs/configuration.md` explains each key to operators.

mod admin;
mod auth;
mod control;
mod heartbeat;
mod history;
mod limits;
mod listeners;
mod overrides;
mod traces;

pub use admin::{AdminConfig, AdminKey, AdminRole, Sha256Hex, admin_key_hash};
pub(crate) use auth::check_rules;
pub use auth::{
    AclConfig, AclFile, AclRule, ActionName, AuthConfig, CertificateAuthConfig, DeniedPublish, EffectName,
    HookConfig, JwtAlgorithm, JwtConfig, SourceName,
};
pub use control::{
    AppliesConfig, AutoSubscriptionConfig, ControlConfig, RewriteConfig, SharedConfig, SharedGroupConfig,
    SharedStrategyConfig,
};
pub use heartbeat::{HeartbeatConfig, NetworkConfig};
pub(crate) use history::HistoryRule;
pub use history::{HistoryConfig, HistoryError};
pub use limits::{LimitsConfig, QueueFullConfig};
pub use listeners::{
    CertificateConfig, ClientCertificate, ClientIdentity, DEFAULT_LISTENER, FileMode, INTERNAL_LISTENER,
    ListenerConfig, ListenerKind, ListenerProblem, Network,
};
pub use overrides::{LimitsOverride, TotalsConfig};
pub(crate) use traces::Followed;
pub use traces::{TraceConfig, TraceError};

use crate::drain::{Drain, DrainError};
use reveille_broker_core::control::Control;
use reveille_broker_core::shard;
use reveille_proto::bridge::Strategy;
use reveille_proto::ids::AppId;
use reveille_proto::topic::TopicFilter;
use serde::{Deserialize, Serialize, Serializer};
use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;

/// As many shards as the router's index can tell apart.
const SHARDS_MAX: u16 = 128;

/// The table `[broker]`.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Where devices and servers connect with MQTT over plain TCP; `None` (`"off"` in the file): nowhere. Port 0 picks
    /// a free one.
    #[serde(deserialize_with = "listeners::address_or_off")]
    pub listen: Option<SocketAddr>,
    /// Further ways in.
    pub listeners: Vec<ListenerConfig>,
    /// Where the bridge connects; keep it on loopback.
    pub internal: SocketAddr,
    /// The bridge's password there; without one nobody can log in there.
    pub internal_password: Option<Secret>,
    /// Where health checks, metrics and the operations API are served; absent: nowhere.
    pub http: Option<SocketAddr>,
    /// Who may use the operations API.
    pub admin: AdminConfig,
    /// Threads that own sessions, at most 128; 0: one for each core.
    pub shards: u16,
    /// Whether clients without a user name may connect, into the app `default`. When absent: only on a loopback
    /// address, and only while there are no users.
    pub allow_anonymous: Option<bool>,
    /// Who may connect.
    pub users: Vec<User>,
    /// How else clients show who they are.
    pub auth: AuthConfig,
    /// What clients may do.
    pub acl: AclConfig,
    /// What makes a message a push candidate without its publisher's help.
    pub push_rules: Vec<PushRule>,
    /// Seconds between two lines of the log about the same slow consumer; 0: none is looked for.
    pub slow_consumer_s: u64,
    /// Seconds between two publications of `$SYS/broker/#`; 0: never.
    pub sys_interval_s: u64,
    /// How the broker empties itself before a planned stop.
    pub drain: Drain,
    /// Whom to follow for a while.
    pub traces: Vec<TraceConfig>,
    /// Where things go, and what clients are told and given without asking.
    pub control: ControlConfig,
    /// Topics whose last values are kept.
    pub history: Vec<HistoryConfig>,
    /// What is learned about networks, and what devices are told.
    pub heartbeat: HeartbeatConfig,
    /// Every bound.
    pub limits: LimitsConfig,
    /// What is different for single apps.
    pub apps: BTreeMap<String, AppConfig>,
    /// What is different for single users, by user name.
    pub user_limits: BTreeMap<String, LimitsOverride>,
}

/// The table `[broker.apps.NAME]`.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct AppConfig {
    /// Bounds of each of its connections.
    pub limits: LimitsOverride,
    /// Bounds of all of them together.
    pub totals: TotalsConfig,
}

impl Default for Config {
    fn default() -> Self {
        const LOOPBACK: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
        Self {
            listen: Some(SocketAddr::new(LOOPBACK, 1883)),
            listeners: Vec::new(),
            internal: SocketAddr::new(LOOPBACK, 0),
            internal_password: None,
            http: None,
            admin: AdminConfig::default(),
            shards: 0,
            allow_anonymous: None,
            users: Vec::new(),
            auth: AuthConfig::default(),
            acl: AclConfig::default(),
            push_rules: Vec::new(),
            slow_consumer_s: 10,
            sys_interval_s: 10,
            drain: Drain::default(),
            traces: Vec::new(),
            control: ControlConfig::default(),
            history: Vec::new(),
            heartbeat: HeartbeatConfig::default(),
            limits: LimitsConfig::default(),
            apps: BTreeMap::new(),
            user_limits: BTreeMap::new(),
        }
    }
}

/// A credential.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct User {
    /// The MQTT user name.
    pub name: String,
    /// The MQTT password.
    pub password: Secret,
    /// The app that the user belongs to.
    #[serde(default = "default_app")]
    pub app: String,
}

/// Messages on topics under `filter` are push candidates.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct PushRule {
    /// The app whose messages these are.
    #[serde(default = "default_app")]
    pub app: String,
    /// Which topics.
    pub filter: String,
    /// Title of the alert; may hold `{topic}` and `{payload}`.
    pub title: String,
    /// Text of the alert; may hold `{topic}` and `{payload}`.
    pub body: String,
    /// How the message may reach a device.
    #[serde(default)]
    pub strategy: StrategyName,
}

fn default_app() -> String {
    AppId::DEFAULT.to_owned()
}

/// The strategies by their names in configuration files.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
#[allow(missing_docs, reason = "each variant is the strategy of the same name in bridge.proto")]
pub enum StrategyName {
    #[default]
    OnlineFirst,
    VendorOnly,
    OnlineOnly,
    VendorFirst,
    BothDedup,
}

/// A text that no log and no error shows.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct Secret(String);

impl Secret {
    /// Hides a text.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text, for the one comparison that it is for.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

impl Serialize for Secret {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str("***")
    }
}

/// Why a configuration cannot be used. Names the key.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// A broker for everyone must be asked for.
    #[error(
        "{listen} can be reached from other machines and there are no users: add [[broker.users]] or a source in \
         [broker.auth], set allow_anonymous = true to let everyone in, or listen on 127.0.0.1"
    )]
    OpenToAll {
        /// The address.
        listen: SocketAddr,
    },
    /// An app id that is none.
    #[error("{key}: {app:?} is no app id, it has 1 to 64 characters out of a-z, 0-9, - and _")]
    App {
        /// Where.
        key: &'static str,
        /// What stands there.
        app: String,
    },
    /// Health and metrics for everyone must be asked for.
    #[error(
        "http: {http} can be reached from other machines and there are no keys: add [[broker.admin.keys]], set \
         admin.public = true to show health and metrics to everyone, or use 127.0.0.1"
    )]
    HttpOpenToAll {
        /// The address.
        http: SocketAddr,
    },
    /// A key without a name, or two with one name.
    #[error("admin.keys: the name {name:?} is empty or occurs twice")]
    AdminKeyName {
        /// The name.
        name: String,
    },
    /// A user without a name, or two with one name.
    #[error("users: the name {name:?} is empty or occurs twice")]
    UserName {
        /// The name.
        name: String,
    },
    /// A user without a password.
    #[error("users: {name:?} has an empty password")]
    EmptyPassword {
        /// Whose.
        name: String,
    },
    /// A value of `[broker.auth]` or `[broker.acl]`.
    #[error("{key} must be {range}")]
    Auth {
        /// Which.
        key: &'static str,
        /// What is allowed.
        range: &'static str,
    },
    /// A source that is listed and not configured.
    #[error("auth.sources: {name:?} is not configured")]
    NoSource {
        /// Which.
        name: &'static str,
    },
    /// A topic of a rule.
    #[error("acl.rules: {text:?}: {error}")]
    Pattern {
        /// The text.
        text: String,
        /// Why.
        error: reveille_broker_core::acl::PatternError,
    },
    /// The bridge without a password.
    #[error("internal_password is empty")]
    EmptyInternalPassword,
    /// A push rule's filter.
    #[error("push_rules: {filter:?} is no topic filter: {error}")]
    Filter {
        /// The text.
        filter: String,
        /// Why.
        error: reveille_proto::topic::TopicError,
    },
    /// A drain that cannot be.
    #[error("drain: {0}")]
    Drain(DrainError),
    /// A trace that cannot be.
    #[error("traces: {0}")]
    Trace(TraceError),
    /// A rule of `history`.
    #[error("history: {0}")]
    History(HistoryError),
    /// A filter under `control`.
    #[error("{key}: {filter:?} is no topic filter: {error}")]
    ControlFilter {
        /// Where.
        key: &'static str,
        /// The text.
        filter: String,
        /// Why.
        error: reveille_proto::topic::TopicError,
    },
    /// A rewrite rule.
    #[error("control.rewrites: the rule for {from:?}: {error}")]
    Rewrite {
        /// Its filter.
        from: String,
        /// What is wrong.
        error: reveille_broker_core::rewrite::RewriteError,
    },
    /// A subscription without asking.
    #[error("control.auto_subscriptions: {filter:?}: {range}")]
    AutoSubscription {
        /// Its filter.
        filter: String,
        /// What is allowed.
        range: &'static str,
    },
    /// More threads than the router can tell apart.
    #[error("shards is at most {SHARDS_MAX}")]
    Shards,
    /// A listener that cannot be.
    #[error("listeners: {name:?}: {problem}")]
    Listener {
        /// Its name.
        name: String,
        /// Why.
        problem: ListenerProblem,
    },
    /// Too many listeners.
    #[error("listeners: at most 64 are possible")]
    Listeners,
    /// No way in.
    #[error("listen is off and there are no [[broker.listeners]]: nobody could connect")]
    NobodyListens,
    /// A value of `[broker.heartbeat]`.
    #[error("heartbeat.{key} must be {range}")]
    Heartbeat {
        /// Which.
        key: &'static str,
        /// What is allowed.
        range: &'static str,
    },
    /// A bound outside its range.
    #[error("limits.{key} must be {range}")]
    Limit {
        /// Which.
        key: &'static str,
        /// What is allowed.
        range: &'static str,
    },
}

impl Config {
    /// Checks what types cannot say.
    ///
    /// # Errors
    /// [`ConfigError`] names the first key that is wrong.
    pub fn check(&self) -> Result<(), ConfigError> {
        if let Some(listen) = self.listen
            && !listen.ip().is_loopback()
            && !self.has_credentials()
            && self.allow_anonymous != Some(true)
        {
            return Err(ConfigError::OpenToAll { listen });
        }
        listeners::check(self)?;
        if self.internal_password.as_ref().is_some_and(|password| password.reveal().is_empty()) {
            return Err(ConfigError::EmptyInternalPassword);
        }
        for (at, user) in self.users.iter().enumerate() {
            let is_again = self.users.iter().take(at).any(|other| other.name == user.name);
            if user.name.is_empty() || is_again {
                return Err(ConfigError::UserName { name: user.name.clone() });
            }
            if user.password.reveal().is_empty() {
                return Err(ConfigError::EmptyPassword { name: user.name.clone() });
            }
            parse_app("users.app", &user.app)?;
        }
        self.auth.check(!self.users.is_empty())?;
        self.acl.check()?;
        self.push_rules.iter().try_for_each(|rule| rule.parse().map(drop))?;
        self.drain.check().map_err(ConfigError::Drain)?;
        traces::check(&self.traces)?;
        history::check(&self.history)?;
        if self.shards > SHARDS_MAX {
            return Err(ConfigError::Shards);
        }
        self.core_control()?;
        self.heartbeat.check()?;
        for (app, table) in &self.apps {
            parse_app("apps", app)?;
            table.limits.check()?;
        }
        self.user_limits.values().try_for_each(LimitsOverride::check)?;
        self.admin.check()?;
        let is_reachable = |http: &SocketAddr| !http.ip().is_loopback();
        if let Some(http) = self.http.filter(is_reachable)
            && self.admin.keys.is_empty()
            && !self.admin.public
        {
            return Err(ConfigError::HttpOpenToAll { http });
        }
        self.limits.check()
    }

    /// Whether anybody can be told from everybody.
    pub(crate) fn has_credentials(&self) -> bool {
        !self.auth.order(!self.users.is_empty()).is_empty()
    }

    /// Whether clients without a credential may connect where no listener says otherwise: on this machine only, and only
    /// while there are no credentials.
    pub(crate) fn admits_anonymous(&self) -> bool {
        self.allow_anonymous.unwrap_or_else(|| !self.has_credentials())
    }

    /// The largest packet that any connection may send.
    pub(crate) fn packet_bytes_max(&self) -> u32 {
        let listeners = self.listeners.iter().map(|listener| &listener.limits);
        let apps = self.apps.values().map(|app| &app.limits);
        let tables = listeners.chain(apps).chain(self.user_limits.values());
        let max = self.limits.packet_size_max_bytes;
        tables.filter_map(|limits| limits.packet_size_max_bytes).fold(max, u32::max)
    }

    /// Addresses that have a key of their own.
    fn taken_addresses(&self) -> impl Iterator<Item = SocketAddr> {
        [self.listen, Some(self.internal), self.http].into_iter().flatten()
    }

    /// How many threads own sessions: at least 1.
    pub(crate) fn shard_count(&self) -> u16 {
        if self.shards > 0 {
            return self.shards.min(SHARDS_MAX);
        }
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZeroUsize::get);
        u16::try_from(cores).unwrap_or(SHARDS_MAX).min(SHARDS_MAX)
    }

    /// What shards are told beyond bounds.
    ///
    /// # Errors
    /// A rule that cannot be.
    pub(crate) fn core_control(&self) -> Result<Control, ConfigError> {
        self.control.core(self.heartbeat.watching())
    }

    /// The push rules as the rules of the broker know them; those that do not parse were refused by [`Config::check`].
    pub(crate) fn core_push_rules(&self) -> Arc<[shard::PushRule]> {
        self.push_rules.iter().filter_map(|rule| rule.parse().ok()).collect()
    }
}

impl PushRule {
    fn parse(&self) -> Result<shard::PushRule, ConfigError> {
        let bad_filter = |error| ConfigError::Filter { filter: self.filter.clone(), error };
        Ok(shard::PushRule {
            app: parse_app("push_rules.app", &self.app)?,
            filter: TopicFilter::parse(self.filter.as_str()).map_err(bad_filter)?,
            title: self.title.clone(),
            body: self.body.clone(),
            strategy: self.strategy.into(),
        })
    }
}

impl From<StrategyName> for Strategy {
    fn from(name: StrategyName) -> Self {
        match name {
            StrategyName::OnlineFirst => Self::OnlineFirst,
            StrategyName::VendorOnly => Self::VendorOnly,
            StrategyName::OnlineOnly => Self::OnlineOnly,
            StrategyName::VendorFirst => Self::VendorFirst,
            StrategyName::BothDedup => Self::BothDedup,
        }
    }
}

pub(crate) fn parse_app(key: &'static str, app: &str) -> Result<AppId, ConfigError> {
    AppId::parse(app).map_err(|_| ConfigError::App { key, app: app.to_owned() })
}

#[cfg(test)]
mod tests;
