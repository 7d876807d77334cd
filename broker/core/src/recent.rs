//! Bodies that were queued a short while ago, up to a bound of bytes: a queue that drains soon need not be read back from
//! the disk. Reading was a quarter of what draining cost, as the bodies of one queue lie between those of all others.

use crate::collections::NumberMap;
use crate::message::{Message, MessageKey};
use std::collections::VecDeque;
use std::sync::Arc;

/// Bytes that a body costs in memory besides its payload and topic; a guess, to keep the bound.
const BODY_BYTES: usize = 256;

/// Keys of bodies that are gone, beyond as many as there are bodies.
const GONE_MAX: usize = 64;

/// See the module. The oldest goes first.
#[derive(Debug, Default)]
pub(crate) struct Recent {
    bodies: NumberMap<MessageKey, Arc<Message>>,
    order: VecDeque<MessageKey>,
    bytes: usize,
}

impl Recent {
    /// Keeps a body for a while.
    pub fn keep(&mut self, message: &Arc<Message>, bytes_max: usize) {
        let cost = cost(message);
        if cost > bytes_max || self.bodies.contains_key(&message.key) {
            return;
        }
        self.bodies.insert(message.key, Arc::clone(message));
        self.order.push_back(message.key);
        self.bytes += cost;
        while self.bytes > bytes_max {
            let Some(oldest) = self.order.pop_front() else { break };
            self.forget(oldest);
        }
    }

    /// A body that is still here.
    pub fn body(&self, key: MessageKey) -> Option<&Arc<Message>> {
        self.bodies.get(&key)
    }

    /// A place that held this body was given up: the body goes when nothing else has it.
    pub fn release(&mut self, key: MessageKey) {
        if self.bodies.get(&key).is_some_and(|body| Arc::strong_count(body) == 1) {
            self.forget(key);
        }
        // Keys of bodies that are gone stay in the order; this bounds them.
        if self.order.len() > 2 * self.bodies.len() + GONE_MAX {
            self.order.retain(|known| self.bodies.contains_key(known));
        }
    }

    fn forget(&mut self, key: MessageKey) {
        if let Some(body) = self.bodies.remove(&key) {
            self.bytes = self.bytes.saturating_sub(cost(&body));
        }
    }
}

fn cost(message: &Message) -> usize {
    BODY_BYTES + message.size() as usize
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::Time;
    use reveille_proto::ids::AppId;
    use reveille_proto::mqtt::QoS;
    use reveille_proto::topic::TopicName;

    fn message(key: u64) -> Arc<Message> {
        Arc::new(Message {
            key: MessageKey(key),
            app: AppId::default(),
            topic: TopicName::parse("t").unwrap(),
            payload: vec![0; 99].into(),
            qos: QoS::AtLeastOnce,
            retain: false,
            accepted_at: Time(0),
            expires_at: None,
            publisher: None,
            properties: None,
            push: None,
        })
    }

    #[test]
    fn the_oldest_body_makes_room_and_a_released_one_goes_at_once() {
        let (mut recent, bytes_max) = (Recent::default(), 3 * cost(&message(0)));
        for key in 1..=5 {
            recent.keep(&message(key), bytes_max);
        }
        let kept = |recent: &Recent| (1..=9).filter(|key| recent.body(MessageKey(*key)).is_some()).collect();
        assert_eq!(Vec::from_iter([3, 4, 5]), Vec::<u64>::from_iter::<Vec<u64>>(kept(&recent)));
        recent.release(MessageKey(3));
        recent.release(MessageKey(5));
        let held = message(6);
        recent.keep(&held, bytes_max);
        recent.release(MessageKey(6));
        assert_eq!(Vec::from_iter([4, 6]), Vec::<u64>::from_iter::<Vec<u64>>(kept(&recent)));
        assert_eq!(recent.bytes, 2 * cost(&held));
        recent.release(MessageKey(4));
        for key in 10..1000 {
            recent.keep(&message(key), bytes_max);
            recent.release(MessageKey(key));
        }
        assert!(recent.order.len() <= 2 + GONE_MAX, "keys of bodies that are gone do not gather");
        recent.keep(&message(7), cost(&held) - 1);
        assert!(recent.body(MessageKey(7)).is_none(), "larger than the bound");
    }
}
