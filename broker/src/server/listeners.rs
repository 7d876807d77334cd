//! The listeners while the broker starts: places are taken first, served last.

use super::error::StartError;
use crate::config::{Config, ConfigError, FileMode, ListenerKind};
use crate::listener::Listener;
use crate::tls::TicketKeys;
use crate::transport::tcp::{self, Bound};
use crate::transport::unix::{self, SocketFile, UnixBound};
use std::fmt;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;

/// Where one listener is, with the real port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListenerPlace {
    /// Its name in the configuration.
    pub name: String,
    /// What it speaks below MQTT.
    pub kind: ListenerKind,
    /// Where.
    pub place: Place,
}

/// Where a listener is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// On a network.
    Address(SocketAddr),
    /// On this machine.
    Path(PathBuf),
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(address) => address.fmt(f),
            Self::Path(path) => path.display().fmt(f),
        }
    }
}

/// The further listeners and what belongs to them for as long as the broker runs.
#[derive(Debug, Default)]
pub(super) struct Places {
    /// Where they are.
    pub(super) all: Vec<ListenerPlace>,
    /// Files of Unix sockets, removed at the end.
    files: Vec<SocketFile>,
}

/// A listener that holds its place and does not serve yet.
#[derive(Debug)]
pub(super) struct BoundListener {
    listener: Arc<Listener>,
    /// The key of the configuration that says where.
    key: &'static str,
    /// How many shards serve it.
    shards: u16,
    socket: BoundSocket,
}

#[derive(Debug)]
enum BoundSocket {
    Tcp(Bound),
    Unix(PathBuf, UnixBound),
}

impl BoundListener {
    /// One on a network.
    pub(super) fn tcp(
        listener: Listener,
        key: &'static str,
        address: SocketAddr,
        shards: u16,
    ) -> Result<Self, StartError> {
        let bound = tcp::bind(address, shards)
            .map_err(|error| StartError::bind(key, Place::Address(address), error))?;
        Ok(Self { listener: Arc::new(listener), key, shards, socket: BoundSocket::Tcp(bound) })
    }

    fn unix(listener: Listener, path: PathBuf, mode: FileMode, shards: u16) -> Result<Self, StartError> {
        const KEY: &str = "listeners.path";
        let bound = unix::bind(&path, mode)
            .map_err(|error| StartError::bind(KEY, Place::Path(path.clone()), error))?;
        let socket = BoundSocket::Unix(path, bound);
        Ok(Self { listener: Arc::new(listener), key: KEY, shards, socket })
    }

    /// Where it is.
    pub(super) fn place(&self) -> Place {
        match &self.socket {
            BoundSocket::Tcp(bound) => Place::Address(bound.addr()),
            BoundSocket::Unix(path, _) => Place::Path(path.clone()),
        }
    }

    /// Its address, unless it is a Unix socket.
    pub(super) fn addr(&self) -> Option<SocketAddr> {
        match self.place() {
            Place::Address(address) => Some(address),
            Place::Path(_) => None,
        }
    }

    /// Starts to listen: a socket for each shard, until they are all given out.
    pub(super) fn listen(self, places: &mut Places) -> Result<Vec<(Arc<Listener>, OwnedFd)>, StartError> {
        let place = self.place();
        let failed = |error| StartError::bind(self.key, place.clone(), error);
        let sockets: Vec<OwnedFd> = match self.socket {
            BoundSocket::Tcp(bound) => {
                bound.listen().map_err(failed)?.into_iter().map(OwnedFd::from).collect()
            }
            BoundSocket::Unix(_, bound) => {
                let (listeners, file) = bound.listen(self.shards).map_err(failed)?;
                places.files.push(file);
                listeners.into_iter().map(OwnedFd::from).collect()
            }
        };
        Ok(sockets.into_iter().map(|socket| (Arc::clone(&self.listener), socket)).collect())
    }

    /// What its shards will share.
    pub(super) fn listener(&self) -> Arc<Listener> {
        Arc::clone(&self.listener)
    }

    /// What operators watch.
    pub(super) fn shown(&self) -> (Arc<Listener>, String) {
        (Arc::clone(&self.listener), self.place().to_string())
    }

    /// How people see it.
    pub(super) fn describe(&self) -> ListenerPlace {
        ListenerPlace { name: self.listener.name.to_string(), kind: self.listener.kind, place: self.place() }
    }
}

/// Takes the place of each of `[[broker.listeners]]`.
pub(super) fn bind(config: &Config, tickets: &Arc<TicketKeys>) -> Result<Vec<BoundListener>, StartError> {
    let shards = config.shard_count();
    let packet_bytes_max = config.packet_bytes_max();
    let mut bound = Vec::with_capacity(config.listeners.len());
    for own in &config.listeners {
        // No connection of it may send more, whoever it turns out to be.
        let named = |problem| ConfigError::Listener { name: own.name.clone(), problem };
        let listener = Listener::of(own, packet_bytes_max, tickets).map_err(named)?;
        if let Some(address) = own.address {
            bound.push(BoundListener::tcp(listener, "listeners.address", address, shards)?);
        } else if let Some(path) = &own.path {
            let mode = own.mode.unwrap_or(FileMode::OWNER_AND_GROUP);
            bound.push(BoundListener::unix(listener, path.clone(), mode, shards)?);
        }
    }
    Ok(bound)
}
