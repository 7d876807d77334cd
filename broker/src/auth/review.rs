//! Clients that are connected when credentials and rules change: who may stay, and what may it do now?

use super::{ANONYMOUS, Auth, Source};
use crate::config::SourceName;
use reveille_broker_core::acl::{Acl, Who};
use std::sync::Arc;

/// What becomes of a connected client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Review {
    /// Its credential said itself what it may do, and still does.
    Unchanged,
    /// It stays, with these rules.
    Permit(Option<Arc<Acl>>),
    /// Its credential is gone.
    End,
}

impl Auth {
    /// What becomes of a client that came in by this source. `is_own`: its credential brought its rules.
    pub(crate) fn review(&self, who: Who<'_>, source: &str, is_own: bool) -> Review {
        let is_gone = |name: SourceName| {
            let found = self.sources.iter().find(|(known, _)| *known == name);
            match (found, who.user) {
                (Some((_, Source::Passwords(entries))), Some(user)) => {
                    entries.get(user).is_none_or(|entry| entry.app.as_str() != who.app)
                }
                (Some(_), _) => false,
                (None, _) => true,
            }
        };
        let names = [
            SourceName::Users,
            SourceName::PasswordFile,
            SourceName::Jwt,
            SourceName::Certificate,
            SourceName::Http,
        ];
        match names.into_iter().find(|name| name.as_str() == source) {
            Some(name) if is_gone(name) => Review::End,
            Some(_) if is_own => Review::Unchanged,
            Some(_) => Review::Permit(self.rules.of(who)),
            None if source == ANONYMOUS || source.is_empty() => Review::Permit(self.rules.of(who)),
            None => Review::Unchanged,
        }
    }
}
