//! `PUT /v1/apps/{app}/keys/{key}`: a key that a business server has already. Some client libraries take only a user name and
//! a password of their own service's form.

use std::collections::BTreeSet;

use axum::extract::State;
use axum::http::StatusCode;
use serde::Deserialize;
use utoipa::ToSchema;

use crate::apps::{Access, NewKey, is_key_id};
use crate::http::Api;
use crate::http::apps;
use crate::http::body::{Errors, Json, Params};
use crate::http::guard::{ADMIN, Guarded};
use crate::http::problem::{Errno, Problem};
use crate::store::Tx;

/// Shortest id and secret of such a key, in bytes: those of other services have 24 letters and digits.
const LENGTH_MIN: usize = 16;
/// Longest secret, in bytes.
const SECRET_MAX: usize = 64;
const NAME_MAX: usize = 256;

/// A key's secret, and what it opens.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = AdoptedKey)]
pub(in crate::http) struct Adopted {
    /// 16 to 64 letters, digits, `-` or `_`. It must be random: whoever guesses it may send.
    #[schema(min_length = 16, max_length = 64)]
    secret: String,
    #[schema(min_items = 1)]
    scopes: BTreeSet<Access>,
    /// A name for people.
    #[serde(default)]
    #[schema(max_length = 256)]
    name: String,
}

/// Takes a key over from another service, as `{key}` and its secret: they open the app as a key that was made here does. It is
/// never shown again.
#[utoipa::path(
    put,
    path = "/v1/apps/{app}/keys/{key}",
    tag = "apps",
    request_body = Adopted,
    responses((status = 204, description = "The key opens the app")),
)]
pub(in crate::http) async fn adopt(
    Guarded { app, .. }: Guarded<ADMIN>,
    Params((_, id)): Params<(String, String)>,
    State(shared): State<Api>,
    Json(body, _): Json<Adopted>,
) -> Result<StatusCode, Problem> {
    if id.len() < LENGTH_MIN || !is_key_id(&id) {
        return Err(Problem::because(Errno::InvalidPath, "the key's id is 16 to 64 letters and digits"));
    }
    let mut errors = Errors::default();
    let is_word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    if !(LENGTH_MIN..=SECRET_MAX).contains(&body.secret.len()) || !body.secret.bytes().all(is_word) {
        errors.add("/secret", "is 16 to 64 letters, digits, - or _");
    }
    if body.scopes.is_empty() {
        errors.add("/scopes", "names none");
    }
    if body.name.len() > NAME_MAX {
        errors.add("/name", format!("has at most {NAME_MAX} bytes"));
    }
    errors.or_ok()?;
    let (now_ms, of) = (shared.store.now_ms(), app.clone());
    let make = move || NewKey::adopt(&of, &id, &body.secret, body.scopes, &body.name, now_ms);
    let key = tokio::task::spawn_blocking(make).await.map_err(|_| Problem::new(Errno::Stopping))?;
    // One that exists may be another app's: nobody gets it by knowing its id.
    let keep = move |tx: &mut Tx<'_>| {
        apps::known(tx, &app)?; // hashing takes a while: it may have been removed
        match key.is_known(tx)? {
            true => Err(Problem::new(Errno::KeyExists)),
            false => Ok(key.keep(tx)?),
        }
    };
    shared.store.write(keep).await.map(|()| StatusCode::NO_CONTENT)
}
