//! Uploads: devices, tags, aliases, and lists of ids, row by row from a file on disk.
//!
//! ```text
//!  request --> file (synced) --> record and operation, 202 --> a chunk of rows and the place behind it, one transaction --> done
//! ```
//! A row is done together with the place behind it, so after a crash the work goes on where it stopped and nothing is done
//! twice. What is wrong with a row is kept with its number; the others are not held up by it.

pub(crate) mod rows;

use std::fs;
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use reveille_proto::ids::AppId;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use utoipa::ToSchema;

use crate::http::imports::do_fields;
use crate::lists;
use crate::operations::{self, Operation};
use crate::queues::{self, Check};
use crate::resting::Resting;
use crate::shared::Shared;
use crate::store::{Order, Space, StoreError, Tx, decode, keys};
use rows::{Place, Row, Rows};

/// Bytes of one upload at most.
pub const UPLOAD_BYTES_MAX: u64 = 256 * 1024 * 1024;
/// Uploads of an app that are not done, at most.
pub const WAITING_MAX: usize = 16;
/// Uploads that come in at once, of all apps: each may fill the disk by its bound.
pub const INCOMING_MAX: usize = 8;
/// Rows of one transaction at most, so that others get their turn.
const CHUNK: usize = 500;
/// Bytes that are read for one transaction; no row is longer.
const CHUNK_BYTES: usize = 1024 * 1024;
/// Wrong rows whose problem is kept; further ones are counted.
pub const ERRORS_MAX: u64 = 1000;
/// How long the record of an upload is kept after its end, in milliseconds: a week, as its operation.
const KEPT_MS: u64 = 7 * 24 * 60 * 60 * 1000;
/// Uploads that are worked on in turn.
const AT_ONCE: usize = 64;
/// Pause after the store or the disk failed.
const FAULT_PAUSE: Duration = Duration::from_secs(1);

/// What the rows are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[schema(as = ImportKind)]
pub(crate) enum Kind {
    /// Devices in full, as `PUT` sets them, with tokens.
    Devices,
    /// A tag of a device; `act` `remove` takes it away.
    Tags,
    /// An alias of a device; `act` `remove` takes it away.
    Aliases,
    /// A user of a device, which is an alias of the type `user`.
    Users,
    /// Ids of devices: the audience of messages.
    Audience,
}

/// An upload and how far it is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Import {
    pub app: String,
    /// The id of its operation, and the name of its file.
    pub id: String,
    pub kind: Kind,
    pub bytes: u64,
    /// Where the next row begins.
    pub offset: u64,
    pub place: Place,
    pub counts: Counts,
    pub is_over: bool,
}

/// Why a row is not done.
#[derive(Debug)]
pub(crate) enum NotDone {
    /// The store failed: the whole chunk is tried again.
    Store(StoreError),
    /// The row is wrong.
    Row(String),
}

impl From<StoreError> for NotDone {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

/// What became of the rows.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(as = ImportCounts)]
pub(crate) struct Counts {
    /// Rows that were read.
    pub rows: u64,
    /// Rows that changed something.
    pub changed: u64,
    /// Devices that are new.
    pub created: u64,
    /// Rows that are wrong.
    pub failed: u64,
}

/// What is wrong with a row.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(as = ImportError)]
pub(crate) struct RowError {
    /// Its number in the file; the first line is 1.
    pub row: u64,
    /// Why.
    pub problem: String,
}

/// What one row came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Done {
    Created,
    Changed,
    Same,
}

/// Where uploads lie until they are done.
pub(crate) fn directory(files: &Path) -> PathBuf {
    files.join("uploads")
}

fn file_of(shared: &Shared, id: &str) -> PathBuf {
    directory(&shared.files).join(id)
}

/// Begins to work on an upload whose file is on disk under this id.
pub(crate) fn begin(tx: &mut Tx<'_>, app: &AppId, import: &Import) -> Result<Operation, StoreError> {
    let operation = operations::begin_as(tx, &import.id, app, operations::Kind::Import, None)?;
    if import.kind == Kind::Audience {
        lists::begin(tx, app, &import.id)?;
    }
    save(tx, app, import)?;
    tx.put(Space::Queues, keys::open_import(app, &import.id), Vec::new());
    tx.touched().imports = true;
    Ok(operation)
}

fn save(tx: &mut Tx<'_>, app: &AppId, import: &Import) -> Result<(), StoreError> {
    tx.save(Space::Queues, keys::import(app, &import.id), import)
}

/// An upload by its id.
pub(crate) fn load(tx: &Tx<'_>, app: &AppId, id: &str) -> Result<Option<Import>, StoreError> {
    tx.load(Space::Queues, &keys::import(app, id))
}

/// Uploads of an app that are not over.
pub(crate) fn waiting(tx: &Tx<'_>, app: &AppId) -> Result<usize, StoreError> {
    tx.count(Space::Queues, &keys::open_imports_of(app), WAITING_MAX)
}

/// The wrong rows of an upload after a number.
pub(crate) fn errors(
    tx: &Tx<'_>,
    app: &AppId,
    id: &str,
    after: Option<u64>,
    limit: usize,
) -> Result<Vec<RowError>, StoreError> {
    let after = after.map(|row| keys::import_error(app, id, row));
    let all = keys::import_errors(app, id);
    let found = tx.scan(Space::Queues, &all, after.as_deref(), Order::Forward, limit)?;
    found.iter().map(|(_, value)| decode(value)).collect()
}

/// Forgets an upload with the problems of its rows.
pub(crate) fn forget(tx: &mut Tx<'_>, app: &AppId, id: &str) -> Result<(), StoreError> {
    let errors = keys::import_errors(app, id);
    for (key, _) in tx.scan(Space::Queues, &errors, None, Order::Forward, usize::MAX)? {
        tx.remove(Space::Queues, key); // at most `ERRORS_MAX`
    }
    tx.remove(Space::Queues, keys::import(app, id));
    Ok(())
}

/// Works through every upload, one chunk of each in turn, for ever.
pub(crate) async fn run(shared: Arc<Shared>) {
    let mut resting = Resting::default();
    loop {
        match one_turn(&shared, &mut resting).await {
            Ok(true) => {}
            Ok(false) => shared.store.wakes().imports.notified().await,
            Err(error) => pause(&error).await,
        }
    }
}

async fn pause(error: &Fault) {
    tracing::error!(%error, "an upload cannot be worked on");
    tokio::time::sleep(FAULT_PAUSE).await;
}

/// Why a chunk was not done; it is tried again.
#[derive(Debug, thiserror::Error)]
enum Fault {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("the file cannot be read: {0}")]
    File(#[from] io::Error),
}

/// Removes files that no upload has: of requests that were cut off, of uploads that were done just before a crash.
pub(crate) async fn tidy(shared: &Arc<Shared>) {
    if let Err(error) = remove_unknown(shared).await {
        tracing::error!(%error, "files of uploads that are over cannot be removed: it is tried at the next start");
    }
}

async fn remove_unknown(shared: &Arc<Shared>) -> Result<(), Fault> {
    // The marks alone: also an upload that cannot be decoded keeps its file.
    let marks = |tx: &Tx<'_>| tx.scan(Space::Queues, &keys::open_imports(), None, Order::Forward, usize::MAX);
    let (files, marks) = (directory(&shared.files), shared.store.read(marks).await?);
    let known = marks.iter().filter_map(|(key, _)| Some(keys::parse_open_import(key)?.1));
    let known: std::collections::BTreeSet<String> = known.collect();
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
    tidied.await.map_err(io::Error::other)??;
    Ok(())
}

/// Uploads that are not over, of all apps.
pub(crate) fn open(tx: &Tx<'_>, limit: usize) -> Result<Vec<Import>, StoreError> {
    let mut all = Vec::new();
    for (key, mark) in tx.scan(Space::Queues, &keys::open_imports(), None, Order::Forward, limit)? {
        let Some((app, id)) = keys::parse_open_import(&key) else { continue };
        let place = keys::import(&app, &id);
        match load(tx, &app, &id) {
            Ok(import) => all.extend(import),
            Err(error) if error.is_of_one_write() => {
                // With its mark, which would take the place of another one here.
                let value = tx.get(Space::Queues, &place)?.unwrap_or_default();
                tx.note_damaged(Space::Queues, place, value, &error);
                tx.note_damaged(Space::Queues, key, mark, &error);
            }
            Err(error) => return Err(error),
        }
    }
    Ok(all)
}

async fn one_turn(shared: &Arc<Shared>, resting: &mut Resting) -> Result<bool, Fault> {
    let imports = shared.store.read(|tx| open(tx, AT_ONCE)).await?;
    if imports.is_empty() {
        resting.clear();
        return Ok(false);
    }
    let (mut is_on, now_ms) = (false, shared.store.now_ms());
    for import in imports {
        let id = import.id.clone();
        if resting.is_over(&id, now_ms) {
            let tried = step(shared, import).await; // one that cannot be read holds up no other
            is_on |= resting.note(&id, shared.store.now_ms(), tried);
        }
    }
    if !is_on {
        tokio::time::sleep(FAULT_PAUSE).await;
    }
    Ok(true)
}

/// The files of an app's uploads that are not over.
pub(crate) async fn files_of(shared: &Shared, app: &AppId) -> Result<Vec<PathBuf>, StoreError> {
    let of = app.clone();
    let ids = move |tx: &Tx<'_>| {
        let found = tx.scan(Space::Queues, &keys::open_imports_of(&of), None, Order::Forward, usize::MAX)?;
        let ids = found.iter().filter_map(|(key, _)| keys::parse_open_import(key));
        Ok::<_, StoreError>(ids.map(|(_, id)| id).collect::<Vec<_>>())
    };
    Ok(shared.store.read(ids).await?.iter().map(|id| file_of(shared, id)).collect())
}

/// Reads the next rows and does them.
async fn step(shared: &Arc<Shared>, import: Import) -> Result<(), Fault> {
    let (path, place) = (file_of(shared, &import.id), import.clone());
    let read = tokio::task::spawn_blocking(move || read(&path, &place));
    let rows = read.await.map_err(io::Error::other)??;
    let id = import.id.clone();
    let is_over = shared.store.write(move |tx| do_rows(tx, import, rows)).await?;
    if is_over {
        let path = file_of(shared, &id);
        // One that stays is removed at the next start.
        let _ = tokio::task::spawn_blocking(move || fs::remove_file(path)).await;
    }
    Ok(())
}

/// The next rows of a file; `None` when the file is gone.
fn read(path: &Path, import: &Import) -> io::Result<Option<Rows>> {
    let mut file = match fs::File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    file.seek(SeekFrom::Start(import.offset))?;
    let mut bytes = Vec::new();
    file.take(CHUNK_BYTES as u64).read_to_end(&mut bytes)?;
    let is_end = import.offset + bytes.len() as u64 >= import.bytes;
    Ok(Some(rows::read(&bytes, is_end, import.offset == 0, &import.place, CHUNK)))
}

/// One transaction: the rows, and the place behind them. `true` when the upload is over.
fn do_rows(tx: &mut Tx<'_>, was: Import, rows: Option<Rows>) -> Result<bool, StoreError> {
    let Ok(app) = AppId::parse(&was.app) else { return Ok(true) };
    let (Some(mut import), Some(mut operation)) = (load(tx, &app, &was.id)?, operations::load(tx, &was.id)?)
    else {
        return Ok(true); // the app was removed
    };
    if import.offset != was.offset || import.is_over {
        return Ok(import.is_over);
    }
    let Some(rows) = rows else {
        return end(tx, &app, import, operation, Some("the file is gone".to_owned())).map(|()| true);
    };
    let count = rows.rows.len() as u64;
    for row in rows.rows {
        do_row(tx, &app, &mut import, row)?;
    }
    import.offset += rows.read as u64;
    import.place.row += count + u64::from(!rows.header.is_empty());
    if !rows.header.is_empty() {
        import.place.header = rows.header;
    }
    operation.advance(tx, count)?;
    if rows.problem.is_some() || rows.is_end {
        return end(tx, &app, import, operation, rows.problem).map(|()| true);
    }
    save(tx, &app, &import)?;
    Ok(false)
}

fn do_row(tx: &mut Tx<'_>, app: &AppId, import: &mut Import, row: Row) -> Result<(), StoreError> {
    import.counts.rows += 1;
    let fields = row.fields.map_err(NotDone::Row);
    match fields.and_then(|fields| do_fields(tx, app, import, fields)) {
        Ok(Done::Created) => {
            import.counts.created += 1;
            import.counts.changed += 1;
        }
        Ok(Done::Changed) => import.counts.changed += 1,
        Ok(Done::Same) => {}
        Err(NotDone::Store(error)) => return Err(error),
        Err(NotDone::Row(problem)) => {
            import.counts.failed += 1;
            if import.counts.failed <= ERRORS_MAX {
                let key = keys::import_error(app, &import.id, row.number);
                tx.save(Space::Queues, key, &RowError { row: row.number, problem })?;
            }
        }
    }
    Ok(())
}

fn end(
    tx: &mut Tx<'_>,
    app: &AppId,
    mut import: Import,
    operation: Operation,
    problem: Option<String>,
) -> Result<(), StoreError> {
    import.is_over = true;
    save(tx, app, &import)?;
    tx.remove(Space::Queues, keys::open_import(app, &import.id));
    let mut result = json!({"rows": import.counts});
    if let (Value::Object(result), Kind::Audience) = (&mut result, import.kind) {
        lists::finish(tx, app, &import.id)?;
        let devices = lists::load(tx, app, &import.id)?.map_or(0, |list| list.devices);
        result.insert("list".to_owned(), import.id.as_str().into());
        result.insert("devices".to_owned(), devices.into());
    }
    let check = Check::ForgetImport { app: app.clone(), id: import.id };
    queues::check_at(tx, tx.now_ms().saturating_add(KEPT_MS), &check)?;
    match problem {
        None => operation.finish(tx, Some(result)),
        Some(problem) => operation.fail(tx, json!({"detail": problem, "rows": import.counts})),
    }
}
