//! `/v1/apps/{app}/imports`: uploads of any size within a bound, straight to disk, and what one row of them does.

use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{HeaderMap, header};
use axum::response::Response;
use http_body_util::BodyExt as _;
use reveille_proto::ids::AppId;
use ring::digest::{Context, SHA256};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use tokio::sync::mpsc;
use utoipa::{IntoParams, ToSchema};

use super::Api;
use super::apps;
use super::body::{Asked, Params};
use super::devices::{self as bodies};
use super::guard::{Guarded, READ, SEND};
use super::idempotency::{self, IdempotencyHeader, Once};
use super::long_operations::accepted;
use super::problem::{Errno, Problem};
use crate::devices::{self, ALIASES_MAX, Device, TAGS_MAX, USER, is_device_id, is_label};
use crate::imports::rows::{Format, Place};
use crate::imports::{self, Counts, Done, Import, Kind, NotDone, RowError, UPLOAD_BYTES_MAX, WAITING_MAX};
use crate::lists;
use crate::operations::{self, Operation};
use crate::store::{StoreError, Tx};

/// How long an upload may take.
pub(super) const UPLOAD_TIMEOUT: Duration = Duration::from_secs(15 * 60);
/// How long its sender may say nothing.
const SILENCE_MAX: Duration = Duration::from_secs(30);
/// Pieces of an upload that wait for the disk.
const PIECES: usize = 8;
/// When to come back while others upload.
const BUSY_RETRY_S: u64 = 1;
/// Wrong rows of one page.
const PAGE: usize = 100;

/// What an upload is.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct ImportQuery {
    /// What its rows are.
    #[param(inline)]
    kind: Kind,
    /// How they are written; without it as `Content-Type` says: `text/csv`, else NDJSON.
    #[param(inline)]
    format: Option<Format>,
}

/// An upload, and how far it is.
#[derive(Serialize, ToSchema)]
pub(super) struct ImportView {
    id: String,
    kind: Kind,
    format: Format,
    bytes: u64,
    /// Bytes that were worked on.
    read: u64,
    rows: Counts,
    is_over: bool,
    /// For `audience` the list that `audience.lists` of a message names, once it is over.
    #[schema(required)]
    list: Option<String>,
}

/// Takes a file of devices, tags, aliases, users, or ids, and works on it row by row. A wrong row does not stop the others.
#[utoipa::path(
    post,
    path = "/v1/apps/{app}/imports",
    tag = "imports",
    params(ImportQuery, IdempotencyHeader),
    request_body(content((String = "application/x-ndjson"), (String = "text/csv"))),
    responses((status = 202, description = "On disk; the operation says how far it is", body = Operation)),
)]
pub(super) async fn begin(
    Guarded { app, caller }: Guarded<SEND>,
    Asked(query): Asked<ImportQuery>,
    State(shared): State<Api>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let once = Once::making_of("imports", &app, &caller.key_id, idempotency::header(&headers)?);
    let Ok(_turn) = shared.uploads.try_acquire() else {
        return Err(Problem::later(Errno::TooManyImports, BUSY_RETRY_S));
    };
    let (of, for_look) = (app.clone(), once.clone());
    let has_room = move |tx: &Tx<'_>| {
        Ok::<_, StoreError>(for_look.is_known(tx)? || imports::waiting(tx, &of)? < WAITING_MAX)
    };
    if !shared.store.read(has_room).await? {
        return Err(Problem::new(Errno::TooManyImports));
    }
    let said = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let usual = if said.starts_with("text/csv") { Format::Csv } else { Format::Ndjson };
    let id = operations::new_id();
    let path = imports::directory(&shared.files).join(&id);
    // A repetition is the same rows in the same form.
    let mut hash = Context::new(&SHA256);
    hash.update(format!("{:?} {:?}\n", query.kind, query.format.unwrap_or(usual)).as_bytes());
    let part = Part::new(path);
    let bytes = receive(body, &part, &mut hash).await?;
    let once = once.with_hash(hash.finish().as_ref().to_vec());
    let import = Import {
        app: app.as_str().to_owned(),
        id,
        kind: query.kind,
        bytes,
        offset: 0,
        place: Place { format: query.format.unwrap_or(usual), row: 0, header: Vec::new() },
        counts: Counts::default(),
        is_over: false,
    };
    let rules = shared.rules;
    let begin = move |tx: &mut Tx<'_>| {
        apps::known(tx, &app)?; // receiving takes a while: it may have been removed
        once.run(tx, &rules, |tx| Ok(imports::begin(tx, &app, &import)?))
    };
    let begun = shared.store.submit(begin).await;
    // Whoever sent it may go now: what is begun keeps its file all the same.
    let ending = tokio::spawn(async move {
        let begun = begun.await;
        if let Ok(idempotency::Done::Now(_)) = begun {
            part.keep();
        }
        begun
    });
    Ok(accepted(ending.await.map_err(|_| Problem::new(Errno::Stopping))??))
}

/// The file of an upload that nobody knows of yet. It goes when whoever sends it goes, or does not come to an end.
struct Part(Option<PathBuf>);

impl Part {
    fn new(path: PathBuf) -> Self {
        Self(Some(path))
    }

    fn path(&self) -> PathBuf {
        self.0.clone().unwrap_or_default()
    }

    fn keep(mut self) {
        self.0 = None;
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        if let Some(path) = self.0.take() {
            // Freeing the blocks of a large file takes a while. What it misses goes at the next start.
            tokio::task::spawn_blocking(move || fs::remove_file(path));
        }
    }
}

/// Writes the body to a file, synced; its bytes.
async fn receive(mut body: Body, part: &Part, hash: &mut Context) -> Result<u64, Problem> {
    let (pieces, waiting) = mpsc::channel::<Bytes>(PIECES);
    let to = part.path();
    let writing = tokio::task::spawn_blocking(move || write(&to, waiting));
    let mut bytes = 0_u64;
    let received = loop {
        match tokio::time::timeout(SILENCE_MAX, body.frame()).await {
            Err(_) => break Err(Problem::new(Errno::RequestTimeout)),
            Ok(None) => break Ok(()),
            Ok(Some(Err(_))) => break Err(Problem::because(Errno::MalformedJson, "the body was cut off")),
            Ok(Some(Ok(frame))) => {
                let Ok(piece) = frame.into_data() else { continue };
                bytes += piece.len() as u64;
                hash.update(&piece);
                if bytes > UPLOAD_BYTES_MAX {
                    break Err(Problem::new(Errno::BodyTooLarge));
                }
                if pieces.send(piece).await.is_err() {
                    break Ok(()); // the disk failed: it says why
                }
            }
        }
    };
    drop(pieces);
    let written = writing.await.map_err(io::Error::other).and_then(|written| written);
    let failed = |error: io::Error| Problem::because(Errno::StoreFailed, error.to_string());
    match received.and(written.map_err(failed)) {
        Ok(()) if bytes > 0 => Ok(bytes),
        Ok(()) => Err(Problem::field("", "is empty")),
        Err(problem) => Err(problem),
    }
}

fn write(path: &Path, mut pieces: mpsc::Receiver<Bytes>) -> io::Result<()> {
    if let Some(above) = path.parent() {
        fs::create_dir_all(above)?;
    }
    let mut file = fs::File::create_new(path)?;
    while let Some(piece) = pieces.blocking_recv() {
        file.write_all(&piece)?;
    }
    file.sync_all()?;
    path.parent().map_or(Ok(()), |above| fs::File::open(above)?.sync_all())
}

/// An upload, and how far it is.
#[utoipa::path(
    get,
    path = "/v1/apps/{app}/imports/{import}",
    tag = "imports",
    responses((status = 200, description = "The upload", body = ImportView)),
)]
pub(super) async fn show(
    Guarded { app, .. }: Guarded<READ>,
    Params((_, id)): Params<(String, String)>,
    State(shared): State<Api>,
) -> Result<axum::Json<ImportView>, Problem> {
    let import = shared.store.read(move |tx| imports::load(tx, &app, &id)).await?;
    let import = import.ok_or_else(|| Problem::new(Errno::ImportUnknown))?;
    let list = (import.kind == Kind::Audience && import.is_over).then(|| import.id.clone());
    Ok(axum::Json(ImportView {
        id: import.id,
        kind: import.kind,
        format: import.place.format,
        bytes: import.bytes,
        read: import.offset,
        rows: import.counts,
        is_over: import.is_over,
        list,
    }))
}

/// The first of them.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct ErrorsQuery {
    /// The row that the page before ended with.
    after: Option<u64>,
    /// Entries at most.
    #[param(minimum = 1, maximum = 1000, default = 100)]
    limit: Option<usize>,
}

/// Wrong rows.
#[derive(Serialize, ToSchema)]
pub(super) struct RowErrors {
    items: Vec<RowError>,
    page: RowErrorsPage,
}

#[derive(Serialize, ToSchema)]
struct RowErrorsPage {
    /// What `after` of the next page is.
    #[schema(required)]
    next: Option<u64>,
    limit: usize,
}

/// What is wrong with rows of an upload, by their numbers; of the first 1,000 of them.
#[utoipa::path(
    get,
    path = "/v1/apps/{app}/imports/{import}/errors",
    tag = "imports",
    params(ErrorsQuery),
    responses((status = 200, description = "One page", body = RowErrors)),
)]
pub(super) async fn errors(
    Guarded { app, .. }: Guarded<READ>,
    Params((_, id)): Params<(String, String)>,
    Asked(query): Asked<ErrorsQuery>,
    State(shared): State<Api>,
) -> Result<axum::Json<RowErrors>, Problem> {
    let limit = query.limit.unwrap_or(PAGE);
    if !(1..=1000).contains(&limit) {
        return Err(Problem::because(Errno::InvalidQuery, "limit is 1 to 1000"));
    }
    let read = move |tx: &Tx<'_>| {
        imports::load(tx, &app, &id)?.ok_or_else(|| Problem::new(Errno::ImportUnknown))?;
        Ok::<_, Problem>(imports::errors(tx, &app, &id, query.after, limit)?)
    };
    let items = shared.store.read(read).await?;
    let next = items.last().map(|error| error.row).filter(|_| items.len() == limit);
    Ok(axum::Json(RowErrors { items, page: RowErrorsPage { next, limit } }))
}

/// Does one row.
pub(crate) fn do_fields(
    tx: &mut Tx<'_>,
    app: &AppId,
    import: &Import,
    mut fields: Map<String, Value>,
) -> Result<Done, NotDone> {
    if import.kind == Kind::Devices {
        return bodies::import_one(tx, app, fields);
    }
    let device = text(&mut fields, &["device", "id"])?;
    if !is_device_id(&device) {
        return Err(wrong("device is no client id of 1 to 1,024 bytes"));
    }
    let change = match import.kind {
        Kind::Devices | Kind::Audience => {
            nothing_more(&fields)?;
            let added = lists::add(tx, app, &import.id, [device])?;
            return Ok(if added > 0 { Done::Changed } else { Done::Same });
        }
        Kind::Tags => Label::Tag(text(&mut fields, &["tag"])?),
        Kind::Users => Label::Alias(USER.to_owned(), text(&mut fields, &["user"])?),
        Kind::Aliases => {
            let kind = fields.contains_key("type").then(|| text(&mut fields, &["type"])).transpose()?;
            Label::Alias(kind.unwrap_or_else(|| USER.to_owned()), text(&mut fields, &["alias"])?)
        }
    };
    let is_removal = match fields.contains_key("act").then(|| text(&mut fields, &["act"])).transpose()? {
        None => false,
        Some(act) if act == "add" => false,
        Some(act) if act == "remove" => true,
        Some(_) => return Err(wrong("act is add or remove")),
    };
    nothing_more(&fields)?;
    let mut known = devices::load(tx, app, &device)?.ok_or_else(|| wrong("no such device"))?;
    if !change.apply(&mut known, is_removal)? {
        return Ok(Done::Same);
    }
    devices::save(tx, app, &known)?;
    Ok(Done::Changed)
}

/// What a row gives to a device, or takes.
enum Label {
    Tag(String),
    Alias(String, String),
}

impl Label {
    /// `false` when nothing changes.
    fn apply(self, device: &mut Device, is_removal: bool) -> Result<bool, NotDone> {
        let is_good = match &self {
            Self::Tag(tag) => is_label(tag),
            Self::Alias(kind, alias) => is_label(kind) && is_label(alias),
        };
        if !is_good {
            return Err(wrong("a label has 1 to 256 bytes without controls"));
        }
        match (self, is_removal) {
            (Self::Tag(tag), true) => Ok(device.tags.remove(&tag)),
            (Self::Tag(tag), false) if device.tags.len() >= TAGS_MAX && !device.tags.contains(&tag) => {
                Err(wrong("the device has 100 tags"))
            }
            (Self::Tag(tag), false) => Ok(device.tags.insert(tag)),
            (Self::Alias(kind, alias), true) => {
                let has = device.alias.get(&kind) == Some(&alias);
                if has {
                    device.alias.remove(&kind);
                }
                Ok(has)
            }
            (Self::Alias(kind, _), false)
                if device.alias.len() >= ALIASES_MAX && !device.alias.contains_key(&kind) =>
            {
                Err(wrong("the device has aliases of 10 types"))
            }
            (Self::Alias(kind, alias), false) => Ok(device.alias.insert(kind, alias.clone()) != Some(alias)),
        }
    }
}

/// Takes a text under one of these names.
pub(super) fn text(fields: &mut Map<String, Value>, names: &[&str]) -> Result<String, NotDone> {
    for name in names {
        match fields.remove(*name) {
            None => {}
            Some(Value::String(text)) => return Ok(text),
            Some(Value::Number(number)) => return Ok(number.to_string()),
            Some(_) => return Err(wrong(&format!("{name} is a text"))),
        }
    }
    Err(wrong(&format!("{} is missing", names.first().unwrap_or(&""))))
}

fn nothing_more(fields: &Map<String, Value>) -> Result<(), NotDone> {
    match fields.keys().next() {
        Some(name) => Err(wrong(&format!("{name} is no field of such a row"))),
        None => Ok(()),
    }
}

/// A row that is wrong.
pub(super) fn wrong(problem: &str) -> NotDone {
    NotDone::Row(problem.to_owned())
}

impl From<Problem> for NotDone {
    fn from(problem: Problem) -> Self {
        match problem.errno().status() {
            500.. => Self::Store(StoreError::Closed), // of a write that failed under the row
            _ => Self::Row(problem.words()),
        }
    }
}
