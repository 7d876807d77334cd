//! Where the load's sockets come from: addresses of 127.0.0.0/8 in turn, because one address has 28,000 ports; and how
//! many sockets a process may have.

use crate::client::LoadError;
use socket2::{Domain, Protocol, Socket, Type};
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpStream};

/// Descriptors that are no connections: files, the poll, standard streams.
const RESERVE: u64 = 200;

/// The next address.
#[derive(Debug, Default)]
pub struct Sources {
    turn: u32,
}

impl Sources {
    /// A socket that does not wait, on its way to this address.
    pub fn connect(&mut self, to: SocketAddr) -> Result<TcpStream, LoadError> {
        let socket = Socket::new(Domain::for_address(to), Type::STREAM, Some(Protocol::TCP))?;
        socket.set_nonblocking(true)?;
        socket.set_tcp_nodelay(true)?;
        if to.ip().is_loopback() && to.is_ipv4() {
            socket.bind(&SocketAddr::from(self.source()).into())?;
        }
        match socket.connect(&to.into()) {
            Ok(()) => {}
            Err(error) if error.raw_os_error() == Some(rustix::io::Errno::INPROGRESS.raw_os_error()) => {}
            Err(error) => return Err(error.into()),
        }
        Ok(socket.into())
    }

    /// 127.0.1.1 and up: 127.0.0.1 stays for those who listen.
    fn source(&mut self) -> SocketAddrV4 {
        self.turn = self.turn % 250 + 1;
        let [_, _, _, last] = self.turn.to_be_bytes();
        SocketAddrV4::new(Ipv4Addr::new(127, 0, 1, last), 0)
    }
}

/// Connections that this process can hold, after its limit was raised as far as it may be. A broker has the same limit.
pub fn connections_max() -> usize {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    let _ = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum });
    let current = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    usize::try_from(current.saturating_sub(RESERVE)).unwrap_or(usize::MAX)
}

/// So many, or as many as this process can hold; says so when it is fewer.
pub fn bounded(wanted: usize) -> usize {
    let max = connections_max();
    if wanted > max {
        eprintln!("{wanted} connections were asked for, {max} is what the limit of file descriptors allows");
    }
    wanted.min(max)
}
