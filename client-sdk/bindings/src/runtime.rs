//! The runtime on which all connections of the process live.

use crate::error::ConnectError;
use std::sync::LazyLock;
use tokio::runtime::{Builder, Runtime};

/// One thread: a device has one connection, and its work is small.
static RUNTIME: LazyLock<std::io::Result<Runtime>> = LazyLock::new(|| {
    Builder::new_multi_thread().worker_threads(1).thread_name("reveille").enable_all().build()
});

/// Runs what needs a runtime at hand.
///
/// # Errors
/// [`ConnectError::Runtime`] when the system gave no thread.
pub(crate) fn inside<T>(work: impl FnOnce() -> T) -> Result<T, ConnectError> {
    let runtime = RUNTIME.as_ref().map_err(|error| ConnectError::Runtime { detail: error.to_string() })?;
    let _inside = runtime.enter();
    Ok(work())
}
