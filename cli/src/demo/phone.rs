//! A phone: our library for the socket, a screen for what the user sees, and a system that shows vendor pushes.

use super::{Broken, expect_same, refused, within};
use reveille_client::{Client, MessageId, Messages, NetworkState, Options, QoS, Registration, VendorPush};
use std::net::SocketAddr;
use std::path::Path;

/// User name and password of the phones.
pub const USER: (&str, &str) = ("shop-phones", "tulip");

/// A device with the app on it.
#[derive(Debug)]
pub struct Phone {
    /// Its client identifier.
    pub name: &'static str,
    /// The vendor that can wake it.
    pub vendor: &'static str,
    client: Client,
    messages: Messages,
    /// What the user saw, in order.
    screen: Vec<String>,
    /// Ids of push messages that the user saw and the business has not been told of yet.
    unreported: Vec<MessageId>,
}

impl Phone {
    /// Connects through the radio, subscribes, and registers its vendor token.
    pub async fn connect(
        [name, vendor, token]: [&'static str; 3],
        radio: SocketAddr,
        directory: &Path,
    ) -> Result<Self, Broken> {
        let options = Options::new(name, radio.ip().to_string(), radio.port())
            .credentials(USER.0, USER.1)
            .inbox_file(directory.join(format!("{name}.seen")));
        let (client, messages) = Client::connect(options).map_err(refused("start a device"))?;
        let phone = Self { name, vendor, client, messages, screen: Vec::new(), unreported: Vec::new() };
        let registration = Registration::new().token(vendor, token).language("zh-CN");
        within("a device's registration", phone.client.register(&registration))
            .await?
            .map_err(refused("register a vendor token"))?;
        within("a subscription", phone.client.subscribe("设备/#", QoS::AtLeastOnce))
            .await?
            .map_err(refused("subscribe"))?;
        Ok(phone)
    }

    /// Takes the next message from the socket and shows it.
    pub async fn show_next(&mut self) -> Result<String, Broken> {
        let message = within("a message by socket", self.messages.recv()).await?;
        let message = message.ok_or_else(|| refused("receive")("the client is closed"))?;
        let seen = match message.title() {
            Some(title) => title.to_owned(),
            None => String::from_utf8_lossy(message.payload()).into_owned(),
        };
        self.unreported.extend(message.id());
        message.handled().await.map_err(refused("acknowledge a message"))?;
        self.screen.push(seen.clone());
        Ok(seen)
    }

    /// The system shows an alert that the vendor brought, and gives its data to the app.
    pub async fn system_shows(&mut self, title: &str, mid: &str) -> Result<(), Broken> {
        let id = MessageId::parse(mid).map_err(refused("read the message id in a push"))?;
        let answer = within("the inbox", self.client.vendor_push_received(id)).await?;
        expect_same("a push is new to the inbox", &answer.ok(), &Some(VendorPush::Show))?;
        within("the inbox", self.client.handled(id)).await?.map_err(refused("write to the inbox"))?;
        self.screen.push(title.to_owned());
        self.unreported.push(id);
        Ok(())
    }

    /// Tells the business what the user saw.
    pub async fn report_shown(&mut self) -> Result<(), Broken> {
        for id in std::mem::take(&mut self.unreported) {
            within("a report", self.client.shown(id))
                .await?
                .map_err(refused("report that an alert was shown"))?;
        }
        Ok(())
    }

    /// Waits until the library has noticed that the network is gone.
    pub async fn wait_offline(&self) -> Result<(), Broken> {
        let mut network = self.client.network();
        let offline = network.wait_for(|state| !state.is_online() && *state != NetworkState::Closed);
        within("the loss of the network", offline).await?.map(drop).map_err(refused("watch the network"))
    }

    /// The operating system says that there is a network again.
    pub async fn come_back(&self) -> Result<(), Broken> {
        self.client.network_changed().await;
        within("a device's return", self.client.online()).await?.map_err(refused("connect again"))
    }

    /// Asserts that nothing more wants to be shown.
    pub async fn expect_nothing_more(&mut self) -> Result<(), Broken> {
        tokio::select! {
            biased;
            more = self.messages.recv() => {
                let found = more.map(|message| format!("{message:?}")).unwrap_or_default();
                let what = format!("{} shows nothing twice", self.name);
                Err(Broken::Promise { what, wanted: "no further message".to_owned(), found })
            }
            () = tokio::task::yield_now() => Ok(()),
        }
    }

    /// What the user saw.
    pub fn screen(&self) -> &[String] {
        &self.screen
    }

    /// Says goodbye.
    pub async fn close(self) {
        self.client.close().await;
    }
}
