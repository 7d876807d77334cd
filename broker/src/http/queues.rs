//! Queues: the longest and the oldest of all, the messages of one, and emptying it.

use super::admin::{Admin, Api, Listed, check_not_bridge};
use super::problem::{Errno, Problem};
use super::read::{Asked, Params, client, limit};
use super::sessions::Queue;
use axum::extract::State;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use reveille_broker_core::admin::{Done, QueueRow, QueuedState, QueuedView, Wish};
use reveille_broker_core::io::ShardNo;
use reveille_broker_core::message::{Message, MessageKey, Seq};
use reveille_broker_store::READ_MAX;
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};
use utoipa::{IntoParams, ToSchema};

/// Queues in a ranking.
const RANKED_MAX: usize = 100;

/// How long a ranking is told again before the shards are looked through anew.
const RANKING_AGE_MAX: Duration = Duration::from_secs(5);

/// Messages that one purge takes in one go on the shard's thread.
const PURGED_AT_ONCE: usize = 512;

/// Bytes of a payload that a list shows.
const PREVIEW_BYTES: usize = 256;

/// Which queues first.
#[derive(Clone, Copy, Debug, Default, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Order {
    /// Those with the most messages.
    #[default]
    Messages,
    /// Those with the most bytes.
    Bytes,
    /// Those whose oldest message waits longest.
    Oldest,
}

/// How many, and which first.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct RankingQuery {
    /// Which first.
    #[serde(default)]
    #[param(inline)]
    order: Order,
    /// Queues at most.
    #[param(minimum = 1, maximum = 100, default = 20)]
    limit: Option<usize>,
}

/// The queues that stand out.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Ranked {
    items: Vec<RankedQueue>,
    /// Sessions with anything in their queue.
    queues: u64,
    /// When they were looked through; at most some seconds ago.
    at_ms: u64,
}

/// One of them.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct RankedQueue {
    app: String,
    client_id: String,
    online: bool,
    queue: Queue,
}

/// The last look at all queues. Whoever asks while it is being made waits for it: the shards are looked through once for
/// all of them, a bounded piece a turn.
#[derive(Debug, Default)]
pub(crate) struct Ranking(tokio::sync::Mutex<Option<Snapshot>>);

#[derive(Clone, Debug)]
struct Snapshot {
    made: Instant,
    at_ms: u64,
    queues: u64,
    by_messages: Vec<QueueRow>,
    by_bytes: Vec<QueueRow>,
    by_age: Vec<QueueRow>,
}

impl Snapshot {
    fn new(at_ms: u64) -> Self {
        let (by_messages, by_bytes, by_age) = Default::default();
        Self { made: Instant::now(), at_ms, queues: 0, by_messages, by_bytes, by_age }
    }

    fn add(&mut self, rows: &[QueueRow]) {
        self.queues += rows.len() as u64;
        keep_first(&mut self.by_messages, rows, |row| u64::MAX - row.queue.messages as u64);
        keep_first(&mut self.by_bytes, rows, |row| u64::MAX - row.queue.bytes);
        keep_first(&mut self.by_age, rows, |row| row.queue.oldest_at.map_or(u64::MAX, |time| time.0));
    }
}

fn keep_first(kept: &mut Vec<QueueRow>, rows: &[QueueRow], key: impl Fn(&QueueRow) -> u64) {
    let worst = if kept.len() < RANKED_MAX { None } else { kept.last().map(&key) };
    kept.extend(rows.iter().filter(|row| worst.is_none_or(|worst| key(row) < worst)).cloned());
    kept.sort_by_key(&key);
    kept.truncate(RANKED_MAX);
}

async fn snapshot(api: &Admin) -> Result<Snapshot, Problem> {
    let mut last = api.ranking.0.lock().await;
    if let Some(known) = last.as_ref().filter(|known| known.made.elapsed() < RANKING_AGE_MAX) {
        return Ok(known.clone());
    }
    let mut fresh = Snapshot::new(api.now().0);
    for shard in (0..api.shards()).map(ShardNo) {
        let mut from = Some(0);
        while let Some(place) = from {
            let page = api.look(shard, move |shard| shard.queues(place)).await?;
            fresh.add(&page.items);
            from = page.next;
        }
    }
    *last = Some(fresh.clone());
    Ok(fresh)
}

/// The longest, largest or oldest queues.
#[utoipa::path(get, path = "/queues", tag = "queues", params(RankingQuery),
    responses((status = 200, body = Ranked)))]
pub(crate) async fn rank(
    State(api): State<Api>,
    Asked(query): Asked<RankingQuery>,
) -> Result<axum::Json<Ranked>, Problem> {
    let limit = query.limit.unwrap_or(20);
    if !(1..=RANKED_MAX).contains(&limit) {
        return Err(Problem::because(Errno::InvalidQuery, "limit is 1 to 100"));
    }
    let Snapshot { at_ms, queues, by_messages, by_bytes, by_age, made: _ } = snapshot(&api).await?;
    let rows = match query.order {
        Order::Messages => by_messages,
        Order::Bytes => by_bytes,
        Order::Oldest => by_age,
    };
    let item = |row: QueueRow| RankedQueue {
        app: row.app.to_string(),
        client_id: row.client_id.to_string(),
        online: row.is_online,
        queue: Queue::of(row.queue, at_ms),
    };
    Ok(axum::Json(Ranked { items: rows.into_iter().take(limit).map(item).collect(), queues, at_ms }))
}

/// Which messages of a queue.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct QueuedQuery {
    /// Whether the first bytes of the payloads are shown.
    #[serde(default)]
    payload: bool,
    /// The cursor of the page before.
    after: Option<String>,
    /// Entries at most.
    #[param(minimum = 1, maximum = 1000, default = 100)]
    limit: Option<usize>,
}

/// One message in a queue.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Queued {
    /// Its place; grows.
    seq: u64,
    /// `null`, for the moment in which the message leaves the queue.
    #[schema(required)]
    topic: Option<String>,
    qos: u8,
    retain: bool,
    /// `waiting`: never sent; `sent`: not acknowledged; `released`: PUBREC came.
    state: &'static str,
    /// Bytes of topic and payload.
    size: u32,
    queued_at_ms: u64,
    #[schema(required)]
    expires_at_ms: Option<u64>,
    /// The message id, for one that may be pushed.
    #[schema(required)]
    push: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    payload: Option<Preview>,
}

/// The beginning of a payload.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Preview {
    /// As text, when it is UTF-8.
    #[schema(required)]
    text: Option<String>,
    base64: String,
    /// All bytes.
    bytes: usize,
    /// Whether there is more than what is shown.
    cut: bool,
}

impl Preview {
    /// The first bytes of a message's payload, or all.
    pub(crate) fn of(message: &Message, bytes_max: usize) -> Self {
        let payload = &message.payload;
        let shown = payload.get(..bytes_max).unwrap_or(payload);
        let text = match std::str::from_utf8(shown) {
            Ok(text) => Some(text),
            // A character that the cut went through is left out.
            Err(error) if shown.len() < payload.len() && error.error_len().is_none() => {
                std::str::from_utf8(shown.get(..error.valid_up_to()).unwrap_or_default()).ok()
            }
            Err(_) => None,
        };
        Self {
            text: text.map(str::to_owned),
            base64: STANDARD.encode(shown),
            bytes: payload.len(),
            cut: shown.len() < payload.len(),
        }
    }
}

/// Messages in a session's queue, oldest first.
#[utoipa::path(get, path = "/apps/{app}/sessions/{client_id}/queue", tag = "queues",
    params(("app" = String, Path), ("client_id" = String, Path), QueuedQuery),
    responses((status = 200, body = Listed<Queued>)))]
pub(crate) async fn queued(
    State(api): State<Api>,
    Params(params): Params<(String, String)>,
    Asked(query): Asked<QueuedQuery>,
) -> Result<axum::Json<Listed<Queued>>, Problem> {
    let ((app, client_id), limit) = (client(&params)?, limit(query.limit)?);
    let after = query.after.as_deref().map(|text| text.parse().map(Seq)).transpose();
    let after = after.map_err(|_| Problem::new(Errno::InvalidCursor))?;
    let owner = api.owner(&app, &client_id);
    let read = move |shard: &reveille_broker_core::shard::Shard| shard.queued(&app, &client_id, after, limit);
    let page = api.look(owner, read).await?.ok_or_else(|| Problem::new(Errno::SessionUnknown))?;
    let bodies = stored(&api, &page.items).await?;
    let items = page.items.into_iter().map(|view| {
        let body = view.body.clone().or_else(|| bodies.get(&view.key).cloned());
        Queued::of(&view, body.as_deref(), query.payload)
    });
    Ok(Listed::new(items.collect(), page.next.map(|seq| seq.0.to_string()), limit))
}

impl Queued {
    fn of(view: &QueuedView, body: Option<&Message>, shows_payload: bool) -> Self {
        Self {
            seq: view.seq.0,
            topic: body.map(|body| body.topic.to_string()),
            qos: view.qos as u8,
            retain: view.retain,
            state: match view.state {
                QueuedState::Waiting => "waiting",
                QueuedState::Sent => "sent",
                QueuedState::Released => "released",
            },
            size: view.size,
            queued_at_ms: view.queued_at.0,
            expires_at_ms: view.expires_at.map(|time| time.0),
            push: view.push.map(|id| id.to_string()),
            payload: body.filter(|_| shows_payload).map(|body| Preview::of(body, PREVIEW_BYTES)),
        }
    }
}

/// Bodies that are not in memory, from the store. It blocks, so it gets a thread of its own.
async fn stored(api: &Api, items: &[QueuedView]) -> Result<HashMap<MessageKey, Arc<Message>>, Problem> {
    let keys: Vec<MessageKey> =
        items.iter().filter(|item| item.body.is_none()).map(|item| item.key).take(READ_MAX).collect();
    if keys.is_empty() {
        return Ok(HashMap::new());
    }
    let store = Arc::clone(&api.shared.store);
    let read = tokio::task::spawn_blocking(move || store.read(&keys).map(|bodies| (keys, bodies)));
    let (keys, bodies) = read
        .await
        .map_err(|_| Problem::new(Errno::Stopping))?
        .map_err(|error| Problem::because(Errno::StoreFailed, error.to_string()))?;
    Ok(keys.into_iter().zip(bodies).filter_map(|(key, body)| Some((key, body?))).collect())
}

/// What a purge did.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Purged {
    /// Messages dropped.
    dropped: usize,
}

/// Drops what waits in a session's queue and was never sent. What was sent stays: the client may have it, and its
/// acknowledgement must find it.
#[utoipa::path(delete, path = "/apps/{app}/sessions/{client_id}/queue", tag = "queues",
    params(("app" = String, Path), ("client_id" = String, Path)),
    responses((status = 200, body = Purged)))]
pub(crate) async fn purge(
    State(api): State<Api>,
    Params(params): Params<(String, String)>,
) -> Result<axum::Json<Purged>, Problem> {
    let (app, client_id) = client(&params)?;
    check_not_bridge(&app)?;
    let owner = api.owner(&app, &client_id);
    let mut dropped = 0;
    loop {
        let wish = Wish::Purge { app: app.clone(), client_id: client_id.clone(), limit: PURGED_AT_ONCE };
        match api.wish(owner, wish).await? {
            Done::Fulfilled(count) if count == PURGED_AT_ONCE => dropped += count,
            Done::Fulfilled(count) => return Ok(axum::Json(Purged { dropped: dropped + count })),
            Done::NoReceiver | Done::NoSession | Done::Refused => {
                return Ok(axum::Json(Purged { dropped }));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use reveille_broker_core::admin::QueueView;
    use reveille_broker_core::message::Time;
    use reveille_proto::ids::{AppId, ClientId};

    fn row(no: u64) -> QueueRow {
        let queue = QueueView {
            messages: no as usize,
            bytes: 10_000 - no,
            in_flight: 0,
            oldest_at: Some(Time(no * 7 % 1_000)),
        };
        let client_id = ClientId::parse(&format!("d{no}")).unwrap();
        QueueRow { app: AppId::default(), client_id, is_online: false, queue }
    }

    #[test]
    fn a_ranking_keeps_the_first_of_all_pieces() {
        let mut snapshot = Snapshot::new(0);
        let rows: Vec<QueueRow> = (1..=999).map(row).collect();
        rows.chunks(64).for_each(|rows| snapshot.add(rows));
        let ids = |rows: &[QueueRow]| rows.iter().map(|row| row.client_id.to_string()).collect::<Vec<_>>();
        assert_eq!(snapshot.queues, 999);
        assert_eq!(ids(&snapshot.by_messages)[..2], ["d999", "d998"]);
        assert_eq!(ids(&snapshot.by_bytes)[..2], ["d1", "d2"]);
        assert_eq!(ids(&snapshot.by_age)[..2], ["d143", "d286"]);
        assert_eq!(snapshot.by_age.len(), RANKED_MAX);
    }
}
