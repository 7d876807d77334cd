//! RMQTT in its library mode: one TCP listener on the address that is the first argument, everything in memory.

use rmqtt::context::ServerContext;
use rmqtt::net::{Builder, Result};
use rmqtt::server::MqttServer;
use std::num::{NonZeroU16, NonZeroU32};
use std::time::Duration;

#[tokio::main]
async fn main() -> Result<()> {
    let address = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:1883".into()).parse()?;
    let context = ServerContext::new().busy_check_enable(false).build().await;
    // Bounds of queues and connections out of the way, as for every other contender.
    let listener = Builder::new()
        .name("tcp")
        .laddr(address)
        .nodelay(true)
        .allow_anonymous(true)
        .backlog(4096)
        .max_connections(1_000_000)
        .max_handshaking_limit(100_000)
        .max_inflight(NonZeroU16::MAX)
        .max_mqueue_len(1_000_000)
        .mqueue_rate_limit(NonZeroU32::MAX, Duration::from_secs(1))
        .bind()?
        .tcp()?;
    MqttServer::new(context).listener(listener).build().run().await?;
    Ok(())
}
