//! What may stand between MQTT and the socket, and clients that come through it, one after the other.

use crate::client::LoadError;
use crate::wire;
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::sync::Arc;
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
    /// As ours calls it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Tls => "tls",
            Self::Ws => "ws",
            Self::Wss => "wss",
        }
    }

    /// Whether it is encrypted.
    pub fn has_tls(self) -> bool {
        matches!(self, Self::Tls | Self::Wss)
    }
}

/// Files of a contender's directory.
pub const CERTIFICATE: &str = "server.pem";
/// The certificate's key.
pub const KEY: &str = "server.key";

/// A certificate that was made for this run, and who trusts it. Its name is a wildcard, so that each client can have a
/// server name of its own: rustls keeps session tickets by name, a few each.
pub struct Trust {
    certificate: String,
    key: String,
    tls: Arc<ClientConfig>,
}

/// Tickets that a client keeps: rustls counts with eight for each name.
const TICKETS_MAX: usize = 8 * 50_000;

impl Trust {
    /// Makes both.
    pub fn new() -> Result<Self, LoadError> {
        let failed = |error: &dyn std::error::Error| LoadError::Broken(error.to_string());
        let made =
            rcgen::generate_simple_self_signed(vec!["*.load.test".into()]).map_err(|error| failed(&error))?;
        let mut roots = RootCertStore::empty();
        roots.add(made.cert.der().clone()).map_err(|error| failed(&error))?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
        let mut tls =
            builder.map_err(|error| failed(&error))?.with_root_certificates(roots).with_no_client_auth();
        tls.resumption = rustls::client::Resumption::in_memory_sessions(TICKETS_MAX);
        let (certificate, key) = (made.cert.pem(), made.signing_key.serialize_pem());
        Ok(Self { certificate, key, tls: Arc::new(tls) })
    }

    /// Puts certificate and key into a directory.
    pub fn write(&self, directory: &Path) -> Result<(), LoadError> {
        std::fs::write(directory.join(CERTIFICATE), &self.certificate)?;
        std::fs::write(directory.join(KEY), &self.key)?;
        Ok(())
    }

    /// For clients of one's own.
    pub fn client_config(&self) -> Arc<ClientConfig> {
        Arc::clone(&self.tls)
    }

    /// A connection with a CONNECT that was accepted.
    pub fn connect(&self, to: SocketAddr, over: Over, number: usize) -> Result<Stream, LoadError> {
        let socket = TcpStream::connect(to)?;
        socket.set_nodelay(true)?;
        let mut stream = match over {
            Over::Tcp => Stream::Tcp(socket),
            Over::Tls => Stream::Tls(Box::new(self.secure(socket, number)?)),
            Over::Ws => Stream::Ws(Box::new(upgrade(socket)?)),
            Over::Wss => Stream::Wss(Box::new(upgrade(self.secure(socket, number)?)?)),
        };
        stream.ask(&wire::connect(&format!("over-{number:08}"), true, 3600))?;
        Ok(stream)
    }

    fn secure(&self, socket: TcpStream, number: usize) -> Result<Secure, LoadError> {
        let name = rustls::pki_types::ServerName::try_from(format!("n{number}.load.test"));
        let name = name.map_err(|_| LoadError::Broken("no server name".into()))?;
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

/// A connection over one of them.
pub enum Stream {
    /// Plain.
    Tcp(TcpStream),
    /// Encrypted.
    Tls(Box<Secure>),
    /// In frames.
    Ws(Box<WebSocket<TcpStream>>),
    /// Both.
    Wss(Box<WebSocket<Secure>>),
}

impl Stream {
    /// Whether the server took up an earlier session of TLS.
    pub fn is_resumed(&self) -> bool {
        let is_resumed =
            |secure: &Secure| secure.conn.handshake_kind() == Some(rustls::HandshakeKind::Resumed);
        match self {
            Self::Tls(secure) => is_resumed(secure),
            Self::Wss(websocket) => is_resumed(websocket.get_ref()),
            Self::Tcp(_) | Self::Ws(_) => false,
        }
    }

    /// One packet there, and the beginning of one back.
    pub fn ask(&mut self, packet: &[u8]) -> Result<(), LoadError> {
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
