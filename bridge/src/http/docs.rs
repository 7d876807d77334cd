//! `/v1/docs`: the description of the API as a page to read, made once from the document itself. No script, and nothing from
//! elsewhere.

use axum::http::{HeaderName, HeaderValue, header};
use axum::response::{IntoResponse, Response};
use maud::{DOCTYPE, Markup, html};
use serde_json::{Map, Value};

/// Nothing but the style beside the page.
const CONTENT_SECURITY_POLICY: &str =
    "default-src 'none'; style-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";
const STYLE: &str = include_str!("docs/style.css");
/// In the order in which a reader looks for them.
const METHODS: [&str; 5] = ["get", "post", "put", "patch", "delete"];
/// Objects within objects that are written out; what lies deeper is shown by its type.
const NESTING_MAX: usize = 6;

/// The page.
pub(super) fn page(document: &str) -> String {
    let document: Value = serde_json::from_str(document).unwrap_or_default(); // it was made from values just now
    let text = |pointer: &str| document.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
    let tags: Vec<_> = list(&document, "/tags").collect();
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                title { (text("/info/title")) " " (text("/info/version")) }
                link rel="stylesheet" href="/v1/docs/style.css";
            }
            body {
                header {
                    h1 { (text("/info/title")) " " small { (text("/info/version")) } }
                    p { (text("/info/description")) " The same for programs: " a href="/v1/openapi.json" { "openapi.json" } ", OpenAPI " (text("/openapi")) "." }
                    p { "Every call but those marked " em { "open" } " needs " code { "Authorization: Bearer <key>" } ". Whatever is no success is a "
                        a href="#schema-Problem" { "Problem" } " as " code { "application/problem+json" } "." }
                    nav aria-label="Contents" {
                        ul { @for tag in &tags { li { a href={ "#tag-" (name(tag)) } { (name(tag)) } } } li { a href="#schemas" { "schemas" } } }
                    }
                }
                main {
                    @for tag in &tags { (section(&document, tag)) }
                    section id="schemas" {
                        h2 { "schemas" }
                        @for (name, schema) in fields(&document, "/components/schemas") {
                            article id={ "schema-" (name) } { h3 { (name) } (described(schema)) (shape(schema, 0)) }
                        }
                    }
                }
            }
        }
    }
    .into_string()
}

fn list<'a>(value: &'a Value, pointer: &str) -> impl Iterator<Item = &'a Value> + use<'a> {
    value.pointer(pointer).and_then(Value::as_array).into_iter().flatten()
}

fn fields<'a>(value: &'a Value, pointer: &str) -> impl Iterator<Item = (&'a String, &'a Value)> + use<'a> {
    value.pointer(pointer).and_then(Value::as_object).into_iter().flat_map(Map::iter)
}

fn text<'a>(value: &'a Value, field: &str) -> &'a str {
    value.get(field).and_then(Value::as_str).unwrap_or_default()
}

fn name(value: &Value) -> &str {
    text(value, "name")
}

fn described(value: &Value) -> Markup {
    html! { @if !text(value, "description").is_empty() { p { (text(value, "description")) } } }
}

fn section(document: &Value, tag: &Value) -> Markup {
    let has_tag = |operation: &Value| list(operation, "/tags").any(|one| one.as_str() == Some(name(tag)));
    html! {
        section id={ "tag-" (name(tag)) } {
            h2 { (name(tag)) }
            (described(tag))
            @for (path, item) in fields(document, "/paths") {
                @for method in METHODS {
                    @if let Some(said) = item.get(method).filter(|said| has_tag(said)) { (operation(method, path, said)) }
                }
            }
        }
    }
}

fn operation(method: &str, path: &str, said: &Value) -> Markup {
    let is_open = said.get("security").is_some_and(|security| *security == serde_json::json!([{}]));
    let id = text(said, "operationId");
    html! {
        article id=(id) {
            h3 {
                a href={ "#" (id) } { span class={ "method " (method) } { (method.to_uppercase()) } " " code { (path) } }
                @if is_open { " " em { "open" } }
            }
            p { (text(said, "summary")) }
            (described(said))
            @if list(said, "/parameters").next().is_some() {
                table {
                    thead { tr { th scope="col" { "parameter" } th scope="col" { "in" } th scope="col" { "type" } th scope="col" { "meaning" } } }
                    tbody {
                        @for one in list(said, "/parameters") {
                            tr {
                                td { code { (name(one)) } @if one.get("required") == Some(&Value::Bool(true)) { " *" } }
                                td { (text(one, "in")) }
                                td { @if let Some(schema) = one.get("schema") { (kind(schema)) (bounds(schema)) } }
                                td { (text(one, "description")) }
                            }
                        }
                    }
                }
            }
            @for (kind, content) in fields(said, "/requestBody/content") {
                details { summary { "Body: " code { (kind) } } @if let Some(schema) = content.get("schema") { (shape(schema, 0)) } }
            }
            @for (status, answer) in fields(said, "/responses").filter(|(status, _)| *status != "default") {
                details {
                    summary { code { (status) } " " (text(answer, "description")) }
                    @for (kind, content) in fields(answer, "/content") {
                        p { code { (kind) } }
                        @if let Some(schema) = content.get("schema") { (shape(schema, 0)) }
                    }
                }
            }
        }
    }
}

/// What a schema is called in a line.
fn kind(schema: &Value) -> Markup {
    if let Some(to) = schema.get("$ref").and_then(Value::as_str) {
        let to = to.rsplit('/').next().unwrap_or_default();
        return html! { a href={ "#schema-" (to) } { (to) } };
    }
    let several = ["oneOf", "anyOf", "allOf"].into_iter().flat_map(|word| list(schema, &format!("/{word}")));
    let several: Vec<_> = several.collect();
    if !several.is_empty() {
        return html! { @for (n, one) in several.iter().enumerate() { @if n > 0 { " or " } (kind(one)) } };
    }
    if schema.get("items").is_some() {
        return html! { "list of " @if let Some(items) = schema.get("items") { (kind(items)) } };
    }
    let types = match schema.get("type") {
        Some(Value::Array(types)) => types.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(" or "),
        Some(Value::String(one)) => one.clone(),
        _ => "anything".to_owned(),
    };
    html! { (types) }
}

/// What bounds a value, and what it may be.
fn bounds(schema: &Value) -> Markup {
    let words = [
        ("minimum", "at least"),
        ("maximum", "at most"),
        ("minLength", "characters, at least"),
        ("maxLength", "characters, at most"),
        ("minItems", "entries, at least"),
        ("maxItems", "entries, at most"),
        ("default", "else"),
        ("example", "such as"),
    ];
    html! {
        @for (field, words) in words {
            @if let Some(value) = schema.get(field).filter(|value| !value.is_object()) { "; " (words) " " code { (plain(value)) } }
        }
        @if schema.get("enum").is_some() {
            ": " @for (n, value) in list(schema, "/enum").enumerate() { @if n > 0 { ", " } code { (plain(value)) } }
        }
    }
}

fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

/// A schema written out.
fn shape(schema: &Value, nesting: usize) -> Markup {
    let required: Vec<_> = list(schema, "/required").filter_map(Value::as_str).collect();
    if schema.get("properties").is_none() || nesting > NESTING_MAX {
        return html! { p { (kind(schema)) (bounds(schema)) } };
    }
    html! {
        dl {
            @for (name, field) in fields(schema, "/properties") {
                dt { code { (name) } @if required.contains(&name.as_str()) { " *" } " " span class="kind" { (kind(field)) (bounds(field)) } }
                dd {
                    (text(field, "description"))
                    @if field.get("properties").is_some() { (shape(field, nesting + 1)) }
                    @if let Some(items) = field.get("items").filter(|items| items.get("properties").is_some()) { (shape(items, nesting + 1)) }
                }
            }
        }
    }
}

/// The answer of `/v1/docs`.
pub(super) fn answer(page: &str) -> Response {
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8")),
        (header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(CONTENT_SECURITY_POLICY)),
        (header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
        (header::REFERRER_POLICY, HeaderValue::from_static("no-referrer")),
    ];
    (headers, page.to_owned()).into_response()
}

/// The answer of `/v1/docs/style.css`.
pub(super) async fn style() -> ([(HeaderName, &'static str); 1], &'static str) {
    ([(header::CONTENT_TYPE, "text/css; charset=utf-8")], STYLE)
}
