//! `/v1/apps/{app}/schedules`: messages that are sent later, or again and again.

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use reveille_proto::ids::AppId;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

use super::Api;
use super::body::{Errors, Json, Params};
use super::etag::{self, IfMatch};
use super::guard::{Guarded, READ, SEND};
use super::idempotency::{Done, IdempotencyHeader, Once, replayed};
use super::messages::send::{find_policy, outline, with_texts};
use super::paging::{Listed, Page, PageQuery};
use super::problem::{Errno, Problem};
use crate::messages::Message;
use crate::rules::Rules;
use crate::schedules::moments::{Clock, Cron, Rhythm, When};
use crate::schedules::{self, Run, RunError, SCHEDULES_MAX, Schedule};
use crate::starts::{Missed, RECIPIENT};
use crate::store::{Order, Tx};
use crate::zones::{LocalTime, Zone, parse_local};

const NAME_MAX: usize = 128;
const NO_LOCAL: &str = "is a local time, as 2026-09-01T09:00:00; its zone is the field timezone";
const NO_ZONE: &str = "is a time zone of the IANA database, as Europe/Berlin";

/// Once or again and again: one of the two.
#[derive(Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct WhenBody {
    /// A local time: `2026-09-01T09:00:00`.
    #[serde(skip_serializing_if = "Option::is_none")]
    at: Option<String>,
    /// Minute, hour, day of the month, month, day of the week: `0 9 * * MON-FRI`.
    #[serde(skip_serializing_if = "Option::is_none")]
    cron: Option<String>,
}

/// A schedule as it is given.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ScheduleBody {
    /// A word for people.
    #[serde(default)]
    name: String,
    when: WhenBody,
    /// Whose clock: a zone as `Europe/Berlin`, or `recipient` for each reader's own. Without it UTC.
    timezone: Option<String>,
    /// With `recipient`: the zone of devices that name none. Without it UTC.
    default_timezone: Option<String>,
    /// No run before this local time.
    from: Option<String>,
    /// No run after this local time.
    until: Option<String>,
    /// Runs at most.
    #[schema(minimum = 1)]
    count: Option<u64>,
    /// What becomes of moments that passed while the server was down, or on a reader's clock before.
    #[serde(default)]
    missed: Missed,
    /// The body of a send, without `dry_run`, `delivery.not_before` and `delivery.timezone`.
    #[schema(value_type = Object)]
    message: Value,
}

/// A schedule.
#[derive(Serialize, ToSchema)]
pub(super) struct ScheduleShown {
    id: String,
    name: String,
    when: WhenBody,
    timezone: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    default_timezone: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    from: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    until: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    count: Option<u64>,
    missed: Missed,
    #[schema(value_type = Object)]
    message: Value,
    /// `active`, `paused` or `ended`.
    state: &'static str,
    /// The moment that it waits for.
    next: Option<NextShown>,
    /// Moments that had a message since it was last written.
    runs: u64,
    /// The last runs, newest first.
    recent: Vec<RunShown>,
    created_at_ms: u64,
    updated_at_ms: u64,
}

/// A moment that lies ahead.
#[derive(Serialize, ToSchema)]
pub(super) struct NextShown {
    /// What the clock shows then.
    local: String,
    /// For readers' own clocks: the first of them.
    at_ms: u64,
}

/// What became of one moment.
#[derive(Serialize, ToSchema)]
pub(super) struct RunShown {
    at_ms: u64,
    /// Null when somebody asked for it.
    due_ms: Option<u64>,
    /// The message that was made, or null.
    message: Option<String>,
    /// Why there is none, or null.
    problem: Option<String>,
}

/// A message that was made beside the moments.
#[derive(Serialize, ToSchema)]
pub(super) struct RunAnswer {
    /// The message.
    id: String,
    /// `accepted`.
    state: &'static str,
}

fn shown(schedule: Schedule) -> ScheduleShown {
    let Schedule { id, name, rhythm, count, state, runs, recent, body, created_at_ms, updated_at_ms, .. } =
        schedule;
    let (timezone, default_timezone) = match &rhythm.clock {
        Clock::Of(zone) => (zone.to_string(), None),
        Clock::Recipient(otherwise) => (RECIPIENT.to_owned(), Some(otherwise.to_string())),
    };
    let text = |time: LocalTime| time.to_string();
    ScheduleShown {
        id,
        name,
        when: match &rhythm.when {
            When::At(local) => WhenBody { at: Some(text(*local)), cron: None },
            When::Cron(cron) => WhenBody { at: None, cron: Some(cron.as_str().to_owned()) },
        },
        timezone,
        default_timezone,
        from: rhythm.from.map(text),
        until: rhythm.until.map(text),
        count,
        missed: rhythm.missed,
        message: body,
        state: match state {
            schedules::State::Active { .. } => "active",
            schedules::State::Paused => "paused",
            schedules::State::Ended => "ended",
        },
        next: state.next().map(|next| NextShown { local: text(next.local), at_ms: next.at_ms }),
        runs,
        recent: recent.into_iter().map(run_shown).collect(),
        created_at_ms,
        updated_at_ms,
    }
}

fn run_shown(run: Run) -> RunShown {
    let Run { at_ms, due_ms, message, problem } = run;
    RunShown { at_ms, due_ms, message, problem }
}

/// What callers saw of it, whatever it did meanwhile.
fn seen(schedule: &Schedule) -> (&str, u64, &Value) {
    (&schedule.id, schedule.updated_at_ms, &schedule.body)
}

fn answer(status: StatusCode, schedule: Schedule) -> Response {
    let tag = etag::header(&seen(&schedule));
    (status, tag, axum::Json(shown(schedule))).into_response()
}

/// Reads a local time that may be missing.
fn time(errors: &mut Errors, pointer: &str, text: Option<&str>) -> Option<LocalTime> {
    let text = text?;
    let read = parse_local(text);
    if read.is_none() {
        errors.add(pointer, NO_LOCAL);
    }
    read
}

fn zone(errors: &mut Errors, pointer: &str, text: Option<&str>) -> Zone {
    let Some(text) = text else { return Zone::UTC };
    Zone::find(text).unwrap_or_else(|| {
        errors.add(pointer, NO_ZONE);
        Zone::UTC
    })
}

fn when(errors: &mut Errors, body: &WhenBody) -> Option<When> {
    match (&body.at, &body.cron) {
        (Some(at), None) => time(errors, "/when/at", Some(at)).map(When::At),
        (None, Some(cron)) => match Cron::parse(cron) {
            Ok(cron) => Some(When::Cron(cron)),
            Err(error) => {
                errors.add("/when/cron", error.to_string());
                None
            }
        },
        (Some(_), Some(_)) | (None, None) => {
            errors.add("/when", "has either at or cron");
            None
        }
    }
}

fn rhythm(body: &ScheduleBody, errors: &mut Errors) -> Option<Rhythm> {
    let when = when(errors, &body.when);
    let otherwise = zone(errors, "/default_timezone", body.default_timezone.as_deref());
    let clock = match body.timezone.as_deref() {
        Some(RECIPIENT) => Clock::Recipient(otherwise),
        named => {
            if body.default_timezone.is_some() {
                errors.add("/default_timezone", "goes with the timezone recipient only");
            }
            Clock::Of(zone(errors, "/timezone", named))
        }
    };
    let from = time(errors, "/from", body.from.as_deref());
    let until = time(errors, "/until", body.until.as_deref());
    Some(Rhythm { when: when?, clock, from, until, missed: body.missed })
}

/// A schedule that can be written, without an id and a state.
fn checked(body: ScheduleBody, app: &AppId, rules: &Rules, now_ms: u64) -> Result<Schedule, Problem> {
    let mut errors = Errors::default();
    let rhythm = rhythm(&body, &mut errors);
    if body.name.len() > NAME_MAX {
        errors.add("/name", format!("has at most {NAME_MAX} bytes"));
    }
    if body.count == Some(0) {
        errors.add("/count", "is at least 1");
    }
    let message = outline(&body.message, app, rules, now_ms).map_err(|problem| problem.below("/message"))?;
    if message.start.is_some() {
        errors.add("/message/delivery/not_before", "is said by the schedule");
    }
    errors.or_ok()?;
    let rhythm = rhythm.ok_or_else(|| Problem::field("/when", "has either at or cron"))?;
    Ok(Schedule {
        id: String::new(),
        name: body.name,
        rhythm,
        count: body.count,
        state: schedules::State::Ended,
        runs: 0,
        recent: Vec::new(),
        body: body.message,
        message,
        created_at_ms: now_ms,
        updated_at_ms: now_ms,
    })
}

/// What it names exists now; what it will be then is looked up then.
fn check_names(tx: &Tx<'_>, mut message: Message) -> Result<(), Problem> {
    let below = |problem: Problem| problem.below("/message");
    message.audience.make_ready(tx, &message.app).map_err(Problem::from).map_err(below)?;
    let mut message = with_texts(tx, message).map_err(below)?;
    find_policy(tx, &mut message).map_err(below)?;
    Ok(())
}

fn begin(tx: &mut Tx<'_>, app: &AppId, schedule: &mut Schedule) -> Result<(), Problem> {
    check_names(tx, schedule.message.clone())?;
    if !schedule.begin(tx.now_ms()) {
        return Err(Problem::field("/when", "means no moment that lies ahead"));
    }
    Ok(schedules::save(tx, app, schedule)?)
}

/// Makes a schedule.
#[utoipa::path(
    post,
    path = "/v1/apps/{app}/schedules",
    tag = "planning",
    params(IdempotencyHeader),
    request_body = ScheduleBody,
    responses((status = 201, description = "The schedule, which waits for its first moment", body = ScheduleShown)),
)]
pub(super) async fn create(
    Guarded { app, caller }: Guarded<SEND>,
    State(shared): State<Api>,
    headers: HeaderMap,
    Json(body, bytes): Json<ScheduleBody>,
) -> Result<Response, Problem> {
    let (rules, now_ms) = (shared.rules, shared.store.now_ms());
    let mut schedule = checked(body, &app, &rules, now_ms)?;
    schedule.id = uuid::Uuid::now_v7().simple().to_string();
    let once = Once::making("schedules", &app, &caller.key_id, &headers, &bytes)?;
    let made = shared
        .store
        .write(move |tx| {
            if let Some(id) = once.answered::<String>(tx, 0)? {
                return known(tx, &app, &id).map(Done::Before); // as it is now
            }
            if schedules::are_full(tx, &app)? {
                return Err(Problem::because(Errno::TooManySchedules, format!("at most {SCHEDULES_MAX}")));
            }
            begin(tx, &app, &mut schedule)?;
            once.keep(tx, &rules, &schedule.id)?;
            Ok(Done::Now(schedule))
        })
        .await?;
    Ok(match made {
        Done::Now(schedule) => answer(StatusCode::CREATED, schedule),
        Done::Before(schedule) => ([replayed()], answer(StatusCode::CREATED, schedule)).into_response(),
    })
}

/// Schedules, oldest first.
#[utoipa::path(
    get,
    path = "/v1/apps/{app}/schedules",
    tag = "planning",
    params(PageQuery),
    responses((status = 200, description = "One page", body = Listed<ScheduleShown>)),
)]
pub(super) async fn list(
    Guarded { app, .. }: Guarded<READ>,
    page: Page,
    State(shared): State<Api>,
) -> Result<axum::Json<Listed<ScheduleShown>>, Problem> {
    let read = move |tx: &Tx<'_>| {
        let read = |from: Option<&str>, order, limit| schedules::page(tx, &app, from, order, limit);
        page.walk(Order::Forward, read, |schedule| schedule.id.clone())
    };
    Ok(shared.store.read(read).await?.show(shown))
}

fn known(tx: &Tx<'_>, app: &AppId, id: &str) -> Result<Schedule, Problem> {
    schedules::load(tx, app, id)?.ok_or_else(|| Problem::new(Errno::ScheduleUnknown))
}

/// One schedule with its last runs.
#[utoipa::path(
    get,
    path = "/v1/apps/{app}/schedules/{schedule}",
    tag = "planning",
    responses((status = 200, description = "The schedule", body = ScheduleShown)),
)]
pub(super) async fn show(
    Guarded { app, .. }: Guarded<READ>,
    Params((_, id)): Params<(String, String)>,
    State(shared): State<Api>,
) -> Result<Response, Problem> {
    let schedule = shared.store.read(move |tx| known(tx, &app, &id)).await?;
    Ok(answer(StatusCode::OK, schedule))
}

/// Replaces a schedule: it waits for its first moment anew, and counts its runs from none.
#[utoipa::path(
    put,
    path = "/v1/apps/{app}/schedules/{schedule}",
    tag = "planning",
    request_body = ScheduleBody,
    responses((status = 200, description = "The schedule", body = ScheduleShown)),
)]
pub(super) async fn replace(
    Guarded { app, .. }: Guarded<SEND>,
    Params((_, id)): Params<(String, String)>,
    headers: HeaderMap,
    State(shared): State<Api>,
    Json(body, _): Json<ScheduleBody>,
) -> Result<Response, Problem> {
    let new = checked(body, &app, &shared.rules, shared.store.now_ms())?;
    let if_match = IfMatch::of(&headers);
    let schedule = shared
        .store
        .write(move |tx| {
            let old = known(tx, &app, &id)?;
            if_match.check(Some(&seen(&old)))?;
            let Schedule { id, recent, created_at_ms, .. } = old;
            let mut schedule = Schedule { id, recent, created_at_ms, ..new };
            begin(tx, &app, &mut schedule)?;
            Ok::<_, Problem>(schedule)
        })
        .await?;
    Ok(answer(StatusCode::OK, schedule))
}

/// Removes a schedule. Messages that it made stay.
#[utoipa::path(
    delete,
    path = "/v1/apps/{app}/schedules/{schedule}",
    tag = "planning",
    responses((status = 204, description = "Done")),
)]
pub(super) async fn remove(
    Guarded { app, .. }: Guarded<SEND>,
    Params((_, id)): Params<(String, String)>,
    headers: HeaderMap,
    State(shared): State<Api>,
) -> Result<impl IntoResponse, Problem> {
    let if_match = IfMatch::of(&headers);
    shared
        .store
        .write(move |tx| {
            let schedule = known(tx, &app, &id)?;
            if_match.check(Some(&seen(&schedule)))?;
            schedules::remove(tx, &app, &id);
            Ok::<_, Problem>(())
        })
        .await?;
    Ok(StatusCode::NO_CONTENT)
}

/// `:pause` and `:resume`; `:run` sends it now, beside its moments.
#[utoipa::path(
    post,
    path = "/v1/apps/{app}/schedules/{schedule}",
    tag = "planning",
    responses((status = 200, description = "The schedule", body = ScheduleShown), (status = 202, description = "After :run, the message", body = RunAnswer)),
)]
pub(super) async fn act(
    Guarded { app, caller }: Guarded<SEND>,
    Params((_, path)): Params<(String, String)>,
    State(shared): State<Api>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let (id, act) = path.split_once(':').ok_or_else(|| Problem::new(Errno::MethodNotAllowed))?;
    let id = id.to_owned();
    let is_pause = match act {
        "pause" => true,
        "resume" => false,
        "run" => {
            let once = Once::making("runs", &app, &caller.key_id, &headers, path.as_bytes())?;
            let rules = shared.rules;
            let done = shared.store.write(move |tx| once.run(tx, &rules, |tx| run(tx, &rules, &app, &id)));
            let done = done.await?.map(|id| RunAnswer { id, state: "accepted" });
            return Ok(done.answer(StatusCode::ACCEPTED));
        }
        _ => return Err(Problem::new(Errno::MethodNotAllowed)),
    };
    let schedule = shared
        .store
        .write(move |tx| {
            let mut schedule = known(tx, &app, &id)?;
            let before = schedule.state;
            schedule.pause(is_pause, tx.now_ms());
            if schedule.state != before {
                schedule.updated_at_ms = tx.now_ms();
                schedules::save(tx, &app, &schedule)?;
            }
            Ok::<_, Problem>(schedule)
        })
        .await?;
    Ok(answer(StatusCode::OK, schedule))
}

fn run(tx: &mut Tx<'_>, rules: &Rules, app: &AppId, id: &str) -> Result<String, Problem> {
    let schedule = known(tx, app, id)?;
    Ok(schedules::run_now(tx, rules, app, schedule)?.to_string())
}

impl From<RunError> for Problem {
    fn from(error: RunError) -> Self {
        match error {
            RunError::Store(error) => error.into(),
            RunError::Texts(error) => Self::from(error).below("/message"),
            RunError::Audience(error) => Self::from(error).below("/message"),
        }
    }
}
