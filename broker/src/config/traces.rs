//! The tables `[[broker.traces]]`: whom to follow for a while. The same words start a trace at run time.

use super::ConfigError;
use reveille_broker_core::trace::TRACES_MAX;
use reveille_proto::ids::{AppId, ClientId};
use reveille_proto::topic::TopicFilter;
use serde::{Deserialize, Serialize};

/// The longest trace: a day. Whoever needs more has a log with another level.
const FOR_S_MAX: u64 = 24 * 60 * 60;

/// The most lines that one trace writes in a second.
const LINES_PER_S_MAX: u32 = 10_000;

/// Follows one client, one topic, or what one client has to do with one topic.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct TraceConfig {
    /// The app.
    pub app: String,
    /// This client; absent: every one.
    pub client_id: Option<String>,
    /// Topics under this filter; absent: every one.
    pub filter: Option<String>,
    /// How long, in seconds from the start, the reload or the call.
    pub for_s: u64,
    /// More lines than these in one second are counted instead of written.
    pub lines_per_s: u32,
}

impl Default for TraceConfig {
    fn default() -> Self {
        Self { app: AppId::DEFAULT.to_owned(), client_id: None, filter: None, for_s: 600, lines_per_s: 100 }
    }
}

/// Why nobody is followed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TraceError {
    /// It would follow everybody.
    #[error("a trace needs a client_id, a filter, or both")]
    Everything,
    /// No such app can be.
    #[error("{0:?} is no app id")]
    App(String),
    /// No such client can be.
    #[error("{0:?} is no client id")]
    ClientId(String),
    /// No topic filter.
    #[error("{0:?} is no topic filter")]
    Filter(String),
    /// A bound.
    #[error("for_s is 1 to {FOR_S_MAX}, lines_per_s 1 to {LINES_PER_S_MAX}")]
    Bounds,
    /// As many as there may be.
    #[error("there are {TRACES_MAX} traces already: remove one")]
    TooMany,
}

/// What a trace follows, checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Followed {
    pub(crate) app: AppId,
    pub(crate) client_id: Option<ClientId>,
    pub(crate) filter: Option<TopicFilter>,
}

impl TraceConfig {
    /// Checks it.
    pub(crate) fn parse(&self) -> Result<Followed, TraceError> {
        if self.client_id.is_none() && self.filter.is_none() {
            return Err(TraceError::Everything);
        }
        if !(1..=FOR_S_MAX).contains(&self.for_s) || !(1..=LINES_PER_S_MAX).contains(&self.lines_per_s) {
            return Err(TraceError::Bounds);
        }
        let app = AppId::parse(&self.app).map_err(|_| TraceError::App(self.app.clone()))?;
        let client_id = self.client_id.as_deref();
        let client_id =
            client_id.map(|id| ClientId::parse(id).map_err(|_| TraceError::ClientId(id.to_owned())));
        let filter = self.filter.clone();
        let filter =
            filter.map(|text| TopicFilter::parse(text.clone()).map_err(|_| TraceError::Filter(text)));
        Ok(Followed { app, client_id: client_id.transpose()?, filter: filter.transpose()? })
    }
}

/// Checks all of them.
pub(super) fn check(traces: &[TraceConfig]) -> Result<(), ConfigError> {
    if traces.len() > TRACES_MAX {
        return Err(ConfigError::Trace(TraceError::TooMany));
    }
    traces.iter().try_for_each(|trace| trace.parse().map(drop).map_err(ConfigError::Trace))
}
