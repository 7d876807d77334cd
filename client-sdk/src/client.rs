//! A device: receives, registers, reports. Cheap to use from many tasks behind an `Arc`.

use crate::driver::{Body, Control, Driver, Ends, Request};
use crate::heartbeat::{HeartbeatState, Network};
use crate::inbox::{Acceptance, Inbox, UnixMillis};
use crate::message::Messages;
use crate::network::NetworkState;
use crate::options::{ConnectError, Options};
use crate::outbox::Kind;
use crate::payload::{EVENT_TOPIC, EventKind, REGISTER_TOPIC, Registration, event_json};
use crate::post_file::PostFile;
use crate::poster::{OutboxState, PostError, Poster};
use crate::publisher::{PublishError, PushHints, packet};
use crate::recorder::Recorder;
use crate::seen_file::SeenFile;
use crate::user_inbox::{Desk, UserInbox};
use bytes::Bytes;
use reveille_proto::ids::MessageId;
use reveille_proto::reason::ReasonCode;
use reveille_proto::topic::{Subscription, TopicError};
use rumqttc::v5::mqttbytes::QoS;
use rumqttc::v5::mqttbytes::v5::Publish;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use tokio::runtime;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;

/// How many calls may wait for the driver, beside publishes.
const CONTROL_MAX: usize = 64;
/// How many publishes may be handed to the driver and not be queued yet.
const REQUESTS_MAX: usize = 16;

/// The client was closed, or its runtime ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the client is closed")]
pub struct ClosedError;

/// Why a message is not marked as handled. It is not acknowledged then, and comes again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HandledError {
    /// The id could not be written to the inbox file.
    #[error("the message id could not be written to the inbox file: {0}")]
    NotRecorded(io::ErrorKind),
    /// The client was closed before.
    #[error("the client is closed")]
    Closed,
}

/// Why a subscription did not come or go.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SubscribeError {
    /// The text is no topic filter.
    #[error(transparent)]
    Filter(#[from] TopicError),
    /// The broker's reason.
    #[error("refused by the broker: {0}")]
    Refused(ReasonCode),
    /// The client was closed before the broker answered.
    #[error("the client is closed")]
    Closed,
}

/// What to do with a message that a vendor's push service brought.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VendorPush {
    /// New: show it, unless the system did, then call [`Client::handled`].
    Show,
    /// The app has or had it already.
    Duplicate,
}

/// A device with its persistent session.
///
/// Dropping it cuts the connection without DISCONNECT; [`Client::close`] says goodbye.
#[derive(Debug)]
pub struct Client {
    handle: Handle,
}

impl Client {
    /// Begins to connect, and returns at once with the client and its messages.
    ///
    /// # Errors
    /// [`ConnectError`] when the options are off bounds, the inbox file cannot be used or there is no tokio runtime.
    /// Network trouble is none: look at [`Client::network`].
    pub fn connect(options: Options) -> Result<(Self, Messages), ConnectError> {
        // QoS 1 and 2 have room of their own beside `incoming_max` for QoS 0.
        let (sender, receiver) = mpsc::channel(options.incoming_max + usize::from(options.receive_maximum));
        let handle = Handle::start(options, Some(sender))?;
        Ok((Self { handle }, Messages::new(receiver)))
    }

    /// Where the connection stands, now and from now on.
    pub fn network(&self) -> watch::Receiver<NetworkState> {
        self.handle.network.clone()
    }

    /// Waits until messages flow.
    ///
    /// # Errors
    /// [`ClosedError`] when the client is closed before.
    pub async fn online(&self) -> Result<(), ClosedError> {
        self.handle.online().await
    }

    /// The operating system reports another network, of which nothing is known; as [`Client::network_changed_to`].
    pub async fn network_changed(&self) {
        self.network_changed_to(Network::default()).await;
    }

    /// The operating system reports this network: the old connection is given up and a new one is tried at once, with the
    /// heartbeat that was learned there.
    pub async fn network_changed_to(&self, network: Network) {
        self.control(Control::NetworkChanged(network)).await;
    }

    /// The user looks at the app: the connection is checked at once, beats come every minute, and a dead connection is
    /// found within seconds. Without [`Options::learned_heartbeat`] nothing changes.
    pub async fn foreground(&self) {
        self.control(Control::Foreground(true)).await;
    }

    /// The user no longer looks, which is also how a client begins: beats come as seldom as the network allows.
    pub async fn background(&self) {
        self.control(Control::Foreground(false)).await;
    }

    /// There is reason to think that the connection is dead although it looks alive, for instance a vendor's push without
    /// an id: it must answer within two seconds, else a new one is made. Without [`Options::learned_heartbeat`] nothing happens.
    pub async fn check_connection(&self) {
        self.control(Control::Check).await;
    }

    /// The phone is awake, by its own alarm or for something else: a beat that is due, or nearly, is sent now.
    ///
    /// Timers stand still while a phone sleeps. So an app in the background sets an alarm within
    /// [`HeartbeatState::wake`] and calls this when it rings.
    pub async fn woke(&self) {
        self.control(Control::Woke).await;
    }

    /// What is known about the heartbeat, now and from now on.
    pub fn heartbeat(&self) -> watch::Receiver<HeartbeatState> {
        self.handle.heartbeat.clone()
    }

    async fn control(&self, control: Control) {
        let _ = self.handle.control.send(control).await; // a closed client has nothing left to steer
    }

    /// Subscribes; the answer is the granted QoS. Waits for the network if need be.
    ///
    /// Messages sent to this device (`$push/message`) come without any subscription.
    ///
    /// # Errors
    /// [`SubscribeError`] with the broker's reason, or when the client is closed meanwhile.
    pub async fn subscribe(&self, filter: &str, qos: QoS) -> Result<QoS, SubscribeError> {
        Subscription::parse(filter)?;
        let (waiter, answer) = oneshot::channel();
        let body = Body::Subscribe { filters: vec![(filter.to_owned(), qos)], waiter: Some(waiter) };
        let request = Request { kind: Kind::Question, body };
        self.handle.requests.send(request).await.map_err(|_| SubscribeError::Closed)?;
        answer.await.unwrap_or(Err(SubscribeError::Closed))
    }

    /// Ends a subscription.
    ///
    /// # Errors
    /// As [`Client::subscribe`].
    pub async fn unsubscribe(&self, filter: &str) -> Result<(), SubscribeError> {
        Subscription::parse(filter)?;
        let (waiter, answer) = oneshot::channel();
        let body = Body::Unsubscribe { filter: filter.to_owned(), waiter };
        let request = Request { kind: Kind::Question, body };
        self.handle.requests.send(request).await.map_err(|_| SubscribeError::Closed)?;
        answer.await.unwrap_or(Err(SubscribeError::Closed))
    }

    /// Tells device token and attributes; returns when the broker has acknowledged, however many reconnects that took.
    ///
    /// When the broker later loses the session, the last registration is sent again.
    ///
    /// # Errors
    /// [`PublishError`] with the broker's reason, or when the client is closed meanwhile.
    pub async fn register(&self, registration: &Registration) -> Result<(), PublishError> {
        self.say(REGISTER_TOPIC, registration.to_json()).await
    }

    /// Reports that the message was shown.
    ///
    /// # Errors
    /// As [`Client::register`].
    pub async fn shown(&self, id: MessageId) -> Result<(), PublishError> {
        self.report(id, EventKind::Shown).await
    }

    /// Reports that the user opened the message.
    ///
    /// # Errors
    /// As [`Client::register`].
    pub async fn clicked(&self, id: MessageId) -> Result<(), PublishError> {
        self.report(id, EventKind::Clicked).await
    }

    /// Reports that the user dismissed the message.
    ///
    /// # Errors
    /// As [`Client::register`].
    pub async fn dismissed(&self, id: MessageId) -> Result<(), PublishError> {
        self.report(id, EventKind::Dismissed).await
    }

    /// Publishes with QoS 0 or 1, as [`crate::Publisher::publish`] does.
    ///
    /// # Errors
    /// [`PublishError`]; QoS 2 is refused, see [`PublishError::ExactlyOnceNeedsPublisher`].
    pub async fn publish(
        &self,
        topic: &str,
        payload: impl Into<Bytes>,
        qos: QoS,
        hints: &PushHints,
    ) -> Result<(), PublishError> {
        if qos == QoS::ExactlyOnce {
            return Err(PublishError::ExactlyOnceNeedsPublisher);
        }
        self.handle.publish(packet(topic, payload.into(), qos, hints)?).await
    }

    /// Puts a message into the outbox and returns when it is on disk: it goes out with QoS 1 whenever the network allows,
    /// in the order of posting, also after the app was killed and started again with the same
    /// [`Options::outbox_file`].
    ///
    /// It carries the returned id as `push-id`, so that a receiver with this library drops a repetition. A repetition
    /// happens when the app dies between the broker's acknowledgement and the note of it.
    ///
    /// # Errors
    /// [`PostError`] when it is not in the outbox. What becomes of it later shows in [`Client::outbox`].
    pub async fn post(
        &self,
        topic: &str,
        payload: impl Into<Bytes>,
        hints: &PushHints,
    ) -> Result<MessageId, PostError> {
        self.handle.poster.post(topic, payload.into(), hints).await
    }

    /// What the outbox holds, now and from now on.
    pub fn outbox(&self) -> watch::Receiver<OutboxState> {
        self.handle.poster.state.clone()
    }

    /// The inbox of the device's user: what the business keeps for reading.
    pub fn inbox(&self) -> UserInbox {
        if self.handle.desk.begin() {
            let _ = self.handle.control.try_send(Control::InboxUsed); // else the next connection asks
        }
        UserInbox::new(self.handle.requests.clone(), self.handle.desk.clone())
    }

    /// A vendor's push brought the message with this id (`mid` in its data): may it be shown?
    ///
    /// The connection is checked, since it should have brought the message itself, as [`Client::check_connection`] does.
    ///
    /// After `Show` the app owes [`Client::handled`], also when it decides against showing: until then the socket's
    /// copy of the message stays unacknowledged.
    ///
    /// # Errors
    /// [`ClosedError`] when the client is closed.
    pub async fn vendor_push_received(&self, id: MessageId) -> Result<VendorPush, ClosedError> {
        let (reply, answer) = oneshot::channel();
        self.handle.control.send(Control::VendorPush { id, reply }).await.map_err(|_| ClosedError)?;
        match answer.await.map_err(|_| ClosedError)? {
            Acceptance::Show => Ok(VendorPush::Show),
            Acceptance::WithApp(_) | Acceptance::Duplicate => Ok(VendorPush::Duplicate),
        }
    }

    /// Says by id that the app is done with a message, however it came; as [`crate::Message::handled`].
    ///
    /// # Errors
    /// [`HandledError`] when the id could not be written or the client is closed.
    pub async fn handled(&self, id: MessageId) -> Result<(), HandledError> {
        let (reply, answer) = oneshot::channel();
        let control = Control::Handled { id: Some(id), key: None, reply };
        self.handle.control.send(control).await.map_err(|_| HandledError::Closed)?;
        answer.await.unwrap_or(Err(HandledError::Closed))
    }

    /// How many messages found no room because the app took them too slowly: QoS 0 ones are lost, the others come
    /// again on the next connection.
    pub fn dropped(&self) -> u64 {
        self.handle.dropped.load(Ordering::Relaxed)
    }

    /// Says goodbye and ends the task: handled messages are acknowledged, the session stays, no will is sent.
    ///
    /// What waits for an acknowledgement ends with an error. Returns at the latest after about two seconds, or at once when
    /// closed before.
    pub async fn close(&self) {
        self.handle.close().await;
    }

    async fn report(&self, id: MessageId, event: EventKind) -> Result<(), PublishError> {
        self.say(EVENT_TOPIC, event_json(id, event, UnixMillis::now())).await
    }

    async fn say(&self, topic: &str, json: Vec<u8>) -> Result<(), PublishError> {
        self.handle.publish(Publish::new(topic, QoS::AtLeastOnce, json, None)).await
    }
}

/// The app's ends of the channels to a driver, and the driver's task. Dropping it ends the task.
#[derive(Debug)]
pub(crate) struct Handle {
    requests: mpsc::Sender<Request>,
    control: mpsc::Sender<Control>,
    network: watch::Receiver<NetworkState>,
    heartbeat: watch::Receiver<HeartbeatState>,
    dropped: Arc<AtomicU64>,
    desk: Arc<Desk>,
    pub poster: Poster,
    /// The driver and the poster; taken by `close`, and held for that instant only.
    tasks: Mutex<Option<(Task, Task)>>,
}

/// A task that does not outlive its owner.
#[derive(Debug)]
struct Task(JoinHandle<()>);

impl Drop for Task {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Handle {
    pub fn start(
        options: Options,
        messages: Option<mpsc::Sender<crate::message::Message>>,
    ) -> Result<Self, ConnectError> {
        options.check()?;
        let runtime = runtime::Handle::try_current().map_err(|_| ConnectError::NoRuntime)?;
        let (inbox, recorder) = open_inbox(&options)?;
        let post_file = options.outbox_file.as_deref().map(PostFile::open).transpose();
        let post_file = post_file.map_err(ConnectError::Outbox)?;
        let (outbox_limits, refused_pause) = (options.outbox_limits, options.backoff.cap);
        let (requests, requests_end) = mpsc::channel(REQUESTS_MAX);
        let (control, control_end) = mpsc::channel(CONTROL_MAX);
        // Messages in the channel, and those of two sessions in the app's hands.
        let endings_max = options.incoming_max + 3 * usize::from(options.receive_maximum);
        let (endings_sender, endings) = mpsc::channel(endings_max);
        let (network_end, network) = watch::channel(NetworkState::Connecting);
        let (heartbeat_end, heartbeat) = watch::channel(HeartbeatState::default());
        let dropped = Arc::new(AtomicU64::new(0));
        let desk = Arc::new(Desk::default());
        let ends = Ends {
            requests: requests_end,
            control: control_end,
            endings,
            endings_sender,
            messages,
            network: network_end,
            heartbeat: heartbeat_end,
            dropped: dropped.clone(),
            desk: desk.clone(),
        };
        let (driver, event_loop) = Driver::new(options, ends, inbox, recorder);
        let (poster, posting) =
            Poster::new(post_file, outbox_limits, refused_pause, requests.clone(), network.clone());
        let tasks = (Task(runtime.spawn(driver.run(event_loop))), Task(runtime.spawn(posting)));
        Ok(Self {
            requests,
            control,
            network,
            heartbeat,
            dropped,
            desk,
            poster,
            tasks: Mutex::new(Some(tasks)),
        })
    }

    pub fn network(&self) -> watch::Receiver<NetworkState> {
        self.network.clone()
    }

    pub async fn online(&self) -> Result<(), ClosedError> {
        let mut network = self.network.clone();
        let reached = network.wait_for(|state| state.is_online() || *state == NetworkState::Closed).await;
        reached.is_ok_and(|state| state.is_online()).then_some(()).ok_or(ClosedError)
    }

    pub async fn publish(&self, publish: Publish) -> Result<(), PublishError> {
        let (waiter, answer) = oneshot::channel();
        let kind = crate::driver::kind_of(publish.qos);
        let request = Request { kind, body: Body::Publish { publish, waiter: Some(waiter) } };
        self.requests.send(request).await.map_err(|_| PublishError::Closed)?;
        answer.await.unwrap_or(Err(PublishError::Closed))
    }

    pub async fn close(&self) {
        let tasks = self.tasks.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some((mut driver, mut poster)) = tasks else {
            return;
        };
        if self.control.send(Control::Close).await.is_ok() {
            // A panic in a task is reported by the runtime.
            let _ = (&mut driver.0).await;
            let _ = (&mut poster.0).await; // it ends with the driver, after what it is writing
        }
    }
}

fn open_inbox(options: &Options) -> Result<(Inbox, Recorder), ConnectError> {
    let mut inbox = Inbox::new(options.inbox_limits);
    let Some(path) = &options.inbox_file else {
        return Ok((inbox, Recorder::new(None)));
    };
    let (file, records) = SeenFile::open(path).map_err(ConnectError::Inbox)?;
    records.into_iter().for_each(|(id, at)| inbox.handled(id, at));
    Ok((inbox, Recorder::new(Some(file))))
}
