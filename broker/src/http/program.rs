//! What an operator has the program do: log, traces, configuration file, drain.

use super::admin::Api;
use super::admin::Listed;
use super::problem::{Errno, Problem};
use super::read::{Json, Params};
use crate::config::{Config, TraceConfig, TraceError};
use crate::drain::{Drain, DrainError};
use crate::operator::LogFilterError;
use crate::reload::ReloadError;
use axum::extract::State;
use axum::http::StatusCode;
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

/// The table `[broker]` as it is in force, defaults included. Secrets are `***`.
#[derive(Debug, Serialize, ToSchema)]
#[serde(transparent)]
#[schema(value_type = Object)]
pub(crate) struct InForce(Config);

/// The configuration in force, without its secrets.
#[utoipa::path(get, path = "/config", tag = "program", responses((status = 200, body = InForce)))]
pub(crate) async fn config(State(api): State<Api>) -> Result<axum::Json<InForce>, Problem> {
    let operator = api.operator.clone();
    // A reload holds it while it reads files.
    let config = tokio::task::spawn_blocking(move || operator.config()).await;
    config.map(|config| axum::Json(InForce(config))).map_err(|_| Problem::new(Errno::Stopping))
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

/// Who is followed in the log, for a while.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Trace {
    /// Of this app; `default` when absent.
    #[serde(default)]
    app: Option<String>,
    /// This client.
    #[serde(default)]
    client_id: Option<String>,
    /// Topics under this filter.
    #[serde(default)]
    filter: Option<String>,
    /// How long.
    #[serde(default)]
    for_s: Option<u32>,
    /// Lines in one second; more are counted instead.
    #[serde(default)]
    lines_per_s: Option<u32>,
}

/// A trace that runs.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Running {
    /// Takes it back.
    number: u64,
    app: String,
    #[schema(required)]
    client_id: Option<String>,
    #[schema(required)]
    filter: Option<String>,
    /// How long it still lasts.
    left_s: u64,
    /// Lines written.
    lines: u64,
    /// Lines that were too many in their second.
    suppressed: u64,
}

/// The number of a new trace.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Numbered {
    number: u64,
}

/// The traces that run.
#[utoipa::path(get, path = "/traces", tag = "program", responses((status = 200, body = Listed<Running>)))]
pub(crate) async fn traces(State(api): State<Api>) -> axum::Json<Listed<Running>> {
    let running = api.operator.traces().into_iter().map(|trace| Running {
        number: trace.number,
        app: trace.asked.app,
        client_id: trace.asked.client_id,
        filter: trace.asked.filter,
        left_s: trace.left.as_secs(),
        lines: trace.lines,
        suppressed: trace.suppressed,
    });
    let items: Vec<_> = running.collect();
    let count = items.len();
    Listed::new(items, None, count)
}

/// Follows a client or a topic in the log for a while.
#[utoipa::path(post, path = "/traces", tag = "program", request_body = Trace,
    responses((status = 201, body = Numbered)))]
pub(crate) async fn trace(
    State(api): State<Api>,
    Json(asked): Json<Trace>,
) -> Result<(StatusCode, axum::Json<Numbered>), Problem> {
    let usual = TraceConfig::default();
    let asked = TraceConfig {
        app: asked.app.unwrap_or(usual.app),
        client_id: asked.client_id,
        filter: asked.filter,
        for_s: asked.for_s.map_or(usual.for_s, u64::from),
        lines_per_s: asked.lines_per_s.unwrap_or(usual.lines_per_s),
    };
    let number =
        api.operator.add_trace(&asked).map_err(|error: TraceError| Problem::field("", error.to_string()))?;
    Ok((StatusCode::CREATED, axum::Json(Numbered { number })))
}

/// Ends a trace early.
#[utoipa::path(delete, path = "/traces/{number}", tag = "program", params(("number" = u64, Path)),
    responses((status = 204)))]
pub(crate) async fn end_trace(
    State(api): State<Api>,
    Params(number): Params<u64>,
) -> Result<StatusCode, Problem> {
    match api.operator.remove_trace(number) {
        true => Ok(StatusCode::NO_CONTENT),
        false => Err(Problem::new(Errno::TraceUnknown)),
    }
}

/// How the broker empties itself. What is absent is as `[broker.drain]` says.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct DrainBody {
    /// Where clients of 5.0 shall go: names or addresses with ports, separated by spaces.
    #[serde(default)]
    server_reference: Option<String>,
    /// Whether they shall stay there.
    #[serde(default)]
    permanent: Option<bool>,
    /// Seconds over which the clients leave; at most 3600.
    #[serde(default)]
    over_s: Option<u32>,
}

/// Empties the broker before a planned stop: nobody new, and those who are there leave over a window. It cannot be taken
/// back; the program ends when everyone is gone.
#[utoipa::path(post, path = "/drain", tag = "program", request_body = DrainBody, responses((status = 202)))]
pub(crate) async fn drain(
    State(api): State<Api>,
    Json(asked): Json<DrainBody>,
) -> Result<StatusCode, Problem> {
    let usual = api.operator.configured_drain();
    let drain = Drain {
        server_reference: asked.server_reference.or(usual.server_reference),
        is_permanent: asked.permanent.unwrap_or(usual.is_permanent),
        over_s: asked.over_s.map_or(usual.over_s, u64::from),
    };
    match api.operator.drain(drain) {
        Ok(()) => Ok(StatusCode::ACCEPTED),
        Err(error @ DrainError::Draining) => Err(Problem::because(Errno::Draining, error.to_string())),
        Err(error) => Err(Problem::field("", error.to_string())),
    }
}
