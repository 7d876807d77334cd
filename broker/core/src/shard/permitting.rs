//! What a client may do: the questions that the other chapters ask, and what follows when the answer is no.

use super::Shard;
use crate::acl::{Acl, OnDenied, Who};
use crate::connection::{Connection, Permission};
use crate::io::ConnectionKey;
use crate::message::Time;
use crate::session::Session;
use crate::trace::Traced;
use reveille_proto::ids::{AppId, ClientId};
use reveille_proto::mqtt::{Publish, QoS, Version};
use reveille_proto::reason::ReasonCode;
use reveille_proto::topic::{Subscription, TopicFilter, TopicName};
use std::sync::Arc;

fn who<'a>(permission: &'a Permission, session: &'a Session) -> Who<'a> {
    Who { user: permission.user.as_deref(), client_id: session.client_id.as_str(), app: session.app.as_str() }
}

impl Shard {
    /// Whether the client may publish there, and retain it where `retain` says so. To be asked about the topic that the
    /// message will have, after everything that changes it.
    pub(super) fn may_publish(&mut self, key: ConnectionKey, topic: &TopicName, retain: bool) -> bool {
        let Some(place) = self.connections.get_mut(key.index as usize) else { return false };
        let Some(connection) = place.as_mut().filter(|known| known.generation == key.generation) else {
            return false;
        };
        let session = self.sessions.get(connection.session as usize);
        let Some(session) = session else { return false };
        let Some(permission) = connection.permission.as_deref_mut() else { return true };
        let Permission { user, acl, last_allowed, expires_at: _, source: _ } = permission;
        let Some(acl) = acl else { return true };
        let (client_id, app) = (session.client_id.as_str(), session.app.as_str());
        last_allowed.may_publish(acl, Who { user: user.as_deref(), client_id, app }, topic, retain)
    }

    /// Answers a publish that the client is not allowed. `[MQTT5-3.3.4-8]`, `[MQTT3-3.3.5-2]`
    pub(super) fn deny_publish(&mut self, key: ConnectionKey, publish: &Publish, now: Time) {
        self.counters.denied_publishes += 1;
        self.trace_connection(key, None, || Traced::Dropped { reason: "not_allowed" });
        let Some(connection) = self.connection(key) else { return };
        let has_answer = connection.version == Version::V5 && publish.qos > QoS::AtMostOnce;
        let acl = connection.permission.as_ref().and_then(|permission| permission.acl.as_ref());
        match acl.map(|acl| acl.on_denied()).unwrap_or_default() {
            _ if has_answer => self.answer(key, publish, ReasonCode::NOT_AUTHORIZED, now),
            OnDenied::Acknowledge => self.answer(key, publish, ReasonCode::SUCCESS, now),
            OnDenied::Disconnect => self.refuse(key, ReasonCode::NOT_AUTHORIZED, now),
        }
    }

    pub(super) fn may_subscribe(&self, key: ConnectionKey, filter: &TopicFilter) -> bool {
        self.is_allowed(key, |permission, session| match &permission.acl {
            Some(acl) => acl.may_subscribe(who(permission, session), filter),
            None => true,
        })
    }

    pub(super) fn may_read_retained(&self, key: ConnectionKey, topic: &TopicName) -> bool {
        self.is_allowed(key, |permission, session| match &permission.acl {
            Some(acl) => acl.may_read_retained(who(permission, session), topic),
            None => true,
        })
    }

    fn is_allowed(&self, key: ConnectionKey, ask: impl Fn(&Permission, &Session) -> bool) -> bool {
        let Some(Connection { session, permission, .. }) = self.connection(key) else { return false };
        match (permission, self.session(*session)) {
            (Some(permission), Some(session)) => ask(permission, session),
            (None, Some(_)) => true,
            (_, None) => false,
        }
    }

    /// Takes away the subscriptions that the client is not allowed (any more): a session that it resumes may be older
    /// than the rules, or made with another credential.
    pub(super) fn revoke_subscriptions(&mut self, key: ConnectionKey) {
        let Some(connection) = self.connection(key) else { return };
        let Some(session) = self.session(connection.session) else { return };
        let is_denied = |subscription: &Subscription| {
            !self.may_subscribe(key, &subscription.filter) && !self.is_auto_subscription(key, subscription)
        };
        let known = session.subscriptions().map(|(subscription, _)| subscription);
        let denied: Vec<Subscription> = known.filter(is_denied).collect();
        for subscription in denied {
            self.counters.denied_subscriptions += 1;
            self.remove_subscription(key, subscription);
        }
    }

    /// Other rules hold for a connected client from now on.
    pub(super) fn permit(&mut self, app: AppId, client_id: ClientId, acl: Option<Arc<Acl>>) {
        let at = self.at_client(&app, &client_id);
        let Some(key) = at.and_then(|at| self.session(at)?.connection) else { return };
        let Some(connection) = self.connection_mut(key) else { return };
        match &mut connection.permission {
            Some(permission) => permission.replace_acl(acl),
            None => connection.permission = Permission::with_acl(acl),
        }
        self.revoke_subscriptions(key);
    }

    /// The credential ended, and the connection with it.
    pub(super) fn expire(&mut self, key: ConnectionKey, now: Time) {
        self.counters.expired_credentials += 1;
        self.say_goodbye(key, ReasonCode::NOT_AUTHORIZED);
        self.end_connection(key, ReasonCode::NOT_AUTHORIZED, true, now);
    }
}
