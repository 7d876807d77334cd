//! What happens, told live: the newest events in memory, for readers that stay connected and for people.
//!
//! Events are published when the transaction that they tell of is durable. The newest are kept in a ring, so that a
//! reader whose connection broke goes on where it was; after a restart of the process the ring is empty, and a reader
//! is told that it may have missed something. Webhooks are the durable way.

pub(crate) mod reader;

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use reveille_proto::ids::AppId;
use serde_json::{Value, json};
use tokio::sync::{Semaphore, broadcast};

use crate::messages::new_id;
use crate::sender::tasks::lock;
use crate::webhooks::{self, Pattern, UnknownEvent};

/// Events that are kept.
const KEPT_MAX: usize = 10_000;
/// Their size at most, in bytes.
const KEPT_BYTES_MAX: usize = 8 * 1024 * 1024;
/// Events that a reader may be behind.
const BEHIND_MAX: usize = 1_024;
/// Readers at once.
const READERS_MAX: usize = 64;

/// A vendor failed again and again: its pushes wait while it is probed.
pub(crate) const VENDOR_FAILING: &str = "vendor.failing";
/// It works again.
pub(crate) const VENDOR_WORKING: &str = "vendor.working";
/// A device's network connection began.
pub(crate) const DEVICE_ONLINE: &str = "device.online";
/// It ended.
pub(crate) const DEVICE_OFFLINE: &str = "device.offline";

/// Whether events of this name are told live. Those of single deliveries are told by webhooks: a large message would
/// drive everything else out of the ring.
pub(crate) fn is_live(name: &str) -> bool {
    !name.starts_with("delivery.")
}

/// Whether events of this name are told to present readers only: phones come and go all the time.
fn is_fleeting(name: &str) -> bool {
    name.starts_with("device.")
}

/// Something that happened.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct News {
    /// The same as webhooks are told.
    pub id: String,
    pub app: AppId,
    pub name: String,
    /// Whom it is about.
    pub about: String,
    /// In milliseconds since 1970.
    pub at_ms: u64,
    pub data: Value,
}

impl News {
    /// News with an id of its own.
    pub fn new(app: &AppId, name: &str, about: &str, at_ms: u64, data: Value) -> Self {
        let (id, name, about) = (new_id().to_string(), name.to_owned(), about.to_owned());
        Self { id, app: app.clone(), name, about, at_ms, data }
    }
}

/// Something that happened, in its place.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Event {
    /// Its number since the start; `None`: it is not kept.
    pub number: Option<u64>,
    pub news: News,
    /// What readers get, in the form of server-sent events.
    frame: String,
}

impl Event {
    fn new(start: &str, number: Option<u64>, news: News) -> Self {
        let body = json!({"id": news.id, "event": news.name, "app": news.app.as_str(), "about": news.about,
            "at_ms": news.at_ms, "data": news.data});
        let id = number.map(|number| format!("id: {start}-{number}\n")).unwrap_or_default();
        let frame = format!("{id}event: {}\ndata: {body}\n\n", news.name); // JSON has no line breaks
        Self { number, news, frame }
    }
}

/// Which events somebody wants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Wish {
    /// `None`: of every app.
    pub app: Option<AppId>,
    /// Empty: all but those that only come when they are named.
    pub types: Vec<Pattern>,
}

impl Wish {
    /// Reads names and patterns separated by commas.
    ///
    /// # Errors
    /// [`UnknownEvent`] when one of them matches no event that is told live.
    pub fn new(app: Option<AppId>, types: &str) -> Result<Self, UnknownEvent> {
        let live = [VENDOR_FAILING, VENDOR_WORKING, DEVICE_ONLINE, DEVICE_OFFLINE];
        let names = || webhooks::NAMES.into_iter().chain(live);
        let parts = types.split(',').map(str::trim).filter(|part| !part.is_empty());
        let types = parts.map(|part| Pattern::of(part, names())).collect::<Result<_, _>>()?;
        Ok(Self { app, types })
    }

    fn fits(&self, news: &News) -> bool {
        let is_own = self.app.as_ref().is_none_or(|app| *app == news.app);
        is_own && self.names(&news.name)
    }

    fn names(&self, name: &str) -> bool {
        match self.types.as_slice() {
            [] => !is_fleeting(name),
            types => types.iter().any(|pattern| pattern.fits(name)),
        }
    }

    fn wants_devices(&self) -> bool {
        self.names(DEVICE_ONLINE) || self.names(DEVICE_OFFLINE)
    }
}

struct Ring {
    last: u64,
    kept: VecDeque<Arc<Event>>,
    bytes: usize,
    /// `None` when the bridge stops. Sent to under the ring's lock, so that a reader that joins misses none.
    live: Option<broadcast::Sender<Arc<Event>>>,
}

/// The newest events, and everybody who reads them.
pub(crate) struct Events {
    /// Tells this start of the process from others, in ids.
    start: String,
    ring: Mutex<Ring>,
    /// Readers that want to know of devices.
    for_devices: AtomicUsize,
    readers: Arc<Semaphore>,
}

impl Default for Events {
    fn default() -> Self {
        let live = Some(broadcast::channel(BEHIND_MAX).0);
        Self {
            start: format!("{:08x}", rand::random::<u32>()),
            ring: Mutex::new(Ring { last: 0, kept: VecDeque::new(), bytes: 0, live }),
            for_devices: AtomicUsize::new(0),
            readers: Arc::new(Semaphore::new(READERS_MAX)),
        }
    }
}

impl Events {
    /// Tells everybody who wants to know.
    pub fn publish(&self, news: News) {
        let mut ring = lock(&self.ring);
        let number = (!is_fleeting(&news.name)).then_some(ring.last + 1);
        let event = Arc::new(Event::new(&self.start, number, news));
        if number.is_some() {
            ring.keep(Arc::clone(&event));
        }
        if let Some(live) = &ring.live {
            let _ = live.send(event); // nobody reads
        }
    }

    /// Whether anybody wants to know of devices that come and go.
    pub fn wants_devices(&self) -> bool {
        self.for_devices.load(Ordering::Relaxed) > 0
    }

    /// The newest events that fit, newest first.
    pub fn newest(&self, wish: &Wish, limit: usize) -> Vec<Arc<Event>> {
        let ring = lock(&self.ring);
        let fitting = ring.kept.iter().rev().filter(|event| wish.fits(&event.news));
        fitting.take(limit).cloned().collect()
    }

    /// Ends every reader: the bridge stops.
    pub fn close(&self) {
        lock(&self.ring).live = None;
    }
}

impl Ring {
    fn keep(&mut self, event: Arc<Event>) {
        self.last += 1;
        self.bytes += event.frame.len();
        self.kept.push_back(event);
        while self.kept.len() > KEPT_MAX || self.bytes > KEPT_BYTES_MAX {
            let Some(oldest) = self.kept.pop_front() else { break };
            self.bytes -= oldest.frame.len();
        }
    }

    /// The events after a number, unless some of them are gone.
    fn after(&self, number: u64) -> Option<Vec<Arc<Event>>> {
        let first = self.kept.front().map_or(self.last + 1, |event| event.number.unwrap_or(0));
        let is_whole = number <= self.last && number + 1 >= first;
        let later = |event: &&Arc<Event>| event.number > Some(number);
        is_whole.then(|| self.kept.iter().filter(later).cloned().collect())
    }
}

#[cfg(test)]
mod tests;
