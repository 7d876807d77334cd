//! `/v1/apps/{app}/tags`: labels of devices; `:add` and `:remove` for lists of devices.

use axum::extract::State;
use reveille_proto::ids::AppId;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::Api;
use super::body::{Json, Params};
use super::guard::{Guarded, READ, SEND};
use super::paging::{Listed, Page, PageQuery};
use super::problem::{Errno, Problem};
use crate::audience::expression::Field;
use crate::devices::{self, Device, TAGS_MAX, is_label};
use crate::store::{Order, StoreError, Tx};

/// Devices of one call at most: they become durable together.
pub(super) const DEVICES_MAX: usize = 1000;

/// Devices that get or lose something.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct DevicesBody {
    #[schema(min_items = 1, max_items = 1000)]
    devices: Vec<String>,
}

impl DevicesBody {
    /// At least one, and not too many.
    pub fn check(self) -> Result<Vec<String>, Problem> {
        match self.devices.len() {
            1..=DEVICES_MAX => Ok(self.devices),
            _ => Err(Problem::field("/devices", format!("has 1 to {DEVICES_MAX} ids"))),
        }
    }
}

/// What a call does to each device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Act {
    Add,
    Remove,
}

impl Act {
    /// Splits `name:add` and `name:remove`.
    pub fn split(text: &str) -> Result<(String, Self), Problem> {
        let (name, act) = match text.rsplit_once(':') {
            Some((name, "add")) => (name, Self::Add),
            Some((name, "remove")) => (name, Self::Remove),
            Some(_) | None => return Err(Problem::new(Errno::MethodNotAllowed)),
        };
        match is_label(name) {
            true => Ok((name.to_owned(), act)),
            false => Err(Problem::because(Errno::InvalidPath, "a label has 1 to 256 bytes without controls")),
        }
    }
}

/// What became of a list of devices. Repeating the call changes nothing more.
#[derive(Default, Serialize, ToSchema)]
pub(super) struct Changed {
    /// How many have it now, or no longer.
    changed: usize,
    /// Those that the app does not have.
    unknown: Vec<String>,
    /// Those that have as many as fit.
    full: Vec<String>,
}

/// What changing one device came to.
pub(super) enum One {
    Changed,
    Same,
    /// It has as many as fit.
    Full,
}

/// Changes each device that is known, all in one transaction.
pub(super) fn change_each(
    tx: &mut Tx<'_>,
    app: &AppId,
    ids: Vec<String>,
    change: impl Fn(&mut Device) -> One,
) -> Result<Changed, StoreError> {
    let mut result = Changed::default();
    for id in ids {
        let Some(mut device) = devices::load(tx, app, &id)? else {
            result.unknown.push(id);
            continue;
        };
        match change(&mut device) {
            One::Changed => {
                devices::save(tx, app, &device)?;
                result.changed += 1;
            }
            One::Same => {}
            One::Full => result.full.push(id),
        }
    }
    Ok(result)
}

/// `POST …/tags/{tag}:add` and `:remove`.
#[utoipa::path(
    post,
    path = "/v1/apps/{app}/tags/{tag}",
    tag = "audiences",
    request_body = DevicesBody,
    responses((status = 200, description = "What became of the devices", body = Changed)),
)]
pub(super) async fn act(
    Guarded { app, .. }: Guarded<SEND>,
    Params((_, name)): Params<(String, String)>,
    State(shared): State<Api>,
    Json(body, _): Json<DevicesBody>,
) -> Result<axum::Json<Changed>, Problem> {
    let ((tag, act), ids) = (Act::split(&name)?, body.check()?);
    let change = move |device: &mut Device| match act {
        Act::Add if device.tags.contains(&tag) => One::Same,
        Act::Add if device.tags.len() >= TAGS_MAX => One::Full,
        Act::Add => {
            device.tags.insert(tag.clone());
            One::Changed
        }
        Act::Remove if device.tags.remove(&tag) => One::Changed,
        Act::Remove => One::Same,
    };
    let changed = shared.store.write(move |tx| change_each(tx, &app, ids, change)).await?;
    Ok(axum::Json(changed))
}

/// A tag.
#[derive(Serialize, ToSchema)]
pub(super) struct TagCount {
    tag: String,
    /// How many devices have it.
    devices: u64,
}

/// Every tag that a device has, in order, with how many devices have it.
#[utoipa::path(
    get,
    path = "/v1/apps/{app}/tags",
    tag = "audiences",
    params(PageQuery),
    responses((status = 200, description = "One page", body = Listed<TagCount>)),
)]
pub(super) async fn list(
    Guarded { app, .. }: Guarded<READ>,
    page: Page,
    State(shared): State<Api>,
) -> Result<axum::Json<Listed<TagCount>>, Problem> {
    let read = move |tx: &Tx<'_>| {
        let read = |from: Option<&str>, order, limit| {
            Ok::<_, StoreError>(tx.index().values(&app, &Field::Tag, from, order, limit))
        };
        page.walk(Order::Forward, read, |(tag, _)| tag.clone())
    };
    let found = shared.store.read(read).await?;
    Ok(found.show(|(tag, devices)| TagCount { tag, devices }))
}

/// A tag, looked at closely.
#[derive(Serialize, ToSchema)]
pub(super) struct Tag {
    tag: String,
    /// How many devices have it.
    devices: u64,
    /// How many of them have a network connection.
    online: u64,
}

/// How many devices have a tag. A tag that nobody has is no error: it exists as long as somebody has it.
#[utoipa::path(
    get,
    path = "/v1/apps/{app}/tags/{tag}",
    tag = "audiences",
    responses((status = 200, description = "The tag", body = Tag)),
)]
pub(super) async fn show(
    Guarded { app, .. }: Guarded<READ>,
    Params((_, tag)): Params<(String, String)>,
    State(shared): State<Api>,
) -> Result<axum::Json<Tag>, Problem> {
    let wanted = tag.clone();
    let (devices, online) = shared
        .store
        .read(move |tx| Ok::<_, StoreError>(tx.index().counts_of(&app, &Field::Tag, &wanted)))
        .await?;
    Ok(axum::Json(Tag { tag, devices, online }))
}
