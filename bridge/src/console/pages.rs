//! One file a page: what it reads, what its forms do. The HTML is made in `view`.

pub(super) mod apps;
pub(super) mod audiences;
pub(super) mod audit;
pub(super) mod broker;
pub(super) mod compose;
pub(super) mod dead_tokens;
pub(super) mod devices;
pub(super) mod events;
pub(super) mod keys;
pub(super) mod login;
pub(super) mod messages;
pub(super) mod networks;
pub(super) mod overview;
pub(super) mod people;
pub(super) mod policies;
pub(super) mod schedules;
pub(super) mod sessions;
pub(super) mod statistics;
pub(super) mod templates;
pub(super) mod topics;
pub(super) mod trace;
pub(super) mod users;
pub(super) mod vendors;
pub(super) mod webhooks;

use axum::http::StatusCode;
use axum::response::{Html, IntoResponse, Redirect, Response};
use maud::{Markup, html};

use super::door::Refusal;
use super::view::Context;
use super::view::page::{Content, page};
use super::view::parts;
use super::visitor::Visitor;

/// What a page's reader makes: the frame's parts and the body.
pub(super) struct Page {
    pub title: String,
    pub section: &'static str,
    pub actions: Option<Markup>,
    pub body: Markup,
}

impl Page {
    /// A page without actions.
    pub fn new(title: impl Into<String>, section: &'static str, body: Markup) -> Self {
        Self { title: title.into(), section, actions: None, body }
    }
}

impl Visitor {
    /// What views need to know, about an app or none.
    pub fn context<'a>(&'a self, app: Option<&'a str>) -> Context<'a> {
        Context {
            texts: self.texts(),
            look: self.look,
            caller: &self.caller,
            csrf: &self.csrf,
            apps: &self.apps,
            app: app.or_else(|| self.first_app()),
            here: &self.here,
        }
    }

    /// The app that the navigation shows where a page is about none.
    pub fn first_app(&self) -> Option<&str> {
        let default = self.apps.iter().find(|app| app.id == reveille_proto::ids::AppId::DEFAULT);
        default.or(self.apps.first()).map(|app| app.id.as_str())
    }

    /// The page in its frame, or the error in the same frame.
    pub fn answer(&self, app: Option<&str>, made: Result<Page, Refusal>) -> Response {
        self.answer_as(StatusCode::OK, app, made)
    }

    /// The same with a status for the success, such as 422 for a form that is shown again.
    pub fn answer_as(&self, status: StatusCode, app: Option<&str>, made: Result<Page, Refusal>) -> Response {
        let app = app.filter(|app| self.apps.iter().any(|known| known.id == *app));
        let context = self.context(app);
        let (status, made) = match made {
            Ok(made) => (status, made),
            Err(refused) => {
                let status =
                    StatusCode::from_u16(refused.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
                (status, self.error_page(&refused))
            }
        };
        let done = self.done();
        let content = Content {
            title: made.title,
            section: made.section,
            actions: made.actions,
            body: html! { (parts::done(done)) (made.body) }.into(),
        };
        (status, Html(page(&context, content).into_string())).into_response()
    }

    /// What the page before did: the address names it.
    fn done(&self) -> Option<&'static str> {
        let query = self.here.split_once('?')?.1;
        let name = form_urlencoded::parse(query.as_bytes()).find(|(name, _)| name == "done")?.1;
        self.texts().done(&name)
    }

    fn error_page(&self, refused: &Refusal) -> Page {
        let texts = self.texts();
        let body = html! { (parts::refusal(texts, refused)) p { a href="/console" { (texts.to_start) } } };
        Page::new(texts.not_possible, "", body)
    }
}

/// A part of a page, for the script that renews it.
pub(super) fn fragment(made: Result<Markup, Refusal>) -> Response {
    match made {
        Ok(markup) => Html(markup.into_string()).into_response(),
        Err(refused) => {
            let status = StatusCode::from_u16(refused.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
            (status, refused.title).into_response()
        }
    }
}

/// After a change: the page that shows it, which says that it was done.
pub(super) fn done(path: &str, what: &str) -> Response {
    let join = if path.contains('?') { '&' } else { '?' };
    Redirect::to(&format!("{path}{join}done={what}")).into_response()
}

/// The first page of this visitor.
pub(super) async fn home(visitor: Visitor) -> Response {
    match visitor.first_app() {
        Some(app) => Redirect::to(&format!("/console/apps/{app}")).into_response(),
        None => Redirect::to("/console/apps").into_response(),
    }
}

/// No such page.
pub(super) async fn not_found(visitor: Visitor) -> Response {
    visitor.answer(None, Err(Refusal::missing()))
}
