//! When a connection that says nothing counts as dead. Pure.
//!
//! rumqttc notices a missing PINGRESP only at its next ping, one whole keep alive later, and a write that blocks on a
//! half-open connection not at all. Here both have a deadline. The interval is fixed for now; a learned heartbeat
//! would choose it and feed on `answered` and on the deadline's passing.

use std::time::{Duration, Instant};

/// Watches one network connection.
#[derive(Clone, Copy, Debug)]
pub struct Liveness {
    keep_alive: Duration,
    answer_max: Duration,
    state: State,
}

/// ```text
///            ping written
///   Flowing ------------> Asked
///      ^                    |
///      +--------------------+
///         any packet arrived
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Packets go or come; at the latest after `keep_alive` there must be a ping.
    Flowing { since: Instant },
    /// A ping went out and nothing came since.
    Asked { at: Instant },
}

impl Liveness {
    /// A connection that was just accepted. `keep_alive` is the interval in force, `answer_max` the patience with a ping.
    pub fn new(keep_alive: Duration, answer_max: Duration, now: Instant) -> Self {
        Self { keep_alive, answer_max, state: State::Flowing { since: now } }
    }

    /// A packet other than a ping was written.
    pub fn wrote(&mut self, now: Instant) {
        if let State::Flowing { since } = &mut self.state {
            *since = now;
        }
    }

    /// A ping was written.
    pub fn asked(&mut self, now: Instant) {
        if let State::Flowing { .. } = self.state {
            self.state = State::Asked { at: now };
        }
    }

    /// Any packet arrived: the path lives, whatever the packet was.
    pub fn answered(&mut self, now: Instant) {
        self.state = State::Flowing { since: now };
    }

    /// When the connection counts as dead unless something happens before.
    pub fn deadline(&self) -> Instant {
        match self.state {
            State::Flowing { since } => since + self.keep_alive + self.answer_max,
            State::Asked { at } => at + self.answer_max,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEEP_ALIVE: Duration = Duration::from_secs(60);
    const ANSWER_MAX: Duration = Duration::from_secs(10);

    #[test]
    fn a_ping_without_an_answer_ends_the_connection_after_ten_seconds() {
        let start = Instant::now();
        let mut liveness = Liveness::new(KEEP_ALIVE, ANSWER_MAX, start);
        let asked = start + KEEP_ALIVE;
        liveness.asked(asked);
        liveness.wrote(asked + Duration::from_secs(5)); // our own writes prove nothing
        assert_eq!(liveness.deadline(), asked + ANSWER_MAX);
        liveness.answered(asked + Duration::from_secs(9));
        assert_eq!(liveness.deadline(), asked + Duration::from_secs(9) + KEEP_ALIVE + ANSWER_MAX);
    }

    #[test]
    fn a_ping_that_cannot_even_be_written_ends_the_connection_too() {
        let start = Instant::now();
        let liveness = Liveness::new(KEEP_ALIVE, ANSWER_MAX, start);
        assert_eq!(liveness.deadline(), start + KEEP_ALIVE + ANSWER_MAX);
    }
}
