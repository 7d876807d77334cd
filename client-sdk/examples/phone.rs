//! A device on the command line: prints what it is sent, once, and obeys one order a line.
//!
//! `cargo run -p reveille-client --example phone -- 127.0.0.1:1883 d1 /tmp/d1`
//!
//! The directory keeps inbox and outbox. Orders: subscribe FILTER, publish TOPIC TEXT, post TOPIC TEXT, outbox,
//! register VENDOR TOKEN, vendor-push ID, network-changed LABEL, foreground, background,
//! heartbeat, close. The same program exists for each binding.

use reveille_client::{
    Client, Label, Learning, MessageId, Messages, Network, NetworkState, Options, PushHints, QoS, Radio,
    Registration, VendorPush,
};
use std::error::Error;
use std::path::Path;
use tokio::sync::watch;

type Failure = Box<dyn Error>;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Failure> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [endpoint, client_id, directory] = arguments.as_slice() else {
        return Err("usage: phone HOST:PORT CLIENT_ID DIRECTORY".into());
    };
    let (host, port) = endpoint.rsplit_once(':').ok_or("the endpoint is HOST:PORT")?;
    let directory = Path::new(directory);
    let options = Options::new(client_id, host, port.parse()?)
        .inbox_file(directory.join("inbox"))
        .outbox_file(directory.join("outbox"))
        .learned_heartbeat(Learning::on(Network::default()).file(directory.join("heartbeat")));
    let (client, messages) = Client::connect(options)?;
    let mut orders = orders();
    tokio::select! {
        result = obey_all(&client, &mut orders) => result?,
        () = tell_network(client.network()) => {}
        result = show_messages(&client, messages) => result?,
    }
    client.close().await;
    println!("done");
    Ok(())
}

/// A thread reads them: standard input has no other way to wait.
fn orders() -> tokio::sync::mpsc::Receiver<String> {
    let (sender, orders) = tokio::sync::mpsc::channel(1);
    std::thread::spawn(move || {
        let lines = std::io::stdin().lines().map_while(Result::ok);
        lines.take_while(|line| line != "close").all(|line| sender.blocking_send(line).is_ok())
    });
    orders
}

async fn obey_all(client: &Client, orders: &mut tokio::sync::mpsc::Receiver<String>) -> Result<(), Failure> {
    while let Some(line) = orders.recv().await {
        let (order, rest) = line.split_once(' ').unwrap_or((&line, ""));
        match obey(client, order, rest).await {
            Ok(answer) => println!("done {answer}"),
            Err(error) => println!("failed {error}"),
        }
    }
    Ok(())
}

async fn obey(client: &Client, order: &str, rest: &str) -> Result<String, Failure> {
    let (first, second) = rest.split_once(' ').unwrap_or((rest, ""));
    let (topic, text) = (first, second.to_owned());
    match order {
        "subscribe" => drop(client.subscribe(rest, QoS::AtLeastOnce).await?),
        "publish" => client.publish(topic, text, QoS::AtLeastOnce, &PushHints::default()).await?,
        "post" => return Ok(client.post(topic, text, &PushHints::default()).await?.to_string()),
        "outbox" => {
            let outbox = *client.outbox().borrow();
            return Ok(format!("{} {} {}", outbox.waiting, outbox.refused, outbox.expired));
        }
        "register" => {
            let registration = Registration::new().token(first, second).platform("linux").language("zh-CN");
            client.register(&registration).await?;
        }
        "vendor-push" => {
            let id = MessageId::parse(rest)?;
            if client.vendor_push_received(id).await? == VendorPush::Duplicate {
                return Ok("duplicate".to_owned());
            }
            client.handled(id).await?;
            return Ok("show".to_owned());
        }
        "network-changed" => {
            let label = Label::parse(rest).ok_or("no label")?;
            client.network_changed_to(Network { radio: Radio::G4, label }).await;
        }
        "foreground" => client.foreground().await,
        "background" => client.background().await,
        "heartbeat" => {
            let heartbeat = client.heartbeat().borrow().clone();
            return Ok(format!("{} {}", heartbeat.network, heartbeat.interval.as_secs()));
        }
        other => return Err(format!("no such order: {other}").into()),
    }
    Ok(String::new())
}

async fn show_messages(client: &Client, mut messages: Messages) -> Result<(), Failure> {
    while let Some(message) = messages.recv().await {
        let id = message.id();
        let text = String::from_utf8_lossy(message.payload()).into_owned();
        let shown_id = id.map_or("-".to_owned(), |id| id.to_string());
        println!("message {shown_id} {} {}", message.topic(), message.title().unwrap_or(&text));
        let is_directed = message.topic() == "$push/message";
        message.handled().await?;
        if let (Some(id), true) = (id, is_directed) {
            client.shown(id).await?;
        }
    }
    Ok(())
}

async fn tell_network(mut network: watch::Receiver<NetworkState>) {
    loop {
        match &*network.borrow_and_update() {
            NetworkState::Online { .. } => println!("network online"),
            NetworkState::Waiting { retry_in, reason } => println!("network waiting {retry_in:.1?} {reason}"),
            NetworkState::Connecting => {}
            NetworkState::Closed => return,
        }
        if network.changed().await.is_err() {
            return;
        }
    }
}
