//! A device with the library, in the devices' namespace, on a thread of its own.

use crate::namespaces::{BROKER, Network};
use crate::{SPEED, wait_for};
use reveille_client::{Client, HeartbeatState, Label, Learning, NetworkState, Options, Radio};
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use tokio::sync::{oneshot, watch};

/// So many silences in a row that nothing dies of.
const CALM: u32 = 4;

/// Patience with a beat.
const ANSWER: Duration = Duration::from_millis(400);

/// A running device; it is gone when dropped.
pub struct Device {
    heartbeat: watch::Receiver<HeartbeatState>,
    losses: Arc<AtomicUsize>,
    end: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Device {
    /// Waits until it is connected.
    pub fn start(network: &Network, number: usize) -> Self {
        let (tell, told) = std::sync::mpsc::channel();
        let (end, ended) = oneshot::channel();
        let losses = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&losses);
        let thread = network.devices.spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let (client, mut messages) = Client::connect(options(number)).unwrap();
                client.online().await.unwrap();
                tell.send(client.heartbeat()).unwrap();
                let counting = count_losses(client.network(), &counted);
                let reading = async { while messages.recv().await.is_some() {} };
                tokio::select! {
                    () = counting => {}
                    () = reading => {}
                    _ = ended => {}
                }
            });
        });
        let heartbeat = told.recv().unwrap();
        Self { heartbeat, losses, end: Some(end), thread: Some(thread) }
    }

    /// How long the connection may be silent now.
    pub fn interval(&self) -> Duration {
        self.heartbeat.borrow().interval
    }

    /// Connections that were lost.
    pub fn losses(&self) -> usize {
        self.losses.load(Ordering::Relaxed)
    }

    /// Waits until it uses such an interval, and nothing dies of it.
    pub fn settles(&self, wanted: Range<Duration>) {
        let mut calm_since = (Instant::now(), self.losses());
        wait_for("a device to settle", || {
            let (interval, losses) = (self.interval(), self.losses());
            if !wanted.contains(&interval) || losses != calm_since.1 {
                calm_since = (Instant::now(), losses);
            }
            (calm_since.0.elapsed() > interval * CALM).then_some(())
        });
    }
}

impl Drop for Device {
    fn drop(&mut self) {
        drop(self.end.take());
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

fn options(number: usize) -> Options {
    let network = reveille_client::Network { radio: Radio::G4, label: Label::parse("46000").unwrap() };
    Options::new(format!("phone-{number}"), BROKER, 1883)
        .credentials("u", "p")
        .ping_timeout(ANSWER)
        .learned_heartbeat(Learning::on(network).speed(SPEED))
}

async fn count_losses(mut network: watch::Receiver<NetworkState>, losses: &AtomicUsize) {
    let mut was_online = true;
    while network.changed().await.is_ok() {
        let is_online = network.borrow_and_update().is_online();
        losses.fetch_add(usize::from(was_online && !is_online), Ordering::Relaxed);
        was_online = is_online;
    }
}
