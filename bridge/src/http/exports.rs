//! `/v1/apps/{app}/exports`: files to be made, and made ones to be fetched.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Read as _};
use std::path::Path;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use hyper::body::Frame;
use reveille_proto::ids::AppId;
use serde::Deserialize;
use tokio::sync::mpsc;
use utoipa::ToSchema;

use super::Api;
use super::audiences::not_written_out;
use super::body::{Errors, Json, Params, message_id};
use super::guard::{ADMIN, Guarded};
use super::idempotency::{IdempotencyHeader, Once};
use super::long_operations::accepted;
use super::problem::{Errno, Problem};
use crate::exports::{self, KEPT_MAX, What};
use crate::imports::rows::Format;
use crate::messages;
use crate::operations::Operation;
use crate::segments;
use crate::sender::tasks::lock;
use crate::store::Tx;

/// Bytes that are read at once.
const PIECE: usize = 64 * 1024;
/// Pieces that wait for the network.
const PIECES: usize = 4;
/// How long whoever fetches a file may take to take a piece of it.
const SLOW: Duration = Duration::from_secs(30);
/// Files that are fetched at once, of all apps and of one: a few slow readers of one app leave room for the others.
const DOWNLOADS_MAX: usize = 16;
const DOWNLOADS_OF_APP_MAX: usize = 4;

/// Turns for files that are fetched.
#[derive(Default)]
pub(crate) struct Downloads(Mutex<BTreeMap<AppId, usize>>);

impl Downloads {
    /// `None` when too many are fetched already.
    fn take(self: &Arc<Self>, app: &AppId) -> Option<Turn> {
        let mut taken = lock(&self.0);
        let of_app = taken.get(app).copied().unwrap_or(0);
        if of_app >= DOWNLOADS_OF_APP_MAX || taken.values().sum::<usize>() >= DOWNLOADS_MAX {
            return None;
        }
        taken.insert(app.clone(), of_app + 1);
        Some(Turn { downloads: Arc::clone(self), app: app.clone() })
    }
}

/// A turn, given back when it is dropped.
struct Turn {
    downloads: Arc<Downloads>,
    app: AppId,
}

impl Drop for Turn {
    fn drop(&mut self) {
        let mut taken = lock(&self.downloads.0);
        let left = taken.remove(&self.app).unwrap_or(0).saturating_sub(1);
        if left > 0 {
            taken.insert(self.app.clone(), left);
        }
    }
}

/// What a file is to hold.
#[derive(Clone, Copy, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[schema(as = ExportKind)]
enum Kind {
    /// Devices in the form that an import reads, with their live device tokens.
    Devices,
    /// Device tokens that vendors called dead.
    DeadTokens,
    /// A row for each device of a message.
    Deliveries,
}

/// What a file is to hold, and how it is written.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ExportBody {
    what: Kind,
    /// The message, for `deliveries`.
    message: Option<String>,
    /// An expression of the audience language, for `devices`.
    filter: Option<String>,
    format: Option<Format>,
}

/// Writes a file of devices, dead device tokens or deliveries. When the operation is done, its result says where it is.
#[utoipa::path(
    post,
    path = "/v1/apps/{app}/exports",
    tag = "imports",
    params(IdempotencyHeader),
    request_body = ExportBody,
    responses((status = 202, description = "The operation says how far it is", body = Operation)),
)]
pub(super) async fn begin(
    Guarded { app, caller }: Guarded<ADMIN>,
    State(shared): State<Api>,
    headers: HeaderMap,
    Json(body, bytes): Json<ExportBody>,
) -> Result<Response, Problem> {
    let once = Once::making("exports", &app, &caller.key_id, &headers, &bytes)?;
    let rules = shared.rules;
    let format = body.format.unwrap_or(Format::Ndjson);
    let what = body.check()?;
    let work = move |tx: &mut Tx<'_>| {
        if exports::count(tx, &app)? >= KEPT_MAX {
            return Err(Problem::new(Errno::TooManyExports));
        }
        let what = match what {
            What::Devices { filter: Some(filter) } => {
                let filter = segments::write_out(tx, &app, &filter);
                What::Devices { filter: Some(filter.map_err(|error| not_written_out(error, "/filter"))?) }
            }
            What::Deliveries { message } => {
                messages::load(tx, &app, message)?.ok_or_else(|| Problem::new(Errno::MessageUnknown))?;
                What::Deliveries { message }
            }
            other => other,
        };
        Ok::<_, Problem>(exports::begin(tx, &app, what, format)?)
    };
    Ok(accepted(shared.store.write(move |tx| once.run(tx, &rules, work)).await?))
}

impl ExportBody {
    fn check(self) -> Result<What, Problem> {
        let mut errors = Errors::default();
        let filter = self.filter.and_then(|text| errors.expression("/filter", &text));
        errors.or_ok()?;
        match (self.what, self.message, filter) {
            (Kind::Devices, None, filter) => Ok(What::Devices { filter }),
            (Kind::DeadTokens, None, None) => Ok(What::DeadTokens),
            (Kind::Deliveries, Some(message), None) => {
                Ok(What::Deliveries { message: message_id(&message)? })
            }
            (Kind::Deliveries, None, _) => Err(Problem::field("/message", "is missing")),
            (Kind::Deliveries | Kind::DeadTokens, _, Some(_)) => {
                Err(Problem::field("/filter", "belongs to devices"))
            }
            (Kind::Devices | Kind::DeadTokens, Some(_), _) => {
                Err(Problem::field("/message", "belongs to deliveries"))
            }
        }
    }
}

/// The file, for a day after it was made.
#[utoipa::path(
    get,
    path = "/v1/apps/{app}/exports/{export}",
    tag = "imports",
    responses((status = 200, description = "The file", content((String = "application/x-ndjson"), (String = "text/csv")))),
)]
pub(super) async fn fetch(
    Guarded { app, .. }: Guarded<ADMIN>,
    Params((_, id)): Params<(String, String)>,
    State(shared): State<Api>,
) -> Result<Response, Problem> {
    let turn = shared.downloads.take(&app).ok_or_else(|| Problem::later(Errno::TooManyDownloads, 30))?;
    let wanted = id.clone();
    let export = shared.store.read(move |tx| exports::load(tx, &app, &wanted)).await?;
    let export = export.ok_or_else(|| Problem::new(Errno::ExportUnknown))?;
    if export.expires_at_ms.is_none() {
        return Err(Problem::new(Errno::ExportRunning));
    }
    let (kind, name) = match export.format {
        Format::Csv => ("text/csv; charset=utf-8", format!("{id}.csv")),
        Format::Ndjson => ("application/x-ndjson", format!("{id}.ndjson")),
    };
    let path = exports::file_of(&shared.files, &id);
    let file = tokio::task::spawn_blocking(move || open(&path, export.bytes)).await;
    let file = file.map_err(io::Error::other).and_then(|file| file);
    let file = file.map_err(|error| Problem::because(Errno::StoreFailed, error.to_string()))?;
    let headers = [
        (header::CONTENT_TYPE, kind.to_owned()),
        (header::CONTENT_LENGTH, export.bytes.to_string()),
        (header::CONTENT_DISPOSITION, format!("attachment; filename=\"{name}\"")),
    ];
    Ok((headers, Body::new(Pieces::of(file, turn))).into_response())
}

/// Forgets a file before its time.
#[utoipa::path(
    delete,
    path = "/v1/apps/{app}/exports/{export}",
    tag = "imports",
    responses((status = 204, description = "Done")),
)]
pub(super) async fn remove(
    Guarded { app, .. }: Guarded<ADMIN>,
    Params((_, id)): Params<(String, String)>,
    State(shared): State<Api>,
) -> Result<StatusCode, Problem> {
    let work = move |tx: &mut Tx<'_>| {
        exports::load(tx, &app, &id)?.ok_or_else(|| Problem::new(Errno::ExportUnknown))?;
        exports::forget(tx, &app, &id);
        Ok::<_, Problem>(StatusCode::NO_CONTENT)
    };
    shared.store.write(work).await
}

fn open(path: &Path, bytes: u64) -> io::Result<io::Take<fs::File>> {
    Ok(fs::File::open(path)?.take(bytes))
}

/// A file piece by piece, as fast as the network takes them.
struct Pieces(mpsc::Receiver<io::Result<Bytes>>);

impl Pieces {
    fn of(file: io::Take<fs::File>, turn: Turn) -> Self {
        let (pieces, receiver) = mpsc::channel(PIECES);
        tokio::spawn(async move {
            read_all(file, pieces, SLOW).await;
            drop(turn);
        });
        Self(receiver)
    }
}

/// No thread waits for whoever fetches it: threads for files are few, and the store needs them too.
async fn read_all(mut file: io::Take<fs::File>, pieces: mpsc::Sender<io::Result<Bytes>>, slow: Duration) {
    loop {
        let read = tokio::task::spawn_blocking(move || {
            let mut piece = Vec::with_capacity(PIECE);
            let read = file.by_ref().take(PIECE as u64).read_to_end(&mut piece);
            (file, read.map(|_| Bytes::from(piece)))
        });
        let Ok((rest, piece)) = read.await else { return };
        let is_broken = piece.is_err();
        let is_end = matches!(&piece, Ok(piece) if piece.is_empty());
        // Whoever fetches it may have gone, or stands still.
        if is_end || pieces.send_timeout(piece, slow).await.is_err() || is_broken {
            return;
        }
        file = rest;
    }
}

impl hyper::body::Body for Pieces {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        self.0.poll_recv(context).map(|piece| piece.map(|piece| piece.map(Frame::data)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_app_leaves_turns_to_the_others() {
        let downloads = Arc::new(Downloads::default());
        let app = |name: usize| AppId::parse(&format!("a{name}")).unwrap();
        let take = |name| downloads.take(&app(name));
        let mut of_one: Vec<_> = (0..DOWNLOADS_OF_APP_MAX).map(|_| take(0).unwrap()).collect();
        assert!(take(0).is_none());
        of_one.pop();
        of_one.push(take(0).unwrap());
        let others: Vec<_> = (DOWNLOADS_OF_APP_MAX..DOWNLOADS_MAX)
            .map(|at| take(at / DOWNLOADS_OF_APP_MAX).unwrap())
            .collect();
        assert!(take(9).is_none(), "all are taken");
        drop((of_one, others));
        assert!(lock(&downloads.0).is_empty());
    }

    #[tokio::test]
    async fn whoever_stands_still_while_fetching_a_file_is_left_and_whoever_reads_gets_all_of_it() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let bytes: Vec<u8> = (0..3 * PIECE + 1).map(|at| u8::try_from(at % 251).unwrap()).collect();
        fs::write(file.path(), &bytes).unwrap();
        let opened = || open(file.path(), u64::try_from(bytes.len()).unwrap()).unwrap();

        let (out, mut pieces) = mpsc::channel(1);
        let reading = tokio::spawn(read_all(opened(), out, SLOW));
        let mut read = Vec::new();
        while let Some(piece) = pieces.recv().await {
            read.extend_from_slice(&piece.unwrap());
        }
        assert!(read == bytes);
        reading.await.unwrap();

        let (out, _pieces) = mpsc::channel(1);
        tokio::spawn(read_all(opened(), out, Duration::from_millis(1))).await.unwrap(); // though nobody reads
    }
}
