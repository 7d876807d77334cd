//! A new configuration for a broker that runs: what can change does, what cannot is named.

use crate::auth::Auth;
use crate::config::{Config, ConfigError};
use crate::limits::LimitsTable;
use crate::mailbox::Command;
use crate::operator::Operator;
use crate::tls::read_all_again;
use reveille_broker_core::control::Control;
use reveille_broker_core::io::{Input, ShardNo};
use reveille_broker_core::presence::bridge_app;
use std::sync::Arc;
use std::sync::PoisonError;

/// What a reload did, by the keys of the configuration file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ReloadReport {
    /// In force from now on.
    pub changed: Vec<&'static str>,
    /// Differ from what is in force, and stay so until the next start.
    pub needs_restart: Vec<&'static str>,
}

impl ReloadReport {
    /// Whether the file says what is in force already.
    pub fn is_empty(&self) -> bool {
        self.changed.is_empty() && self.needs_restart.is_empty()
    }

    /// Notes a key that cannot change while the program runs.
    pub fn fixed(&mut self, key: &'static str, is_same: bool) {
        if !is_same {
            self.needs_restart.push(key);
        }
    }

    /// One line of the log for each key that waits for a restart; that all went well is said quietly.
    pub fn log(&self) {
        for key in &self.needs_restart {
            tracing::warn!(key, "this key changes with the next start only");
        }
        tracing::info!(changed = ?self.changed, "the configuration was read again");
    }
}

/// Why a configuration was not read again. Nothing changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReloadError {
    /// The broker cannot use it.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The program around the broker cannot read its file.
    #[error("{0}")]
    File(String),
    /// Credentials or rules cannot be used.
    #[error("{0}")]
    Auth(String),
    /// The broker was started without a file, or is embedded in something that reads none.
    #[error("there is no configuration file to read")]
    NoFile,
}

impl Operator {
    /// Puts a new configuration in force, as far as it can change while the broker runs.
    ///
    /// # Errors
    /// [`ReloadError::Config`] names the first key that is wrong; nothing changed then.
    pub fn reload(&self, new: &Config) -> Result<ReloadReport, ReloadError> {
        new.check()?;
        let mut in_force = self.in_force.lock().unwrap_or_else(PoisonError::into_inner);
        let mut report = ReloadReport::default();
        // Every key stands here, so that a new one is not forgotten: it changes, or it is named.
        let Config {
            listen,
            listeners,
            internal,
            internal_password,
            http,
            admin,
            shards,
            allow_anonymous,
            users,
            auth,
            acl,
            push_rules,
            slow_consumer_s,
            sys_interval_s,
            drain,
            traces,
            limits,
            apps,
            user_limits,
            control,
            history,
            heartbeat,
        } = new;
        report.fixed("broker.listen", in_force.listen == *listen);
        report.fixed("broker.listeners", in_force.listeners == *listeners);
        report.fixed("broker.internal", in_force.internal == *internal);
        report.fixed("broker.http", in_force.http == *http);
        report.fixed("broker.shards", in_force.shards == *shards);
        // Files come first: one that cannot be used leaves everything else as it was. Those of the listeners that run,
        // whatever the configuration says about others; certificates that were renewed may stay so. Files of
        // credentials and rules are read again, whether or not the configuration differs.
        let has_certificates = read_all_again(&self.shared.listeners)?;
        self.replace_auth(new)?;
        if in_force.admin != *admin {
            self.shared.admin_keys.store(Arc::new(admin.keys.clone()));
            in_force.admin.clone_from(admin);
            report.changed.push("broker.admin");
        }
        report.fixed("broker.auth.hashes_max", in_force.auth.hashes_max == auth.hashes_max);
        let has_auth = [
            ("broker.internal_password", in_force.internal_password == *internal_password),
            ("broker.allow_anonymous", in_force.allow_anonymous == *allow_anonymous),
            ("broker.users", in_force.users == *users),
            ("broker.auth", in_force.auth == *auth),
            ("broker.acl", in_force.acl == *acl),
        ];
        report.changed.extend(has_auth.iter().filter(|(_, is_same)| !is_same).map(|(key, _)| *key));
        in_force.internal_password.clone_from(internal_password);
        in_force.allow_anonymous.clone_from(allow_anonymous);
        in_force.users.clone_from(users);
        let hashes_max = in_force.auth.hashes_max;
        in_force.auth.clone_from(auth);
        in_force.auth.hashes_max = hashes_max; // the threads are there already
        in_force.acl.clone_from(acl);
        if in_force.push_rules != *push_rules {
            self.tell_push_rules(new);
            in_force.push_rules.clone_from(push_rules);
            report.changed.push("broker.push_rules");
        }
        let intervals = [
            ("broker.slow_consumer_s", in_force.slow_consumer_s == *slow_consumer_s),
            ("broker.sys_interval_s", in_force.sys_interval_s == *sys_interval_s),
        ];
        report.changed.extend(intervals.iter().filter(|(_, is_same)| !is_same).map(|(key, _)| *key));
        self.shared.intervals.set(*slow_consumer_s, *sys_interval_s);
        (in_force.slow_consumer_s, in_force.sys_interval_s) = (*slow_consumer_s, *sys_interval_s);
        if in_force.history != *history {
            self.shared.topics.configure(history);
            in_force.history.clone_from(history);
            report.changed.push("broker.history");
        }
        if in_force.drain != *drain {
            in_force.drain.clone_from(drain);
            report.changed.push("broker.drain");
        }
        if in_force.traces != *traces {
            self.shared.tracer.configure(traces);
            in_force.traces.clone_from(traces);
            report.changed.push("broker.traces");
        }
        let has_control = [
            ("broker.control", in_force.control == *control),
            ("broker.heartbeat", in_force.heartbeat == *heartbeat),
        ];
        if has_control.iter().any(|(_, is_same)| !is_same) {
            self.shared.heartbeats.set_rules(heartbeat.rules());
            self.replace_control(new.core_control()?);
            in_force.control.clone_from(control);
            in_force.heartbeat.clone_from(heartbeat);
            report.changed.extend(has_control.iter().filter(|(_, is_same)| !is_same).map(|(key, _)| *key));
        }
        let has_limits = [
            ("broker.limits", in_force.limits == *limits),
            ("broker.apps", in_force.apps == *apps),
            ("broker.user_limits", in_force.user_limits == *user_limits),
        ];
        let changed: Vec<_> =
            has_limits.iter().filter(|(_, is_same)| !is_same).map(|(key, _)| *key).collect();
        if !changed.is_empty() {
            self.replace_limits(new);
            in_force.limits.clone_from(limits);
            in_force.apps.clone_from(apps);
            in_force.user_limits.clone_from(user_limits);
            report.changed.extend(changed);
        }
        if has_certificates {
            report.changed.push("broker.listeners: certificates");
        }
        Ok(report)
    }

    /// Reads the certificates of every listener again. Says whether some changed. Connections that are open keep theirs.
    ///
    /// # Errors
    /// The first listener whose files cannot be used: what it had stays in force. The others are read all the same.
    pub fn reload_certificates(&self) -> Result<bool, ConfigError> {
        read_all_again(&self.shared.listeners)
    }

    /// Nothing changes when a file cannot be used. Whoever is connected is looked at again.
    fn replace_auth(&self, config: &Config) -> Result<(), ReloadError> {
        let auth = Auth::load(config, bridge_app(), &self.shared.keeper)
            .map_err(|error| ReloadError::Auth(error.to_string()))?;
        self.shared.auth.store(Arc::new(auth));
        for no in 0..self.shared.mailboxes.count() {
            self.shared.mailboxes.send(ShardNo(no), Command::AuthChanged);
        }
        Ok(())
    }

    fn tell_push_rules(&self, config: &Config) {
        let rules = config.core_push_rules();
        self.tell_shards(|| Input::PushRules(Arc::clone(&rules)));
    }

    /// Subscriptions that exist stay where they are.
    fn replace_control(&self, control: Control) {
        let control = Arc::new(control);
        self.shared.write_router().set_strategies(control.strategies.clone());
        self.shared.control.store(Arc::clone(&control));
        self.tell_shards(|| Input::Control(Arc::clone(&control)));
    }

    /// Connections and sessions keep the bounds that they began with.
    fn replace_limits(&self, config: &Config) {
        let table = LimitsTable::new(config);
        let core = Arc::clone(&table.core);
        self.shared.health.overload.set_max(&config.limits);
        self.shared.write_router().set_limits(Arc::clone(&core));
        self.shared.limits.store(Arc::new(table));
        self.tell_shards(|| Input::Limits(Arc::clone(&core)));
    }

    fn tell_shards(&self, input: impl Fn() -> Input) {
        for no in 0..self.shared.mailboxes.count() {
            self.shared.mailboxes.send(ShardNo(no), Command::Input(input()));
        }
    }
}
