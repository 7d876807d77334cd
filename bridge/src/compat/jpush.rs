//! JPush, `POST /v3/push`: <https://docs.jiguang.cn/jpush/server/push/rest_api_v3_push>.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use utoipa::ToSchema;

use super::{NOW_S, Refused, Translated, add_data, badge, has, more, platform, put, put_some, said};
use crate::audience::Expression;
use crate::audience::expression::Field;
use crate::devices::USER;
use crate::inbox::badge::Badge;

/// Fields that decorate an alert, or steer what only JPush has.
pub const WITHOUT_EFFECT: &[(&str, &[&str])] = &[
    ("notification", &["winphone"]),
    (
        "notification.android",
        &[
            "alert_type",
            "badge_class",
            "big_text",
            "builder_id",
            "display_foreground",
            "inbox",
            "large_icon",
            "show_begin_time",
            "show_end_time",
            "small_icon_uri",
            "style",
        ],
    ),
    ("notification.ios", &["relevance-score"]),
    ("notification.hmos", &["inbox", "large_icon", "push_type", "receipt_id", "style", "test_message"]),
    ("options", &["apns_production", "test_mode"]),
    (
        "options.third_party_channel.*",
        &[
            "big_pic_path",
            "big_text",
            "distribution_customize",
            "distribution_fcm",
            "inbox",
            "large_icon",
            "only_use_vendor_style",
            "push_mode",
            "skip_quota",
            "small_icon_color",
            "small_icon_uri",
            "style",
        ],
    ),
];

/// The body.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = JpushPush)]
pub struct Push {
    platform: Option<Platforms>,
    audience: Option<Audience>,
    notification: Option<Notification>,
    message: Option<CustomMessage>,
    #[serde(default)]
    options: Options,
    /// The request's own name: a repetition gets the first answer.
    cid: Option<String>,
}

/// `all`, or some.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(untagged)]
#[schema(as = JpushPlatforms)]
enum Platforms {
    Word(String),
    Some(Vec<String>),
}

/// `all`, or whoever is in each of these.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(untagged)]
#[schema(as = JpushAudience)]
enum Audience {
    Word(String),
    Some(Sets),
}

#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
#[schema(as = JpushSets)]
struct Sets {
    tag: Vec<String>,
    tag_and: Vec<String>,
    tag_not: Vec<String>,
    alias: Vec<String>,
    registration_id: Vec<String>,
    segment: Vec<String>,
    file: Option<File>,
}

/// A list of ids that was uploaded.
#[derive(Debug, Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = JpushFile)]
struct File {
    file_id: String,
}

#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = JpushNotification)]
struct Notification {
    alert: Option<String>,
    android: Option<Android>,
    ios: Option<Ios>,
    quickapp: Option<QuickApp>,
    hmos: Option<Hmos>,
}

#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
#[schema(as = JpushAndroid)]
struct Android {
    alert: Option<String>,
    title: Option<String>,
    channel_id: Option<String>,
    category: Option<String>,
    priority: Option<i8>,
    big_pic_path: Option<String>,
    intent: Option<Intent>,
    uri_activity: Option<String>,
    uri_action: Option<String>,
    sound: Option<String>,
    badge_set_num: Option<u32>,
    badge_add_num: Option<u32>,
    #[schema(value_type = Object)]
    extras: Map<String, Value>,
}

#[derive(Debug, Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = JpushIntent)]
struct Intent {
    url: String,
}

#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
#[schema(as = JpushIos)]
struct Ios {
    /// A text, or Apple's dictionary.
    #[schema(value_type = Option<Object>)]
    alert: Option<Value>,
    /// A file's name, or Apple's dictionary.
    #[schema(value_type = Option<Object>)]
    sound: Option<Value>,
    /// A number, or `+1`.
    #[schema(value_type = Option<Object>)]
    badge: Option<Value>,
    #[serde(rename = "content-available")]
    content_available: bool,
    #[serde(rename = "mutable-content")]
    mutable_content: bool,
    category: Option<String>,
    #[serde(rename = "thread-id")]
    thread_id: Option<String>,
    #[serde(rename = "interruption-level")]
    interruption_level: Option<String>,
    #[schema(value_type = Object)]
    extras: Map<String, Value>,
}

#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
#[schema(as = JpushQuickApp)]
struct QuickApp {
    title: Option<String>,
    alert: Option<String>,
    page: Option<String>,
    #[schema(value_type = Object)]
    extras: Map<String, Value>,
}

#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
#[schema(as = JpushHmos)]
struct Hmos {
    alert: Option<String>,
    title: Option<String>,
    category: Option<String>,
    intent: Option<Intent>,
    badge_set_num: Option<u32>,
    badge_add_num: Option<u32>,
    #[schema(value_type = Object)]
    extras: Map<String, Value>,
}

/// For the app, never shown by the system.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = JpushMessage)]
struct CustomMessage {
    msg_content: String,
    title: Option<String>,
    content_type: Option<String>,
    #[serde(default)]
    #[schema(value_type = Object)]
    extras: Map<String, Value>,
}

#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
#[schema(as = JpushOptions)]
struct Options {
    sendno: Option<i64>,
    time_to_live: Option<u64>,
    /// A number, also as text.
    #[schema(value_type = Option<Object>)]
    override_msg_id: Option<Value>,
    apns_collapse_id: Option<String>,
    big_push_duration: Option<u64>,
    /// 0: marketing, 1: what the user waits for.
    classification: Option<u8>,
    #[schema(value_type = Object)]
    third_party_channel: BTreeMap<String, Channel>,
}

/// What shall be different at one vendor.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
#[schema(as = JpushChannel)]
struct Channel {
    distribution: Option<String>,
    channel_id: Option<String>,
    category: Option<String>,
    importance: Option<String>,
    classification: Option<u8>,
    notify_level: Option<u8>,
    mi_template_id: Option<String>,
}

/// A push in our words, and what JPush answers it with.
#[derive(Debug, PartialEq)]
pub struct Send {
    /// The send.
    pub translated: Translated,
    /// Given back in the answer.
    pub sendno: i64,
    /// The `msg_id` of an earlier push, which this one takes the place of.
    pub replaces: Option<u64>,
}

/// Where a field of `third_party_channel` stands in what the vendor is asked.
const CHANNEL_FIELDS: &[(&str, &str, &str, &[&str])] = &[
    ("xiaomi", "channel_id", "xiaomi", &["extra.channel_id"]),
    ("xiaomi", "mi_template_id", "xiaomi", &["extra.template_id"]),
    ("huawei", "channel_id", "huawei", &["android", "notification", "channel_id"]),
    ("huawei", "category", "huawei", &["android", "category"]),
    ("huawei", "importance", "huawei", &["android", "notification", "importance"]),
    ("honor", "importance", "honor", &["android", "notification", "importance"]),
    ("oppo", "channel_id", "oppo", &["channel_id"]),
    ("oppo", "category", "oppo", &["category"]),
    ("oppo", "notify_level", "oppo", &["notify_level"]),
    ("vivo", "category", "vivo", &["category"]),
    ("vivo", "classification", "vivo", &["classification"]),
    ("fcm", "channel_id", "fcm", &["android", "notification", "channel_id"]),
    ("hmos", "category", "harmony", &["payload", "notification", "category"]),
];

/// JPush's names of vendors, and ours.
const VENDORS: [(&str, &str); 8] = [
    ("xiaomi", "xiaomi"),
    ("huawei", "huawei"),
    ("honor", "honor"),
    ("meizu", "meizu"),
    ("oppo", "oppo"),
    ("vivo", "vivo"),
    ("fcm", "fcm"),
    ("hmos", "harmony"),
];

impl Push {
    /// The same in our words.
    ///
    /// # Errors
    /// [`Refused`] for what is missing, or cannot be done here.
    pub fn translate(self) -> Result<Send, Refused> {
        let only = only_platforms(self.platform.ok_or(Refused::Missing("platform"))?)?;
        let audience = audience(self.audience.ok_or(Refused::Missing("audience"))?, only)?;
        let mut out = Out::default();
        let is_message_only = self.notification.is_none();
        if let Some(notification) = self.notification {
            out.notification(notification)?;
        }
        if let Some(message) = self.message {
            out.message(message);
        } else if is_message_only {
            return Err(Refused::Missing("notification or message"));
        }
        let (sendno, replaces) = out.options(self.options, is_message_only)?;
        let mut body = Map::new();
        body.insert("audience".to_owned(), Value::Object(audience));
        for (name, part) in [
            ("notification", out.shown),
            ("data", out.data),
            ("delivery", out.delivery),
            ("overrides", out.overrides),
        ] {
            if !part.is_empty() {
                body.insert(name.to_owned(), Value::Object(part));
            }
        }
        let translated = Translated { body: Value::Object(body), key: said(self.cid) };
        Ok(Send { translated, sendno, replaces })
    }
}

/// Whom the platforms leave; `None`: everybody.
fn only_platforms(platforms: Platforms) -> Result<Option<Expression>, Refused> {
    let names = match platforms {
        Platforms::Word(word) if word == "all" => return Ok(None),
        Platforms::Word(word) => vec![word],
        Platforms::Some(names) => names,
    };
    let mut sets = Vec::new();
    for name in &names {
        match name.as_str() {
            "android" | "ios" | "quickapp" => sets.push(platform(name)),
            "hmos" => sets.extend([platform("hmos"), platform("harmony")]),
            _ => return Err(Refused::wrong("platform", "is all, or some of android, ios, quickapp, hmos")),
        }
    }
    match Expression::any_of(sets) {
        Some(any) => Ok(Some(any)),
        None => Err(Refused::wrong("platform", "names none")),
    }
}

/// JPush means whoever is in each of the sets. The longest list stays a list, the others narrow it.
fn audience(audience: Audience, only: Option<Expression>) -> Result<Map<String, Value>, Refused> {
    let sets = match audience {
        Audience::Word(word) if word == "all" => Sets::default(),
        Audience::Word(_) => return Err(Refused::wrong("audience", "is all, or an object of sets")),
        Audience::Some(sets) => {
            if sets.is_empty() {
                return Err(Refused::wrong("audience", "names nobody"));
            }
            sets
        }
    };
    if let Some(name) = sets.with_an_empty_text() {
        return Err(Refused::wrong(format!("audience.{name}"), "has an empty text"));
    }
    let mut narrowing: Vec<Expression> = only.into_iter().collect();
    let any = |field: &Field, texts: &[String]| {
        Expression::any_of(texts.iter().map(|text| has(field.clone(), text)).collect())
    };
    narrowing.extend(any(&Field::Tag, &sets.tag));
    narrowing.extend(sets.tag_and.iter().map(|tag| has(Field::Tag, tag)));
    narrowing.extend(sets.tag_not.iter().map(|tag| Expression::Not(Box::new(has(Field::Tag, tag)))));
    narrowing.extend(Expression::any_of(sets.segment.into_iter().map(Expression::Segment).collect()));
    let mut out = Map::new();
    if let Some(file) = sets.file {
        if !sets.registration_id.is_empty() || !sets.alias.is_empty() {
            return Err(Refused::wrong("audience.file", "goes with tags and segments only"));
        }
        put(&mut out, &["lists"], json!([file.file_id]));
    }
    if sets.registration_id.len() >= sets.alias.len() {
        narrowing.extend(any(&Field::Alias(USER.to_owned()), &sets.alias));
        put_some(&mut out, &["devices"], some_of(sets.registration_id));
    } else {
        let devices = sets.registration_id.into_iter().map(Expression::Device);
        narrowing.extend(Expression::any_of(devices.collect()));
        put_some(&mut out, &["aliases", USER], some_of(sets.alias));
    }
    let narrowing = match narrowing.len() {
        0 | 1 => narrowing.pop(),
        _ => Some(Expression::And(narrowing)),
    };
    match (out.is_empty(), narrowing) {
        (true, None) => put(&mut out, &["all"], true.into()),
        (true, Some(all)) => put(&mut out, &["expr"], all.to_string().into()),
        (false, narrowing) => put_some(&mut out, &["only"], narrowing.map(|only| only.to_string())),
    }
    Ok(out)
}

fn some_of(texts: Vec<String>) -> Option<Value> {
    (!texts.is_empty()).then(|| json!(texts))
}

impl Sets {
    fn named(&self) -> [(&'static str, &[String]); 6] {
        [
            ("tag", &self.tag),
            ("tag_and", &self.tag_and),
            ("tag_not", &self.tag_not),
            ("alias", &self.alias),
            ("registration_id", &self.registration_id),
            ("segment", &self.segment),
        ]
    }

    fn is_empty(&self) -> bool {
        self.file.is_none() && self.named().iter().all(|(_, texts)| texts.is_empty())
    }

    fn with_an_empty_text(&self) -> Option<&'static str> {
        let has_empty = |(_, texts): &&(&str, &[String])| texts.iter().any(String::is_empty);
        self.named().iter().find(has_empty).map(|(name, _)| *name)
    }
}

/// The parts of our body.
#[derive(Default)]
struct Out {
    shown: Map<String, Value>,
    data: Map<String, Value>,
    delivery: Map<String, Value>,
    overrides: Map<String, Value>,
}

impl Out {
    fn notification(&mut self, all: Notification) -> Result<(), Refused> {
        let android = all.android.unwrap_or_default();
        let ios = all.ios.unwrap_or_default();
        let hmos = all.hmos.unwrap_or_default();
        let quick = all.quickapp.unwrap_or_default();
        let (ios_title, ios_body) = ios_texts(ios.alert.as_ref());
        let title =
            [&android.title, &hmos.title, &quick.title, &ios_title].into_iter().cloned().find_map(said);
        let bodies = [&android.alert, &hmos.alert, &all.alert, &quick.alert, &ios_body];
        let body = bodies.into_iter().cloned().find_map(said);
        if title.is_none() && body.is_none() {
            return Err(Refused::Missing("notification.alert"));
        }
        self.ios_alert(ios.alert, &body);
        for (name, text, base) in [("title", &hmos.title, &title), ("body", &hmos.alert, &body)] {
            let own = text.clone().filter(|text| Some(text) != base.as_ref());
            put_some(&mut self.overrides, &["harmony", "payload", "notification", name], said(own));
        }
        put_some(&mut self.shown, &["title"], title);
        put_some(&mut self.shown, &["body"], body);
        let click = [android.intent.map(|intent| intent.url), android.uri_action, android.uri_activity];
        let elsewhere = [hmos.intent.map(|intent| intent.url), quick.page];
        let click = click.into_iter().chain(elsewhere).find_map(said);
        put_some(&mut self.shown, &["click", "url"], click);
        put_some(&mut self.shown, &["image"], said(android.big_pic_path));
        put_some(&mut self.shown, &["channel"], said(android.channel_id));
        put_some(&mut self.shown, &["category"], said(android.category).or(said(hmos.category)));
        self.sound(said(android.sound), ios.sound);
        let set = android.badge_set_num.or(hmos.badge_set_num).map(Badge::Set);
        let badge = badge("notification.ios.badge", ios.badge.as_ref())?
            .or(set)
            .or(android.badge_add_num.or(hmos.badge_add_num).and_then(more));
        put_some(&mut self.shown, &["badge"], badge.map(|badge| json!(badge)));
        self.urgency(android.priority)?;
        for (name, text) in [
            ("category", ios.category),
            ("thread-id", ios.thread_id),
            ("interruption-level", ios.interruption_level),
        ] {
            put_some(&mut self.overrides, &["apns", "aps", name], said(text));
        }
        for (name, is_set) in
            [("content-available", ios.content_available), ("mutable-content", ios.mutable_content)]
        {
            put_some(&mut self.overrides, &["apns", "aps", name], is_set.then_some(1));
        }
        self.extras(android.extras, ios.extras, [hmos.extras, quick.extras])
    }

    /// Apple's text where it is another one than everybody's.
    fn ios_alert(&mut self, alert: Option<Value>, body: &Option<String>) {
        let own = match alert {
            Some(Value::String(text)) if !text.is_empty() && Some(&text) != body.as_ref() => {
                json!({"body": text})
            }
            Some(Value::Object(alert)) => Value::Object(alert),
            _ => return,
        };
        put(&mut self.overrides, &["apns", "aps", "alert"], own);
    }

    fn sound(&mut self, android: Option<String>, ios: Option<Value>) {
        let ios = ios.filter(|sound| sound.as_str() != Some(""));
        let common = android.or_else(|| ios.as_ref().and_then(Value::as_str).map(str::to_owned));
        if let Some(sound) = ios.filter(|sound| sound.as_str() != common.as_deref()) {
            put(&mut self.overrides, &["apns", "aps", "sound"], sound);
        }
        put_some(&mut self.shown, &["sound"], common);
    }

    /// JPush counts from -2 to 2.
    fn urgency(&mut self, priority: Option<i8>) -> Result<(), Refused> {
        let priority = match priority {
            None | Some(0) => return Ok(()),
            Some(1 | 2) => "high",
            Some(-2 | -1) => "low",
            Some(_) => return Err(Refused::wrong("notification.android.priority", "is -2 to 2")),
        };
        put(&mut self.delivery, &["priority"], priority.into());
        Ok(())
    }

    /// Everybody gets all of them; iPhones their own value where another platform has another.
    fn extras(
        &mut self,
        android: Map<String, Value>,
        ios: Map<String, Value>,
        others: [Map<String, Value>; 2],
    ) -> Result<(), Refused> {
        add_data(&mut self.data, android);
        for extras in others {
            if let Some((name, _)) = add_data(&mut self.data, extras).first() {
                let field = format!("notification.….extras.{name}");
                return Err(Refused::wrong(field, "has another value than that of another platform"));
            }
        }
        for (name, value) in add_data(&mut self.data, ios) {
            put(&mut self.overrides, &["apns", &name], value);
        }
        Ok(())
    }

    fn message(&mut self, message: CustomMessage) {
        let mut kept = Map::new();
        put(&mut kept, &["msg_content"], message.msg_content.into());
        put_some(&mut kept, &["title"], said(message.title));
        put_some(&mut kept, &["content_type"], said(message.content_type));
        if !message.extras.is_empty() {
            put(&mut kept, &["extras"], Value::Object(message.extras));
        }
        put(&mut self.data, &["message"], Value::Object(kept));
    }

    fn options(&mut self, options: Options, is_message_only: bool) -> Result<(i64, Option<u64>), Refused> {
        if is_message_only {
            put(&mut self.delivery, &["strategy"], "online_only".into()); // JPush takes no vendor for these
        }
        for (name, channel) in options.third_party_channel {
            self.channel(&name, channel)?;
        }
        match options.time_to_live {
            Some(0) => {
                self.delivery.remove("by_vendor");
                put(&mut self.delivery, &["strategy"], "online_only".into());
                put(&mut self.delivery, &["ttl_s"], NOW_S.into());
            }
            ttl_s => put_some(&mut self.delivery, &["ttl_s"], ttl_s),
        }
        put_some(&mut self.delivery, &["collapse_key"], said(options.apns_collapse_id));
        put_some(
            &mut self.delivery,
            &["spread_minutes"],
            options.big_push_duration.filter(|minutes| *minutes > 0),
        );
        let class = match options.classification {
            None => None,
            Some(0) => Some("marketing"),
            Some(1) => Some("service"),
            Some(_) => return Err(Refused::wrong("options.classification", "is 0 or 1")),
        };
        put_some(&mut self.delivery, &["class"], class);
        Ok((options.sendno.unwrap_or(0), replaced(options.override_msg_id)?))
    }

    fn channel(&mut self, name: &str, channel: Channel) -> Result<(), Refused> {
        let field = |below: &str| format!("options.third_party_channel.{name}.{below}");
        let Some((_, vendor)) = VENDORS.iter().find(|(theirs, _)| *theirs == name) else {
            return Err(Refused::wrong(field(""), "is a vendor that is not known here"));
        };
        if let Some(distribution) = channel.distribution {
            let strategy = match distribution.as_str() {
                "jpush" => "online_only",
                "ospush" => "vendor_only",
                "secondary_push" => "online_first",
                "first_ospush" => "vendor_first",
                _ => {
                    let known = "is one of jpush, ospush, secondary_push, first_ospush";
                    return Err(Refused::wrong(field("distribution"), known));
                }
            };
            put(&mut self.delivery, &["by_vendor", vendor], strategy.into());
        }
        for (below, value) in [
            ("channel_id", said(channel.channel_id).map(Value::from)),
            ("category", said(channel.category).map(Value::from)),
            ("importance", said(channel.importance).map(Value::from)),
            ("classification", channel.classification.map(Value::from)),
            ("notify_level", channel.notify_level.map(Value::from)),
            ("mi_template_id", said(channel.mi_template_id).map(Value::from)),
        ] {
            let Some(value) = value else { continue };
            let place = CHANNEL_FIELDS.iter().find(|(theirs, known, ..)| (*theirs, *known) == (name, below));
            let Some((_, _, ours, path)) = place else {
                return Err(Refused::wrong(field(below), "has no meaning at this vendor"));
            };
            put(&mut self.overrides, &[&[*ours], *path].concat(), value);
        }
        Ok(())
    }
}

fn ios_texts(alert: Option<&Value>) -> (Option<String>, Option<String>) {
    let text = |name: &str| alert.and_then(|alert| alert.get(name)?.as_str()).map(str::to_owned);
    match alert {
        Some(Value::String(body)) => (None, Some(body.clone())),
        _ => (text("title"), text("body")),
    }
}

fn replaced(given: Option<Value>) -> Result<Option<u64>, Refused> {
    let wrong = || Refused::wrong("options.override_msg_id", "is the msg_id of an earlier push");
    match given {
        None | Some(Value::Null) => Ok(None),
        Some(Value::Number(number)) => number.as_u64().map(Some).ok_or_else(wrong),
        Some(Value::String(text)) => text.parse().map(Some).map_err(|_| wrong()),
        Some(_) => Err(wrong()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compat::strip;

    fn read(mut body: Value) -> Result<Send, Refused> {
        strip(&mut body, WITHOUT_EFFECT);
        let push: Push = serde_json::from_value(body).unwrap();
        push.translate()
    }

    /// The shapes that JPush's documents and its SDKs for Java, Python and Go make.
    #[test]
    fn bodies_that_jpush_takes_become_our_own() {
        for (name, theirs, ours) in [
            (
                "the first example of its documents",
                json!({"platform": "all", "audience": "all", "notification": {"alert": "Hi, JPush!"}}),
                json!({"audience": {"all": true}, "notification": {"body": "Hi, JPush!"}}),
            ),
            (
                "alert for both phones, with what only decorates",
                json!({
                    "cid": "8103a4c628a0b98974ec1949-711261d4",
                    "platform": ["android", "ios"],
                    "audience": {"tag": ["深圳", "北京"], "tag_and": ["女"], "tag_not": ["old"]},
                    "notification": {
                        "android": {"alert": "hello", "title": "JPush test", "builder_id": 3, "style": 1,
                            "alert_type": 7, "big_text": "x", "priority": 1, "channel_id": "orders", "category": "IM",
                            "intent": {"url": "intent:#Intent;component=com.jiguang.push/.Main;end"},
                            "large_icon": "http://www.jiguang.cn/a.jpg", "badge_add_num": 1, "badge_class": "a.B",
                            "extras": {"newsid": 321, "key": "value"}},
                        "ios": {"alert": {"title": "t", "body": "hello iOS"}, "sound": "default", "badge": "+1",
                            "thread-id": "default", "mutable-content": true,
                            "extras": {"newsid": 321, "key": "ios"}}
                    },
                    "options": {"sendno": 18, "time_to_live": 60, "apns_production": false,
                        "apns_collapse_id": "jiguang_test_1", "big_push_duration": 10, "classification": 1}
                }),
                json!({
                    "audience": {
                        "expr": "(platform:android | platform:ios) & (tag:深圳 | tag:北京) & tag:女 & !tag:old"},
                    "notification": {"title": "JPush test", "body": "hello", "channel": "orders", "category": "IM",
                        "sound": "default", "badge": "+1",
                        "click": {"url": "intent:#Intent;component=com.jiguang.push/.Main;end"}},
                    "data": {"newsid": 321, "key": "value"},
                    "delivery": {"priority": "high", "ttl_s": 60, "collapse_key": "jiguang_test_1",
                        "spread_minutes": 10, "class": "service"},
                    "overrides": {"apns": {"key": "ios", "aps": {"alert": {"title": "t", "body": "hello iOS"},
                        "thread-id": "default", "mutable-content": 1}}}
                }),
            ),
            (
                "registration ids of one platform, and vendors",
                json!({
                    "platform": ["android"], "audience": {"registration_id": ["1a0018970a0cbc71cda", "2b"]},
                    "notification": {"alert": "common", "android": {"title": "t"}},
                    "options": {"third_party_channel": {
                        "xiaomi": {"distribution": "first_ospush", "channel_id": "*******", "skip_quota": false},
                        "huawei": {"distribution": "secondary_push", "importance": "NORMAL", "category": "IM"},
                        "vivo": {"distribution": "ospush", "classification": 1, "category": "IM", "push_mode": 0},
                        "oppo": {"distribution": "jpush", "channel_id": "ch", "category": "IM", "notify_level": 16},
                        "hmos": {"distribution": "jpush"}
                    }}
                }),
                json!({
                    "audience": {"devices": ["1a0018970a0cbc71cda", "2b"], "only": "platform:android"},
                    "notification": {"title": "t", "body": "common"},
                    "delivery": {"by_vendor": {"xiaomi": "vendor_first", "huawei": "online_first",
                        "vivo": "vendor_only", "oppo": "online_only", "harmony": "online_only"}},
                    "overrides": {
                        "xiaomi": {"extra.channel_id": "*******"},
                        "huawei": {"android": {"category": "IM", "notification": {"importance": "NORMAL"}}},
                        "vivo": {"category": "IM", "classification": 1},
                        "oppo": {"channel_id": "ch", "category": "IM", "notify_level": 16}
                    }
                }),
            ),
            (
                "a file of ids",
                json!({"platform": ["ios"], "audience": {"file": {"file_id": "0199"}}, "notification": {"alert": "a"}}),
                json!({"audience": {"lists": ["0199"], "only": "platform:ios"}, "notification": {"body": "a"}}),
            ),
            (
                "a custom message only",
                json!({
                    "platform": "all", "audience": {"alias": ["4312", "892"], "segment": ["south"]},
                    "message": {"msg_content": "Hi", "content_type": "text", "title": "msg", "extras": {"key": "v"}}
                }),
                json!({
                    "audience": {"aliases": {"user": ["4312", "892"]}, "only": "segment:south"},
                    "data": {"message": {"msg_content": "Hi", "content_type": "text", "title": "msg",
                        "extras": {"key": "v"}}},
                    "delivery": {"strategy": "online_only"}
                }),
            ),
            (
                "a quick app, HarmonyOS, and only whoever is connected",
                json!({
                    "platform": ["quickapp", "hmos"], "audience": {"alias": ["a"], "registration_id": ["r"]},
                    "notification": {"quickapp": {"title": "q", "alert": "common", "page": "/page1"},
                        "hmos": {"alert": "own", "title": "h", "category": "WORK", "badge_set_num": 3}},
                    "options": {"time_to_live": 0}
                }),
                json!({
                    "audience": {"devices": ["r"],
                        "only": "(platform:quickapp | platform:hmos | platform:harmony) & user:a"},
                    "notification": {"title": "h", "body": "own", "category": "WORK", "badge": 3,
                        "click": {"url": "/page1"}},
                    "delivery": {"strategy": "online_only", "ttl_s": NOW_S}
                }),
            ),
        ] {
            assert_eq!(read(theirs).unwrap().translated.body, ours, "{name}");
        }
    }

    #[test]
    fn what_answers_need_is_kept() {
        let base = json!({"platform": "all", "audience": "all", "notification": {"alert": "a"}});
        for (given, replaces) in [(json!(1234), 1234), (json!("1234"), 1234)] {
            let mut body = base.clone();
            body["options"] = json!({"sendno": 18, "override_msg_id": given});
            body["cid"] = json!("c");
            let send = read(body).unwrap();
            assert_eq!((send.sendno, send.replaces), (18, Some(replaces)));
            assert_eq!(send.translated.key.as_deref(), Some("c"));
        }
    }

    #[test]
    fn what_cannot_be_done_is_refused_by_its_name() {
        let base = json!({"platform": "all", "audience": "all", "notification": {"alert": "a"}});
        for (pointer, value, wanted) in [
            ("/platform", json!("windows"), "platform is all"),
            ("/platform", json!([]), "platform names none"),
            ("/platform", Value::Null, "platform is missing"),
            ("/audience", json!({}), "audience names nobody"),
            ("/audience", json!({"tag": [""]}), "audience.tag has an empty text"),
            ("/audience", json!({"file": {"file_id": "f"}, "alias": ["a"]}), "audience.file goes with"),
            ("/notification", json!({"android": {"extras": {}}}), "notification.alert is missing"),
            ("/notification", Value::Null, "notification or message is missing"),
            (
                "/notification",
                json!({"alert": "a", "ios": {"badge": "x"}}),
                "notification.ios.badge is a number",
            ),
            (
                "/notification",
                json!({"alert": "a", "android": {"extras": {"k": 1}}, "hmos": {"extras": {"k": 2}}}),
                "has another value",
            ),
        ] {
            let mut body = base.clone();
            *body.pointer_mut(pointer).unwrap() = value;
            let error = read(body).unwrap_err().to_string();
            assert!(error.contains(wanted), "{error}: {wanted}");
        }
        for (channel, wanted) in [
            (json!({"xiaomi": {"distribution": "mtpush"}}), "xiaomi.distribution is one of"),
            (json!({"meizu": {"category": "IM"}}), "meizu.category has no meaning"),
            (json!({"asus": {}}), "not known here"),
        ] {
            let mut body = base.clone();
            body["options"] = json!({"third_party_channel": channel});
            let error = read(body).unwrap_err().to_string();
            assert!(error.contains(wanted), "{error}: {wanted}");
        }
    }
}
