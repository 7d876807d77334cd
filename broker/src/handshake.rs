//! From an accepted socket to a session's shard: CONNECT within its deadline, a check, an identity, a hand-over.

use crate::auth::bans::Suspect;
use crate::auth::enhanced::{Enhanced, Step};
use crate::auth::{Attempt, Auth, Door};
use crate::host::Host;
use crate::listener::{Listener, Peer, Seat};
use crate::mailbox::Command;
use crate::shared::Shared;
use crate::transport::awaited::Awaited;
use crate::transport::socket::Socket;
use crate::transport::{Came, Found, Stage, Stream};
use bytes::{Bytes, BytesMut};
use reveille_broker_core::handshake::{self, Wanted};
use reveille_broker_core::io::{Identity, Opening};
use reveille_broker_core::networks::{Advice, Origin};
use reveille_broker_core::shard::Shard;
use reveille_proto::heartbeat::Hello;
use reveille_proto::ids::ClientId;
use reveille_proto::mqtt::{self, ConnAck, Connect, Malformed, Packet, Version};
use reveille_proto::reason::ReasonCode;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};
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
    pub(crate) seat: Seat,
    /// How it proves who it is, when it uses an authentication method.
    pub(crate) enhanced: Option<Box<Enhanced>>,
    /// What let it in: it may be replaced before the client arrives at its shard.
    pub(crate) auth: Arc<Auth>,
}

/// A client that was let in.
struct Admitted {
    opening: Box<Opening>,
    enhanced: Option<Box<Enhanced>>,
    auth: Arc<Auth>,
}

/// A client on its way to another shard's thread.
#[derive(Debug)]
pub(crate) struct Adoption {
    /// Its bytes.
    pub(crate) stream: Stream,
    /// Who and what.
    pub(crate) newcomer: Newcomer,
}

impl Adoption {
    /// Bytes that it holds in memory while it is on its way.
    pub(crate) fn weight(&self) -> usize {
        let connect = &self.newcomer.opening.connect;
        let will = connect.will.as_ref().map_or(0, |will| will.payload.len() + will.topic.as_str().len());
        self.newcomer.rest.len() + self.stream.weight() + will
    }
}

/// Why a socket got no further.
#[derive(Debug)]
enum Failed {
    /// It does not speak MQTT, or ended. No answer: nobody would understand it. `[MQTT5-3.1.4-1]`
    Silent,
    /// Its address sends too many.
    Rate,
    /// The broker empties itself.
    Draining(Version, Box<ConnAck>),
    /// It asked for something that it is told that it cannot have.
    Refused(Version, ReasonCode),
}

/// Reads and answers CONNECT; hands the socket to the shard that owns the session.
pub(crate) async fn shake_hands(
    host: Rc<Host>,
    socket: Socket,
    listener: Arc<Listener>,
    address: Option<SocketAddr>,
) {
    let seat = listener.seat(&host.shared.health);
    let stream = match listener.wrap(socket) {
        Ok(stream) => stream,
        Err(error) => return tracing::error!(%error, listener = &*listener.name, "TLS cannot be served"),
    };
    let mut line = match Awaited::new(stream) {
        Ok(line) => line,
        Err(error) => return tracing::error!(%error, "a socket cannot be watched"),
    };
    let mut unread = BytesMut::new();
    let deadline = listener.connect_deadline(&host.shared.limits.load().shell);
    let connect = timeout(deadline, read_connect(&host, &mut line, &mut unread)).await;
    if connect.is_err() {
        host.count(|counters| counters.handshakes_timed_out += 1);
    }
    let stage = line.stream().stage();
    let Found { address: proxied, certificate } = line.stream().settle();
    let certificate_identity = certificate.and_then(|certificate| listener.identity_of(&certificate));
    let peer = Peer { listener, address: proxied.or(address), certificate_identity };
    let connect = connect.unwrap_or(Err(Failed::Silent));
    let asked = connect.as_ref().ok().and_then(|connect| connect.properties.maximum_packet_size);
    let size_max = asked.unwrap_or(u32::MAX);
    let opening = match connect.and_then(|connect| check_rate(&peer, proxied).map(|()| connect)) {
        Ok(connect) => admit(&host, connect, &peer, (&mut line, &mut unread)).await,
        Err(failed) => Err(failed),
    };
    match opening {
        Ok(Admitted { opening, enhanced, auth }) => {
            let newcomer = Newcomer { opening, rest: unread, seat, enhanced, auth };
            hand_over(&host, Adoption { stream: line.into_stream(), newcomer }).await;
        }
        Err(Failed::Silent) => {
            host.count(|counters| match stage {
                Stage::Proxy => counters.failed_proxy_headers += 1,
                Stage::Tls => counters.failed_tls += 1,
                Stage::WebSocket => counters.failed_websockets += 1,
                Stage::Connect => counters.failed_handshakes += 1,
            });
            if matches!(stage, Stage::Tls | Stage::WebSocket) {
                let _ = timeout(REFUSAL_DEADLINE, line.end(&host.scratch)).await; // a layer has said why
            }
        }
        Err(Failed::Rate) => host.count(|counters| counters.refused_address_rate += 1),
        Err(Failed::Refused(version, reason)) => {
            host.count(|counters| counters.refused(reason));
            let connack = refusal_that_fits(version, handshake::refusal(reason), size_max);
            let _ = timeout(REFUSAL_DEADLINE, line.finish(connack, &host.scratch)).await; // read or not, it ends
        }
        Err(Failed::Draining(version, connack)) => {
            host.count(|counters| counters.refused_draining += 1);
            let connack = refusal_that_fits(version, *connack, size_max);
            let _ = timeout(REFUSAL_DEADLINE, line.finish(connack, &host.scratch)).await;
        }
    }
}

/// The address that a proxy names is known late; its rate counts all the same.
fn check_rate(peer: &Peer, proxied: Option<SocketAddr>) -> Result<(), Failed> {
    let Some(address) = proxied else { return Ok(()) };
    peer.listener.check_proxied(address.ip(), Instant::now()).map_err(|_| Failed::Rate)
}

async fn read_connect(
    host: &Host,
    line: &mut Awaited,
    unread: &mut BytesMut,
) -> Result<Box<Connect>, Failed> {
    loop {
        match line.read(&host.scratch, unread).await {
            Ok(Came::End) | Err(_) => return Err(Failed::Silent),
            Ok(Came::Bytes(_)) if unread.is_empty() => continue, // something below MQTT
            Ok(Came::Bytes(_)) => {}
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
    mut connect: Box<Connect>,
    peer: &Peer,
    line: (&mut Awaited, &mut BytesMut),
) -> Result<Admitted, Failed> {
    let version = connect.version;
    let refused = |reason| Failed::Refused(version, reason);
    let (shared, from) = (&host.shared, &peer.listener);
    let table = shared.limits.load_full();
    if from.door == Door::Public
        && let Some(connack) = shared.draining.refusal()
    {
        return Err(Failed::Draining(version, Box::new(connack)));
    }
    let is_full = shared.health.connections() > table.shell.connections_max;
    if is_full || from.connections() > from.connections_max {
        return Err(refused(ReasonCode::QUOTA_EXCEEDED));
    }
    let wanted = handshake::check(&connect).map_err(refused)?;
    let (client_id, is_assigned) = match wanted {
        Wanted::Given(client_id) => (client_id, false),
        Wanted::Assigned => (assigned_client_id().map_err(refused)?, true),
    };
    let now = shared.clock.now();
    let attempt = Attempt::new(peer, &connect, &client_id, now);
    let suspect = Suspect { app: "", client_id: client_id.as_str(), user: None, address: attempt.address };
    check_ban(host, peer, suspect).map_err(refused)?; // what is known already needs no hash
    let auth = shared.auth.load_full();
    let mut enhanced = Enhanced::of(peer, &connect, &client_id).map(Box::new);
    let (identity, authentication_data) = match &mut enhanced {
        Some(enhanced) => prove(host, &connect, enhanced, &auth, line).await?,
        None => (auth.identify(&attempt).await.map_err(refused)?, None),
    };
    let suspect = Suspect { app: identity.app.as_str(), user: identity.user.as_deref(), ..suspect };
    check_ban(host, peer, suspect).map_err(refused)?;
    let control = shared.control.load();
    handshake::rewrite_will(&mut connect, &identity, &control.rewrites).map_err(refused)?;
    handshake::authorize(&connect, &identity, &client_id).map_err(refused)?;
    let limits = match identity.is_bridge {
        true => table.of_bridge(),
        false => table.of(&from.name, &identity.app, identity.user.as_deref()),
    };
    handshake::check_will(&connect, &limits).map_err(refused)?;
    let (network, listener) = (peer.network(), from.name.clone());
    let hello = hello(&connect).map(Box::new);
    let advice = advice(shared, peer, hello.as_deref());
    let opening = Opening {
        connect,
        identity,
        client_id,
        is_assigned,
        network,
        limits,
        listener,
        authentication_data,
        hello,
        advice,
    };
    Ok(Admitted { opening: Box::new(opening), enhanced, auth })
}

/// What a client says about its heartbeat.
fn hello(connect: &Connect) -> Option<Hello> {
    let properties = &connect.properties.user_properties;
    Hello::read(properties.iter().map(|(name, value)| (&**name, &**value)))
}

/// What is known of the network that a client comes from; nothing of this machine, and not for the bridge.
fn advice(shared: &Shared, peer: &Peer, hello: Option<&Hello>) -> Option<Advice> {
    let address = peer.address.filter(|_| peer.listener.door == Door::Public)?.ip();
    shared.heartbeats.advice(&Origin { address, network: hello.map(|hello| hello.network.clone()) })
}

fn check_ban(host: &Host, peer: &Peer, suspect: Suspect<'_>) -> Result<(), ReasonCode> {
    let is_client = peer.listener.door == Door::Public;
    match is_client && host.shared.bans.is_banned(suspect, host.shared.clock.now()) {
        true => Err(ReasonCode::BANNED),
        false => Ok(()),
    }
}

/// The exchange of an authentication method, before CONNACK. Section 4.12.
async fn prove(
    host: &Host,
    connect: &Connect,
    enhanced: &mut Enhanced,
    auth: &Auth,
    (line, unread): (&mut Awaited, &mut BytesMut),
) -> Result<(Identity, Option<Bytes>), Failed> {
    let refused = |reason| Failed::Refused(Version::V5, reason);
    let deadline = enhanced.listener.connect_deadline(&host.shared.limits.load().shell);
    let size_max = connect.properties.maximum_packet_size.unwrap_or(u32::MAX);
    let exchange = async {
        let first = connect.properties.authentication_data.as_deref();
        let mut outcome = enhanced.take(auth, true, first, host.shared.clock.now()).map_err(refused)?;
        loop {
            let data = match outcome {
                Step::Done(identity, data) => return Ok((*identity, data)),
                Step::Continue(data) => data,
            };
            let reason = ReasonCode::CONTINUE_AUTHENTICATION;
            let challenge = mqtt::Auth {
                reason,
                method: Some(enhanced.method.clone()),
                data: Some(data),
                properties: Default::default(),
            };
            write(line, Packet::Auth(Box::new(challenge)), size_max).await?; // [MQTT5-4.12.0-2]
            let answer = read_auth(host, line, unread).await?;
            let is_answer = answer.reason == reason && answer.method.as_ref() == Some(&enhanced.method);
            if !is_answer {
                return Err(refused(ReasonCode::PROTOCOL_ERROR)); // [MQTT5-4.12.0-3], [MQTT5-4.12.0-5]
            }
            let data = answer.data.as_deref();
            outcome = enhanced.take(auth, false, data, host.shared.clock.now()).map_err(refused)?;
        }
    };
    timeout(deadline, exchange).await.unwrap_or(Err(Failed::Silent))
}

async fn write(line: &mut Awaited, packet: Packet, size_max: u32) -> Result<(), Failed> {
    let mut bytes = BytesMut::new();
    packet.write(Version::V5, &mut bytes).map_err(|_| Failed::Silent)?;
    if !u32::try_from(bytes.len()).is_ok_and(|size| size <= size_max) {
        return Err(Failed::Refused(Version::V5, ReasonCode::PACKET_TOO_LARGE)); // [MQTT5-3.1.2-24]
    }
    line.write(bytes).await.map_err(|_| Failed::Silent)
}

/// Until CONNACK a client that uses an authentication method sends AUTH, or leaves. `[MQTT5-3.1.2-30]`
async fn read_auth(
    host: &Host,
    line: &mut Awaited,
    unread: &mut BytesMut,
) -> Result<Box<mqtt::Auth>, Failed> {
    loop {
        match mqtt::read(unread, Some(Version::V5), CONNECT_BYTES_MAX) {
            Ok(Some(Packet::Auth(auth))) => return Ok(auth),
            Ok(Some(Packet::Disconnect(_))) => return Err(Failed::Silent),
            Ok(Some(_)) => return Err(Failed::Refused(Version::V5, ReasonCode::PROTOCOL_ERROR)),
            Ok(None) => {}
            Err(malformed) => return Err(Failed::Refused(Version::V5, malformed.reason)),
        }
        match line.read(&host.scratch, unread).await {
            Ok(Came::End) | Err(_) => return Err(Failed::Silent),
            Ok(Came::Bytes(_)) => {}
        }
    }
}

fn assigned_client_id() -> Result<ClientId, ReasonCode> {
    let id = uuid::Uuid::now_v7().simple().to_string();
    ClientId::parse(&id).map_err(|_| ReasonCode::UNSPECIFIED_ERROR)
}

async fn hand_over(host: &Rc<Host>, adoption: Adoption) {
    let shared = &host.shared;
    let opening = &adoption.newcomer.opening;
    let owner = Shard::owner(&opening.identity.app, &opening.client_id, shared.mailboxes.count());
    if owner == shared.no {
        return host.adopt(adoption);
    }
    shared.mailboxes.room().await;
    shared.mailboxes.send(owner, Command::Adopt(Box::new(adoption)));
}

/// A refusal as bytes, without its properties where the client has no room for them; nothing where it has no room for
/// the bare packet. `[MQTT5-3.1.2-24]`, `[MQTT5-3.2.2-19]`
fn refusal_that_fits(version: Version, connack: ConnAck, size_max: u32) -> BytesMut {
    let bare = handshake::refusal(connack.reason);
    let written = [connack, bare].into_iter().map(|connack| {
        let mut bytes = BytesMut::new();
        let written = Packet::ConnAck(Box::new(connack)).write(version, &mut bytes);
        written.map(|()| bytes)
    });
    let fits = |bytes: &BytesMut| u32::try_from(bytes.len()).is_ok_and(|size| size <= size_max);
    written.flatten().find(fits).unwrap_or_default()
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
