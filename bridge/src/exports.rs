//! Files of devices, dead device tokens, or the deliveries of a message, written a chunk at a time and kept for a day.
//!
//! How far the file is, is noted after each chunk: after a crash what was written behind that place is cut off, and the work
//! goes on there.

use std::collections::BTreeSet;
use std::fs;
use std::io::{self, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use reveille_proto::ids::{AppId, MessageId};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::audience::{Asked, Expression};
use crate::deliveries;
use crate::devices::{self, Device};
use crate::http::show_delivery;
use crate::imports::rows::Format;
use crate::index::DeviceNumber;
use crate::operations::{self, Operation};
use crate::queues::{self, Check};
use crate::resting::Resting;
use crate::shared::Shared;
use crate::store::{Order, Space, StoreError, Tx, keys};
use crate::tokens;

/// Exports of an app that are kept, at most.
pub const KEPT_MAX: usize = 32;
/// Entries of one chunk.
const CHUNK: usize = 1000;
/// How long a file is kept, in milliseconds: a day.
pub const KEPT_MS: u64 = 24 * 60 * 60 * 1000;
/// Exports that are worked on in turn.
const AT_ONCE: usize = 64;
/// Pause after the store or the disk failed.
const FAULT_PAUSE: Duration = Duration::from_secs(1);

/// What is written.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "what", rename_all = "snake_case")]
pub(crate) enum What {
    /// The devices that an expression means; without one all of them.
    Devices { filter: Option<Expression> },
    /// The device tokens that vendors called dead.
    DeadTokens,
    /// A row for each device of a message.
    Deliveries {
        #[serde(with = "crate::messages::id_text")]
        message: MessageId,
    },
}

/// A file and how far it is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Export {
    pub app: String,
    /// The id of its operation, and the name of its file.
    pub id: String,
    #[serde(flatten)]
    pub what: What,
    pub format: Format,
    /// The entry that was written last.
    pub after: Option<String>,
    /// Bytes that count.
    pub bytes: u64,
    pub rows: u64,
    /// Until when it is kept, once it is whole, in milliseconds since 1970.
    pub expires_at_ms: Option<u64>,
}

/// Where files lie.
pub(crate) fn directory(files: &Path) -> PathBuf {
    files.join("exports")
}

/// The file of an export.
pub(crate) fn file_of(files: &Path, id: &str) -> PathBuf {
    directory(files).join(id)
}

/// Begins an export.
pub(crate) fn begin(
    tx: &mut Tx<'_>,
    app: &AppId,
    what: What,
    format: Format,
) -> Result<Operation, StoreError> {
    let operation = operations::begin(tx, app, operations::Kind::Export, None)?;
    let export = Export {
        app: app.as_str().to_owned(),
        id: operation.id.clone(),
        what,
        format,
        after: None,
        bytes: 0,
        rows: 0,
        expires_at_ms: None,
    };
    save(tx, app, &export)?;
    tx.touched().exports = true;
    Ok(operation)
}

fn save(tx: &mut Tx<'_>, app: &AppId, export: &Export) -> Result<(), StoreError> {
    tx.save(Space::Queues, keys::export(app, &export.id), export)
}

/// An export by its id.
pub(crate) fn load(tx: &Tx<'_>, app: &AppId, id: &str) -> Result<Option<Export>, StoreError> {
    tx.load(Space::Queues, &keys::export(app, id))
}

/// Exports of an app.
pub(crate) fn count(tx: &Tx<'_>, app: &AppId) -> Result<usize, StoreError> {
    tx.count(Space::Queues, &keys::exports_of(app), KEPT_MAX)
}

/// Forgets an export. Its file goes when the work looks next.
pub(crate) fn forget(tx: &mut Tx<'_>, app: &AppId, id: &str) {
    tx.remove(Space::Queues, keys::export(app, id));
    tx.touched().exports = true;
}

/// Works on every export, one chunk of each in turn, for ever.
pub(crate) async fn run(shared: Arc<Shared>) {
    let mut resting = Resting::default();
    loop {
        match one_turn(&shared, &mut resting).await {
            Ok(true) => {}
            Ok(false) => shared.store.wakes().exports.notified().await,
            Err(error) => {
                tracing::error!(%error, "an export cannot be worked on");
                tokio::time::sleep(FAULT_PAUSE).await;
            }
        }
    }
}

/// Why a chunk was not written; it is tried again.
#[derive(Debug, thiserror::Error)]
enum Fault {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("the file cannot be written: {0}")]
    File(#[from] io::Error),
}

/// Every export of every app.
pub(crate) fn all(tx: &Tx<'_>) -> Result<Vec<Export>, StoreError> {
    let found = tx.records(Space::Queues, &keys::exports(), None, Order::Forward, usize::MAX)?;
    Ok(found.into_iter().map(|(_, export)| export).collect())
}

async fn one_turn(shared: &Arc<Shared>, resting: &mut Resting) -> Result<bool, Fault> {
    let exports = shared.store.read(all).await?;
    let known = exports.iter().map(|export| export.id.clone()).collect();
    let mut open: Vec<_> = exports.into_iter().filter(|export| export.expires_at_ms.is_none()).collect();
    if open.is_empty() {
        resting.clear();
        tidy(shared, known).await?;
        return Ok(false);
    }
    let now_ms = shared.store.now_ms();
    open.retain(|export| resting.is_over(&export.id, now_ms)); // one that cannot be written holds up no other
    let mut is_on = false;
    for export in open.into_iter().take(AT_ONCE) {
        let id = export.id.clone();
        let tried = step(shared, export).await;
        is_on |= resting.note(&id, shared.store.now_ms(), tried);
    }
    if !is_on {
        tokio::time::sleep(FAULT_PAUSE).await;
    }
    Ok(true)
}

/// Removes files that no export has any more.
async fn tidy(shared: &Arc<Shared>, known: BTreeSet<String>) -> Result<(), Fault> {
    let files = directory(&shared.files);
    let tidied = tokio::task::spawn_blocking(move || {
        fs::create_dir_all(&files)?;
        for entry in fs::read_dir(&files)? {
            let entry = entry?;
            if !entry.file_name().to_str().is_some_and(|name| known.contains(name)) {
                fs::remove_file(entry.path())?;
            }
        }
        Ok::<_, io::Error>(())
    });
    Ok(tidied.await.map_err(io::Error::other)??)
}

async fn step(shared: &Arc<Shared>, export: Export) -> Result<(), Fault> {
    let place = export.clone();
    let (rows, after) = shared.store.read(move |tx| chunk(tx, &place)).await?;
    let (path, place, count) = (file_of(&shared.files, &export.id), export.clone(), rows.len() as u64);
    let written = tokio::task::spawn_blocking(move || append(&path, &place, &rows));
    let bytes = written.await.map_err(io::Error::other)??;
    shared.store.write(move |tx| note(tx, export, after, bytes, count)).await?;
    Ok(())
}

/// The next entries, and behind which to go on; `None` at the end.
fn chunk(tx: &Tx<'_>, export: &Export) -> Result<(Vec<Value>, Option<String>), StoreError> {
    let Ok(app) = AppId::parse(&export.app) else { return Ok((Vec::new(), None)) };
    let after = export.after.as_deref();
    match &export.what {
        What::Devices { filter: Some(filter) } => {
            let from = after.and_then(|number| number.parse().ok()).map(DeviceNumber);
            let asked = Asked::new(tx, &app, filter.clone(), tx.now_ms())?;
            let (ids, next) = asked.ids_from(tx, &app, from, CHUNK)?;
            let found = ids.iter().filter_map(|id| devices::load(tx, &app, id).transpose());
            let rows = found.map(|device| Ok(row_of(&device?))).collect::<Result<_, StoreError>>()?;
            Ok((rows, next.map(|number| number.0.to_string())))
        }
        What::Devices { filter: None } => {
            let found = devices::list(tx, &app, after, CHUNK)?;
            let last = found.last().map(|device| device.id.clone());
            Ok(part(found.iter().map(row_of).collect(), last))
        }
        What::DeadTokens => {
            let found = tokens::dead(tx, &app, after.and_then(|number| number.parse().ok()), CHUNK)?;
            let last = found.last().map(|(number, _)| number.to_string());
            Ok(part(found.into_iter().map(|(_, dead)| json!(dead)).collect(), last))
        }
        What::Deliveries { message } => {
            let found = deliveries::list(tx, &app, *message, after, CHUNK)?;
            let last = found.last().map(|(device, _)| device.clone());
            let rows = found.iter().map(|(device, delivery)| show_delivery(device, delivery));
            Ok(part(rows.collect(), last))
        }
    }
}

/// A device as an import reads it, with its live tokens.
fn row_of(device: &Device) -> Value {
    let live = device.tokens.iter().filter(|token| !token.is_dead());
    let tokens: Map<String, Value> = live
        .map(|token| {
            let mut row = json!({"token": token.token, "registered": token.home});
            if let (Value::Object(row), Ok(Value::Object(home))) =
                (&mut row, serde_json::to_value(&token.home))
            {
                row.remove("registered");
                row.extend(home.into_iter().filter(|(_, value)| !value.is_null()));
            }
            (token.vendor.to_string(), row)
        })
        .collect();
    json!({
        "id": device.id,
        "alias": device.alias,
        "tags": device.tags,
        "platform": device.attributes.platform,
        "app_version": device.attributes.app_version,
        "language": device.attributes.language,
        "timezone": device.attributes.timezone,
        "attributes": device.custom,
        "tokens": tokens,
    })
}

fn part(rows: Vec<Value>, last: Option<String>) -> (Vec<Value>, Option<String>) {
    let is_last = rows.len() < CHUNK;
    (rows, last.filter(|_| !is_last))
}

/// Writes rows behind what counts already; how many bytes count then.
fn append(path: &Path, export: &Export, rows: &[Value]) -> io::Result<u64> {
    let mut file = fs::OpenOptions::new().create(true).truncate(false).write(true).open(path)?;
    file.set_len(export.bytes)?;
    file.seek(SeekFrom::Start(export.bytes))?;
    let text = match export.format {
        Format::Ndjson => rows.iter().map(|row| format!("{row}\n")).collect::<String>().into_bytes(),
        Format::Csv => csv_of(&export.what, rows, export.bytes == 0)?,
    };
    file.write_all(&text)?;
    file.sync_all()?;
    Ok(export.bytes + text.len() as u64)
}

/// Columns of CSV; an object is JSON in its cell.
fn columns(what: &What) -> &'static [&'static str] {
    match what {
        What::Devices { .. } => &[
            "id",
            "alias",
            "tags",
            "platform",
            "app_version",
            "language",
            "timezone",
            "attributes",
            "tokens",
        ],
        What::DeadTokens => &["vendor", "token", "device", "reason", "at_ms"],
        What::Deliveries { .. } => &["device", "state", "counts_as", "vendor", "reason", "updated_at_ms"],
    }
}

fn csv_of(what: &What, rows: &[Value], has_header: bool) -> io::Result<Vec<u8>> {
    let columns = columns(what);
    let mut writer = csv::Writer::from_writer(Vec::new());
    if has_header {
        writer.write_record(columns)?;
    }
    for row in rows {
        writer.write_record(columns.iter().map(|name| cell(row.get(*name))))?;
    }
    writer.into_inner().map_err(|error| io::Error::other(error.to_string()))
}

/// One value as text. A text that a spreadsheet would take for a formula gets an apostrophe in front.
fn cell(value: Option<&Value>) -> String {
    match value {
        None | Some(Value::Null) => String::new(),
        Some(Value::String(text)) => harmless(text.clone()),
        Some(Value::Object(fields)) if fields.is_empty() => String::new(),
        Some(Value::Array(items)) if items.iter().all(Value::is_string) => {
            harmless(items.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(";"))
        }
        Some(other) => other.to_string(),
    }
}

fn harmless(text: String) -> String {
    if text.starts_with(['=', '+', '-', '@']) { format!("'{text}") } else { text }
}

/// Notes how far it is, or that it is whole.
fn note(
    tx: &mut Tx<'_>,
    was: Export,
    after: Option<String>,
    bytes: u64,
    count: u64,
) -> Result<(), StoreError> {
    let Ok(app) = AppId::parse(&was.app) else { return Ok(()) };
    let (Some(mut export), Some(mut operation)) = (load(tx, &app, &was.id)?, operations::load(tx, &was.id)?)
    else {
        return Ok(()); // the app was removed
    };
    (export.bytes, export.rows) = (bytes, export.rows + count);
    operation.advance(tx, count)?;
    let is_whole = after.is_none();
    export.after = after;
    if !is_whole {
        return save(tx, &app, &export);
    }
    let expires_at_ms = tx.now_ms().saturating_add(KEPT_MS);
    export.expires_at_ms = Some(expires_at_ms);
    save(tx, &app, &export)?;
    let check = Check::ForgetExport { app: app.clone(), id: export.id.clone() };
    queues::check_at(tx, expires_at_ms, &check)?;
    let result = json!({
        "rows": export.rows,
        "bytes": export.bytes,
        "href": format!("/v1/apps/{app}/exports/{}", export.id),
        "expires_at_ms": expires_at_ms,
    });
    operation.finish(tx, Some(result))
}
