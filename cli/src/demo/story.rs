//! The story, chapter by chapter. Each chapter ends with what must hold.

use super::child::Reveille;
use super::phone::{Phone, USER};
use super::radio::Radio;
use super::table::{self, count};
use super::{Broken, Narrator, PATIENCE, expect_same, refused, within};
use crate::http::Api;
use reveille_client::{Options, Publisher, PushHints, QoS};
use reveille_fakes::{FakeApns, FakeFcm};
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// The business server's user name and password for MQTT.
const SERVER: (&str, &str) = ("shop-server", "rose");
/// Client identifier, vendor and device token of the two phones.
const PHONES: [[&str; 3]; 2] = [
    ["iphone", "apns", "00fc13adff785122b4ad28809a3420982341241421348097878e577c991de8f0"],
    ["pixel", "fcm", "fcm-token-of-pixel"],
];
/// Ordinary messages that are published while the phones sleep.
const READINGS: usize = 20;
/// A remote observer's pause between two looks.
const PAUSE: Duration = Duration::from_millis(50);

/// Everything that takes part.
struct Stage {
    narrator: Narrator,
    directory: TempDir,
    log: String,
    apns: FakeApns,
    fcm: FakeFcm,
    radio: Radio,
    phones: Vec<Phone>,
    /// Title and id of every message that can become a push, in the order of sending.
    sent: Vec<(String, String)>,
}

/// Tells it from beginning to end.
pub async fn tell(log: &str) -> Result<(), Broken> {
    let (mut stage, reveille, api) = prepare(log).await?;
    awake(&mut stage, &reveille, &api).await?;
    asleep(&mut stage, &reveille, &api).await?;
    let (reveille, api) = killed(&mut stage, reveille, &api).await?;
    still_asleep(&mut stage, &reveille, &api).await?;
    back(&mut stage, &reveille, &api).await?;
    end(stage, reveille, &api).await
}

async fn prepare(log: &str) -> Result<(Stage, Reveille, Api), Broken> {
    let narrator = Narrator(Instant::now());
    narrator.chapter("1. Everything starts");
    let directory = tempfile::tempdir().map_err(refused("make a temporary directory"))?;
    write_config(&directory)?;
    let apns = FakeApns::start().await.map_err(refused("start the fake APNs"))?;
    let fcm = FakeFcm::start_tls().await.map_err(refused("start the fake FCM"))?;
    narrator.done(&format!("fake APNs (HTTP/2) on {}, fake FCM on {}", apns.endpoint(), fcm.endpoint()));
    let reveille = Reveille::start(directory.path(), log).await?;
    let id = reveille.id().unwrap_or_default();
    narrator.done(&format!(
        "reveille is process {id}, MQTT on {}, HTTP on {}",
        reveille.mqtt()?,
        reveille.url()?
    ));
    let api = make_app(&reveille, &apns, &fcm).await?;
    narrator.done("app `shop` with a key and credentials for APNs and FCM made over HTTP");
    let radio = Radio::start().await?;
    let (phones, sent) = (Vec::new(), Vec::new());
    let stage = Stage { narrator, directory, log: log.to_owned(), apns, fcm, radio, phones, sent };
    Ok((stage, reveille, api))
}

fn write_config(directory: &TempDir) -> Result<(), Broken> {
    let user = |(name, password)| {
        format!("[[broker.users]]\nname = \"{name}\"\npassword = \"{password}\"\napp = \"shop\"\n")
    };
    let text = format!("{}{}", user(USER), user(SERVER));
    std::fs::write(directory.path().join("reveille.toml"), text)
        .map_err(refused("write a configuration file"))
}

async fn make_app(reveille: &Reveille, apns: &FakeApns, fcm: &FakeFcm) -> Result<Api, Broken> {
    let operator = Api::new(&reveille.url()?, reveille.admin_key()?);
    operator.post("/v1/apps", &json!({"id": "shop"})).await?;
    let key = operator.post("/v1/apps/shop/keys", &json!({"scopes": ["admin"], "name": "demo"})).await?;
    let api = operator.with_key(text(&key, "key"));
    for (vendor, credential) in [("apns", apns.credential()), ("fcm", fcm.credential())] {
        api.put(&format!("/v1/apps/shop/credentials/{vendor}"), &credential).await?;
    }
    Ok(api)
}

async fn awake(stage: &mut Stage, reveille: &Reveille, api: &Api) -> Result<(), Broken> {
    stage.narrator.chapter("2. Two phones are awake");
    stage.radio.on(reveille.mqtt()?);
    for phone in PHONES {
        let phone = Phone::connect(phone, stage.radio.address(), stage.directory.path()).await?;
        let path = format!("/v1/apps/shop/devices/{}", phone.name);
        wait_until("the bridge to know a token", api, &path, |device| has_token(device, phone.vendor))
            .await?;
        stage
            .narrator
            .done(&format!("{} connected, and registered its token at {}", phone.name, phone.vendor));
        stage.phones.push(phone);
    }
    let title = "欢迎 Welcome";
    stage.send(api, title, &json!({})).await?;
    for phone in &mut stage.phones {
        expect_same("the title on the screen", &phone.show_next().await?, &title.to_owned())?;
        phone.report_shown().await?;
        stage.narrator.done(&format!("{} shows {title:?}, sent by HTTP, come by socket", phone.name));
    }
    stage.wait_funnel(api, 0, |funnel| count(funnel, "acked") == 2 && count(funnel, "shown") == 2).await?;
    expect_same("pushes so far", &(stage.apns.calls().len(), stage.fcm.calls().len()), &(0, 0))?;
    stage.narrator.done("both acknowledged; no vendor was called");
    Ok(())
}

async fn asleep(stage: &mut Stage, reveille: &Reveille, api: &Api) -> Result<(), Broken> {
    stage.narrator.chapter("3. The phones vanish, without DISCONNECT");
    stage.radio.off();
    for phone in &stage.phones {
        phone.wait_offline().await?;
        let path = format!("/v1/apps/shop/devices/{}/presence", phone.name);
        let is_away = |presence: &Value| presence.get("online") == Some(&Value::Bool(false));
        wait_until("a device to count as offline", api, &path, is_away).await?;
    }
    stage.narrator.done("the bridge knows that both are offline");
    stage.send(api, "订单 Order 42 shipped", &json!({})).await?;
    stage.expect_pushes(1).await?;
    stage.narrator.done("a message sent by HTTP went to APNs for iphone and to FCM for pixel");
    let title = "泵7 Pressure 9.1 bar";
    let hints =
        PushHints { title: Some(title.to_owned()), body: Some("Check it".to_owned()), ..Default::default() };
    publish(reveille.mqtt()?, &[("设备/泵7".to_owned(), "9.1".to_owned())], &hints).await?;
    stage.expect_pushes(2).await?;
    let id = stage.apns.calls().last().and_then(|call| call.mid().map(str::to_owned)).unwrap_or_default();
    stage.sent.push((title.to_owned(), id));
    stage.narrator.done("a message published by MQTT on 设备/泵7 with user properties push-* went there too");
    Ok(())
}

async fn killed(stage: &mut Stage, reveille: Reveille, api: &Api) -> Result<(Reveille, Api), Broken> {
    stage.narrator.chapter("4. SIGKILL");
    let id = reveille.id().unwrap_or_default();
    // The answer is 202: the message is on disk. Nobody can have pushed it yet for certain.
    stage.send(api, "最后 Just before the kill", &json!({})).await?;
    reveille.kill().await?;
    stage.narrator.done(&format!("process {id} is dead, right after it had accepted another message"));
    let reveille = Reveille::start(stage.directory.path(), &stage.log).await?;
    let api = api.at(&reveille.url()?);
    stage.narrator.done(&format!("process {} serves the same data", reveille.id().unwrap_or_default()));
    stage.expect_pushes(3).await?;
    stage.narrator.done("the message accepted before the kill reached both vendors, under one message id");
    Ok((reveille, api))
}

async fn still_asleep(stage: &mut Stage, reveille: &Reveille, api: &Api) -> Result<(), Broken> {
    stage.narrator.chapter("5. The phones still sleep");
    stage.send(api, "优惠 Sale begins", &json!({})).await?;
    stage.expect_pushes(4).await?;
    stage.narrator.done("a message sent after the restart went to both vendors");
    let readings: Vec<_> = (0..READINGS).map(|n| ("设备/读数".to_owned(), reading(n))).collect();
    publish(reveille.mqtt()?, &readings, &PushHints::default()).await?;
    stage.narrator.done(&format!("{READINGS} ordinary messages on 设备/读数 wait in each phone's queue"));
    stage.send(api, "静默 Only by socket", &json!({"strategy": "online_only"})).await?;
    stage.narrator.done("a message with strategy online_only waits behind them");
    for phone in &mut stage.phones {
        let mids = match phone.vendor {
            "apns" => unique(stage.apns.calls().iter().filter_map(|call| call.mid().map(str::to_owned))),
            _ => unique(stage.fcm.calls().iter().filter_map(|call| call.mid().map(str::to_owned))),
        };
        for mid in &mids {
            let title = stage.sent.iter().find(|(_, id)| id == mid).map_or("?", |(title, _)| title.as_str());
            phone.system_shows(title, mid).await?;
        }
        stage.narrator.done(&format!(
            "{}'s system shows {} alerts that {} brought",
            phone.name,
            mids.len(),
            phone.vendor
        ));
    }
    Ok(())
}

async fn back(stage: &mut Stage, reveille: &Reveille, api: &Api) -> Result<(), Broken> {
    stage.narrator.chapter("6. The phones return");
    stage.radio.on(reveille.mqtt()?);
    for phone in &mut stage.phones {
        phone.come_back().await?;
        for n in 0..READINGS {
            expect_same("the next message in the queue", &phone.show_next().await?, &reading(n))?;
        }
        expect_same(
            "the last message in the queue",
            &phone.show_next().await?,
            &"静默 Only by socket".to_owned(),
        )?;
        phone.report_shown().await?;
        stage.narrator.done(&format!("{} drained its queue in order", phone.name));
    }
    for at in 0..stage.sent.len() {
        let is_whole = |funnel: &Value| count(funnel, "acked") == 2 && count(funnel, "shown") == 2;
        stage.wait_funnel(api, at, is_whole).await?;
    }
    for phone in &mut stage.phones {
        phone.expect_nothing_more().await?;
        let wanted = stage.sent.len() + READINGS;
        expect_same("what a screen showed", &phone.screen().len(), &wanted)?;
        expect_same("different things on a screen", &unique(phone.screen().iter().cloned()).len(), &wanted)?;
        stage.narrator.done(&format!("{} showed {wanted} things, none of them twice", phone.name));
    }
    Ok(())
}

async fn end(stage: Stage, reveille: Reveille, api: &Api) -> Result<(), Broken> {
    stage.narrator.chapter("7. What became of each message");
    let mut rows = Vec::new();
    for at in 0..stage.sent.len() {
        let funnel = stage.wait_funnel(api, at, |_| true).await?;
        expect_same(
            "the parts of a funnel make the whole",
            &table::parts(&funnel),
            &count(&funnel, "targeted"),
        )?;
        rows.extend(stage.sent.get(at).map(|(title, _)| (title.clone(), funnel)));
    }
    table::print(&rows);
    for phone in stage.phones {
        phone.close().await;
    }
    expect_same("the exit code after SIGTERM", &reveille.terminate().await?, &Some(0))?;
    stage.narrator.done("SIGTERM: reveille stopped with 0; nothing lost, nothing shown twice");
    stage.directory.close().map_err(refused("remove the temporary directory"))
}

impl Stage {
    /// Sends an alert to both phones over HTTP.
    async fn send(&mut self, api: &Api, title: &str, delivery: &Value) -> Result<(), Broken> {
        let devices: Vec<_> = PHONES.iter().map(|[name, ..]| *name).collect();
        let body = json!({
            "audience": {"devices": devices},
            "notification": {"title": title, "body": "the demo"},
            "delivery": delivery,
        });
        let answer = api.post("/v1/apps/shop/messages", &body).await?;
        self.sent.push((title.to_owned(), text(&answer, "id").to_owned()));
        Ok(())
    }

    /// Waits until each vendor was called for so many different messages; one that was called twice for one message
    /// collapses both into one alert, and that can only happen to the message under way during the kill.
    async fn expect_pushes(&self, wanted: usize) -> Result<(), Broken> {
        let end = Instant::now() + PATIENCE;
        loop {
            let apns = unique(self.apns.calls().iter().filter_map(|call| call.mid().map(str::to_owned)));
            let fcm = unique(self.fcm.calls().iter().filter_map(|call| call.mid().map(str::to_owned)));
            if apns.len() >= wanted && fcm.len() >= wanted || Instant::now() > end {
                expect_same("messages pushed by APNs and FCM", &(apns.len(), fcm.len()), &(wanted, wanted))?;
                let [[_, _, iphone], [_, _, pixel]] = PHONES;
                let is_right = self.apns.calls().iter().all(|call| call.token == iphone)
                    && self.fcm.calls().iter().all(|call| call.token == pixel);
                return expect_same("pushes go to the right tokens", &is_right, &true);
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// Waits until a message's funnel is as wanted.
    async fn wait_funnel(
        &self,
        api: &Api,
        at: usize,
        is_wanted: impl Fn(&Value) -> bool,
    ) -> Result<Value, Broken> {
        let (title, id) = self.sent.get(at).ok_or_else(|| refused("find a message")("it was never sent"))?;
        let funnel = |message: &Value| message.get("funnel").cloned().unwrap_or_default();
        let path = format!("/v1/apps/shop/messages/{id}");
        let what = format!("the funnel of {title:?}");
        let message = wait_until(&what, api, &path, |message| is_wanted(&funnel(message))).await?;
        Ok(funnel(&message))
    }
}

async fn wait_until(
    what: &str,
    api: &Api,
    path: &str,
    is_wanted: impl Fn(&Value) -> bool,
) -> Result<Value, Broken> {
    let end = Instant::now() + PATIENCE;
    loop {
        // Whoever is not known yet is a 404 until it is.
        let found = match api.get(path).await {
            Ok(found) if is_wanted(&found) => return Ok(found),
            Ok(found) => found.to_string(),
            Err(error) => error.to_string(),
        };
        if Instant::now() > end {
            return Err(Broken::Late { what: format!("{what}, the last answer was {found}") });
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// Publishes with QoS 1 as the business server; returns when the broker has all of it on disk.
async fn publish(broker: SocketAddr, messages: &[(String, String)], hints: &PushHints) -> Result<(), Broken> {
    let options =
        Options::new("shop-server", broker.ip().to_string(), broker.port()).credentials(SERVER.0, SERVER.1);
    let publisher = Publisher::connect(options).map_err(refused("connect as a publisher"))?;
    for (topic, payload) in messages {
        let published = publisher.publish(topic, payload.clone(), QoS::AtLeastOnce, hints);
        within("an acknowledgement", published).await?.map_err(refused("publish"))?;
    }
    publisher.close().await;
    Ok(())
}

fn reading(n: usize) -> String {
    format!("读数 {n}")
}

fn has_token(device: &Value, vendor: &str) -> bool {
    device.get("tokens").is_some_and(|tokens| tokens.to_string().contains(&format!("\"{vendor}\"")))
}

fn text<'a>(value: &'a Value, name: &str) -> &'a str {
    value.get(name).and_then(Value::as_str).unwrap_or_default()
}

/// In the order of their first occurrence.
fn unique(texts: impl Iterator<Item = String>) -> Vec<String> {
    let mut all: Vec<String> = Vec::new();
    for text in texts {
        if !all.contains(&text) {
            all.push(text);
        }
    }
    all
}
