//! What a shard sees of a device and its connection.

use super::key::{Prefix, fnv1a};
use reveille_proto::heartbeat::{Network, Radio};
use reveille_proto::ids::{AppId, ClientId};
use std::net::IpAddr;
use std::time::Duration;

/// A device, as a number that stays the same over restarts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Device(pub u64);

impl Device {
    /// The number of a client.
    pub fn of(app: &AppId, client_id: &ClientId) -> Self {
        Self(fnv1a(format!("{app}\0{client_id}").as_bytes())) // an app id has no NUL
    }
}

/// Where a connection comes from, and what its client says about that.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    /// As the broker sees it.
    pub address: IpAddr,
    /// What a client says that tunes its heartbeat; others say nothing.
    pub network: Option<Network>,
}

impl Origin {
    pub(super) fn radio(&self) -> Radio {
        self.network.as_ref().map_or(Radio::Unknown, |network| network.radio)
    }

    /// Whether both are one network, as far as anybody can tell: a client of 3.1.1 says on which it is only after a while.
    pub(super) fn is_same(&self, other: &Self) -> bool {
        let is_told_apart = self.network.as_ref().zip(other.network.as_ref()).is_some_and(|(a, b)| a != b);
        Prefix::near(self.address) == Prefix::near(other.address) && !is_told_apart
    }
}

/// What a shard saw of one device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sighting {
    /// Whom.
    pub device: Device,
    /// Where.
    pub origin: Origin,
    /// It has shown who it is.
    pub is_known: bool,
    /// What.
    pub seen: Seen,
}

/// See [`Sighting`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seen {
    /// It connected.
    Came,
    /// Its connection lived through this silence in both directions.
    Survived(Duration),
    /// Its connection ended.
    Left(Leaving),
    /// It says that its last connection was dead after this silence.
    Claimed(Duration),
}

/// How a connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Leaving {
    /// Somebody said so: DISCONNECT, FIN, a kick, the end of the broker.
    Told,
    /// RST: some carriers send it when they forget a connection, most often it is a killed app.
    Reset,
    /// Nothing came although it should have. The path was never idle for longer than this.
    Silent(Duration),
    /// The device came back on a new connection while this one was there: it noticed something, or was restarted.
    TakenOver {
        /// The path was never idle for longer than this.
        idle: Duration,
        /// What we sent was not acknowledged for long.
        is_unanswered: bool,
    },
}
