//! A few words with each refusal, for the people who look for the reason. MQTT 5.0 only, and only where they fit.

use bytestring::ByteString;
use reveille_proto::mqtt::{Ack, Packet};
use reveille_proto::reason::ReasonCode;

/// The packet with a reason string; `None` where it refuses nothing or says why already.
///
/// A client that wants no problem information gets one with CONNACK and DISCONNECT only. `[MQTT5-3.1.2-29]`
pub fn explained(packet: &Packet, wants_problem_information: bool) -> Option<Packet> {
    match packet {
        Packet::ConnAck(connack) if connack.properties.reason_string.is_none() => {
            let words = words(connack.reason)?;
            let mut connack = connack.clone();
            connack.properties.reason_string = Some(words);
            Some(Packet::ConnAck(connack))
        }
        Packet::Disconnect(disconnect) if disconnect.properties.reason_string.is_none() => {
            let words = words(disconnect.reason)?;
            let mut disconnect = disconnect.clone();
            disconnect.properties.reason_string = Some(words);
            Some(Packet::Disconnect(disconnect))
        }
        _ if !wants_problem_information => None,
        Packet::PubAck(ack) => explained_ack(ack).map(Packet::PubAck),
        Packet::PubRec(ack) => explained_ack(ack).map(Packet::PubRec),
        Packet::SubAck(suback) if suback.properties.reason_string.is_none() => {
            let words = suback.reasons.iter().find_map(|reason| words(*reason))?;
            let mut suback = suback.clone();
            suback.properties.reason_string = Some(words);
            Some(Packet::SubAck(suback))
        }
        Packet::UnsubAck(unsuback) if unsuback.properties.reason_string.is_none() => {
            let words = unsuback.reasons.iter().find_map(|reason| words(*reason))?;
            let mut unsuback = unsuback.clone();
            unsuback.properties.reason_string = Some(words);
            Some(Packet::UnsubAck(unsuback))
        }
        _ => None,
    }
}

fn explained_ack(ack: &Ack) -> Option<Ack> {
    if ack.properties.as_ref().is_some_and(|properties| properties.reason_string.is_some()) {
        return None;
    }
    let words = words(ack.reason)?;
    let mut ack = ack.clone();
    ack.properties.get_or_insert_default().reason_string = Some(words);
    Some(ack)
}

/// What to look at; `None` for a success, and where the code says it all.
fn words(reason: ReasonCode) -> Option<ByteString> {
    let words = match reason {
        ReasonCode::MALFORMED_PACKET => "a packet could not be read",
        ReasonCode::PROTOCOL_ERROR => "a packet that the protocol does not allow here",
        ReasonCode::CLIENT_IDENTIFIER_NOT_VALID => "this client identifier cannot be used",
        ReasonCode::NOT_AUTHORIZED => "the credential does not allow this",
        ReasonCode::BAD_USER_NAME_OR_PASSWORD => "unknown user name or wrong password",
        ReasonCode::SERVER_SHUTTING_DOWN => "the broker stops; connect again in a moment",
        ReasonCode::KEEP_ALIVE_TIMEOUT => "no packet came for one and a half keep alives",
        ReasonCode::SESSION_TAKEN_OVER => "another connection uses this client identifier",
        ReasonCode::TOPIC_FILTER_INVALID => "the topic filter is malformed or has too many levels",
        ReasonCode::TOPIC_NAME_INVALID => "the topic is reserved or has too many levels",
        ReasonCode::RECEIVE_MAXIMUM_EXCEEDED => {
            "more unacknowledged publishes than CONNACK's Receive Maximum"
        }
        ReasonCode::TOPIC_ALIAS_INVALID => "a topic alias above CONNACK's Topic Alias Maximum",
        ReasonCode::PACKET_TOO_LARGE => "a packet above CONNACK's Maximum Packet Size",
        ReasonCode::MESSAGE_RATE_TOO_HIGH => "publishing faster than the rate limit for too long",
        ReasonCode::QUOTA_EXCEEDED => "a limit is reached; see the broker's metrics for which",
        ReasonCode::PAYLOAD_FORMAT_INVALID => "the payload is not what this topic takes",
        ReasonCode::RETAIN_NOT_SUPPORTED => "CONNACK said Retain Available 0",
        ReasonCode::QOS_NOT_SUPPORTED => "a QoS above CONNACK's Maximum QoS",
        ReasonCode::SHARED_SUBSCRIPTIONS_NOT_SUPPORTED => "CONNACK said Shared Subscription Available 0",
        ReasonCode::SUBSCRIPTION_IDENTIFIERS_NOT_SUPPORTED => {
            "CONNACK said Subscription Identifiers Available 0"
        }
        ReasonCode::WILDCARD_SUBSCRIPTIONS_NOT_SUPPORTED => "CONNACK said Wildcard Subscription Available 0",
        ReasonCode::ADMINISTRATIVE_ACTION => "an operator ended the connection",
        reason if reason.is_failure() => reason.text(),
        _ => return None,
    };
    Some(ByteString::from_static(words))
}

#[cfg(test)]
mod tests {
    use super::*;
    use reveille_proto::ids::PacketId;
    use reveille_proto::mqtt::Disconnect;

    fn ack(reason: ReasonCode) -> Packet {
        Packet::PubAck(Ack::new(PacketId::new(1).unwrap(), reason))
    }

    #[test]
    fn a_refusal_is_explained_and_a_success_is_not() {
        assert_eq!(explained(&ack(ReasonCode::SUCCESS), true), None);
        assert_eq!(explained(&ack(ReasonCode::NO_MATCHING_SUBSCRIBERS), true), None);
        let Some(Packet::PubAck(refusal)) = explained(&ack(ReasonCode::QUOTA_EXCEEDED), true) else {
            panic!("not explained");
        };
        assert!(refusal.properties.is_some_and(|properties| properties.reason_string.is_some()));
    }

    #[test]
    fn who_wants_no_problem_information_gets_it_with_disconnect_only() {
        assert_eq!(explained(&ack(ReasonCode::QUOTA_EXCEEDED), false), None);
        let goodbye = Packet::Disconnect(Box::new(Disconnect::new(ReasonCode::QUOTA_EXCEEDED)));
        assert!(explained(&goodbye, false).is_some());
    }

    #[test]
    fn every_failure_has_words_that_fit_a_small_packet() {
        for code in 0x80..=0xff {
            let Some(reason) = ReasonCode::from_u8(code) else { continue };
            assert!(words(reason).is_some_and(|words| words.len() <= 64), "{reason}");
        }
    }
}
