//! What the program around the broker does on request: its log, its configuration file.

use super::admin::Api;
use super::problem::{Errno, Problem};
use super::read::Json;
use crate::operator::LogFilterError;
use crate::reload::ReloadError;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// What is logged.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Log {
    /// In the words of `RUST_LOG`: `info`, or by part, as `info,reveille_broker=debug`.
    filter: String,
}

/// The log filter in force.
#[utoipa::path(get, path = "/log", tag = "program", responses((status = 200, body = Log)))]
pub(crate) async fn log(State(api): State<Api>) -> Result<axum::Json<Log>, Problem> {
    let filter = api.operator.log().ok_or_else(|| Problem::new(Errno::NotOffered))?;
    Ok(axum::Json(Log { filter }))
}

/// Replaces the log filter until the next reload or start.
#[utoipa::path(put, path = "/log", tag = "program", request_body = Log, responses((status = 200, body = Log)))]
pub(crate) async fn set_log(
    State(api): State<Api>,
    Json(asked): Json<Log>,
) -> Result<axum::Json<Log>, Problem> {
    match api.operator.set_log(&asked.filter) {
        Ok(()) => {
            tracing::warn!(filter = asked.filter, "an operator changed what is logged");
            log(State(api)).await
        }
        Err(error @ LogFilterError::Unreadable(_)) => Err(Problem::field("/filter", error.to_string())),
        Err(LogFilterError::NoLog) => Err(Problem::new(Errno::NotOffered)),
    }
}

/// What a reload did, by the keys of the configuration file.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Reloaded {
    /// In force from now on.
    changed: Vec<&'static str>,
    /// Differ from what is in force, and stay so until the next start.
    needs_restart: Vec<&'static str>,
}

/// Reads the configuration file again and puts in force what can change, as SIGHUP does.
#[utoipa::path(post, path = "/config/reload", tag = "program", responses((status = 200, body = Reloaded)))]
pub(crate) async fn reload(State(api): State<Api>) -> Result<axum::Json<Reloaded>, Problem> {
    let operator = api.operator.clone();
    let report = tokio::task::spawn_blocking(move || operator.reload_file()).await;
    match report.map_err(|_| Problem::new(Errno::Stopping))? {
        Ok(report) => {
            Ok(axum::Json(Reloaded { changed: report.changed, needs_restart: report.needs_restart }))
        }
        Err(
            error @ (ReloadError::Config(_)
            | ReloadError::File(_)
            | ReloadError::Auth(_)
            | ReloadError::NoFile),
        ) => Err(Problem::because(Errno::ReloadRefused, error.to_string())),
    }
}
