//! The values: one implementation of [`Record`] for each kind of fact.

use super::keys::read_subscription;
use super::{Flags, FormatError, Reader, Record, Writer};
use bytestring::ByteString;
use reveille_broker_core::change::{
    Announcement, Entry, Granted, Phase, PushEntry, RareEntry, SessionRecord, StoredWill,
};
use reveille_broker_core::message::{
    Alert, Message, MessageKey, MessageProperties, Push, Seq, SessionKey, Time,
};
use reveille_broker_core::networks::{Device, NetworkKey, NetworkRecord, Place, Voter};
use reveille_proto::bridge::{Priority, Strategy};
use reveille_proto::heartbeat::{Bracket, Gap, Radio};
use reveille_proto::ids::{AppId, ClientId, Epoch, MessageId};
use reveille_proto::mqtt::{QoS, RetainHandling, SubscriptionOptions, UserProperties};
use reveille_proto::topic::{Subscription, TopicName};
use std::time::Duration;

impl Record for Message {
    fn write(&self, out: &mut Writer) {
        out.byte(Flags::of([
            (self.qos as u8, true),
            (4, self.retain),
            (8, self.expires_at.is_some()),
            (16, self.publisher.is_some()),
            (32, self.properties.is_some()),
            (64, self.push.is_some()),
        ]));
        out.number(self.key.0);
        out.text(self.app.as_str());
        out.text(self.topic.as_str());
        out.number(self.accepted_at.0);
        out.optional(self.expires_at.as_ref(), |out, time| out.number(time.0));
        out.optional(self.publisher.as_ref(), |out, session| out.number(session.0));
        out.optional(self.properties.as_deref(), |out, properties| properties.write(out));
        out.optional(self.push.as_deref(), |out, push| push.write(out));
        out.bytes(&self.payload);
    }

    fn read(from: &mut Reader) -> Result<Self, FormatError> {
        let mut flags = Flags::read(from)?;
        let (qos, retain) = (read_qos(flags.take_bits(3))?, flags.take(4));
        let [has_expiry, has_publisher, has_properties, has_push] =
            [8, 16, 32, 64].map(|bit| flags.take(bit));
        flags.end()?;
        let message = Self {
            qos,
            retain,
            key: MessageKey(from.number()?),
            app: read_app(from)?,
            topic: read_topic(from)?,
            accepted_at: Time(from.number()?),
            expires_at: from.optional(has_expiry, Reader::number)?.map(Time),
            publisher: from.optional(has_publisher, Reader::number)?.map(SessionKey),
            properties: from.optional(has_properties, MessageProperties::read)?.map(Box::new),
            push: from.optional(has_push, Push::read)?.map(Box::new),
            payload: from.bytes()?,
        };
        Ok(message)
    }
}

impl Record for MessageProperties {
    fn write(&self, out: &mut Writer) {
        out.byte(Flags::of([
            (1, self.payload_format_indicator.is_some()),
            (2, self.payload_format_indicator == Some(true)),
            (4, self.response_topic.is_some()),
            (8, self.correlation_data.is_some()),
            (16, self.content_type.is_some()),
        ]));
        out.optional(self.response_topic.as_ref(), |out, topic| out.text(topic.as_str()));
        out.optional(self.correlation_data.as_ref(), |out, data| out.bytes(data));
        out.optional(self.content_type.as_ref(), |out, text| out.text(text));
        out.number(self.user_properties.len() as u64);
        for (name, value) in &self.user_properties {
            out.text(name);
            out.text(value);
        }
    }

    fn read(from: &mut Reader) -> Result<Self, FormatError> {
        let mut flags = Flags::read(from)?;
        let [has_indicator, indicator, has_topic, has_data, has_type] =
            [1, 2, 4, 8, 16].map(|bit| flags.take(bit));
        flags.end()?;
        Ok(Self {
            payload_format_indicator: has_indicator.then_some(indicator),
            response_topic: from.optional(has_topic, read_topic)?,
            correlation_data: from.optional(has_data, Reader::bytes)?,
            content_type: from.optional(has_type, Reader::text)?,
            user_properties: read_user_properties(from)?,
        })
    }
}

impl Record for Push {
    fn write(&self, out: &mut Writer) {
        out.byte(Flags::of([(1, self.collapse_key.is_some()), (2, self.alert.is_some())]));
        out.fixed(&self.id.0);
        out.number(self.strategy as u32);
        out.number(self.priority as u32);
        out.optional(self.collapse_key.as_ref(), |out, key| out.text(key));
        out.number(self.wait_ack.as_secs());
        out.number(self.wait_ack.subsec_nanos());
        out.optional(self.alert.as_ref(), |out, alert| {
            out.text(&alert.title);
            out.text(&alert.body);
        });
    }

    fn read(from: &mut Reader) -> Result<Self, FormatError> {
        let mut flags = Flags::read(from)?;
        let (has_key, has_alert) = (flags.take(1), flags.take(2));
        flags.end()?;
        Ok(Self {
            id: read_message_id(from)?,
            strategy: read_strategy(from)?,
            priority: read_priority(from)?,
            collapse_key: from.optional(has_key, Reader::text)?,
            wait_ack: read_duration(from)?,
            alert: from.optional(has_alert, read_alert)?,
        })
    }
}

impl Record for SessionRecord {
    fn write(&self, out: &mut Writer) {
        out.byte(Flags::of([(1, self.offline_since.is_some()), (2, self.will.is_some())]));
        out.text(self.app.as_str());
        out.text(self.client_id.as_str());
        out.number(self.expiry_interval);
        out.number(self.epoch.0);
        out.optional(self.offline_since.as_ref(), |out, time| out.number(time.0));
        out.number(self.sent_before.0);
        out.optional(self.will.as_deref(), |out, will| {
            out.number(will.delay_interval);
            will.message.write(out);
        });
    }

    fn read(from: &mut Reader) -> Result<Self, FormatError> {
        let mut flags = Flags::read(from)?;
        let (is_offline, has_will) = (flags.take(1), flags.take(2));
        flags.end()?;
        Ok(Self {
            app: read_app(from)?,
            client_id: ClientId::parse(&from.text()?).map_err(|_| FormatError::Field("client id"))?,
            expiry_interval: from.number_u32()?,
            epoch: Epoch(from.number()?),
            offline_since: from.optional(is_offline, Reader::number)?.map(Time),
            sent_before: Seq(from.number()?),
            will: from.optional(has_will, read_will)?.map(Box::new),
        })
    }
}

impl Record for (Subscription, Granted) {
    fn write(&self, out: &mut Writer) {
        let (Subscription { group, filter }, granted) = self;
        let options = granted.options;
        out.byte(Flags::of([
            (options.qos as u8, true),
            (4, options.no_local),
            (8, options.retain_as_published),
            ((options.retain_handling as u8) << 4, true),
            (64, group.is_some()),
        ]));
        out.number(granted.identifier);
        out.optional(group.as_ref(), |out, group| out.text(group));
        out.text(filter.as_str());
    }

    fn read(from: &mut Reader) -> Result<Self, FormatError> {
        let mut flags = Flags::read(from)?;
        let options = SubscriptionOptions {
            qos: read_qos(flags.take_bits(3))?,
            no_local: flags.take(4),
            retain_as_published: flags.take(8),
            retain_handling: read_retain_handling(flags.take_bits(0b11_0000))?,
        };
        let has_group = flags.take(64);
        flags.end()?;
        let identifier = from.number_u32()?;
        let group = from.optional(has_group, Reader::text)?;
        Ok((read_subscription(group.as_deref(), &from.text()?)?, Granted { options, identifier }))
    }
}

/// Without the place, which stands in the key: it reads back as 0.
impl Record for Entry {
    fn write(&self, out: &mut Writer) {
        let (expires_at, identifiers, push) =
            (self.expires_at.time(), self.subscription_identifiers(), self.push());
        out.byte(Flags::of([
            (self.qos as u8, true),
            (4, self.retain),
            (8, self.phase == Phase::Released),
            (16, expires_at.is_some()),
            (32, !identifiers.is_empty()),
            (64, push.is_some()),
        ]));
        out.number(self.message.0);
        out.number(self.size);
        out.optional(expires_at.as_ref(), |out, time| out.number(time.0));
        if !identifiers.is_empty() {
            out.number(identifiers.len() as u64);
            identifiers.iter().for_each(|identifier| out.number(*identifier));
        }
        out.optional(push, |out, push| push.write(out));
    }

    fn read(from: &mut Reader) -> Result<Self, FormatError> {
        let mut flags = Flags::read(from)?;
        let (qos, retain, is_released) = (read_qos(flags.take_bits(3))?, flags.take(4), flags.take(8));
        let [has_expiry, has_identifiers, has_push] = [16, 32, 64].map(|bit| flags.take(bit));
        flags.end()?;
        let mut entry = Self {
            seq: Seq(0),
            message: MessageKey(from.number()?),
            qos,
            retain,
            phase: if is_released { Phase::Released } else { Phase::Queued },
            size: from.number_u32()?,
            expires_at: from.optional(has_expiry, Reader::number)?.map(Time).into(),
            rare: None,
        };
        let identifiers = from.optional(has_identifiers, read_identifiers)?.unwrap_or_default();
        entry.rare = RareEntry::of(identifiers, from.optional(has_push, PushEntry::read)?);
        Ok(entry)
    }
}

impl Record for PushEntry {
    fn write(&self, out: &mut Writer) {
        out.byte(Flags::of([(1, self.collapse_key.is_some()), (2, self.is_announced)]));
        out.fixed(&self.id.0);
        out.number(self.priority as u32);
        out.optional(self.collapse_key.as_ref(), |out, key| out.text(key));
    }

    fn read(from: &mut Reader) -> Result<Self, FormatError> {
        let mut flags = Flags::read(from)?;
        let (has_key, is_announced) = (flags.take(1), flags.take(2));
        flags.end()?;
        Ok(Self {
            id: read_message_id(from)?,
            priority: read_priority(from)?,
            collapse_key: from.optional(has_key, Reader::text)?,
            is_announced,
        })
    }
}

impl Record for Announcement {
    fn write(&self, out: &mut Writer) {
        out.text(self.topic.as_str());
        out.bytes(&self.payload);
    }

    fn read(from: &mut Reader) -> Result<Self, FormatError> {
        Ok(Self { topic: read_topic(from)?, payload: from.bytes()? })
    }
}

impl Record for (NetworkKey, Box<NetworkRecord>) {
    fn write(&self, out: &mut Writer) {
        let (NetworkKey { place, radio }, record) = self;
        let name = match place {
            Place::Prefix(prefix) => prefix.to_string(),
            Place::Named(name) => name.to_string(),
        };
        out.byte(Flags::of([(1, matches!(place, Place::Named(_)))]));
        out.text(&name);
        out.text(radio.as_str());
        out.number(record.deaths);
        out.number(record.resets);
        out.number(record.changed_at.0);
        out.number(record.voters.len() as u64);
        record.voters.iter().for_each(|voter| voter.write(out));
    }

    fn read(from: &mut Reader) -> Result<Self, FormatError> {
        let mut flags = Flags::read(from)?;
        let is_named = flags.take(1);
        flags.end()?;
        let name = from.text()?;
        let place = match is_named {
            true => Place::Named(name),
            false => Place::Prefix(name.parse().map_err(|_| FormatError::Field("prefix"))?),
        };
        let radio = Radio::parse(&from.text()?).ok_or(FormatError::Field("radio"))?;
        let (deaths, resets, changed_at) = (from.number()?, from.number()?, Time(from.number()?));
        let count = from.count()?;
        let voters = (0..count).map(|_| Voter::read(from)).collect::<Result<_, _>>()?;
        Ok((NetworkKey { place, radio }, Box::new(NetworkRecord { voters, deaths, resets, changed_at })))
    }
}

impl Record for Voter {
    fn write(&self, out: &mut Writer) {
        let Bracket { lo, hi, deaths, doubt } = self.bracket;
        out.byte(Flags::of([(1, hi.is_some()), (2, doubt.is_some())]));
        out.fixed(&self.device.0.to_be_bytes());
        out.number(self.address);
        out.number(self.since.0);
        out.number(self.seen.0);
        out.number(lo.0);
        out.optional(hi.as_ref(), |out, hi| out.number(hi.0));
        out.byte(deaths);
        out.optional(doubt.as_ref(), |out, doubt| out.number(doubt.0));
    }

    fn read(from: &mut Reader) -> Result<Self, FormatError> {
        let mut flags = Flags::read(from)?;
        let (has_hi, has_doubt) = (flags.take(1), flags.take(2));
        flags.end()?;
        let device = from.fixed(8)?.as_ref().try_into().map_err(|_| FormatError::Length)?;
        Ok(Self {
            device: Device(u64::from_be_bytes(device)),
            address: from.number_u32()?,
            since: Time(from.number()?),
            seen: Time(from.number()?),
            bracket: Bracket {
                lo: read_gap(from)?,
                hi: from.optional(has_hi, read_gap)?,
                deaths: from.byte()?,
                doubt: from.optional(has_doubt, read_gap)?,
            },
        })
    }
}

fn read_gap(from: &mut Reader) -> Result<Gap, FormatError> {
    u16::try_from(from.number()?).map(Gap).map_err(|_| FormatError::Field("gap"))
}

fn read_qos(bits: u8) -> Result<QoS, FormatError> {
    QoS::from_u8(bits).ok_or(FormatError::Field("QoS"))
}

fn read_retain_handling(bits: u8) -> Result<RetainHandling, FormatError> {
    match bits {
        0 => Ok(RetainHandling::Always),
        1 => Ok(RetainHandling::IfNew),
        2 => Ok(RetainHandling::Never),
        _ => Err(FormatError::Field("retain handling")),
    }
}

fn read_app(from: &mut Reader) -> Result<AppId, FormatError> {
    AppId::parse(&from.text()?).map_err(|_| FormatError::Field("app id"))
}

fn read_topic(from: &mut Reader) -> Result<TopicName, FormatError> {
    TopicName::parse(from.text()?).map_err(|_| FormatError::Field("topic name"))
}

fn read_message_id(from: &mut Reader) -> Result<MessageId, FormatError> {
    MessageId::from_bytes(&from.fixed(16)?).map_err(|_| FormatError::Field("message id"))
}

fn read_enum<E: TryFrom<i32>>(from: &mut Reader, name: &'static str) -> Result<E, FormatError> {
    let number = i32::try_from(from.number()?).map_err(|_| FormatError::Field(name))?;
    E::try_from(number).map_err(|_| FormatError::Field(name))
}

fn read_strategy(from: &mut Reader) -> Result<Strategy, FormatError> {
    read_enum(from, "strategy")
}

fn read_priority(from: &mut Reader) -> Result<Priority, FormatError> {
    read_enum(from, "priority")
}

fn read_duration(from: &mut Reader) -> Result<Duration, FormatError> {
    let (seconds, nanos) = (from.number()?, from.number_u32()?);
    if nanos >= 1_000_000_000 {
        return Err(FormatError::Field("duration"));
    }
    Ok(Duration::new(seconds, nanos))
}

fn read_alert(from: &mut Reader) -> Result<Alert, FormatError> {
    Ok(Alert { title: from.text()?.to_string(), body: from.text()?.to_string() })
}

fn read_will(from: &mut Reader) -> Result<StoredWill, FormatError> {
    Ok(StoredWill { delay_interval: from.number_u32()?, message: Message::read(from)? })
}

fn read_identifiers(from: &mut Reader) -> Result<Box<[u32]>, FormatError> {
    let count = from.count()?;
    (0..count).map(|_| from.number_u32()).collect()
}

fn read_user_properties(from: &mut Reader) -> Result<UserProperties, FormatError> {
    let count = from.count()?;
    let pair = |from: &mut Reader| -> Result<(ByteString, ByteString), FormatError> {
        Ok((from.text()?, from.text()?))
    };
    (0..count).map(|_| pair(from)).collect()
}
