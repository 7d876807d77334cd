//! A device.

use crate::error::{ClientError, ConnectError};
use crate::message::Message;
use crate::options::Options;
use crate::runtime;
use crate::types::{
    DeviceNetwork, HeartbeatState, NetworkState, OutboxState, PushHints, QoS, Registration, VendorPush,
};
use reveille_client as sdk;
use reveille_client::MessageId;
use std::sync::Arc;
use tokio::sync::{Mutex, watch};

/// A device with its persistent session.
///
/// Letting it go cuts the connection without DISCONNECT; `close` says goodbye.
#[derive(Debug, uniffi::Object)]
pub struct Client {
    client: sdk::Client,
    /// One task at a time waits for the next one.
    messages: Mutex<sdk::Messages>,
    network: Mutex<Story>,
    inbox: Mutex<InboxStory>,
}

/// The states of the inbox as they are told one after the other.
#[derive(Debug, Default)]
pub(crate) struct InboxStory {
    /// From the first question on.
    state: Option<watch::Receiver<Option<sdk::InboxState>>>,
}

/// The states of the connection as they are told one after the other.
#[derive(Debug)]
pub(crate) struct Story {
    network: watch::Receiver<sdk::NetworkState>,
}

impl Story {
    pub fn new(mut network: watch::Receiver<sdk::NetworkState>) -> Self {
        network.mark_changed(); // the first state is news too
        Self { network }
    }

    /// The state now when it was not told yet, else the next one; `Closed` again and again at the end.
    pub async fn next(&mut self) -> NetworkState {
        let _ = self.network.changed().await; // the end changes nothing more
        self.network.borrow_and_update().clone().into()
    }
}

impl Client {
    pub(crate) fn sdk(&self) -> &sdk::Client {
        &self.client
    }

    /// The next state of the inbox; nothing once the client is closed.
    pub(crate) async fn next_inbox(&self) -> Option<sdk::InboxState> {
        let mut story = self.inbox.lock().await;
        let state = story.state.get_or_insert_with(|| {
            let mut state = self.client.inbox().state();
            state.mark_changed(); // the first state is news too
            state
        });
        let mut network = self.client.network();
        loop {
            tokio::select! {
                changed = state.changed() => changed.ok()?,
                _ = network.wait_for(|network| *network == sdk::NetworkState::Closed) => return None,
            }
            if let Some(known) = state.borrow_and_update().clone() {
                return Some(known);
            }
        }
    }
}

pub(crate) fn message_id(text: &str) -> Result<MessageId, ClientError> {
    MessageId::parse(text).map_err(|_| ClientError::MessageId)
}

#[uniffi::export]
impl Client {
    /// Begins to connect, and returns at once.
    ///
    /// # Errors
    /// [`ConnectError`] when the options are off limits or a file cannot be used. Network trouble is none: look at
    /// `network`.
    #[uniffi::constructor]
    pub fn connect(options: Options) -> Result<Arc<Self>, ConnectError> {
        let options = options.build()?;
        let (client, messages) = runtime::inside(|| sdk::Client::connect(options))??;
        let network = Mutex::new(Story::new(client.network()));
        Ok(Arc::new(Self { client, messages: Mutex::new(messages), network, inbox: Mutex::default() }))
    }

    /// Waits for the next message; nothing once the client is closed and no message is left.
    pub async fn next_message(&self) -> Option<Arc<Message>> {
        self.messages.lock().await.recv().await.map(Message::new)
    }

    /// Where the connection stands now.
    pub fn network(&self) -> NetworkState {
        self.client.network().borrow().clone().into()
    }

    /// The state now at the first call, then each next one; states that end before they are asked for are left out.
    pub async fn next_network(&self) -> NetworkState {
        self.network.lock().await.next().await
    }

    /// Waits until messages flow.
    ///
    /// # Errors
    /// [`ClientError::Closed`].
    pub async fn online(&self) -> Result<(), ClientError> {
        Ok(self.client.online().await?)
    }

    /// The operating system reports another network: the old connection is given up and a new one is tried at once.
    pub async fn network_changed(&self) {
        self.client.network_changed().await;
    }

    /// The same when the app knows on which network the device is: the heartbeat that was learned there goes on.
    pub async fn network_changed_to(&self, network: DeviceNetwork) {
        self.client.network_changed_to(network.into()).await;
    }

    /// The user looks at the app: the connection is checked at once, beats come every minute.
    pub async fn foreground(&self) {
        self.client.foreground().await;
    }

    /// The user no longer looks, which is also how a client begins: beats come as seldom as the network allows.
    pub async fn background(&self) {
        self.client.background().await;
    }

    /// There is reason to think that the connection is dead although it looks alive: it must answer within two seconds.
    pub async fn check_connection(&self) {
        self.client.check_connection().await;
    }

    /// The phone is awake, by its own alarm or for something else: a beat that is due, or nearly, is sent now.
    pub async fn woke(&self) {
        self.client.woke().await;
    }

    /// What is known about the heartbeat now.
    pub fn heartbeat(&self) -> HeartbeatState {
        self.client.heartbeat().borrow().clone().into()
    }

    /// Subscribes; the answer is the granted QoS. Waits for the network if need be.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn subscribe(&self, filter: String, qos: QoS) -> Result<QoS, ClientError> {
        Ok(self.client.subscribe(&filter, qos.into()).await?.into())
    }

    /// Ends a subscription.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn unsubscribe(&self, filter: String) -> Result<(), ClientError> {
        Ok(self.client.unsubscribe(&filter).await?)
    }

    /// Tells device token and attributes; returns when the broker has them.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn register(&self, registration: Registration) -> Result<(), ClientError> {
        Ok(self.client.register(&registration.into()).await?)
    }

    /// Reports that the message was shown.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn shown(&self, id: String) -> Result<(), ClientError> {
        Ok(self.client.shown(message_id(&id)?).await?)
    }

    /// Reports that the user opened the message.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn clicked(&self, id: String) -> Result<(), ClientError> {
        Ok(self.client.clicked(message_id(&id)?).await?)
    }

    /// Reports that the user dismissed the message.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn dismissed(&self, id: String) -> Result<(), ClientError> {
        Ok(self.client.dismissed(message_id(&id)?).await?)
    }

    /// Publishes with QoS 0 or 1 and returns when the broker has it, however many reconnects that takes.
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
        Ok(self.client.publish(&topic, payload, qos.into(), &hints.into()).await?)
    }

    /// Puts a message into the outbox and returns its id when it is on disk: it goes out whenever the network allows, also
    /// after the app was killed.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn post(
        &self,
        topic: String,
        payload: Vec<u8>,
        hints: PushHints,
    ) -> Result<String, ClientError> {
        Ok(self.client.post(&topic, payload, &hints.into()).await?.to_string())
    }

    /// What the outbox holds now.
    pub fn outbox(&self) -> OutboxState {
        (*self.client.outbox().borrow()).into()
    }

    /// A vendor's push brought the message with this id (`mid` in its data): may it be shown? After `Show` the app owes
    /// `handled`, also when it decides against showing.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn vendor_push_received(&self, id: String) -> Result<VendorPush, ClientError> {
        match self.client.vendor_push_received(message_id(&id)?).await? {
            sdk::VendorPush::Show => Ok(VendorPush::Show),
            sdk::VendorPush::Duplicate => Ok(VendorPush::Duplicate),
        }
    }

    /// Says by id that the app is done with a message, however it came.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn handled(&self, id: String) -> Result<(), ClientError> {
        Ok(self.client.handled(message_id(&id)?).await?)
    }

    /// How many messages found no room because the app took them too slowly.
    pub fn dropped(&self) -> u64 {
        self.client.dropped()
    }

    /// Says goodbye and ends the connection; the session and the outbox file stay. At most about two seconds.
    pub async fn close(&self) {
        self.client.close().await;
    }
}
