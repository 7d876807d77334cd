//! Composing and sending. The form becomes the body that the API takes; the API says what is wrong with it.

use axum::extract::{Path, State};
use axum::http::{Method, StatusCode};
use axum::response::Response;
use maud::Markup;
use reveille_proto::ids::MessageId;
use serde_json::{Map, Value, json};

use super::{Page, done, fragment};
use crate::apps::Access;
use crate::console::Here;
use crate::console::door::{Refusal, encode};
use crate::console::form::{Fields, Posted, Query};
use crate::console::sessions::secret;
use crate::console::view::broker::items;
use crate::console::view::compose::{Named, compose, count as count_view};
use crate::console::view::fields::Filled;
use crate::console::visitor::Visitor;
use crate::messages::{self, Message, Notification};
use crate::schedules::moments::{Clock, When};
use crate::schedules::{self, Schedule};
use crate::starts::{Missed, RECIPIENT};
use crate::zones::LocalTime;

/// An hour, in seconds.
const HOUR_S: u64 = 60 * 60;

/// The empty form, or one filled with an older message.
pub(in crate::console) async fn show(
    visitor: Visitor,
    State(console): State<Here>,
    Path(app): Path<String>,
    Query(query): Query,
) -> Response {
    let made = async {
        let id = visitor.check(&app, Access::Send)?;
        let mut fields = Fields::default();
        if let Some(device) = query.some("device") {
            fields = Fields::of(&[("kind", "devices"), ("devices", device)]);
        }
        if let Some(expr) = query.some("expr") {
            fields = Fields::of(&[("kind", "expr"), ("expr", expr)]);
        }
        if let Some(template) = query.some("template") {
            fields = Fields::of(&[("template", template)]);
        }
        if query.is("when", "again") {
            fields = Fields::of(&[("when", "again")]);
        }
        if let Some(schedule) = query.some("schedule").map(str::to_owned) {
            visitor.check(&app, Access::Read)?;
            let id = id.clone();
            let found = console.shared.store.read(move |tx| schedules::load(tx, &id, &schedule)).await?;
            fields = found.map(|schedule| fields_of(&schedule)).unwrap_or_default();
        }
        if let Some(clone) = query.some("clone").and_then(|clone| MessageId::parse(clone).ok()) {
            visitor.check(&app, Access::Read)?;
            let message = console.shared.store.read(move |tx| messages::load(tx, &id, clone)).await?;
            fields = message.map(|message| clone_of(&message)).unwrap_or_default();
        }
        Ok(form(&console, &visitor, &app, &Filled { fields, refusal: None }).await)
    };
    visitor.answer(Some(&app), made.await)
}

async fn form(console: &Here, visitor: &Visitor, app: &str, filled: &Filled) -> Page {
    let named = Named {
        templates: names(console, visitor, app, "templates").await,
        policies: names(console, visitor, app, "policies").await,
    };
    let context = visitor.context(Some(app));
    let nonce = filled.fields.some("nonce").map_or_else(secret, str::to_owned);
    Page::new(context.texts.compose_title, "compose", compose(&context, filled, &named, &nonce))
}

/// What the app has of something.
async fn names(console: &Here, visitor: &Visitor, app: &str, what: &str) -> Vec<String> {
    let path = format!("/v1/apps/{}/{what}?limit=1000", encode(app));
    let found = console.door.get(&visitor.caller, &path).await.unwrap_or_default(); // a key may send and not read
    let names = items(&found).iter().filter_map(|item| item.get("name")?.as_str());
    names.map(str::to_owned).collect()
}

/// The fields that a schedule would have been made of.
fn fields_of(schedule: &Schedule) -> Fields {
    let text = |time: Option<LocalTime>| time.map(|time| time.to_string()).unwrap_or_default();
    let (when, cron, at) = match &schedule.rhythm.when {
        When::Cron(cron) => ("again", cron.as_str().to_owned(), String::new()),
        When::At(at) => ("later", String::new(), at.to_string()),
    };
    let (clock, zone) = match &schedule.rhythm.clock {
        Clock::Of(zone) => ("zone", zone),
        Clock::Recipient(otherwise) => ("recipient", otherwise),
    };
    let missed = match schedule.rhythm.missed {
        Missed::RunOnce => "run_once",
        Missed::Skip => "skip",
    };
    clone_of(&schedule.message).with(&[
        ("schedule", &schedule.id),
        ("schedule_name", &schedule.name),
        ("when", when),
        ("cron", &cron),
        ("not_before", &at),
        ("clock", clock),
        ("timezone", zone.name()),
        ("until", &text(schedule.rhythm.until)),
        ("missed", missed),
    ])
}

/// The fields that an older message would have been made of.
fn clone_of(message: &Message) -> Fields {
    let content = message.content.clone().unwrap_or_default();
    let notification = content.notification.unwrap_or_default();
    let audience = &message.audience;
    let (devices, tags) = (audience.devices.join("\n"), audience.tags.join(", "));
    let users = audience.aliases.get("user").map(|users| users.join("\n")).unwrap_or_default();
    let expr = audience.expr.as_ref().map(ToString::to_string).unwrap_or_default();
    let kind = match () {
        () if audience.all => "all",
        () if !expr.is_empty() => "expr",
        () if !audience.tags.is_empty() => "tags",
        () if !users.is_empty() => "users",
        () if !audience.devices.is_empty() => "devices",
        () => "expr",
    };
    let data = Value::Object(content.data);
    let data = if data.as_object().is_some_and(Map::is_empty) { String::new() } else { data.to_string() };
    // Texts of a template are written anew.
    let own = if message.template.is_some() { Notification::default() } else { notification.clone() };
    let number = |number: Option<u32>| number.map(|number| number.to_string()).unwrap_or_default();
    Fields::of(&[
        ("kind", kind),
        ("devices", &devices),
        ("tags", &tags),
        ("users", &users),
        ("expr", &expr),
        ("template", message.template.as_deref().unwrap_or_default()),
        ("title", &own.title.unwrap_or_default()),
        ("body", &own.body.unwrap_or_default()),
        ("image", &own.image.unwrap_or_default()),
        ("click", &own.click.map(|click| click.url).unwrap_or_default()),
        ("rate_per_s", &number(message.speed.rate_per_s)),
        ("spread_minutes", &number(message.speed.spread_minutes)),
        ("category", &notification.category.unwrap_or_default()),
        ("data", &data),
        ("strategy", message.strategy.name()),
        ("collapse_key", message.collapse_key.as_deref().unwrap_or_default()),
        ("campaign", message.campaign.as_deref().unwrap_or_default()),
        ("policy", message.policy.as_deref().unwrap_or_default()),
        ("urgent", if message.is_urgent { "true" } else { "" }),
    ])
}

/// Whom the form means, as the API reads it.
fn audience(fields: &Fields) -> Value {
    match fields.text("kind") {
        "all" => json!({"all": true}),
        "tags" => json!({"tags": fields.list("tags")}),
        "users" => json!({"aliases": {"user": fields.list("users")}}),
        "devices" => json!({"devices": fields.list("devices")}),
        _ => json!({"expr": fields.text("expr")}),
    }
}

/// The body of the send, but for the audience.
fn message(fields: &Fields) -> Result<Map<String, Value>, Refusal> {
    let mut notification = fields.object(&["title", "body", "image"]);
    if let Some(url) = fields.some("click") {
        notification.insert("click".to_owned(), json!({"url": url}));
    }
    let mut delivery = fields.object(&["strategy", "priority", "collapse_key", "category"]);
    if let Some(hours) = fields.some("ttl_h") {
        let hours =
            hours.parse::<u64>().map_err(|_| wrong_field("/delivery/ttl_s", "is a number of hours"))?;
        delivery.insert("ttl_s".to_owned(), hours.saturating_mul(HOUR_S).into());
    }
    for (name, pointer) in
        [("rate_per_s", "/delivery/rate_per_s"), ("spread_minutes", "/delivery/spread_minutes")]
    {
        if let Some(text) = fields.some(name) {
            let number = text.parse::<u32>().map_err(|_| wrong_field(pointer, "is a number"))?;
            delivery.insert(name.to_owned(), number.into());
        }
    }
    let mut body = fields.object(&["campaign", "policy", "template"]);
    if fields.is("urgent", "true") {
        delivery.insert("urgent".to_owned(), true.into());
    }
    if let Some(data) = fields.some("data") {
        let read = serde_json::from_str::<Map<String, Value>>(data);
        let data = read.map_err(|error| wrong_field("/data", &error.to_string()))?;
        body.insert("data".to_owned(), Value::Object(data));
    }
    if !notification.is_empty() {
        body.insert("notification".to_owned(), Value::Object(notification));
    }
    body.insert("delivery".to_owned(), Value::Object(delivery));
    Ok(body)
}

/// When it is to go out, as the API reads it: what a schedule says, or a message's delivery.
fn moment(fields: &Fields) -> Map<String, Value> {
    let mut moment = Map::new();
    let zone = fields.some("timezone").map(Value::from);
    if fields.is("clock", "recipient") {
        moment.insert("timezone".to_owned(), RECIPIENT.into());
        moment.extend(zone.map(|zone| ("default_timezone".to_owned(), zone)));
    } else {
        moment.extend(zone.map(|zone| ("timezone".to_owned(), zone)));
    }
    moment
}

/// The body of a schedule that sends a message.
fn schedule(fields: &Fields, message: Map<String, Value>) -> Value {
    let when = match fields.is("when", "again") {
        true => json!({"cron": fields.text("cron")}),
        false => json!({"at": fields.text("not_before")}),
    };
    let mut body = moment(fields);
    body.extend(fields.object(&["until", "missed"]));
    body.insert("name".to_owned(), fields.text("schedule_name").into());
    body.insert("when".to_owned(), when);
    body.insert("message".to_owned(), Value::Object(message));
    Value::Object(body)
}

/// A field that the form refuses by itself, in the API's words.
pub(super) fn wrong_field(pointer: &str, message: &str) -> Refusal {
    Refusal {
        code: "invalid_field".to_owned(),
        errors: vec![(pointer.to_owned(), message.to_owned())],
        ..Refusal::new(422, "A field is not what it should be")
    }
}

/// Sends it, to its audience or to the test device only.
pub(in crate::console) async fn send(
    State(console): State<Here>,
    Path(app): Path<String>,
    posted: Posted,
) -> Response {
    let Posted { visitor, fields } = posted;
    if fields.is("action", "count") {
        let counted = counted(&console, &visitor, &app, &fields).await;
        return visitor.answer(
            Some(&app),
            counted.map(|body| Page::new(visitor.texts().audience_count, "compose", body)),
        );
    }
    let is_test = fields.is("action", "test");
    match accept(&console, &visitor, &app, &fields, is_test).await {
        Ok(Made::Message(id)) => {
            let what = match is_test {
                true => "done_tested",
                false if fields.is("when", "later") => "done_saved",
                false => "done_sent",
            };
            done(&format!("/console/apps/{app}/messages/{}", encode(&id)), what)
        }
        Ok(Made::Schedule(id)) => {
            done(&format!("/console/apps/{app}/schedules/{}", encode(&id)), "done_saved")
        }
        Err(refused) => {
            let status = StatusCode::from_u16(refused.status).unwrap_or(StatusCode::UNPROCESSABLE_ENTITY);
            let page = form(&console, &visitor, &app, &Filled { fields, refusal: Some(refused) }).await;
            visitor.answer_as(status, Some(&app), Ok(page))
        }
    }
}

/// What a form became.
enum Made {
    Message(String),
    Schedule(String),
}

async fn accept(
    console: &Here,
    visitor: &Visitor,
    app: &str,
    fields: &Fields,
    is_test: bool,
) -> Result<Made, Refusal> {
    let mut body = message(fields)?;
    let audience = match is_test {
        true => {
            json!({"devices": [fields.some("test_device").ok_or_else(|| wrong_field("/audience/devices", visitor.texts().test_device_missing))?]})
        }
        false => audience(fields),
    };
    body.insert("audience".to_owned(), audience);
    // A form that is sent twice is one message; a test of it is another one than the message itself.
    let key = format!("console-{}-{}", if is_test { secret() } else { String::new() }, fields.text("nonce"));
    let headers = [("idempotency-key", key.as_str())];
    let (base, caller) = (format!("/v1/apps/{}", encode(app)), &visitor.caller);
    let id = |answer: &Value| answer.get("id").and_then(Value::as_str).unwrap_or_default().to_owned();
    match (fields.some("schedule"), is_test) {
        (Some(known), false) => {
            let path = format!("{base}/schedules/{}", encode(known));
            let kept = console.door.put(caller, &path, &schedule(fields, body)).await?;
            return Ok(Made::Schedule(id(&kept)));
        }
        (None, false) if fields.is("when", "again") => {
            let (path, body) = (format!("{base}/schedules"), schedule(fields, body));
            let made = console.door.call(caller, Method::POST, &path, &headers, Some(&body)).await?;
            return Ok(Made::Schedule(id(&made.json())));
        }
        (None, false) if fields.is("when", "later") => {
            let mut moment = moment(fields);
            moment.insert("not_before".to_owned(), fields.text("not_before").into());
            if let Some(Value::Object(delivery)) = body.get_mut("delivery") {
                delivery.extend(moment);
            }
        }
        (_, _) => {}
    }
    let path = format!("{base}/messages");
    let sent = console.door.call(caller, Method::POST, &path, &headers, Some(&Value::Object(body))).await?;
    Ok(Made::Message(id(&sent.json())))
}

/// How many devices the audience has, for the script.
pub(in crate::console) async fn count(
    State(console): State<Here>,
    Path(app): Path<String>,
    posted: Posted,
) -> Response {
    fragment(counted(&console, &posted.visitor, &app, &posted.fields).await)
}

async fn counted(console: &Here, visitor: &Visitor, app: &str, fields: &Fields) -> Result<Markup, Refusal> {
    visitor.check(app, Access::Send)?;
    let base = format!("/v1/apps/{}", encode(app));
    let asked = json!({"audience": audience(fields)});
    let counted = console.door.post(&visitor.caller, &format!("{base}/audiences:estimate"), &asked).await;
    let rehearsed = match message(fields) {
        // What is wrong with the content is said when it is sent, not while it is typed.
        Ok(mut body) if counted.is_ok() && has_content(&body) => {
            body.insert("audience".to_owned(), audience(fields));
            let path = format!("{base}/messages:validate");
            console.door.post(&visitor.caller, &path, &Value::Object(body)).await.ok()
        }
        Ok(_) | Err(_) => None,
    };
    Ok(count_view(&visitor.context(Some(app)), &counted, rehearsed.as_ref()))
}

fn has_content(body: &Map<String, Value>) -> bool {
    ["notification", "data", "template"].iter().any(|name| body.contains_key(*name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_form_becomes_the_body_that_the_api_takes() {
        let fields = Fields::of(&[
            ("kind", "tags"),
            ("tags", "vip, beta"),
            ("title", "到了"),
            ("click", "app://x"),
            ("data", "{\"order\": 7}"),
            ("ttl_h", "2"),
            ("strategy", "online_first"),
            ("campaign", ""),
            ("policy", "marketing"),
            ("urgent", "true"),
        ]);
        let wanted = json!({
            "notification": {"title": "到了", "click": {"url": "app://x"}},
            "data": {"order": 7},
            "delivery": {"strategy": "online_first", "ttl_s": 7200, "urgent": true},
            "policy": "marketing",
        });
        assert_eq!(Value::Object(message(&fields).unwrap()), wanted);
        assert_eq!(audience(&fields), json!({"tags": ["vip", "beta"]}));
        for (name, value, pointer) in
            [("data", "{", "/data"), ("data", "[1]", "/data"), ("ttl_h", "x", "/delivery/ttl_s")]
        {
            let refused = message(&Fields::of(&[(name, value)])).unwrap_err();
            assert_eq!(refused.errors[0].0, pointer);
        }
    }

    #[test]
    fn a_form_for_later_and_again_becomes_what_the_api_takes() {
        let fields = Fields::of(&[
            ("when", "again"),
            ("cron", "0 9 * * *"),
            ("clock", "recipient"),
            ("timezone", "Asia/Shanghai"),
            ("until", "2027-01-01T00:00"),
            ("missed", "skip"),
            ("schedule_name", "digest"),
            ("template", "digest@2"),
            ("rate_per_s", "500"),
        ]);
        let message = message(&fields).unwrap();
        let wanted = json!({
            "name": "digest", "when": {"cron": "0 9 * * *"}, "timezone": "recipient", "default_timezone": "Asia/Shanghai",
            "until": "2027-01-01T00:00", "missed": "skip",
            "message": {"template": "digest@2", "delivery": {"rate_per_s": 500}},
        });
        assert_eq!(schedule(&fields, message), wanted);
        let zone = Fields::of(&[("clock", "zone"), ("timezone", "Europe/Berlin")]);
        assert_eq!(Value::Object(moment(&zone)), json!({"timezone": "Europe/Berlin"}));
    }

    #[test]
    fn every_kind_of_audience_is_one_of_the_api() {
        for (kind, wanted) in [
            ("all", json!({"all": true})),
            ("users", json!({"aliases": {"user": ["a", "b"]}})),
            ("devices", json!({"devices": ["d"]})),
            ("expr", json!({"expr": "tag:x & online"})),
        ] {
            let fields = Fields::of(&[
                ("kind", kind),
                ("users", "a\nb"),
                ("devices", "d"),
                ("expr", " tag:x & online "),
            ]);
            assert_eq!(audience(&fields), wanted, "{kind}");
        }
    }
}
