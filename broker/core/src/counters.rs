//! What a shard counts: every drop, truncation or refusal under a reason, and the usual traffic.

use reveille_proto::mqtt::Packet;

macro_rules! counters {
    ($($(#[doc = $doc:literal])* $name:ident;)*) => {
        /// Counts since the start, and a few gauges. Plain numbers: one thread owns them.
        #[derive(Clone, Debug, Default, PartialEq, Eq)]
        pub struct Counters {
            $($(#[doc = $doc])* pub $name: u64,)*
        }

        impl Counters {
            /// Name and value of each, for metrics.
            pub fn each(&self) -> impl Iterator<Item = (&'static str, u64)> {
                [$((stringify!($name), self.$name)),*].into_iter()
            }

            /// The same with what it counts, in words. Those of gauges begin with `Gauge: `.
            pub fn described(&self) -> impl Iterator<Item = (&'static str, &'static str, u64)> {
                [$((stringify!($name), concat!($($doc,)*).trim_ascii(), self.$name)),*].into_iter()
            }

            /// Adds another shard's.
            pub fn add(&mut self, other: &Counters) {
                $(self.$name += other.$name;)*
            }
        }
    };
}

counters! {
    /// Gauge: sessions with a network connection.
    sessions_online;
    /// Gauge: sessions.
    sessions;
    /// Gauge: subscriptions.
    subscriptions;
    /// Gauge: messages in queues, in flight or waiting.
    queued_messages;
    /// Gauge: payload and topic bytes in queues.
    queued_bytes;
    /// Gauge: delayed messages that wait for their time.
    delayed_messages;
    /// Gauge: their payload and topic bytes.
    delayed_bytes;
    /// CONNECTs accepted.
    connects;
    /// Connections that took over a session from another connection.
    take_overs;
    /// Connections closed because nothing came for one and a half keep alives, or when it was announced.
    keep_alive_timeouts;
    /// Reports of devices about their heartbeats.
    heartbeat_reports;
    /// Connections closed because of a malformed packet or a broken rule.
    protocol_errors;
    /// Connections ended by an operator or a ban.
    kicks;
    /// Connections closed because their credential ended.
    expired_credentials;
    /// Connections closed because the client could not prove again who it is.
    denied_authentications;
    /// Publishes that the client was not allowed.
    denied_publishes;
    /// Subscriptions that the client was not allowed, or is not any more.
    denied_subscriptions;
    /// Retained messages that the client was not allowed to read.
    denied_retained;
    /// PUBLISH packets taken.
    publishes_received;
    /// PUBLISH packets written.
    publishes_sent;
    /// Payload bytes taken.
    payload_bytes_received;
    /// Payload bytes written.
    payload_bytes_sent;
    /// Publishes without a receiver.
    publishes_without_receiver;
    /// Times that a client was not read for a while because it published too fast.
    throttled;
    /// Connections ended because they published too fast for too long.
    refused_rate;
    /// Messages that were put into a queue.
    queued;
    /// CONNECTs and subscriptions refused because the app has no room for more.
    refused_app_full;
    /// Messages refused because no more may be retained.
    refused_retained;
    /// Messages refused because a queue was full.
    refused_queue_full;
    /// Messages dropped because a queue was full and drops its oldest.
    dropped_queue_full;
    /// Messages that expired in a queue.
    dropped_expired;
    /// Messages replaced by a newer one with the same collapse key.
    dropped_collapsed;
    /// QoS 0 messages dropped because the reader is slow.
    dropped_slow_reader;
    /// QoS 0 messages dropped because memory runs short.
    dropped_overload_qos0;
    /// Connections ended because memory runs out and they had the most unsent bytes.
    disconnected_slow;
    /// Messages larger than the client accepts.
    dropped_too_large;
    /// Messages that went with their session.
    dropped_session_ended;
    /// Messages taken out of queues on request.
    dropped_withdrawn;
    /// Messages taken out of queues by an operator.
    dropped_purged;
    /// Messages whose body was not in the store.
    dropped_body_missing;
    /// QoS 0 messages to sessions that are offline.
    dropped_offline_qos0;
    /// Push messages for client ids without a session.
    directed_without_session;
    /// Commits that the store refused.
    commits_failed;
    /// Delayed messages whose time came.
    delayed_published;
    /// Delayed messages refused: too many, too large together, or too long a delay.
    refused_delayed;
    /// Automatic subscriptions not made: a client id or user name that fits no filter, or a session that has too many.
    refused_auto_subscriptions;
    /// Wills published.
    wills_published;
    /// Announcements handed to the bridge's queue.
    announcements;
    /// Clients sent away because the broker empties itself.
    moved;
    /// Sessions that ended because their client stayed away for too long.
    sessions_expired;
    /// Packets by type, those of the handshake included when it succeeded.
    packets_received_connect;
    /// See above.
    packets_received_publish;
    /// See above.
    packets_received_puback;
    /// See above.
    packets_received_pubrec;
    /// See above.
    packets_received_pubrel;
    /// See above.
    packets_received_pubcomp;
    /// See above.
    packets_received_subscribe;
    /// See above.
    packets_received_unsubscribe;
    /// See above.
    packets_received_pingreq;
    /// See above.
    packets_received_disconnect;
    /// See above.
    packets_received_auth;
    /// Packets that only a server may send.
    packets_received_other;
    /// Packets written, by type.
    packets_sent_connack;
    /// See above.
    packets_sent_publish;
    /// See above.
    packets_sent_puback;
    /// See above.
    packets_sent_pubrec;
    /// See above.
    packets_sent_pubrel;
    /// See above.
    packets_sent_pubcomp;
    /// See above.
    packets_sent_suback;
    /// See above.
    packets_sent_unsuback;
    /// See above.
    packets_sent_pingresp;
    /// See above.
    packets_sent_disconnect;
    /// See above.
    packets_sent_auth;
}

impl Counters {
    /// A packet came.
    pub(crate) fn count_received(&mut self, packet: &Packet) {
        *match packet {
            Packet::Connect(_) => &mut self.packets_received_connect,
            Packet::Publish(_) => &mut self.packets_received_publish,
            Packet::PubAck(_) => &mut self.packets_received_puback,
            Packet::PubRec(_) => &mut self.packets_received_pubrec,
            Packet::PubRel(_) => &mut self.packets_received_pubrel,
            Packet::PubComp(_) => &mut self.packets_received_pubcomp,
            Packet::Subscribe(_) => &mut self.packets_received_subscribe,
            Packet::Unsubscribe(_) => &mut self.packets_received_unsubscribe,
            Packet::PingReq => &mut self.packets_received_pingreq,
            Packet::Disconnect(_) => &mut self.packets_received_disconnect,
            Packet::Auth(_) => &mut self.packets_received_auth,
            Packet::ConnAck(_) | Packet::SubAck(_) | Packet::UnsubAck(_) | Packet::PingResp => {
                &mut self.packets_received_other
            }
        } += 1;
    }

    /// A packet was written. PUBLISH is counted where it is written, from its shared frame.
    pub(crate) fn count_sent(&mut self, packet: &Packet) {
        *match packet {
            Packet::ConnAck(_) => &mut self.packets_sent_connack,
            Packet::Publish(_) => &mut self.packets_sent_publish,
            Packet::PubAck(_) => &mut self.packets_sent_puback,
            Packet::PubRec(_) => &mut self.packets_sent_pubrec,
            Packet::PubRel(_) => &mut self.packets_sent_pubrel,
            Packet::PubComp(_) => &mut self.packets_sent_pubcomp,
            Packet::SubAck(_) => &mut self.packets_sent_suback,
            Packet::UnsubAck(_) => &mut self.packets_sent_unsuback,
            Packet::PingResp => &mut self.packets_sent_pingresp,
            Packet::Disconnect(_) => &mut self.packets_sent_disconnect,
            Packet::Auth(_) => &mut self.packets_sent_auth,
            // What only a client sends.
            Packet::Connect(_) | Packet::Subscribe(_) | Packet::Unsubscribe(_) | Packet::PingReq => return,
        } += 1;
    }
}
