//! What happens because nothing happened: silence, expiry, wills that are due, pushes nobody acknowledged.

use super::{Due, Shard};
use crate::deadlines::Armed;
use crate::io::ConnectionKey;
use crate::message::{SessionKey, Time};
use reveille_proto::reason::ReasonCode;

/// Expired messages that one look at one session drops: the next look follows.
const EXPIRED_PER_LOOK: usize = 1024;

impl Shard {
    pub(super) fn tick(&mut self, now: Time) {
        if self.commits_retry_at.is_some_and(|at| at <= now) {
            self.commits_retry_at = None;
            self.commits.is_paused = false;
        }
        if self.announcements_retry_at.is_some_and(|at| at <= now) {
            self.announce_pending(now);
        }
        let mut due = Vec::new();
        self.deadlines.advance(now.0, &mut |who| due.push(who));
        for who in due {
            self.disarm(who); // what came before it in this tick may have armed it anew
            match who {
                Due::Connection(key) => self.look_at_connection(key, now),
                Due::Session(key) => self.look_at_session(key, now),
                Due::Delayed(key) => self.delayed_due(key, now),
                Due::Reading(key) => self.read_again(key, now),
            }
        }
    }

    /// Whoever looks at it arms it again.
    fn disarm(&mut self, who: Due) {
        let armed = match who {
            Due::Connection(key) => self.connection_mut(key).map(|connection| &mut connection.armed),
            Due::Session(key) => {
                let at = self.at_key(key);
                at.and_then(|at| self.session_mut(at)).map(|session| &mut session.armed)
            }
            Due::Delayed(key) => self.delayed.get_mut(&key).map(|delayed| &mut delayed.armed),
            Due::Reading(key) => {
                let throttle = self.connection_mut(key).and_then(|connection| connection.throttle.as_mut());
                throttle.map(|throttle| &mut throttle.armed)
            }
        };
        if let Some(mut armed) = armed.map(|armed| std::mem::replace(armed, Armed::NOT)) {
            self.deadlines.cancel(&mut armed, who);
        }
    }

    /// Somebody looks at a connection when it may have been silent for too long, or its credential ends.
    pub(super) fn arm_connection(&mut self, key: ConnectionKey) {
        let place = self.connections.get_mut(key.index as usize).and_then(Option::as_mut);
        let Some(connection) = place.filter(|known| known.generation == key.generation) else { return };
        if let Some(due) = connection.look_at() {
            self.deadlines.arm(&mut connection.armed, Due::Connection(key), due.0);
        }
    }

    /// A packet only wrote down when it came; here is looked whether that was too long ago.
    fn look_at_connection(&mut self, key: ConnectionKey, now: Time) {
        let Some(connection) = self.connection_mut(key) else { return };
        if connection.expires_at().is_some_and(|end| end <= now) {
            return self.expire(key, now);
        }
        let Some(end) = connection.look_at() else { return };
        if end > now {
            return self.arm_connection(key);
        }
        self.counters.keep_alive_timeouts += 1;
        self.say_goodbye(key, ReasonCode::KEEP_ALIVE_TIMEOUT);
        self.end_connection(key, ReasonCode::KEEP_ALIVE_TIMEOUT, true, now);
    }

    /// A client published too fast: nothing is read from it for a while.
    pub(super) fn arm_reading(&mut self, key: ConnectionKey, until: Time) {
        let place = self.connections.get_mut(key.index as usize).and_then(Option::as_mut);
        let connection = place.filter(|known| known.generation == key.generation);
        if let Some(throttle) = connection.and_then(|connection| connection.throttle.as_mut()) {
            self.deadlines.arm(&mut throttle.armed, Due::Reading(key), until.0);
        }
    }

    /// A client that published too fast has waited for long enough.
    fn read_again(&mut self, key: ConnectionKey, now: Time) {
        let Some(connection) = self.connection_mut(key) else { return };
        match connection.throttled_until {
            Some(until) if until > now => self.arm_reading(key, until),
            Some(_) => {
                connection.throttled_until = None;
                connection.last_seen = now;
                self.update_reading(key);
            }
            None => {}
        }
    }

    fn look_at_session(&mut self, key: SessionKey, now: Time) {
        let Some(at) = self.at_key(key) else { return };
        if self.session(at).is_some_and(|session| session.connection.is_some()) {
            self.announce_due(at, now);
            return self.arm_session(at);
        }
        if self.session(at).is_some_and(|session| session.will_at().is_some_and(|due| due <= now))
            && let Some(will) = self.session_mut(at).and_then(|session| session.take_will(|_| true))
        {
            self.publish_will(at, *will, now);
        }
        if self.session(at).is_some_and(|session| session.ends_at().is_some_and(|end| end <= now)) {
            self.counters.sessions_expired += 1;
            return self.end_session(at, now);
        }
        self.drop_expired(at, EXPIRED_PER_LOOK, now);
        self.arm_session(at);
    }
}
