//! Whom a message is for, read from the index in order, a chunk at a time, in constant memory.

pub mod expression;
mod parser;
mod readiness;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use reveille_proto::ids::AppId;
use serde::{Deserialize, Serialize};

pub use expression::Expression;
use expression::{Field, Match};
pub use parser::ExpressionError;
pub(crate) use readiness::NotReady;

use crate::devices;
use crate::index::{DeviceNumber, Known, Summary};
use crate::lists::{self, List};
use crate::queues::LOOK_MAX;
use crate::store::{Order, StoreError, Tx};
use crate::vendor::VendorName;

/// Entries of one audience at most: devices, aliases and tags together. Larger ones are a tag, or all.
pub const ENTRIES_MAX: usize = 10_000;

/// Devices of a list on disk that are looked at together.
const LIST_PAGE: usize = 1000;
/// Devices of an audience's lists that tell how many of all of them are within its limits: in each list a part of these.
const LIST_SAMPLE: usize = LOOK_MAX;

/// Whom a message is for: whoever is in any of these.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Audience {
    /// By id, known to the bridge or not.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub devices: Vec<String>,
    /// By alias, by its type.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub aliases: BTreeMap<String, Vec<String>>,
    /// With any of these tags.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<String>,
    /// Every device of the app.
    #[serde(skip_serializing_if = "is_false")]
    pub all: bool,
    /// Whoever this means, with every segment written out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expr: Option<Expression>,
    /// In any of these lists on disk.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub lists: Vec<String>,
    /// The subscribers of this topic, which are a list on disk once a message is sent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub topic: Option<String>,
    /// Of all these only whoever this means too, with every segment written out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub only: Option<Expression>,
    /// Of all these only devices with one of these tags; empty: all of them. The limit of the sender's key.
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub within: BTreeSet<String>,
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "the signature that serde asks for")]
fn is_false(value: &bool) -> bool {
    !value
}

/// A place in an audience.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cursor {
    /// The listed devices first, then whoever the index knows. A place of an older release within its parts is read
    /// as the beginning of the second one: whoever was seen is passed over.
    pub part: usize,
    /// The listed device that was read last; within a list on disk its own.
    #[serde(default)]
    pub after: Option<String>,
    /// Which list on disk is being read.
    #[serde(default)]
    pub list: Option<usize>,
    /// The number of the device in the index that comes next.
    #[serde(default)]
    pub number: Option<DeviceNumber>,
}

/// An expression and what it needs besides the index, for one transaction.
pub(crate) struct Asked {
    expression: Expression,
    known: Known,
}

impl Asked {
    /// Looks up the devices that the expression names. Segments are written out already. Its ages count from `now_ms`.
    pub fn new(tx: &Tx<'_>, app: &AppId, expression: Expression, now_ms: u64) -> Result<Self, StoreError> {
        let mut ids = Vec::new();
        expression.for_each_test(&mut |test| {
            if let Expression::Device(id) = test {
                ids.push(id.clone());
            }
        });
        let mut known = Known { now_ms, ..Known::default() };
        for id in ids {
            if let Some(number) = devices::number_of(tx, app, &id)? {
                known.devices.insert(id, number);
            }
        }
        Ok(Self { expression, known })
    }

    /// The next ids from a number on, and with which number to go on.
    pub fn ids_from(
        &self,
        tx: &Tx<'_>,
        app: &AppId,
        from: Option<DeviceNumber>,
        limit: usize,
    ) -> Result<(Vec<String>, Option<DeviceNumber>), StoreError> {
        let from = from.map_or(0, |number| number.0);
        let (numbers, next) = tx.index().numbers_from(app, &self.expression, &self.known, from, limit);
        let mut ids = Vec::with_capacity(numbers.len());
        for number in numbers {
            ids.extend(devices::id_of(tx, app, number)?); // one that was removed a moment ago has none
        }
        Ok((ids, next))
    }
}

impl Asked {
    /// The ids of the devices with numbers behind one, or before one when the order is turned.
    pub fn page(
        &self,
        tx: &Tx<'_>,
        app: &AppId,
        from: Option<DeviceNumber>,
        order: Order,
        limit: usize,
    ) -> Result<Vec<String>, StoreError> {
        if order == Order::Forward {
            let next = from.map(|number| DeviceNumber(number.0.saturating_add(1)));
            return Ok(self.ids_from(tx, app, next, limit)?.0);
        }
        let before = from.map_or(u32::MAX, |number| number.0);
        let numbers = tx.index().numbers_before(app, &self.expression, &self.known, before, limit);
        let ids = numbers.into_iter().filter_map(|number| devices::id_of(tx, app, number).transpose());
        ids.collect()
    }
}

impl Audience {
    /// How many entries it names.
    pub fn entries(&self) -> usize {
        self.devices.len() + self.aliases.values().map(Vec::len).sum::<usize>() + self.tags.len()
    }

    /// Whether it names nobody.
    pub fn is_empty(&self) -> bool {
        self.entries() == 0
            && !self.all
            && self.expr.is_none()
            && self.lists.is_empty()
            && self.topic.is_none()
    }

    /// Sorted and without doubles, as it is read chunk by chunk.
    pub fn in_order(mut self) -> Self {
        for list in self.aliases.values_mut().chain([&mut self.devices, &mut self.tags]) {
            list.sort_unstable();
            list.dedup();
        }
        self
    }

    /// Everybody but the listed devices, as one expression.
    fn expression(&self) -> Option<Expression> {
        match self.limits() {
            Some(narrowed) => Some(Expression::And(vec![narrowed, self.anybody()?])),
            None => self.sets(),
        }
    }

    /// What whoever is meant must be besides.
    fn limits(&self) -> Option<Expression> {
        let both: Vec<_> = self.only.clone().into_iter().chain(with_any_tag(&self.within)).collect();
        if both.is_empty() { None } else { Some(Expression::And(both)) }
    }

    /// Whether the listed devices are read from the list. Whether they are meant with `only`, the index alone knows.
    fn has_list(&self) -> bool {
        self.only.is_none() && self.within.is_empty()
    }

    /// Listed or in a set.
    fn anybody(&self) -> Option<Expression> {
        let listed = self.devices.iter().cloned().map(Expression::Device);
        Expression::any_of(listed.chain(self.sets()).collect())
    }

    fn sets(&self) -> Option<Expression> {
        if self.all {
            return Some(Expression::All); // the others are within
        }
        let has =
            |field: &Field, value: &String| Expression::Has(field.clone(), Match::Exactly(value.clone()));
        let mut sets: Vec<_> = self.tags.iter().map(|tag| has(&Field::Tag, tag)).collect();
        for (kind, aliases) in &self.aliases {
            let field = Field::Alias(kind.clone());
            sets.extend(aliases.iter().map(|alias| has(&field, alias)));
        }
        sets.extend(self.expr.clone());
        Expression::any_of(sets)
    }

    /// The next devices, at most `limit`, and where to go on; `None` at the end. A device may be listed and in the
    /// index too; whoever reads both skips those that were seen. Ages count from `now_ms`. Of those in the index only
    /// whoever is `within` too.
    pub(crate) fn chunk(
        &self,
        tx: &Tx<'_>,
        app: &AppId,
        now_ms: u64,
        within: Option<Expression>,
        cursor: &Cursor,
        limit: usize,
    ) -> Result<(Vec<String>, Option<Cursor>), StoreError> {
        let mut ids = Vec::new();
        if cursor.part == 0
            && let Some(next) = self.read_lists(tx, app, now_ms, cursor, limit, &mut ids)?
        {
            return Ok((ids, Some(next)));
        }
        let Some(expression) = self.expression() else { return Ok((ids, None)) };
        let expression = match within {
            Some(within) => Expression::And(vec![expression, within]),
            None => expression,
        };
        let asked = Asked::new(tx, app, expression, now_ms)?;
        let (found, next) = asked.ids_from(tx, app, cursor.number, limit - ids.len())?;
        ids.extend(found);
        Ok((ids, next.map(|number| Cursor { part: 1, number: Some(number), ..Cursor::default() })))
    }

    /// The listed devices, then those of the lists on disk, until there are enough of them: then where to go on.
    fn read_lists(
        &self,
        tx: &Tx<'_>,
        app: &AppId,
        now_ms: u64,
        cursor: &Cursor,
        limit: usize,
        ids: &mut Vec<String>,
    ) -> Result<Option<Cursor>, StoreError> {
        if cursor.list.is_none() && self.has_list() {
            *ids = self.listed(cursor.after.as_deref(), limit);
            if ids.len() == limit {
                return Ok(Some(Cursor { after: ids.last().cloned(), ..Cursor::default() }));
            }
        }
        let first = cursor.list.unwrap_or(0);
        for (at, list) in self.lists.iter().enumerate().skip(first) {
            let after = cursor.after.as_deref().filter(|_| cursor.list == Some(at));
            let room = limit - ids.len();
            let page = lists::page(tx, app, list, after, room)?;
            let last = page.last().cloned();
            let is_full = page.len() == room;
            ids.extend(self.narrowed(tx, app, now_ms, page)?);
            if is_full {
                return Ok(Some(Cursor { after: last, list: Some(at), ..Cursor::default() }));
            }
        }
        Ok(None)
    }

    /// Those of some devices that are within what limits the audience.
    fn narrowed(
        &self,
        tx: &Tx<'_>,
        app: &AppId,
        now_ms: u64,
        ids: Vec<String>,
    ) -> Result<Vec<String>, StoreError> {
        let Some(only) = self.limits() else { return Ok(ids) };
        let count = ids.len();
        let Some(any) = Expression::any_of(ids.into_iter().map(Expression::Device).collect()) else {
            return Ok(Vec::new());
        };
        let asked = Asked::new(tx, app, Expression::And(vec![any, only]), now_ms)?;
        Ok(asked.ids_from(tx, app, None, count)?.0)
    }

    fn listed(&self, after: Option<&str>, limit: usize) -> Vec<String> {
        let from = self.devices.partition_point(|id| after.is_some_and(|after| id.as_str() <= after));
        self.devices.iter().skip(from).take(limit).cloned().collect()
    }

    /// The number of devices, when the list alone says it.
    pub(crate) fn listed_only(&self) -> Option<u64> {
        let has_others = !self.lists.is_empty() || self.topic.is_some() || !self.within.is_empty();
        (self.expression().is_none() && !has_others)
            .then(|| u64::try_from(self.devices.len()).unwrap_or(u64::MAX))
    }

    /// The first of its devices that has a live token at a vendor.
    pub(crate) fn first_at(
        &self,
        tx: &Tx<'_>,
        app: &AppId,
        vendor: VendorName,
    ) -> Result<Option<String>, StoreError> {
        if let Some(everybody) = self.everybody() {
            let there = Expression::Has(Field::Vendor, Match::Exactly(vendor.to_string()));
            let asked = Asked::new(tx, app, Expression::And(vec![everybody, there]), tx.now_ms())?;
            if let Some(first) = asked.ids_from(tx, app, None, 1)?.0.pop() {
                return Ok(Some(first));
            }
        }
        self.first_listed_at(tx, app, vendor)
    }

    fn first_listed_at(
        &self,
        tx: &Tx<'_>,
        app: &AppId,
        vendor: VendorName,
    ) -> Result<Option<String>, StoreError> {
        for list in &self.lists {
            let mut after: Option<String> = None;
            loop {
                let devices = lists::page(tx, app, list, after.as_deref(), LIST_PAGE)?;
                after = devices.last().cloned();
                let is_last = devices.len() < LIST_PAGE;
                if let Some(first) = self.of_listed(devices).first_at(tx, app, vendor)? {
                    return Ok(Some(first));
                }
                if is_last {
                    break;
                }
            }
        }
        Ok(None)
    }

    fn everybody(&self) -> Option<Expression> {
        if self.has_list() { self.anybody() } else { self.expression() }
    }

    /// How many devices it means now, of what kind, and the first ids of them.
    /// Devices of lists on disk are counted with the lists: one that is in two, or listed too, counts twice.
    pub(crate) fn look(&self, tx: &Tx<'_>, app: &AppId, sample: usize) -> Result<Look, StoreError> {
        let mut look = self.look_without_lists(tx, app, sample)?;
        for list in &self.lists {
            let mut after: Option<String> = None;
            loop {
                let ids = lists::page(tx, app, list, after.as_deref(), LIST_PAGE)?;
                let is_last = ids.len() < LIST_PAGE;
                after = ids.last().cloned();
                look.add(self.of_listed(ids).look_without_lists(tx, app, sample)?, sample);
                if is_last {
                    break;
                }
            }
        }
        Ok(look)
    }

    /// Of these devices, which stand in a list on disk, those whom the audience means.
    fn of_listed(&self, devices: Vec<String>) -> Self {
        Self { devices, only: self.only.clone(), within: self.within.clone(), ..Self::default() }
    }

    fn look_without_lists(&self, tx: &Tx<'_>, app: &AppId, sample: usize) -> Result<Look, StoreError> {
        let Some(everybody) = self.everybody() else { return Ok(Look::default()) };
        let asked = Asked::new(tx, app, everybody, tx.now_ms())?;
        let mut summary = tx.index().summary(app, &asked.expression, &asked.known);
        let listed = self.devices.iter().filter(|_| self.has_list());
        let strangers = listed.filter(|id| !asked.known.devices.contains_key(*id));
        let mut ids = asked.ids_from(tx, app, None, sample)?.0;
        let mut unknown = 0;
        for id in strangers {
            unknown += 1;
            if ids.len() < sample {
                ids.push(id.clone());
            }
        }
        summary.devices += unknown;
        summary.without_token += unknown;
        Ok(Look { summary, sample: ids })
    }

    /// About how many devices it means now. Cheap enough for the store's thread, however long its lists are.
    pub(crate) fn estimate(&self, tx: &Tx<'_>, app: &AppId) -> Result<u64, StoreError> {
        let mut devices = self.look_without_lists(tx, app, 0)?.summary.devices;
        let sample = sample_of_each(self.lists.len());
        for list in &self.lists {
            devices = devices.saturating_add(self.estimate_of_list(tx, app, list, sample)?);
        }
        Ok(devices)
    }

    /// A list knows its length; how many of it are within the audience's limits, its first devices tell.
    fn estimate_of_list(
        &self,
        tx: &Tx<'_>,
        app: &AppId,
        list: &str,
        sample: usize,
    ) -> Result<u64, StoreError> {
        let Some(List { devices, .. }) = lists::load(tx, app, list)? else { return Ok(0) };
        if self.has_list() {
            return Ok(devices);
        }
        let first = lists::page(tx, app, list, None, sample)?;
        let seen = first.len().max(1) as u64;
        let within = self.narrowed(tx, app, tx.now_ms(), first)?.len() as u64;
        Ok(devices.saturating_mul(within) / seen)
    }
}

/// How many devices of each of so many lists are looked at.
fn sample_of_each(lists: usize) -> usize {
    (LIST_SAMPLE / lists.max(1)).max(1)
}

/// Devices with one of these tags; `None` when none is named.
pub(crate) fn with_any_tag(tags: &BTreeSet<String>) -> Option<Expression> {
    let has = |tag: &String| Expression::Has(Field::Tag, Match::Exactly(tag.clone()));
    Expression::any_of(tags.iter().map(has).collect())
}

/// Whom an audience means at one moment.
#[derive(Clone, Debug, Default)]
pub(crate) struct Look {
    pub summary: Summary,
    pub sample: Vec<String>,
}

impl Look {
    fn add(&mut self, other: Self, sample: usize) {
        let (all, more) = (&mut self.summary, other.summary);
        all.devices += more.devices;
        all.online += more.online;
        all.without_token += more.without_token;
        for (vendor, devices) in more.by_vendor {
            *all.by_vendor.entry(vendor).or_default() += devices;
        }
        let room = sample.saturating_sub(self.sample.len());
        self.sample.extend(other.sample.into_iter().take(room));
    }
}
