//! Durable sessions sleep while messages come for them; then all return and drain.

use super::{payload, qos, topic};
use crate::Arguments;
use crate::client::{Client, LoadError};
use crate::contender::Running;
use crate::report::Figures;
use reveille_proto::topic::TopicName;
use std::time::Instant;
use tokio::task::JoinSet;

/// Publishers that share the load.
const PUBLISHERS: usize = 10;

/// Acknowledged publishes per second into sleeping sessions, messages per second when they drain, memory per message.
pub async fn offline(arguments: &Arguments, broker: &Running) -> Result<Figures, LoadError> {
    let qos = qos(arguments.qos.max(1))?;
    let each = (arguments.messages / arguments.connections.max(1)).max(1);
    let topics: Result<Vec<TopicName>, LoadError> =
        (0..arguments.connections).map(|number| topic(format!("睡/{number}"))).collect();
    let topics = topics?;
    for (number, name) in topics.iter().enumerate() {
        let mut sleeper = Client::connect(broker.address(), &format!("d{number}"), true).await?;
        sleeper.subscribe(name.as_str(), qos).await?;
    }
    let rss = broker.rss();
    let enqueued = Instant::now();
    let mut tasks = JoinSet::new();
    for chunk in topics.chunks(topics.len().div_ceil(PUBLISHERS).max(1)) {
        let (chunk, bytes, window) = (chunk.to_vec(), payload(arguments.payload), arguments.window);
        let mut publisher = Client::connect(
            broker.address(),
            &format!("p-{}", chunk.first().map_or("none", |topic| topic.as_str())),
            false,
        )
        .await?;
        let count = each * chunk.len();
        tasks.spawn(async move { publisher.publish_all(&chunk, &bytes, qos, count, window).await });
    }
    while let Some(ended) = tasks.join_next().await {
        ended.map_err(|error| LoadError::Broken(error.to_string()))??;
    }
    let count = (each * topics.len()) as f64;
    let enqueue = count / enqueued.elapsed().as_secs_f64();
    let grown = broker.rss().saturating_sub(rss) as f64;
    let drained = Instant::now();
    for number in 0..topics.len() {
        let address = broker.address();
        tasks.spawn(async move {
            Client::connect(address, &format!("d{number}"), true).await?.receive(each).await
        });
    }
    while let Some(ended) = tasks.join_next().await {
        ended.map_err(|error| LoadError::Broken(error.to_string()))??;
    }
    let drain = count / drained.elapsed().as_secs_f64();
    Ok(vec![
        ("enqueue, PUBACKs/s", enqueue),
        ("drain, messages/s", drain),
        ("RSS bytes/queued message", grown / count),
    ])
}
