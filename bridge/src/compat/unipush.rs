//! uni-push 2, the object of `uniPush.sendMessage`: <https://doc.dcloud.net.cn/uniCloud/uni-cloud-push/api.html>.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::{Map, Value, json};
use utoipa::ToSchema;

use super::{NOW_S, OneOrMany, Refused, Translated, badge, platform, put, put_some, said};
use crate::audience::Expression;
use crate::devices::USER;

/// Fields that decorate, or steer what only uni-push has.
pub const WITHOUT_EFFECT: &[(&str, &[&str])] = &[
    ("", &["appId", "check_token", "forceNotification", "force_notification"]),
    ("settings.strategy", &["st"]),
    ("options.IOS", &["auto_badge"]),
    ("option.IOS", &["auto_badge"]),
];

/// uni-push keeps a message for an hour unless it says otherwise.
const TTL_S: u64 = 3_600;

/// The body.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = UnipushMessage)]
pub struct Message {
    user_id: Option<OneOrMany>,
    user_tag: Option<OneOrMany>,
    device_id: Option<OneOrMany>,
    push_clientid: Option<OneOrMany>,
    getui_alias: Option<OneOrMany>,
    getui_custom_tag: Option<String>,
    platform: Option<OneOrMany>,
    title: Option<String>,
    content: Option<String>,
    /// A text or an object, for the app.
    #[schema(value_type = Option<Object>)]
    payload: Option<Value>,
    /// A number, or `+1`.
    #[schema(value_type = Option<Object>)]
    badge: Option<Value>,
    #[serde(default)]
    channel: Channel,
    request_id: Option<String>,
    group_name: Option<String>,
    sound: Option<String>,
    content_available: Option<u8>,
    open_url: Option<String>,
    #[serde(default)]
    settings: Settings,
    /// Fields of vendors, each under its path: `{"HW": {"/message/android/notification/importance": "LOW"}}`.
    #[serde(default, alias = "option")]
    #[schema(value_type = Object)]
    options: BTreeMap<String, Map<String, Value>>,
}

#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
#[schema(as = UnipushChannel)]
struct Channel {
    #[serde(rename = "HW")]
    huawei: Option<String>,
    #[serde(rename = "XM")]
    xiaomi: Option<String>,
    #[serde(rename = "OP")]
    oppo: Option<String>,
    #[serde(rename = "VO")]
    vivo: Option<String>,
}

#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
#[schema(as = UnipushSettings)]
struct Settings {
    /// Milliseconds; -1: whoever is connected.
    ttl: Option<i64>,
    #[schema(value_type = Object)]
    strategy: BTreeMap<String, u8>,
    /// Devices a second; 0: as fast as it goes.
    speed: Option<u64>,
    /// Milliseconds since 1970.
    schedule_time: Option<u64>,
}

/// A message in our words, and whom its answer speaks of.
#[derive(Debug, PartialEq)]
pub struct Send {
    /// The send.
    pub translated: Translated,
    /// What `push_clientid` named.
    pub clients: Vec<String>,
}

/// uni-push's names of vendors in a strategy, and ours.
const STRATEGY_VENDORS: [(&str, &str); 8] = [
    ("ios", "apns"),
    ("hw", "huawei"),
    ("ho", "honor"),
    ("xm", "xiaomi"),
    ("vv", "vivo"),
    ("mz", "meizu"),
    ("op", "oppo"),
    ("fcm", "fcm"),
];

/// Its names in the options, ours, and what its paths begin with that ours do not.
const OPTION_VENDORS: [(&str, &str, &str); 8] = [
    ("HW", "huawei", "message"),
    ("HO", "honor", ""),
    ("XM", "xiaomi", ""),
    ("VV", "vivo", ""),
    ("OP", "oppo", ""),
    ("MZ", "meizu", ""),
    ("FCM", "fcm", "message"),
    ("IOS", "apns", ""),
];

impl Message {
    /// The same in our words.
    ///
    /// # Errors
    /// [`Refused`] for what is missing, or cannot be done here.
    pub fn translate(self) -> Result<Send, Refused> {
        let Self { user_id, user_tag, device_id, push_clientid, getui_alias, getui_custom_tag, .. } = self;
        let whom = Whom { user_id, user_tag, device_id, push_clientid, getui_alias, getui_custom_tag };
        let (audience, clients) = whom.audience(self.platform)?;
        let mut body = Map::new();
        put(&mut body, &["audience"], Value::Object(audience));
        let is_silent = self.content_available == Some(1);
        if !is_silent {
            put_some(&mut body, &["notification", "title"], said(self.title));
            put_some(&mut body, &["notification", "body"], said(self.content));
        }
        if body.contains_key("notification") {
            let badge = badge("badge", self.badge.as_ref())?;
            put_some(&mut body, &["notification", "badge"], badge.map(|badge| json!(badge)));
            put_some(&mut body, &["notification", "sound"], said(self.sound));
            put_some(&mut body, &["notification", "click", "url"], said(self.open_url));
        }
        match self.payload {
            None | Some(Value::Null) => {}
            Some(Value::Object(payload)) if payload.is_empty() => {}
            Some(Value::Object(payload)) => put(&mut body, &["data"], Value::Object(payload)),
            Some(payload) => put(&mut body, &["data", "payload"], payload),
        }
        if !body.contains_key("notification") && !body.contains_key("data") {
            return Err(Refused::Missing("title, content or payload"));
        }
        put_some(&mut body, &["campaign"], said(self.group_name));
        put(&mut body, &["delivery"], self.settings.delivery()?);
        let mut overrides = self.channel.overrides()?;
        options(&mut overrides, self.options)?;
        if !overrides.is_empty() {
            put(&mut body, &["overrides"], Value::Object(overrides));
        }
        let translated = Translated { body: Value::Object(body), key: said(self.request_id) };
        Ok(Send { translated, clients })
    }
}

/// One of these, or everybody.
struct Whom {
    user_id: Option<OneOrMany>,
    user_tag: Option<OneOrMany>,
    device_id: Option<OneOrMany>,
    push_clientid: Option<OneOrMany>,
    getui_alias: Option<OneOrMany>,
    getui_custom_tag: Option<String>,
}

impl Whom {
    fn audience(self, platforms: Option<OneOrMany>) -> Result<(Map<String, Value>, Vec<String>), Refused> {
        let only = only_platforms(platforms)?;
        let custom_tag = self.getui_custom_tag.map(OneOrMany::One);
        let given: Vec<_> = [
            (&["aliases", USER][..], self.user_id),
            (&["tags"], self.user_tag),
            (&["aliases", "device_id"], self.device_id),
            (&["devices"], self.push_clientid),
            (&["aliases", "getui_alias"], self.getui_alias),
            (&["tags"], custom_tag),
        ]
        .into_iter()
        .filter_map(|(place, texts)| Some((place, texts?.into_vec())))
        .filter(|(_, texts)| texts.iter().any(|text| !text.is_empty()))
        .collect();
        let mut audience = Map::new();
        put_some(&mut audience, &["only"], only.map(|only| only.to_string()));
        let mut clients = Vec::new();
        match given.as_slice() {
            [] => put(&mut audience, &["all"], true.into()),
            [(place, texts)] => {
                put(&mut audience, place, json!(texts));
                if *place == ["devices"] {
                    clients.clone_from(texts);
                }
            }
            _ => {
                let names = "user_id, user_tag, device_id, push_clientid, getui_alias, getui_custom_tag";
                return Err(Refused::wrong(names, "exclude each other: give one of them"));
            }
        }
        Ok((audience, clients))
    }
}

fn only_platforms(platforms: Option<OneOrMany>) -> Result<Option<Expression>, Refused> {
    let names = platforms.map(OneOrMany::into_vec).unwrap_or_default();
    if names.is_empty() || names.iter().any(|name| name.eq_ignore_ascii_case("all")) {
        return Ok(None);
    }
    if names.iter().any(String::is_empty) {
        return Err(Refused::wrong("platform", "has an empty name"));
    }
    let sets = names.iter().map(|name| match name.as_str() {
        "app-ios" => platform("ios"),
        "app-android" => platform("android"),
        other => platform(other),
    });
    Ok(Expression::any_of(sets.collect()))
}

impl Settings {
    fn delivery(self) -> Result<Value, Refused> {
        let mut delivery = Map::new();
        for (name, number) in self.strategy {
            let field = format!("settings.strategy.{name}");
            let strategy = match number {
                1 => "online_first",
                2 => "vendor_only",
                3 => "online_only",
                4 => "vendor_first",
                _ => return Err(Refused::wrong(field, "is 1 to 4")),
            };
            let vendor = STRATEGY_VENDORS.iter().find(|(theirs, _)| *theirs == name);
            match (name.as_str(), vendor) {
                ("default", _) => put(&mut delivery, &["strategy"], strategy.into()),
                (_, Some((_, vendor))) => put(&mut delivery, &["by_vendor", vendor], strategy.into()),
                (_, None) => return Err(Refused::wrong(field, "is a vendor that is not known here")),
            }
        }
        let ttl_s = match self.ttl {
            None => TTL_S,
            Some(-1) => {
                delivery.remove("by_vendor");
                put(&mut delivery, &["strategy"], "online_only".into());
                NOW_S
            }
            Some(ms) => match u64::try_from(ms) {
                Ok(ms) => ms.div_ceil(1000).max(1),
                Err(_) => return Err(Refused::wrong("settings.ttl", "is -1, or milliseconds")),
            },
        };
        put(&mut delivery, &["ttl_s"], ttl_s.into());
        put_some(&mut delivery, &["rate_per_s"], self.speed.filter(|speed| *speed > 0));
        if let Some(at_ms) = self.schedule_time {
            put(&mut delivery, &["not_before"], utc(at_ms).into());
            put(&mut delivery, &["timezone"], "UTC".into());
        }
        Ok(Value::Object(delivery))
    }
}

/// A moment as a date and a time of UTC, in seconds.
fn utc(at_ms: u64) -> String {
    let seconds = std::time::Duration::from_secs(at_ms.div_ceil(1000));
    let date = std::time::UNIX_EPOCH + seconds;
    let date = httpdate::HttpDate::from(date).to_string(); // Sun, 06 Nov 1994 08:49:37 GMT
    let mut words = date.split_ascii_whitespace().skip(1);
    let mut next = || words.next().unwrap_or_default();
    let (day, month, year, time) = (next(), next(), next(), next());
    const MONTHS: [&str; 12] =
        ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let month = MONTHS.iter().position(|name| *name == month).map_or(0, |at| at + 1);
    format!("{year}-{month:02}-{day}T{time}")
}

impl Channel {
    fn overrides(self) -> Result<Map<String, Value>, Refused> {
        let mut overrides = Map::new();
        if let Some(channel) = said(self.huawei) {
            let is_level = matches!(channel.as_str(), "LOW" | "NORMAL");
            let name = if is_level { "importance" } else { "channel_id" };
            put(&mut overrides, &["huawei", "android", "notification", name], channel.into());
        }
        put_some(&mut overrides, &["xiaomi", "extra.channel_id"], said(self.xiaomi));
        put_some(&mut overrides, &["oppo", "channel_id"], said(self.oppo));
        if let Some(class) = said(self.vivo) {
            let class: u8 = class.parse().map_err(|_| Refused::wrong("channel.VO", "is 0 or 1"))?;
            put(&mut overrides, &["vivo", "classification"], class.into());
        }
        Ok(overrides)
    }
}

/// Each key is a path; Xiaomi's fields have none, and their names may have a dot.
fn options(
    overrides: &mut Map<String, Value>,
    options: BTreeMap<String, Map<String, Value>>,
) -> Result<(), Refused> {
    for (name, fields) in options {
        let vendor = OPTION_VENDORS.iter().find(|(theirs, ..)| *theirs == name);
        let Some((_, vendor, root)) = vendor else {
            return Err(Refused::wrong(format!("options.{name}"), "is a vendor that is not known here"));
        };
        for (key, value) in fields {
            let wrong = || Refused::wrong(format!("options.{name}.{key}"), "is a path that begins with /");
            let path = key.strip_prefix('/').filter(|path| !path.is_empty()).ok_or_else(wrong)?;
            let parts = path.split('/').enumerate();
            let parts = parts.filter(|(at, part)| *at > 0 || *part != *root).map(|(_, part)| part);
            let path: Vec<&str> = [*vendor].into_iter().chain(parts).collect();
            put(overrides, &path, value);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compat::strip;

    fn read(mut body: Value) -> Result<Send, Refused> {
        strip(&mut body, WITHOUT_EFFECT);
        serde_json::from_value::<Message>(body).unwrap().translate()
    }

    /// The shapes of uni-push's documents.
    #[test]
    fn objects_that_uni_push_takes_become_our_bodies() {
        for (name, theirs, ours) in [
            (
                "one client, with everything a simple call has",
                json!({"push_clientid": "cid-1", "title": "标题", "content": "内容", "payload": {"order": 7},
                    "force_notification": true, "request_id": "r-0123456789", "group_name": "sale"}),
                json!({"audience": {"devices": ["cid-1"]}, "notification": {"title": "标题", "body": "内容"},
                    "data": {"order": 7}, "campaign": "sale", "delivery": {"ttl_s": 3600}}),
            ),
            (
                "users of two platforms, each vendor its own way",
                json!({"user_id": ["u1", "u2"], "platform": ["app-ios", "mp-weixin"], "check_token": false,
                    "title": "t", "content": "c", "payload": "text", "badge": "+1", "sound": "pushsound",
                    "open_url": "https://example.com", "channel": {"HW": "NORMAL", "XM": "high", "OP": "o", "VO": "1"},
                    "settings": {"ttl": 86400000, "strategy": {"default": 4, "ios": 2, "hw": 1, "op": 3, "st": 1},
                        "speed": 100},
                    "options": {
                        "HW": {"/message/android/notification/badge/class": "io.dcloud.PandoraEntry",
                            "/message/android/notification/badge/add_num": 1},
                        "XM": {"/extra.app_version": "v3.3.0"}, "IOS": {"auto_badge": "-1"}}}),
                json!({"audience": {"aliases": {"user": ["u1", "u2"]}, "only": "platform:ios | platform:mp-weixin"},
                    "notification": {"title": "t", "body": "c", "sound": "pushsound", "badge": "+1",
                        "click": {"url": "https://example.com"}},
                    "data": {"payload": "text"},
                    "delivery": {"strategy": "vendor_first", "ttl_s": 86400, "rate_per_s": 100,
                        "by_vendor": {"apns": "vendor_only", "huawei": "online_first", "oppo": "online_only"}},
                    "overrides": {
                        "huawei": {"android": {"notification": {"importance": "NORMAL",
                            "badge": {"class": "io.dcloud.PandoraEntry", "add_num": 1}}}},
                        "xiaomi": {"extra.channel_id": "high", "extra.app_version": "v3.3.0"},
                        "oppo": {"channel_id": "o"}, "vivo": {"classification": 1}}}),
            ),
            (
                "everybody who is connected, later",
                json!({"title": "t", "content": "c", "payload": {}, "platform": "ALL",
                    "settings": {"ttl": -1, "strategy": {"default": 1}, "schedule_time": 1_790_000_000_000_u64}}),
                json!({"audience": {"all": true}, "notification": {"title": "t", "body": "c"},
                    "delivery": {"strategy": "online_only", "ttl_s": NOW_S, "not_before": "2026-09-21T14:13:20",
                        "timezone": "UTC"}}),
            ),
            (
                "silent",
                json!({"user_tag": "vip", "title": "t", "content": "c", "payload": {"a": 1}, "content_available": 1}),
                json!({"audience": {"tags": ["vip"]}, "data": {"a": 1}, "delivery": {"ttl_s": 3600}}),
            ),
        ] {
            assert_eq!(read(theirs).unwrap().translated.body, ours, "{name}");
        }
    }

    #[test]
    fn the_answer_speaks_of_the_clients_that_were_named() {
        let body = json!({"push_clientid": ["a", "b"], "title": "t", "request_id": "r"});
        let send = read(body).unwrap();
        assert_eq!(
            (send.clients.as_slice(), send.translated.key.as_deref()),
            (&["a".to_owned(), "b".to_owned()][..], Some("r"))
        );
    }

    #[test]
    fn what_cannot_be_done_is_refused_by_its_name() {
        for (more, wanted) in [
            (json!({"user_id": "u", "push_clientid": "c"}), "exclude each other"),
            (json!({"settings": {"strategy": {"default": 5}}}), "settings.strategy.default is 1 to 4"),
            (json!({"settings": {"strategy": {"xx": 1}}}), "not known here"),
            (json!({"settings": {"ttl": -2}}), "settings.ttl is -1"),
            (json!({"options": {"HW": {"importance": "LOW"}}}), "begins with /"),
            (json!({"options": {"ZZ": {}}}), "options.ZZ is a vendor"),
            (json!({"badge": "many"}), "badge is a number"),
            (json!({"content_available": 1}), "title, content or payload is missing"),
        ] {
            let mut body = json!({"title": "t"});
            body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            let error = read(body).unwrap_err().to_string();
            assert!(error.contains(wanted), "{error}: {wanted}");
        }
    }
}
