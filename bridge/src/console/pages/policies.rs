//! Policies: seen, made, changed, removed. The form becomes the body that the API takes; the API says what is wrong.

use axum::extract::{Path, State};
use axum::http::{Method, StatusCode};
use axum::response::Response;
use serde_json::{Map, Value, json};

use super::compose::wrong_field;
use super::{Page, done};
use crate::apps::Access;
use crate::console::Here;
use crate::console::door::{Refusal, encode};
use crate::console::form::{Fields, Posted, Query};
use crate::console::view::fields::Filled;
use crate::console::view::policies::{actions, form, list as list_view, window};
use crate::console::visitor::Visitor;
use crate::policies::{self, CAPS_MAX, Cap, Coalesce, Policy, Then};

/// A day, in seconds.
const DAY_S: u32 = 86_400;

/// The list.
pub(in crate::console) async fn list(
    visitor: Visitor,
    State(console): State<Here>,
    Path(app): Path<String>,
) -> Response {
    let made = async {
        let id = visitor.check(&app, Access::Read)?;
        let all = console.shared.store.read(move |tx| policies::all(tx, &id)).await?;
        let context = visitor.context(Some(&app));
        let body = list_view(&context, &all);
        Ok(Page { actions: actions(&context), ..Page::new(context.texts.policies, "policies", body) })
    };
    visitor.answer(Some(&app), made.await)
}

/// The form: empty, or with a policy.
pub(in crate::console) async fn edit(
    visitor: Visitor,
    State(console): State<Here>,
    Path(app): Path<String>,
    Query(query): Query,
) -> Response {
    let made = async {
        visitor.check(&app, Access::Send)?;
        let Some(name) = query.some("name") else { return Ok(page(&visitor, &app, &Filled::default())) };
        let path = path(&app, name);
        let shown = console.door.call(&visitor.caller, Method::GET, &path, &[], None).await?;
        let etag = shown.headers.get("etag").and_then(|etag| etag.to_str().ok()).unwrap_or_default();
        let policy: Policy =
            serde_json::from_str(&shown.text).map_err(|error| Refusal::new(500, error.to_string()))?;
        Ok(page(&visitor, &app, &Filled { fields: fields_of(&policy, etag), refusal: None }))
    };
    visitor.answer(Some(&app), made.await)
}

fn path(app: &str, name: &str) -> String {
    format!("/v1/apps/{}/policies/{}", encode(app), encode(name))
}

fn page(visitor: &Visitor, app: &str, filled: &Filled) -> Page {
    let context = visitor.context(Some(app));
    let is_new = filled.fields.some("etag").is_none();
    let title = if is_new { context.texts.add_policy } else { filled.fields.text("name") };
    Page::new(title, "policies", form(&context, filled, is_new))
}

/// The fields that a policy would have been made of.
fn fields_of(policy: &Policy, etag: &str) -> Fields {
    let mut fields: Vec<(String, String)> = Vec::new();
    let mut add = |name: &str, value: String| fields.push((name.to_owned(), value));
    add("etag", etag.to_owned());
    add("name", policy.name.clone());
    add("description", policy.description.clone());
    add("categories", policy.categories.iter().map(String::as_str).collect::<Vec<_>>().join(", "));
    for (row, cap) in policy.caps.iter().enumerate() {
        let Cap { max, window_s, tag, category, then } = cap;
        let (count, unit) = window(*window_s);
        add(&format!("cap_max_{row}"), max.to_string());
        add(&format!("cap_count_{row}"), count.to_string());
        add(&format!("cap_unit_{row}"), unit.to_owned());
        add(&format!("cap_then_{row}"), then_of(*then).to_owned());
        add(&format!("cap_tag_{row}"), tag.clone().unwrap_or_default());
        add(&format!("cap_category_{row}"), category.clone().unwrap_or_default());
    }
    if let Some(quiet) = &policy.quiet_hours {
        add("quiet_from", quiet.from.into());
        add("quiet_to", quiet.to.into());
        add("quiet_timezone", quiet.timezone.clone());
        add("quiet_then", then_of(quiet.then).to_owned());
    }
    match &policy.coalesce {
        Coalesce::Every => {}
        Coalesce::FirstOnly => add("coalesce", "first_only".to_owned()),
        Coalesce::Digest(digest) => {
            add("coalesce", "digest".to_owned());
            add("digest_after", digest.after.to_string());
            add("digest_text", digest.text.clone());
        }
    }
    add("save_quota", if policy.save_quota { "true" } else { "" }.to_owned());
    add("rate_per_s", policy.rate_per_s.map(|rate| rate.to_string()).unwrap_or_default());
    let fields: Vec<(&str, &str)> =
        fields.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    Fields::of(&fields)
}

fn then_of(then: Then) -> &'static str {
    match then {
        Then::Delay => "delay",
        Then::Drop => "drop",
    }
}

/// The body of the API's `PUT`.
fn body(fields: &Fields) -> Result<Value, Refusal> {
    let mut body = Map::from_iter([
        ("description".to_owned(), fields.text("description").into()),
        ("categories".to_owned(), fields.list("categories").into()),
        ("caps".to_owned(), caps(fields)?.into()),
        ("save_quota".to_owned(), fields.is("save_quota", "true").into()),
        ("rate_per_s".to_owned(), number(fields, "rate_per_s", "/rate_per_s")?.into()),
    ]);
    if fields.some("quiet_from").or(fields.some("quiet_to")).is_some() {
        body.insert("quiet_hours".to_owned(), quiet(fields));
    }
    let coalesce = match fields.text("coalesce") {
        "first_only" => json!("first_only"),
        "digest" => json!({"digest": digest(fields)?}),
        _ => json!("every"),
    };
    body.insert("coalesce".to_owned(), coalesce);
    Ok(Value::Object(body))
}

fn quiet(fields: &Fields) -> Value {
    let parts = ["from", "to", "timezone", "then"].into_iter();
    let given = parts.filter_map(|part| Some((part, fields.some(&format!("quiet_{part}"))?)));
    given.map(|(part, text)| (part.to_owned(), Value::from(text))).collect::<Map<_, _>>().into()
}

fn digest(fields: &Fields) -> Result<Value, Refusal> {
    let after = number(fields, "digest_after", "/coalesce/digest/after")?.unwrap_or(0);
    Ok(match fields.some("digest_text") {
        Some(text) => json!({"after": after, "text": text}),
        None => json!({"after": after}),
    })
}

fn caps(fields: &Fields) -> Result<Vec<Value>, Refusal> {
    let mut caps = Vec::new();
    for row in 0..CAPS_MAX {
        let name = |field: &str| format!("cap_{field}_{row}");
        let at = |field: &str| format!("/caps/{}/{field}", caps.len());
        let Some(max) = number(fields, &name("max"), &at("max"))? else { continue };
        let count = number(fields, &name("count"), &at("window_s"))?.unwrap_or(1);
        let unit = number(fields, &name("unit"), &at("window_s"))?.unwrap_or(DAY_S);
        let texts = ["tag", "category", "then"].into_iter();
        let given = texts.filter_map(|field| Some((field.to_owned(), fields.some(&name(field))?.into())));
        let mut cap: Map<String, Value> = given.collect();
        cap.insert("max".to_owned(), max.into());
        cap.insert("window_s".to_owned(), count.saturating_mul(unit).into());
        caps.push(Value::Object(cap));
    }
    Ok(caps)
}

fn number(fields: &Fields, name: &str, pointer: &str) -> Result<Option<u32>, Refusal> {
    let read = |text: &str| text.parse().map_err(|_| wrong_field(pointer, "is a whole number"));
    fields.some(name).map(read).transpose()
}

/// Makes a policy, or replaces the one that was seen.
pub(in crate::console) async fn save(
    State(console): State<Here>,
    Path(app): Path<String>,
    posted: Posted,
) -> Response {
    let Posted { visitor, fields } = posted;
    let saved = async {
        let body = body(&fields)?;
        let seen = fields.some("etag").map(|etag| ("if-match", etag));
        let path = path(&app, fields.text("name"));
        console.door.call(&visitor.caller, Method::PUT, &path, seen.as_slice(), Some(&body)).await
    };
    match saved.await {
        Ok(_) => done(&format!("/console/apps/{app}/policies"), "done_saved"),
        Err(refused) => {
            let made = page(&visitor, &app, &Filled { fields, refusal: Some(refused) });
            visitor.answer_as(StatusCode::UNPROCESSABLE_ENTITY, Some(&app), Ok(made))
        }
    }
}

/// Removes a policy.
pub(in crate::console) async fn remove(
    State(console): State<Here>,
    Path(app): Path<String>,
    posted: Posted,
) -> Response {
    match console.door.delete(&posted.visitor.caller, &path(&app, posted.fields.text("name"))).await {
        Ok(_) => done(&format!("/console/apps/{app}/policies"), "done_removed"),
        Err(refused) => posted.visitor.answer(Some(&app), Err(refused)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_policy_becomes_a_form_and_the_form_the_same_policy() {
        let whole = json!({
            "name": "p", "description": "d", "categories": ["A", "B"], "save_quota": true, "rate_per_s": 5,
            "caps": [
                {"max": 3, "window_s": 86_400, "tag": "vip", "then": "drop"},
                {"max": 1, "window_s": 5_400, "category": "NEWS", "then": "delay"},
            ],
            "quiet_hours": {"from": "22:00", "to": "08:00", "timezone": "Asia/Shanghai", "then": "delay"},
            "coalesce": {"digest": {"after": 2, "text": "{n}"}}, "created_at_ms": 1, "updated_at_ms": 2,
        });
        let bare = json!({
            "name": "p", "description": "", "categories": [], "save_quota": false, "rate_per_s": null,
            "caps": [], "quiet_hours": null, "coalesce": "first_only", "created_at_ms": 1, "updated_at_ms": 2,
        });
        for wanted in [whole, bare] {
            let policy: Policy = serde_json::from_value(wanted.clone()).unwrap();
            let mut made = body(&fields_of(&policy, "e")).unwrap();
            for name in ["name", "created_at_ms", "updated_at_ms"] {
                made[name] = wanted[name].clone();
            }
            if made.get("quiet_hours").is_none() {
                made["quiet_hours"] = Value::Null;
            }
            let made: Policy = serde_json::from_value(made).unwrap();
            assert_eq!(made, policy);
        }
    }

    #[test]
    fn an_empty_row_is_no_cap_and_a_word_is_no_number() {
        let fields = Fields::of(&[
            ("cap_max_0", ""),
            ("cap_max_3", "2"),
            ("cap_count_3", "2"),
            ("cap_unit_3", "3600"),
        ]);
        assert_eq!(caps(&fields).unwrap(), [json!({"max": 2, "window_s": 7_200})]);
        for (name, pointer) in [("cap_max_0", "/caps/0/max"), ("rate_per_s", "/rate_per_s")] {
            let refused = body(&Fields::of(&[(name, "x")])).unwrap_err();
            assert_eq!(refused.errors[0].0, pointer);
        }
    }
}
