//! AUTH on a connection that is open: a client proves again who it is, while everything else goes on. Section 4.12.1.
//!
//! ```text
//!            AUTH 0x19                 AUTH 0x18 <-> AUTH 0x18            AUTH 0x00
//!  Known ----------------> Asked ---------------------------------> ... ------------> Known, perhaps for longer
//!                            |
//!                            +-- refused: DISCONNECT
//! ```

use super::Shard;
use crate::connection::Permission;
use crate::io::{Authenticated, ConnectionKey, Identity, Output};
use crate::message::Time;
use bytes::Bytes;
use reveille_proto::mqtt::{Auth, Packet, ReasonProperties};
use reveille_proto::reason::ReasonCode;

impl Shard {
    pub(super) fn authenticate(&mut self, key: ConnectionKey, auth: Auth, now: Time) {
        let Some(connection) = self.connection_mut(key) else { return };
        let about = &mut connection.about;
        // Without a method in CONNECT there is no AUTH [MQTT5-4.12.0-7], and it never changes [MQTT5-4.12.1-1].
        let is_same = about.method.is_some() && about.method.as_deref() == auth.method.as_deref();
        let fits = match auth.reason {
            ReasonCode::REAUTHENTICATE => !about.is_authenticating,
            ReasonCode::CONTINUE_AUTHENTICATION => about.is_authenticating,
            _ => false, // success is the server's word, table 3.11
        };
        if !is_same || !fits {
            return self.refuse(key, ReasonCode::PROTOCOL_ERROR, now);
        }
        about.is_authenticating = true;
        let begins = auth.reason == ReasonCode::REAUTHENTICATE;
        self.outputs.push_back(Output::Authenticate { connection: key, begins, data: auth.data });
    }

    pub(super) fn authenticated(&mut self, key: ConnectionKey, outcome: Authenticated, now: Time) {
        let Some(connection) = self.connection_mut(key) else { return };
        match outcome {
            Authenticated::Continue(data) => {
                self.say_auth(key, ReasonCode::CONTINUE_AUTHENTICATION, Some(data), now);
            }
            Authenticated::Done(identity, data) => {
                connection.about.is_authenticating = false;
                match self.is_same_client(key, &identity) {
                    true => self.known_again(key, &identity, data, now),
                    false => self.refuse_authentication(key, ReasonCode::NOT_AUTHORIZED, now),
                }
            }
            Authenticated::Refused(reason) => self.refuse_authentication(key, reason, now),
        }
    }

    /// A connection stays whose it was: its session and its subscriptions belong to that client.
    fn is_same_client(&self, key: ConnectionKey, identity: &Identity) -> bool {
        let Some(connection) = self.connection(key) else { return false };
        let user = connection.permission.as_ref().and_then(|permission| permission.user.as_ref());
        let is_app = self.session(connection.session).is_some_and(|session| session.app == identity.app);
        is_app && user == identity.user.as_ref()
    }

    fn known_again(&mut self, key: ConnectionKey, identity: &Identity, data: Option<Bytes>, now: Time) {
        let Some(connection) = self.connection_mut(key) else { return };
        connection.permission = Permission::of(identity);
        self.arm_connection(key);
        self.say_auth(key, ReasonCode::SUCCESS, data, now);
        self.revoke_subscriptions(key);
    }

    fn refuse_authentication(&mut self, key: ConnectionKey, reason: ReasonCode, now: Time) {
        self.counters.denied_authentications += 1;
        self.say_goodbye(key, reason); // [MQTT5-4.12.1-2]
        self.end_connection(key, reason, true, now);
    }

    /// `[MQTT5-4.12.0-5]`: the method is in every AUTH. A client that has no room for it would wait for ever.
    fn say_auth(&mut self, key: ConnectionKey, reason: ReasonCode, data: Option<Bytes>, now: Time) {
        let Some(connection) = self.connection(key) else { return };
        let method = connection.about.method.as_deref().map(Into::into);
        let auth = Auth { reason, method, data, properties: ReasonProperties::default() };
        self.write_or_end(key, &Packet::Auth(Box::new(auth)), now);
    }
}
