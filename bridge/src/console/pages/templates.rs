//! Templates: seen, written in languages, tried, removed.

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::Response;
use serde_json::{Map, Value, json};

use super::compose::wrong_field;
use super::{Page, done};
use crate::apps::Access;
use crate::console::Here;
use crate::console::door::{Refusal, encode};
use crate::console::form::{Fields, Posted};
use crate::console::view::broker::items;
use crate::console::view::fields::Filled;
use crate::console::view::templates::{actions, detail, list as list_view, slots};
use crate::console::visitor::Visitor;
use crate::languages::DEFAULT;

/// The list, and the form for another.
pub(in crate::console) async fn list(
    visitor: Visitor,
    State(console): State<Here>,
    Path(app): Path<String>,
) -> Response {
    let made = list_page(&console, &visitor, &app, &Filled::default()).await;
    visitor.answer(Some(&app), made)
}

async fn list_page(console: &Here, visitor: &Visitor, app: &str, filled: &Filled) -> Result<Page, Refusal> {
    visitor.check(app, Access::Read)?;
    let path = format!("/v1/apps/{}/templates?limit=1000", encode(app));
    let found = console.door.get(&visitor.caller, &path).await?;
    let context = visitor.context(Some(app));
    Ok(Page::new(context.texts.templates, "templates", list_view(&context, items(&found), filled)))
}

fn path(app: &str, name: &str) -> String {
    format!("/v1/apps/{}/templates/{}", encode(app), encode(name))
}

/// One with what its readers see, and the form for its next version.
pub(in crate::console) async fn show(
    visitor: Visitor,
    State(console): State<Here>,
    Path((app, name)): Path<(String, String)>,
) -> Response {
    let made = detail_page(&console, &visitor, &app, &name, None).await;
    visitor.answer(Some(&app), made)
}

async fn detail_page(
    console: &Here,
    visitor: &Visitor,
    app: &str,
    name: &str,
    refused: Option<Filled>,
) -> Result<Page, Refusal> {
    visitor.check(app, Access::Read)?;
    let found = console.door.get(&visitor.caller, &path(app, name)).await?;
    let mut previews = Vec::new();
    for language in found.get("texts").and_then(Value::as_object).into_iter().flat_map(Map::keys) {
        let asked = json!({"language": language});
        let tried = console.door.post(&visitor.caller, &format!("{}:render", path(app, name)), &asked).await;
        previews.push((language.clone(), tried));
    }
    let filled = refused.unwrap_or_else(|| Filled { fields: fields_of(&found), refusal: None });
    let context = visitor.context(Some(app));
    Ok(Page {
        title: name.to_owned(),
        section: "templates",
        actions: Some(actions(&context, name)),
        body: detail(&context, &found, &previews, &filled),
    })
}

/// The form of a template as it is.
fn fields_of(template: &Value) -> Fields {
    let text =
        |value: &Value, name: &str| value.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
    let mut pairs = vec![
        ("name".to_owned(), text(template, "name")),
        ("description".to_owned(), text(template, "description")),
    ];
    if let Some(sample) = template.get("sample") {
        pairs.push(("sample".to_owned(), sample.to_string()));
    }
    let texts = template.get("texts").and_then(Value::as_object);
    let default = texts.and_then(|texts| texts.get_key_value(DEFAULT));
    let others = texts.into_iter().flatten().filter(|(language, _)| *language != DEFAULT);
    for (at, (language, texts)) in default.into_iter().chain(others).enumerate() {
        pairs.push((format!("language-{at}"), language.clone()));
        pairs.push((format!("title-{at}"), text(texts, "title")));
        pairs.push((format!("body-{at}"), text(texts, "body")));
    }
    let pairs: Vec<_> = pairs.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    Fields::of(&pairs)
}

/// The body that the API takes. What the form does not show, such as pictures, stays as it is in `old`.
fn body(fields: &Fields, old: Option<&Value>) -> Result<Value, Refusal> {
    let mut texts = Map::new();
    for at in 0..slots(fields) {
        let language = if at == 0 { Some(DEFAULT) } else { fields.some(&format!("language-{at}")) };
        let Some(language) = language else { continue };
        let pointer = format!("/texts/{language}");
        let kept = old.and_then(|old| old.pointer(&pointer)).and_then(Value::as_object).cloned();
        let mut own = kept.unwrap_or_default();
        for name in ["title", "body"] {
            match fields.some(&format!("{name}-{at}")) {
                Some(text) => own.insert(name.to_owned(), text.into()),
                None => own.remove(name),
            };
        }
        texts.insert(language.to_owned(), Value::Object(own));
    }
    let mut body = Map::from_iter([("texts".to_owned(), Value::Object(texts))]);
    body.insert("description".to_owned(), fields.text("description").into());
    if let Some(sample) = fields.some("sample") {
        let read = serde_json::from_str::<Map<String, Value>>(sample);
        let sample = read.map_err(|error| wrong_field("/sample", &error.to_string()))?;
        body.insert("sample".to_owned(), Value::Object(sample));
    }
    Ok(Value::Object(body))
}

/// Makes a new version, or a new template.
pub(in crate::console) async fn save(
    State(console): State<Here>,
    Path(app): Path<String>,
    posted: Posted,
) -> Response {
    let Posted { visitor, fields } = posted;
    let name = fields.text("name").to_owned();
    let path = path(&app, &name);
    let saved = async {
        let old = console.door.get(&visitor.caller, &path).await.ok();
        console.door.put(&visitor.caller, &path, &body(&fields, old.as_ref())?).await
    };
    match saved.await {
        Ok(_) => done(&format!("/console/apps/{app}/templates/{}", encode(&name)), "done_saved"),
        Err(refused) => {
            let is_known = fields.is("is_known", "true");
            let filled = Filled { fields, refusal: Some(refused) };
            let made = match is_known {
                true => detail_page(&console, &visitor, &app, &name, Some(filled)).await,
                false => list_page(&console, &visitor, &app, &filled).await,
            };
            visitor.answer_as(StatusCode::UNPROCESSABLE_ENTITY, Some(&app), made)
        }
    }
}

/// Removes one with every version.
pub(in crate::console) async fn remove(
    State(console): State<Here>,
    Path((app, name)): Path<(String, String)>,
    posted: Posted,
) -> Response {
    match console.door.delete(&posted.visitor.caller, &path(&app, &name)).await {
        Ok(_) => done(&format!("/console/apps/{app}/templates"), "done_removed"),
        Err(refused) => posted.visitor.answer(Some(&app), Err(refused)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_template_becomes_a_form_and_the_form_the_same_template() {
        let texts = json!({
            "default": {"title": "Order {{ order }}", "image": "https://x"},
            "pt": {"title": "Pedido", "body": "{{ order }}"},
        });
        let template = json!({"name": "order", "description": "d", "texts": texts, "sample": {"order": 7}});
        let made = body(&fields_of(&template), Some(&template)).unwrap();
        assert_eq!(made, json!({"description": "d", "texts": texts, "sample": {"order": 7}}));
        let wrong = body(&Fields::of(&[("title-0", "x"), ("sample", "[1]")]), None).unwrap_err();
        assert_eq!(wrong.errors[0].0, "/sample");
    }
}
