//! Apps: their list, and making one.

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use reveille_proto::ids::AppId;
use serde_json::Value;

use super::{Page, done};
use crate::apps::{self, App};
use crate::audience::Audience;
use crate::console::Here;
use crate::console::door::Refusal;
use crate::console::form::Posted;
use crate::console::view::apps::list as list_view;
use crate::console::view::fields::Filled;
use crate::console::visitor::Visitor;
use crate::operations::{self, Operation};
use crate::store::{StoreError, Tx};

/// The apps that the visitor may see.
pub(in crate::console) async fn list(visitor: Visitor, State(console): State<Here>) -> Response {
    let made = page(&console, &visitor, &Filled::default()).await;
    visitor.answer(None, made)
}

async fn page(console: &Here, visitor: &Visitor, filled: &Filled) -> Result<Page, Refusal> {
    let apps = visitor.apps.clone();
    let count = move |tx: &Tx<'_>| {
        let everybody = Audience { all: true, ..Audience::default() };
        let with_count = |app: App| {
            let devices = AppId::parse(&app.id).map_or(Ok(0), |id| everybody.estimate(tx, &id))?;
            Ok::<_, StoreError>((app, devices))
        };
        apps.into_iter().map(with_count).collect::<Result<Vec<_>, _>>()
    };
    let rows = console.shared.store.read(count).await?;
    let going = match visitor.caller.is_operator() {
        true => console.shared.store.read(going).await?,
        false => Vec::new(),
    };
    let context = visitor.context(None);
    Ok(Page::new(context.texts.apps, "apps", list_view(&context, &rows, &going, filled)))
}

/// What removes apps at this moment.
fn going(tx: &Tx<'_>) -> Result<Vec<Operation>, StoreError> {
    let ids = apps::records(tx)?.into_iter().filter_map(|app| app.removal);
    ids.filter_map(|id| operations::load(tx, &id).transpose()).collect()
}

/// Makes an app.
pub(in crate::console) async fn create(State(console): State<Here>, posted: Posted) -> Response {
    let Posted { visitor, fields } = posted;
    let body = Value::Object(fields.object(&["id", "name"]));
    match console.door.post(&visitor.caller, "/v1/apps", &body).await {
        Ok(_) => done(&format!("/console/apps/{}", fields.text("id")), "done_app"),
        Err(refused) => {
            let filled = Filled { fields, refusal: Some(refused) };
            let made = page(&console, &visitor, &filled).await;
            visitor.answer_as(StatusCode::UNPROCESSABLE_ENTITY, None, made)
        }
    }
}
