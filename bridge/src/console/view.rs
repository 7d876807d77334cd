//! HTML of the parts that every page has. Pure: data in, markup out; maud escapes every text.

pub(super) mod apps;
pub(super) mod audiences;
pub(super) mod audit;
pub(super) mod broker;
pub(super) mod chart;
pub(super) mod compose;
pub(super) mod devices;
pub(super) mod events;
pub(super) mod fields;
pub(super) mod messages;
pub(super) mod networks;
pub(super) mod overview;
pub(super) mod page;
pub(super) mod parts;
pub(super) mod people;
pub(super) mod policies;
pub(super) mod schedules;
pub(super) mod statistics;
pub(super) mod templates;
pub(super) mod trace;
pub(super) mod users;
pub(super) mod vendors;
pub(super) mod webhooks;

pub(super) use page::Context;
