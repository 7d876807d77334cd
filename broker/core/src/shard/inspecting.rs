//! What operators see of a shard. Nothing in here changes anything, and no call costs by the number of sessions: a
//! walk goes on where the last look ended.

use super::Shard;
use crate::admin::{
    ConnectionView, Glob, LOOKS_MAX, Network, Page, Place, QueueRow, QueueView, QueuedState, QueuedView,
    SessionFilter, SessionView, SubscriptionFilter, SubscriptionPlace, SubscriptionView, WillView,
};
use crate::change::Phase;
use crate::connection::Connection;
use crate::io::ConnectionKey;
use crate::message::Seq;
use crate::queue::{Queue, Slot};
use crate::session::Session;
use bytestring::ByteString;
use reveille_proto::ids::{AppId, ClientId};
use reveille_proto::topic::{Subscription, TopicName};
use std::sync::Arc;

/// Which of a session's subscriptions are wanted.
type Wants<'a> = dyn Fn(&Subscription) -> bool + 'a;

/// What waits for one connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "each field is named after what it tells")]
pub struct Backlog<'a> {
    pub app: &'a AppId,
    pub client_id: &'a ClientId,
    pub unsent_bytes: usize,
    pub unsent_bytes_max: usize,
    pub queued_messages: usize,
}

impl Shard {
    /// What waits for a connection.
    pub fn backlog(&self, key: ConnectionKey) -> Option<Backlog<'_>> {
        let connection = self.connection(key)?;
        let session = self.session(connection.session)?;
        Some(Backlog {
            app: &session.app,
            client_id: &session.client_id,
            unsent_bytes: connection.unsent.len(),
            unsent_bytes_max: connection.limits.unsent_bytes_max,
            queued_messages: session.queue_len(),
        })
    }

    /// The next sessions from a place on that a filter lets through, at most `limit`.
    pub fn sessions(&self, filter: &SessionFilter, from: Place, limit: usize) -> Page<SessionView> {
        self.walk(from, limit, |at, session| self.is_wanted(session, filter).then(|| self.view(at, session)))
    }

    /// Everything about one session.
    pub fn session_of(&self, app: &AppId, client_id: &ClientId) -> Option<SessionView> {
        let at = self.at_client(app, client_id)?;
        Some(self.view(at, self.session(at)?))
    }

    /// The sessions with anything in their queue, among the next ones from a place on.
    pub fn queues(&self, from: Place) -> Page<QueueRow> {
        self.walk(from, LOOKS_MAX, |_, session| {
            session.queue.as_ref().map(|queue| QueueRow {
                app: session.app.clone(),
                client_id: session.client_id.clone(),
                is_online: session.connection.is_some(),
                queue: queue_view(queue),
            })
        })
    }

    /// Messages in a session's queue behind a place, at most `limit`; `None` when there is no such session.
    pub fn queued(
        &self,
        app: &AppId,
        client_id: &ClientId,
        after: Option<Seq>,
        limit: usize,
    ) -> Option<Page<QueuedView, Seq>> {
        let at = self.at_client(app, client_id)?;
        let session = self.session(at)?;
        let Some(queue) = &session.queue else { return Some(Page { items: Vec::new(), next: None }) };
        let mut slots = queue.slots_after(after);
        let items: Vec<_> = slots.by_ref().take(limit).map(|slot| self.queued_view(slot)).collect();
        let next = slots.next().and(items.last().map(|item| item.seq));
        Some(Page { items, next })
    }

    /// The next subscriptions that a filter lets through, at most `limit`.
    pub fn subscriptions(
        &self,
        filter: &SubscriptionFilter,
        from: SubscriptionPlace,
        limit: usize,
    ) -> Page<SubscriptionView, SubscriptionPlace> {
        let end = self.sessions.capacity().min((from.at as usize).saturating_add(LOOKS_MAX));
        let places = (from.at as usize..end).filter_map(|at| u32::try_from(at).ok());
        let wants = |subscription: &Subscription| {
            filter.filter.as_ref().is_none_or(|wanted| *wanted == subscription.filter)
                && filter.group.as_ref().is_none_or(|wanted| subscription.group.as_ref() == Some(wanted))
        };
        let is_wanted = |session: &Session| is_of(session, filter.app.as_ref(), filter.client_id.as_ref());
        let mut page = self.subscriptions_of(places, &is_wanted, &wants, from, limit);
        let more = u32::try_from(end).ok().filter(|_| end < self.sessions.capacity());
        page.next = page.next.or(more.map(|at| SubscriptionPlace { at, after: None }));
        page
    }

    /// The subscriptions of one session; `None` when there is no such session.
    pub fn subscriptions_of_one(
        &self,
        app: &AppId,
        client_id: &ClientId,
        after: Option<Subscription>,
        limit: usize,
    ) -> Option<Page<SubscriptionView, SubscriptionPlace>> {
        let at = self.at_client(app, client_id)?;
        let from = SubscriptionPlace { at, after };
        Some(self.subscriptions_of(std::iter::once(at), &|_| true, &|_| true, from, limit))
    }

    /// The next subscriptions that would get a message with this topic. A look costs as much as finding the receivers of
    /// one publish.
    pub fn receivers(
        &self,
        app: &AppId,
        topic: &TopicName,
        from: SubscriptionPlace,
        limit: usize,
    ) -> Page<SubscriptionView, SubscriptionPlace> {
        let mut places: Vec<Place> = Vec::new();
        let mut add = |at: Place| {
            if at >= from.at {
                places.push(at);
            }
        };
        if let Some(index) = self.subscriptions.get(app) {
            index.for_each_match(topic, &mut |at, _| add(at));
        }
        if let Some(shared) = self.shared.get(app) {
            shared.for_each_match(topic, &mut |_, group| group.members().for_each(&mut add));
        }
        places.sort_unstable();
        places.dedup();
        let wants = |subscription: &Subscription| subscription.filter.matches(topic);
        self.subscriptions_of(places.into_iter(), &|_| true, &wants, from, limit)
    }

    fn subscriptions_of(
        &self,
        places: impl Iterator<Item = Place>,
        is_wanted: &dyn Fn(&Session) -> bool,
        wants: &Wants<'_>,
        from: SubscriptionPlace,
        limit: usize,
    ) -> Page<SubscriptionView, SubscriptionPlace> {
        let mut items = Vec::new();
        let mut last = None;
        for at in places {
            let Some(session) = self.session(at).filter(|session| is_wanted(session)) else { continue };
            let after = from.after.as_ref().filter(|_| at == from.at);
            for (subscription, granted) in session.subscriptions_behind(after) {
                if !wants(&subscription) {
                    continue;
                }
                if items.len() == limit {
                    return Page { items, next: last };
                }
                last = Some(SubscriptionPlace { at, after: Some(subscription.clone()) });
                items.push(SubscriptionView {
                    app: session.app.clone(),
                    client_id: session.client_id.clone(),
                    is_online: session.connection.is_some(),
                    subscription,
                    granted,
                });
            }
        }
        Page { items, next: None }
    }

    /// Looks at the next sessions from a place on.
    fn walk<T>(
        &self,
        from: Place,
        limit: usize,
        mut take: impl FnMut(Place, &Session) -> Option<T>,
    ) -> Page<T> {
        let end = self.sessions.capacity().min((from as usize).saturating_add(LOOKS_MAX));
        let mut items = Vec::new();
        for at in (from as usize..end).filter_map(|at| u32::try_from(at).ok()) {
            if items.len() >= limit {
                return Page { items, next: Some(at) };
            }
            items.extend(self.session(at).and_then(|session| take(at, session)));
        }
        let next = u32::try_from(end).ok().filter(|_| end < self.sessions.capacity());
        Page { items, next }
    }

    fn is_wanted(&self, session: &Session, filter: &SessionFilter) -> bool {
        let connection = session.connection.and_then(|key| self.connection(key));
        let fits =
            |network: &Network| connection.is_some_and(|connection| network.has(&connection.about.network));
        let came_through =
            |name: &ByteString| connection.is_some_and(|connection| connection.about.listener == *name);
        let user = connection.and_then(|connection| connection.permission.as_ref()?.user.as_ref());
        let is_user = |glob: &Glob| user.is_some_and(|user| glob.matches(user));
        let is_slow =
            |wanted: bool| connection.is_some_and(|connection| Self::is_slow(session, connection)) == wanted;
        is_of(session, filter.app.as_ref(), filter.client_id.as_ref())
            && filter.is_online.is_none_or(|wanted| wanted == connection.is_some())
            && filter.queue_min.is_none_or(|least| session.queue_len() >= least)
            && filter.listener.as_ref().is_none_or(came_through)
            && filter.network.as_ref().is_none_or(fits)
            && filter.user.as_ref().is_none_or(is_user)
            && filter.is_slow.is_none_or(is_slow)
    }

    fn is_slow(session: &Session, connection: &Connection) -> bool {
        let in_flight = session.queue.as_ref().map_or(0, |queue| queue.in_flight());
        let is_window_used = in_flight >= usize::from(connection.window) && session.queue_len() > in_flight;
        is_window_used || connection.unsent.len() > connection.limits.unsent_bytes_max / 2
    }

    fn view(&self, at: Place, session: &Session) -> SessionView {
        let connection = session.connection.and_then(|key| self.connection(key));
        SessionView {
            at,
            app: session.app.clone(),
            client_id: session.client_id.clone(),
            epoch: session.epoch,
            connection: connection.map(|connection| Self::connection_view(session, connection)),
            offline_since: session.connection.is_none().then_some(session.offline_since),
            expiry_interval: session.expiry_interval,
            ends_at: session.ends_at(),
            is_durable: session.is_durable,
            is_bridge: session.is_bridge,
            subscriptions: session.subscriptions_len(),
            queue: session.queue.as_deref().map(queue_view).unwrap_or_default(),
            exactly_once_received: session.received().map_or(0, |received| received.len()),
            will: session.will().map(|will| WillView {
                topic: will.message.topic.clone(),
                qos: will.message.qos,
                retain: will.message.retain,
                payload_bytes: will.message.payload.len(),
                delay_interval: will.delay_interval,
            }),
        }
    }

    fn connection_view(session: &Session, connection: &Connection) -> ConnectionView {
        ConnectionView {
            version: connection.version,
            since: connection.about.since,
            last_seen: connection.last_seen,
            keep_alive: connection.keep_alive,
            network: (&*connection.about.network).into(),
            listener: connection.about.listener.clone(),
            user: connection.permission.as_ref().and_then(|permission| permission.user.clone()),
            expires_at: connection.permission.as_ref().and_then(|permission| permission.expires_at),
            source: connection.permission.as_ref().map_or("", |permission| permission.source),
            has_own_acl: connection.acl().is_some_and(|acl| acl.is_of_credential()),
            in_flight_max: connection.window,
            packet_size_max: connection.packet_size_max,
            unsent_bytes: connection.unsent.len(),
            unacknowledged: connection.owed.len(),
            is_paused: connection.is_paused,
            is_slow: Self::is_slow(session, connection),
            publishes_received: connection.publishes_received,
            publishes_sent: connection.publishes_sent,
        }
    }

    fn queued_view(&self, slot: &Slot) -> QueuedView {
        let entry = &slot.entry;
        QueuedView {
            seq: entry.seq,
            key: entry.message,
            qos: entry.qos,
            retain: entry.retain,
            state: match entry.phase {
                Phase::Released => QueuedState::Released,
                Phase::Queued if slot.was_sent() => QueuedState::Sent,
                Phase::Queued => QueuedState::Waiting,
            },
            size: entry.size,
            queued_at: slot.queued_at(),
            expires_at: entry.expires_at.time(),
            push: entry.push().map(|push| push.id),
            body: slot.message.as_ref().or_else(|| self.body_at_hand(entry.message)).map(Arc::clone),
        }
    }
}

fn is_of(session: &Session, app: Option<&AppId>, client_id: Option<&Glob>) -> bool {
    app.is_none_or(|app| session.app == *app)
        && client_id.is_none_or(|glob| glob.matches(session.client_id.as_str()))
}

fn queue_view(queue: &Queue) -> QueueView {
    QueueView {
        messages: queue.len(),
        bytes: queue.bytes(),
        in_flight: queue.in_flight(),
        oldest_at: queue.slots().next().map(Slot::queued_at),
    }
}
