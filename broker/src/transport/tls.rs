//! The TLS layer: records in, plaintext out, and back, without a buffer of its own.
//!
//! rustls' unbuffered connection works on our buffers, so an idle connection keeps only keys. Its buffered one keeps a
//! read buffer of 4 KiB for each connection that ever read.

use bytes::BytesMut;
use rustls::ServerConfig;
use rustls::pki_types::CertificateDer;
use rustls::server::UnbufferedServerConnection;
use rustls::unbuffered::{ConnectionState, EncodeError, EncryptError, UnbufferedStatus};
use std::fmt;
use std::sync::Arc;

/// What a record adds to its plaintext, at most: header, nonce, tag, content type.
const RECORD_OVERHEAD: usize = 64;

/// Plaintext of one record. `[RFC 8446 5.1]`
const RECORD_BYTES_MAX: usize = 16 << 10;

/// The server's end of one TLS connection.
pub(crate) struct Tls {
    connection: UnbufferedServerConnection,
    has_failed: bool,
    has_said_goodbye: bool,
}

/// Whether more may come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Flow {
    /// Yes.
    Open,
    /// The peer said goodbye, or broke the protocol.
    Ended,
}

/// The connection takes no bytes any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the TLS connection takes no bytes")]
pub(crate) struct TlsClosed;

impl Tls {
    /// Before the first byte.
    ///
    /// # Errors
    /// When the configuration cannot serve anybody.
    pub(crate) fn new(config: Arc<ServerConfig>) -> Result<Self, rustls::Error> {
        let connection = UnbufferedServerConnection::new(config)?;
        Ok(Self { connection, has_failed: false, has_said_goodbye: false })
    }

    /// Takes records: plaintext goes to `give`, what the peer must be sent to `outgoing`. Says how many bytes were used; the
    /// rest begins an incomplete record and comes again in front of the next bytes.
    pub(crate) fn decode(
        &mut self,
        bytes: &mut [u8],
        outgoing: &mut BytesMut,
        mut give: impl FnMut(&[u8]),
    ) -> (usize, Flow) {
        let mut used = 0;
        loop {
            let rest = bytes.get_mut(used..).unwrap_or_default();
            let UnbufferedStatus { discard, state } = self.connection.process_tls_records(rest);
            used += discard;
            match state {
                Ok(ConnectionState::ReadTraffic(mut traffic)) => {
                    while let Some(Ok(record)) = traffic.next_record() {
                        give(record.payload);
                    }
                }
                Ok(ConnectionState::EncodeTlsData(mut data)) => {
                    append(outgoing, RECORD_BYTES_MAX, |space| data.encode(space).map_err(Into::into));
                }
                Ok(ConnectionState::TransmitTlsData(data)) => data.done(),
                Ok(ConnectionState::BlockedHandshake | ConnectionState::WriteTraffic(_)) => {
                    return (used, Flow::Open);
                }
                Ok(ConnectionState::PeerClosed | ConnectionState::Closed) => return (used, Flow::Ended),
                Ok(_) => return self.failed(used), // early data, which nobody was offered
                Err(error) => {
                    tracing::debug!(%error, "a TLS connection ended");
                    self.send_alert(bytes.get_mut(used..).unwrap_or_default(), outgoing);
                    return self.failed(used);
                }
            }
        }
    }

    fn failed(&mut self, used: usize) -> (usize, Flow) {
        self.has_failed = true;
        (used, Flow::Ended)
    }

    /// What the peer is told about its mistake comes out first at the next call.
    fn send_alert(&mut self, rest: &mut [u8], outgoing: &mut BytesMut) {
        if let Ok(ConnectionState::EncodeTlsData(mut data)) = self.connection.process_tls_records(rest).state
        {
            append(outgoing, RECORD_OVERHEAD, |space| data.encode(space).map_err(Into::into));
        }
    }

    /// Encrypts. `incoming` are the bytes that [`Self::decode`] did not use: the connection remembers places in them.
    ///
    /// # Errors
    /// [`TlsClosed`] before the handshake is over, and after the end.
    pub(crate) fn encrypt(
        &mut self,
        plain: &[u8],
        incoming: &mut [u8],
        outgoing: &mut BytesMut,
    ) -> Result<(), TlsClosed> {
        if self.has_failed || self.has_said_goodbye {
            return Err(TlsClosed);
        }
        let records = plain.len() / RECORD_BYTES_MAX + 1;
        let size = plain.len() + records * RECORD_OVERHEAD;
        self.write(incoming, outgoing, |traffic, outgoing| {
            append(outgoing, size, |space| traffic.encrypt(plain, space).map_err(Into::into))
        })
    }

    /// Says that nothing more will be written (close_notify).
    pub(crate) fn say_goodbye(&mut self, incoming: &mut [u8], outgoing: &mut BytesMut) {
        if self.has_failed || self.has_said_goodbye || self.is_handshaking() {
            return;
        }
        let _ = self.write(incoming, outgoing, |traffic, outgoing| {
            append(outgoing, RECORD_OVERHEAD, |space| traffic.queue_close_notify(space).map_err(Into::into))
        });
        self.has_said_goodbye = true;
    }

    /// What must leave before plaintext does (tickets, key updates) comes out first.
    fn write(
        &mut self,
        incoming: &mut [u8],
        outgoing: &mut BytesMut,
        write: impl FnOnce(&mut Traffic<'_>, &mut BytesMut) -> bool,
    ) -> Result<(), TlsClosed> {
        loop {
            match self.connection.process_tls_records(incoming).state {
                Ok(ConnectionState::EncodeTlsData(mut data)) => {
                    append(outgoing, RECORD_BYTES_MAX, |space| data.encode(space).map_err(Into::into));
                }
                Ok(ConnectionState::TransmitTlsData(data)) => data.done(),
                Ok(ConnectionState::WriteTraffic(mut traffic)) => {
                    return if write(&mut traffic, outgoing) { Ok(()) } else { Err(TlsClosed) };
                }
                Ok(ConnectionState::PeerClosed) => {} // said once; we may go on writing
                Ok(_) => return Err(TlsClosed),
                Err(_) => {
                    self.has_failed = true;
                    return Err(TlsClosed);
                }
            }
        }
    }

    /// Whether the handshake is under way.
    pub(crate) fn is_handshaking(&self) -> bool {
        self.connection.is_handshaking()
    }

    /// The certificate that the client showed, verified.
    pub(crate) fn client_certificate(&self) -> Option<&CertificateDer<'static>> {
        self.connection.peer_certificates()?.first()
    }
}

type Traffic<'a> = rustls::unbuffered::WriteTraffic<'a, rustls::server::ServerConnectionData>;

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls").field("is_handshaking", &self.is_handshaking()).finish_non_exhaustive()
    }
}

/// Why bytes were not appended.
enum NotWritten {
    /// So much space is needed.
    TooSmall(usize),
    /// Never.
    Refused,
}

impl From<EncodeError> for NotWritten {
    fn from(error: EncodeError) -> Self {
        match error {
            EncodeError::InsufficientSize(size) => Self::TooSmall(size.required_size),
            EncodeError::AlreadyEncoded => Self::Refused,
        }
    }
}

impl From<EncryptError> for NotWritten {
    fn from(error: EncryptError) -> Self {
        match error {
            EncryptError::InsufficientSize(size) => Self::TooSmall(size.required_size),
            EncryptError::EncryptExhausted => Self::Refused,
        }
    }
}

/// Gives `write` space behind what is there, more when it asks for more. Says whether it wrote.
fn append(
    outgoing: &mut BytesMut,
    guess: usize,
    mut write: impl FnMut(&mut [u8]) -> Result<usize, NotWritten>,
) -> bool {
    let before = outgoing.len();
    let mut size = guess;
    loop {
        outgoing.resize(before + size, 0);
        match write(outgoing.get_mut(before..).unwrap_or_default()) {
            Ok(written) => {
                outgoing.truncate(before + written);
                return true;
            }
            Err(NotWritten::TooSmall(needed)) if needed > size => size = needed,
            Err(NotWritten::TooSmall(_) | NotWritten::Refused) => {
                outgoing.truncate(before);
                return false;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ring::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
    use rustls::pki_types::PrivateKeyDer;
    use rustls::{ClientConfig, ClientConnection, ConnectionTrafficSecrets, RootCertStore};

    fn pair() -> (Tls, ClientConnection) {
        let made = rcgen::generate_simple_self_signed(vec!["localhost".into()]).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
        let server = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![made.cert.der().clone()], key)
            .unwrap();
        let mut roots = RootCertStore::empty();
        roots.add(made.cert.der().clone()).unwrap();
        let mut client = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        client.enable_secret_extraction = true;
        let name = "localhost".try_into().unwrap();
        (Tls::new(Arc::new(server)).unwrap(), ClientConnection::new(Arc::new(client), name).unwrap())
    }

    /// What the client has to say goes through, and the answer goes back.
    fn exchange(tls: &mut Tls, client: &mut ClientConnection) -> Vec<u8> {
        let (mut plain, mut outgoing) = (Vec::new(), BytesMut::new());
        while client.wants_write() {
            let mut bytes = Vec::new();
            client.write_tls(&mut bytes).unwrap();
            let (used, flow) = tls.decode(&mut bytes, &mut outgoing, |part| plain.extend_from_slice(part));
            assert_eq!((used, flow), (bytes.len(), Flow::Open));
            while !outgoing.is_empty() {
                let taken = client.read_tls(&mut &outgoing[..]).unwrap();
                let _ = outgoing.split_to(taken);
                client.process_new_packets().unwrap();
            }
        }
        plain
    }

    /// A record of TLS 1.3 with a piece of a handshake message.
    fn record(secrets: &(u64, ConnectionTrafficSecrets), count: u64, content: &[u8]) -> Vec<u8> {
        let (first, ConnectionTrafficSecrets::Aes256Gcm { key, iv }) = secrets else {
            panic!("another cipher")
        };
        let mut nonce: [u8; 12] = iv.as_ref().try_into().unwrap();
        for (byte, number) in nonce[4..].iter_mut().zip((first + count).to_be_bytes()) {
            *byte ^= number;
        }
        let mut sealed = [content, &[22]].concat();
        let length = u8::try_from(sealed.len() + AES_256_GCM.tag_len()).unwrap();
        let header = [23, 3, 3, 0, length];
        LessSafeKey::new(UnboundKey::new(&AES_256_GCM, key.as_ref()).unwrap())
            .seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), Aad::from(header), &mut sealed)
            .unwrap();
        [&header[..], &sealed].concat()
    }

    #[test]
    fn we_may_write_while_the_peer_is_in_the_middle_of_a_handshake_message() {
        const KEY_UPDATE: [u8; 5] = [24, 0, 0, 1, 1]; // with the wish that we change ours too
        let (mut tls, mut client) = pair();
        std::io::Write::write_all(&mut client.writer(), b"hello").unwrap();
        assert_eq!(exchange(&mut tls, &mut client), b"hello");
        let secrets = client.dangerous_extract_secrets().unwrap().tx;
        let mut outgoing = BytesMut::new();
        let mut incoming = record(&secrets, 0, &KEY_UPDATE[..2]);
        let (used, flow) = tls.decode(&mut incoming, &mut outgoing, |_| panic!("no plaintext"));
        assert_eq!(flow, Flow::Open);
        incoming.drain(..used);
        assert!(!incoming.is_empty(), "the piece waits for the rest");
        tls.encrypt(b"meanwhile", &mut incoming, &mut outgoing).unwrap();
        assert!(outgoing.len() > b"meanwhile".len());
        outgoing.clear();
        incoming.extend(record(&secrets, 1, &KEY_UPDATE[2..]));
        let (used, flow) = tls.decode(&mut incoming, &mut outgoing, |_| panic!("no plaintext"));
        assert_eq!((used, flow), (incoming.len(), Flow::Open));
        assert!(tls.encrypt(b"afterwards", &mut [], &mut outgoing).is_ok());
        tls.say_goodbye(&mut [], &mut outgoing);
        assert_eq!(tls.encrypt(b"too late", &mut [], &mut outgoing), Err(TlsClosed));
    }

    #[test]
    fn what_is_no_tls_is_answered_with_an_alert_and_nothing_is_taken_after_it() {
        let (mut tls, _) = pair();
        let mut outgoing = BytesMut::new();
        let mut bytes = *b"GET / HTTP/1.1\r\n\r\n";
        assert_eq!(tls.decode(&mut bytes, &mut outgoing, |_| panic!("no plaintext")).1, Flow::Ended);
        assert_eq!(outgoing.first(), Some(&21));
        assert_eq!(tls.encrypt(b"x", &mut [], &mut outgoing), Err(TlsClosed));
    }
}
