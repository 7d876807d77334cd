//! The phones' radio: a TCP relay that can be switched off, which cuts what passes through it without a word.

use super::{Broken, refused};
use std::net::SocketAddr;
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};

/// Connections that pass at once; two phones and their retries need no more.
const CONNECTIONS_MAX: usize = 16;

/// The relay. Dropping it ends it.
#[derive(Debug)]
pub struct Radio {
    address: SocketAddr,
    /// Where the broker is; `None` while the radio is off.
    target: watch::Sender<Option<SocketAddr>>,
    task: JoinHandle<()>,
}

impl Radio {
    /// Listens on a free port, switched off.
    pub async fn start() -> Result<Self, Broken> {
        let listener = TcpListener::bind("127.0.0.1:0").await.map_err(refused("listen for the phones"))?;
        let address = listener.local_addr().map_err(refused("listen for the phones"))?;
        let (target, target_end) = watch::channel(None);
        let task = tokio::spawn(serve(listener, target_end));
        Ok(Self { address, target, task })
    }

    /// Where the phones connect.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// From now on connections pass to this broker.
    pub fn on(&self, broker: SocketAddr) {
        self.target.send_replace(Some(broker));
    }

    /// Cuts every connection, and lets none pass.
    pub fn off(&self) {
        self.target.send_replace(None);
    }
}

impl Drop for Radio {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve(listener: TcpListener, target: watch::Receiver<Option<SocketAddr>>) {
    let mut connections = JoinSet::new(); // dropped with this task, which cuts them
    while let Ok((phone, _)) = listener.accept().await {
        while connections.try_join_next().is_some() {}
        if connections.len() < CONNECTIONS_MAX {
            connections.spawn(relay(phone, target.clone()));
        }
    }
}

/// Both sockets close when this ends, whatever is still on its way.
async fn relay(mut phone: TcpStream, mut target: watch::Receiver<Option<SocketAddr>>) {
    let Some(address) = *target.borrow_and_update() else { return };
    let Ok(mut broker) = TcpStream::connect(address).await else { return };
    tokio::select! {
        _ = copy_bidirectional(&mut phone, &mut broker) => {}
        _ = target.changed() => {}
    }
}
