//! The handshakes of one listener on one shard: how many run, and which of them ends to make room.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;
use std::time::{Duration, Instant};
use tokio::sync::Notify;
use tokio::task::AbortHandle;
use tokio::time::timeout;

/// How long a handshake keeps its place against newcomers. A real client needs some round trips, a silent one stays until
/// the deadline: when all places are taken, the oldest silent one goes instead of the newest honest one.
const GRACE: Duration = Duration::from_secs(2);

/// Handshakes that run, the oldest first.
#[derive(Debug, Default)]
pub(super) struct Handshakes {
    running: RefCell<VecDeque<(u64, Instant, Option<AbortHandle>)>>,
    ended: Notify,
}

/// How a newcomer gets its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// There is one.
    Free,
    /// An old handshake was ended for it.
    MadeFree,
    /// It has to wait: one has to end, or so much time to pass.
    Wait(Duration),
}

/// One handshake, counted while it runs.
#[derive(Debug)]
pub(super) struct Running {
    handshakes: Rc<Handshakes>,
    number: u64,
}

impl Handshakes {
    /// Waits for a place; says whether it had to, and whether an old handshake was ended for it.
    pub(super) async fn place(&self, max: usize) -> (bool, Place) {
        let mut waited = false;
        loop {
            match self.make_room(max, Instant::now()) {
                Place::Wait(time) => {
                    waited = true;
                    let _ = timeout(time, self.ended.notified()).await; // either way there may be a place
                }
                place => return (waited, place),
            }
        }
    }

    /// Makes room for one more, when it can.
    fn make_room(&self, max: usize, now: Instant) -> Place {
        let mut running = self.running.borrow_mut();
        if running.len() < max {
            return Place::Free;
        }
        let Some((_, began, Some(task))) = running.front() else { return Place::Wait(GRACE) };
        let age = now.saturating_duration_since(*began);
        if age < GRACE {
            return Place::Wait(GRACE - age);
        }
        task.abort();
        running.pop_front();
        Place::MadeFree
    }

    /// Counts one from now on.
    pub(super) fn begin(self: &Rc<Self>, number: u64, now: Instant) -> Running {
        self.running.borrow_mut().push_back((number, now, None));
        Running { handshakes: Rc::clone(self), number }
    }

    /// The task that carries it out.
    pub(super) fn is_carried_out_by(&self, number: u64, task: AbortHandle) {
        if let Some((_, _, place)) = self.running.borrow_mut().iter_mut().rev().find(|(no, ..)| *no == number)
        {
            *place = Some(task);
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let mut running = self.handshakes.running.borrow_mut();
        // Numbers grow, so the place is found without looking at every other one.
        if let Ok(at) = running.binary_search_by_key(&self.number, |(number, ..)| *number) {
            running.remove(at);
            self.handshakes.ended.notify_one();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_oldest_silent_handshake_makes_room_and_a_young_one_keeps_its_place() {
        let (handshakes, start) = (Rc::new(Handshakes::default()), Instant::now());
        let task = tokio::spawn(std::future::pending::<()>());
        let first = handshakes.begin(1, start);
        handshakes.is_carried_out_by(1, task.abort_handle());
        let second = handshakes.begin(2, start + GRACE);
        assert_eq!(handshakes.make_room(3, start), Place::Free);
        assert_eq!(handshakes.make_room(2, start + GRACE / 2), Place::Wait(GRACE / 2));
        assert_eq!(handshakes.make_room(2, start + GRACE), Place::MadeFree);
        assert!(task.await.unwrap_err().is_cancelled());
        drop(first); // as the end of its task does
        assert_eq!(handshakes.running.borrow().len(), 1);
        drop(second);
        assert!(handshakes.running.borrow().is_empty());
    }

    #[tokio::test]
    async fn a_newcomer_waits_for_the_end_of_another_handshake() {
        let handshakes = Rc::new(Handshakes::default());
        let running = handshakes.begin(1, Instant::now() + GRACE * 1000); // young for as long as the test takes
        let (place, ()) = tokio::join!(handshakes.place(1), async { drop(running) });
        assert_eq!(place, (true, Place::Free));
    }
}
