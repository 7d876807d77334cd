//! Accepting: one task a listener and shard, which nothing that a client does can stop.

use super::handshakes::{Handshakes, Place};
use super::{Listener, TurnedAway};
use crate::auth::Door;
use crate::handshake::shake_hands;
use crate::host::Host;
use crate::transport::awaited::watched;
use crate::transport::socket::Socket;
use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};
use tokio::io::Interest;
use tokio::task::spawn_local;
use tokio::time::sleep;

/// Pause when the process has no file descriptor left: some connection has to end first.
const DESCRIPTOR_PAUSE: Duration = Duration::from_millis(100);

/// Accepts until the shard aborts it.
pub(crate) async fn accept(host: Rc<Host>, listener: Arc<Listener>, acceptor: OwnedFd) {
    let accepting = match watched(acceptor, Interest::READABLE) {
        Ok(accepting) => accepting,
        Err(error) => {
            return tracing::error!(%error, listener = &*listener.name, "a listener could not be served");
        }
    };
    let handshakes = Rc::new(Handshakes::default());
    let mut is_short = false;
    let overload = &host.shared.health.overload;
    for number in 0.. {
        match accepting.async_io(Interest::READABLE, |listener: &OwnedFd| Socket::accept(listener)).await {
            Ok((socket, address)) => {
                while listener.door != Door::Internal && !overload.accepts() {
                    overload.relief().await; // this one waits here, the others in the kernel's queue
                }
                is_short = false;
                host.count(|counters| counters.accepted += 1);
                listener.accepted.fetch_add(1, Ordering::Relaxed);
                greet(&host, &listener, &handshakes, number, (socket, address)).await;
            }
            Err(error) if is_shortage(&error) => {
                if !is_short {
                    tracing::error!(%error, "no connection can be accepted: raise the limit of open files");
                }
                is_short = true;
                sleep(DESCRIPTOR_PAUSE).await;
            }
            Err(_) => {} // the client was gone before we came
        }
    }
}

/// Beyond a rate the socket is closed unheard: answering would need the CONNECT that there is no room for. Beyond the
/// handshakes that may run it waits, and the others in the kernel's queue: closing it would cost an honest client its TLS
/// ticket and a pause, and an attacker nothing.
async fn greet(
    host: &Rc<Host>,
    listener: &Arc<Listener>,
    handshakes: &Rc<Handshakes>,
    number: u64,
    (socket, address): (Socket, Option<SocketAddr>),
) {
    let now = Instant::now();
    if let Err(why) = listener.check(address.map(|address| address.ip()), now) {
        listener.turned_away.fetch_add(1, Ordering::Relaxed);
        return host.count(|counters| match why {
            TurnedAway::NoProxy => counters.refused_untrusted_proxies += 1,
            TurnedAway::Rate => counters.refused_rate += 1,
            TurnedAway::AddressRate => counters.refused_address_rate += 1,
        });
    }
    let (waited, place) = handshakes.place(listener.handshakes_max(&host.shared.limits.load().shell)).await;
    host.count(|counters| {
        counters.handshakes_waited += u64::from(waited);
        counters.handshakes_displaced += u64::from(place == Place::MadeFree);
    });
    let running = handshakes.begin(number, Instant::now());
    let (host, listener) = (Rc::clone(host), Arc::clone(listener));
    let task = spawn_local(async move {
        shake_hands(host, socket, listener, address).await;
        drop(running);
    });
    handshakes.is_carried_out_by(number, task.abort_handle());
}

/// EMFILE, ENFILE, ENOBUFS and ENOMEM: nothing is wrong with the listener.
fn is_shortage(error: &io::Error) -> bool {
    const EMFILE: i32 = 24;
    const ENFILE: i32 = 23;
    const ENOMEM: i32 = 12;
    const ENOBUFS: i32 = 105;
    matches!(error.raw_os_error(), Some(EMFILE | ENFILE | ENOMEM | ENOBUFS))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shortage_is_told_from_a_client_that_went_away() {
        for (code, wanted) in [(24, true), (23, true), (12, true), (105, true), (103, false), (104, false)] {
            assert_eq!(is_shortage(&io::Error::from_raw_os_error(code)), wanted, "{code}");
        }
    }
}
