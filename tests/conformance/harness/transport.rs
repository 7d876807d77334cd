//! What carries the bytes: every kind of listener, spoken to by libraries that are not the broker's.

use super::client::{PATIENCE, Stream};
use rcgen::{CertifiedKey, generate_simple_self_signed};
use reveille_broker::{Broker, Place};
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::{fs, path::Path};
use tempfile::TempDir;
use tungstenite::client::IntoClientRequest;
use tungstenite::http::HeaderValue;
use tungstenite::{Error, Message, WebSocket};

/// A kind of listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    Tcp,
    Tls,
    Ws,
    Wss,
    Unix,
}

/// All of them: for the tests of each chapter that run on every listener.
pub const TRANSPORTS: [Transport; 5] =
    [Transport::Tcp, Transport::Tls, Transport::Ws, Transport::Wss, Transport::Unix];

impl Transport {
    fn kind(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Tls => "tls",
            Self::Ws => "ws",
            Self::Wss => "wss",
            Self::Unix => "unix",
        }
    }

    fn has_tls(self) -> bool {
        matches!(self, Self::Tls | Self::Wss)
    }
}

/// A listener of one kind beside the plain one, with its files.
pub struct Listener {
    transport: Transport,
    directory: TempDir,
    certificate: Option<CertificateDer<'static>>,
}

impl Listener {
    /// Makes the key and the certificate of this run, where the kind needs them.
    pub fn new(transport: Transport) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let certificate = transport.has_tls().then(|| certificate_in(directory.path()));
        Self { transport, directory, certificate }
    }

    /// Its table in the configuration.
    pub fn config(&self) -> String {
        let (kind, directory) = (self.transport.kind(), self.directory.path().display());
        let place = match self.transport {
            Transport::Unix => format!("path = '{directory}/socket'"),
            Transport::Tcp | Transport::Tls | Transport::Ws | Transport::Wss => {
                "address = '127.0.0.1:0'".to_owned()
            }
        };
        let files = match self.transport.has_tls() {
            true => format!("certificate = '{directory}/certificate.pem'\nkey = '{directory}/key.pem'"),
            false => String::new(),
        };
        format!("\n[[listeners]]\nname = 'another'\nkind = '{kind}'\n{place}\n{files}\n")
    }

    /// A connection through it.
    pub fn connect(&self, broker: &Broker) -> Box<dyn Stream> {
        match &broker.listeners()[0].place {
            Place::Path(path) => unix(path),
            Place::Address(address) => self.connect_to(*address),
        }
    }

    fn connect_to(&self, address: SocketAddr) -> Box<dyn Stream> {
        let stream = tcp(address);
        let stream: Box<dyn Stream> = match &self.certificate {
            Some(certificate) => Box::new(tls(stream, certificate)),
            None => Box::new(stream),
        };
        match self.transport {
            Transport::Ws | Transport::Wss => Box::new(Frames::open(stream)),
            Transport::Tcp | Transport::Tls | Transport::Unix => stream,
        }
    }
}

fn certificate_in(directory: &Path) -> CertificateDer<'static> {
    let CertifiedKey { cert, signing_key } =
        generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    fs::write(directory.join("certificate.pem"), cert.pem()).unwrap();
    fs::write(directory.join("key.pem"), signing_key.serialize_pem()).unwrap();
    cert.der().clone()
}

/// Plain TCP.
pub fn tcp(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.set_write_timeout(Some(PATIENCE)).unwrap();
    stream.set_nodelay(true).unwrap();
    stream
}

fn unix(path: &Path) -> Box<dyn Stream> {
    let stream = UnixStream::connect(path).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.set_write_timeout(Some(PATIENCE)).unwrap();
    Box::new(stream)
}

fn tls(stream: TcpStream, certificate: &CertificateDer<'static>) -> StreamOwned<ClientConnection, TcpStream> {
    let mut roots = RootCertStore::empty();
    roots.add(certificate.clone()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let versions = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let config = versions.unwrap().with_root_certificates(roots).with_no_client_auth();
    let name = ServerName::try_from("localhost").unwrap();
    StreamOwned::new(ClientConnection::new(Arc::new(config), name).unwrap(), stream)
}

/// MQTT in the frames of a WebSocket. What is written goes out in two frames that end wherever they end.
/// `[MQTT5-6.0.0-2]`
struct Frames {
    socket: WebSocket<Box<dyn Stream>>,
    unread: Vec<u8>,
}

impl Frames {
    fn open(stream: Box<dyn Stream>) -> Self {
        let mut request = "ws://localhost/mqtt".into_client_request().unwrap();
        request.headers_mut().insert("Sec-WebSocket-Protocol", HeaderValue::from_static("mqtt"));
        let (socket, answer) = tungstenite::client(request, stream).expect("the upgrade");
        assert_eq!(answer.headers()["Sec-WebSocket-Protocol"], "mqtt"); // [MQTT5-6.0.0-4]
        Self { socket, unread: Vec::new() }
    }
}

impl Read for Frames {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.unread.is_empty() {
            match self.socket.read() {
                Ok(Message::Binary(bytes)) => self.unread.extend_from_slice(&bytes),
                Ok(Message::Close(_)) | Err(Error::ConnectionClosed | Error::AlreadyClosed) => return Ok(0),
                Ok(Message::Ping(_) | Message::Pong(_) | Message::Frame(_)) => {}
                Ok(Message::Text(text)) => panic!("the broker sent text: {text}"), // [MQTT5-6.0.0-1]
                Err(Error::Io(error)) => return Err(error),
                Err(error) => return Err(io::Error::other(error)),
            }
        }
        let len = self.unread.len().min(buffer.len());
        buffer[..len].copy_from_slice(&self.unread[..len]);
        self.unread.drain(..len);
        Ok(len)
    }
}

impl Write for Frames {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let (front, back) = bytes.split_at(bytes.len() / 2);
        for part in [front, back] {
            self.socket.write(Message::Binary(part.to_vec().into())).map_err(io::Error::other)?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.socket.flush().map_err(io::Error::other)
    }
}
