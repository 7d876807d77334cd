//! Writes handled ids to disk, many with one sync, without holding up the connection.

use crate::client::HandledError;
use crate::disk::FileError;
use crate::inbox::{Inbox, UnixMillis};
use crate::seen_file::{Record, SeenFile};
use reveille_proto::ids::MessageId;
use std::future;
use std::io;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

/// How many ids may wait for the disk.
const WAITING_MAX: usize = 1_024;

/// One id to write, and who waits for it.
#[derive(Debug)]
pub(crate) struct Job {
    pub id: MessageId,
    pub at: UnixMillis,
    pub reply: oneshot::Sender<Result<(), HandledError>>,
}

/// What became of some jobs.
#[derive(Debug)]
pub(crate) struct Finished {
    pub jobs: Vec<Job>,
    pub result: Result<(), io::ErrorKind>,
}

#[derive(Debug)]
enum Disk {
    /// The app wants no file.
    None,
    Idle(SeenFile),
    Writing(JoinHandle<(SeenFile, Result<(), FileError>)>),
    /// The writing task died; nothing can be recorded any more.
    Broken,
}

#[derive(Debug)]
pub(crate) struct Recorder {
    disk: Disk,
    waiting: Vec<Job>,
    writing: Vec<Job>,
}

impl Recorder {
    pub fn new(file: Option<SeenFile>) -> Self {
        Self { disk: file.map_or(Disk::None, Disk::Idle), waiting: Vec::new(), writing: Vec::new() }
    }

    /// Whether another job may be pushed.
    pub fn has_room(&self) -> bool {
        self.waiting.len() < WAITING_MAX
    }

    /// Whether jobs wait or are being written.
    pub fn is_busy(&self) -> bool {
        !self.waiting.is_empty() || !self.writing.is_empty()
    }

    /// Takes a job; [`Self::finished`] tells about it.
    pub fn push(&mut self, job: Job, inbox: &Inbox, ids_max: usize) {
        self.waiting.push(job);
        self.start(inbox, ids_max);
    }

    /// Begins to write what waits, unless a write runs. Shortens the file when forgotten ids fill half of it.
    pub fn start(&mut self, inbox: &Inbox, ids_max: usize) {
        if self.waiting.is_empty() {
            return;
        }
        let mut file = match std::mem::replace(&mut self.disk, Disk::Broken) {
            Disk::Idle(file) => file,
            other => {
                self.disk = other;
                return;
            }
        };
        self.writing = std::mem::take(&mut self.waiting);
        let records: Vec<Record> = self.writing.iter().map(|job| (job.id, job.at)).collect();
        let shortened: Option<Vec<Record>> = (file.records() >= ids_max.saturating_mul(2))
            .then(|| inbox.records().chain(records.iter().copied()).collect());
        self.disk = Disk::Writing(tokio::task::spawn_blocking(move || {
            let result = match shortened {
                Some(all) => file.replace(&all),
                None => file.append(&records).map_err(FileError::Io),
            };
            (file, result)
        }));
    }

    /// Waits until some jobs are done; for ever when there are none. Safe to cancel.
    pub async fn finished(&mut self) -> Finished {
        let result = match &mut self.disk {
            Disk::Writing(task) => match task.await {
                Ok((file, result)) => {
                    self.disk = Disk::Idle(file);
                    result.map_err(|error| error.kind())
                }
                Err(_) => {
                    self.disk = Disk::Broken;
                    Err(io::ErrorKind::Other)
                }
            },
            Disk::None if !self.waiting.is_empty() => {
                return Finished { jobs: std::mem::take(&mut self.waiting), result: Ok(()) };
            }
            Disk::Broken if !self.waiting.is_empty() => {
                let jobs = std::mem::take(&mut self.waiting);
                return Finished { jobs, result: Err(io::ErrorKind::Other) };
            }
            Disk::None | Disk::Broken | Disk::Idle(_) => future::pending().await,
        };
        Finished { jobs: std::mem::take(&mut self.writing), result }
    }
}
