//! What waits to be sent and what waits for its acknowledgement, across reconnects. Pure.
//!
//! rumqttc loses publishes when the broker has forgotten the session, resends them in the order of packet identifiers
//! without DUP, and stalls when an identifier is used again too early. So this side keeps its own copy of everything,
//! resends in the original order, and hands over a packet only when the identifier that rumqttc will give it is free.
//! rumqttc counts identifiers from 1 up to the smaller of its own limit and the broker's Receive Maximum, then begins
//! again; the driver gives it a fresh state for each connection, so the count can be followed from here.

use std::collections::VecDeque;

/// What decides the life of an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A publish with QoS 0: done when it is written.
    AtMostOnce,
    /// A publish with QoS 1: done with PUBACK.
    AtLeastOnce,
    /// A publish with QoS 2: done with PUBCOMP or a refusing PUBREC.
    ExactlyOnce,
    /// SUBSCRIBE or UNSUBSCRIBE: done with SUBACK or UNSUBACK, asked again on the next connection.
    Question,
}

impl Kind {
    /// Whether the standard has it repeated under the same identifier on the next connection. `[MQTT5-4.4.0-1]`
    fn is_repeated(self) -> bool {
        matches!(self, Self::AtLeastOnce | Self::ExactlyOnce)
    }
}

/// ```text
///  handed over --written--> Written --PUBREC--> Released --PUBCOMP--> done
///   Unwritten                  +------PUBACK / SUBACK------------> done
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    Unwritten,
    Written,
    Released,
}

#[derive(Debug)]
struct Entry<B> {
    kind: Kind,
    body: B,
}

#[derive(Debug)]
struct Sent<B> {
    packet_id: u16,
    entry: Entry<B>,
    stage: Stage,
    /// Handed over on the connection that lives now, not only on an earlier one.
    is_current: bool,
}

/// One direction's memory. `B` is what the shell keeps with an entry: packet and waiter.
#[derive(Debug)]
pub(crate) struct Outbox<B> {
    waiting: VecDeque<Entry<B>>,
    sent: VecDeque<Sent<B>>,
    waiting_max: usize,
    /// How many may be handed over and not done; at most `ids_max`.
    window: usize,
    /// The wish behind `window`, before the broker's Receive Maximum.
    window_max: usize,
    /// The last identifier before rumqttc begins again at 1.
    ids_max: u16,
    last_id: u16,
    is_connected: bool,
}

impl<B> Outbox<B> {
    /// `waiting_max` bounds what waits, `window_max` what is in flight.
    pub fn new(waiting_max: usize, window_max: usize) -> Self {
        Self {
            waiting: VecDeque::new(),
            sent: VecDeque::new(),
            waiting_max,
            window: 0,
            window_max,
            ids_max: 1,
            last_id: 0,
            is_connected: false,
        }
    }

    /// Whether another entry may be pushed.
    pub fn has_room(&self) -> bool {
        self.waiting.len() < self.waiting_max
    }

    /// Queues an entry behind the others; the caller looked at [`Self::has_room`].
    pub fn push(&mut self, kind: Kind, body: B) {
        self.waiting.push_back(Entry { kind, body });
    }

    /// Queues an entry before the others: what a lost session must know first.
    pub fn push_front(&mut self, kind: Kind, body: B) {
        self.waiting.push_front(Entry { kind, body });
    }

    /// A connection is up. `ids_max` is where rumqttc's count begins again, never 0.
    ///
    /// Without its session the broker knows nothing of what was sent: it is sent anew, except what the broker had
    /// taken over with PUBREC. What became of that nobody can know; it is returned.
    pub fn connected(&mut self, session_present: bool, ids_max: u16) -> Vec<B> {
        self.ids_max = ids_max.max(1);
        self.last_id = 0;
        // Half of the identifiers stay free, so that one late acknowledgement does not hold up the count.
        self.window = usize::from(self.ids_max / 2).clamp(1, self.window_max.max(1));
        self.is_connected = true;
        if session_present { Vec::new() } else { self.start_over() }
    }

    /// The connection is gone: what was never written and what is not repeated waits again, in its old order.
    pub fn lost(&mut self) {
        self.is_connected = false;
        let (kept, again) = std::mem::take(&mut self.sent)
            .into_iter()
            .partition(|sent| sent.entry.kind.is_repeated() && sent.stage != Stage::Unwritten);
        self.sent = kept;
        self.sent.iter_mut().for_each(|sent| sent.is_current = false);
        self.wait_again(again);
    }

    /// The next packet to repeat on this connection, with its old identifier; `Released` means PUBREL.
    pub fn next_repeated(&mut self) -> Option<(u16, Stage, &B)> {
        let current = self.sent.iter().filter(|sent| sent.is_current).count();
        if !self.is_connected || current >= usize::from(self.ids_max) {
            return None;
        }
        let sent = self.sent.iter_mut().find(|sent| !sent.is_current)?;
        sent.is_current = true;
        Some((sent.packet_id, sent.stage, &sent.entry.body))
    }

    /// The next new packet; rumqttc will give it the identifier `.0`, which is free (0 for QoS 0).
    pub fn next_new(&mut self) -> Option<(u16, Kind, &B)> {
        let is_ready = self.is_connected
            && self.sent.len() < self.window
            && self.sent.iter().all(|sent| sent.is_current);
        let kind = self.waiting.front().filter(|_| is_ready)?.kind;
        let packet_id = if kind == Kind::AtMostOnce { 0 } else { self.take_next_id()? };
        let entry = self.waiting.pop_front()?;
        self.sent.push_back(Sent { packet_id, entry, stage: Stage::Unwritten, is_current: true });
        debug_assert!(self.sent.len() <= self.window, "no more in flight than the window");
        self.sent.back().map(|sent| (packet_id, kind, &sent.entry.body))
    }

    /// The entry that [`Self::next_new`] would hand over next, if it may.
    pub fn front(&self) -> Option<&B> {
        self.waiting.front().map(|entry| &entry.body)
    }

    /// Takes out the entry that waits longest, because it can never be sent.
    pub fn reject_front(&mut self) -> Option<B> {
        self.waiting.pop_front().map(|entry| entry.body)
    }

    /// rumqttc wrote a packet. Returns the entry that is done with that: a publish with QoS 0.
    pub fn written(&mut self, packet_id: u16) -> Option<B> {
        if packet_id == 0 {
            return self.take(|sent| sent.entry.kind == Kind::AtMostOnce);
        }
        let sent = self.sent.iter_mut().find(|sent| sent.packet_id == packet_id)?;
        if sent.stage == Stage::Unwritten {
            sent.stage = Stage::Written;
        }
        None
    }

    /// PUBREC without refusal: the broker owns the message.
    pub fn received(&mut self, packet_id: u16) {
        let known = |sent: &&mut Sent<B>| sent.packet_id == packet_id && sent.entry.kind == Kind::ExactlyOnce;
        if let Some(sent) = self.sent.iter_mut().find(known) {
            sent.stage = Stage::Released;
        }
    }

    /// The acknowledgement that ends an entry of this kind; `None` when nobody waits for it.
    pub fn done(&mut self, packet_id: u16, kind: Kind) -> Option<B> {
        self.take(|sent| sent.packet_id == packet_id && sent.entry.kind == kind)
    }

    /// Everything that is left, when the client closes.
    pub fn drain(&mut self) -> Vec<B> {
        let sent = std::mem::take(&mut self.sent).into_iter().map(|sent| sent.entry.body);
        sent.chain(std::mem::take(&mut self.waiting).into_iter().map(|entry| entry.body)).collect()
    }

    fn start_over(&mut self) -> Vec<B> {
        let (released, again): (VecDeque<_>, VecDeque<_>) =
            std::mem::take(&mut self.sent).into_iter().partition(|sent| sent.stage == Stage::Released);
        self.wait_again(again);
        released.into_iter().map(|sent| sent.entry.body).collect()
    }

    fn wait_again(&mut self, again: VecDeque<Sent<B>>) {
        again.into_iter().rev().for_each(|sent| self.waiting.push_front(sent.entry));
    }

    fn take(&mut self, wanted: impl Fn(&Sent<B>) -> bool) -> Option<B> {
        let at = self.sent.iter().position(wanted)?;
        self.sent.remove(at).map(|sent| sent.entry.body)
    }

    /// Follows rumqttc's count; `None` while the next identifier is in use.
    fn take_next_id(&mut self) -> Option<u16> {
        let next = self.last_id + 1;
        if self.sent.iter().any(|sent| sent.packet_id == next) {
            return None;
        }
        self.last_id = if next >= self.ids_max { 0 } else { next };
        Some(next)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn connected(window: usize, ids_max: u16) -> Outbox<u32> {
        let mut outbox = Outbox::new(1_000, window);
        outbox.connected(false, ids_max);
        outbox
    }

    fn hand_over(outbox: &mut Outbox<u32>) -> Vec<(u16, u32)> {
        std::iter::from_fn(|| outbox.next_new().map(|(id, _, body)| (id, *body))).collect()
    }

    fn repeat(outbox: &mut Outbox<u32>) -> Vec<(u16, Stage, u32)> {
        std::iter::from_fn(|| outbox.next_repeated().map(|(id, stage, body)| (id, stage, *body))).collect()
    }

    #[test]
    fn no_more_is_in_flight_than_the_window_and_half_of_the_identifiers() {
        for (window, ids_max, in_flight) in [(3, 100, 3), (64, 10, 5), (64, 1, 1), (0, 10, 1)] {
            let mut outbox = connected(window, ids_max);
            (0..100).for_each(|n| outbox.push(Kind::AtLeastOnce, n));
            assert_eq!(hand_over(&mut outbox).len(), in_flight, "window {window}, ids {ids_max}");
        }
    }

    #[test]
    fn an_identifier_is_not_used_again_while_it_is_in_flight() {
        let mut outbox = connected(2, 4);
        (0..10).for_each(|n| outbox.push(Kind::ExactlyOnce, n));
        assert_eq!(hand_over(&mut outbox), [(1, 0), (2, 1)]);
        for (done, next) in [(2, (3, 2)), (3, (4, 3))] {
            assert!(outbox.done(done, Kind::ExactlyOnce).is_some());
            assert_eq!(hand_over(&mut outbox), [next]);
        }
        outbox.done(4, Kind::ExactlyOnce);
        assert_eq!(hand_over(&mut outbox), [], "1 comes next and is still in flight");
        outbox.done(1, Kind::ExactlyOnce);
        assert_eq!(hand_over(&mut outbox), [(1, 4), (2, 5)]);
    }

    #[test]
    fn a_resumed_session_gets_repetitions_in_the_original_order_before_anything_new() {
        let mut outbox = connected(4, 100);
        for (n, kind) in
            [Kind::AtLeastOnce, Kind::ExactlyOnce, Kind::Question, Kind::AtLeastOnce].into_iter().enumerate()
        {
            outbox.push(kind, n as u32);
        }
        outbox.push(Kind::AtLeastOnce, 9);
        hand_over(&mut outbox);
        (1..=3).for_each(|id| assert_eq!(outbox.written(id), None));
        outbox.received(2);
        outbox.lost();
        assert_eq!(hand_over(&mut outbox), [], "nothing goes out without a connection");
        outbox.connected(true, 100);
        assert_eq!(hand_over(&mut outbox), [], "repetitions first");
        assert_eq!(repeat(&mut outbox), [(1, Stage::Written, 0), (2, Stage::Released, 1)]);
        assert_eq!(hand_over(&mut outbox), [], "1 is in flight");
        outbox.done(1, Kind::AtLeastOnce);
        outbox.done(2, Kind::ExactlyOnce);
        assert_eq!(
            hand_over(&mut outbox),
            [(1, 2), (2, 3), (3, 9)],
            "unwritten and questions wait again in order"
        );
    }

    #[test]
    fn a_lost_session_gets_everything_anew_except_what_the_broker_had_taken_over() {
        let mut outbox = connected(4, 100);
        (0..3).for_each(|n| outbox.push(Kind::ExactlyOnce, n));
        hand_over(&mut outbox);
        (1..=3).for_each(|id| assert_eq!(outbox.written(id), None));
        outbox.received(1);
        outbox.lost();
        assert_eq!(outbox.connected(false, 100), [0]);
        assert_eq!(hand_over(&mut outbox), [(1, 1), (2, 2)]);
    }

    #[test]
    fn qos_0_is_done_when_it_is_written() {
        let mut outbox = connected(4, 100);
        outbox.push(Kind::AtMostOnce, 5);
        assert_eq!(hand_over(&mut outbox), [(0, 5)]);
        assert_eq!(outbox.written(0), Some(5));
        assert!(outbox.drain().is_empty());
    }

    #[derive(Clone, Copy, Debug)]
    enum Step {
        Push(Kind),
        Write,
        Acknowledge(usize),
        Receive(usize),
        Break(bool, u16),
    }

    fn step() -> impl Strategy<Value = Step> {
        let kind = prop::sample::select(vec![
            Kind::AtMostOnce,
            Kind::AtLeastOnce,
            Kind::ExactlyOnce,
            Kind::Question,
        ]);
        prop_oneof![
            4 => kind.prop_map(Step::Push),
            4 => Just(Step::Write),
            4 => any::<usize>().prop_map(Step::Acknowledge),
            1 => any::<usize>().prop_map(Step::Receive),
            1 => (any::<bool>(), 1_u16..20).prop_map(|(present, ids)| Step::Break(present, ids)),
        ]
    }

    proptest! {
        #[test]
        fn nothing_is_lost_or_doubled_and_identifiers_in_flight_differ(steps in prop::collection::vec(step(), 0..200)) {
            let mut outbox = connected(4, 10);
            let (mut pushed, mut done) = (0, Vec::new());
            for step in steps {
                match step {
                    Step::Push(kind) => { outbox.push(kind, pushed); pushed += 1; }
                    Step::Write => {
                        let unwritten = outbox.sent.iter().find(|sent| sent.stage == Stage::Unwritten);
                        if let Some(packet_id) = unwritten.map(|sent| sent.packet_id) {
                            done.extend(outbox.written(packet_id));
                        }
                    }
                    Step::Acknowledge(n) => {
                        let known = outbox.sent.iter().filter(|sent| sent.packet_id != 0).nth(n % 4);
                        if let Some((id, kind)) = known.map(|sent| (sent.packet_id, sent.entry.kind)) {
                            done.extend(outbox.done(id, kind));
                        }
                    }
                    Step::Receive(n) => {
                        let id = outbox.sent.get(n % 4).map(|sent| sent.packet_id);
                        id.into_iter().for_each(|id| outbox.received(id));
                    }
                    Step::Break(session_present, ids_max) => {
                        outbox.lost();
                        done.extend(outbox.connected(session_present, ids_max));
                        repeat(&mut outbox);
                    }
                }
                repeat(&mut outbox);
                hand_over(&mut outbox);
                let mut ids: Vec<_> = outbox.sent.iter().map(|sent| sent.packet_id).filter(|id| *id != 0).collect();
                ids.sort_unstable();
                let number = ids.len();
                ids.dedup();
                prop_assert_eq!(ids.len(), number);
            }
            done.extend(outbox.drain());
            done.sort_unstable();
            prop_assert_eq!(done, (0..pushed).collect::<Vec<_>>());
        }
    }
}
