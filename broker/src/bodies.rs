//! Threads that read bodies from the store, so that a slow disk never stops a shard.
//!
//! Each shard has at most [`READS_MAX`] reads on their way and keeps the rest (at most one for each session with a
//! network connection) with itself, so the queue of the threads is bounded by shards times [`READS_MAX`].

use crate::health::{Health, ThreadWatch};
use crate::mailbox::{BodiesRead, Command, Mailboxes};
use reveille_broker_core::io::ShardNo;
use reveille_broker_core::message::{MessageKey, SessionKey};
use reveille_broker_store::Store;
use std::collections::VecDeque;
use std::io;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{Builder, JoinHandle};

/// Threads. Two: one long read does not hold up all others, and a disk gains little from more.
const THREADS: usize = 2;

/// Reads that one shard has on their way.
const READS_MAX: usize = 32;

/// A read that a shard wants done.
#[derive(Debug)]
pub(crate) struct Read {
    /// For whose queue.
    pub(crate) session: SessionKey,
    /// Which.
    pub(crate) keys: Vec<MessageKey>,
}

type Job = (ShardNo, Read);

/// The threads. They end when every [`Reads`] is gone.
pub(crate) struct Readers {
    sender: SyncSender<Job>,
    threads: Vec<JoinHandle<()>>,
}

impl Readers {
    /// Starts them.
    pub(crate) fn start(
        store: &Arc<dyn Store>,
        mailboxes: &Arc<Mailboxes>,
        health: &Arc<Health>,
    ) -> io::Result<Self> {
        let (sender, receiver) = sync_channel(usize::from(mailboxes.count()) * READS_MAX);
        let receiver = Arc::new(Mutex::new(receiver));
        let start = |no: usize| {
            let (store, mailboxes) = (Arc::clone(store), Arc::clone(mailboxes));
            let receiver = Arc::clone(&receiver);
            let name = format!("reader {no}");
            let watch = ThreadWatch::new(Arc::clone(health), name.clone());
            Builder::new().name(name).spawn(move || {
                let _watch = watch;
                run(store.as_ref(), &mailboxes, &receiver);
            })
        };
        let threads = (0..THREADS).map(start).collect::<io::Result<_>>()?;
        Ok(Self { sender, threads })
    }

    /// A shard's side.
    pub(crate) fn reads(&self, shard: ShardNo) -> Reads {
        Reads { shard, sender: self.sender.clone(), on_their_way: 0, waiting: VecDeque::new() }
    }

    /// Waits for the threads to end, after all shards did.
    pub(crate) fn join(self) {
        drop(self.sender);
        for thread in self.threads {
            let _ = thread.join(); // a panic was reported by its watch
        }
    }
}

fn run(store: &dyn Store, mailboxes: &Mailboxes, receiver: &Mutex<Receiver<Job>>) {
    loop {
        let job = receiver.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok((shard, Read { session, keys })) = job else { return };
        let result = store.read(&keys);
        mailboxes.send(shard, Command::Bodies(BodiesRead { session, keys, result }));
    }
}

/// The reads of one shard.
pub(crate) struct Reads {
    shard: ShardNo,
    sender: SyncSender<Job>,
    on_their_way: usize,
    waiting: VecDeque<Read>,
}

impl Reads {
    /// Wants a read done.
    pub(crate) fn ask(&mut self, read: Read) {
        self.waiting.push_back(read);
        self.hand_over();
    }

    /// A read was answered; the next one may go.
    pub(crate) fn answered(&mut self) {
        self.on_their_way = self.on_their_way.saturating_sub(1);
        self.hand_over();
    }

    fn hand_over(&mut self) {
        while self.on_their_way < READS_MAX
            && let Some(read) = self.waiting.pop_front()
        {
            match self.sender.try_send((self.shard, read)) {
                Ok(()) => self.on_their_way += 1,
                Err(TrySendError::Full((_, read)) | TrySendError::Disconnected((_, read))) => {
                    self.waiting.push_front(read); // cannot happen while the threads run: there is room for all
                    return;
                }
            }
        }
    }
}
