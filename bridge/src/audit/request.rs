//! The request that is being answered, as the audit log will tell of it.
//!
//! A request that may change something is known to its task while it is answered. The first write that succeeds in it
//! appends the record in the same transaction ([`Open::write`]), so neither is there without the other; what wrote
//! nothing, and what was refused, is recorded before the answer leaves. No handler has to think of it.

use std::net::IpAddr;
use std::sync::{Arc, Mutex};

use axum::extract::{Request, State};
use axum::http::{Method, StatusCode, Uri};
use axum::middleware::Next;
use axum::response::Response;

use reveille_proto::ids::AppId;

use super::{Record, append};
use crate::apps::Caller;
use crate::console::Peer;
use crate::sender::tasks::lock;
use crate::shared::Shared;
use crate::store::{StoreError, Tx};

/// Longest path that a record keeps, in bytes.
const RESOURCE_MAX: usize = 512;
/// Longest name of what was made, in bytes.
const ABOUT_MAX: usize = 128;

tokio::task_local! {
    static OPEN: Open;
}

/// A request that is being answered.
#[derive(Clone)]
pub(crate) struct Open(Arc<Mutex<Pending>>);

struct Pending {
    record: Record,
    from: Option<IpAddr>,
    /// Whether it belongs into the log at all.
    is_wanted: bool,
    is_written: bool,
}

impl Open {
    fn new(method: &Method, path: &str, from: Option<IpAddr>) -> Self {
        let end = path.floor_char_boundary(RESOURCE_MAX);
        let record = Record {
            app: app_of(path),
            method: method.as_str().to_owned(),
            resource: path.get(..end).unwrap_or(path).to_owned(),
            from: from.map(|from| from.to_string()),
            ..Record::default()
        };
        let is_wanted = is_wanted(path);
        Self(Arc::new(Mutex::new(Pending { record, from, is_wanted, is_written: false })))
    }

    /// Appends the record of a change to its transaction, unless it was.
    pub fn write(&self, tx: &mut Tx<'_>) -> Result<(), StoreError> {
        let mut open = lock(&self.0);
        if open.is_written || !open.is_wanted || open.record.actor.is_none() {
            return Ok(());
        }
        open.is_written = true;
        append(tx, Record { outcome: "done".to_owned(), ..open.record.clone() })
    }

    /// What is still to be recorded when the answer is made.
    fn rest(&self, status: StatusCode) -> Option<Record> {
        let open = lock(&self.0);
        let is_done = status.is_success() || status.is_redirection();
        // Whoever is not known is recorded at the console's door only, where tries are bounded.
        let is_stranger = open.record.resource == LOGIN && status == StatusCode::UNAUTHORIZED;
        let is_known = open.record.actor.is_some() || is_stranger;
        if open.is_written || !open.is_wanted || !is_known {
            return None;
        }
        let outcome = if is_done { "done" } else { "refused" };
        Some(Record { outcome: outcome.to_owned(), status: Some(status.as_u16()), ..open.record.clone() })
    }
}

const LOGIN: &str = "/console/login";

/// What is asked of the API a thousand times a second about single devices is no matter of an audit, nor is what changes
/// nothing. Persons are audited whatever they do, and so is what a handler names.
fn is_wanted(path: &str) -> bool {
    const ASKS: [&str; 5] = [":validate", ":estimate", ":render", "/compose/count", "/console/look"];
    const SINGLE: [&str; 8] =
        ["devices", "users", "aliases", "tags", "messages", "messages:batch", "publish", "topics"];
    if ASKS.iter().any(|end| path.ends_with(end)) {
        return false;
    }
    let mut parts = path.trim_start_matches('/').split('/');
    let (root, apps, _, kind) = (parts.next(), parts.next(), parts.next(), parts.next());
    let is_single =
        root == Some("v1") && apps == Some("apps") && kind.is_some_and(|kind| SINGLE.contains(&kind));
    !is_single && root != Some("compat")
}

/// Recalls, pauses and removals are rare, and who did it is asked later.
fn is_grave(method: &Method, path: &str) -> bool {
    *method == Method::DELETE
        || *method == Method::PATCH && path.contains("/messages/")
        || path.ends_with(":pause")
        || path.ends_with(":resume")
}

fn app_of(path: &str) -> Option<String> {
    let rest = path.strip_prefix("/v1/apps/").or_else(|| path.strip_prefix("/console/apps/"))?;
    rest.split('/').next().filter(|app| !app.is_empty()).map(str::to_owned)
}

/// The request that this task answers.
pub(crate) fn open() -> Option<Open> {
    OPEN.try_with(Open::clone).ok()
}

fn change(work: impl FnOnce(&mut Pending)) {
    if let Some(open) = open() {
        work(&mut lock(&open.0));
    }
}

/// Notes which app it is about, as the router read it: `%73hop` in a path is the shop.
pub(crate) fn note_app(app: &AppId) {
    change(|open| open.record.app = Some(app.as_str().to_owned()));
}

/// Notes who asks.
pub(crate) fn note_caller(caller: &Caller) {
    change(|open| {
        open.is_wanted |= caller.key_id.starts_with('@') && !open.record.resource.ends_with("/count");
        open.record.actor = Some(caller.key_id.clone());
    });
}

/// Names what is made, so that the request is recorded whatever it is.
pub(crate) fn name(about: &str) {
    change(|open| {
        let end = about.floor_char_boundary(ABOUT_MAX);
        open.record.about = Some(about.get(..end).unwrap_or(about).to_owned());
        open.is_wanted = true;
    });
}

/// Answers a request and sees that the log tells of it.
pub(crate) async fn watch(
    State(shared): State<Arc<Shared>>,
    method: Method,
    uri: Uri,
    request: Request,
    next: Next,
) -> Response {
    if method.is_safe() {
        return next.run(request).await;
    }
    let outer = open();
    let from = request.extensions().get::<Peer>().map(|peer| peer.0);
    // The console asks in this process: it is the outer request that has come from somewhere.
    let from = from.or_else(|| outer.as_ref().and_then(|outer| lock(&outer.0).from));
    let own = Open::new(&method, uri.path(), from);
    if is_grave(&method, uri.path()) {
        lock(&own.0).is_wanted = true;
    }
    if let Some(outer) = outer {
        lock(&outer.0).is_written = true; // the inner request's record tells more
    }
    let answer = OPEN.scope(own.clone(), next.run(request)).await;
    if let Some(record) = own.rest(answer.status()) {
        let written = shared.store.write(move |tx| append(tx, record)).await;
        if let Err(error) = written {
            tracing::error!(%error, path = uri.path(), "a request could not be recorded in the audit log");
        }
    }
    answer
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_asked_all_the_time_or_changes_nothing_is_not_recorded() {
        for (path, wanted) in [
            ("/v1/apps", true),
            ("/v1/apps/shop/keys", true),
            ("/v1/apps/shop/credentials/fcm:test", true),
            ("/v1/broker/apps/shop/sessions/d1/connection", true),
            ("/console/people", true),
            ("/v1/apps/shop/devices/d1", false),
            ("/v1/apps/shop/tags/vip:add", false),
            ("/v1/apps/shop/messages", false),
            ("/v1/apps/shop/messages:batch", false),
            ("/v1/apps/shop/messages:validate", false),
            ("/v1/apps/shop/audiences:estimate", false),
            ("/console/apps/shop/compose/count", false),
        ] {
            assert_eq!(is_wanted(path), wanted, "{path}");
        }
        assert!(is_grave(&Method::DELETE, "/v1/apps/shop/messages/x"));
        assert!(is_grave(&Method::POST, "/v1/apps/shop/messages/x:pause"));
        assert!(!is_grave(&Method::POST, "/v1/apps/shop/messages"));
    }

    #[test]
    fn the_app_of_a_path_is_found() {
        for (path, wanted) in [
            ("/v1/apps/shop/keys", Some("shop")),
            ("/v1/apps/shop", Some("shop")),
            ("/console/apps/shop/keys/remove", Some("shop")),
            ("/v1/apps", None),
            ("/v1/apps/", None),
            ("/v1/broker/bans", None),
        ] {
            assert_eq!(app_of(path).as_deref(), wanted, "{path}");
        }
    }
}
