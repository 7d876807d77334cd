//! `reveille run`: broker, bridge and HTTP API in one process.

use crate::config::Common;
use crate::failure::Failure;
use crate::say::say;
use crate::{serving, signals};
use reveille_bridge::{Beside, Bridge};
use reveille_broker::{Broker, Secret};
use signals::Stop;
use std::net::SocketAddr;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio::runtime::Runtime;

/// What `run` is told.
#[derive(Debug, Default, clap::Args)]
pub struct Args {
    #[command(flatten)]
    common: Common,
    /// Where devices and servers connect with MQTT; port 0 takes a free one [default: 127.0.0.1:1883]
    #[arg(long, value_name = "ADDR:PORT", env = "REVEILLE_MQTT")]
    mqtt: Option<SocketAddr>,
    /// Where the HTTP API listens; port 0 takes a free one [default: 127.0.0.1:8080]
    #[arg(long, value_name = "ADDR:PORT", env = "REVEILLE_HTTP")]
    http: Option<SocketAddr>,
}

/// Serves until a signal comes.
///
/// # Errors
/// [`Failure`] when something does not start, or ends by itself.
pub fn run(args: Args) -> Result<(), Failure> {
    let (serving, mut file) = serving::start(args.common)?;
    serving.check_certificate()?;
    let data_dir = serving.data_dir();
    file.broker.listen = args.mqtt.or(file.broker.listen);
    file.bridge.http = args.http.unwrap_or(file.bridge.http);
    // Nobody else needs it, so it lives as long as this process.
    let password = file.broker.internal_password.get_or_insert_with(random_password).clone();

    let runtime = runtime()?;
    let stop = signals::listen(&runtime).map_err(Failure::System)?;
    let broker = Arc::new(start_broker(file.broker, &data_dir)?);
    let (shared_password, certificates) = (password.clone(), serving.certificates());
    serving.follow(&broker, move |config| {
        config.listen = args.mqtt.or(config.listen);
        config.internal_password.get_or_insert_with(|| shared_password.clone());
    });
    signals::serve(&runtime, broker.operator()).map_err(Failure::System)?;
    file.bridge.mqtt = broker.internal_addr();
    file.bridge.user = reveille_broker::BRIDGE_USER.to_owned();
    file.bridge.password = reveille_bridge::vendor::Secret::new(password.reveal());
    let (metrics, ready) = (Arc::clone(&broker), Arc::clone(&broker));
    let beside = Beside {
        metrics: Arc::new(move || metrics.metrics_text()),
        is_ready: Arc::new(move || ready.is_ready()),
        operations: broker.operations(),
    };
    let bridge = runtime.block_on(start_bridge(file.bridge, &data_dir, Some(beside)))?;
    if let Some(of_bridge) = bridge.certificates() {
        let _ = certificates.set(of_bridge); // nobody else sets it
    }
    tell_listeners(&broker);
    tell(&bridge, &data_dir);
    let end = runtime.block_on(wait(stop, &broker));
    runtime.block_on(bridge.stop());
    drop(runtime); // the bridge's tasks hold the broker for its metrics
    drop(broker); // says goodbye to everyone and makes durable what they sent
    end
}

/// Threads for everything but sessions, which have their own.
pub fn runtime() -> Result<Runtime, Failure> {
    tokio::runtime::Builder::new_multi_thread().enable_all().build().map_err(Failure::System)
}

/// A broker that keeps its data in `broker` below the data directory.
pub fn start_broker(config: reveille_broker::Config, data_dir: &Path) -> Result<Broker, Failure> {
    Ok(reveille_broker::start(config, &make_dir(data_dir.join("broker"))?)?)
}

/// A bridge, which keeps its data in `bridge` below the data directory.
pub async fn start_bridge(
    config: reveille_bridge::Config,
    data_dir: &Path,
    beside: Option<Beside>,
) -> Result<Bridge, Failure> {
    let data_dir = make_dir(data_dir.to_owned())?;
    Ok(reveille_bridge::start(config, &data_dir, beside).await?)
}

fn make_dir(path: PathBuf) -> Result<PathBuf, Failure> {
    // What clients sent is for the service's user alone.
    match std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&path) {
        Ok(()) => Ok(path),
        Err(error) => Err(Failure::DataDir { path, error }),
    }
}

/// Says where devices and servers connect: `mqtt ADDRESS`, then `listener NAME KIND PLACE` for each further listener.
pub fn tell_listeners(broker: &Broker) {
    if let Some(address) = broker.plain_addr() {
        say(&format!("mqtt {address}"));
    }
    for listener in broker.listeners() {
        say(&format!("listener {} {} {}", listener.name, listener.kind, listener.place));
    }
}

/// Says where the bridge is and, on the first start, what opens it. Tests and the demo read these lines.
pub fn tell(bridge: &Bridge, data_dir: &Path) {
    let scheme = if bridge.certificates().is_some() { "https" } else { "http" };
    say(&format!("{scheme} {}", bridge.http_addr()));
    say(&format!("data {}", data_dir.display()));
    if let Some(key) = bridge.first_admin_key() {
        say(&format!("admin-key {key}"));
        say("The admin key is shown this once: keep it, it opens everything.");
    }
    say("ready");
}

/// Serves until a signal comes or the broker ends.
pub async fn wait(mut stop: Stop, broker: &Broker) -> Result<(), Failure> {
    tokio::select! {
        () = stop.requested() => Ok(()),
        () = broker.operator().drained() => Ok(()),
        failure = broker.wait_failed() => Err(Failure::BrokerEnded(failure)),
    }
}

/// 244 random bits.
fn random_password() -> Secret {
    Secret::new(format!("{}{}", uuid::Uuid::new_v4().simple(), uuid::Uuid::new_v4().simple()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_processes_share_a_password() {
        assert_ne!(random_password().reveal(), random_password().reveal());
        assert_eq!(random_password().reveal().len(), 64);
    }
}
