//! Accepting: one task a listener and shard, which nothing that a client does can stop.

use crate::auth::Door;
use crate::handshake::shake_hands;
use crate::host::Host;
use std::io;
use std::rc::Rc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::spawn_local;
use tokio::time::sleep;

/// Pause when the process has no file descriptor left: some connection has to end first.
const DESCRIPTOR_PAUSE: Duration = Duration::from_millis(100);

/// Accepts until the shard aborts it.
pub(crate) async fn accept(host: Rc<Host>, listener: TcpListener, door: Door) {
    let mut is_short = false;
    loop {
        match listener.accept().await {
            Ok((socket, peer)) => {
                is_short = false;
                host.count(|counters| counters.accepted += 1);
                greet(&host, socket, peer, door);
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

/// Beyond the bound the socket is closed unheard: answering would need the CONNECT that there is no room for.
fn greet(host: &Rc<Host>, socket: TcpStream, peer: std::net::SocketAddr, door: Door) {
    if host.handshakes.get() >= host.shared.limits.load().shell.handshakes_max {
        host.count(|counters| counters.refused_handshakes += 1);
        return;
    }
    let running = Running::new(host);
    spawn_local(async move {
        let host = Rc::clone(&running.0);
        shake_hands(host, socket, peer, door).await;
        drop(running);
    });
}

/// One handshake, counted while it runs.
struct Running(Rc<Host>);

impl Running {
    fn new(host: &Rc<Host>) -> Self {
        host.handshakes.set(host.handshakes.get() + 1);
        Self(Rc::clone(host))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.0.handshakes.set(self.0.handshakes.get().saturating_sub(1));
    }
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
