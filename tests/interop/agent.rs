//! A foreign client under orders. Programs get one order per line of JSON and say one answer or message per line:
//!
//! ```text
//! {"do":"connect","client":"a","transport":"ws","host":"127.0.0.1","port":8083,"path":"/mqtt","ca":null,
//!  "version":5,"clean":true,"will":null}                       -> {"done":{"session_present":false,"granted":null}}
//! {"do":"subscribe","client":"a","filter":"t","qos":2}         -> {"done":{"session_present":null,"granted":2}}
//! {"do":"publish","client":"a","topic":"t","payload":"bQ==","qos":1,"retain":false,"properties":null}
//!                                                              -> {"done":...} when the broker has acknowledged it
//! {"do":"leave","client":"a"}                                  with DISCONNECT
//! {"do":"vanish","client":"a"}                                 without
//! at any time                                                  -> {"message":{"client":"a","topic":"t",...}}
//! when something goes wrong                                    -> {"failed":"why"}
//! ```
//!
//! One order at a time; one program runs as many clients as it is told to connect.

use crate::installed;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use reveille_tests::PATIENCE;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::collections::{HashMap, VecDeque};
use std::io::{BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;

/// How bytes reach the broker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum Transport {
    #[serde(rename = "tcp")]
    Tcp,
    #[serde(rename = "tls")]
    Tls,
    #[serde(rename = "ws")]
    WebSocket,
    #[serde(rename = "wss")]
    SecureWebSocket,
}

/// A listener, seen from a client.
#[derive(Clone, Debug)]
pub struct Endpoint {
    pub transport: Transport,
    pub address: SocketAddr,
    /// Whom to trust.
    pub authority: Option<PathBuf>,
}

/// The path that WebSocket clients ask for.
const PATH: &str = "/mqtt";

/// How to connect.
#[derive(Clone, Debug, Serialize)]
pub struct Login {
    pub transport: Transport,
    pub host: String,
    pub port: u16,
    pub path: &'static str,
    pub ca: Option<PathBuf>,
    pub version: u8,
    pub clean: bool,
    pub will: Option<Message>,
}

impl Login {
    pub fn new(endpoint: &Endpoint, version: u8) -> Self {
        Self {
            transport: endpoint.transport,
            host: endpoint.address.ip().to_string(),
            port: endpoint.address.port(),
            path: PATH,
            ca: endpoint.authority.clone(),
            version,
            clean: true,
            will: None,
        }
    }
}

/// What is published, and what arrives.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Message {
    pub topic: String,
    #[serde(serialize_with = "to_base64", deserialize_with = "from_base64")]
    pub payload: Vec<u8>,
    pub qos: u8,
    pub retain: bool,
    pub properties: Option<Properties>,
}

impl std::fmt::Debug for Message {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let start = String::from_utf8_lossy(&self.payload[..self.payload.len().min(32)]);
        let (size, retain) = (self.payload.len(), if self.retain { ", retained" } else { "" });
        write!(formatter, "{} QoS {}{retain}: {start:?} ({size} bytes)", self.topic, self.qos)?;
        self.properties.as_ref().map_or(Ok(()), |properties| write!(formatter, " {properties:?}"))
    }
}

impl Message {
    pub fn new(topic: &str, qos: u8, payload: &str) -> Self {
        Self { topic: topic.to_owned(), payload: payload.into(), qos, retain: false, properties: None }
    }

    pub fn retained(self) -> Self {
        Self { retain: true, ..self }
    }
}

/// What 5.0 carries from publisher to subscriber.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Properties {
    pub user: Vec<(String, String)>,
    pub content_type: String,
    pub response_topic: String,
    #[serde(serialize_with = "to_base64", deserialize_with = "from_base64")]
    pub correlation: Vec<u8>,
}

#[derive(Clone, Debug, Serialize)]
#[serde(tag = "do", rename_all = "snake_case")]
pub enum Order {
    Connect {
        client: String,
        #[serde(flatten)]
        login: Login,
    },
    Subscribe {
        client: String,
        filter: String,
        qos: u8,
    },
    Publish {
        client: String,
        #[serde(flatten)]
        message: Message,
    },
    Leave {
        client: String,
    },
    Vanish {
        client: String,
    },
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    Done(Done),
    Message(Arrived),
    Failed(String),
}

/// What an order led to.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct Done {
    /// After a connect, from clients that tell.
    pub session_present: Option<bool>,
    /// After a subscribe.
    pub granted: Option<u8>,
}

#[derive(Debug, Deserialize)]
pub struct Arrived {
    pub client: String,
    #[serde(flatten)]
    pub message: Message,
}

/// Somebody who carries out orders. Dropping it ends it.
pub struct Agent {
    orders: Option<Sender<Order>>,
    answers: Receiver<Answer>,
    arrived: HashMap<String, VecDeque<Message>>,
    child: Option<Child>,
}

impl Agent {
    /// One that runs on threads of this process.
    pub fn within(orders: Sender<Order>, answers: Receiver<Answer>) -> Self {
        Self { orders: Some(orders), answers, arrived: HashMap::new(), child: None }
    }

    /// A Python program of `clients/`.
    pub fn python(script: &str) -> Self {
        let mut command = Command::new(installed::python());
        command.arg("-B"); // its byte code would stay beside the program
        command.arg(installed::script(script));
        Self::program(command)
    }

    /// A Node program of `clients/`.
    pub fn node(script: &str) -> Self {
        Self::program(installed::node(script))
    }

    /// Chromium, whose page may trust a public key with that hash.
    pub fn chromium(profile: &Path, trusted: &str) -> Self {
        let mut command = installed::node("browser_agent.cjs");
        command.env("INTEROP_PROFILE", profile).env("INTEROP_TRUSTED", trusted);
        Self::program(command)
    }

    /// Any program that speaks as above.
    pub fn program(mut command: Command) -> Self {
        let command = command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}"));
        let (orders, taken) = channel();
        let (said, answers) = channel();
        let stdin = child.stdin.take().unwrap();
        thread::spawn(move || pass_orders_on(&taken, stdin));
        let stdout = BufReader::new(child.stdout.take().unwrap());
        thread::spawn(move || {
            for line in stdout.lines().map_while(Result::ok) {
                let not_understood = |error| Answer::Failed(format!("{error} in {line}"));
                let _ = said.send(serde_json::from_str(&line).unwrap_or_else(not_understood));
            }
        });
        Self { orders: Some(orders), answers, arrived: HashMap::new(), child: Some(child) }
    }

    /// Carries out one order to its end.
    ///
    /// # Panics
    /// When it fails or takes too long.
    pub fn carry_out(&mut self, order: Order) -> Done {
        let said = format!("{order:?}");
        self.orders.as_ref().unwrap().send(order).expect("the client runs");
        loop {
            match self.answers.recv_timeout(PATIENCE) {
                Ok(Answer::Done(done)) => return done,
                Ok(Answer::Message(arrived)) => self.keep(arrived),
                Ok(Answer::Failed(why)) => panic!("{why}\nafter {said}"),
                Err(error) => panic!("{error}\nafter {said}"),
            }
        }
    }

    /// The next message for a client.
    ///
    /// # Panics
    /// When none comes in time.
    pub fn take(&mut self, client: &str) -> Message {
        loop {
            if let Some(message) = self.arrived.get_mut(client).and_then(VecDeque::pop_front) {
                return message;
            }
            match self.answers.recv_timeout(PATIENCE) {
                Ok(Answer::Message(arrived)) => self.keep(arrived),
                Ok(Answer::Failed(why)) => panic!("{why}\nwhile {client} waits for a message"),
                other => panic!("{other:?}\nwhile {client} waits for a message"),
            }
        }
    }

    /// What a client that is gone had got and nobody took.
    pub fn untaken(&mut self, client: &str) -> Vec<Message> {
        self.arrived.remove(client).unwrap_or_default().into()
    }

    fn keep(&mut self, arrived: Arrived) {
        self.arrived.entry(arrived.client).or_default().push_back(arrived.message);
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        self.orders = None; // its standard input ends, on which it ends
        let Some(mut child) = self.child.take() else { return };
        while self.answers.recv_timeout(PATIENCE).is_ok() {} // until it has closed its output, or hangs
        let _ = child.kill();
        let _ = child.wait();
    }
}

fn pass_orders_on(orders: &Receiver<Order>, mut stdin: ChildStdin) {
    for order in orders {
        let line = serde_json::to_string(&order).unwrap();
        if writeln!(stdin, "{line}").is_err() {
            return; // it ended; whoever waits for its answer will say so
        }
    }
}

fn to_base64<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&STANDARD.encode(bytes))
}

fn from_base64<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u8>, D::Error> {
    let text = String::deserialize(deserializer)?;
    STANDARD.decode(text).map_err(serde::de::Error::custom)
}
