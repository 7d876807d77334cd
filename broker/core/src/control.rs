//! What an operator makes of the broker beyond bounds: what clients are told, and where things go instead.

use crate::rewrite::Rewrite;
use bytestring::ByteString;
use reveille_proto::heartbeat::Gap;
use reveille_proto::ids::AppId;
use reveille_proto::mqtt::SubscriptionOptions;
use std::time::Duration;

/// Replaced as a whole while the broker runs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Control {
    /// Response Information for clients that ask for it. `[MQTT5-3.1.2-28]`
    pub response_information: Option<Template>,
    /// Topics that go elsewhere.
    pub rewrites: Vec<Rewrite>,
    /// What every client is subscribed to when it connects.
    pub auto_subscriptions: Vec<AutoSubscription>,
    /// How shared subscriptions choose.
    pub strategies: Strategies,
    /// How heartbeats are watched.
    pub heartbeats: Heartbeats,
}

/// How heartbeats are watched, as far as single connections go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Heartbeats {
    /// Shorter silences are not told; `None`: none is.
    pub silence_min: Option<Duration>,
    /// How many times faster than real all times of heartbeats are; 1 but in tests.
    pub speed: u32,
}

impl Default for Heartbeats {
    fn default() -> Self {
        Self { silence_min: Some(Gap::FLOOR.duration()), speed: 1 }
    }
}

impl Heartbeats {
    /// A time of the protocol, as long as it lasts here.
    pub fn scaled(&self, length: Duration) -> Duration {
        length / self.speed.max(1)
    }
}

/// A subscription that a client has without asking.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AutoSubscription {
    /// Of the clients of this app.
    pub app: AppId,
    /// A topic filter when it is filled, with or without `$share/`.
    pub filter: Template,
    /// As in SUBSCRIBE.
    pub options: SubscriptionOptions,
}

/// Which member of a group gets a message.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Strategy {
    /// Each in turn.
    #[default]
    RoundRobin,
    /// The one with the fewest messages that it has not acknowledged.
    LeastInFlight,
    /// Always the same one for a topic, while the members stay the same.
    HashTopic,
    /// Always the same one for a publisher, while the members stay the same.
    HashClient,
}

/// The strategy of each group.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Strategies {
    /// Of groups that nothing else is said about.
    pub default: Strategy,
    /// Of groups whose name begins so; the longest beginning counts.
    pub by_prefix: Vec<(ByteString, Strategy)>,
}

impl Strategies {
    /// The strategy of a group.
    pub fn of(&self, group: &str) -> Strategy {
        let matching = self.by_prefix.iter().filter(|(prefix, _)| group.starts_with(&**prefix));
        matching.max_by_key(|(prefix, _)| prefix.len()).map_or(self.default, |(_, strategy)| *strategy)
    }
}

/// A text in which `%c` stands for the client identifier and `%u` for the user name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Template(ByteString);

impl Template {
    /// Any text.
    pub fn new(text: impl Into<ByteString>) -> Self {
        Self(text.into())
    }

    /// The text for one client; `None` when it needs a user name and there is none.
    pub fn fill(&self, client_id: &str, user: Option<&str>) -> Option<String> {
        let mut filled = String::with_capacity(self.0.len() + client_id.len());
        let mut rest: &str = &self.0;
        while let Some(at) = rest.find('%') {
            let (before, from) = rest.split_at_checked(at)?;
            filled.push_str(before);
            let (value, length) = match from.get(1..2) {
                Some("c") => (client_id, 2),
                Some("u") => (user?, 2),
                _ => ("%", 1),
            };
            filled.push_str(value);
            rest = from.get(length..)?;
        }
        filled.push_str(rest);
        Some(filled)
    }

    /// The same for a topic filter: `None` as well when a value is more than a plain level. A client that calls itself
    /// `#` must not see what belongs to others.
    pub fn fill_filter(&self, client_id: &str, user: Option<&str>) -> Option<String> {
        let is_plain = |value: &str| !value.is_empty() && !value.contains(['+', '#', '/', '\0']);
        let is_safe = |name: &str, value: Option<&str>| !self.0.contains(name) || value.is_some_and(is_plain);
        let is_filled = is_safe("%c", Some(client_id)) && is_safe("%u", user);
        self.fill(client_id, user).filter(|_| is_filled)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_template_is_filled_for_one_client() {
        let rows = [
            ("reply/%c/", Some("张三"), Some("reply/设备-1/")),
            ("%u/%c", Some("张三"), Some("张三/设备-1")),
            ("%u", None, None),
            ("100%", None, Some("100%")),
            ("%%c", None, Some("%设备-1")),
            ("%x%c%", None, Some("%x设备-1%")),
        ];
        for (text, user, wanted) in rows {
            assert_eq!(Template::new(text).fill("设备-1", user).as_deref(), wanted, "{text}");
        }
    }

    #[test]
    fn a_client_id_with_wildcards_gets_no_filter() {
        let template = Template::new("device/%c/#");
        assert_eq!(template.fill_filter("设备-1", None).as_deref(), Some("device/设备-1/#"));
        for id in ["+", "#", "a/b", "+x"] {
            assert_eq!(template.fill_filter(id, None), None, "{id}");
        }
        assert_eq!(Template::new("news").fill_filter("#", None).as_deref(), Some("news"));
    }

    #[test]
    fn the_longest_beginning_of_a_group_says_its_strategy() {
        let by_prefix = vec![
            ("w".into(), Strategy::HashTopic),
            ("work".into(), Strategy::LeastInFlight),
            ("wo".into(), Strategy::HashClient),
        ];
        let strategies = Strategies { default: Strategy::RoundRobin, by_prefix };
        for (group, wanted) in [
            ("workers", Strategy::LeastInFlight),
            ("wood", Strategy::HashClient),
            ("w", Strategy::HashTopic),
            ("other", Strategy::RoundRobin),
        ] {
            assert_eq!(strategies.of(group), wanted, "{group}");
        }
    }
}
