//! Long operations: what runs, how far it is, how it ended. Whoever began one asks for it by its id.
//!
//! The work itself belongs to whoever does it. Its steps move the operation in their own transactions, so that after a
//! crash both stand at the same place.

use reveille_proto::ids::AppId;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

use crate::queues::{self, Check};
use crate::store::{Space, StoreError, Tx, keys};

/// How long an operation is kept after its end, in milliseconds: a week.
const KEPT_MS: u64 = 7 * 24 * 60 * 60 * 1000;

/// What a long operation does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Kind {
    /// Removes an app with all that belongs to it.
    AppRemoval,
    /// Reads an upload row by row.
    Import,
    /// Writes a file.
    Export,
}

/// How far an operation is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[schema(as = OperationState)]
pub(crate) enum State {
    /// Under way; a restart does not end it.
    Running,
    /// Ended as it should.
    Done,
    /// Ended without having done it; `problem` says why.
    Failed,
}

/// Something that takes longer than a request.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub(crate) struct Operation {
    pub id: String,
    /// Whose it is.
    pub app: String,
    pub kind: Kind,
    pub state: State,
    /// Entries that were worked on.
    pub done: u64,
    /// Entries there are, where that is known.
    #[schema(required)]
    pub total: Option<u64>,
    pub created_at_ms: u64,
    pub updated_at_ms: u64,
    #[schema(required)]
    pub ended_at_ms: Option<u64>,
    /// What came of it.
    #[schema(required, value_type = Option<Object>)]
    pub result: Option<Value>,
    /// Why it failed, as an error answer says it.
    #[schema(required, value_type = Option<Object>)]
    pub problem: Option<Value>,
    /// What it waits for while it is running, as an error answer says it. It is tried again and again.
    #[serde(default)]
    #[schema(required, value_type = Option<Object>)]
    pub held_up_by: Option<Value>,
}

/// A new id of an operation.
pub(crate) fn new_id() -> String {
    uuid::Uuid::now_v7().to_string()
}

/// Begins an operation.
pub(crate) fn begin(
    tx: &mut Tx<'_>,
    app: &AppId,
    kind: Kind,
    total: Option<u64>,
) -> Result<Operation, StoreError> {
    begin_as(tx, &new_id(), app, kind, total)
}

/// The same under an id that was given before.
pub(crate) fn begin_as(
    tx: &mut Tx<'_>,
    id: &str,
    app: &AppId,
    kind: Kind,
    total: Option<u64>,
) -> Result<Operation, StoreError> {
    let now_ms = tx.now_ms();
    let operation = Operation {
        id: id.to_owned(),
        app: app.as_str().to_owned(),
        kind,
        state: State::Running,
        done: 0,
        total,
        created_at_ms: now_ms,
        updated_at_ms: now_ms,
        ended_at_ms: None,
        result: None,
        problem: None,
        held_up_by: None,
    };
    save(tx, &operation)?;
    Ok(operation)
}

/// An operation by its id.
pub(crate) fn load(tx: &Tx<'_>, id: &str) -> Result<Option<Operation>, StoreError> {
    tx.load(Space::Apps, &keys::operation(id))
}

fn save(tx: &mut Tx<'_>, operation: &Operation) -> Result<(), StoreError> {
    tx.save(Space::Apps, keys::operation(&operation.id), operation)
}

impl Operation {
    /// Notes that so many more entries are done.
    pub fn advance(&mut self, tx: &mut Tx<'_>, count: u64) -> Result<(), StoreError> {
        self.done = self.done.saturating_add(count);
        self.updated_at_ms = tx.now_ms();
        save(tx, self)
    }

    /// Notes what it waits for.
    pub fn hold_up(mut self, tx: &mut Tx<'_>, problem: Value) -> Result<(), StoreError> {
        self.held_up_by = Some(problem);
        self.updated_at_ms = tx.now_ms();
        save(tx, &self)
    }

    /// Ends it well.
    pub fn finish(self, tx: &mut Tx<'_>, result: Option<Value>) -> Result<(), StoreError> {
        Self { state: State::Done, result, ..self }.end(tx)
    }

    /// Ends it without having done all of it; `problem` has the shape of an error answer.
    pub fn fail(self, tx: &mut Tx<'_>, problem: Value) -> Result<(), StoreError> {
        Self { state: State::Failed, problem: Some(problem), ..self }.end(tx)
    }

    fn end(mut self, tx: &mut Tx<'_>) -> Result<(), StoreError> {
        self.updated_at_ms = tx.now_ms();
        self.ended_at_ms = Some(tx.now_ms());
        self.held_up_by = None;
        save(tx, &self)?;
        let forget_at_ms = tx.now_ms().saturating_add(KEPT_MS);
        queues::check_at(tx, forget_at_ms, &Check::ForgetOperation { id: self.id })
    }
}

/// Forgets an operation that ended some time ago.
pub(crate) fn forget(tx: &mut Tx<'_>, id: &str) {
    tx.remove(Space::Apps, keys::operation(id));
}
