//! One publisher, many subscribers of one topic.

use super::{payload, qos, topic};
use crate::Arguments;
use crate::client::{Client, LoadError};
use crate::contender::Running;
use crate::report::Figures;
use std::time::Instant;
use tokio::task::JoinSet;

/// Messages received per second by all subscribers, and per second of the broker's processor time.
pub async fn fan_out(arguments: &Arguments, broker: &Running) -> Result<Figures, LoadError> {
    let qos = qos(arguments.qos)?;
    let name = topic("广播".to_owned())?;
    let each = arguments.messages / arguments.connections.max(1);
    let mut subscribers = Vec::new();
    for number in 0..arguments.connections {
        let mut subscriber = Client::connect(broker.address(), &format!("s{number}"), false).await?;
        subscriber.subscribe(name.as_str(), qos).await?;
        subscribers.push(subscriber);
    }
    let mut publisher = Client::connect(broker.address(), "p", false).await?;
    let (started, cpu) = (Instant::now(), broker.cpu());
    let mut tasks = JoinSet::new();
    for mut subscriber in subscribers {
        tasks.spawn(async move { subscriber.receive(each).await });
    }
    let (bytes, window) = (payload(arguments.payload), arguments.window);
    tasks.spawn(async move { publisher.publish_all(&[name], &bytes, qos, each, window).await });
    while let Some(ended) = tasks.join_next().await {
        ended.map_err(|error| LoadError::Broken(error.to_string()))??;
    }
    let count = (each * arguments.connections) as f64;
    let (seconds, cpu) = (started.elapsed().as_secs_f64(), broker.cpu() - cpu);
    Ok(vec![("messages/s", count / seconds), ("messages per broker CPU second", count / cpu.max(0.01))])
}
