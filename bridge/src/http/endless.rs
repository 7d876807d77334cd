//! Answers without end, which stop when whoever reads them may not read any more.

use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::response::Response;
use http_body_util::BodyExt as _;
use reveille_proto::ids::AppId;
use tokio::sync::mpsc;

use super::Api;
use crate::apps::{Access, Caller};
use crate::events::reader::Frames;

/// How long whoever reads may take to take one frame.
const SLOW: Duration = Duration::from_secs(30);

/// Passes an answer on until its key is revoked.
pub(super) fn while_allowed(shared: &Api, caller: Caller, app: Option<AppId>, answer: Response) -> Response {
    let (parts, body) = answer.into_parts();
    let (out, frames) = mpsc::channel(1);
    tokio::spawn(pass_on(shared.clone(), caller, app, body, out));
    Response::from_parts(parts, Body::new(Frames::new(frames)))
}

async fn pass_on(shared: Api, caller: Caller, app: Option<AppId>, mut body: Body, out: mpsc::Sender<Bytes>) {
    let mut forgotten = shared.keys.forgotten();
    forgotten.mark_changed(); // it may have been revoked since it was read
    loop {
        let frame = tokio::select! {
            biased;
            () = out.closed() => return,
            Ok(()) = forgotten.changed() => {
                if may_read(&shared, &caller, app.as_ref()).await {
                    continue;
                }
                return;
            }
            frame = body.frame() => frame,
        };
        let Some(Ok(frame)) = frame else { return };
        let Ok(data) = frame.into_data() else { continue };
        if out.send_timeout(data, SLOW).await.is_err() {
            return;
        }
    }
}

/// A store that cannot say so is no reason to go on.
async fn may_read(shared: &Api, caller: &Caller, app: Option<&AppId>) -> bool {
    match shared.keys.again(caller).await {
        Ok(Some(caller)) => app.map_or_else(|| caller.has(Access::Read), |app| caller.may(app, Access::Read)),
        Ok(None) | Err(_) => false,
    }
}
