//! Whom a message is for, read from the indexes in order, a chunk at a time, in constant memory.

use std::collections::BTreeMap;

use reveille_proto::ids::AppId;
use serde::{Deserialize, Serialize};

use crate::devices;
use crate::store::{StoreError, Tx, keys};

/// Entries of one audience at most: devices, aliases and tags together. Larger ones are a tag, or all.
pub const ENTRIES_MAX: usize = 10_000;
/// How far an estimate counts.
const ESTIMATE_MAX: usize = 10_000;

/// Whom a message is for: whoever is in any of these.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Audience {
    /// By id.
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
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "the signature that serde asks for")]
fn is_false(value: &bool) -> bool {
    !value
}

/// A place in an audience.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cursor {
    /// The part: devices first, then each alias, each tag, and all.
    pub part: usize,
    /// The device in it that was read last.
    #[serde(default)]
    pub after: Option<String>,
}

enum Part {
    Listed,
    Index(Vec<u8>),
}

impl Audience {
    /// How many entries it names.
    pub fn entries(&self) -> usize {
        self.devices.len() + self.aliases.values().map(Vec::len).sum::<usize>() + self.tags.len()
    }

    /// Whether it names nobody.
    pub fn is_empty(&self) -> bool {
        self.entries() == 0 && !self.all
    }

    /// Sorted and without doubles, as it is read chunk by chunk.
    pub fn in_order(mut self) -> Self {
        for list in self.aliases.values_mut().chain([&mut self.devices, &mut self.tags]) {
            list.sort_unstable();
            list.dedup();
        }
        self
    }

    fn parts(&self, app: &AppId) -> Vec<Part> {
        let mut parts = vec![Part::Listed];
        if self.all {
            parts.push(Part::Index(keys::devices(app)));
            return parts; // aliases and tags are within all
        }
        for (kind, aliases) in &self.aliases {
            parts.extend(aliases.iter().map(|alias| Part::Index(keys::alias(app, kind, alias))));
        }
        parts.extend(self.tags.iter().map(|tag| Part::Index(keys::tag(app, tag))));
        parts
    }

    /// The next devices, at most `limit`, and where to go on; `None` at the end. A device may occur in several
    /// parts; whoever reads them skips those that were seen.
    pub(crate) fn chunk(
        &self,
        tx: &Tx<'_>,
        app: &AppId,
        cursor: &Cursor,
        limit: usize,
    ) -> Result<(Vec<String>, Option<Cursor>), StoreError> {
        let parts = self.parts(app);
        let mut cursor = cursor.clone();
        let mut found = Vec::new();
        while found.len() < limit {
            let Some(part) = parts.get(cursor.part) else { return Ok((found, None)) };
            let room = limit - found.len();
            let ids = match part {
                Part::Listed => self.listed(cursor.after.as_deref(), room),
                Part::Index(index) => devices::ids_after(tx, index, cursor.after.as_deref(), room)?,
            };
            cursor = match ids.last() {
                Some(last) if ids.len() == room => Cursor { part: cursor.part, after: Some(last.clone()) },
                Some(_) | None => Cursor { part: cursor.part.saturating_add(1), after: None },
            };
            found.extend(ids);
        }
        Ok((found, Some(cursor)))
    }

    fn listed(&self, after: Option<&str>, limit: usize) -> Vec<String> {
        let from = self.devices.partition_point(|id| after.is_some_and(|after| id.as_str() <= after));
        self.devices.iter().skip(from).take(limit).cloned().collect()
    }

    /// About how many devices: exact up to [`ESTIMATE_MAX`] entries that are in one part only.
    pub(crate) fn estimate(&self, tx: &Tx<'_>, app: &AppId) -> Result<u64, StoreError> {
        if self.all {
            return devices::device_count(tx, app);
        }
        let (ids, _) = self.chunk(tx, app, &Cursor::default(), ESTIMATE_MAX)?;
        let ids: std::collections::HashSet<_> = ids.into_iter().collect();
        Ok(u64::try_from(ids.len()).unwrap_or(u64::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::devices::Device;
    use crate::store::Store;
    use std::sync::Arc;

    #[tokio::test]
    async fn a_chunked_audience_names_the_same_devices_as_a_whole_one() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path(), Arc::new(|| 1)).unwrap();
        let app = AppId::default();
        let for_write = app.clone();
        let write = move |tx: &mut Tx<'_>| {
            for n in 0..20 {
                let mut device = Device { id: format!("设备-{n:02}"), ..Device::default() };
                if n % 2 == 0 {
                    device.tags.insert("vip".to_owned());
                }
                device.alias.insert("user".to_owned(), format!("{}", n / 5));
                devices::save(tx, &for_write, &device)?;
            }
            Ok::<_, StoreError>(())
        };
        store.write(write).await.unwrap();
        let list = |ids: &[&str]| ids.iter().map(ToString::to_string).collect::<Vec<_>>();
        let some = Audience {
            devices: list(&["x", "设备-01", "x"]),
            aliases: BTreeMap::from([("user".to_owned(), list(&["3", "none"]))]),
            tags: list(&["vip"]),
            all: false,
        };
        let everyone = Audience { all: true, tags: list(&["vip"]), ..Audience::default() };
        for (audience, wanted) in [(some, 2 + 5 + 8), (everyone, 20), (Audience::default(), 0)] {
            let (audience, app) = (audience.in_order(), app.clone());
            let (mut sizes, estimate) = store
                .read(move |tx| {
                    let mut sizes = Vec::new();
                    for limit in [1, 2, 3, 7, 100] {
                        let (mut all, mut cursor) =
                            (std::collections::BTreeSet::new(), Some(Cursor::default()));
                        while let Some(at) = cursor {
                            let (ids, next) = audience.chunk(tx, &app, &at, limit)?;
                            assert!(ids.len() <= limit);
                            all.extend(ids);
                            cursor = next;
                        }
                        sizes.push(all.len());
                    }
                    Ok::<_, StoreError>((sizes, audience.estimate(tx, &app)?))
                })
                .await
                .unwrap();
            sizes.dedup();
            assert_eq!((sizes, estimate), (vec![wanted], wanted as u64));
        }
    }
}
