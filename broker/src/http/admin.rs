//! What the resources have in common: asking shards without stalling them, and how lists answer.

use super::problem::{Errno, Problem};
use super::queues::Ranking;
use super::read::Cursor;
use crate::listener::Listener;
use crate::mailbox::{Command, Look};
use crate::operator::Operator;
use crate::shared::Shared;
use reveille_broker_core::admin::{Done, Page, Wish};
use reveille_broker_core::io::ShardNo;
use reveille_broker_core::message::Time;
use reveille_broker_core::presence::BRIDGE_APP;
use reveille_broker_core::shard::Shard;
use reveille_proto::ids::{AppId, ClientId};
use reveille_proto::topic::TopicName;
use serde::Serialize;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};
use tokio::sync::oneshot;
use utoipa::ToSchema;

/// How long a shard may take to answer a look. It answers in microseconds unless it is stuck.
const ANSWER_DEADLINE: Duration = Duration::from_secs(5);

/// How long one request goes on looking for entries that a filter lets through. Then it answers with the cursor where the
/// next one goes on: a million sessions are looked at in a few such requests, and no shard hears from one request without
/// end.
const SEARCH_DEADLINE: Duration = Duration::from_millis(500);

/// What every handler gets.
pub(crate) type Api = Arc<Admin>;

/// The broker, as operators reach it.
pub(crate) struct Admin {
    pub(crate) shared: Shared,
    pub(crate) operator: Operator,
    /// The listeners and where they are, once they listen.
    pub(crate) listeners: OnceLock<Vec<(Arc<Listener>, String)>>,
    pub(crate) started: Time,
    pub(crate) ranking: Ranking,
}

/// One page of a list.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Listed<T> {
    /// What is on it.
    pub(crate) items: Vec<T>,
    /// Where it is.
    pub(crate) page: PageInfo,
}

/// Where a page is in its list.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct PageInfo {
    /// The cursor for `after`; `null`: this was the last page. A page with a cursor may be short, or empty.
    #[schema(required)]
    pub(crate) next: Option<String>,
    /// Entries at most.
    pub(crate) limit: usize,
}

impl<T> Listed<T> {
    /// A page.
    pub(crate) fn new(items: Vec<T>, next: Option<String>, limit: usize) -> axum::Json<Self> {
        axum::Json(Self { items, page: PageInfo { next, limit } })
    }
}

impl Admin {
    /// Around a broker that runs.
    pub(crate) fn new(operator: Operator) -> Self {
        let shared = operator.shared.clone();
        let started = shared.clock.now();
        Self { shared, operator, listeners: OnceLock::new(), started, ranking: Ranking::default() }
    }

    /// How many shards there are.
    pub(crate) fn shards(&self) -> u16 {
        self.shared.mailboxes.count()
    }

    /// The start of the broker for which cursors hold.
    pub(crate) fn boot(&self) -> u64 {
        self.shared.store.boot()
    }

    /// The time of the rules.
    pub(crate) fn now(&self) -> Time {
        self.shared.clock.now()
    }

    /// The shard of a session.
    pub(crate) fn owner(&self, app: &AppId, client_id: &ClientId) -> ShardNo {
        Shard::owner(app, client_id, self.shards())
    }

    /// Reads on a shard's thread. `read` must look at a bounded piece only.
    pub(crate) async fn look<T: Send + 'static>(
        &self,
        shard: ShardNo,
        read: impl FnOnce(&Shard) -> T + Send + 'static,
    ) -> Result<T, Problem> {
        let (answer, answered) = oneshot::channel();
        let look = Look::new(move |shard, _| {
            let _ = answer.send(read(shard)); // who asked may have given up waiting
        });
        self.shared.mailboxes.send(shard, Command::Look(look));
        match tokio::time::timeout(ANSWER_DEADLINE, answered).await {
            Ok(Ok(found)) => Ok(found),
            Ok(Err(_)) => Err(Problem::later(Errno::Stopping, 5)),
            Err(_) => Err(Problem::because(Errno::StoreFailed, format!("shard {} does not answer", shard.0))),
        }
    }

    /// Has a shard do something, now; the future ends when that is durable. The time that a request has bounds it.
    pub(crate) fn wish(
        &self,
        shard: ShardNo,
        wish: Wish,
    ) -> impl Future<Output = Result<Done, Problem>> + Send + use<> {
        let (answer, answered) = oneshot::channel();
        self.shared.mailboxes.send(shard, Command::Wish { wish, answer });
        async move {
            match answered.await {
                Ok(Done::NoSession) => Err(Problem::new(Errno::SessionUnknown)),
                Ok(Done::Refused) => Err(Problem::later(Errno::QueuesFull, 5)),
                Ok(done @ (Done::Fulfilled(_) | Done::NoReceiver)) => Ok(done),
                Err(_) => Err(Problem::later(Errno::Stopping, 5)),
            }
        }
    }

    /// Where messages with this topic are published, so that they keep their order.
    pub(crate) fn shard_of(&self, app: &AppId, topic: &TopicName) -> ShardNo {
        let mut hasher = DefaultHasher::new();
        (app, topic).hash(&mut hasher);
        ShardNo(u16::try_from(hasher.finish() % u64::from(self.shards().max(1))).unwrap_or(0))
    }

    /// Fills a page from one shard after the other, look by look: between two looks the shard serves its clients. Ends
    /// with the cursor of the next page.
    pub(crate) async fn gather<T: Send + 'static>(
        &self,
        mut cursor: Cursor,
        limit: usize,
        read: impl Fn(&Shard, Cursor, usize) -> Page<T, Cursor> + Clone + Send + 'static,
    ) -> Result<(Vec<T>, Option<String>), Problem> {
        let end = Instant::now() + SEARCH_DEADLINE;
        let mut items = Vec::new();
        while cursor.shard < self.shards() {
            if items.len() >= limit || Instant::now() >= end {
                return Ok((items, Some(cursor.text(self.boot()))));
            }
            let (from, room, read) = (cursor.clone(), limit - items.len(), read.clone());
            let page = self.look(ShardNo(cursor.shard), move |shard| read(shard, from, room)).await?;
            items.extend(page.items);
            let next_shard = Cursor { shard: cursor.shard.saturating_add(1), ..Cursor::default() };
            cursor = page.next.unwrap_or(next_shard);
        }
        Ok((items, None))
    }
}

/// Refuses what would take from the bridge what it has to hear.
pub(crate) fn check_not_bridge(app: &AppId) -> Result<(), Problem> {
    match app.as_str() == BRIDGE_APP {
        true => Err(Problem::new(Errno::BrokersOwn)),
        false => Ok(()),
    }
}
