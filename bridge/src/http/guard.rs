//! Who may come in. A handler gets its app only from here, so none can forget to ask.

use axum::extract::{FromRequestParts, RawPathParams, Request, State};
use axum::http::header::AUTHORIZATION;
use axum::http::request::Parts;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use reveille_proto::ids::AppId;

use super::Api;
use super::problem::{Errno, Problem};
use crate::apps::{self, Access, Caller};
use crate::audit::request::{note_app, note_caller};

/// Asks for [`Access::Send`].
pub(super) const SEND: u8 = 0;
/// Asks for [`Access::Read`].
pub(super) const READ: u8 = 1;
/// Asks for [`Access::Admin`].
pub(super) const ADMIN: u8 = 2;

/// Why a key for certain tags does not open what it would else.
const TAGS_ONLY: &str = "the key is for devices with certain tags only";

/// A request whose key opens the app of its path for this access.
pub(super) struct Guarded<const ACCESS: u8> {
    pub app: AppId,
    pub caller: Caller,
}

/// The same, also with a key that is for devices with certain tags only: whoever asks for this keeps to
/// [`Caller::tags`].
pub(super) struct Limited<const ACCESS: u8> {
    pub app: AppId,
    pub caller: Caller,
}

/// A request with the operator's key.
pub(super) struct Operator(pub Caller);

/// A request with any key; what it opens is for the handler to ask.
pub(super) struct Known(pub Caller);

/// Who asks; the audit log will tell.
async fn caller(parts: &Parts, shared: &Api) -> Result<Caller, Problem> {
    let caller = known_caller(parts, shared).await?;
    note_caller(&caller);
    Ok(caller)
}

async fn known_caller(parts: &Parts, shared: &Api) -> Result<Caller, Problem> {
    // The console, which asks for a visitor that it knows. Nothing that comes from a socket has an extension.
    if let Some(caller) = parts.extensions.get::<Caller>() {
        return Ok(caller.clone());
    }
    let header = parts.headers.get(AUTHORIZATION).ok_or_else(|| Problem::new(Errno::KeyMissing))?;
    let text = header.to_str().map_err(|_| Problem::new(Errno::KeyWrong))?;
    let (scheme, key) = text.split_once(' ').ok_or_else(|| Problem::new(Errno::KeyMissing))?;
    if !scheme.eq_ignore_ascii_case("bearer") {
        return Err(Problem::new(Errno::KeyMissing));
    }
    known(key.trim(), shared).await
}

/// Who holds this key and may ask once more.
pub(super) async fn known(key: &str, shared: &Api) -> Result<Caller, Problem> {
    let caller = shared.keys.verify(key).await?;
    shared.rates.take(&caller.key_id, shared.store.now_ms())?;
    Ok(caller)
}

impl<const ACCESS: u8> FromRequestParts<Api> for Guarded<ACCESS> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, shared: &Api) -> Result<Self, Problem> {
        let Limited { app, caller } = Limited::<ACCESS>::from_request_parts(parts, shared).await?;
        match caller.tags().is_empty() {
            true => Ok(Self { app, caller }),
            false => Err(Problem::because(Errno::KeyForbidden, TAGS_ONLY)),
        }
    }
}

impl<const ACCESS: u8> FromRequestParts<Api> for Limited<ACCESS> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, shared: &Api) -> Result<Self, Problem> {
        let caller = caller(parts, shared).await?;
        let params = RawPathParams::from_request_parts(parts, shared).await;
        let params = params.map_err(|_| Problem::new(Errno::PathUnknown))?;
        let text = params.iter().find(|(name, _)| *name == "app").map(|(_, value)| value);
        let app =
            text.and_then(|text| AppId::parse(text).ok()).ok_or_else(|| Problem::new(Errno::AppUnknown))?;
        note_app(&app);
        let access = match ACCESS {
            SEND => Access::Send,
            READ => Access::Read,
            _ => Access::Admin,
        };
        if !caller.may(&app, access) {
            return Err(Problem::new(Errno::KeyForbidden));
        }
        let wanted = app.clone();
        match shared.store.read(move |tx| apps::load(tx, &wanted)).await? {
            Some(_) => Ok(Self { app, caller }),
            None => Err(Problem::new(Errno::AppUnknown)),
        }
    }
}

impl FromRequestParts<Api> for Known {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, shared: &Api) -> Result<Self, Problem> {
        // What these routes show is not cut down to devices.
        let caller = caller(parts, shared).await?;
        match caller.tags().is_empty() {
            true => Ok(Self(caller)),
            false => Err(Problem::because(Errno::KeyForbidden, TAGS_ONLY)),
        }
    }
}

impl FromRequestParts<Api> for Operator {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, shared: &Api) -> Result<Self, Problem> {
        let caller = caller(parts, shared).await?;
        match caller.is_operator() {
            true => Ok(Self(caller)),
            false => Err(Problem::new(Errno::KeyForbidden)),
        }
    }
}

/// Lets a request pass that has the operator's key: for an API that does not ask itself.
pub(super) async fn operators_only(State(shared): State<Api>, request: Request, next: Next) -> Response {
    let (mut parts, body) = request.into_parts();
    match Operator::from_request_parts(&mut parts, &shared).await {
        Ok(Operator(_)) => next.run(Request::from_parts(parts, body)).await,
        Err(problem) => problem.into_response(),
    }
}
