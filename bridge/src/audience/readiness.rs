//! Whether an audience can be sent to: its segments are there and written out, and so are its lists.

use reveille_proto::ids::AppId;

use super::Audience;
use crate::lists;
use crate::segments::{self, WriteOutError};
use crate::store::{StoreError, Tx};

/// Why nobody can be looked for.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NotReady {
    /// This expression of it cannot be written out.
    #[error("{error}")]
    Expression { field: &'static str, error: WriteOutError },
    /// The list at this place is not whole yet.
    #[error("is still being read: wait for its operation")]
    ListGrows { at: usize },
    /// There is no such list, or no more.
    #[error("is no list of this app, or was not used for 30 days")]
    ListUnknown { at: usize },
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl NotReady {
    /// What it is about, in a message's body.
    pub fn pointer(&self) -> String {
        match self {
            Self::Expression { field, .. } => format!("/audience/{field}"),
            Self::ListGrows { at } | Self::ListUnknown { at } => format!("/audience/lists/{at}"),
            Self::Store(_) => "/audience".to_owned(),
        }
    }
}

impl Audience {
    /// Writes out the segments of every expression, and finds the lists.
    ///
    /// # Errors
    /// [`NotReady`], the first thing that is missing. Whoever sent all the same would reach nobody, or whoever is to be
    /// left out.
    pub(crate) fn make_ready(&mut self, tx: &Tx<'_>, app: &AppId) -> Result<(), NotReady> {
        for (at, list) in self.lists.iter().enumerate() {
            match lists::load(tx, app, list)? {
                Some(list) if list.is_whole => {}
                Some(_) => return Err(NotReady::ListGrows { at }),
                None => return Err(NotReady::ListUnknown { at }),
            }
        }
        for (field, expression) in [("expr", &mut self.expr), ("only", &mut self.only)] {
            let Some(expression) = expression else { continue };
            *expression = segments::write_out(tx, app, expression).map_err(|error| match error {
                WriteOutError::Store(error) => NotReady::Store(error),
                error => NotReady::Expression { field, error },
            })?;
        }
        Ok(())
    }
}
