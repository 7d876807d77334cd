//! Start and stop: the order in which the parts come up and go down.

use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::sync::{Semaphore, watch};
use tokio::task::{JoinHandle, JoinSet};

use crate::apps::{self, Keys};
use crate::config::{Config, ConfigError};
use crate::console::history::{self, History};
use crate::feed::{self, FeedOptions};
use crate::http::Rates;
use crate::http::tls::{CertificateError, Certificates};
use crate::metrics::Metrics;
use crate::sender::{Sender, SenderOptions};
use crate::shared::{Beside, Shared};
use crate::store::{OpenError, Store, StoreError};
use crate::webhooks::postman;
use crate::{
    audit, chores, damaged, elsewhere, expiry, exports, funnels, http, imports, inbox, removal, statistics,
    token_feed, worker,
};

/// How long vendor calls and requests under way may take when the bridge stops. Calls end sooner by their own
/// deadline.
const STOP_TIMEOUT: Duration = Duration::from_secs(25);

/// Why the bridge does not start. Each is one line for the operator.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A value of the configuration.
    #[error("configuration: {0}")]
    Config(#[from] ConfigError),
    /// The data directory.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The store failed at once.
    #[error("the bridge's store does not work: {0}")]
    Store(#[from] StoreError),
    /// The certificate of the HTTP listener.
    #[error("bridge.{0}")]
    Certificate(#[from] CertificateError),
    /// The HTTP port.
    #[error(
        "cannot listen for HTTP on {address}: {source}; stop what uses it, or change --http or the key bridge.http"
    )]
    Listen {
        /// Where.
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
}

/// A running bridge. Dropping it ends it at once, as a crash would; nothing accepted is lost by that.
pub struct Bridge {
    shared: Arc<Shared>,
    http_addr: SocketAddr,
    certificates: Option<Certificates>,
    first_admin_key: Option<String>,
    stop: watch::Sender<bool>,
    /// Ended by `stop`: they finish what is under way.
    gentle: Vec<JoinHandle<()>>,
    /// Ended anywhere: what they do is durable or repeated.
    others: JoinSet<()>,
}

/// Starts the bridge on the data directory. It answers HTTP when this returns; the broker may come later.
///
/// # Errors
/// [`StartError`] for a value out of bounds, a busy port, or a data directory that cannot be used.
pub async fn start(config: Config, data_dir: &Path, beside: Option<Beside>) -> Result<Bridge, StartError> {
    config.validate()?;
    let (extra_metrics, is_broker_ready, operations) = match beside {
        Some(Beside { metrics, is_ready, operations }) => (Some(metrics), Some(is_ready), Some(operations)),
        None => (None, None, None),
    };
    let operations = operations.or_else(|| elsewhere::router(config.broker_http?, &config.broker_key));
    let certificates = Certificates::read(&config)?;
    let (listener, http_addr) = listen(config.http).await?;
    let options = SenderOptions::default();
    let store = Store::open_with(data_dir, config.secret_key_file.as_deref(), Arc::clone(&options.clock))?;
    let first_admin_key = apps::prepare(&store).await?;
    let (publisher, publishes) = feed::publisher();
    let shared = Arc::new(Shared {
        keys: Keys::new(store.clone()),
        rates: Rates::new(config.requests_per_second),
        run: rand::random(),
        store,
        rules: config.rules(),
        sender: Sender::new(options),
        metrics: Metrics::default(),
        history: History::default(),
        is_feed_up: AtomicBool::new(false),
        extra_metrics,
        broker: operations.clone(),
        is_broker_ready,
        publisher,
        uploads: Semaphore::new(imports::INCOMING_MAX),
        downloads: Arc::default(),
        files: data_dir.join("bridge"),
        webhook_hosts: config.webhook_hosts.clone(),
        audit_retention_ms: config.audit_retention_s * 1000,
        calls_at_once: config.calls_at_once,
    });
    imports::tidy(&shared).await; // before there may be files of uploads that come in
    let (stop, stopped) = watch::channel(false);
    let mut others = JoinSet::new();
    others.spawn(chores::run_jobs(Arc::clone(&shared)));
    others.spawn(chores::run_checks(Arc::clone(&shared)));
    others.spawn(damaged::run(Arc::clone(&shared)));
    others.spawn(removal::run(Arc::clone(&shared)));
    others.spawn(imports::run(Arc::clone(&shared)));
    others.spawn(exports::run(Arc::clone(&shared)));
    others.spawn(history::run(Arc::clone(&shared), operations.clone()));
    others.spawn(feed::run(Arc::clone(&shared), feed_options(&config), publishes));
    others.spawn(expiry::run(Arc::clone(&shared)));
    others.spawn(statistics::run(Arc::clone(&shared)));
    others.spawn(audit::run(Arc::clone(&shared)));
    others.spawn(funnels::run(Arc::clone(&shared)));
    others.spawn(inbox::sweeper::run(Arc::clone(&shared)));
    if let Some(certificates) = certificates.clone() {
        others.spawn(certificates.watch(Arc::clone(&shared)));
    }
    let feed_interval = Duration::from_secs(config.invalid_feed_s);
    let gentle = vec![
        tokio::spawn(token_feed::run(Arc::clone(&shared), feed_interval, stopped.clone())),
        tokio::spawn(worker::run(Arc::clone(&shared), stopped.clone())),
        tokio::spawn(postman::run(Arc::clone(&shared), stopped.clone())),
        tokio::spawn(http::serve(
            Arc::clone(&shared),
            config,
            operations,
            listener,
            certificates.clone(),
            stopped,
        )),
    ];
    Ok(Bridge { shared, http_addr, certificates, first_admin_key, stop, gentle, others })
}

async fn listen(address: SocketAddr) -> Result<(TcpListener, SocketAddr), StartError> {
    let failed = |source| StartError::Listen { address, source };
    let listener = TcpListener::bind(address).await.map_err(failed)?;
    let bound = listener.local_addr().map_err(failed)?;
    Ok((listener, bound))
}

fn feed_options(config: &Config) -> FeedOptions {
    FeedOptions {
        broker: config.mqtt,
        user: config.user.clone(),
        password: config.password.clone(),
        client_id: config.client_id.clone(),
    }
}

impl Bridge {
    /// Where the HTTP API listens, with the real port.
    pub fn http_addr(&self) -> SocketAddr {
        self.http_addr
    }

    /// What HTTP is served with over TLS; `None`: without TLS.
    pub fn certificates(&self) -> Option<Certificates> {
        self.certificates.clone()
    }

    /// The operator's key, only on the very first start on a data directory. It is kept nowhere in the clear.
    pub fn first_admin_key(&self) -> Option<&str> {
        self.first_admin_key.as_deref()
    }

    /// What it keeps, for tests that look inside.
    #[cfg(test)]
    pub(crate) fn store(&self) -> Store {
        self.shared.store.clone()
    }

    /// Stops: takes no more requests, finishes those and the vendor calls under way, closes the store.
    pub async fn stop(mut self) {
        self.stop.send_replace(true);
        self.shared.store.events().close();
        for task in &mut self.gentle {
            if tokio::time::timeout(STOP_TIMEOUT, &mut *task).await.is_err() {
                task.abort();
            }
        }
        self.shared.sender.close().await;
        self.end().await;
    }

    /// Ends as a crash would: nothing under way is finished. Returns when the data directory is free again. For
    /// tests of what a restart finds.
    pub async fn kill(mut self) {
        for task in &mut self.gentle {
            task.abort();
            let _ = task.await; // aborted
        }
        self.end().await;
    }

    async fn end(mut self) {
        self.others.shutdown().await;
        let store = self.shared.store.clone();
        drop(self);
        let _ = tokio::task::spawn_blocking(move || store.close()).await; // it cannot panic
    }
}

impl Drop for Bridge {
    fn drop(&mut self) {
        for task in &self.gentle {
            task.abort();
        }
    }
}
