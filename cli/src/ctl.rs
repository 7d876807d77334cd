//! `reveille ctl`: what an operator sees and does at three in the morning, over the operations API.

mod audit;
mod new_key;
mod table;

use crate::failure::Failure;
use crate::http::{Api, encoded};
use crate::say::say;
use serde_json::{Value, json};
use std::path::PathBuf;
use table::Column;

/// Where the operations API begins.
const API: &str = "/v1/broker";

/// Entries that one request asks for.
const PAGE: usize = 500;

/// What `ctl` is told.
#[derive(clap::Args)]
pub struct Args {
    /// Where the HTTP API is: that of `reveille run`, or `broker.http`
    #[arg(
        long,
        global = true,
        value_name = "URL",
        env = "REVEILLE_URL",
        default_value = "http://127.0.0.1:8080"
    )]
    http: String,
    /// The admin key: that of the first start, or one of `[broker.admin]`
    #[arg(
        long,
        global = true,
        value_name = "KEY",
        env = "REVEILLE_ADMIN_KEY",
        hide_env_values = true,
        default_value = ""
    )]
    admin_key: String,
    /// A PEM file with authorities that the server's certificate leads to, instead of the public ones
    #[arg(long, global = true, value_name = "FILE", env = "REVEILLE_CA_FILE")]
    ca_file: Option<PathBuf>,
    /// JSON instead of a table: one object, or one a line
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    command: Command,
}

/// Without the key.
impl std::fmt::Debug for Args {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Args")
            .field("http", &self.http)
            .field("command", &self.command)
            .finish_non_exhaustive()
    }
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Sessions that fit a filter
    Sessions {
        #[command(flatten)]
        filter: SessionFilter,
    },
    /// One session with everything that is known about it
    Session(Client),
    /// End a client's connection; its session stays
    Kick {
        #[command(flatten)]
        client: Client,
        /// What a 5.0 client hears: administrative_action, not_authorized, server_busy, use_another_server, ...
        #[arg(long, default_value = "administrative_action")]
        reason: String,
    },
    /// End a session with its subscriptions and its queue
    End(Client),
    /// Messages in a session's queue, oldest first
    Queue(Client),
    /// Drop what waits in a session's queue and was never sent
    Purge(Client),
    /// The longest, largest or oldest queues
    Queues {
        /// messages, bytes or oldest
        #[arg(long, default_value = "messages")]
        order: String,
    },
    /// Clients that take their messages too slowly
    Slow,
    /// Subscriptions, of everybody or of one client
    Subscriptions {
        /// Of clients with this id; * and ? are wildcards
        #[arg(long)]
        client_id: Option<String>,
        /// To exactly this topic filter
        #[arg(long)]
        filter: Option<String>,
    },
    /// Who would get a message with this topic
    Receivers {
        /// The topic
        topic: String,
        /// The app
        #[arg(long, default_value = "default")]
        app: String,
    },
    /// Retained messages: list, or delete with --delete
    Retained {
        /// Those on topics under this filter
        #[arg(default_value = "#")]
        filter: String,
        /// The app
        #[arg(long, default_value = "default")]
        app: String,
        /// Delete them
        #[arg(long)]
        delete: bool,
    },
    /// Publish a message; done when it is durable
    Publish {
        /// The topic
        topic: String,
        /// The payload
        payload: String,
        /// The app
        #[arg(long, default_value = "default")]
        app: String,
        /// 0, 1 or 2
        #[arg(long, default_value_t = 1)]
        qos: u8,
        /// The topic keeps it
        #[arg(long)]
        retain: bool,
    },
    /// Who may not connect
    Bans,
    /// Ban a client id, a user or an address; whoever it means is sent away
    Ban {
        /// client_id, user or address
        kind: String,
        /// The client id, the user name, or an address or network as 192.0.2.0/24
        who: String,
        /// Only in this app
        #[arg(long)]
        app: Option<String>,
        /// Seconds; until it is lifted when absent
        #[arg(long)]
        for_s: Option<u32>,
        /// Why, for people
        #[arg(long, default_value = "")]
        reason: String,
    },
    /// Lift a ban
    Unban {
        /// Its id, as `bans` shows it
        id: String,
    },
    /// For how long each network lets a connection be silent, as far as devices have found out
    Networks,
    /// Where clients come in
    Listeners,
    /// The log of who changed what
    #[command(subcommand)]
    Audit(audit::Command),
    /// The threads that own sessions
    Shards,
    /// Every counter
    Stats,
    /// What is logged; with a filter, what shall be
    Log {
        /// In the words of RUST_LOG, as info,reveille_broker=debug
        filter: Option<String>,
    },
    /// Follow a client or a topic in the broker's log for a while
    #[command(subcommand)]
    Trace(Trace),
    /// Send every client away before a planned stop, and end the program; cannot be taken back
    Drain {
        /// Where clients of 5.0 shall go: names or addresses with ports, separated by spaces
        #[arg(long)]
        server_reference: Option<String>,
        /// They shall stay there
        #[arg(long)]
        permanent: bool,
        /// Seconds over which they leave
        #[arg(long)]
        over_s: Option<u32>,
    },
    /// The configuration in force, without its secrets
    Config,
    /// Read the configuration file again
    Reload,
    /// Make a key for `[broker.admin]`; needs no broker
    NewKey {
        /// Whose it is
        #[arg(long)]
        name: String,
        /// read or admin
        #[arg(long, default_value = "read")]
        role: String,
    },
}

#[derive(Debug, clap::Subcommand)]
enum Trace {
    /// Follow a client, or topics; prints the number of the trace
    Add {
        /// This client
        #[arg(long)]
        client_id: Option<String>,
        /// Topics under this filter
        #[arg(long)]
        filter: Option<String>,
        /// Of this app
        #[arg(long)]
        app: Option<String>,
        /// Seconds
        #[arg(long)]
        for_s: Option<u32>,
        /// Lines in one second; more are counted instead
        #[arg(long)]
        lines_per_s: Option<u32>,
    },
    /// Those that run
    List,
    /// End one early
    Remove {
        /// Its number, as `list` shows it
        number: u64,
    },
}

/// Whose session.
#[derive(Debug, clap::Args)]
struct Client {
    /// The client id
    client_id: String,
    /// Its app
    #[arg(long, default_value = "default")]
    app: String,
}

impl Client {
    fn path(&self, rest: &str) -> String {
        format!("{API}/apps/{}/sessions/{}{rest}", encoded(&self.app), encoded(&self.client_id))
    }
}

#[derive(Debug, clap::Args)]
struct SessionFilter {
    /// Of this app
    #[arg(long)]
    app: Option<String>,
    /// With this client id; * and ? are wildcards
    #[arg(long)]
    client_id: Option<String>,
    /// With (true) or without (false) a connection
    #[arg(long)]
    online: Option<bool>,
    /// Connected through this listener
    #[arg(long)]
    listener: Option<String>,
    /// Connected from this network, as 10.0.0.0/8
    #[arg(long)]
    network: Option<String>,
    /// With this user name; * and ? are wildcards
    #[arg(long)]
    user: Option<String>,
    /// With at least so many messages in the queue
    #[arg(long)]
    queue_min: Option<usize>,
}

impl SessionFilter {
    fn query(&self) -> String {
        let number = |value: Option<usize>| value.map(|value| value.to_string());
        query(&[
            ("app", self.app.clone()),
            ("client_id", self.client_id.clone()),
            ("online", self.online.map(|online| online.to_string())),
            ("listener", self.listener.clone()),
            ("network", self.network.clone()),
            ("user", self.user.clone()),
            ("queue_min", number(self.queue_min)),
        ])
    }
}

const SESSIONS: &[Column] = &[
    ("APP", "/app"),
    ("CLIENT ID", "/client_id"),
    ("ONLINE", "/online"),
    ("FROM", "/connection/network"),
    ("LISTENER", "/connection/listener"),
    ("USER", "/connection/user"),
    ("SUBSCRIPTIONS", "/subscriptions"),
    ("QUEUED", "/queue/messages"),
    ("IN FLIGHT", "/queue/in_flight"),
    ("OLDEST S", "/queue/oldest_age_s"),
];
const QUEUED: &[Column] = &[
    ("SEQ", "/seq"),
    ("TOPIC", "/topic"),
    ("QOS", "/qos"),
    ("STATE", "/state"),
    ("BYTES", "/size"),
    ("PAYLOAD", "/payload/text"),
];
const QUEUES: &[Column] = &[
    ("APP", "/app"),
    ("CLIENT ID", "/client_id"),
    ("ONLINE", "/online"),
    ("MESSAGES", "/queue/messages"),
    ("BYTES", "/queue/bytes"),
    ("OLDEST S", "/queue/oldest_age_s"),
];
const SLOW: &[Column] = &[
    ("APP", "/app"),
    ("CLIENT ID", "/client_id"),
    ("FROM", "/connection/network"),
    ("UNSENT BYTES", "/connection/unsent_bytes"),
    ("IN FLIGHT", "/queue/in_flight"),
    ("QUEUED", "/queue/messages"),
    ("OLDEST S", "/queue/oldest_age_s"),
];
const SUBSCRIPTIONS: &[Column] = &[
    ("APP", "/app"),
    ("CLIENT ID", "/client_id"),
    ("ONLINE", "/online"),
    ("GROUP", "/group"),
    ("FILTER", "/filter"),
    ("QOS", "/qos"),
];
const RETAINED: &[Column] =
    &[("TOPIC", "/topic"), ("QOS", "/qos"), ("BYTES", "/payload_bytes"), ("PAYLOAD", "/payload/text")];
const BANS: &[Column] = &[
    ("KIND", "/kind"),
    ("WHO", "/who"),
    ("APP", "/app"),
    ("UNTIL MS", "/until_ms"),
    ("REASON", "/reason"),
    ("ID", "/id"),
];
const NETWORKS: &[Column] = &[
    ("NETWORK", "/network"),
    ("RADIO", "/radio"),
    ("ONLINE", "/connections"),
    ("DEVICES", "/devices"),
    ("COUNTED", "/counted"),
    ("DEATHS", "/deaths"),
    ("RESETS", "/resets"),
    ("5% S", "/quantiles_s/0"),
    ("25% S", "/quantiles_s/2"),
    ("50% S", "/quantiles_s/3"),
    ("INTERVAL S", "/interval_s"),
];
const TRACES: &[Column] = &[
    ("NUMBER", "/number"),
    ("APP", "/app"),
    ("CLIENT ID", "/client_id"),
    ("FILTER", "/filter"),
    ("LEFT S", "/left_s"),
    ("LINES", "/lines"),
    ("SUPPRESSED", "/suppressed"),
];
const LISTENERS: &[Column] = &[
    ("NAME", "/name"),
    ("KIND", "/kind"),
    ("PLACE", "/place"),
    ("CONNECTIONS", "/connections"),
    ("ACCEPTED", "/accepted"),
    ("TURNED AWAY", "/turned_away"),
];
const SHARDS: &[Column] = &[
    ("SHARD", "/shard"),
    ("SESSIONS", "/sessions"),
    ("ONLINE", "/sessions_online"),
    ("QUEUED", "/queued_messages"),
    ("MAILBOX BYTES", "/mailbox_bytes"),
    ("LAG US", "/lag_us"),
];

/// Does it.
///
/// # Errors
/// [`Failure::Api`] with the server's words.
pub fn run(args: Args) -> Result<(), Failure> {
    if let Command::NewKey { name, role } = &args.command {
        return new_key::make(name, role);
    }
    if let Command::Audit(audit::Command::Verify { file: Some(file), head }) = &args.command {
        return audit::verify_file(file, head.as_deref(), args.json);
    }
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(Failure::System)?;
    runtime.block_on(carry_out(args))
}

async fn carry_out(args: Args) -> Result<(), Failure> {
    let api = Api::trusting(&args.http, &args.admin_key, args.ca_file.as_deref())?;
    let ctl = Ctl { api, json: args.json };
    match &args.command {
        Command::Sessions { filter } => {
            ctl.list(&format!("{API}/sessions{}", filter.query()), SESSIONS).await
        }
        Command::Audit(audit::Command::Verify { .. }) => audit::verify(&ctl.api, args.json).await,
        Command::Session(client) => ctl.one(&client.path("")).await,
        Command::Kick { client, reason } => {
            let path = client.path("/connection") + &query(&[("reason", Some(reason.clone()))]);
            ctl.delete(&path).await
        }
        Command::End(client) => ctl.delete(&client.path("")).await,
        Command::Queue(client) => ctl.list(&client.path("/queue?payload=true"), QUEUED).await,
        Command::Purge(client) => ctl.delete(&client.path("/queue")).await,
        Command::Queues { order } => {
            let path = format!("{API}/queues{}", query(&[("order", Some(order.clone()))]));
            ctl.items(&ctl.api.get(&path).await?, QUEUES);
            Ok(())
        }
        Command::Slow => ctl.list(&format!("{API}/sessions?slow=true"), SLOW).await,
        Command::Subscriptions { client_id, filter } => {
            let query = query(&[("client_id", client_id.clone()), ("filter", filter.clone())]);
            ctl.list(&format!("{API}/subscriptions{query}"), SUBSCRIPTIONS).await
        }
        Command::Receivers { topic, app } => {
            let query = query(&[("topic", Some(topic.clone()))]);
            ctl.list(&format!("{API}/apps/{}/receivers{query}", encoded(app)), SUBSCRIPTIONS).await
        }
        Command::Retained { filter, app, delete } => ctl.retained(filter, app, *delete).await,
        Command::Publish { topic, payload, app, qos, retain } => {
            let body = json!({"topic": topic, "payload": payload, "qos": qos, "retain": retain});
            ctl.tell(&ctl.api.post(&format!("{API}/apps/{}/publish", encoded(app)), &body).await?);
            Ok(())
        }
        Command::Bans => ctl.list(&format!("{API}/bans"), BANS).await,
        Command::Ban { kind, who, app, for_s, reason } => {
            let body = json!({"kind": kind, "who": who, "app": app, "for_s": for_s, "reason": reason});
            ctl.tell(&ctl.api.post(&format!("{API}/bans"), &body).await?);
            Ok(())
        }
        Command::Unban { id } => ctl.delete(&format!("{API}/bans/{}", encoded(id))).await,
        Command::Networks => ctl.list(&format!("{API}/networks"), NETWORKS).await,
        Command::Listeners => ctl.list(&format!("{API}/listeners"), LISTENERS).await,
        Command::Shards => ctl.list(&format!("{API}/shards"), SHARDS).await,
        Command::Stats => ctl.one(&format!("{API}/stats")).await,
        Command::Log { filter: None } => ctl.one(&format!("{API}/log")).await,
        Command::Log { filter: Some(filter) } => {
            ctl.tell(&ctl.api.put(&format!("{API}/log"), &json!({"filter": filter})).await?);
            Ok(())
        }
        Command::Trace(trace) => ctl.trace(trace).await,
        Command::Drain { server_reference, permanent, over_s } => {
            // What is not said stays as the configuration has it.
            let permanent = permanent.then_some(true);
            let body =
                json!({"server_reference": server_reference, "permanent": permanent, "over_s": over_s});
            ctl.tell(&ctl.api.post(&format!("{API}/drain"), &body).await?);
            Ok(())
        }
        Command::Config => ctl.one(&format!("{API}/config")).await,
        Command::Reload => {
            ctl.tell(&ctl.api.post(&format!("{API}/config/reload"), &json!({})).await?);
            Ok(())
        }
        Command::NewKey { .. } => Ok(()), // needs no broker, see `run`
    }
}

struct Ctl {
    api: Api,
    json: bool,
}

impl Ctl {
    /// A list, page by page: a million entries are neither held nor waited for.
    async fn list(&self, path: &str, columns: &[Column]) -> Result<(), Failure> {
        let sign = if path.contains('?') { '&' } else { '?' };
        let is_paged = !path.ends_with("/listeners") && !path.ends_with("/shards");
        let mut next = if is_paged { format!("{sign}limit={PAGE}") } else { String::new() };
        loop {
            let page = self.api.get(&format!("{path}{next}")).await?;
            self.items(&page, columns);
            match page.pointer("/page/next").and_then(Value::as_str) {
                Some(after) => next = format!("{sign}limit={PAGE}&after={}", encoded(after)),
                None => return Ok(()),
            }
        }
    }

    fn items(&self, page: &Value, columns: &[Column]) {
        let items = page.get("items").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
        if self.json {
            return items.iter().for_each(|item| say(&item.to_string()));
        }
        table::lines(items, columns).iter().for_each(|line| say(line));
    }

    async fn one(&self, path: &str) -> Result<(), Failure> {
        self.tell(&self.api.get(path).await?);
        Ok(())
    }

    async fn delete(&self, path: &str) -> Result<(), Failure> {
        self.tell(&self.api.delete(path).await?);
        Ok(())
    }

    async fn trace(&self, trace: &Trace) -> Result<(), Failure> {
        let path = format!("{API}/traces");
        match trace {
            Trace::Add { client_id, filter, app, for_s, lines_per_s } => {
                let body = json!({
                    "client_id": client_id, "filter": filter, "app": app, "for_s": for_s, "lines_per_s": lines_per_s,
                });
                self.tell(&self.api.post(&path, &body).await?);
                Ok(())
            }
            Trace::List => {
                self.items(&self.api.get(&path).await?, TRACES);
                Ok(())
            }
            Trace::Remove { number } => self.delete(&format!("{path}/{number}")).await,
        }
    }

    fn tell(&self, answer: &Value) {
        match (answer, self.json) {
            (Value::Null, _) => say("done"),
            (answer, true) => say(&answer.to_string()),
            (answer, false) => table::facts(answer).iter().for_each(|line| say(line)),
        }
    }

    async fn retained(&self, filter: &str, app: &str, delete: bool) -> Result<(), Failure> {
        let path = format!("{API}/apps/{}/retained", encoded(app));
        let query = query(&[("filter", Some(filter.to_owned()))]);
        if !delete {
            return self.list(&format!("{path}{query}&payload=true"), RETAINED).await;
        }
        let mut deleted = 0;
        loop {
            let answer = self.api.delete(&format!("{path}{query}")).await?;
            deleted += answer.get("deleted").and_then(Value::as_u64).unwrap_or(0);
            if answer.get("more").and_then(Value::as_bool) != Some(true) {
                self.tell(&json!({"deleted": deleted}));
                return Ok(());
            }
        }
    }
}

/// Those parameters that have a value, as a query.
fn query(parameters: &[(&str, Option<String>)]) -> String {
    let given = parameters.iter().filter_map(|(name, value)| Some((name, value.as_ref()?)));
    let texts: Vec<_> = given.map(|(name, value)| format!("{name}={}", encoded(value))).collect();
    if texts.is_empty() { String::new() } else { format!("?{}", texts.join("&")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_id_of_any_characters_becomes_one_part_of_a_path() {
        let client = Client { client_id: "设备/1 ?#%".to_owned(), app: "default".to_owned() };
        let wanted = "/v1/broker/apps/default/sessions/%E8%AE%BE%E5%A4%87%2F1%20%3F%23%25/queue";
        assert_eq!(client.path("/queue"), wanted);
    }

    #[test]
    fn only_what_was_given_is_asked_for() {
        assert_eq!(query(&[("a", None), ("b", None)]), "");
        assert_eq!(
            query(&[("a", Some("x/+".into())), ("b", None), ("c", Some("1".into()))]),
            "?a=x%2F%2B&c=1"
        );
    }
}
