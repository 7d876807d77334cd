//! From an accepted socket to a session's shard: CONNECT within its deadline, a check, an identity, a hand-over.

use crate::auth::Door;
use crate::health::Connected;
use crate::host::Host;
use crate::mailbox::Command;
use bytes::BytesMut;
use bytestring::ByteString;
use reveille_broker_core::handshake::{self, Wanted};
use reveille_broker_core::io::Opening;
use reveille_broker_core::shard::Shard;
use reveille_proto::ids::ClientId;
use reveille_proto::mqtt::{self, Connect, Malformed, Packet, Version};
use reveille_proto::reason::ReasonCode;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// Bytes of a CONNECT: a will, a name and a password of 64 KiB each have room. Times the handshakes that run at once,
/// this is what strangers can make us keep.
const CONNECT_BYTES_MAX: u32 = 256 << 10;

/// How long a refused client may take to read why.
const REFUSAL_DEADLINE: Duration = Duration::from_secs(1);

/// A client that passed, before it is known to its shard.
#[derive(Debug)]
pub(crate) struct Newcomer {
    /// Who and what.
    pub(crate) opening: Box<Opening>,
    /// Bytes that came after CONNECT.
    pub(crate) rest: BytesMut,
    /// Counts its socket.
    pub(crate) connected: Connected,
}

/// A client on its way to another shard's thread.
#[derive(Debug)]
pub(crate) struct Adoption {
    /// Its socket, known to no runtime.
    pub(crate) socket: std::net::TcpStream,
    /// Who and what.
    pub(crate) newcomer: Newcomer,
}

impl Adoption {
    /// Bytes that it holds in memory while it is on its way.
    pub(crate) fn weight(&self) -> usize {
        let connect = &self.newcomer.opening.connect;
        let will = connect.will.as_ref().map_or(0, |will| will.payload.len() + will.topic.as_str().len());
        self.newcomer.rest.len() + will
    }
}

/// Why a socket got no further.
#[derive(Debug)]
enum Failed {
    /// It does not speak MQTT, or ended. No answer: nobody would understand it. `[MQTT5-3.1.4-1]`
    Silent,
    /// It asked for something that it is told that it cannot have.
    Refused(Version, ReasonCode),
}

/// Reads and answers CONNECT; hands the socket to the shard that owns the session.
pub(crate) async fn shake_hands(host: Rc<Host>, mut socket: TcpStream, peer: SocketAddr, door: Door) {
    let connected = host.shared.health.connected();
    let deadline = Duration::from_millis(host.shared.limits.load().shell.connect_deadline_ms);
    let mut unread = BytesMut::new();
    let connect =
        timeout(deadline, read_connect(&mut socket, &mut unread)).await.unwrap_or(Err(Failed::Silent));
    let opening = match connect {
        Ok(connect) => admit(&host, connect, peer, door).await,
        Err(failed) => Err(failed),
    };
    match opening {
        Ok(opening) => hand_over(&host, socket, Newcomer { opening, rest: unread, connected }).await,
        Err(Failed::Silent) => host.count(|counters| counters.failed_handshakes += 1),
        Err(Failed::Refused(version, reason)) => {
            host.count(|counters| counters.refused_connects += 1);
            let _ = timeout(REFUSAL_DEADLINE, refuse(&mut socket, version, reason)).await; // read or not, it ends
        }
    }
}

async fn read_connect(socket: &mut TcpStream, unread: &mut BytesMut) -> Result<Box<Connect>, Failed> {
    loop {
        // Until something came there is no buffer: an attacker's idle sockets cost no memory of ours.
        socket.readable().await.map_err(|_| Failed::Silent)?;
        match socket.read_buf(unread).await {
            Ok(0) | Err(_) => return Err(Failed::Silent),
            Ok(_) => {}
        }
        let (version, level) = (mqtt::version_of_connect(unread), protocol_level(unread));
        match mqtt::read(unread, None, CONNECT_BYTES_MAX) {
            Ok(Some(Packet::Connect(connect))) => return Ok(connect),
            Ok(Some(_)) => return Err(Failed::Silent), // [MQTT5-3.1.0-1]
            Ok(None) => {}
            Err(malformed) => return Err(why(malformed, version, level)),
        }
    }
}

/// A client of 5.0 hears what is wrong with its CONNECT; older ones are closed unheard, except for a protocol level that
/// we do not know, which is answered in the newest version that it may understand.
/// `[MQTT5-3.1.4-1]`, `[MQTT3-3.1.4-1]`, `[MQTT5-3.1.2-2]`, `[MQTT3-3.1.2-2]`
fn why(malformed: Malformed, version: Option<Version>, level: Option<u8>) -> Failed {
    match (version, malformed.reason) {
        (Some(Version::V5), reason) => Failed::Refused(Version::V5, reason),
        (None, reason @ ReasonCode::UNSUPPORTED_PROTOCOL_VERSION) => {
            let is_newer = level.is_some_and(|level| level > 5);
            Failed::Refused(if is_newer { Version::V5 } else { Version::V3_1_1 }, reason)
        }
        (Some(Version::V3_1 | Version::V3_1_1) | None, _) => Failed::Silent,
    }
}

/// The protocol level of a CONNECT, before it is known whether the rest of the packet can be read.
fn protocol_level(packet: &[u8]) -> Option<u8> {
    const LENGTH_BYTES_MAX: usize = 4; // of a variable byte integer
    let length_bytes = packet.get(1..)?.iter().take(LENGTH_BYTES_MAX).position(|byte| byte & 0x80 == 0)? + 1;
    let body = packet.get(1 + length_bytes..)?;
    let [high, low] = body.get(..2)?.try_into().ok()?;
    body.get(2 + usize::from(u16::from_be_bytes([high, low]))).copied()
}

async fn admit(
    host: &Host,
    connect: Box<Connect>,
    peer: SocketAddr,
    door: Door,
) -> Result<Box<Opening>, Failed> {
    let version = connect.version;
    let refused = |reason| Failed::Refused(version, reason);
    let shared = &host.shared;
    let table = shared.limits.load_full();
    if shared.health.connections() > table.shell.connections_max {
        return Err(refused(ReasonCode::QUOTA_EXCEEDED));
    }
    let wanted = handshake::check(&connect).map_err(refused)?;
    let (client_id, is_assigned) = match wanted {
        Wanted::Given(client_id) => (client_id, false),
        Wanted::Assigned => (assigned_client_id().map_err(refused)?, true),
    };
    let auth = shared.auth.load_full();
    let identity = auth.identify(door, &connect).await.map_err(refused)?;
    handshake::authorize(&connect, &identity, &client_id).map_err(refused)?;
    let limits = table.of("", &identity.app, identity.user.as_deref());
    handshake::check_will(&connect, &limits).map_err(refused)?;
    let network = ByteString::from(peer.ip().to_canonical().to_string());
    Ok(Box::new(Opening { connect, identity, client_id, is_assigned, network, limits }))
}

fn assigned_client_id() -> Result<ClientId, ReasonCode> {
    let id = uuid::Uuid::now_v7().simple().to_string();
    ClientId::parse(&id).map_err(|_| ReasonCode::UNSPECIFIED_ERROR)
}

async fn hand_over(host: &Rc<Host>, socket: TcpStream, newcomer: Newcomer) {
    let shared = &host.shared;
    let opening = &newcomer.opening;
    let owner = Shard::owner(&opening.identity.app, &opening.client_id, shared.mailboxes.count());
    if owner == shared.no {
        return host.adopt(socket, newcomer);
    }
    shared.mailboxes.room().await;
    match socket.into_std() {
        Ok(socket) => {
            shared.mailboxes.send(owner, Command::Adopt(Box::new(Adoption { socket, newcomer })));
        }
        Err(error) => tracing::debug!(%error, "a socket could not be handed over"),
    }
}

async fn refuse(socket: &mut TcpStream, version: Version, reason: ReasonCode) -> io::Result<()> {
    let mut answer = BytesMut::new();
    let packet = Packet::ConnAck(Box::new(handshake::refusal(reason)));
    if packet.write(version, &mut answer).is_err() {
        return Ok(()); // cannot happen: a refusal is a few bytes
    }
    socket.write_all(&answer).await?;
    socket.shutdown().await?;
    // Unread bytes would turn the close into a reset that overtakes the answer.
    while socket.read_buf(&mut answer).await? > 0 {
        answer.clear();
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_protocol_level_is_found_before_the_packet_is_understood() {
        let rows: [(&[u8], Option<u8>); 7] = [
            (&[0x10, 12, 0, 4, b'M', b'Q', b'T', b'T', 6], Some(6)),
            (&[0x10, 12, 0, 6, b'M', b'Q', b'I', b's', b'd', b'p', 3], Some(3)),
            (&[0x10, 0x80, 1, 0, 4, b'M', b'Q', b'T', b'T', 5], Some(5)),
            (&[0x10, 12, 0, 4, b'M', b'Q', b'T', b'T'], None),
            (&[0x10, 0x80, 0x80, 0x80, 0x80, 0x80], None),
            (&[0x10], None),
            (&[], None),
        ];
        for (packet, wanted) in rows {
            assert_eq!(protocol_level(packet), wanted, "{packet:?}");
        }
    }

    #[test]
    fn assigned_client_ids_differ_and_are_short() {
        let (a, b) = (assigned_client_id().unwrap(), assigned_client_id().unwrap());
        assert_ne!(a, b);
        assert_eq!(a.as_str().len(), 32);
    }
}
