//! `rumqttc` under orders, on threads of the test.

use crate::agent::{Agent, Answer, Arrived, Done, Login, Message, Order, Properties, Transport};
use reveille_tests::PATIENCE;
use rumqttc::v5::mqttbytes::v5 as packets;
use rumqttc::{Outgoing, TlsConfiguration, v5};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::Duration;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::task::JoinHandle;

const REQUESTS: usize = 64;
const PACKET_MAX: u32 = 1 << 20;

/// An agent whose clients are `rumqttc`'s.
pub fn start() -> Agent {
    let (orders, taken) = channel();
    let (said, answers) = channel();
    thread::spawn(move || {
        let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        Desk { runtime, said, connections: HashMap::new() }.work(&taken);
    });
    Agent::within(orders, answers)
}

struct Desk {
    runtime: Runtime,
    said: Sender<Answer>,
    connections: HashMap<String, Connection>,
}

struct Connection {
    client: Client,
    progress: UnboundedReceiver<Progress>,
    listening: JoinHandle<()>,
}

enum Client {
    V4(rumqttc::AsyncClient),
    V5(v5::AsyncClient),
}

/// What an order waits for.
enum Progress {
    Connected(bool),
    Granted(Option<u8>),
    Published,
    Ended(String),
}

impl Desk {
    fn work(&mut self, orders: &Receiver<Order>) {
        for order in orders {
            let answer = match self.carry_out(order) {
                Ok(done) => Answer::Done(done),
                Err(why) => Answer::Failed(why),
            };
            let _ = self.said.send(answer);
        }
    }

    fn carry_out(&mut self, order: Order) -> Result<Done, String> {
        match order {
            Order::Connect { client, login } => self.connect(client, &login),
            Order::Subscribe { client, filter, qos } => {
                let connection = self.connections.get_mut(&client).ok_or("not connected")?;
                self.runtime.block_on(connection.subscribe(filter, qos))
            }
            Order::Publish { client, message } => {
                let connection = self.connections.get_mut(&client).ok_or("not connected")?;
                self.runtime.block_on(connection.publish(message))
            }
            Order::Leave { client } => {
                let connection = self.connections.remove(&client).ok_or("not connected")?;
                self.runtime.block_on(connection.leave())
            }
            Order::Vanish { client } => {
                let connection = self.connections.remove(&client).ok_or("not connected")?;
                connection.listening.abort(); // drops the event loop, and with it the socket
                let _ = self.runtime.block_on(connection.listening);
                Ok(Done::default())
            }
        }
    }

    fn connect(&mut self, name: String, login: &Login) -> Result<Done, String> {
        let (heard, progress) = unbounded_channel();
        let ear = Ear { name: name.clone(), said: self.said.clone(), heard, unfinished: HashMap::new() };
        let (client, listening) = if login.version == 5 {
            let (client, events) = v5::AsyncClient::new(options_v5(&name, login), REQUESTS);
            (Client::V5(client), self.runtime.spawn(ear.listen_v5(events)))
        } else {
            let (client, events) = rumqttc::AsyncClient::new(options_v4(&name, login), REQUESTS);
            (Client::V4(client), self.runtime.spawn(ear.listen_v4(events)))
        };
        let mut connection = Connection { client, progress, listening };
        let session_present = self.runtime.block_on(connection.until(|progress| match progress {
            Progress::Connected(is_present) => Some(is_present),
            _ => None,
        }))?;
        self.connections.insert(name, connection);
        Ok(Done { session_present: Some(session_present), granted: None })
    }
}

impl Connection {
    /// Waits for what `pick` picks.
    async fn until<T>(&mut self, pick: impl Fn(Progress) -> Option<T>) -> Result<T, String> {
        let wait = async {
            loop {
                match self.progress.recv().await {
                    Some(Progress::Ended(why)) => return Err(why),
                    None => return Err("the connection is gone".to_owned()),
                    Some(progress) => {
                        if let Some(picked) = pick(progress) {
                            return Ok(picked);
                        }
                    }
                }
            }
        };
        tokio::time::timeout(PATIENCE, wait).await.map_err(|_| "nothing came in time".to_owned())?
    }

    async fn subscribe(&mut self, filter: String, qos: u8) -> Result<Done, String> {
        match &self.client {
            Client::V4(client) => client.subscribe(filter, qos_v4(qos)).await.map_err(say)?,
            Client::V5(client) => client.subscribe(filter, qos_v5(qos)).await.map_err(say)?,
        }
        let granted = self.until(|progress| match progress {
            Progress::Granted(granted) => Some(granted),
            _ => None,
        });
        Ok(Done { session_present: None, granted: granted.await? })
    }

    async fn publish(&mut self, message: Message) -> Result<Done, String> {
        let Message { topic, payload, qos, retain, properties } = message;
        match (&self.client, properties) {
            (Client::V4(client), _) => {
                client.publish(topic, qos_v4(qos), retain, payload).await.map_err(say)?;
            }
            (Client::V5(client), None) => {
                client.publish(topic, qos_v5(qos), retain, payload).await.map_err(say)?;
            }
            (Client::V5(client), Some(properties)) => {
                let properties = packets::PublishProperties {
                    user_properties: properties.user,
                    content_type: Some(properties.content_type),
                    response_topic: Some(properties.response_topic),
                    correlation_data: Some(properties.correlation.into()),
                    ..Default::default()
                };
                let sent = client.publish_with_properties(topic, qos_v5(qos), retain, payload, properties);
                sent.await.map_err(say)?;
            }
        }
        self.until(|progress| matches!(progress, Progress::Published).then(Done::default)).await
    }

    async fn leave(mut self) -> Result<Done, String> {
        match &self.client {
            Client::V4(client) => client.disconnect().await.map_err(say)?,
            Client::V5(client) => client.disconnect().await.map_err(say)?,
        }
        let _ended = self.until(|_| None::<()>).await;
        Ok(Done::default())
    }
}

/// Runs the event loop of one client and says what happens there.
struct Ear {
    name: String,
    said: Sender<Answer>,
    heard: UnboundedSender<Progress>,
    /// QoS 2 messages whose exchange is not done. A `rumqttc` that lost its connection in between takes the PUBREL that
    /// follows for an error and never gets further, so the test hears of a message when it is done.
    unfinished: HashMap<u16, Message>,
}

impl Ear {
    async fn listen_v4(mut self, mut events: rumqttc::EventLoop) {
        use rumqttc::{Event, Packet, SubscribeReasonCode};
        loop {
            let progress = match events.poll().await {
                Ok(Event::Incoming(Packet::ConnAck(connack))) => Progress::Connected(connack.session_present),
                Ok(Event::Incoming(Packet::SubAck(suback))) => {
                    Progress::Granted(match suback.return_codes[0] {
                        SubscribeReasonCode::Success(qos) => Some(qos as u8),
                        SubscribeReasonCode::Failure => None,
                    })
                }
                Ok(Event::Incoming(Packet::Publish(publish))) => {
                    self.arrived(
                        publish.pkid,
                        Message {
                            topic: publish.topic,
                            payload: publish.payload.to_vec(),
                            qos: publish.qos as u8,
                            retain: publish.retain,
                            properties: None,
                        },
                    );
                    continue;
                }
                Ok(Event::Incoming(Packet::PubAck(_) | Packet::PubComp(_))) => Progress::Published,
                Ok(Event::Outgoing(Outgoing::Publish(0))) => Progress::Published,
                Ok(Event::Outgoing(Outgoing::PubComp(id))) => {
                    self.finished(id);
                    continue;
                }
                Ok(Event::Outgoing(Outgoing::Disconnect)) => return,
                Ok(_) => continue,
                Err(error) => return self.ended(&error),
            };
            let _ = self.heard.send(progress);
        }
    }

    async fn listen_v5(mut self, mut events: v5::EventLoop) {
        use packets::{Packet, SubscribeReasonCode};
        use v5::Event;
        loop {
            let progress = match events.poll().await {
                Ok(Event::Incoming(Packet::ConnAck(connack))) => Progress::Connected(connack.session_present),
                Ok(Event::Incoming(Packet::SubAck(suback))) => {
                    Progress::Granted(match suback.return_codes[0] {
                        SubscribeReasonCode::Success(qos) => Some(qos as u8),
                        _ => None,
                    })
                }
                Ok(Event::Incoming(Packet::Publish(publish))) => {
                    self.arrived(
                        publish.pkid,
                        Message {
                            topic: String::from_utf8(publish.topic.to_vec()).unwrap(),
                            payload: publish.payload.to_vec(),
                            qos: publish.qos as u8,
                            retain: publish.retain,
                            properties: publish.properties.and_then(properties),
                        },
                    );
                    continue;
                }
                Ok(Event::Incoming(Packet::PubAck(_) | Packet::PubComp(_))) => Progress::Published,
                Ok(Event::Outgoing(Outgoing::Publish(0))) => Progress::Published,
                Ok(Event::Outgoing(Outgoing::PubComp(id))) => {
                    self.finished(id);
                    continue;
                }
                Ok(Event::Outgoing(Outgoing::Disconnect)) => return,
                Ok(_) => continue,
                Err(error) => return self.ended(&error),
            };
            let _ = self.heard.send(progress);
        }
    }

    fn arrived(&mut self, id: u16, message: Message) {
        if message.qos == 2 {
            self.unfinished.insert(id, message);
        } else {
            self.tell(message);
        }
    }

    fn finished(&mut self, id: u16) {
        if let Some(message) = self.unfinished.remove(&id) {
            self.tell(message);
        }
    }

    fn tell(&self, message: Message) {
        let _ = self.said.send(Answer::Message(Arrived { client: self.name.clone(), message }));
    }

    fn ended(&self, error: &impl std::fmt::Display) {
        let _ = self.heard.send(Progress::Ended(say(error)));
    }
}

fn properties(of: packets::PublishProperties) -> Option<Properties> {
    Some(Properties {
        user: of.user_properties,
        content_type: of.content_type?,
        response_topic: of.response_topic?,
        correlation: of.correlation_data?.to_vec(),
    })
}

fn options_v4(name: &str, login: &Login) -> rumqttc::MqttOptions {
    let mut options = rumqttc::MqttOptions::new(name, broker(login), login.port);
    options.set_clean_session(login.clean).set_keep_alive(Duration::from_secs(30));
    options.set_max_packet_size(PACKET_MAX as usize, PACKET_MAX as usize);
    options.set_transport(transport(login));
    if let Some(will) = &login.will {
        let payload = will.payload.clone();
        options.set_last_will(rumqttc::LastWill::new(&will.topic, payload, qos_v4(will.qos), will.retain));
    }
    options
}

fn options_v5(name: &str, login: &Login) -> v5::MqttOptions {
    let mut options = v5::MqttOptions::new(name, broker(login), login.port);
    options.set_clean_start(login.clean).set_keep_alive(Duration::from_secs(30));
    options.set_max_packet_size(Some(PACKET_MAX));
    options.set_session_expiry_interval((!login.clean).then_some(3600));
    options.set_transport(transport(login));
    if let Some(will) = &login.will {
        let (payload, qos) = (will.payload.clone(), qos_v5(will.qos));
        options.set_last_will(packets::LastWill::new(&will.topic, payload, qos, will.retain, None));
    }
    options
}

/// Over WebSocket it wants a URL.
fn broker(login: &Login) -> String {
    let Login { host, port, path, .. } = login;
    match login.transport {
        Transport::Tcp | Transport::Tls => host.clone(),
        Transport::WebSocket => format!("ws://{host}:{port}{path}"),
        Transport::SecureWebSocket => format!("wss://{host}:{port}{path}"),
    }
}

fn transport(login: &Login) -> rumqttc::Transport {
    let tls = || tls(login.ca.as_deref().expect("whom to trust"));
    match login.transport {
        Transport::Tcp => rumqttc::Transport::Tcp,
        Transport::Tls => rumqttc::Transport::Tls(tls()),
        Transport::WebSocket => rumqttc::Transport::Ws,
        Transport::SecureWebSocket => rumqttc::Transport::Wss(tls()),
    }
}

fn tls(authority: &Path) -> TlsConfiguration {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(authority).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = rustls::ClientConfig::builder_with_provider(provider);
    let config = builder.with_safe_default_protocol_versions().unwrap();
    TlsConfiguration::Rustls(Arc::new(config.with_root_certificates(roots).with_no_client_auth()))
}

fn qos_v4(qos: u8) -> rumqttc::QoS {
    rumqttc::qos(qos).unwrap()
}

fn qos_v5(qos: u8) -> v5::mqttbytes::QoS {
    v5::mqttbytes::qos(qos).unwrap()
}

fn say(error: impl std::fmt::Display) -> String {
    error.to_string()
}
