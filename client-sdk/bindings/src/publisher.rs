//! The sending side.

use crate::client::Story;
use crate::error::{ClientError, ConnectError};
use crate::options::Options;
use crate::runtime;
use crate::types::{NetworkState, OutboxState, PushHints, QoS};
use reveille_client as sdk;
use std::sync::Arc;
use tokio::sync::Mutex;

/// A connection that publishes. It begins with a new session and resumes it after each broken connection.
#[derive(Debug, uniffi::Object)]
pub struct Publisher {
    publisher: sdk::Publisher,
    network: Mutex<Story>,
}

#[uniffi::export]
impl Publisher {
    /// Begins to connect, and returns at once. Clean start is on; an inbox file is not used.
    ///
    /// # Errors
    /// [`ConnectError`].
    #[uniffi::constructor]
    pub fn connect(options: Options) -> Result<Arc<Self>, ConnectError> {
        let options = options.build()?;
        let publisher = runtime::inside(|| sdk::Publisher::connect(options))??;
        let network = Mutex::new(Story::new(publisher.network()));
        Ok(Arc::new(Self { publisher, network }))
    }

    /// Publishes, and returns when the broker has acknowledged. Calls may run at once.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn publish(
        &self,
        topic: String,
        payload: Vec<u8>,
        qos: QoS,
        hints: PushHints,
    ) -> Result<(), ClientError> {
        Ok(self.publisher.publish(&topic, payload, qos.into(), &hints.into()).await?)
    }

    /// As `publish`, and later subscribers get it too. An empty payload removes it.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn publish_retained(
        &self,
        topic: String,
        payload: Vec<u8>,
        qos: QoS,
    ) -> Result<(), ClientError> {
        Ok(self.publisher.publish_retained(&topic, payload, qos.into()).await?)
    }

    /// As `Client.post`.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn post(
        &self,
        topic: String,
        payload: Vec<u8>,
        hints: PushHints,
    ) -> Result<String, ClientError> {
        Ok(self.publisher.post(&topic, payload, &hints.into()).await?.to_string())
    }

    /// What the outbox holds now.
    pub fn outbox(&self) -> OutboxState {
        (*self.publisher.outbox().borrow()).into()
    }

    /// Where the connection stands now.
    pub fn network(&self) -> NetworkState {
        self.publisher.network().borrow().clone().into()
    }

    /// As `Client.next_network`.
    pub async fn next_network(&self) -> NetworkState {
        self.network.lock().await.next().await
    }

    /// Waits until messages flow.
    ///
    /// # Errors
    /// [`ClientError::Closed`].
    pub async fn online(&self) -> Result<(), ClientError> {
        Ok(self.publisher.online().await?)
    }

    /// Says goodbye and ends the connection. Publishes that wait end with [`ClientError::Closed`].
    pub async fn close(&self) {
        self.publisher.close().await;
    }
}
