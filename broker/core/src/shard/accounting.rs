//! What the clients of one app use together, counted where the app has bounds.

use super::Shard;
use crate::io::Opening;
use crate::limits::{AppLimits, Limits};
use crate::usage::AppUsage;
use reveille_proto::ids::AppId;
use std::sync::Arc;

impl Shard {
    /// The bounds of an app that has some.
    pub(super) fn app_limits(&self, app: &AppId) -> Option<&AppLimits> {
        let apps = &self.config.limits.apps;
        if apps.is_empty() { None } else { apps.get(app) }
    }

    /// Counts something of an app that has bounds.
    pub(super) fn count_app(&self, app: &AppId, count: impl FnOnce(&AppUsage)) {
        if let Some(limits) = self.app_limits(app) {
            count(&limits.usage);
        }
    }

    /// New bounds, and gauges that begin at zero: what exists is counted again. Costs by the number of sessions, once.
    pub(super) fn replace_limits(&mut self, limits: Arc<Limits>) {
        self.config.limits = limits;
        if self.config.limits.apps.is_empty() {
            return;
        }
        for (_, session) in &self.sessions {
            let bytes = session.queue.as_ref().map_or(0, |queue| queue.bytes());
            self.count_app(&session.app, |usage| {
                usage.sessions.add(1);
                usage.connections.add(u64::from(session.connection.is_some()));
                usage.subscriptions.add(session.subscriptions_len() as u64);
                usage.queued_bytes.add(bytes);
            });
        }
    }

    /// Whether the app has room for this connection, and for a session of its own when it has none. What has room is
    /// counted.
    pub(super) fn admits(&mut self, opening: &Opening, needs_session: bool) -> bool {
        let Some(AppLimits { totals, usage, .. }) = self.app_limits(&opening.identity.app) else {
            return true;
        };
        if !usage.connections.try_add(1, totals.connections_max) {
            return false;
        }
        let has_room = !needs_session || usage.sessions.try_add(1, totals.sessions_max);
        if !has_room {
            usage.connections.sub(1);
        }
        has_room
    }

    /// Whether the app has room for one subscription more; counts it then.
    pub(super) fn admits_subscription(&self, app: &AppId) -> bool {
        let limits = self.app_limits(app);
        limits.is_none_or(|limits| limits.usage.subscriptions.try_add(1, limits.totals.subscriptions_max))
    }

    /// By how much the queues of the session's app would pass their bound with so many bytes more.
    pub(super) fn beyond_app(&self, at: u32, size: u32) -> u64 {
        let limits = self.session(at).and_then(|session| self.app_limits(&session.app));
        limits.map_or(0, |limits| {
            let wanted = limits.usage.queued_bytes.get().saturating_add(size.into());
            wanted.saturating_sub(limits.totals.queued_bytes_max)
        })
    }
}
