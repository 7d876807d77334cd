//! The thread of one shard: recovers its sessions, then waits for tasks, mail and deadlines until it is told to end.

use crate::bodies::Reads;
use crate::health::ThreadWatch;
use crate::host::Host;
use crate::listener::{Listener, accept};
use crate::mailbox::{Command, Inbox};
use crate::overload::LOOK;
use crate::poller::Poller;
use crate::rules::Rules;
use crate::shared::Shared;
use crate::watch::watch;
use reveille_broker_core::change::Recovered;
use reveille_broker_core::io::Input;
use reveille_broker_core::shard::{Shard, ShardConfig};
use std::io;
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender};
use std::thread::{Builder, JoinHandle};
use std::time::{Duration, Instant};
use tokio::task::{LocalSet, spawn_local, yield_now};
use tokio::time::{Sleep, sleep, timeout};

/// How long the thread waits at its end for commits that are on their way.
const LAST_COMMITS: Duration = Duration::from_secs(5);

/// Turns after which the other tasks of the thread come (handshakes, commits that ended), however much mail there is.
const TURNS_IN_A_ROW: u32 = 8;

/// A timer that nobody set.
const NEVER: Duration = Duration::from_secs(24 * 60 * 60);

/// What a shard's thread starts with.
pub(crate) struct Setup {
    /// What all shards share.
    pub(crate) shared: Shared,
    /// What the rules start with.
    pub(crate) config: ShardConfig,
    /// Its mailbox.
    pub(crate) inbox: Inbox,
    /// Its reads from the store.
    pub(crate) reads: Reads,
    /// What outlived the last run and belongs to it; ends when everything was given back.
    pub(crate) recovered: Receiver<Recovered>,
    /// Told when all of that is routable.
    pub(crate) is_recovered: SyncSender<()>,
}

/// Starts the thread.
pub(crate) fn start(setup: Setup) -> io::Result<JoinHandle<()>> {
    let name = format!("shard {}", setup.inbox.no().0);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let poller = {
        let _entered = runtime.enter();
        Poller::new()?
    };
    let watch = ThreadWatch::new(Arc::clone(&setup.shared.health), name.clone());
    Builder::new().name(name).spawn(move || {
        let _watch = watch;
        let Setup { shared, config, inbox, reads, recovered, is_recovered } = setup;
        let mut rules = Rules::new(shared.clone(), Shard::new(config), reads);
        recover(&shared, &mut rules, &recovered);
        if is_recovered.send(()).is_err() {
            return; // the start failed elsewhere
        }
        drop(is_recovered);
        let local = LocalSet::new();
        let host = Host::new(shared, rules, poller);
        // As a task among the others, the loop runs after those that were ready before it: they share one turn.
        let serving = local.spawn_local(serve(host, inbox));
        let _ = runtime.block_on(local.run_until(serving)); // a panic in there reaches the watch as the thread's end
    })
}

fn recover(shared: &Shared, rules: &mut Rules, recovered: &Receiver<Recovered>) {
    for item in recovered {
        match item {
            Recovered::Session(session) => rules.shard.recover(*session, shared.clock.now()),
            Recovered::Announcement { number, announcement } => {
                rules.shard.recover_announcement(number, announcement);
            }
            Recovered::Retained(_) | Recovered::Network { .. } => {
                debug_assert!(false, "what all shards share goes elsewhere");
            }
        }
        rules.hold_outputs();
    }
}

async fn serve(host: Rc<Host>, mut inbox: Inbox) {
    let mut commands = Vec::new();
    let mut turns = 0;
    let mut timer = std::pin::pin!(sleep(NEVER));
    loop {
        arm(&mut timer, host.deadline());
        tokio::select! {
            biased;
            () = &mut timer => host.feed(Input::Tick),
            () = host.turn_due() => {}
            () = inbox.take(&mut commands) => {}
            () = host.sockets_due() => {}
        }
        for command in commands.drain(..) {
            match command {
                Command::Serve { acceptors } => begin(&host, acceptors),
                Command::Exit => return last_commits(&host).await,
                command => host.carry_out(command),
            }
        }
        host.read_sockets();
        host.end_turn();
        turns += 1;
        if turns >= TURNS_IN_A_ROW || host.is_more_to_read.get() {
            turns = 0;
            yield_now().await; // and the runtime looks at its sockets
        }
    }
}

/// Sets the timer when the deadline moved forward, or when it rang. One that moved back is left: a look too early is
/// harmless and cheaper than setting it at every turn.
fn arm(timer: &mut std::pin::Pin<&mut Sleep>, deadline: Option<Instant>) {
    let wanted = deadline.unwrap_or_else(|| Instant::now() + NEVER).into();
    if timer.is_elapsed() || wanted < timer.deadline() {
        timer.as_mut().reset(wanted);
    }
}

/// Measures how late this thread is, and tells the rules what is given up. The first shard looks at the memory of all.
async fn watch_load(host: Rc<Host>) {
    let overload = &host.shared.health.overload;
    loop {
        let wanted = Instant::now() + LOOK;
        sleep(LOOK).await;
        let late = wanted.elapsed();
        overload.lagged(late);
        host.shared.metrics.shard_lagged(late);
        if host.shared.no.0 == 0 {
            overload.look(host.shared.mailboxes.waiting_bytes());
            overload.judge_lag();
        }
        host.shed(overload.step());
    }
}

fn begin(host: &Rc<Host>, acceptors: Vec<(Arc<Listener>, OwnedFd)>) {
    host.start();
    host.owns_listener(spawn_local(watch_load(Rc::clone(host))).abort_handle());
    host.owns_listener(spawn_local(watch(Rc::clone(host))).abort_handle());
    for (listener, acceptor) in acceptors {
        host.owns_listener(spawn_local(accept(Rc::clone(host), listener, acceptor)).abort_handle());
    }
}

/// What was handed to the store ends before the thread does; what other threads still send is for nobody.
async fn last_commits(host: &Rc<Host>) {
    let waiting = async {
        host.end_turn();
        while !host.is_quiet() {
            host.turn_due().await;
            host.end_turn();
        }
    };
    if timeout(LAST_COMMITS, waiting).await.is_err() {
        tracing::warn!("commits were still on their way when the broker stopped");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_timer_moves_forward_at_once_and_back_when_it_rang() {
        let mut timer = std::pin::pin!(sleep(NEVER));
        arm(&mut timer, Some(Instant::now()));
        timer.as_mut().await;
        let later = Instant::now() + NEVER;
        arm(&mut timer, Some(later));
        assert_eq!(timer.deadline(), later.into());
        arm(&mut timer, None);
        assert_eq!(timer.deadline(), later.into(), "a look too early is harmless");
    }
}
