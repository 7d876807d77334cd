//! gorush, `POST /api/push`: <https://github.com/appleboy/gorush>. It addresses device tokens, not devices.

use serde::Deserialize;
use serde_json::{Map, Value, json};
use utoipa::ToSchema;

use super::{Refused, put, put_some, said};
use crate::vendor::{Environment, VendorName};

/// Fields that steer gorush's own work, or an account that it is given with each call: the app's credentials are used.
pub const WITHOUT_EFFECT: &[(&str, &[&str])] =
    &[("notifications.*", &["apns_id", "app_id", "app_secret", "bi_tag", "retry"])];

/// The body.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = GorushPush)]
pub struct Push {
    /// Each becomes a message.
    #[schema(value_type = Vec<Notification>)]
    pub notifications: Vec<Value>,
}

/// One message for some device tokens of one platform.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = GorushNotification)]
pub struct Notification {
    #[serde(default)]
    tokens: Vec<String>,
    /// One more token.
    to: Option<String>,
    /// 1: iOS, 2: Android, 3: Huawei.
    platform: u8,
    notif_id: Option<String>,
    message: Option<String>,
    title: Option<String>,
    image: Option<String>,
    priority: Option<String>,
    #[serde(default)]
    content_available: bool,
    #[serde(default)]
    mutable_content: bool,
    /// A file's name, or Apple's dictionary.
    #[schema(value_type = Option<Object>)]
    sound: Option<Value>,
    #[serde(default)]
    #[schema(value_type = Object)]
    data: Map<String, Value>,
    /// On iOS the bundle id of the tokens.
    topic: Option<String>,
    collapse_key: Option<String>,
    collapse_id: Option<String>,
    /// Seconds.
    time_to_live: Option<u64>,
    #[serde(default)]
    dry_run: bool,
    #[schema(value_type = Option<Object>)]
    notification: Option<Map<String, Value>>,
    #[schema(value_type = Option<Object>)]
    android: Option<Value>,
    #[schema(value_type = Option<Object>)]
    webpush: Option<Value>,
    #[schema(value_type = Option<Object>)]
    apns: Option<Value>,
    #[schema(value_type = Option<Object>)]
    fcm_options: Option<Value>,
    #[schema(value_type = Option<Object>)]
    huawei_notification: Option<Value>,
    huawei_collapse_key: Option<i64>,
    /// Such as `86400s`.
    huawei_ttl: Option<String>,
    fast_app_target: Option<u8>,
    /// Seconds since 1970.
    expiration: Option<u64>,
    push_type: Option<String>,
    badge: Option<u32>,
    category: Option<String>,
    #[serde(rename = "thread-id", alias = "thread_id")]
    thread_id: Option<String>,
    #[serde(rename = "url-args", default)]
    url_args: Vec<String>,
    #[serde(default)]
    #[schema(value_type = Object)]
    alert: Map<String, Value>,
    #[serde(default)]
    production: bool,
    #[serde(default)]
    development: bool,
    name: Option<String>,
    volume: Option<f32>,
    interruption_level: Option<String>,
}

/// What a token needs that no device has yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Home {
    /// Whose token it is.
    pub vendor: VendorName,
    /// What devices say of themselves.
    pub platform: &'static str,
    /// Apple's.
    pub environment: Option<Environment>,
    /// Apple's.
    pub bundle_id: Option<String>,
}

impl Notification {
    /// The device tokens that it names, with doubles.
    pub fn tokens(&self) -> Vec<String> {
        self.tokens.iter().chain(&self.to).filter(|token| !token.is_empty()).cloned().collect()
    }

    /// Its text, as gorush repeats it in its log.
    pub fn text(&self) -> &str {
        self.message.as_deref().unwrap_or_default()
    }

    /// Where its tokens are at home.
    ///
    /// # Errors
    /// [`Refused`] for a platform that gorush has not, or a topic, which has no tokens.
    pub fn home(&self) -> Result<Home, Refused> {
        let (vendor, platform) = match self.platform {
            1 => (VendorName::Apns, "ios"),
            2 => (VendorName::Fcm, "android"),
            3 => (VendorName::Huawei, "android"),
            _ => return Err(Refused::wrong("platform", "is 1 (iOS), 2 (Android) or 3 (Huawei)")),
        };
        let is_apple = vendor == VendorName::Apns;
        if !is_apple && self.topic.as_ref().is_some_and(|topic| !topic.is_empty()) {
            return Err(Refused::wrong(
                "topic",
                "is a vendor's own: send to a tag, or to a topic of the broker",
            ));
        }
        if self.tokens().is_empty() {
            return Err(Refused::Missing("tokens"));
        }
        let environment = match (self.development, self.production) {
            (true, _) => Some(Environment::Sandbox),
            (false, true) => Some(Environment::Production),
            (false, false) => None,
        };
        Ok(Home {
            vendor,
            platform,
            environment: environment.filter(|_| is_apple),
            bundle_id: said(self.topic.clone()).filter(|_| is_apple),
        })
    }

    /// The same in our words, for the devices that have its tokens. The vendor alone is asked unless one of them may be
    /// reached by socket.
    ///
    /// # Errors
    /// [`Refused`] for what cannot be done here.
    pub fn translate(self, devices: &[String], has_sockets: bool, now_ms: u64) -> Result<Value, Refused> {
        let vendor = self.home()?.vendor;
        let mut body = Map::new();
        put(&mut body, &["audience", "devices"], json!(devices));
        put(&mut body, &["delivery"], self.delivery(has_sockets, now_ms)?);
        put_some(&mut body, &["reference"], said(self.notif_id.clone()));
        if self.dry_run {
            put(&mut body, &["dry_run"], true.into());
        }
        if !self.data.is_empty() {
            put(&mut body, &["data"], Value::Object(self.data.clone()));
        }
        put_some(&mut body, &["notification"], self.shown());
        for (name, part) in self.overrides(vendor) {
            put_some(&mut body, &["overrides", vendor.as_str(), name], part);
        }
        Ok(Value::Object(body))
    }

    fn delivery(&self, has_sockets: bool, now_ms: u64) -> Result<Value, Refused> {
        let mut delivery = Map::new();
        let strategy = if has_sockets { "online_first" } else { "vendor_only" };
        put(&mut delivery, &["strategy"], strategy.into());
        put_some(&mut delivery, &["ttl_s"], self.ttl_s(now_ms)?);
        let key = said(self.collapse_id.clone()).or_else(|| said(self.collapse_key.clone()));
        put_some(&mut delivery, &["collapse_key"], key);
        match self.priority.as_deref() {
            None | Some("") => {}
            Some(priority @ ("normal" | "high")) => put(&mut delivery, &["priority"], priority.into()),
            Some(_) => return Err(Refused::wrong("priority", "is normal or high")),
        }
        Ok(Value::Object(delivery))
    }

    /// The alert; `None` when there is nothing to read in it.
    fn shown(&self) -> Option<Value> {
        let alert = |name: &str| said(self.alert.get(name).and_then(Value::as_str).map(str::to_owned));
        let fcm = |name: &str| said(self.notification.as_ref()?.get(name)?.as_str().map(str::to_owned));
        let title = said(self.title.clone()).or_else(|| alert("title")).or_else(|| fcm("title"));
        let body = said(self.message.clone()).or_else(|| alert("body")).or_else(|| fcm("body"));
        if title.is_none() && body.is_none() {
            return None;
        }
        let mut shown = Map::new();
        put_some(&mut shown, &["title"], title);
        put_some(&mut shown, &["body"], body);
        put_some(&mut shown, &["image"], said(self.image.clone()).or_else(|| fcm("image")));
        put_some(&mut shown, &["badge"], self.badge);
        put_some(&mut shown, &["category"], said(self.category.clone()));
        let sound = self.sound.as_ref().and_then(Value::as_str).map(str::to_owned);
        put_some(&mut shown, &["sound"], said(sound));
        Some(Value::Object(shown))
    }

    /// The platform's own blocks, by their names in what the vendor is asked.
    fn overrides(self, vendor: VendorName) -> Vec<(&'static str, Option<Value>)> {
        match vendor {
            VendorName::Apns => self.apple(),
            VendorName::Fcm => vec![
                ("notification", self.notification.map(Value::Object)),
                ("android", self.android),
                ("webpush", self.webpush),
                ("apns", self.apns),
                ("fcm_options", self.fcm_options),
            ],
            _ => {
                let mut android = Map::new();
                put_some(&mut android, &["notification"], self.huawei_notification);
                put_some(&mut android, &["collapse_key"], self.huawei_collapse_key);
                put_some(&mut android, &["fast_app_target"], self.fast_app_target);
                vec![("android", (!android.is_empty()).then_some(Value::Object(android)))]
            }
        }
    }

    fn apple(self) -> Vec<(&'static str, Option<Value>)> {
        let mut aps = Map::new();
        if !self.alert.is_empty() {
            put(&mut aps, &["alert"], Value::Object(self.alert));
        }
        let volume = self.volume.unwrap_or(1.0);
        let named = self.name.map(|name| json!({"critical": 1, "name": name, "volume": volume}));
        put_some(&mut aps, &["sound"], self.sound.filter(Value::is_object).or(named));
        put_some(&mut aps, &["thread-id"], said(self.thread_id));
        put_some(&mut aps, &["interruption-level"], said(self.interruption_level));
        put_some(&mut aps, &["content-available"], self.content_available.then_some(1));
        put_some(&mut aps, &["mutable-content"], self.mutable_content.then_some(1));
        put_some(&mut aps, &["url-args"], (!self.url_args.is_empty()).then(|| json!(self.url_args)));
        // What an alert or a wake-up is, the message itself says.
        let own_type = said(self.push_type).filter(|kind| kind != "alert" && kind != "background");
        let headers = own_type.map(|kind| json!({"apns-push-type": kind}));
        vec![("aps", (!aps.is_empty()).then_some(Value::Object(aps))), ("headers", headers)]
    }

    fn ttl_s(&self, now_ms: u64) -> Result<Option<u64>, Refused> {
        if let Some(ttl_s) = self.time_to_live {
            return Ok(Some(ttl_s.max(1)));
        }
        if let Some(text) = said(self.huawei_ttl.clone()) {
            let seconds = text.strip_suffix('s').unwrap_or(&text).parse::<u64>();
            return seconds.map(Some).map_err(|_| Refused::wrong("huawei_ttl", "is seconds, such as 86400s"));
        }
        let left_s = |end_s: u64| end_s.saturating_sub(now_ms / 1000);
        match self.expiration.filter(|end_s| *end_s > 0).map(left_s) {
            Some(0) => Err(Refused::wrong("expiration", "is over")),
            left_s => Ok(left_s),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compat::strip;

    fn read(mut body: Value) -> Notification {
        strip(&mut body, &[("", &["apns_id", "app_id", "app_secret", "bi_tag", "retry"])]);
        serde_json::from_value(body).unwrap()
    }

    /// The shapes of gorush's documents.
    #[test]
    fn notifications_that_gorush_takes_become_our_bodies() {
        for (name, theirs, ours) in [
            (
                "the simplest",
                json!({"tokens": ["token_a", "token_b"], "platform": 1, "message": "Hello World iOS!"}),
                json!({"notification": {"body": "Hello World iOS!"}, "delivery": {"strategy": "vendor_only"}}),
            ),
            (
                "everything of Apple's",
                json!({"tokens": ["t"], "platform": 1, "message": "Hello", "title": "Gorush update",
                    "topic": "com.example.app", "collapse_id": "k", "badge": 5, "priority": "high",
                    "expiration": 1_060, "apns_id": "x", "content_available": true, "mutable_content": true,
                    "sound": {"critical": 1, "name": "default", "volume": 2.0}, "category": "c", "thread-id": "th",
                    "url-args": ["a"], "alert": {"subtitle": "s", "loc-key": "l"}, "development": true,
                    "interruption_level": "time-sensitive", "data": {"key1": "welcome"}, "notif_id": "mine",
                    "push_type": "alert", "retry": 5}),
                json!({"notification": {"title": "Gorush update", "body": "Hello", "badge": 5, "category": "c"},
                    "data": {"key1": "welcome"}, "reference": "mine",
                    "delivery": {"strategy": "vendor_only", "collapse_key": "k", "priority": "high", "ttl_s": 60},
                    "overrides": {"apns": {"aps": {"alert": {"subtitle": "s", "loc-key": "l"},
                        "sound": {"critical": 1, "name": "default", "volume": 2.0}, "thread-id": "th",
                        "interruption-level": "time-sensitive", "content-available": 1, "mutable-content": 1,
                        "url-args": ["a"]}}}}),
            ),
            (
                "Android",
                json!({"tokens": [], "to": "t", "platform": 2, "title": "t", "time_to_live": 0, "collapse_key": "u",
                    "notification": {"body": "b", "image": "https://i"}, "android": {"priority": "HIGH"},
                    "sound": "ding", "dry_run": true}),
                json!({"notification": {"title": "t", "body": "b", "image": "https://i", "sound": "ding"},
                    "dry_run": true, "delivery": {"strategy": "vendor_only", "ttl_s": 1, "collapse_key": "u"},
                    "overrides": {"fcm": {"notification": {"body": "b", "image": "https://i"},
                        "android": {"priority": "HIGH"}}}}),
            ),
            (
                "Huawei",
                json!({"tokens": ["t"], "platform": 3, "message": "m", "title": "t", "huawei_ttl": "86400s",
                    "huawei_notification": {"importance": "LOW"}, "huawei_collapse_key": 1, "app_id": "a",
                    "app_secret": "s"}),
                json!({"notification": {"title": "t", "body": "m"},
                    "delivery": {"strategy": "vendor_only", "ttl_s": 86400},
                    "overrides": {"huawei": {"android": {"notification": {"importance": "LOW"}, "collapse_key": 1}}}}),
            ),
        ] {
            let mut ours = ours;
            ours["audience"] = json!({"devices": ["d"]});
            assert_eq!(read(theirs).translate(&["d".to_owned()], false, 1_000_000).unwrap(), ours, "{name}");
        }
    }

    #[test]
    fn tokens_say_where_they_are_at_home() {
        let apple = json!({"tokens": ["t"], "platform": 1, "topic": "com.x", "production": true});
        let home = read(apple).home().unwrap();
        assert_eq!((home.vendor, home.platform), (VendorName::Apns, "ios"));
        assert_eq!(
            (home.environment, home.bundle_id.as_deref()),
            (Some(Environment::Production), Some("com.x"))
        );
        for (body, wanted) in [
            (json!({"tokens": ["t"], "platform": 4}), "platform is 1"),
            (json!({"tokens": [""], "platform": 1}), "tokens is missing"),
            (json!({"tokens": ["t"], "platform": 2, "topic": "news"}), "topic is a vendor's own"),
        ] {
            assert!(read(body).home().unwrap_err().to_string().contains(wanted), "{wanted}");
        }
    }

    #[test]
    fn what_cannot_be_done_is_refused_by_its_name() {
        for (more, wanted) in [
            (json!({"expiration": 999}), "expiration is over"),
            (json!({"huawei_ttl": "1d"}), "huawei_ttl is seconds"),
            (json!({"priority": "urgent"}), "priority is normal or high"),
        ] {
            let mut body = json!({"tokens": ["t"], "platform": 1, "message": "m"});
            body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            let error = read(body).translate(&[], false, 1_000_000).unwrap_err().to_string();
            assert!(error.contains(wanted), "{error}: {wanted}");
        }
    }
}
