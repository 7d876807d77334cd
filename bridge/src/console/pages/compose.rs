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
use crate::console::view::compose::{compose, count as count_view};
use crate::console::view::fields::Filled;
use crate::console::visitor::Visitor;
use crate::messages::{self, Message};

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
        if let Some(clone) = query.some("clone").and_then(|clone| MessageId::parse(clone).ok()) {
            visitor.check(&app, Access::Read)?;
            let message = console.shared.store.read(move |tx| messages::load(tx, &id, clone)).await?;
            fields = message.map(|message| clone_of(&message)).unwrap_or_default();
        }
        Ok(form(&visitor, &app, &Filled { fields, refusal: None }))
    };
    visitor.answer(Some(&app), made.await)
}

fn form(visitor: &Visitor, app: &str, filled: &Filled) -> Page {
    let context = visitor.context(Some(app));
    let nonce = filled.fields.some("nonce").map_or_else(secret, str::to_owned);
    Page::new(context.texts.compose_title, "compose", compose(&context, filled, &nonce))
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
    Fields::of(&[
        ("kind", kind),
        ("devices", &devices),
        ("tags", &tags),
        ("users", &users),
        ("expr", &expr),
        ("title", &notification.title.unwrap_or_default()),
        ("body", &notification.body.unwrap_or_default()),
        ("image", &notification.image.unwrap_or_default()),
        ("click", &notification.click.map(|click| click.url).unwrap_or_default()),
        ("category", &notification.category.unwrap_or_default()),
        ("data", &data),
        ("strategy", message.strategy.name()),
        ("collapse_key", message.collapse_key.as_deref().unwrap_or_default()),
        ("campaign", message.campaign.as_deref().unwrap_or_default()),
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
    let mut body = fields.object(&["campaign"]);
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
        Ok(id) => done(
            &format!("/console/apps/{app}/messages/{}", encode(&id)),
            if is_test { "done_tested" } else { "done_sent" },
        ),
        Err(refused) => {
            let status = StatusCode::from_u16(refused.status).unwrap_or(StatusCode::UNPROCESSABLE_ENTITY);
            let page = form(&visitor, &app, &Filled { fields, refusal: Some(refused) });
            visitor.answer_as(status, Some(&app), Ok(page))
        }
    }
}

async fn accept(
    console: &Here,
    visitor: &Visitor,
    app: &str,
    fields: &Fields,
    is_test: bool,
) -> Result<String, Refusal> {
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
    let path = format!("/v1/apps/{}/messages", encode(app));
    let headers = [("idempotency-key", key.as_str())];
    let sent =
        console.door.call(&visitor.caller, Method::POST, &path, &headers, Some(&Value::Object(body))).await?;
    Ok(sent.json().get("id").and_then(Value::as_str).unwrap_or_default().to_owned())
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
    body.contains_key("notification") || body.contains_key("data")
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
        ]);
        let wanted = json!({
            "notification": {"title": "到了", "click": {"url": "app://x"}},
            "data": {"order": 7},
            "delivery": {"strategy": "online_first", "ttl_s": 7200},
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
