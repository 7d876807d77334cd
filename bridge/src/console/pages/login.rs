//! Coming in, going out, and how it shall look.

use std::net::{IpAddr, Ipv4Addr};

use axum::Extension;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{Html, IntoResponse, Redirect, Response};

use crate::apps::{Caller, KeyRefused};
use crate::audit::request::note_caller;
use crate::console::Here;
use crate::console::form::{Posted, Query, Stranger};
use crate::console::sessions::secret;
use crate::console::texts::Language;
use crate::console::view::page::login;
use crate::console::visitor::{
    LANGUAGE_COOKIE, LIGHT_COOKIE, LOGIN_COOKIE, Light, Look, Peer, SESSION_COOKIE, own_path, set_choice,
    set_cookie,
};

/// The form.
pub(in crate::console) async fn show(headers: HeaderMap, Query(query): Query) -> Response {
    let mut look = Look::of(&headers);
    let chosen = Language::from_name(query.text("language"));
    look.language = chosen.unwrap_or(look.language);
    let mut answer = form(&headers, look, own_path(query.text("next")), None);
    if let Some(language) = chosen {
        answer
            .headers_mut()
            .append(header::SET_COOKIE, set_choice(&headers, LANGUAGE_COOKIE, language.name()));
    }
    answer
}

fn form(headers: &HeaderMap, look: Look, next: &str, wrong: Option<(StatusCode, &str)>) -> Response {
    let token = secret();
    let status = wrong.map_or(StatusCode::OK, |(status, _)| status);
    let page = login(look.texts(), look, &token, next, wrong.map(|(_, text)| text));
    let cookie = set_cookie(headers, LOGIN_COOKIE, &token, Some(60 * 60));
    let mut answer = (status, Html(page.into_string())).into_response();
    answer.headers_mut().append(header::SET_COOKIE, cookie);
    answer
}

/// A key, or a name and a password.
pub(in crate::console) async fn enter(
    State(console): State<Here>,
    peer: Option<Extension<Peer>>,
    Stranger { headers, fields }: Stranger,
) -> Response {
    let look = Look::of(&headers);
    let (next, now_ms) = (own_path(fields.text("next")), console.shared.store.now_ms());
    let address = peer.map_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED), |Extension(Peer(address))| address);
    let texts = look.texts();
    if console.attempts.are_too_many(address, now_ms) {
        return form(&headers, look, next, Some((StatusCode::TOO_MANY_REQUESTS, texts.login_too_many)));
    }
    let keys = &console.shared.keys;
    let verified = match fields.some("name") {
        Some(name) => keys.verify_password(name, fields.text("secret")).await,
        None => keys.verify(fields.text("secret")).await,
    };
    match verified {
        // The pages show everything of an app.
        Ok(caller) if !caller.tags().is_empty() => {
            form(&headers, look, next, Some((StatusCode::FORBIDDEN, texts.login_for_tags)))
        }
        Ok(caller) => begin(&console, &headers, caller, next, now_ms),
        Err(KeyRefused::Wrong) => {
            console.attempts.note_failure(address, now_ms);
            form(&headers, look, next, Some((StatusCode::UNAUTHORIZED, texts.login_wrong)))
        }
        Err(KeyRefused::TooMany) => {
            console.attempts.note_failure(address, now_ms);
            form(&headers, look, next, Some((StatusCode::TOO_MANY_REQUESTS, texts.login_too_many)))
        }
        Err(KeyRefused::Store(_)) => {
            form(&headers, look, next, Some((StatusCode::SERVICE_UNAVAILABLE, texts.refused_store)))
        }
    }
}

fn begin(console: &Here, headers: &HeaderMap, caller: Caller, next: &str, now_ms: u64) -> Response {
    note_caller(&caller);
    tracing::info!(key = caller.key_id, "somebody logged in to the console");
    let session = console.sessions.begin(caller, now_ms);
    let mut answer = Redirect::to(next).into_response();
    let cookies = answer.headers_mut();
    cookies.append(header::SET_COOKIE, set_cookie(headers, SESSION_COOKIE, &session, None));
    cookies.append(header::SET_COOKIE, set_cookie(headers, LOGIN_COOKIE, "", Some(0)));
    answer
}

/// Ends the session, here and in the browser.
pub(in crate::console) async fn leave(
    State(console): State<Here>,
    headers: HeaderMap,
    posted: Posted,
) -> Response {
    console.sessions.end(&posted.visitor.session);
    let mut answer = Redirect::to("/console/login").into_response();
    answer.headers_mut().append(header::SET_COOKIE, set_cookie(&headers, SESSION_COOKIE, "", Some(0)));
    answer
}

/// Language and light.
pub(in crate::console) async fn look(headers: HeaderMap, posted: Posted) -> Response {
    let fields = &posted.fields;
    let mut answer = Redirect::to(own_path(fields.text("next"))).into_response();
    let mut choose = |cookie: HeaderValue| answer.headers_mut().append(header::SET_COOKIE, cookie);
    if let Some(language) = Language::from_name(fields.text("language")) {
        choose(set_choice(&headers, LANGUAGE_COOKIE, language.name()));
    }
    if let Some(light) = Light::ALL.into_iter().find(|light| light.name() == fields.text("light")) {
        choose(set_choice(&headers, LIGHT_COOKIE, light.name()));
    }
    answer
}
