//! Reads certificates again when their files change, so that whatever renews them need not know us.

use super::read_all_again;
use crate::health::{Health, ThreadWatch};
use crate::listener::Listener;
use std::io;
use std::sync::Arc;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread::{Builder, JoinHandle};
use std::time::Duration;

/// How often the files' times are looked at: renewals come weeks before the old certificate ends.
const LOOK: Duration = Duration::from_secs(30);

/// The thread that looks.
#[derive(Debug)]
pub(crate) struct Watch {
    stop: Sender<()>,
    thread: JoinHandle<()>,
}

impl Watch {
    /// Looks after all listeners; `None` when none has certificates.
    pub(crate) fn start(listeners: &Arc<[Arc<Listener>]>, health: &Arc<Health>) -> io::Result<Option<Self>> {
        const NAME: &str = "certificates";
        if listeners.iter().all(|listener| listener.tls.is_none()) {
            return Ok(None);
        }
        let (stop, stopped) = channel();
        let listeners = Arc::clone(listeners);
        let watch = ThreadWatch::new(Arc::clone(health), NAME.to_owned());
        let thread = Builder::new().name(NAME.to_owned()).spawn(move || {
            let _watch = watch;
            while stopped.recv_timeout(LOOK) == Err(RecvTimeoutError::Timeout) {
                let is_outdated = |listener: &Arc<Listener>| {
                    listener.tls.as_ref().is_some_and(super::TlsFiles::is_outdated)
                };
                if listeners.iter().any(is_outdated) {
                    let _ = read_all_again(&listeners); // what failed is logged, and tried again at the next look
                }
            }
        })?;
        Ok(Some(Self { stop, thread }))
    }

    /// Ends it.
    pub(crate) fn stop(self) {
        drop(self.stop);
        let _ = self.thread.join(); // a panic was reported by its watch
    }
}
