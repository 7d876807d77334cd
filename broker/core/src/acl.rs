//! What a client may publish, subscribe to, retain and read: rules in order, and the first that speaks of a topic decides.
//!
//! Rules are compiled once and shared by all clients whom they concern; what differs between these (user name, client
//! id, app) fills the placeholders `%u`, `%c` and `%a` while a rule is looked at.

mod pattern;

pub use pattern::{Pattern, PatternError};
use reveille_proto::topic::{TopicFilter, TopicName};

/// Whom a rule is asked about.
#[derive(Clone, Copy, Debug)]
pub struct Who<'a> {
    /// The user name that its credential has; `None` for a client that needed none.
    pub user: Option<&'a str>,
    /// Its client identifier.
    pub client_id: &'a str,
    /// Its tenant.
    pub app: &'a str,
}

/// What a rule says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Effect {
    /// It may.
    Allow,
    /// It may not.
    Deny,
}

/// What a client wants to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Action {
    /// Publish a message on a topic, as its will too.
    Publish = 1,
    /// Subscribe to a filter.
    Subscribe = 2,
    /// Let a published message be retained. Needs `Publish` as well.
    Retain = 4,
    /// Get the retained message of a topic. Needs `Subscribe` as well.
    ReadRetained = 8,
}

/// A set of actions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Actions(u8);

impl Actions {
    /// Whether the set has this one.
    pub fn contains(self, action: Action) -> bool {
        self.0 & action as u8 != 0
    }
}

impl FromIterator<Action> for Actions {
    fn from_iter<I: IntoIterator<Item = Action>>(actions: I) -> Self {
        Self(actions.into_iter().fold(0, |set, action| set | action as u8))
    }
}

/// One rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// What it says.
    pub effect: Effect,
    /// About which actions.
    pub actions: Actions,
    /// On which topics.
    pub pattern: Pattern,
}

/// What becomes of a publish that is denied and cannot be answered with a reason: QoS 0, and every QoS before 5.0.
/// `[MQTT3-3.3.5-2]` leaves these two.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnDenied {
    /// It is acknowledged as usual, dropped and counted.
    #[default]
    Acknowledge,
    /// The connection ends.
    Disconnect,
}

/// The rules of one client, or of many that share them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Acl {
    rules: Box<[Rule]>,
    otherwise: Effect,
    on_denied: OnDenied,
    speaks_of_retained: bool,
    is_of_credential: bool,
}

impl Acl {
    /// Rules in their order, and what holds where none of them speaks.
    pub fn new(rules: impl IntoIterator<Item = Rule>, otherwise: Effect, on_denied: OnDenied) -> Self {
        let rules: Box<[Rule]> = rules.into_iter().collect();
        let speaks_of_retained = rules.iter().any(|rule| rule.actions.contains(Action::ReadRetained));
        Self { rules, otherwise, on_denied, speaks_of_retained, is_of_credential: false }
    }

    /// The same as brought by a credential: other rules do not replace it.
    #[must_use]
    pub fn of_credential(self) -> Self {
        Self { is_of_credential: true, ..self }
    }

    /// Whether a credential brought it.
    pub fn is_of_credential(&self) -> bool {
        self.is_of_credential
    }

    /// How a denied publish that has no answer ends.
    pub fn on_denied(&self) -> OnDenied {
        self.on_denied
    }

    /// How many rules there are.
    pub fn len(&self) -> usize {
        self.rules.len()
    }

    /// Whether there is no rule.
    pub fn is_empty(&self) -> bool {
        self.rules.is_empty()
    }

    /// Whether a message may be published there, and retained where it shall be. Where no rule speaks of retaining,
    /// whoever may publish may retain.
    pub fn may_publish(&self, who: Who<'_>, topic: &TopicName, retain: bool) -> bool {
        self.on_topic(Action::Publish, who, topic).unwrap_or(self.otherwise) == Effect::Allow
            && (!retain || self.on_topic(Action::Retain, who, topic) != Some(Effect::Deny))
    }

    /// Whether everything that the filter can match may be received: a rule that allows must cover all of it, and one
    /// that denies a part of it denies it. The `$share/{group}/` of a shared subscription is no part of the filter.
    pub fn may_subscribe(&self, who: Who<'_>, filter: &TopicFilter) -> bool {
        for rule in self.rules.iter().filter(|rule| rule.actions.contains(Action::Subscribe)) {
            match rule.effect {
                Effect::Allow if rule.pattern.covers(filter, who) => return true,
                Effect::Deny if rule.pattern.meets(filter, who) => return false,
                Effect::Allow | Effect::Deny => {}
            }
        }
        self.otherwise == Effect::Allow
    }

    /// Whether the retained message of a topic may be sent to a client that has a subscription for it.
    pub fn may_read_retained(&self, who: Who<'_>, topic: &TopicName) -> bool {
        !self.speaks_of_retained || self.on_topic(Action::ReadRetained, who, topic) != Some(Effect::Deny)
    }

    fn on_topic(&self, action: Action, who: Who<'_>, topic: &TopicName) -> Option<Effect> {
        let speaks = |rule: &&Rule| rule.actions.contains(action) && rule.pattern.matches(topic, who);
        self.rules.iter().find(speaks).map(|rule| rule.effect)
    }
}

/// Topics that are remembered: a device publishes on few, again and again.
const LAST_ALLOWED: usize = 4;

/// The topics that a connection was last allowed to publish on.
#[derive(Debug, Default)]
pub struct LastAllowed {
    topics: [Allowed; LAST_ALLOWED],
    /// The one that makes room for the next.
    oldest: usize,
}

#[derive(Debug, Default)]
struct Allowed {
    /// Bytes of our own: the topic of a packet is a slice of a read buffer.
    topic: String,
    retain: bool,
}

impl LastAllowed {
    /// What the rules say; they are asked only about a topic that is not remembered.
    pub fn may_publish(&mut self, acl: &Acl, who: Who<'_>, topic: &TopicName, retain: bool) -> bool {
        let is_it = |known: &Allowed| known.retain >= retain && known.topic == topic.as_str();
        if self.topics.iter().any(is_it) {
            return true;
        }
        let may = acl.may_publish(who, topic, retain);
        if may && let Some(place) = self.topics.get_mut(self.oldest) {
            place.topic.clear();
            place.topic.push_str(topic.as_str());
            place.retain = retain;
            self.oldest = (self.oldest + 1) % LAST_ALLOWED;
        }
        may
    }
}

#[cfg(test)]
mod tests;
