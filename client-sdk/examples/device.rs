//! A device: prints what it is sent, once, and reports it as shown.
//!
//! `cargo run -p reveille-client --example device -- --client-id d1 --inbox d1.seen`

use clap::Parser;
use reveille_client::{
    Client, HeartbeatState, Learning, Message, Network, NetworkState, Options, QoS, Registration,
};
use std::error::Error;
use std::path::PathBuf;
use std::process::ExitCode;
use tokio::sync::watch;

/// The topic of what was sent to this device by name, tag or audience.
const DIRECTED: &str = "$push/message";

#[derive(Parser)]
#[command(about = "A device that prints what it is sent, once")]
struct Arguments {
    /// Where the broker listens.
    #[arg(long, default_value = "127.0.0.1")]
    host: String,
    /// Its MQTT port.
    #[arg(long, default_value_t = 1883)]
    port: u16,
    /// The device's name: its MQTT client identifier.
    #[arg(long)]
    client_id: String,
    /// User name, when the broker wants one.
    #[arg(long, requires = "password")]
    user: Option<String>,
    /// Password to the user name.
    #[arg(long, env = "REVEILLE_PASSWORD", hide_env_values = true, requires = "user")]
    password: Option<String>,
    /// Keeps the ids of handled messages, so that a restart shows nothing twice.
    #[arg(long)]
    inbox: Option<PathBuf>,
    /// Learns the heartbeat, beginning on this network: `4g,46000`, `wifi`.
    #[arg(long, value_parser = network)]
    network: Option<Network>,
    /// Keeps what was learned about networks.
    #[arg(long, requires = "network")]
    heartbeat: Option<PathBuf>,
    /// How many times faster than real the heartbeat's intervals pass, at a broker of the same speed.
    #[arg(long, requires = "network", default_value_t = 1)]
    speed: u32,
    /// Vendor and device token to register, for example `fcm:abc123`.
    #[arg(long, value_parser = vendor_and_token)]
    token: Option<(String, String)>,
    /// Topic filters to subscribe beside `$push/message`, which needs none.
    #[arg(long = "subscribe")]
    filters: Vec<String>,
    /// Ends after so many messages.
    #[arg(long)]
    count: Option<usize>,
}

fn vendor_and_token(text: &str) -> Result<(String, String), String> {
    let (vendor, token) = text.split_once(':').ok_or("wanted VENDOR:TOKEN")?;
    Ok((vendor.to_owned(), token.to_owned()))
}

fn network(text: &str) -> Result<Network, String> {
    Network::parse(text)
        .ok_or_else(|| "wanted RADIO or RADIO,LABEL with a radio of wifi, eth, 2g to 5g, ?".to_owned())
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    match run(Arguments::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("device: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn run(arguments: Arguments) -> Result<(), Box<dyn Error>> {
    let Arguments { client_id, host, port, .. } = &arguments;
    println!("{client_id} connects to {host}:{port}; Ctrl-C ends it");
    let (client, mut messages) = Client::connect(options(&arguments))?;
    let story = tokio::spawn(tell_network(client.network()));
    let is_learning = arguments.network.is_some(); // else its interval is fixed, and no news
    let intervals = is_learning.then(|| tokio::spawn(tell_heartbeat(client.heartbeat())));
    if let Some((vendor, token)) = &arguments.token {
        client.register(&Registration::new().token(vendor, token).platform(std::env::consts::OS)).await?;
        println!("registered at {vendor}");
    }
    for filter in &arguments.filters {
        let qos = client.subscribe(filter, QoS::AtLeastOnce).await?;
        println!("subscribed to {filter} with {qos:?}");
    }
    let mut left = arguments.count.unwrap_or(usize::MAX);
    while left > 0 {
        let message = tokio::select! {
            message = messages.recv() => message,
            _ = tokio::signal::ctrl_c() => None,
        };
        let Some(message) = message else {
            break;
        };
        show(&client, message).await?;
        left -= 1;
    }
    client.close().await;
    story.await?;
    if let Some(intervals) = intervals {
        intervals.await?;
    }
    Ok(())
}

fn options(arguments: &Arguments) -> Options {
    let mut options = Options::new(&arguments.client_id, &arguments.host, arguments.port);
    if let (Some(user), Some(password)) = (&arguments.user, &arguments.password) {
        options = options.credentials(user, password);
    }
    if let Some(path) = &arguments.inbox {
        options = options.inbox_file(path);
    }
    if let Some(network) = &arguments.network {
        let learning = Learning::on(network.clone()).speed(arguments.speed);
        options = options.learned_heartbeat(match &arguments.heartbeat {
            Some(path) => learning.file(path),
            None => learning,
        });
    }
    options
}

/// The order that matters: show, then `handled`, then tell the business.
async fn show(client: &Client, message: Message) -> Result<(), Box<dyn Error>> {
    let text = String::from_utf8_lossy(message.payload()).into_owned();
    let what = if message.topic() == DIRECTED { "alert" } else { message.topic() };
    match (message.title(), message.body()) {
        (Some(title), Some(body)) => println!("{what}  {title}: {body}"),
        (Some(one), None) | (None, Some(one)) => println!("{what}  {one}"),
        (None, None) => println!("{what}  {text}"),
    }
    let id = message.id();
    message.handled().await?;
    if let Some(id) = id {
        client.shown(id).await?;
    }
    Ok(())
}

async fn tell_network(mut network: watch::Receiver<NetworkState>) {
    loop {
        let state = network.borrow_and_update().clone();
        match &state {
            NetworkState::Connecting => {}
            NetworkState::Online { session_present: false } => println!("online"),
            NetworkState::Online { session_present: true } => {
                println!("online again: what waited for it comes now")
            }
            NetworkState::Waiting { retry_in, reason } => {
                println!("offline ({reason}), again in {retry_in:.1?}")
            }
            NetworkState::Closed => return,
        }
        if network.changed().await.is_err() {
            return;
        }
    }
}

async fn tell_heartbeat(mut heartbeat: watch::Receiver<HeartbeatState>) {
    let mut told = None;
    while heartbeat.changed().await.is_ok() {
        let HeartbeatState { interval, survived, .. } = heartbeat.borrow_and_update().clone();
        if told != Some((interval, survived)) {
            println!("may be silent for {interval:.1?}, survived {survived:.1?}");
            told = Some((interval, survived));
        }
    }
}
