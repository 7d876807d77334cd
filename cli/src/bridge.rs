//! `reveille bridge`: the push server with its HTTP API alone; the broker runs in another process.

use crate::config::{Common, InternalPassword, PasswordError};
use crate::failure::Failure;
use crate::{run, serving, signals};
use reveille_bridge::vendor::Secret;
use std::net::SocketAddr;

/// What `bridge` is told.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    common: Common,
    /// Where the HTTP API listens; port 0 takes a free one [default: 127.0.0.1:8080]
    #[arg(long, value_name = "ADDR:PORT", env = "REVEILLE_HTTP")]
    http: Option<SocketAddr>,
    /// The internal listener of the broker [default: 127.0.0.1:1884]
    #[arg(long, value_name = "ADDR:PORT", env = "REVEILLE_INTERNAL")]
    broker: Option<SocketAddr>,
    #[command(flatten)]
    password: InternalPassword,
}

/// Serves until a signal comes.
///
/// # Errors
/// [`Failure`] when it does not start.
pub fn run(args: Args) -> Result<(), Failure> {
    let (serving, file) = serving::start(args.common)?;
    serving.check_certificate()?;
    let data_dir = serving.data_dir();
    let mut config = file.bridge;
    config.http = args.http.unwrap_or(config.http);
    config.mqtt = args.broker.unwrap_or(config.mqtt);
    if let Some(password) = args.password.find()? {
        config.password = Secret::new(password);
    }
    if config.password.reveal().is_empty() {
        return Err(PasswordError::Missing { key: "bridge.password" }.into());
    }

    let runtime = run::runtime()?;
    let mut stop = signals::listen(&runtime).map_err(Failure::System)?;
    runtime.block_on(async {
        let bridge = run::start_bridge(config, &data_dir, None).await?;
        if let Some(certificates) = bridge.certificates() {
            signals::renew(runtime.handle(), certificates).map_err(Failure::System)?;
        }
        run::tell(&bridge, &data_dir);
        stop.requested().await;
        bridge.stop().await;
        Ok(())
    })
}
