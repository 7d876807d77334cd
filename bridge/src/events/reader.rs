//! One reader: what it missed, then what happens, until it goes, is too slow, or the bridge stops.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use hyper::body::{Body, Frame};
use tokio::sync::{OwnedSemaphorePermit, broadcast, mpsc};

use super::{Event, Events, Wish};
use crate::sender::tasks::lock;

/// A comment after this time without an event shows both ends that the connection works.
const HEARTBEAT: Duration = Duration::from_secs(15);
/// How long a reader may take to take one frame.
const SLOW: Duration = Duration::from_secs(30);
/// Frames that wait for the socket.
const FRAMES: usize = 16;
/// What comes first: after how many milliseconds to come back, when the connection breaks.
const GREETING: &str = "retry: 3000\n\n";

/// Where a reader begins.
struct Place {
    /// Events that it missed.
    missed: Vec<Arc<Event>>,
    /// Whether it missed others that are not kept any more.
    has_gap: bool,
    live: broadcast::Receiver<Arc<Event>>,
}

/// A body that is made while it is sent.
pub(crate) struct Frames(mpsc::Receiver<Bytes>);

impl Frames {
    /// Whatever is put into this channel.
    pub fn new(frames: mpsc::Receiver<Bytes>) -> Self {
        Self(frames)
    }
}

impl Body for Frames {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        self.0.poll_recv(context).map(|bytes| bytes.map(|bytes| Ok(Frame::data(bytes))))
    }
}

/// Lets somebody read, from behind the event with this id. `None`: too many read already, or the bridge stops.
pub(crate) fn read(events: &Arc<Events>, wish: Wish, last_id: Option<&str>) -> Option<Frames> {
    let permit = Arc::clone(&events.readers).try_acquire_owned().ok()?;
    let place = events.place(last_id)?;
    let (out, frames) = mpsc::channel(FRAMES);
    if wish.wants_devices() {
        events.for_devices.fetch_add(1, Ordering::Relaxed);
    }
    tokio::spawn(follow(Arc::clone(events), wish, place, out, permit));
    Some(Frames(frames))
}

impl Events {
    fn place(&self, last_id: Option<&str>) -> Option<Place> {
        let ring = lock(&self.ring);
        let live = ring.live.as_ref()?.subscribe();
        let missed = match last_id {
            None => Some(Vec::new()),
            Some(id) => self.number(id).and_then(|number| ring.after(number)),
        };
        Some(Place { has_gap: missed.is_none(), missed: missed.unwrap_or_default(), live })
    }

    /// The number in an id of this start.
    fn number(&self, id: &str) -> Option<u64> {
        id.strip_prefix(&self.start)?.strip_prefix('-')?.parse().ok()
    }
}

/// Why a reader is not read to any more.
enum Ended {
    Gone,
    Slow,
    Stopping,
}

async fn follow(
    events: Arc<Events>,
    wish: Wish,
    place: Place,
    out: mpsc::Sender<Bytes>,
    _permit: OwnedSemaphorePermit,
) {
    // Room for the last word, whatever else waits.
    let last = out.clone().reserve_owned().await;
    let ended = tokio::select! {
        ended = tell(&wish, place, &out) => ended,
        () = out.closed() => Ended::Gone,
    };
    if wish.wants_devices() {
        events.for_devices.fetch_sub(1, Ordering::Relaxed);
    }
    let Ok(last) = last else { return };
    match ended {
        Ended::Gone => {}
        Ended::Slow => drop(last.send(word("events.cut", "too slow: connect again to go on where you were"))),
        Ended::Stopping => drop(last.send(word("events.cut", "the server stops"))),
    }
}

async fn tell(wish: &Wish, place: Place, out: &mpsc::Sender<Bytes>) -> Ended {
    let Place { missed, has_gap, mut live } = place;
    let gap = "events between the last id and now are not kept any more, or are of an earlier start";
    let gap = has_gap.then(|| word("events.gap", gap));
    let frames = std::iter::once(Bytes::from_static(GREETING.as_bytes())).chain(gap);
    let missed = missed.iter().filter(|event| wish.fits(&event.news)).map(|event| frame(event));
    for frame in frames.chain(missed) {
        if !give(out, frame).await {
            return Ended::Slow;
        }
    }
    loop {
        let frame = match tokio::time::timeout(HEARTBEAT, live.recv()).await {
            Ok(Ok(event)) if wish.fits(&event.news) => frame(&event),
            Ok(Ok(_)) => continue,
            Ok(Err(broadcast::error::RecvError::Lagged(_))) => return Ended::Slow,
            Ok(Err(broadcast::error::RecvError::Closed)) => return Ended::Stopping,
            Err(_) => Bytes::from_static(b":\n\n"),
        };
        if !give(out, frame).await {
            return Ended::Slow;
        }
    }
}

async fn give(out: &mpsc::Sender<Bytes>, frame: Bytes) -> bool {
    out.send_timeout(frame, SLOW).await.is_ok()
}

fn frame(event: &Event) -> Bytes {
    Bytes::copy_from_slice(event.frame.as_bytes())
}

/// An event about the reading itself.
fn word(name: &str, reason: &str) -> Bytes {
    format!("event: {name}\ndata: {}\n\n", serde_json::json!({"reason": reason})).into()
}
