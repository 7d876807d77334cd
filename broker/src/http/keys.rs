//! Who may use the operations API: keys of 256 random bits, of which the configuration has only the hash.

use super::problem::{Errno, Problem};
use crate::config::{AdminKey, AdminRole};
use arc_swap::ArcSwap;
use axum::extract::{Request, State};
use axum::http::header::AUTHORIZATION;
use axum::http::{HeaderMap, Method};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use ring::digest::{SHA256, digest};
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Wrong keys from one address within [`WINDOW`], above which its next ones are not looked at.
const WRONG_MAX: u32 = 10;

/// See [`WRONG_MAX`].
const WINDOW: Duration = Duration::from_secs(60);

/// Addresses of which wrong keys are remembered. Beyond it all are forgotten: the memory is bounded, and guessing one of
/// 2^256 keys does not become easier by it.
const ADDRESSES_MAX: usize = 4096;

/// The address that a request came from.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Peer(pub(crate) IpAddr);

/// Who may come in, and who tried in vain.
#[derive(Clone, Debug)]
pub(crate) struct Guard {
    keys: Arc<ArcSwap<Vec<AdminKey>>>,
    wrong: Arc<Mutex<HashMap<IpAddr, (u32, Instant)>>>,
}

impl Guard {
    /// With the keys of the configuration, which may be replaced.
    pub(crate) fn new(keys: Arc<ArcSwap<Vec<AdminKey>>>) -> Self {
        Self { keys, wrong: Arc::default() }
    }

    fn admit(&self, peer: IpAddr, method: &Method, headers: &HeaderMap) -> Result<(), Problem> {
        let keys = self.keys.load();
        if keys.is_empty() {
            return Err(Problem::new(Errno::AdminOff));
        }
        self.check_patience(peer)?;
        let Some(key) = bearer(headers) else { return Err(Problem::new(Errno::KeyMissing)) };
        let hash = digest(&SHA256, key);
        // Every key is compared, whole: how long it takes says nothing about which one came close.
        let fitting: Vec<&AdminKey> =
            keys.iter().filter(|key| is_same(&key.sha256.0, hash.as_ref())).collect();
        let Some(found) = fitting.first() else {
            self.count_wrong(peer);
            return Err(Problem::new(Errno::KeyWrong));
        };
        let is_read = method == Method::GET || method == Method::HEAD;
        match found.role {
            AdminRole::Read if !is_read => Err(Problem::new(Errno::KeyForbidden)),
            AdminRole::Read | AdminRole::Admin => Ok(()),
        }
    }

    fn check_patience(&self, peer: IpAddr) -> Result<(), Problem> {
        let wrong = self.wrong.lock().unwrap_or_else(PoisonError::into_inner);
        match wrong.get(&peer) {
            Some((count, since)) if *count >= WRONG_MAX && since.elapsed() < WINDOW => {
                let left = WINDOW.saturating_sub(since.elapsed()).as_secs() + 1;
                Err(Problem::later(Errno::TooManyWrongKeys, left))
            }
            _ => Ok(()),
        }
    }

    fn count_wrong(&self, peer: IpAddr) {
        let mut wrong = self.wrong.lock().unwrap_or_else(PoisonError::into_inner);
        if wrong.len() >= ADDRESSES_MAX {
            wrong.clear();
        }
        let (count, since) = wrong.entry(peer).or_insert((0, Instant::now()));
        if since.elapsed() >= WINDOW {
            (*count, *since) = (0, Instant::now());
        }
        *count += 1;
        if *count == WRONG_MAX {
            tracing::warn!(%peer, "too many wrong keys for the operations API");
        }
    }
}

/// Lets a request pass whose key opens what it asks for.
pub(crate) async fn guard(State(guard): State<Guard>, request: Request, next: Next) -> Response {
    let Some(Peer(peer)) = request.extensions().get::<Peer>().copied() else {
        return Problem::new(Errno::KeyMissing).into_response(); // cannot happen: the listener says who it is
    };
    match guard.admit(peer, request.method(), request.headers()) {
        Ok(()) => next.run(request).await,
        Err(problem) => problem.into_response(),
    }
}

fn bearer(headers: &HeaderMap) -> Option<&[u8]> {
    let text = headers.get(AUTHORIZATION)?.to_str().ok()?;
    let (scheme, key) = text.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| key.trim().as_bytes())
}

fn is_same(wanted: &[u8; 32], given: &[u8]) -> bool {
    let differing = wanted.iter().zip(given).fold(0, |sum, (a, b)| std::hint::black_box(sum | (a ^ b)));
    given.len() == wanted.len() && differing == 0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Sha256Hex;
    use axum::http::HeaderValue;

    fn key(name: &str, role: AdminRole, text: &str) -> AdminKey {
        let sha256 = Sha256Hex(digest(&SHA256, text.as_bytes()).as_ref().try_into().unwrap());
        AdminKey { name: name.to_owned(), role, sha256 }
    }

    fn headers(value: &str) -> HeaderMap {
        HeaderMap::from_iter([(AUTHORIZATION, HeaderValue::from_str(value).unwrap())])
    }

    #[test]
    fn a_key_opens_what_its_role_says_and_nothing_else_does() {
        let keys = vec![key("a", AdminRole::Admin, "tulip"), key("r", AdminRole::Read, "rose")];
        let guard = Guard::new(Arc::new(ArcSwap::from_pointee(keys)));
        let (get, delete) = (Method::GET, Method::DELETE);
        for (no, (method, value, wanted)) in [
            (&get, "Bearer tulip", None),
            (&delete, "bearer  tulip", None),
            (&get, "Bearer rose", None),
            (&delete, "Bearer rose", Some(Errno::KeyForbidden)),
            (&get, "Bearer lily", Some(Errno::KeyWrong)),
            (&get, "Basic tulip", Some(Errno::KeyMissing)),
            (&get, "tulip", Some(Errno::KeyMissing)),
        ]
        .into_iter()
        .enumerate()
        {
            let peer = IpAddr::from([127, 0, 0, no as u8]);
            let got = guard.admit(peer, method, &headers(value)).err().map(|problem| problem.errno());
            assert_eq!(got, wanted, "{method} {value}");
        }
    }

    #[test]
    fn without_keys_the_api_is_off() {
        let guard = Guard::new(Arc::default());
        let got = guard.admit(IpAddr::from([127, 0, 0, 1]), &Method::GET, &headers("Bearer x"));
        assert_eq!(got.unwrap_err().errno(), Errno::AdminOff);
    }

    #[test]
    fn whoever_guesses_is_not_listened_to_and_others_are() {
        let keys = vec![key("a", AdminRole::Admin, "tulip")];
        let guard = Guard::new(Arc::new(ArcSwap::from_pointee(keys)));
        let (guesser, other) = (IpAddr::from([10, 0, 0, 1]), IpAddr::from([10, 0, 0, 2]));
        for _ in 0..WRONG_MAX {
            assert!(guard.admit(guesser, &Method::GET, &headers("Bearer x")).is_err());
        }
        let got = guard.admit(guesser, &Method::GET, &headers("Bearer tulip"));
        assert_eq!(got.unwrap_err().errno(), Errno::TooManyWrongKeys, "even a right guess is not told");
        assert!(guard.admit(other, &Method::GET, &headers("Bearer tulip")).is_ok());
    }
}
