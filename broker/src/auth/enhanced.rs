//! Enhanced authentication, section 4.12 of 5.0: SCRAM-SHA-256 in two steps, a JSON Web Token in one. The same at CONNECT
//! and on a connection that is open.

use super::credential::random;
use super::scram::{self, ClientFirst, Exchange, NONCE_BYTES, ScramKeys};
use super::{Answer, Auth, Credential, Door, Entry, Grant, Source};
use crate::config::SourceName;
use crate::listener::{Listener, Peer};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use bytestring::ByteString;
use reveille_broker_core::io::Identity;
use reveille_broker_core::message::Time;
use reveille_proto::ids::{AppId, ClientId};
use reveille_proto::mqtt::Connect;
use reveille_proto::reason::ReasonCode;
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

/// The method whose data is a token.
pub(crate) const JWT_METHOD: &str = "JWT";

/// A client that uses an authentication method, for as long as its connection lives.
#[derive(Debug)]
pub(crate) struct Enhanced {
    /// Which method.
    pub(crate) method: ByteString,
    /// Through which listener it came.
    pub(crate) listener: Arc<Listener>,
    client_id: ClientId,
    address: Option<IpAddr>,
    /// An exchange that waits for the client.
    login: Option<Box<Login>>,
}

/// A client in the middle of an exchange.
#[derive(Debug)]
struct Login {
    exchange: Exchange,
    user: String,
    /// Where it is known, and in which app; `None` for a user who does not exist.
    known: Option<(SourceName, AppId)>,
}

/// How a step of an exchange ended.
#[derive(Debug)]
pub(crate) enum Step {
    /// The client has to answer this.
    Continue(Bytes),
    /// This is who it is; it may want to hear the last word.
    Done(Box<Identity>, Option<Bytes>),
}

impl Enhanced {
    /// What a CONNECT asks for; `None` when it names no method.
    pub(crate) fn of(peer: &Peer, connect: &Connect, client_id: &ClientId) -> Option<Self> {
        let method = connect.properties.authentication_method.as_ref()?;
        Some(Self {
            method: method.to_string().into(), // bytes of its own: the packet's keep the read buffer
            listener: Arc::clone(&peer.listener),
            client_id: client_id.clone(),
            address: peer.address.map(|address| address.ip().to_canonical()),
            login: None,
        })
    }

    /// A message of the client: the first of an exchange, or the answer to [`Step::Continue`].
    ///
    /// # Errors
    /// Why the client gets no further.
    pub(crate) fn take(
        &mut self,
        auth: &Auth,
        begins: bool,
        data: Option<&[u8]>,
        now: Time,
    ) -> Result<Step, ReasonCode> {
        let data = data.unwrap_or_default();
        match (begins, self.login.take()) {
            (false, Some(login)) => self.finish_scram(auth, *login, data, now),
            (false, None) => Err(ReasonCode::PROTOCOL_ERROR),
            (true, _) if self.listener.door == Door::Internal => Err(ReasonCode::BAD_AUTHENTICATION_METHOD),
            (true, _) => match &*self.method {
                scram::METHOD => self.begin_scram(auth, data),
                JWT_METHOD => self.token(auth, data, now),
                _ => Err(ReasonCode::BAD_AUTHENTICATION_METHOD), // [MQTT5-4.12.0-1]
            },
        }
    }

    fn begin_scram(&mut self, auth: &Auth, data: &[u8]) -> Result<Step, ReasonCode> {
        let sources = auth.sources_of(&self.listener);
        let passwords: Vec<_> = sources
            .into_iter()
            .filter_map(|(name, source)| match source {
                Source::Passwords(entries) => Some((*name, entries)),
                Source::Jwt(_) | Source::Certificate(_) | Source::Http(_) => None,
            })
            .collect();
        if passwords.is_empty() {
            return Err(ReasonCode::BAD_AUTHENTICATION_METHOD);
        }
        let first = ClientFirst::parse(data).map_err(|error| self.failed(auth, None, error))?;
        auth.check_failures(self.address, Some(&first.user))?;
        let find = |(name, entries): (SourceName, &HashMap<String, Entry>)| {
            entries.get(&first.user).map(|entry| (name, entry.clone()))
        };
        let (known, keys) = match passwords.into_iter().find_map(find) {
            Some((name, Entry { credential: Credential::Scram(keys), app })) => (Some((name, app)), keys),
            // A user without such keys is one that does not exist, for this method.
            Some(_) | None => (None, ScramKeys::pretended(auth.keeper.secret(), &first.user)),
        };
        let nonce: [u8; NONCE_BYTES] = random().map_err(|_| ReasonCode::UNSPECIFIED_ERROR)?;
        let user = first.user.clone();
        let exchange = Exchange::start(first, keys, &BASE64.encode(nonce));
        let data = Bytes::copy_from_slice(exchange.server_first().as_bytes());
        self.login = Some(Box::new(Login { exchange, user, known }));
        Ok(Step::Continue(data))
    }

    fn token(&self, auth: &Auth, data: &[u8], now: Time) -> Result<Step, ReasonCode> {
        let find = |(_, source): &&(SourceName, Source)| matches!(source, Source::Jwt(_));
        let Some((name, Source::Jwt(jwt))) = auth.sources_of(&self.listener).into_iter().find(find) else {
            return Err(ReasonCode::BAD_AUTHENTICATION_METHOD);
        };
        auth.check_failures(self.address, None)?;
        match jwt.check(data, &self.client_id) {
            Answer::Allow(grant) => {
                Ok(Step::Done(Box::new(auth.identity(*grant, name.as_str(), &self.client_id, now)?), None))
            }
            Answer::Deny(_) | Answer::NotMine => {
                Err(auth.denied(self.address, None, ReasonCode::NOT_AUTHORIZED))
            }
        }
    }

    fn finish_scram(&self, auth: &Auth, login: Login, data: &[u8], now: Time) -> Result<Step, ReasonCode> {
        let Login { exchange, user, known } = login;
        let finished = exchange.finish(data);
        let last = finished.map_err(|error| self.failed(auth, Some(&user), error))?;
        let Some((source, app)) = known else {
            return Err(self.failed(auth, Some(&user), scram::ScramError::WrongProof)); // no proof fits, in fact
        };
        let grant = Grant::plain(&app, Some(user.into()));
        let identity = auth.identity(grant, source.as_str(), &self.client_id, now)?;
        Ok(Step::Done(Box::new(identity), Some(last.into())))
    }

    /// Whatever went wrong, the client hears the same.
    fn failed(&self, auth: &Auth, user: Option<&str>, error: scram::ScramError) -> ReasonCode {
        tracing::debug!(%error, method = &*self.method, "an authentication failed");
        auth.denied(self.address, user, ReasonCode::NOT_AUTHORIZED)
    }
}
