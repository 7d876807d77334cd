//! Topic aliases that the broker sets towards one client: its busiest topics get them.
//!
//! ```text
//!   topic --> sketch: how often of late? --> has an alias          : 3 bytes instead of the topic
//!                                        --> came again, alias free: takes it
//!                                        --> twice as busy as the topic under the hand: takes its alias
//! ```
//! The alias belongs to the topic of the message, never to the filter that matched: the wildcard of a subscriber
//! makes no difference. Memory is bounded by the aliases that the client allows, at most those of the limits.

use reveille_proto::topic::TopicName;
use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};

/// Counters of the sketch. Two of them count for a topic: with the hundred topics that matter to a choice, the
/// smaller one is rarely too high.
const COUNTERS: usize = 256;

/// After so many publishes every count is halved: what was busy an hour ago does not keep its alias.
const HALVING: u32 = 2048;

/// A topic that came once may never come again: an alias for it would only cost its three bytes.
const BUSY: u8 = 2;

/// What a PUBLISH shall carry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Choice {
    /// The topic alone.
    Plain,
    /// The alias alone: the client knows it.
    Known(u16),
    /// Topic and alias: the client learns it, if the PUBLISH is written, see [`AliasesOut::learn`].
    New(u16),
}

/// The aliases of one connection. Made at the first PUBLISH to a client that allows any.
#[derive(Debug)]
pub struct AliasesOut {
    known: HashMap<TopicName, u16>,
    /// The topic of each alias; alias 1 stands first.
    topics: Vec<TopicName>,
    max: u16,
    hand: usize,
    sketch: Sketch,
}

#[derive(Debug)]
struct Sketch {
    counts: Box<[u8; COUNTERS]>,
    added: u32,
}

impl AliasesOut {
    /// For a client that allows that many.
    pub fn new(max: u16) -> Self {
        let sketch = Sketch { counts: Box::new([0; COUNTERS]), added: 0 };
        Self { known: HashMap::new(), topics: Vec::new(), max, hand: 0, sketch }
    }

    /// Counts a PUBLISH on this topic and says what it shall carry. Looks at one other topic at most.
    pub fn choose(&mut self, topic: &TopicName) -> Choice {
        let count = self.sketch.add(topic);
        if let Some(alias) = self.known.get(topic) {
            return Choice::Known(*alias);
        }
        if count < BUSY {
            return Choice::Plain;
        }
        if self.topics.len() < usize::from(self.max) {
            return u16::try_from(self.topics.len() + 1).map_or(Choice::Plain, Choice::New);
        }
        self.challenge(count)
    }

    /// Every alias is taken: the one under the hand changes its topic when that is much less busy.
    fn challenge(&mut self, count: u8) -> Choice {
        let hand = self.hand % self.topics.len().max(1);
        let Some(topic) = self.topics.get(hand) else { return Choice::Plain };
        if self.sketch.count(topic) >= count / 2 {
            self.hand = hand + 1; // stays; the next one is asked next time
            return Choice::Plain;
        }
        u16::try_from(hand + 1).map_or(Choice::Plain, Choice::New)
    }

    /// The client was told, so from now on the alias stands for this topic.
    pub fn learn(&mut self, topic: &TopicName, alias: u16) {
        let place = usize::from(alias).saturating_sub(1);
        debug_assert!(place <= self.topics.len() && alias <= self.max, "an alias that was chosen");
        match self.topics.get_mut(place) {
            Some(old) => {
                self.known.remove(old);
                *old = topic.clone();
                self.hand = place + 1;
            }
            None => self.topics.push(topic.clone()),
        }
        self.known.insert(topic.clone(), alias);
    }
}

impl Sketch {
    /// Counts one more and says how many there were of late.
    fn add(&mut self, topic: &TopicName) -> u8 {
        self.added += 1;
        if self.added >= HALVING {
            self.added = 0;
            self.counts.iter_mut().for_each(|count| *count /= 2);
        }
        let lowest = self.count(topic);
        for place in places(topic) {
            // Only the lowest grows: what shares one of the two does not make it look busier.
            if let Some(count) = self.counts.get_mut(place).filter(|count| **count == lowest) {
                *count = count.saturating_add(1);
            }
        }
        lowest.saturating_add(1)
    }

    fn count(&self, topic: &TopicName) -> u8 {
        places(topic).into_iter().filter_map(|place| self.counts.get(place)).copied().min().unwrap_or(0)
    }
}

/// Fixed keys: a publisher that looks for collisions only makes its receivers' packets longer.
fn places(topic: &TopicName) -> [usize; 2] {
    let mut hasher = DefaultHasher::new();
    topic.hash(&mut hasher);
    let hash = hasher.finish() as usize;
    [hash % COUNTERS, (hash >> 32) % COUNTERS]
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn topic(number: u32) -> TopicName {
        TopicName::parse(format!("车间/{number}/温度")).unwrap()
    }

    /// Chooses, and learns as if it was written.
    fn send(aliases: &mut AliasesOut, topic: &TopicName) -> Choice {
        let choice = aliases.choose(topic);
        if let Choice::New(alias) = choice {
            aliases.learn(topic, alias);
        }
        choice
    }

    #[test]
    fn a_topic_gets_an_alias_when_it_comes_again() {
        let mut aliases = AliasesOut::new(2);
        let choices: Vec<Choice> = (0..4).map(|_| send(&mut aliases, &topic(1))).collect();
        assert_eq!(choices, [Choice::Plain, Choice::New(1), Choice::Known(1), Choice::Known(1)]);
    }

    #[test]
    fn an_alias_that_was_not_written_is_not_known() {
        let mut aliases = AliasesOut::new(2);
        aliases.choose(&topic(1));
        assert_eq!(aliases.choose(&topic(1)), Choice::New(1));
        assert_eq!(aliases.choose(&topic(1)), Choice::New(1), "the first was too large for the client");
    }

    #[test]
    fn a_busier_topic_takes_the_alias_of_one_that_went_quiet() {
        let mut aliases = AliasesOut::new(2);
        for number in [1, 2, 1, 2] {
            send(&mut aliases, &topic(number));
        }
        for _ in 0..10 {
            send(&mut aliases, &topic(1));
        }
        let choices: Vec<Choice> = (0..12).map(|_| send(&mut aliases, &topic(3))).collect();
        assert!(choices.contains(&Choice::New(2)), "topic 2 came twice only: {choices:?}");
        assert_eq!(choices.last(), Some(&Choice::Known(2)));
        assert_eq!(send(&mut aliases, &topic(1)), Choice::Known(1), "the busy one keeps its alias");
    }

    #[test]
    fn topics_that_come_once_take_no_alias_from_a_busy_one() {
        let mut aliases = AliasesOut::new(1);
        let mut plain = 0;
        for number in 0..10_000 {
            plain += u32::from(!matches!(send(&mut aliases, &topic(0)), Choice::Known(1)));
            send(&mut aliases, &topic(1_000 + number));
        }
        assert!(plain < 100, "{plain} of 10,000 went without");
    }

    proptest! {
        /// What a client understands is what was meant, whatever is sent and whatever is lost before it is written.
        #[test]
        fn a_client_that_follows_the_aliases_reads_the_right_topics(
            sent in prop::collection::vec((0..30_u32, any::<bool>()), 1..600),
            max in 1..8_u16,
        ) {
            let mut aliases = AliasesOut::new(max);
            let mut client: HashMap<u16, TopicName> = HashMap::new();
            for (number, is_written) in sent {
                let topic = topic(number);
                match aliases.choose(&topic) {
                    Choice::Plain => {}
                    Choice::Known(alias) => prop_assert_eq!(client.get(&alias), Some(&topic)),
                    Choice::New(alias) if is_written => {
                        prop_assert!((1..=max).contains(&alias));
                        aliases.learn(&topic, alias);
                        client.insert(alias, topic);
                    }
                    Choice::New(_) => {}
                }
            }
        }
    }
}
