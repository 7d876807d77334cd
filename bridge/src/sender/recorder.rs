//! Where the pushes of the record vendor go: memory, and a file when one is named.

use std::collections::{HashMap, VecDeque};
use std::io::Write;
use std::path::Path;
use std::sync::Mutex;

use reveille_proto::ids::{AppId, MessageId};
use serde_json::{Value, json};
use tokio::sync::Notify;

use super::tasks::lock;
use crate::vendor::record::{AnswerRule, RecordAnswer, RecordCredential};
use crate::vendor::{Answer, DeviceToken, Push};

/// Recorded pushes kept in memory for one app; older ones are forgotten.
pub const RECORDED_MAX: usize = 10_000;

/// A push that the record vendor got.
#[derive(Clone, Debug, PartialEq)]
pub struct RecordedPush {
    /// When, in milliseconds since 1970.
    pub at_ms: u64,
    /// The message's identity.
    pub id: MessageId,
    /// The device.
    pub token: DeviceToken,
    /// What it was answered.
    pub answer: RecordAnswer,
    /// All that the push said, as JSON.
    pub content: Value,
}

impl RecordedPush {
    fn to_line(&self, app: &AppId) -> String {
        let mut line = json!({
            "at_ms": self.at_ms, "app": app.as_str(), "token": self.token.as_str(),
            "answer": self.answer, "push": self.content,
        })
        .to_string();
        line.push('\n');
        line
    }
}

#[derive(Default)]
struct AppRecord {
    pushes: VecDeque<RecordedPush>,
    /// How often each rule answered, by its place.
    used: HashMap<usize, u32>,
}

/// The records of every app.
#[derive(Default)]
pub(super) struct Recorder {
    apps: Mutex<HashMap<AppId, AppRecord>>,
    changed: Notify,
}

impl Recorder {
    /// Keeps the push and answers it by the rules.
    pub async fn exchange(
        &self,
        credential: &RecordCredential,
        push: &Push,
        body: &[u8],
        now_ms: u64,
    ) -> Result<Answer, std::io::Error> {
        let content = serde_json::from_slice(body).unwrap_or_default();
        let rule = self.next_rule(credential, push);
        let recorded = RecordedPush {
            at_ms: now_ms,
            id: push.id,
            token: push.token.clone(),
            answer: rule.answer,
            content,
        };
        if let Some(path) = &credential.path {
            let (path, line) = (path.clone(), recorded.to_line(&push.app));
            let written = tokio::task::spawn_blocking(move || append(&path, &line)).await;
            written.map_err(std::io::Error::other)??;
        }
        self.keep(&push.app, recorded);
        Ok(rule.to_answer())
    }

    /// What an app's devices were sent, oldest first.
    pub fn recorded(&self, app: &AppId) -> Vec<RecordedPush> {
        lock(&self.apps).get(app).map(|record| record.pushes.iter().cloned().collect()).unwrap_or_default()
    }

    /// Forgets an app.
    pub fn forget(&self, app: &AppId) {
        lock(&self.apps).remove(app);
    }

    /// Waits until an app has so many recorded pushes, and returns them.
    pub async fn wait_for(&self, app: &AppId, count: usize) -> Vec<RecordedPush> {
        loop {
            let mut changed = std::pin::pin!(self.changed.notified());
            changed.as_mut().enable(); // before looking, so that no push slips between look and wait
            let recorded = self.recorded(app);
            if recorded.len() >= count {
                return recorded;
            }
            changed.await;
        }
    }

    fn next_rule(&self, credential: &RecordCredential, push: &Push) -> AnswerRule {
        let mut apps = lock(&self.apps);
        let used = &mut apps.entry(push.app.clone()).or_default().used;
        for (place, rule) in credential.answers.iter().enumerate() {
            if !rule.fits(push.token.as_str()) {
                continue;
            }
            let Some(times) = rule.times else { return rule.clone() };
            let count = used.entry(place).or_default();
            if *count < times {
                *count += 1;
                return rule.clone();
            }
        }
        AnswerRule::default()
    }

    fn keep(&self, app: &AppId, recorded: RecordedPush) {
        let mut apps = lock(&self.apps);
        let pushes = &mut apps.entry(app.clone()).or_default().pushes;
        if pushes.len() == RECORDED_MAX {
            pushes.pop_front();
        }
        pushes.push_back(recorded);
        drop(apps);
        self.changed.notify_waiters();
    }
}

/// One write call, so that lines of several writers do not mix.
fn append(path: &Path, line: &str) -> std::io::Result<()> {
    let mut file = std::fs::OpenOptions::new().create(true).append(true).open(path)?;
    file.write_all(line.as_bytes())
}
