//! A publisher: sends one message or many, and prints what the broker said to each.
//!
//! `cargo run -p reveille-client --example publisher -- 设备/1 hello --title Hello --count 3`

use clap::{Parser, ValueEnum};
use reveille_client::{Options, Publisher, PushHints, QoS, Strategy};
use std::error::Error;
use std::process::ExitCode;
use std::time::{Duration, Instant};

#[derive(Parser)]
#[command(about = "Publishes and waits for the broker's acknowledgement")]
struct Arguments {
    /// Where to publish.
    topic: String,
    /// What; `{n}` becomes the number of the message.
    payload: String,
    /// Where the broker listens.
    #[arg(long, default_value = "127.0.0.1")]
    host: String,
    /// Its MQTT port.
    #[arg(long, default_value_t = 1883)]
    port: u16,
    /// The publisher's MQTT client identifier; one of its own for each process otherwise.
    #[arg(long)]
    client_id: Option<String>,
    /// User name, when the broker wants one.
    #[arg(long, requires = "password")]
    user: Option<String>,
    /// Password to the user name.
    #[arg(long, env = "REVEILLE_PASSWORD", hide_env_values = true, requires = "user")]
    password: Option<String>,
    /// 0 written to the socket, 1 acknowledged, 2 exactly once.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u8).range(0..=2))]
    qos: u8,
    /// Keeps it as the last value of its topic.
    #[arg(long, conflicts_with_all = ["title", "body", "strategy", "collapse", "ttl"])]
    retain: bool,
    /// How many.
    #[arg(long, default_value_t = 1)]
    count: u64,
    /// Makes it a push candidate with this title.
    #[arg(long)]
    title: Option<String>,
    /// The alert's text.
    #[arg(long)]
    body: Option<String>,
    /// The way to the device.
    #[arg(long)]
    strategy: Option<Way>,
    /// A newer message with the same key replaces it.
    #[arg(long)]
    collapse: Option<String>,
    /// Seconds after which nobody wants it.
    #[arg(long)]
    ttl: Option<u64>,
}

#[derive(Clone, Copy, ValueEnum)]
#[value(rename_all = "snake_case")]
enum Way {
    OnlineFirst,
    VendorOnly,
    OnlineOnly,
    VendorFirst,
    BothDedup,
}

impl From<Way> for Strategy {
    fn from(way: Way) -> Self {
        match way {
            Way::OnlineFirst => Self::OnlineFirst,
            Way::VendorOnly => Self::VendorOnly,
            Way::OnlineOnly => Self::OnlineOnly,
            Way::VendorFirst => Self::VendorFirst,
            Way::BothDedup => Self::BothDedup,
        }
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    match run(Arguments::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("publisher: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn run(arguments: Arguments) -> Result<(), Box<dyn Error>> {
    let client_id =
        arguments.client_id.clone().unwrap_or_else(|| format!("publisher-{:08x}", rand::random::<u32>()));
    let mut options = Options::new(client_id, &arguments.host, arguments.port);
    if let (Some(user), Some(password)) = (&arguments.user, &arguments.password) {
        options = options.credentials(user, password);
    }
    let publisher = Publisher::connect(options)?;
    let start = Instant::now();
    for n in 1..=arguments.count {
        publish(&publisher, &arguments, n).await.map_err(|error| format!("message {n}: {error}"))?;
    }
    println!("{} acknowledged on {} in {:.1?}", arguments.count, arguments.topic, start.elapsed());
    publisher.close().await;
    Ok(())
}

async fn publish(
    publisher: &Publisher,
    arguments: &Arguments,
    n: u64,
) -> Result<(), reveille_client::PublishError> {
    let payload = arguments.payload.replace("{n}", &n.to_string());
    let qos = match arguments.qos {
        0 => QoS::AtMostOnce,
        1 => QoS::AtLeastOnce,
        _ => QoS::ExactlyOnce,
    };
    if arguments.retain {
        return publisher.publish_retained(&arguments.topic, payload, qos).await;
    }
    let hints = PushHints {
        title: arguments.title.clone(),
        body: arguments.body.clone(),
        strategy: arguments.strategy.map(Strategy::from),
        collapse: arguments.collapse.clone(),
        ttl: arguments.ttl.map(Duration::from_secs),
    };
    publisher.publish(&arguments.topic, payload, qos, &hints).await
}
