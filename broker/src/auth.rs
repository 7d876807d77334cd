//! Who a client is: its user name and password against the configuration.

use crate::config::{Config, ConfigError, Secret, parse_app};
use crate::listener::Peer;
use reveille_broker_core::io::Identity;
use reveille_proto::ids::AppId;
use reveille_proto::mqtt::Connect;
use reveille_proto::reason::ReasonCode;
use std::collections::HashMap;

/// The user name of the bridge on the internal listener.
pub const BRIDGE_USER: &str = "bridge";

/// Through which listener a client came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Door {
    /// Devices and servers.
    Public,
    /// The bridge only.
    Internal,
}

/// Every credential, as the configuration gave it.
#[derive(Debug)]
pub(crate) struct Auth {
    users: HashMap<String, (Secret, AppId)>,
    internal_password: Option<Secret>,
    bridge_app: AppId,
    admits_anonymous: bool,
}

impl Auth {
    /// Takes the credentials out of a checked configuration.
    pub(crate) fn new(config: &Config, bridge_app: AppId) -> Result<Self, ConfigError> {
        let mut users = HashMap::with_capacity(config.users.len());
        for user in &config.users {
            users.insert(user.name.clone(), (user.password.clone(), parse_app("users.app", &user.app)?));
        }
        let internal_password = config.internal_password.clone();
        Ok(Self { users, internal_password, bridge_app, admits_anonymous: config.admits_anonymous() })
    }

    /// Who sent this CONNECT, and from where. Takes as long as a hash or a hook takes; the shard goes on meanwhile.
    ///
    /// # Errors
    /// The reason code for the refusing CONNACK.
    pub(crate) async fn identify(&self, peer: &Peer, connect: &Connect) -> Result<Identity, ReasonCode> {
        let door = peer.listener.door;
        let admits_anonymous = peer.listener.allow_anonymous.unwrap_or(self.admits_anonymous);
        let name = connect.username.as_deref();
        let password = connect.password.as_deref().unwrap_or_default();
        match (door, name) {
            (Door::Internal, Some(BRIDGE_USER)) => self.bridge(password),
            (Door::Internal, _) => Err(ReasonCode::NOT_AUTHORIZED),
            (Door::Public, Some(name)) if !self.users.is_empty() => self.user(name, password),
            (Door::Public, _) if admits_anonymous => Ok(Identity::of(AppId::default())),
            (Door::Public, _) => Err(ReasonCode::NOT_AUTHORIZED),
        }
    }

    fn bridge(&self, password: &[u8]) -> Result<Identity, ReasonCode> {
        let wanted = self.internal_password.as_ref().ok_or(ReasonCode::NOT_AUTHORIZED)?;
        if !is_same(wanted.reveal().as_bytes(), password) {
            return Err(ReasonCode::BAD_USER_NAME_OR_PASSWORD);
        }
        Ok(Identity::bridge(self.bridge_app.clone()))
    }

    fn user(&self, name: &str, password: &[u8]) -> Result<Identity, ReasonCode> {
        match self.users.get(name) {
            Some((wanted, app)) if is_same(wanted.reveal().as_bytes(), password) => {
                Ok(Identity { user: Some(name.into()), ..Identity::of(app.clone()) })
            }
            Some(_) | None => Err(ReasonCode::BAD_USER_NAME_OR_PASSWORD),
        }
    }
}

/// Compares in a time that depends on `given` alone, so that an attacker cannot find a password byte by byte.
fn is_same(wanted: &[u8], given: &[u8]) -> bool {
    let mut difference = u8::from(wanted.len() != given.len());
    for (at, byte) in given.iter().enumerate() {
        let other = wanted.get(at % wanted.len().max(1)).copied().unwrap_or_default();
        difference = std::hint::black_box(difference | (byte ^ other));
    }
    difference == 0
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use reveille_proto::mqtt::Version;

    fn connect(credentials: Option<(&str, &[u8])>) -> Connect {
        Connect {
            version: Version::V5,
            clean_start: true,
            keep_alive: 0,
            client_id: "c".into(),
            will: None,
            username: credentials.map(|(name, _)| name.into()),
            password: credentials.map(|(_, password)| Bytes::copy_from_slice(password)),
            properties: Default::default(),
        }
    }

    fn auth(text: &str) -> Auth {
        Auth::new(&toml::from_str(text).unwrap(), AppId::parse("_reveille").unwrap()).unwrap()
    }

    #[tokio::test]
    async fn a_client_belongs_to_the_app_of_its_credential() {
        const USERS: &str = "internal_password = 'sesame'\n\
                             [[users]]\nname = 'shop'\npassword = 'tulip'\napp = 'shop'\n\
                             [[users]]\nname = 'bridge'\npassword = 'rose'";
        const OPEN: &str = "listen = '0.0.0.0:1883'\nallow_anonymous = true";
        let bad = Err(ReasonCode::BAD_USER_NAME_OR_PASSWORD);
        let denied = Err(ReasonCode::NOT_AUTHORIZED);
        type Row = (
            &'static str,
            Door,
            Option<(&'static str, &'static [u8])>,
            Result<(&'static str, bool), ReasonCode>,
        );
        let rows: [Row; 14] = [
            ("", Door::Public, None, Ok(("default", false))),
            ("", Door::Public, Some(("anyone", b"x")), Ok(("default", false))),
            ("", Door::Internal, None, denied),
            ("", Door::Internal, Some(("bridge", b"")), denied),
            (OPEN, Door::Public, None, Ok(("default", false))),
            (USERS, Door::Public, None, denied),
            (USERS, Door::Public, Some(("shop", b"tulip")), Ok(("shop", false))),
            (USERS, Door::Public, Some(("shop", b"tulips")), bad),
            (USERS, Door::Public, Some(("shop", b"")), bad),
            (USERS, Door::Public, Some(("nobody", b"tulip")), bad),
            (USERS, Door::Public, Some(("bridge", b"sesame")), bad),
            (USERS, Door::Public, Some(("bridge", b"rose")), Ok(("default", false))),
            (USERS, Door::Internal, Some(("bridge", b"sesame")), Ok(("_reveille", true))),
            (USERS, Door::Internal, Some(("bridge", b"rose")), bad),
        ];
        for (config, door, credentials, wanted) in rows {
            let got = auth(config).identify(&Peer::at(door), &connect(credentials)).await;
            let got = got.as_ref().map(|who| (who.app.as_str(), who.is_bridge)).map_err(|reason| *reason);
            assert_eq!(got, wanted, "{config:?} {door:?} {credentials:?}");
        }
    }

    #[test]
    fn passwords_are_the_same_only_when_every_byte_is() {
        let rows: [(&[u8], &[u8], bool); 6] = [
            (b"abc", b"abc", true),
            (b"abc", b"abd", false),
            (b"abc", b"ab", false),
            (b"ab", b"abab", false),
            (b"abc", b"", false),
            (b"", b"a", false),
        ];
        for (wanted, given, same) in rows {
            assert_eq!(is_same(wanted, given), same, "{wanted:?} {given:?}");
        }
    }
}
