//! Topics for those who speak HTTP only: the last values of topics that the configuration names, and live streams.
//!
//! Nobody asks: publishing costs one look at a flag. Otherwise each shard notes a message when it is routed, and forgets
//! nothing that it notes to wait for: a ring overwrites its oldest point, a slow stream keeps the newest message of each
//! topic.

pub(crate) mod history;
pub(crate) mod ring;
pub(crate) mod stream;

use crate::config::HistoryConfig;
use history::History;
use reveille_broker_core::message::Message;
use reveille_broker_core::presence::BRIDGE_APP;
use std::sync::Arc;
use stream::Streams;

/// Everything that is noted of topics.
#[derive(Debug, Default)]
pub(crate) struct Topics {
    pub(crate) history: History,
    pub(crate) streams: Arc<Streams>,
}

impl Topics {
    /// Keeps what the configuration says from now on, and what was kept of topics that it still names.
    pub(crate) fn configure(&self, rules: &[HistoryConfig]) {
        self.history.configure(rules);
    }

    /// A message was accepted.
    pub(crate) fn note(&self, message: &Arc<Message>) {
        let (is_kept, is_read) = (self.history.is_on(), self.streams.is_on());
        if !(is_kept || is_read) || message.app.as_str() == BRIDGE_APP {
            return;
        }
        if is_kept {
            self.history.note(message);
        }
        if is_read {
            self.streams.note(message);
        }
    }
}
