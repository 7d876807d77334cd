//! Networks: for how long each of them lets a connection be silent, as far as devices have found out.

use super::admin::{Api, Listed};
use super::problem::{Errno, Problem};
use super::read::{Asked, cursor_of, limit, text_of_cursor};
use super::subscriptions::PageQuery;
use axum::extract::State;
use reveille_broker_core::networks::{NetworkKey, NetworkView, Place};
use reveille_proto::heartbeat::Radio;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// What is known of one network.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Network {
    /// An address prefix, or the name that the configuration gives it.
    network: String,
    /// How its devices reach it, as they say: `wifi`, `eth`, `2g`, `3g`, `4g`, `5g`; `?`: they do not say.
    radio: &'static str,
    /// Devices that told something about it.
    devices: usize,
    /// Those of them that count: they have been there for a while, and no address counts for more than a fifth.
    counted: usize,
    /// Connections from there now.
    connections: u32,
    /// Connections that died of silence.
    deaths: u64,
    /// Connections that were reset.
    resets: u64,
    /// Idle timeouts, in seconds, below which 5, 10, 25, 50 and 75 of 100 paths lie, pulled towards what is known around.
    quantiles_s: [u16; 5],
    /// The interval that a new device there begins with, in seconds.
    interval_s: u16,
    /// The configuration says the interval.
    is_fixed: bool,
    /// When something was learned last.
    changed_ms: u64,
}

impl Network {
    fn of(view: NetworkView) -> Self {
        Self {
            network: view.key.place.to_string(),
            radio: view.key.radio.as_str(),
            devices: view.devices,
            counted: view.counted,
            connections: view.connections,
            deaths: view.deaths,
            resets: view.resets,
            quantiles_s: view.quantiles.0.map(|gap| gap.0),
            interval_s: view.interval.0,
            is_fixed: view.is_fixed,
            changed_ms: view.changed_at.0,
        }
    }
}

/// A network in a cursor.
#[derive(Serialize, Deserialize)]
struct Key {
    is_named: bool,
    place: String,
    radio: String,
}

fn cursor(key: &NetworkKey) -> String {
    let is_named = matches!(key.place, Place::Named(_));
    let key = Key { is_named, place: key.place.to_string(), radio: key.radio.as_str().to_owned() };
    cursor_of(&serde_json::to_string(&key).unwrap_or_default()) // texts only: it cannot fail
}

fn key_of(cursor: &str) -> Option<NetworkKey> {
    let Key { is_named, place, radio } = serde_json::from_str(&text_of_cursor(Some(cursor)).ok()??).ok()?;
    let place = if is_named { Place::Named(place.into()) } else { Place::Prefix(place.parse().ok()?) };
    Some(NetworkKey { place, radio: Radio::parse(&radio)? })
}

/// Networks that are remembered, named ones last.
#[utoipa::path(get, path = "/networks", tag = "networks", params(PageQuery),
    responses((status = 200, body = Listed<Network>)))]
pub(crate) async fn list(
    State(api): State<Api>,
    Asked(query): Asked<PageQuery>,
) -> Result<axum::Json<Listed<Network>>, Problem> {
    let limit = limit(query.limit)?;
    let after =
        query.after.as_deref().map(|text| key_of(text).ok_or_else(|| Problem::new(Errno::InvalidCursor)));
    let networks = api.shared.heartbeats.list(after.transpose()?.as_ref(), limit);
    let next = networks.last().filter(|_| networks.len() == limit).map(|view| cursor(&view.key));
    Ok(Listed::new(networks.into_iter().map(Network::of).collect(), next, limit))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_names_its_network() {
        for place in [Place::Prefix("10.1.0.0/16".parse().unwrap()), Place::Named("10.1.0.0/16".into())] {
            let key = NetworkKey { place, radio: Radio::Unknown };
            assert_eq!(key_of(&cursor(&key)), Some(key));
        }
        assert_eq!(key_of("x"), None);
    }
}
