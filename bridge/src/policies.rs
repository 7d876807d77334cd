//! Policies: how often, when and how an app speaks to its users, under a name that messages give. What a policy says of
//! one delivery is decided by the pure files beside this one; `book` keeps what they must know over restarts.

pub(crate) mod admission;
pub(crate) mod book;
pub(crate) mod caps;
pub(crate) mod coalescing;
pub(crate) mod crowd;
pub(crate) mod habits;
pub(crate) mod quiet;

use std::collections::BTreeSet;

use reveille_proto::ids::AppId;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::devices::is_label;
use crate::store::{Order, Space, StoreError, Tx, decode, keys};
use crate::vendor::Push;

pub use caps::Cap;
pub use coalescing::Coalesce;
pub use quiet::QuietHours;
use quiet::Wall;

/// Policies of one app at most.
pub const POLICIES_MAX: usize = 100;
/// Caps of one policy at most: each is a count to read and write for each recipient.
pub const CAPS_MAX: usize = 8;
/// Categories of one policy at most.
pub const CATEGORIES_MAX: usize = 16;
/// Messages a second at most; whoever wants more wants no rate.
pub const RATE_MAX: u32 = 100_000;
/// Longest description, in bytes.
const DESCRIPTION_MAX: usize = 256;

/// What becomes of a message that must not go now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Then {
    /// It waits until it may, unless its time is over before.
    #[default]
    Delay,
    /// The recipient does not get it.
    Drop,
}

/// Rules under a name.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Policy {
    /// Its name in paths and messages.
    pub name: String,
    /// A word for people.
    pub description: String,
    /// Messages of these categories that name no policy are under this one.
    pub categories: BTreeSet<String>,
    /// How many messages a recipient gets at most.
    pub caps: Vec<Cap>,
    /// When recipients are left alone.
    pub quiet_hours: Option<QuietHours>,
    /// What is pushed to a device that stays offline.
    pub coalesce: Coalesce,
    /// Whether a push that costs a vendor's daily quota waits for a device that is usually online before long.
    pub save_quota: bool,
    /// Messages a second at most, over all messages of the policy and all their recipients.
    pub rate_per_s: Option<u32>,
    /// When it was made, in milliseconds since 1970.
    pub created_at_ms: u64,
    /// When it last changed, in milliseconds since 1970.
    pub updated_at_ms: u64,
}

impl Policy {
    /// What is wrong with it, by JSON pointer.
    pub fn errors(&self) -> Vec<(String, String)> {
        let mut errors = Vec::new();
        let mut check = |is_good: bool, pointer: String, words: String| {
            if !is_good {
                errors.push((pointer, words));
            }
        };
        let length = self.description.len();
        check(
            length <= DESCRIPTION_MAX,
            "/description".into(),
            format!("has at most {DESCRIPTION_MAX} bytes"),
        );
        let categories = self.categories.len();
        check(categories <= CATEGORIES_MAX, "/categories".into(), format!("has at most {CATEGORIES_MAX}"));
        let are_labels = self.categories.iter().all(|category| is_label(category));
        check(
            are_labels,
            "/categories".into(),
            "has texts of 1 to 256 bytes without control characters".into(),
        );
        check(self.caps.len() <= CAPS_MAX, "/caps".into(), format!("has at most {CAPS_MAX}"));
        for (at, cap) in self.caps.iter().enumerate() {
            for (field, words) in cap.errors() {
                check(false, format!("/caps/{at}/{field}"), words);
            }
            let is_first = !self.caps.iter().take(at).any(|other| other.identity() == cap.identity());
            check(is_first, format!("/caps/{at}"), "counts the same as one before it".into());
        }
        for (field, words) in self.quiet_hours.iter().flat_map(QuietHours::errors) {
            check(false, format!("/quiet_hours/{field}"), words.into());
        }
        for (field, words) in self.coalesce.errors() {
            check(false, format!("/coalesce/digest/{field}"), words.into());
        }
        let has_rate = self.rate_per_s.is_none_or(|rate| (1..=RATE_MAX).contains(&rate));
        check(has_rate, "/rate_per_s".into(), format!("is 1 to {RATE_MAX}"));
        errors
    }

    /// A push as the digest of so many messages, while the policy makes any.
    pub(crate) fn digest(&self, count: u64, push: Push) -> Push {
        match &self.coalesce {
            Coalesce::Digest(digest) => coalescing::digest(digest, &self.name, count, push),
            Coalesce::Every | Coalesce::FirstOnly => push,
        }
    }

    /// A moment in words, by the clock of whoever is in this time zone.
    pub(crate) fn say(&self, timezone: Option<&str>, at_ms: u64, now_ms: u64) -> String {
        self.wall(timezone).say(at_ms, now_ms)
    }

    fn wall(&self, timezone: Option<&str>) -> Wall {
        let usual = self.quiet_hours.as_ref().map_or("UTC", |quiet| quiet.timezone.as_str());
        Wall::of(timezone, usual)
    }
}

/// A policy by its name.
pub(crate) fn load(tx: &Tx<'_>, app: &AppId, name: &str) -> Result<Option<Policy>, StoreError> {
    tx.load(Space::Apps, &keys::policy(app, name))
}

/// Writes a policy.
pub(crate) fn save(tx: &mut Tx<'_>, app: &AppId, policy: &Policy) -> Result<(), StoreError> {
    tx.save(Space::Apps, keys::policy(app, &policy.name), policy)
}

/// Removes a policy. What was held by it goes out when its moment comes.
pub(crate) fn remove(tx: &mut Tx<'_>, app: &AppId, name: &str) {
    tx.remove(Space::Apps, keys::policy(app, name));
    tx.remove(Space::Messages, keys::policy_turn(app, name));
}

/// Policies by name, on from one of them.
pub(crate) fn list(
    tx: &Tx<'_>,
    app: &AppId,
    from: Option<&str>,
    order: Order,
    limit: usize,
) -> Result<Vec<Policy>, StoreError> {
    let from = from.map(|from| keys::policy(app, from));
    let found = tx.scan(Space::Apps, &keys::policies(app), from.as_deref(), order, limit)?;
    found.iter().map(|(_, policy)| decode(policy)).collect()
}

/// All of them.
pub(crate) fn all(tx: &Tx<'_>, app: &AppId) -> Result<Vec<Policy>, StoreError> {
    list(tx, app, None, Order::Forward, POLICIES_MAX)
}

/// The policy of messages of this category that name none.
pub(crate) fn of_category(tx: &Tx<'_>, app: &AppId, category: &str) -> Result<Option<String>, StoreError> {
    Ok(all(tx, app)?
        .into_iter()
        .find(|policy| policy.categories.contains(category))
        .map(|policy| policy.name))
}

#[cfg(test)]
mod tests;
