//! A dashboard: the latest value of each topic under a filter, as a table that refreshes or as plain lines.
//!
//! `cargo run -p reveille-client --example dashboard -- '传感器/#'`

use clap::Parser;
use reveille_client::{Client, Message, Options, QoS};
use std::collections::BTreeMap;
use std::error::Error;
use std::io::{self, Write};
use std::process::ExitCode;
use std::time::{Duration, Instant};
use tokio::time;

/// Topics in the table; further ones are counted only.
const TOPICS_MAX: usize = 10_000;
/// Rows on the screen.
const ROWS_MAX: usize = 40;
/// Between two pictures.
const REFRESH: Duration = Duration::from_millis(250);

#[derive(Parser)]
#[command(about = "Shows the latest value of each topic")]
struct Arguments {
    /// What to watch.
    #[arg(default_value = "#")]
    filter: String,
    /// Where the broker listens.
    #[arg(long, default_value = "127.0.0.1")]
    host: String,
    /// Its MQTT port.
    #[arg(long, default_value_t = 1883)]
    port: u16,
    /// The dashboard's MQTT client identifier; one of its own for each process otherwise.
    #[arg(long)]
    client_id: Option<String>,
    /// User name, when the broker wants one.
    #[arg(long, requires = "password")]
    user: Option<String>,
    /// Password to the user name.
    #[arg(long, env = "REVEILLE_PASSWORD", hide_env_values = true, requires = "user")]
    password: Option<String>,
    /// One line for each message instead of a table.
    #[arg(long)]
    plain: bool,
}

#[derive(Default)]
struct Table {
    latest: BTreeMap<String, Latest>,
    messages: u64,
    without_room: u64,
}

struct Latest {
    value: String,
    count: u64,
    at: Instant,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    match run(Arguments::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("dashboard: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn run(arguments: Arguments) -> Result<(), Box<dyn Error>> {
    let client_id =
        arguments.client_id.clone().unwrap_or_else(|| format!("dashboard-{:08x}", rand::random::<u32>()));
    // Only the latest value counts, so nothing is kept while it is away.
    let mut options = Options::new(client_id, &arguments.host, arguments.port)
        .clean_start(true)
        .session_expiry(Duration::ZERO)
        .incoming_max(4_096);
    if let (Some(user), Some(password)) = (&arguments.user, &arguments.password) {
        options = options.credentials(user, password);
    }
    let (client, mut messages) = Client::connect(options)?;
    client.subscribe(&arguments.filter, QoS::AtMostOnce).await?;
    let mut table = Table::default();
    let mut refresh = time::interval(REFRESH);
    loop {
        tokio::select! {
            message = messages.recv() => match message {
                Some(message) if arguments.plain => print_line(message).await?,
                Some(message) => table.take(message).await?,
                None => break,
            },
            _ = refresh.tick(), if !arguments.plain => table.draw(&arguments.filter, client.dropped())?,
            _ = tokio::signal::ctrl_c() => break,
        }
    }
    client.close().await;
    Ok(())
}

async fn print_line(message: Message) -> Result<(), Box<dyn Error>> {
    // A reader that went away (`dashboard | head`) is the end, not a panic.
    writeln!(io::stdout(), "{}  {}", message.topic(), String::from_utf8_lossy(message.payload()))?;
    Ok(message.handled().await?)
}

impl Table {
    async fn take(&mut self, message: Message) -> Result<(), Box<dyn Error>> {
        self.messages += 1;
        let value = String::from_utf8_lossy(message.payload()).replace(char::is_control, " ");
        let at = Instant::now();
        if let Some(latest) = self.latest.get_mut(message.topic()) {
            *latest = Latest { value, count: latest.count + 1, at };
        } else if self.latest.len() < TOPICS_MAX {
            self.latest.insert(message.topic().to_owned(), Latest { value, count: 1, at });
        } else {
            self.without_room += 1;
        }
        Ok(message.handled().await?)
    }

    fn draw(&self, filter: &str, dropped: u64) -> io::Result<()> {
        let mut screen = String::from("\x1b[H\x1b[J"); // to the top left, clear below
        let (topics, messages) = (self.latest.len(), self.messages);
        screen += &format!("{filter}   {topics} topics, {messages} messages, {dropped} dropped\n\n");
        for (topic, latest) in self.latest.iter().take(ROWS_MAX) {
            let (value, count, age) = (cut(&latest.value, 50), latest.count, latest.at.elapsed().as_secs());
            screen += &format!("{:<40}  {value:<50}  {count:>8}  {age:>4} s\n", cut(topic, 40));
        }
        let hidden = topics.saturating_sub(ROWS_MAX) as u64 + self.without_room;
        if hidden > 0 {
            screen += &format!("... and {hidden} more\n");
        }
        let mut stdout = io::stdout();
        stdout.write_all(screen.as_bytes())?;
        stdout.flush()
    }
}

fn cut(text: &str, characters: usize) -> String {
    text.chars().take(characters).collect()
}
