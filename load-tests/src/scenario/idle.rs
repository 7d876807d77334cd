//! Connections that do nothing, with one subscription each.

use super::qos;
use crate::Arguments;
use crate::client::{Client, LoadError};
use crate::contender::Running;
use crate::report::Figures;
use std::time::Instant;

/// Connects per second (one after the other), and resident bytes per idle connection.
pub async fn idle(arguments: &Arguments, broker: &Running) -> Result<Figures, LoadError> {
    let qos = qos(arguments.qos)?;
    let rss = broker.rss();
    let started = Instant::now();
    let mut clients = Vec::new();
    for number in 0..arguments.connections {
        let mut client = Client::connect(broker.address(), &format!("idle-{number}"), false).await?;
        client.subscribe(&format!("状态/{number}"), qos).await?;
        clients.push(client);
    }
    let count = arguments.connections as f64;
    let rate = count / started.elapsed().as_secs_f64();
    let grown = broker.rss().saturating_sub(rss) as f64;
    Ok(vec![("connect and subscribe/s", rate), ("RSS bytes/connection", grown / count)])
}
