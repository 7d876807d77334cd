//! SIGTERM and SIGINT: the first asks for a graceful stop, the second ends the process at once. SIGHUP: the
//! configuration file and the certificates are read again. SIGUSR1: clients are sent away over a while, then the process ends.

use crate::say::complain;
use reveille_broker::Operator;
use std::io;
use tokio::runtime::{Handle, Runtime};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;

/// The exit code of a stop that was not waited for: 128 and the number of SIGINT, as shells have it.
const IMPATIENT: i32 = 130;

/// Knows whether a stop was asked for.
#[derive(Clone, Debug)]
pub struct Stop(watch::Receiver<bool>);

impl Stop {
    /// Waits for the first signal.
    pub async fn requested(&mut self) {
        let _ = self.0.wait_for(|is_requested| *is_requested).await; // without a sender there is nobody to wait for
    }
}

/// Listens from now on, on the runtime, to the end of the process.
///
/// # Errors
/// The system refuses a handler.
pub fn listen(runtime: &Runtime) -> io::Result<Stop> {
    let _inside = runtime.enter();
    let terminate = signal(SignalKind::terminate())?;
    let interrupt = signal(SignalKind::interrupt())?;
    drop(signal(SignalKind::hangup())?); // from now on it does not end the process
    let (sender, receiver) = watch::channel(false);
    runtime.spawn(watch_signals(terminate, interrupt, sender));
    Ok(Stop(receiver))
}

async fn watch_signals(mut terminate: Signal, mut interrupt: Signal, stop: watch::Sender<bool>) {
    either(&mut terminate, &mut interrupt).await;
    stop.send_replace(true);
    either(&mut terminate, &mut interrupt).await;
    complain("stopped at once; what was acknowledged is on disk");
    std::process::exit(IMPATIENT);
}

async fn either(terminate: &mut Signal, interrupt: &mut Signal) {
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
}

/// From now on SIGHUP has the bridge read its certificates again.
///
/// # Errors
/// The system refuses a handler.
pub fn renew(runtime: &Handle, certificates: reveille_bridge::Certificates) -> io::Result<()> {
    let _inside = runtime.enter();
    let mut hangup = signal(SignalKind::hangup())?;
    runtime.spawn(async move {
        while hangup.recv().await.is_some() {
            let certificates = certificates.clone();
            // What came of it is in the log already.
            let _ = tokio::task::spawn_blocking(move || certificates.reload()).await;
        }
    });
    Ok(())
}

/// From now on SIGHUP has the broker follow its configuration file, and SIGUSR1 empties it as `[broker.drain]` says.
///
/// # Errors
/// The system refuses a handler.
pub fn serve(runtime: &Runtime, operator: &Operator) -> io::Result<()> {
    let _inside = runtime.enter();
    let mut hangup = signal(SignalKind::hangup())?;
    let mut user = signal(SignalKind::user_defined1())?;
    let emptied = operator.clone();
    runtime.spawn(async move {
        while user.recv().await.is_some() {
            if let Err(error) = emptied.drain(emptied.configured_drain()) {
                tracing::warn!(%error, "SIGUSR1 changes nothing");
            }
        }
    });
    let operator = operator.clone();
    runtime.spawn(async move {
        while hangup.recv().await.is_some() {
            let operator = operator.clone();
            // What came of it is in the log already.
            let _ = tokio::task::spawn_blocking(move || operator.reload_file()).await;
        }
    });
    Ok(())
}
