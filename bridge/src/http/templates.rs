//! `/v1/apps/{app}/templates`: texts with placeholders, under a name, in versions and languages.

use std::collections::BTreeMap;

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::IntoResponse;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use utoipa::ToSchema;

use super::Api;
use super::body::{Errors, Json, Params};
use super::etag::{self, IfMatch};
use super::guard::{Guarded, READ, SEND};
use super::paging::{Listed, Page, PageQuery};
use super::problem::{Errno, Problem};
use crate::devices;
use crate::languages::DEFAULT;
use crate::messages::{Content, Texts};
use crate::schedules;
use crate::store::{Order, Tx};
use crate::templates::{self, Reference, TEMPLATES_MAX, Template, WrongText, is_template_name};

const DESCRIPTION_MAX: usize = 256;
const SAMPLE_BYTES_MAX: usize = 16 * 1024;

/// What a template says.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct TemplateBody {
    /// By language, such as `pt-BR`; `default` is for all others. Placeholders: `{{ order.id }}` from the message's
    /// data, `{{ device.city }}` from the device.
    texts: BTreeMap<String, Texts>,
    /// A word for people.
    #[serde(default)]
    description: String,
    /// Data to try it with; if they are given they must fill every placeholder.
    #[serde(default)]
    #[schema(value_type = Object)]
    sample: Map<String, Value>,
}

/// One version of a template, and which there are.
#[derive(Serialize, ToSchema)]
pub(super) struct TemplateShown {
    #[serde(flatten)]
    template: Template,
    /// Versions that are kept, oldest first.
    versions: Vec<u64>,
}

/// With what to fill a template, and for whom.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct RenderBody {
    /// As in a message; without it the template's own sample.
    #[schema(value_type = Option<Object>)]
    data: Option<Map<String, Value>>,
    /// Of the reader, such as `pt-BR`.
    language: Option<String>,
    /// A device that fills the placeholders that speak of it, and whose language counts if none is given.
    device: Option<String>,
}

/// What a reader would see.
#[derive(Serialize, ToSchema)]
pub(super) struct Rendered {
    /// With the version.
    template: String,
    /// Which of its languages it is.
    language: String,
    /// The filled texts.
    texts: Texts,
}

/// Makes a new version of a template; one that says the same as the newest changes nothing.
#[utoipa::path(
    put,
    path = "/v1/apps/{app}/templates/{template}",
    tag = "planning",
    request_body = TemplateBody,
    responses((status = 200, description = "The newest version", body = Template), (status = 201, description = "The first version", body = Template)),
)]
pub(super) async fn set(
    Guarded { app, .. }: Guarded<SEND>,
    Params((_, name)): Params<(String, String)>,
    headers: HeaderMap,
    State(shared): State<Api>,
    Json(body, _): Json<TemplateBody>,
) -> Result<impl IntoResponse, Problem> {
    let template = checked(name, body)?;
    let if_match = IfMatch::of(&headers);
    let (status, template) = shared
        .store
        .write(move |tx| {
            let newest = templates::find(tx, &app, &template.name, None)?;
            if_match.check(newest.as_ref())?;
            let is_new = newest.is_none();
            if is_new && templates::are_full(tx, &app)? {
                return Err(Problem::because(Errno::TooManyTemplates, format!("at most {TEMPLATES_MAX}")));
            }
            let created_at_ms = tx.now_ms();
            let template = templates::save(tx, &app, Template { created_at_ms, ..template })?;
            Ok((if is_new { StatusCode::CREATED } else { StatusCode::OK }, template))
        })
        .await?;
    Ok((status, etag::header(&template), axum::Json(template)))
}

fn checked(name: String, body: TemplateBody) -> Result<Template, Problem> {
    if !is_template_name(&name) {
        return Err(Problem::because(
            Errno::InvalidPath,
            "a template's name is 1 to 64 of A-Z a-z 0-9 _ - .",
        ));
    }
    let TemplateBody { texts, description, sample } = body;
    let mut errors = Errors::default();
    if !texts.contains_key(DEFAULT) {
        errors.add("/texts", "has texts for default, which every other language falls back to");
    }
    errors.check_languages("/texts", &texts, true);
    if description.len() > DESCRIPTION_MAX {
        errors.add("/description", format!("has at most {DESCRIPTION_MAX} bytes"));
    }
    if serde_json::to_vec(&sample).map_or(0, |bytes| bytes.len()) > SAMPLE_BYTES_MAX {
        errors.add("/sample", format!("has at most {SAMPLE_BYTES_MAX} bytes as JSON"));
    }
    let mut wrong = templates::check(&texts);
    if wrong.is_empty() && !sample.is_empty() {
        wrong = templates::check_filled(&texts, &sample);
    }
    for WrongText { language, field, error } in wrong {
        errors.add(format!("/texts/{language}/{field}"), error.to_string());
    }
    errors.or_ok()?;
    Ok(Template { name, version: 0, description, texts, sample, created_at_ms: 0 })
}

/// One template: its newest version, or the one behind an `@`.
#[utoipa::path(
    get,
    path = "/v1/apps/{app}/templates/{template}",
    tag = "planning",
    responses((status = 200, description = "The template", body = TemplateShown)),
)]
pub(super) async fn show(
    Guarded { app, .. }: Guarded<READ>,
    Params((_, named)): Params<(String, String)>,
    State(shared): State<Api>,
) -> Result<impl IntoResponse, Problem> {
    let (template, versions) = shared
        .store
        .read(move |tx| {
            let Reference { name, version } = reference(&named)?;
            let template = templates::find(tx, &app, &name, version)?;
            let template = template.ok_or_else(|| Problem::new(Errno::TemplateUnknown))?;
            Ok::<_, Problem>((template, templates::versions(tx, &app, &name)?))
        })
        .await?;
    Ok((etag::header(&template), axum::Json(TemplateShown { template, versions })))
}

fn reference(named: &str) -> Result<Reference, Problem> {
    Reference::parse(named).ok_or_else(|| Problem::new(Errno::TemplateUnknown))
}

/// Templates by name, each in its newest version.
#[utoipa::path(
    get,
    path = "/v1/apps/{app}/templates",
    tag = "planning",
    params(PageQuery),
    responses((status = 200, description = "One page", body = Listed<Template>)),
)]
pub(super) async fn list(
    Guarded { app, .. }: Guarded<READ>,
    page: Page,
    State(shared): State<Api>,
) -> Result<axum::Json<Listed<Template>>, Problem> {
    let read = move |tx: &Tx<'_>| {
        let read = |from: Option<&str>, order, limit| templates::page(tx, &app, from, order, limit);
        page.walk(Order::Forward, read, |template| template.name.clone())
    };
    Ok(shared.store.read(read).await?.show(|template| template))
}

/// Removes a template with every version. Messages that were accepted keep their texts.
#[utoipa::path(
    delete,
    path = "/v1/apps/{app}/templates/{template}",
    tag = "planning",
    responses((status = 204, description = "Done")),
)]
pub(super) async fn remove(
    Guarded { app, .. }: Guarded<SEND>,
    Params((_, name)): Params<(String, String)>,
    headers: HeaderMap,
    State(shared): State<Api>,
) -> Result<impl IntoResponse, Problem> {
    let if_match = IfMatch::of(&headers);
    shared
        .store
        .write(move |tx| {
            let template = templates::find(tx, &app, &name, None)?;
            let template = template.ok_or_else(|| Problem::new(Errno::TemplateUnknown))?;
            if_match.check(Some(&template))?;
            if let Some(user) = schedules::user_of(tx, &app, &name)? {
                return Err(Problem::because(Errno::TemplateInUse, format!("by the schedule {user}")));
            }
            Ok::<_, Problem>(templates::remove(tx, &app, &name)?)
        })
        .await?;
    Ok(StatusCode::NO_CONTENT)
}

/// `POST …/templates/{template}:render`: what a reader of a language, or a device, would see.
#[utoipa::path(
    post,
    path = "/v1/apps/{app}/templates/{template}",
    tag = "planning",
    request_body = RenderBody,
    responses((status = 200, description = "The filled texts", body = Rendered)),
)]
pub(super) async fn act(
    Guarded { app, .. }: Guarded<READ>,
    Params((_, path)): Params<(String, String)>,
    State(shared): State<Api>,
    Json(body, _): Json<RenderBody>,
) -> Result<impl IntoResponse, Problem> {
    let named = path.strip_suffix(":render").ok_or_else(|| Problem::new(Errno::MethodNotAllowed))?;
    let Reference { name, version } = reference(named)?;
    let rendered = shared
        .store
        .read(move |tx| {
            let template = templates::find(tx, &app, &name, version)?;
            let template = template.ok_or_else(|| Problem::new(Errno::TemplateUnknown))?;
            let device = match &body.device {
                Some(id) => {
                    Some(devices::load(tx, &app, id)?.ok_or_else(|| Problem::new(Errno::DeviceUnknown))?)
                }
                None => None,
            };
            let own = device.as_ref().and_then(|device| device.attributes.language.clone());
            let wanted = body.language.or(own);
            let data = body.data.unwrap_or_else(|| template.sample.clone());
            let mut content = Content { data, ..Content::default() };
            let wrong = |wrong: WrongText| Problem::field("/data", wrong_words(&wrong));
            template.put_into(&mut content).map_err(wrong)?;
            let language = templates::language_for(&template.texts, wanted.as_deref());
            content.speak(language.as_deref(), device.as_ref());
            let texts = content.notification.map(|mut notification| notification.take()).unwrap_or_default();
            let language = language.unwrap_or_else(|| DEFAULT.to_owned());
            Ok::<_, Problem>(Rendered { template: template.reference(), language, texts })
        })
        .await?;
    Ok(axum::Json(rendered))
}

fn wrong_words(wrong: &WrongText) -> String {
    format!("language {}, {}: {}", wrong.language, wrong.field, wrong.error)
}
