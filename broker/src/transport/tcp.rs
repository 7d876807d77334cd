//! TCP: sockets that several threads accept from, and the options that end half-open connections.

use socket2::{Domain, Protocol, Socket, TcpKeepalive, Type};
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::time::Duration;

/// Connections that the kernel holds until we accept them. More than the largest storm that one turn can fall behind.
const BACKLOG: i32 = 4096;

/// Silence after which the kernel asks the peer whether it lives. Long on purpose: each probe wakes a phone's radio,
/// and the MQTT keep alive finds most dead peers earlier. This is for clients that turned keep alive off.
const KEEP_ALIVE_IDLE: Duration = Duration::from_secs(30 * 60);

/// Time between probes that nobody answers.
const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(30);

/// Time that sent bytes may stay without the peer's acknowledgement before the socket ends (TCP_USER_TIMEOUT).
/// Longer than a handover between networks, shorter than the kernel's quarter of an hour.
const UNACKNOWLEDGED_MAX: Duration = Duration::from_secs(90);

/// Sockets that hold an address and do not listen yet: a busy port is found before the store is touched, and no
/// client is accepted before its session can be found.
#[derive(Debug)]
pub(crate) struct Bound {
    sockets: Vec<Socket>,
    addr: SocketAddr,
}

impl Bound {
    /// Where clients will connect, with the real port when 0 was asked for.
    pub(crate) fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Starts to listen on all of them.
    pub(crate) fn listen(self) -> io::Result<Vec<TcpListener>> {
        self.sockets.into_iter().map(listen).collect()
    }
}

/// Accepted sockets inherit SO_REUSEADDR, so that what is left of them does not block the next start.
fn listen(socket: Socket) -> io::Result<TcpListener> {
    socket.set_reuse_address(true)?;
    socket.listen(BACKLOG)?;
    socket.set_nonblocking(true)?;
    Ok(socket.into())
}

/// Binds `count` sockets to one address; the kernel spreads connections over them.
///
/// The first socket binds without SO_REUSEPORT, so that a port which another process of the same user shares in the
/// same way is busy all the same, and allows sharing afterwards. SO_REUSEADDR is for the bind only until we listen: two
/// sockets that have it and do not listen could share the port too.
pub(crate) fn bind(address: SocketAddr, count: u16) -> io::Result<Bound> {
    let first = prepare(address)?;
    first.bind(&address.into())?;
    first.set_reuse_port(true)?;
    first.set_reuse_address(false)?;
    let addr = first.local_addr()?.as_socket().unwrap_or(address);
    let mut sockets = vec![first];
    for _ in 1..count {
        let socket = prepare(addr)?;
        socket.set_reuse_port(true)?;
        socket.bind(&addr.into())?;
        socket.set_reuse_address(false)?;
        sockets.push(socket);
    }
    Ok(Bound { sockets, addr })
}

/// A socket whose options the accepted connections inherit (Linux, tcp(7)), which saves four system calls each.
fn prepare(address: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    if address.is_ipv6() {
        socket.set_only_v6(false)?;
    }
    socket.set_reuse_address(true)?;
    socket.set_tcp_nodelay(true)?;
    let keep_alive = TcpKeepalive::new().with_time(KEEP_ALIVE_IDLE).with_interval(KEEP_ALIVE_INTERVAL);
    socket.set_tcp_keepalive(&keep_alive)?;
    socket.set_tcp_user_timeout(Some(UNACKNOWLEDGED_MAX))?;
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use super::*;
    use socket2::SockRef;
    use std::net::TcpStream;

    const ANY: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 0);

    #[test]
    fn all_sockets_share_the_port_that_the_first_one_got() {
        let bound = bind(ANY, 3).unwrap();
        let addr = bound.addr();
        let listeners = bound.listen().unwrap();
        assert_eq!(listeners.len(), 3);
        assert!(listeners.iter().all(|listener| listener.local_addr().unwrap() == addr));
    }

    #[test]
    fn a_port_that_another_broker_shares_among_its_threads_is_busy() {
        let bound = bind(ANY, 2).unwrap();
        assert_eq!(bind(bound.addr(), 2).unwrap_err().kind(), io::ErrorKind::AddrInUse, "bound only");
        let addr = bound.addr();
        let listeners = bound.listen().unwrap();
        assert_eq!(bind(addr, 2).unwrap_err().kind(), io::ErrorKind::AddrInUse, "listening");
        drop(listeners);
        bind(addr, 2).unwrap();
    }

    #[test]
    fn accepted_connections_inherit_what_ends_half_open_ones() {
        let bound = bind(ANY, 1).unwrap();
        let addr = bound.addr();
        let listeners = bound.listen().unwrap();
        let _client = TcpStream::connect(addr).unwrap();
        listeners[0].set_nonblocking(false).unwrap();
        let (accepted, _) = listeners[0].accept().unwrap();
        let socket = SockRef::from(&accepted);
        assert!(socket.tcp_nodelay().unwrap());
        assert!(socket.keepalive().unwrap());
        assert_eq!(socket.tcp_user_timeout().unwrap(), Some(UNACKNOWLEDGED_MAX));
        assert_eq!(socket.tcp_keepalive_time().unwrap(), KEEP_ALIVE_IDLE);
    }
}
