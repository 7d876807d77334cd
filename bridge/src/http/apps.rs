//! `/v1/apps` and their keys.

use std::collections::BTreeSet;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::IntoResponse;
use reveille_proto::ids::AppId;
use serde::Deserialize;
use serde_json::json;
use utoipa::ToSchema;

use super::Api;
use super::body::Json;
use super::guard::{ADMIN, Guarded, Operator};
use super::problem::{Errno, Problem};
use crate::apps::{self, Access, App, NewKey};
use crate::store::{StoreError, Tx};

const NAME_MAX: usize = 256;

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct NewApp {
    id: String,
    #[serde(default)]
    name: String,
}

/// Makes an app.
#[utoipa::path(
    post,
    path = "/v1/apps",
    tag = "apps",
    request_body = NewApp,
    responses((status = 201, description = "The app", body = Object)),
)]
pub(super) async fn create(
    _: Operator,
    State(shared): State<Api>,
    Json(new, _): Json<NewApp>,
) -> Result<impl IntoResponse, Problem> {
    let id = AppId::parse(&new.id).map_err(|error| Problem::field("/id", error.to_string()))?;
    check_name(&new.name)?;
    let app = shared
        .store
        .write(move |tx| {
            if apps::load(tx, &id)?.is_some() {
                return Err(Problem::new(Errno::AppExists));
            }
            if !apps::has_room(tx)? {
                return Err(Problem::because(Errno::TooManyApps, format!("at most {}", apps::APPS_MAX)));
            }
            let app = App { id: new.id, name: new.name, created_at_ms: tx.now_ms() };
            apps::save(tx, &id, &app)?;
            Ok(app)
        })
        .await?;
    Ok((StatusCode::CREATED, axum::Json(app)))
}

fn check_name(name: &str) -> Result<(), Problem> {
    match name.len() {
        0..=NAME_MAX => Ok(()),
        _ => Err(Problem::field("/name", format!("has at most {NAME_MAX} bytes"))),
    }
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct NewKeyBody {
    scopes: BTreeSet<Access>,
    #[serde(default)]
    name: String,
}

/// Makes a key. Its text is in this answer and nowhere else.
#[utoipa::path(
    post,
    path = "/v1/apps/{app}/keys",
    tag = "apps",
    request_body = NewKeyBody,
    responses((status = 201, description = "The key, this once", body = Object)),
)]
pub(super) async fn create_key(
    Guarded { app, .. }: Guarded<ADMIN>,
    State(shared): State<Api>,
    Json(new, _): Json<NewKeyBody>,
) -> Result<impl IntoResponse, Problem> {
    if new.scopes.is_empty() {
        return Err(Problem::field("/scopes", "names at least one of send, read and admin"));
    }
    check_name(&new.name)?;
    let now_ms = shared.store.now_ms();
    let (scopes, for_app) = (new.scopes.clone(), app.clone());
    let make = move || NewKey::make(Some(&for_app), new.scopes, &new.name, now_ms);
    let key = tokio::task::spawn_blocking(make).await.map_err(|_| StoreError::Closed)?;
    let answer = json!({"id": key.id, "key": key.text, "app": app.as_str(), "scopes": scopes});
    shared.store.write(move |tx: &mut Tx<'_>| key.keep(tx)).await?;
    Ok((StatusCode::CREATED, axum::Json(answer)))
}
