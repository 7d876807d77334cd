//! What happens because nothing happened: silence, expiry, wills that are due, pushes nobody acknowledged.

use super::{Due, Shard};
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
            match who {
                Due::Connection(key) => self.look_at_connection(key, now),
                Due::Session(key) => self.look_at_session(key, now),
                Due::Delayed(key) => self.delayed_due(key, now),
                Due::Reading(key) => self.read_again(key, now),
            }
        }
    }

    /// A packet only wrote down when it came; here is looked whether that was too long ago.
    fn look_at_connection(&mut self, key: ConnectionKey, now: Time) {
        let Some(connection) = self.connection(key) else { return };
        if connection.expires_at().is_some_and(|end| end <= now) {
            return self.expire(key, now);
        }
        let Some(end) = connection.look_at() else { return };
        if end > now {
            self.deadlines.arm(Due::Connection(key), end.0);
            return;
        }
        self.counters.keep_alive_timeouts += 1;
        self.say_goodbye(key, ReasonCode::KEEP_ALIVE_TIMEOUT);
        self.end_connection(key, ReasonCode::KEEP_ALIVE_TIMEOUT, true, now);
    }

    /// A client that published too fast has waited for long enough.
    fn read_again(&mut self, key: ConnectionKey, now: Time) {
        let Some(connection) = self.connection_mut(key) else { return };
        match connection.throttled_until {
            Some(until) if until > now => self.deadlines.arm(Due::Reading(key), until.0),
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
        let Some(session) = self.session(at) else { return };
        if session.connection.is_some() {
            self.announce_due(at, now);
            return self.arm_session(at);
        }
        if session.will_at().is_some_and(|due| due <= now)
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
