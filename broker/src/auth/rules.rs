//! The rules of configuration and file, and which of them concern a client.

use crate::config::{AclConfig, AclFile, AclRule, ConfigError, EffectName, check_rules};
use reveille_broker_core::acl::{Acl, Effect, OnDenied, Pattern, Rule, Who};
use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError, Weak};

/// Different choices of rules that are kept at hand; beyond it those that no connection uses any more are forgotten.
const CHOICES_MAX: usize = 16_384;

/// Why rules cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum RulesError {
    /// The file cannot be read.
    #[error("{}: {error}", path.display())]
    Io {
        /// Which file.
        path: PathBuf,
        /// Why.
        #[source]
        error: std::io::Error,
    },
    /// The file is no TOML of this form.
    #[error("{}:{line}: {message}", path.display())]
    Toml {
        /// Which file.
        path: PathBuf,
        /// Counted from 1.
        line: usize,
        /// What is wrong.
        message: String,
    },
    /// A rule of the file.
    #[error("{}: {error}", path.display())]
    Rule {
        /// Which file.
        path: PathBuf,
        /// What is wrong.
        #[source]
        error: ConfigError,
    },
}

/// Everything that the rules say.
#[derive(Debug)]
pub(crate) struct Rules {
    rules: Vec<Concerning>,
    otherwise: Effect,
    on_denied: OnDenied,
    choices: Mutex<HashMap<Vec<u32>, Weak<Acl>>>,
}

/// Compiled rules with those whom they concern; one rule for each topic.
#[derive(Debug)]
struct Concerning {
    users: Option<Vec<String>>,
    client_ids: Option<Vec<String>>,
    apps: Option<Vec<String>>,
    rules: Vec<Rule>,
}

impl Rules {
    /// Those of the configuration, then those of its file. `has_credentials` decides what holds where no rule speaks, when
    /// the configuration does not say it.
    ///
    /// # Errors
    /// [`RulesError`] names the file.
    pub(crate) fn load(config: &AclConfig, has_credentials: bool) -> Result<Self, RulesError> {
        let of_file = config.file.as_ref().map(read).transpose()?.unwrap_or_default();
        let rules: Vec<Concerning> = config.rules.iter().chain(&of_file.rules).map(Concerning::of).collect();
        let by_itself =
            if has_credentials && config.has_rules() { EffectName::Deny } else { EffectName::Allow };
        Ok(Self {
            rules,
            otherwise: config.default.unwrap_or(by_itself).into(),
            on_denied: config.denied_publish.into(),
            choices: Mutex::default(),
        })
    }

    /// What this client may do; `None`: everything. Clients whom the same rules concern share them.
    pub(crate) fn of(&self, who: Who<'_>) -> Option<Arc<Acl>> {
        if self.rules.is_empty() && self.otherwise == Effect::Allow {
            return None;
        }
        let concerns = |(no, rules): (u32, &Concerning)| rules.concerns(who).then_some(no);
        let choice: Vec<u32> = (0..).zip(&self.rules).filter_map(concerns).collect();
        let mut choices = self.choices.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(acl) = choices.get(&choice).and_then(Weak::upgrade) {
            return Some(acl);
        }
        if choices.len() >= CHOICES_MAX {
            choices.retain(|_, acl| acl.strong_count() > 0);
        }
        let chosen = choice.iter().filter_map(|no| self.rules.get(usize::try_from(*no).ok()?));
        let acl = Arc::new(Acl::new(
            chosen.flat_map(|concerning| concerning.rules.iter().cloned()),
            self.otherwise,
            self.on_denied,
        ));
        if choices.len() < CHOICES_MAX {
            choices.insert(choice, Arc::downgrade(&acl));
        }
        Some(acl)
    }
}

impl Concerning {
    /// Topics that do not parse were refused by `check_rules`.
    fn of(rule: &AclRule) -> Self {
        let actions = rule.actions.iter().copied().map(Into::into).collect();
        let patterns = rule.topics.iter().filter_map(|text| Pattern::parse(text).ok());
        Self {
            users: rule.users.clone(),
            client_ids: rule.client_ids.clone(),
            apps: rule.apps.clone(),
            rules: patterns.map(|pattern| Rule { effect: rule.effect.into(), actions, pattern }).collect(),
        }
    }

    fn concerns(&self, who: Who<'_>) -> bool {
        let is_in = |names: &Option<Vec<String>>, name: Option<&str>| match names {
            None => true,
            Some(names) => name.is_some_and(|name| names.iter().any(|wanted| is_meant(wanted, name))),
        };
        is_in(&self.users, who.user)
            && is_in(&self.client_ids, Some(who.client_id))
            && is_in(&self.apps, Some(who.app))
    }
}

/// A name, or the beginning of one with `*` behind.
fn is_meant(wanted: &str, name: &str) -> bool {
    match wanted.strip_suffix('*') {
        Some(beginning) => name.starts_with(beginning),
        None => wanted == name,
    }
}

fn read(path: &PathBuf) -> Result<AclFile, RulesError> {
    let text = std::fs::read_to_string(path).map_err(|error| RulesError::Io { path: path.clone(), error })?;
    let file: AclFile = toml::from_str(&text).map_err(|error| {
        let before = error.span().and_then(|span| text.get(..span.start)).unwrap_or_default();
        let line = before.matches('\n').count() + 1;
        RulesError::Toml { path: path.clone(), line, message: error.message().to_owned() }
    })?;
    check_rules(&file.rules).map_err(|error| RulesError::Rule { path: path.clone(), error })?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;
    use reveille_proto::topic::TopicName;

    const RULES: &str = "[[rules]]\neffect = 'allow'\nactions = ['publish']\ntopics = ['all/%u/#']\n\
        [[rules]]\neffect = 'allow'\nactions = ['publish']\ntopics = ['ops/#']\nusers = ['root', 'op-*']\n\
        [[rules]]\neffect = 'allow'\nactions = ['publish']\ntopics = ['shop/#']\napps = ['shop']\n\
        [[rules]]\neffect = 'allow'\nactions = ['publish']\ntopics = ['dev/#']\nclient_ids = ['dev-*']\n";

    fn who<'a>(user: Option<&'a str>, client_id: &'a str, app: &'a str) -> Who<'a> {
        Who { user, client_id, app }
    }

    fn may(rules: &Rules, who: Who<'_>, topic: &'static str) -> bool {
        let topic = TopicName::parse(topic).unwrap();
        rules.of(who).is_none_or(|acl| acl.may_publish(who, &topic, false))
    }

    #[test]
    fn a_rule_concerns_those_whom_it_names() {
        let rules = Rules::load(&toml::from_str(RULES).unwrap(), true).unwrap();
        let rows = [
            (who(Some("ann"), "c", "default"), "all/ann/x", true),
            (who(Some("ann"), "c", "default"), "all/bob/x", false),
            (who(Some("ann"), "c", "default"), "ops/x", false),
            (who(Some("root"), "c", "default"), "ops/x", true),
            (who(Some("op-7"), "c", "default"), "ops/x", true),
            (who(Some("rooted"), "c", "default"), "ops/x", false),
            (who(None, "c", "default"), "ops/x", false),
            (who(None, "c", "shop"), "shop/x", true),
            (who(None, "c", "bank"), "shop/x", false),
            (who(None, "dev-1", "bank"), "dev/x", true),
            (who(None, "c", "bank"), "dev/x", false),
        ];
        for (who, topic, wanted) in rows {
            assert_eq!(may(&rules, who, topic), wanted, "{who:?} {topic}");
        }
    }

    #[test]
    fn clients_whom_the_same_rules_concern_share_them() {
        let rules = Rules::load(&toml::from_str(RULES).unwrap(), true).unwrap();
        let one = rules.of(who(Some("ann"), "c", "default")).unwrap();
        let other = rules.of(who(Some("bob"), "d", "default")).unwrap();
        let third = rules.of(who(Some("root"), "d", "default")).unwrap();
        assert!(Arc::ptr_eq(&one, &other) && !Arc::ptr_eq(&one, &third));
    }

    #[test]
    fn where_no_rule_speaks_it_is_denied_once_there_are_credentials_and_rules() {
        for (text, has_credentials, wanted) in [
            ("", false, true),
            ("", true, true),
            (RULES, false, true),
            (RULES, true, false),
            ("default = 'deny'", false, false),
            ("default = 'allow'", true, true),
        ] {
            let rules = Rules::load(&toml::from_str(text).unwrap(), has_credentials).unwrap();
            assert_eq!(
                may(&rules, who(None, "c", "default"), "elsewhere"),
                wanted,
                "{text} {has_credentials}"
            );
        }
    }

    #[test]
    fn rules_of_a_file_come_after_those_of_the_configuration() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("acl.toml");
        std::fs::write(&path, "[[rules]]\neffect = 'deny'\nactions = ['publish']\ntopics = ['#']\n").unwrap();
        let first = "[[rules]]\neffect = 'allow'\nactions = ['publish']\ntopics = ['a']\n";
        let config: AclConfig = toml::from_str(&format!("file = {path:?}\n{first}")).unwrap();
        let rules = Rules::load(&config, false).unwrap();
        assert!(may(&rules, who(None, "c", "default"), "a"));
        assert!(!may(&rules, who(None, "c", "default"), "b"));
        for (text, wanted) in [
            ("[[rules]]\nefect = 'deny'", "acl.toml:2: "),
            ("[[rules]]\neffect = 'deny'\nactions = []\ntopics = ['a/%x']", "placeholders"),
        ] {
            std::fs::write(&path, text).unwrap();
            let error = Rules::load(&config, false).unwrap_err().to_string();
            assert!(error.contains(wanted), "{error}");
        }
    }
}
