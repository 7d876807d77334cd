//! Which bounds a connection gets: those of the broker, over them its listener's, its app's and its user's.

use crate::config::{Config, LimitsConfig, LimitsOverride, ListenerConfig};
use reveille_broker_core::limits::{AppLimits, ConnectionLimits, Limits};
use reveille_proto::ids::AppId;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

/// The bounds of one configuration. Replaced as a whole while the broker runs: connections that are open keep theirs.
#[derive(Debug)]
pub(crate) struct LimitsTable {
    /// Those of the rules.
    pub(crate) core: Arc<Limits>,
    /// Those of the shell, and what the others build upon.
    pub(crate) shell: LimitsConfig,
    listeners: BTreeMap<String, LimitsOverride>,
    apps: HashMap<AppId, LimitsOverride>,
    users: BTreeMap<String, LimitsOverride>,
    /// Of every listener and app that have something to say, so that their connections share them.
    pairs: HashMap<(Option<String>, Option<AppId>), Arc<ConnectionLimits>>,
}

impl LimitsTable {
    /// Out of a checked configuration.
    pub(crate) fn new(config: &Config) -> Self {
        let of_listener = |listener: &ListenerConfig| (listener.name.clone(), listener.limits.clone());
        let listeners = config.listeners.iter().map(of_listener).collect();
        let apps: HashMap<AppId, LimitsOverride> = config
            .apps
            .iter()
            .filter_map(|(app, table)| Some((AppId::parse(app).ok()?, table.limits.clone())))
            .collect();
        let mut table = Self {
            core: Arc::default(),
            shell: config.limits.clone(),
            listeners,
            apps,
            users: config.user_limits.clone(),
            pairs: HashMap::new(),
        };
        table.fill_pairs();
        let of_app = |app: &AppId| {
            let totals = config.apps.get(app.as_str()).map(|table| table.totals.core()).unwrap_or_default();
            let connection = table.of("", app, None);
            (app.clone(), AppLimits { connection, totals, ..Default::default() })
        };
        let apps = table.apps.keys().map(of_app).collect();
        table.core = Arc::new(Limits { apps, ..config.limits.core() });
        table
    }

    fn fill_pairs(&mut self) {
        let listeners = self.listeners.keys().map(|name| Some(name.clone())).chain([None]);
        for listener in listeners {
            for app in self.apps.keys().map(|app| Some(app.clone())).chain([None]) {
                let limits = self.layered(listener.as_deref(), app.as_ref(), None);
                self.pairs.insert((listener.clone(), app), Arc::new(limits));
            }
        }
    }

    /// The bounds of a connection that came through this listener, of this app and user.
    pub(crate) fn of(&self, listener: &str, app: &AppId, user: Option<&str>) -> Arc<ConnectionLimits> {
        let listener = self.listeners.contains_key(listener).then_some(listener);
        let app = self.apps.contains_key(app).then_some(app);
        if let Some(user) = user.filter(|user| self.users.contains_key(*user)) {
            return Arc::new(self.layered(listener, app, Some(user)));
        }
        let pair = (listener.map(str::to_owned), app.cloned());
        match self.pairs.get(&pair) {
            Some(limits) => Arc::clone(limits),
            None => Arc::new(self.layered(listener, app, None)), // every pair is there
        }
    }

    /// The bounds of the bridge, which nothing slows down: its own queue has bounds of its own.
    pub(crate) fn of_bridge(&self) -> Arc<ConnectionLimits> {
        let limits = self.shell.connection();
        Arc::new(ConnectionLimits { rate: Default::default(), offered: Default::default(), ..limits })
    }

    /// The more is known about who it is, the more it counts.
    fn layered(&self, listener: Option<&str>, app: Option<&AppId>, user: Option<&str>) -> ConnectionLimits {
        let layers = [
            listener.and_then(|listener| self.listeners.get(listener)),
            app.and_then(|app| self.apps.get(app)),
            user.and_then(|user| self.users.get(user)),
        ];
        layers.into_iter().flatten().fold(self.shell.clone(), |under, layer| layer.over(&under)).connection()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_user_counts_more_than_the_app_and_the_app_more_than_the_listener() {
        let config: Config = toml::from_str(
            "[limits]\nqueue_messages_max = 1\nsubscriptions_max = 1\nin_flight_max = 1\nreceive_maximum = 1\n\
             [apps.shop.limits]\nsubscriptions_max = 3\nin_flight_max = 3\n\
             [user_limits.'张三']\nin_flight_max = 4\n\
             [[listeners]]\nname = 'lan'\nkind = 'unix'\npath = '/lan'\n\
             limits = { queue_messages_max = 2, subscriptions_max = 2, in_flight_max = 2 }",
        )
        .unwrap();
        let table = LimitsTable::new(&config);
        let (shop, other) = (AppId::parse("shop").unwrap(), AppId::default());
        let rows = [
            ("", &other, None, (1, 1, 1, 1)),
            ("wan", &other, Some("nobody"), (1, 1, 1, 1)),
            ("lan", &other, None, (2, 2, 2, 1)),
            ("", &shop, None, (1, 3, 3, 1)),
            ("lan", &shop, None, (2, 3, 3, 1)),
            ("lan", &shop, Some("张三"), (2, 3, 4, 1)),
            ("", &other, Some("张三"), (1, 1, 4, 1)),
        ];
        for (listener, app, user, wanted) in rows {
            let limits = table.of(listener, app, user);
            let got = (
                limits.queue_messages_max,
                limits.subscriptions_max,
                limits.in_flight_max,
                limits.receive_maximum,
            );
            assert_eq!(got, wanted, "{listener:?} {app:?} {user:?}");
        }
        assert_eq!(table.core.of_app(&shop).subscriptions_max, 3, "what a recovered session gets");
        let same = (table.of("lan", &shop, None), table.of("lan", &shop, Some("x")));
        assert!(Arc::ptr_eq(&same.0, &same.1), "a million connections share one");
    }
}
