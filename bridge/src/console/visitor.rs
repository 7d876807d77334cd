//! Who looks at a page, in which language and in which light.

use std::net::IpAddr;

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, header};
use axum::response::{IntoResponse, Redirect, Response};
use reveille_proto::ids::AppId;

use super::Here;
use super::door::{Refusal, encode};
use super::texts::{Language, Texts};
use crate::apps::{self, Access, App, Caller};
use crate::audit::request::note_caller;
use crate::store::StoreError;

/// Holds the id of the session.
pub(super) const SESSION_COOKIE: &str = "reveille_session";
/// Holds the token of the login form.
pub(super) const LOGIN_COOKIE: &str = "reveille_login";
/// Holds the language that was chosen.
pub(super) const LANGUAGE_COOKIE: &str = "reveille_language";
/// Holds the light that was chosen.
pub(super) const LIGHT_COOKIE: &str = "reveille_light";
/// A year, in seconds.
const YEAR_S: u64 = 365 * 24 * 60 * 60;

/// Which colours.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Light {
    /// As the visitor's system has it.
    #[default]
    System,
    Bright,
    Dark,
}

impl Light {
    pub const ALL: [Self; 3] = [Self::System, Self::Bright, Self::Dark];

    pub fn name(self) -> &'static str {
        match self {
            Self::System => "system",
            Self::Bright => "light",
            Self::Dark => "dark",
        }
    }
}

/// How pages look to a visitor.
#[derive(Clone, Copy, Debug)]
pub(super) struct Look {
    pub language: Language,
    pub light: Light,
}

impl Look {
    /// As chosen, or as the browser says.
    pub fn of(headers: &HeaderMap) -> Self {
        let accepted = headers.get(header::ACCEPT_LANGUAGE).and_then(|value| value.to_str().ok());
        let chosen = cookie(headers, LANGUAGE_COOKIE).and_then(Language::from_name);
        let language = chosen.unwrap_or_else(|| Language::accepted(accepted.unwrap_or_default()));
        let light = cookie(headers, LIGHT_COOKIE).unwrap_or_default();
        let light = Light::ALL.into_iter().find(|known| known.name() == light).unwrap_or_default();
        Self { language, light }
    }

    pub fn texts(self) -> &'static Texts {
        self.language.texts()
    }
}

/// Where a request comes from, as the listener saw it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Peer(pub IpAddr);

/// Somebody who is logged in.
#[derive(Clone, Debug)]
pub(super) struct Visitor {
    pub caller: Caller,
    pub look: Look,
    /// Stands in every form.
    pub csrf: String,
    /// The session's id.
    pub session: String,
    /// Apps that the key opens for anything.
    pub apps: Vec<App>,
    /// This page, for forms that come back to it.
    pub here: String,
}

impl Visitor {
    /// Refuses whoever has not this access to the app.
    pub fn check(&self, app: &str, access: Access) -> Result<AppId, Refusal> {
        let id = AppId::parse(app).map_err(|_| Refusal::missing())?;
        if !self.caller.may(&id, access) {
            return Err(Refusal::forbidden());
        }
        match self.apps.iter().any(|known| known.id == app) {
            true => Ok(id),
            false => Err(Refusal { code: "app_unknown".to_owned(), ..Refusal::new(404, "No such app") }),
        }
    }

    /// Refuses whoever is not the operator.
    pub fn check_operator(&self) -> Result<(), Refusal> {
        if self.caller.is_operator() { Ok(()) } else { Err(Refusal::forbidden()) }
    }

    pub fn texts(&self) -> &'static Texts {
        self.look.texts()
    }
}

impl FromRequestParts<Here> for Visitor {
    type Rejection = Response;

    async fn from_request_parts(parts: &mut Parts, console: &Here) -> Result<Self, Response> {
        let here = parts.uri.path_and_query().map_or("/console", |here| here.as_str()).to_owned();
        let to_login = || Redirect::to(&format!("/console/login?next={}", encode(&here))).into_response();
        let (id, session) = cookie(&parts.headers, SESSION_COOKIE)
            .and_then(|id| Some((id.to_owned(), console.sessions.find(id, console.shared.store.now_ms())?)))
            .ok_or_else(to_login)?;
        let caller = console.shared.keys.again(&session.caller).await.map_err(unreadable)?;
        let Some(caller) = caller.filter(|caller| caller.tags().is_empty()) else {
            console.sessions.end(&id); // its key is gone
            return Err(to_login());
        };
        note_caller(&caller);
        let apps = console.shared.store.read(apps::list).await.map_err(unreadable)?;
        let is_open = |app: &App| AppId::parse(&app.id).is_ok_and(|app| caller.opens(&app));
        let apps = apps.into_iter().filter(is_open).collect();
        Ok(Self { caller, look: Look::of(&parts.headers), csrf: session.csrf, session: id, apps, here })
    }
}

fn unreadable(error: StoreError) -> Response {
    (axum::http::StatusCode::SERVICE_UNAVAILABLE, error.to_string()).into_response()
}

/// The value of a cookie.
pub(super) fn cookie<'h>(headers: &'h HeaderMap, name: &str) -> Option<&'h str> {
    let all = headers.get_all(header::COOKIE).into_iter().filter_map(|value| value.to_str().ok());
    let mut pairs = all.flat_map(|value| value.split(';')).filter_map(|pair| pair.trim().split_once('='));
    pairs.find(|(known, _)| *known == name).map(|(_, value)| value)
}

/// A cookie that no script reads and no other site sends. `None` for the age: until the browser closes; 0 removes it.
pub(super) fn set_cookie(headers: &HeaderMap, name: &str, value: &str, age_s: Option<u64>) -> HeaderValue {
    let age = age_s.map(|age_s| format!("; Max-Age={age_s}")).unwrap_or_default();
    let secure = if is_tls(headers) { "; Secure" } else { "" };
    let text = format!("{name}={value}; Path=/console; HttpOnly; SameSite=Strict{age}{secure}");
    HeaderValue::from_str(&text).unwrap_or(HeaderValue::from_static(""))
}

/// A choice that outlives the session.
pub(super) fn set_choice(headers: &HeaderMap, name: &str, value: &str) -> HeaderValue {
    set_cookie(headers, name, value, Some(YEAR_S))
}

/// Whether the visitor speaks TLS to us or to the proxy in front. Whoever lies about it spoils only the own cookie.
fn is_tls(headers: &HeaderMap) -> bool {
    headers.get("x-forwarded-proto").is_some_and(|scheme| scheme == "https")
}

/// A path of the console, and nothing that leads elsewhere.
pub(super) fn own_path(text: &str) -> &str {
    let is_own = text == "/console" || text.starts_with("/console/") || text.starts_with("/console?");
    if is_own && !text.contains(['\\', '\r', '\n']) { text } else { "/console" }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_login_leads_to_a_page_of_ours_only() {
        for good in ["/console", "/console/apps/shop?x=1", "/console?a"] {
            assert_eq!(own_path(good), good);
        }
        for bad in [
            "",
            "/",
            "//evil.example",
            "https://evil.example",
            "/consoles",
            "/console/\r\nset-cookie: a=b",
            "/console/\\evil",
        ] {
            assert_eq!(own_path(bad), "/console", "{bad}");
        }
    }

    #[test]
    fn cookies_are_strict_and_secure_under_tls() {
        let mut headers = HeaderMap::new();
        headers.insert(header::COOKIE, HeaderValue::from_static("a=1; reveille_session=x=y;b=2"));
        assert_eq!(cookie(&headers, SESSION_COOKIE), Some("x=y"));
        assert_eq!(cookie(&headers, "reveille"), None);
        let plain = set_cookie(&headers, "a", "b", None);
        assert_eq!(plain, "a=b; Path=/console; HttpOnly; SameSite=Strict");
        headers.insert("x-forwarded-proto", HeaderValue::from_static("https"));
        assert_eq!(
            set_cookie(&headers, "a", "", Some(0)),
            "a=; Path=/console; HttpOnly; SameSite=Strict; Max-Age=0; Secure"
        );
    }
}
