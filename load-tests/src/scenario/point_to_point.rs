//! Pairs: each publisher has one subscriber of its own; clean sessions, full speed.

use super::{payload, qos, topic};
use crate::Arguments;
use crate::client::{Client, LoadError};
use crate::contender::Running;
use crate::report::Figures;
use std::time::Instant;
use tokio::task::JoinSet;

/// Messages received per second, and per second of the broker's processor time.
pub async fn point_to_point(arguments: &Arguments, broker: &Running) -> Result<Figures, LoadError> {
    let qos = qos(arguments.qos)?;
    let each = arguments.messages / arguments.connections.max(1);
    let mut pairs = Vec::new();
    for pair in 0..arguments.connections {
        let name = topic(format!("设备/{pair}"))?;
        let mut subscriber = Client::connect(broker.address(), &format!("s{pair}"), false).await?;
        subscriber.subscribe(name.as_str(), qos).await?;
        pairs.push((subscriber, Client::connect(broker.address(), &format!("p{pair}"), false).await?, name));
    }
    let (started, cpu) = (Instant::now(), broker.cpu());
    let mut tasks = JoinSet::new();
    for (mut subscriber, mut publisher, name) in pairs {
        let (bytes, window) = (payload(arguments.payload), arguments.window);
        tasks.spawn(async move { publisher.publish_all(&[name], &bytes, qos, each, window).await });
        tasks.spawn(async move { subscriber.receive(each).await });
    }
    while let Some(ended) = tasks.join_next().await {
        ended.map_err(|error| LoadError::Broken(error.to_string()))??;
    }
    let count = (each * arguments.connections) as f64;
    let (seconds, cpu) = (started.elapsed().as_secs_f64(), broker.cpu() - cpu);
    Ok(vec![("messages/s", count / seconds), ("messages per broker CPU second", count / cpu.max(0.01))])
}
