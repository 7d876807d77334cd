//! Pages of lists: cursors in both directions, never numbers of pages, so that what comes and goes meanwhile shifts
//! nothing.

use axum::extract::{FromRequestParts, Query};
use axum::http::request::Parts;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::Api;
use super::problem::{Errno, Problem};
use crate::store::Order;

/// Entries of one page unless asked otherwise.
const PAGE: usize = 100;
/// Entries of one page at most.
const PAGE_MAX: usize = 1000;

/// The parameters of a list.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct PageQuery {
    /// `page.next` of a page: what comes behind it.
    after: Option<String>,
    /// `page.prev` of a page: what comes before it.
    before: Option<String>,
    /// Entries at most.
    #[param(minimum = 1, maximum = 1000, default = 100)]
    limit: Option<usize>,
}

/// Where a page is: behind a cursor, before one, or at the beginning.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) enum Place {
    /// The first entries.
    #[default]
    Beginning,
    /// Those that follow this one.
    After(String),
    /// Those that this one follows.
    Before(String),
}

/// Which page of a list.
#[derive(Clone, Debug)]
pub(super) struct Page {
    /// Where it is.
    pub place: Place,
    /// Entries at most.
    pub limit: usize,
}

impl FromRequestParts<Api> for Page {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, shared: &Api) -> Result<Self, Problem> {
        let query = Query::<PageQuery>::from_request_parts(parts, shared).await;
        let known =
            |_| Problem::because(Errno::InvalidQuery, "a list knows the parameters after, before and limit");
        let Query(query) = query.map_err(known)?;
        Self::new(query.after, query.before, query.limit)
    }
}

impl Page {
    /// Checks the bounds.
    ///
    /// # Errors
    /// [`Errno::InvalidQuery`] for a limit that no page has, or a page that is in two places.
    pub fn new(after: Option<String>, before: Option<String>, limit: Option<usize>) -> Result<Self, Problem> {
        let limit = limit.unwrap_or(PAGE);
        if !(1..=PAGE_MAX).contains(&limit) {
            return Err(Problem::because(Errno::InvalidQuery, "limit is 1 to 1000"));
        }
        let place = match (after, before) {
            (None, None) => Place::Beginning,
            (Some(after), None) => Place::After(after),
            (None, Some(before)) => Place::Before(before),
            (Some(_), Some(_)) => {
                return Err(Problem::because(Errno::InvalidQuery, "a page is after a cursor or before one"));
            }
        };
        Ok(Self { place, limit })
    }

    /// Reads the page: `read` gets the cursor, the order in which to go on from it, and how many entries to find. `first` is
    /// the order of the list itself.
    pub fn walk<T, E>(
        &self,
        first: Order,
        read: impl FnOnce(Option<&str>, Order, usize) -> Result<Vec<T>, E>,
        cursor: impl Fn(&T) -> String,
    ) -> Result<Found<T>, E> {
        let (from, order) = match &self.place {
            Place::Beginning => (None, first),
            Place::After(cursor) => (Some(cursor.as_str()), first),
            Place::Before(cursor) => (Some(cursor.as_str()), first.turned()),
        };
        // One more than fits says whether there are more.
        let mut items = read(from, order, self.limit.saturating_add(1))?;
        let is_more = items.len() > self.limit;
        items.truncate(self.limit);
        let is_back = matches!(self.place, Place::Before(_));
        if is_back {
            items.reverse();
        }
        let next = items.last().map(&cursor).filter(|_| is_more || is_back);
        let is_behind = matches!(self.place, Place::After(_));
        let prev = items.first().map(cursor).filter(|_| is_behind || (is_back && is_more));
        Ok(Found { items, next, prev, limit: self.limit, total: None })
    }

    /// The page of a list that is at hand as a whole.
    pub fn cut<T: Clone>(&self, all: &[T], cursor: impl Fn(&T) -> String) -> Result<Found<T>, Problem> {
        let read = |from: Option<&str>, order: Order, limit: usize| {
            let place = from.map(|from| all.iter().position(|one| cursor(one) == from));
            let unknown =
                || Problem::because(Errno::InvalidCursor, "the entry of the cursor is gone: begin again");
            let place = place.map(|place| place.ok_or_else(unknown)).transpose()?;
            Ok::<_, Problem>(match order {
                Order::Forward => {
                    all.iter().skip(place.map_or(0, |at| at + 1)).take(limit).cloned().collect()
                }
                Order::Backward => {
                    all.iter().take(place.unwrap_or(all.len())).rev().take(limit).cloned().collect()
                }
            })
        };
        Ok(self.walk(Order::Forward, read, &cursor)?.of(all.len()))
    }
}

/// What a page has.
#[derive(Debug)]
pub(super) struct Found<T> {
    items: Vec<T>,
    next: Option<String>,
    prev: Option<String>,
    limit: usize,
    total: Option<usize>,
}

impl<T> Found<T> {
    /// A page that somebody else cut, who knows of no way back.
    pub fn onward(items: Vec<T>, next: Option<String>, limit: usize) -> Self {
        Self { items, next, prev: None, limit, total: None }
    }

    /// Of so many in the whole list.
    pub fn of(self, total: usize) -> Self {
        Self { total: Some(total), ..self }
    }

    /// Its entries.
    pub fn items(&self) -> &[T] {
        &self.items
    }

    /// The cursor of the page behind it.
    pub fn next(&self) -> Option<&str> {
        self.next.as_deref()
    }

    /// The page as it is answered.
    pub fn show<U: Serialize>(self, show: impl FnMut(T) -> U) -> axum::Json<Listed<U>> {
        let Self { items, next, prev, limit, total } = self;
        let page = PageInfo { next, prev, limit, total, total_is_estimate: false };
        axum::Json(Listed { items: items.into_iter().map(show).collect(), page })
    }
}

impl<T> Found<T> {
    /// Adds something to each entry that may fail.
    pub fn try_map<U, E>(self, map: impl FnMut(T) -> Result<U, E>) -> Result<Found<U>, E> {
        let Self { items, next, prev, limit, total } = self;
        let items = items.into_iter().map(map).collect::<Result<Vec<_>, E>>()?;
        Ok(Found { items, next, prev, limit, total })
    }
}

/// One page of a list.
#[derive(Serialize, ToSchema)]
pub(super) struct Listed<T> {
    items: Vec<T>,
    page: PageInfo,
}

/// Where the page is.
#[derive(Serialize, ToSchema)]
pub(super) struct PageInfo {
    /// For `after`; `null` at the end.
    #[schema(required)]
    next: Option<String>,
    /// For `before`; `null` at the beginning.
    #[schema(required)]
    prev: Option<String>,
    limit: usize,
    /// Entries of the whole list, where it costs nothing to say so.
    #[serde(skip_serializing_if = "Option::is_none")]
    total: Option<usize>,
    /// Whether `total` is about so many.
    total_is_estimate: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(place: Place, limit: usize) -> Page {
        Page { place, limit }
    }

    fn walked(page: &Page, first: Order) -> (Vec<u32>, Option<String>, Option<String>) {
        let all: Vec<u32> = match first {
            Order::Forward => (0..7).collect(),
            Order::Backward => (0..7).rev().collect(),
        };
        let read = |from: Option<&str>, order: Order, limit: usize| {
            let from: Option<u32> = from.map(|from| from.parse().unwrap());
            let mut numbers: Vec<u32> = (0..7).collect();
            numbers.retain(|number| match (from, order) {
                (None, _) => true,
                (Some(from), Order::Forward) => *number > from,
                (Some(from), Order::Backward) => *number < from,
            });
            if order == Order::Backward {
                numbers.reverse();
            }
            numbers.truncate(limit);
            Ok::<_, Problem>(numbers)
        };
        let found = page.walk(first, read, ToString::to_string).unwrap();
        if first == Order::Forward {
            let cut = page.cut(&all, ToString::to_string).unwrap();
            assert_eq!((&cut.items, &cut.next, &cut.prev), (&found.items, &found.next, &found.prev));
        }
        (found.items, found.next, found.prev)
    }

    #[test]
    fn a_walk_there_and_back_meets_every_entry_once() {
        for first in [Order::Forward, Order::Backward] {
            for limit in 1..=8 {
                let (mut there, mut place, mut last) = (Vec::new(), Place::Beginning, None);
                loop {
                    let (items, next, prev) = walked(&page(place.clone(), limit), first);
                    assert_eq!(prev.is_some(), place != Place::Beginning, "{first:?} {limit}");
                    there.extend(items);
                    last = prev.or(last);
                    let Some(next) = next else { break };
                    place = Place::After(next);
                }
                assert_eq!(there.len(), 7, "{first:?} {limit}");
                let mut back = Vec::new();
                let mut before = last;
                while let Some(cursor) = before {
                    let (items, next, prev) = walked(&page(Place::Before(cursor), limit), first);
                    assert!(next.is_some(), "something comes behind");
                    back.splice(0..0, items);
                    before = prev;
                }
                assert_eq!(back, there[..back.len()], "{first:?} {limit}");
                assert!(back.len() + limit >= 7, "{first:?} {limit}");
            }
        }
    }

    #[test]
    fn a_page_is_in_one_place_and_has_a_bound() {
        let cursor = || Some("1".to_owned());
        for (after, before, limit, is_good) in [
            (None, None, None, true),
            (cursor(), None, Some(1000), true),
            (None, cursor(), Some(1), true),
            (cursor(), cursor(), None, false),
            (None, None, Some(0), false),
            (None, None, Some(1001), false),
        ] {
            assert_eq!(Page::new(after, before, limit).is_ok(), is_good);
        }
        assert!(page(Place::After("9".to_owned()), 3).cut(&[1, 2], ToString::to_string).is_err());
    }
}
