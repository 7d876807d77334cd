//! The subscribers of a topic as an audience: the broker is asked page by page.

use axum::http::{Method, StatusCode};
use reveille_proto::ids::AppId;
use serde_json::Value;

use super::Api;
use super::problem::{Errno, Problem};
use crate::audience::Audience;
use crate::beside::{self, ELSEWHERE, NotAsked};
use crate::devices::is_device_id;
use crate::elsewhere::AWAY_RETRY_S;
use crate::lists;
use crate::operations;
use crate::store::Tx;

/// Subscribers of one topic at most. More are an audience of their own: a tag, or a segment.
const SUBSCRIBERS_MAX: usize = 100_000;
/// Subscriptions of one page.
const PAGE: usize = 1000;

/// Makes a list on disk of the subscribers of the audience's topic, if it has one.
pub(super) async fn keep(shared: &Api, app: &AppId, audience: &mut Audience) -> Result<(), Problem> {
    let Some(topic) = &audience.topic else { return Ok(()) };
    let list = operations::new_id();
    let (of, id) = (app.clone(), list.clone());
    shared.store.write(move |tx| lists::begin(tx, &of, &id)).await?;
    let mut pages = Pages::of(app, topic);
    while let Some(devices) = pages.next(shared).await? {
        let (of, id) = (app.clone(), list.clone());
        shared.store.write(move |tx| lists::add(tx, &of, &id, devices)).await?;
    }
    let (of, id) = (app.clone(), list.clone());
    let finish = move |tx: &mut Tx<'_>| lists::finish(tx, &of, &id);
    shared.store.write(finish).await?;
    audience.lists.push(list);
    Ok(())
}

/// The same for a look: the subscribers are in memory, and nothing is kept.
pub(super) async fn look(shared: &Api, app: &AppId, audience: &mut Audience) -> Result<(), Problem> {
    let Some(topic) = audience.topic.take() else { return Ok(()) };
    let mut pages = Pages::of(app, &topic);
    while let Some(devices) = pages.next(shared).await? {
        audience.devices.extend(devices);
    }
    *audience = std::mem::take(audience).in_order();
    Ok(())
}

/// A walk over the subscribers.
struct Pages {
    path: String,
    after: Option<String>,
    found: usize,
    is_over: bool,
}

impl Pages {
    fn of(app: &AppId, topic: &str) -> Self {
        let (app, topic) = (beside::encode(app.as_str()), beside::encode(topic));
        let path = format!("/apps/{app}/receivers?limit={PAGE}&topic={topic}");
        Self { path, after: None, found: 0, is_over: false }
    }

    /// The client ids of the next page; one with several subscriptions may come again.
    async fn next(&mut self, shared: &Api) -> Result<Option<Vec<String>>, Problem> {
        if self.is_over {
            return Ok(None);
        }
        let path = match &self.after {
            Some(after) => format!("{}&after={}", self.path, beside::encode(after)),
            None => self.path.clone(),
        };
        let (_, answer) = beside::ask(shared, Method::GET, &path).await.map_err(not_asked)?;
        self.after = answer.pointer("/page/next").and_then(Value::as_str).map(str::to_owned);
        self.is_over = self.after.is_none();
        let items = answer.get("items").and_then(Value::as_array).into_iter().flatten();
        let ids = items.filter_map(|item| item.get("client_id")?.as_str().map(str::to_owned));
        let ids: Vec<_> = ids.filter(|id| is_device_id(id)).collect();
        self.found += ids.len();
        match self.found > SUBSCRIBERS_MAX {
            true => Err(Problem::field(
                "/audience/topic",
                format!("has more than {SUBSCRIBERS_MAX} subscriptions: publish to it, or send to a tag"),
            )),
            false => Ok(Some(ids)),
        }
    }
}

fn not_asked(error: NotAsked) -> Problem {
    match error {
        NotAsked::Elsewhere => Problem::because(Errno::NotOffered, ELSEWHERE),
        NotAsked::Refused(StatusCode::BAD_GATEWAY, problem) => {
            let words =
                problem.get("detail").and_then(Value::as_str).unwrap_or("its answer is none").to_owned();
            Problem::because(Errno::BrokerFailed, words)
        }
        NotAsked::Refused(..) => Problem::later(Errno::BrokerAway, AWAY_RETRY_S),
    }
}
