//! One publish: which shards take part in it. Shared by all shards, read far more often than written.

use crate::global_index::GlobalIndex;
use crate::io::{Delivery, IndexChange, RouteTo, ShardNo, Ticket};
use crate::message::Message;
use reveille_proto::ids::AppId;
use reveille_proto::topic::{TopicFilter, TopicName};
use std::sync::Arc;

/// The global index and the retained messages.
pub struct Router {
    index: GlobalIndex,
    shards: u16,
}

impl Router {
    /// An empty router for that many shards.
    pub fn new(shards: u16) -> Self {
        Self { index: GlobalIndex::default(), shards }
    }

    /// A shard's subscriptions changed.
    pub fn apply(&mut self, shard: ShardNo, change: IndexChange) {
        let _ = (shard, change, &self.index, self.shards);
    }

    /// Who has to do what for this publish. Empty when nobody has.
    pub fn route(&self, message: &Arc<Message>, to: RouteTo, ticket: Ticket) -> Vec<(ShardNo, Delivery)> {
        let _ = (message, to, ticket);
        Vec::new()
    }

    /// The retained message of a topic changed.
    pub fn retain(&mut self, app: &AppId, topic: TopicName, message: Option<Arc<Message>>) {
        let _ = (app, topic, message);
    }

    /// The next retained messages under a filter, at most `limit`, and whether more follow.
    pub fn retained(
        &self,
        app: &AppId,
        filter: &TopicFilter,
        after: Option<&TopicName>,
        limit: usize,
    ) -> (Vec<Arc<Message>>, bool) {
        let _ = (app, filter, after, limit);
        (Vec::new(), false)
    }

    /// Whether a bridge subscribed to `$push/v1/`.
    pub fn has_bridge(&self) -> bool {
        false
    }
}
