//! CONNECT before anything is known about the client: is it acceptable, and under which client identifier?

use crate::acl::Who;
use crate::io::Identity;
use crate::limits::ConnectionLimits;
use crate::rewrite::{Rewrite, rewrite_topic};
use reveille_proto::ids::ClientId;
use reveille_proto::mqtt::{ConnAck, ConnAckProperties, Connect, Version};
use reveille_proto::reason::ReasonCode;

/// The client identifier that a CONNECT asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// This one.
    Given(ClientId),
    /// One that the broker picks. `[MQTT5-3.1.3-6]`, `[MQTT3-3.1.3-6]`
    Assigned,
}

/// Checks what can be checked without knowing the client.
///
/// # Errors
/// The reason code for the refusing CONNACK.
pub fn check(connect: &Connect) -> Result<Wanted, ReasonCode> {
    wanted_client_id(connect)
}

/// Checks the will against what the client may do.
///
/// # Errors
/// The reason code for the refusing CONNACK.
pub fn check_will(connect: &Connect, limits: &ConnectionLimits) -> Result<(), ReasonCode> {
    let Some(will) = &connect.will else { return Ok(()) };
    if will.qos > limits.offered.maximum_qos {
        return Err(ReasonCode::QOS_NOT_SUPPORTED); // [MQTT5-3.2.2-12]
    }
    if will.retain && !limits.offered.retain {
        return Err(ReasonCode::RETAIN_NOT_SUPPORTED); // [MQTT5-3.2.2-13]
    }
    if will.topic.levels().count() > limits.topic_levels_max || will.topic.as_str().starts_with('$') {
        return Err(ReasonCode::TOPIC_NAME_INVALID);
    }
    Ok(())
}

fn wanted_client_id(connect: &Connect) -> Result<Wanted, ReasonCode> {
    if !connect.client_id.is_empty() {
        return ClientId::parse(&connect.client_id)
            .map(Wanted::Given)
            .map_err(|_| ReasonCode::CLIENT_IDENTIFIER_NOT_VALID);
    }
    match connect.version {
        Version::V5 => Ok(Wanted::Assigned),
        Version::V3_1_1 if connect.clean_start => Ok(Wanted::Assigned), // [MQTT3-3.1.3-7]
        Version::V3_1_1 | Version::V3_1 => Err(ReasonCode::CLIENT_IDENTIFIER_NOT_VALID), // [MQTT3-3.1.3-8]
    }
}

/// Checks what the client wants against what it may do: its will is a publish that it makes now.
///
/// # Errors
/// The reason code for the refusing CONNACK.
pub fn authorize(connect: &Connect, identity: &Identity, client_id: &ClientId) -> Result<(), ReasonCode> {
    let (Some(will), Some(acl)) = (&connect.will, &identity.acl) else { return Ok(()) };
    let who =
        Who { user: identity.user.as_deref(), client_id: client_id.as_str(), app: identity.app.as_str() };
    match acl.may_publish(who, &will.topic, will.retain) {
        true => Ok(()),
        false => Err(ReasonCode::NOT_AUTHORIZED),
    }
}

/// Sends a will where a rewrite rule says. Before [`authorize`], which asks about the topic that it will have.
///
/// # Errors
/// The reason code for the refusing CONNACK.
pub fn rewrite_will(connect: &mut Connect, identity: &Identity, rules: &[Rewrite]) -> Result<(), ReasonCode> {
    let Some(will) = connect.will.as_mut().filter(|_| !identity.is_bridge) else { return Ok(()) };
    match rewrite_topic(rules, &identity.app, &will.topic) {
        Ok(Some(topic)) => will.topic = topic,
        Ok(None) => {}
        Err(_) => return Err(ReasonCode::TOPIC_NAME_INVALID),
    }
    Ok(())
}

/// The CONNACK that refuses.
pub fn refusal(reason: ReasonCode) -> ConnAck {
    ConnAck { session_present: false, reason, properties: ConnAckProperties::default() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn connect(version: Version, client_id: &'static str, clean_start: bool) -> Connect {
        Connect {
            version,
            clean_start,
            keep_alive: 60,
            client_id: client_id.into(),
            will: None,
            username: None,
            password: None,
            properties: Default::default(),
        }
    }

    #[test]
    fn an_empty_client_id_is_assigned_only_where_the_standard_lets_it() {
        let refused = Err(ReasonCode::CLIENT_IDENTIFIER_NOT_VALID);
        let rows = [
            (Version::V5, "", false, Ok(Wanted::Assigned)),
            (Version::V3_1_1, "", true, Ok(Wanted::Assigned)),
            (Version::V3_1_1, "", false, refused.clone()),
            (Version::V3_1, "", true, refused),
        ];
        for (version, id, clean, wanted) in rows {
            assert_eq!(check(&connect(version, id, clean)), wanted, "{version:?} {clean}");
        }
        let given = check(&connect(Version::V3_1, "设备", false));
        assert_eq!(given, Ok(Wanted::Given(ClientId::parse("设备").unwrap())));
    }
}
