//! Connections that do nothing, over TLS or WebSocket: what a layer costs in memory. Ours alone is measured.

use crate::Arguments;
use crate::client::LoadError;
use crate::contender::Running;
use crate::report::Figures;
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;
use tungstenite::client::IntoClientRequest;
use tungstenite::{Message, WebSocket};

/// What stands between MQTT and the socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Over {
    /// Nothing.
    Tcp,
    /// TLS.
    Tls,
    /// WebSocket.
    Ws,
    /// WebSocket over TLS.
    Wss,
}

impl Over {
    fn name(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Tls => "tls",
            Self::Ws => "ws",
            Self::Wss => "wss",
        }
    }

    fn has_tls(self) -> bool {
        matches!(self, Self::Tls | Self::Wss)
    }
}

/// A listener of that kind with a certificate that was made for it, and what its clients trust.
pub struct Prepared {
    over: Over,
    address: SocketAddr,
    tls: Arc<ClientConfig>,
}

impl Prepared {
    /// Writes `reveille.toml` and the certificate into the directory.
    pub fn write(directory: &Path, over: Over, address: SocketAddr) -> Result<Self, LoadError> {
        let failed = |error: &dyn std::error::Error| LoadError::Broken(error.to_string());
        let made =
            rcgen::generate_simple_self_signed(vec!["localhost".into()]).map_err(|error| failed(&error))?;
        let (certificate, key) = (directory.join("server.pem"), directory.join("server.key"));
        std::fs::write(&certificate, made.cert.pem())?;
        std::fs::write(&key, made.signing_key.serialize_pem())?;
        let files = if over.has_tls() {
            format!("certificate = '{}'\nkey = '{}'\n", certificate.display(), key.display())
        } else {
            String::new()
        };
        let kind = over.name();
        let text =
            format!("[[broker.listeners]]\nname = 'l'\nkind = '{kind}'\naddress = '{address}'\n{files}");
        std::fs::write(directory.join("reveille.toml"), text)?;
        let mut roots = RootCertStore::empty();
        roots.add(made.cert.der().clone()).map_err(|error| failed(&error))?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
        let tls =
            builder.map_err(|error| failed(&error))?.with_root_certificates(roots).with_no_client_auth();
        Ok(Self { over, address, tls: Arc::new(tls) })
    }

    fn open(&self) -> Result<Stream, LoadError> {
        let socket = TcpStream::connect(self.address)?;
        socket.set_nodelay(true)?;
        Ok(match self.over {
            Over::Tcp => Stream::Tcp(socket),
            Over::Tls => Stream::Tls(Box::new(self.secure(socket)?)),
            Over::Ws => Stream::Ws(Box::new(upgrade(socket)?)),
            Over::Wss => Stream::Wss(Box::new(upgrade(self.secure(socket)?)?)),
        })
    }

    fn secure(&self, socket: TcpStream) -> Result<Secure, LoadError> {
        let name = "localhost".try_into().map_err(|_| LoadError::Broken("no server name".into()))?;
        let connection = ClientConnection::new(Arc::clone(&self.tls), name);
        Ok(StreamOwned::new(connection.map_err(|error| LoadError::Broken(error.to_string()))?, socket))
    }
}

type Secure = StreamOwned<ClientConnection, TcpStream>;

fn upgrade<S: Read + Write>(stream: S) -> Result<WebSocket<S>, LoadError> {
    let broken = |error: &dyn std::error::Error| LoadError::Broken(error.to_string());
    let mut request = "ws://localhost/".into_client_request().map_err(|error| broken(&error))?;
    request.headers_mut().insert("Sec-WebSocket-Protocol", http::HeaderValue::from_static("mqtt"));
    Ok(tungstenite::client(request, stream).map_err(|error| broken(&error))?.0)
}

enum Stream {
    Tcp(TcpStream),
    Tls(Box<Secure>),
    Ws(Box<WebSocket<TcpStream>>),
    Wss(Box<WebSocket<Secure>>),
}

impl Stream {
    /// One packet there, and the beginning of one back.
    fn ask(&mut self, packet: &[u8]) -> Result<(), LoadError> {
        let mut answer = [0; 64];
        match self {
            Self::Tcp(stream) => {
                stream.write_all(packet)?;
                has_answered(stream.read(&mut answer)?)?;
            }
            Self::Tls(stream) => {
                stream.write_all(packet)?;
                has_answered(stream.read(&mut answer)?)?;
            }
            Self::Ws(websocket) => ask_in_frames(websocket, packet)?,
            Self::Wss(websocket) => ask_in_frames(websocket, packet)?,
        }
        Ok(())
    }
}

fn has_answered(count: usize) -> Result<(), LoadError> {
    if count > 0 { Ok(()) } else { Err(LoadError::Broken("connection closed".into())) }
}

fn ask_in_frames<S: Read + Write>(websocket: &mut WebSocket<S>, packet: &[u8]) -> Result<(), LoadError> {
    let broken = |error: tungstenite::Error| LoadError::Broken(error.to_string());
    websocket.send(Message::Binary(packet.to_vec().into())).map_err(broken)?;
    websocket.read().map(drop).map_err(broken)
}

/// Connects per second (one after the other), and resident bytes per idle connection.
pub fn idle_over(arguments: &Arguments, broker: &Running, prepared: &Prepared) -> Result<Figures, LoadError> {
    drop(prepared.open()?); // what the first handshake of all allocates is no connection's
    let rss = broker.rss();
    let started = Instant::now();
    let mut streams = Vec::new();
    for number in 0..arguments.connections {
        let mut stream = prepared.open()?;
        stream.ask(&connect(&format!("idle-{number:08}")))?;
        stream.ask(&subscribe(&format!("状态/{number:08}")))?;
        streams.push(stream);
    }
    let count = arguments.connections as f64;
    let rate = count / started.elapsed().as_secs_f64();
    let grown = broker.rss().saturating_sub(rss) as f64;
    Ok(vec![("connect and subscribe/s", rate), ("RSS bytes/connection", grown / count)])
}

/// MQTT 3.1.1, a clean session, keep alive 600 s. Client ids here are short enough for one byte of length.
fn connect(client_id: &str) -> Vec<u8> {
    let length = u8::try_from(client_id.len()).unwrap_or(u8::MAX);
    let head = [0x10, 12 + length, 0, 4, b'M', b'Q', b'T', b'T', 4, 2, 2, 88, 0, length];
    [&head[..], client_id.as_bytes()].concat()
}

fn subscribe(filter: &str) -> Vec<u8> {
    let length = u8::try_from(filter.len()).unwrap_or(u8::MAX);
    [&[0x82, 5 + length, 0, 1, 0, length][..], filter.as_bytes(), &[1]].concat()
}
