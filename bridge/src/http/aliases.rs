//! `/v1/apps/{app}/users` and `/aliases`: the business's names for devices. A user is an alias of the type `user`.

use axum::extract::State;
use reveille_proto::ids::AppId;
use serde::Serialize;
use utoipa::ToSchema;

use super::Api;
use super::body::{Json, Params};
use super::devices::{DeviceView, list_where};
use super::guard::{Guarded, READ, SEND};
use super::paging::{Listed, Page, PageQuery};
use super::problem::{Errno, Problem};
use super::tags::{Act, Changed, DevicesBody, One, change_each};
use crate::audience::expression::{Expression, Field, Match};
use crate::devices::{ALIASES_MAX, Device, USER, is_label};
use crate::store::StoreError;

/// A user.
#[derive(Serialize, ToSchema)]
pub(super) struct User {
    id: String,
    /// How many devices the user has.
    devices: u64,
    /// How many of them have a network connection.
    online: u64,
}

/// How many devices a user has.
#[utoipa::path(
    get,
    path = "/v1/apps/{app}/users/{user}",
    tag = "audiences",
    responses((status = 200, description = "The user", body = User)),
)]
pub(super) async fn show_user(
    Guarded { app, .. }: Guarded<READ>,
    Params((_, user)): Params<(String, String)>,
    State(shared): State<Api>,
) -> Result<axum::Json<User>, Problem> {
    let (devices, online) = counts(&shared, app, USER, &user).await?;
    Ok(axum::Json(User { id: user, devices, online }))
}

/// A user's devices.
#[utoipa::path(
    get,
    path = "/v1/apps/{app}/users/{user}/devices",
    tag = "audiences",
    params(PageQuery),
    responses((status = 200, description = "One page", body = Listed<DeviceView>)),
)]
pub(super) async fn devices_of_user(
    Guarded { app, .. }: Guarded<READ>,
    Params((_, user)): Params<(String, String)>,
    page: Page,
    State(shared): State<Api>,
) -> Result<axum::Json<Listed<DeviceView>>, Problem> {
    counts(&shared, app.clone(), USER, &user).await?;
    let theirs = Expression::Has(Field::Alias(USER.to_owned()), Match::Exactly(user));
    Ok(list_where(&shared, app, theirs, page).await?.show(DeviceView::from))
}

/// An alias.
#[derive(Serialize, ToSchema)]
pub(super) struct AliasView {
    r#type: String,
    alias: String,
    /// How many devices have it.
    devices: u64,
    /// How many of them have a network connection.
    online: u64,
}

/// How many devices an alias has.
#[utoipa::path(
    get,
    path = "/v1/apps/{app}/aliases/{type}/{alias}",
    tag = "audiences",
    responses((status = 200, description = "The alias", body = AliasView)),
)]
pub(super) async fn show(
    Guarded { app, .. }: Guarded<READ>,
    Params((_, kind, alias)): Params<(String, String, String)>,
    State(shared): State<Api>,
) -> Result<axum::Json<AliasView>, Problem> {
    let (devices, online) = counts(&shared, app, &kind, &alias).await?;
    Ok(axum::Json(AliasView { r#type: kind, alias, devices, online }))
}

async fn counts(shared: &Api, app: AppId, kind: &str, alias: &str) -> Result<(u64, u64), Problem> {
    let (field, alias) = (Field::Alias(kind.to_owned()), alias.to_owned());
    let counts =
        shared.store.read(move |tx| Ok::<_, StoreError>(tx.index().counts_of(&app, &field, &alias))).await?;
    if counts.0 == 0 { Err(Problem::new(Errno::AliasUnknown)) } else { Ok(counts) }
}

/// `POST …/aliases/{type}/{alias}:add` and `:remove`. A device that has another alias of the type gets this one.
#[utoipa::path(
    post,
    path = "/v1/apps/{app}/aliases/{type}/{alias}",
    tag = "audiences",
    request_body = DevicesBody,
    responses((status = 200, description = "What became of the devices", body = Changed)),
)]
pub(super) async fn act(
    Guarded { app, .. }: Guarded<SEND>,
    Params((_, kind, name)): Params<(String, String, String)>,
    State(shared): State<Api>,
    Json(body, _): Json<DevicesBody>,
) -> Result<axum::Json<Changed>, Problem> {
    let ((alias, act), ids) = (Act::split(&name)?, body.check()?);
    if !is_label(&kind) {
        return Err(Problem::because(
            Errno::InvalidPath,
            "an alias type has 1 to 256 bytes without controls",
        ));
    }
    let change = move |device: &mut Device| {
        let is_it = device.alias.get(&kind) == Some(&alias);
        match act {
            Act::Add if is_it => One::Same,
            Act::Add if !device.alias.contains_key(&kind) && device.alias.len() >= ALIASES_MAX => One::Full,
            Act::Add => {
                device.alias.insert(kind.clone(), alias.clone());
                One::Changed
            }
            Act::Remove if is_it => {
                device.alias.remove(&kind);
                One::Changed
            }
            Act::Remove => One::Same,
        }
    };
    let changed = shared.store.write(move |tx| change_each(tx, &app, ids, change)).await?;
    Ok(axum::Json(changed))
}
