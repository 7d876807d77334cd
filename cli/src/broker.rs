//! `reveille broker`: the MQTT broker alone; a bridge in another process connects to its internal listener.

use crate::config::{Common, InternalPassword, PasswordError};
use crate::failure::Failure;
use crate::say::say;
use crate::{run, serving, signals};
use reveille_broker::Secret;
use std::net::{Ipv4Addr, SocketAddr};

/// Where the bridge connects when nobody says otherwise. Not a free port: the bridge has to know it beforehand.
const INTERNAL: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 1884);

/// What `broker` is told.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    common: Common,
    /// Where devices and servers connect with MQTT; port 0 takes a free one [default: 127.0.0.1:1883]
    #[arg(long, value_name = "ADDR:PORT", env = "REVEILLE_MQTT")]
    mqtt: Option<SocketAddr>,
    /// Where the bridge connects; keep it off the public network [default: 127.0.0.1:1884]
    #[arg(long, value_name = "ADDR:PORT", env = "REVEILLE_INTERNAL")]
    internal: Option<SocketAddr>,
    /// Where health and metrics of the broker are served [default: nowhere]
    #[arg(long, value_name = "ADDR:PORT", env = "REVEILLE_BROKER_HTTP")]
    http: Option<SocketAddr>,
    #[command(flatten)]
    password: InternalPassword,
}

/// Serves until a signal comes.
///
/// # Errors
/// [`Failure`] when it does not start, or ends by itself.
pub fn run(args: Args) -> Result<(), Failure> {
    let (serving, file) = serving::start(args.common)?;
    let data_dir = serving.data_dir();
    let flags = Flags {
        mqtt: args.mqtt,
        internal: args.internal,
        http: args.http,
        password: args.password.find()?.map(Secret::new),
    };
    let mut config = file.broker;
    flags.complete(&mut config);
    if config.internal_password.is_none() {
        return Err(PasswordError::Missing { key: "broker.internal_password" }.into());
    }

    let runtime = run::runtime()?;
    let stop = signals::listen(&runtime).map_err(Failure::System)?;
    let broker = run::start_broker(config, &data_dir)?;
    serving.follow(&broker, move |config| flags.complete(config));
    signals::serve(&runtime, broker.operator()).map_err(Failure::System)?;
    run::tell_listeners(&broker);
    say(&format!("internal {}", broker.internal_addr()));
    if let Some(http) = broker.http_addr() {
        say(&format!("http {http}"));
    }
    say(&format!("data {}", data_dir.display()));
    say("ready");
    let end = runtime.block_on(run::wait(stop, &broker));
    broker.stop();
    end
}

/// What the command line and the environment decide, at the start and whenever the file is read again.
struct Flags {
    mqtt: Option<SocketAddr>,
    internal: Option<SocketAddr>,
    http: Option<SocketAddr>,
    password: Option<Secret>,
}

impl Flags {
    fn complete(&self, config: &mut reveille_broker::Config) {
        config.listen = self.mqtt.or(config.listen);
        config.http = self.http.or(config.http);
        let configured = Some(config.internal).filter(|address| address.port() != 0);
        config.internal = self.internal.or(configured).unwrap_or(INTERNAL);
        if let Some(password) = &self.password {
            config.internal_password = Some(password.clone());
        }
    }
}
