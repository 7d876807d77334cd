//! The table `[broker.control]`: where things go, and what clients are told and given without asking.

use super::{ConfigError, default_app, parse_app};
use reveille_broker_core::control::{AutoSubscription, Control, Heartbeats, Strategies, Strategy, Template};
use reveille_broker_core::rewrite::{Applies, Rewrite};
use reveille_proto::mqtt::{QoS, RetainHandling, SubscriptionOptions};
use reveille_proto::topic::{Subscription, TopicFilter};
use serde::{Deserialize, Serialize};

/// See the module.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct ControlConfig {
    /// Response Information for clients that ask for it; `%c` and `%u` stand for client id and user.
    pub response_information: Option<String>,
    /// Topics that go elsewhere.
    pub rewrites: Vec<RewriteConfig>,
    /// What clients are subscribed to when they connect.
    pub auto_subscriptions: Vec<AutoSubscriptionConfig>,
    /// How groups of shared subscriptions choose.
    pub shared: SharedConfig,
}

/// A rewrite rule.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct RewriteConfig {
    /// Whose topics.
    #[serde(default = "default_app")]
    pub app: String,
    /// A topic filter; each wildcard captures.
    pub from: String,
    /// The topic instead; `$1` is the first capture.
    pub to: String,
    /// `publish`, `subscribe` or `both`.
    #[serde(default)]
    pub applies_to: AppliesConfig,
}

/// To what a rule applies.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
#[allow(missing_docs, reason = "each is the variant of the same name of `Applies`")]
pub enum AppliesConfig {
    Publish,
    Subscribe,
    #[default]
    Both,
}

/// A subscription that clients have without asking.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct AutoSubscriptionConfig {
    /// Whose clients.
    #[serde(default = "default_app")]
    pub app: String,
    /// With `%c` for the client id and `%u` for the user name.
    pub filter: String,
    /// As in SUBSCRIBE.
    #[serde(default)]
    pub qos: u8,
    /// As in SUBSCRIBE.
    #[serde(default)]
    pub no_local: bool,
    /// As in SUBSCRIBE.
    #[serde(default)]
    pub retain_as_published: bool,
    /// As in SUBSCRIBE: 0, 1 or 2.
    #[serde(default)]
    pub retain_handling: u8,
}

/// How groups choose.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct SharedConfig {
    /// Of groups that nothing else is said about.
    pub strategy: SharedStrategyConfig,
    /// Of single groups.
    pub groups: Vec<SharedGroupConfig>,
}

/// The strategy of the groups whose name begins so.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct SharedGroupConfig {
    /// The beginning.
    pub prefix: String,
    /// The strategy.
    pub strategy: SharedStrategyConfig,
}

/// The strategies by their names in configuration files.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
#[allow(missing_docs, reason = "each is the variant of the same name of `Strategy`")]
pub enum SharedStrategyConfig {
    #[default]
    RoundRobin,
    LeastInFlight,
    HashTopic,
    HashClient,
}

impl ControlConfig {
    /// What the rules make of it.
    ///
    /// # Errors
    /// [`ConfigError`] names the first entry that is wrong.
    pub(crate) fn core(&self, heartbeats: Heartbeats) -> Result<Control, ConfigError> {
        let by_prefix = self.shared.groups.iter();
        let by_prefix = by_prefix.map(|group| (group.prefix.as_str().into(), group.strategy.into()));
        Ok(Control {
            response_information: self.response_information.as_deref().map(Template::new),
            rewrites: self.rewrites.iter().map(RewriteConfig::core).collect::<Result<_, _>>()?,
            auto_subscriptions: self
                .auto_subscriptions
                .iter()
                .map(AutoSubscriptionConfig::core)
                .collect::<Result<_, _>>()?,
            strategies: Strategies { default: self.shared.strategy.into(), by_prefix: by_prefix.collect() },
            heartbeats,
        })
    }
}

impl RewriteConfig {
    fn core(&self) -> Result<Rewrite, ConfigError> {
        let app = parse_app("control.rewrites.app", &self.app)?;
        let bad_filter = |error| ConfigError::ControlFilter {
            key: "control.rewrites.from",
            filter: self.from.clone(),
            error,
        };
        let from = TopicFilter::parse(self.from.as_str()).map_err(bad_filter)?;
        let applies = match self.applies_to {
            AppliesConfig::Publish => Applies::Publish,
            AppliesConfig::Subscribe => Applies::Subscribe,
            AppliesConfig::Both => Applies::Both,
        };
        Rewrite::new(app, from, &self.to, applies)
            .map_err(|error| ConfigError::Rewrite { from: self.from.clone(), error })
    }
}

impl AutoSubscriptionConfig {
    fn core(&self) -> Result<AutoSubscription, ConfigError> {
        let filter = Template::new(self.filter.as_str());
        // With any client it must be a filter.
        let example = filter.fill_filter("c", Some("u")).unwrap_or_default();
        let bad_filter = |error| ConfigError::ControlFilter {
            key: "control.auto_subscriptions.filter",
            filter: self.filter.clone(),
            error,
        };
        Subscription::parse(example).map_err(bad_filter)?;
        let bad = |range| ConfigError::AutoSubscription { filter: self.filter.clone(), range };
        let retain_handling = match self.retain_handling {
            0 => RetainHandling::Always,
            1 => RetainHandling::IfNew,
            2 => RetainHandling::Never,
            _ => return Err(bad("retain_handling is 0, 1 or 2")),
        };
        let options = SubscriptionOptions {
            qos: QoS::from_u8(self.qos).ok_or_else(|| bad("qos is 0, 1 or 2"))?,
            no_local: self.no_local,
            retain_as_published: self.retain_as_published,
            retain_handling,
        };
        Ok(AutoSubscription { app: parse_app("control.auto_subscriptions.app", &self.app)?, filter, options })
    }
}

impl From<SharedStrategyConfig> for Strategy {
    fn from(name: SharedStrategyConfig) -> Self {
        match name {
            SharedStrategyConfig::RoundRobin => Self::RoundRobin,
            SharedStrategyConfig::LeastInFlight => Self::LeastInFlight,
            SharedStrategyConfig::HashTopic => Self::HashTopic,
            SharedStrategyConfig::HashClient => Self::HashClient,
        }
    }
}
