//! Which addresses a call may reach. An address that a stranger chose must not lead into the operator's own network, so
//! it is the address that a name has at that moment which is looked at, not the name.

use std::future::Future;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::pin::Pin;
use std::task::{Context, Poll};

use hyper_util::client::legacy::connect::dns::{GaiResolver, Name};
use tower_service::Service;

/// See the module.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Reach {
    /// Every address: the operator chose it.
    Anywhere,
    /// Addresses of the public Internet only.
    PublicOnly,
}

impl Reach {
    /// Whether this address may be called.
    pub fn allows(self, address: IpAddr) -> bool {
        match self {
            Self::Anywhere => true,
            Self::PublicOnly => is_public(address),
        }
    }

    /// Whether a host that is written as an address may be called; names are looked at when they are resolved.
    pub fn allows_host(self, host: &str) -> bool {
        let bare = host.trim_start_matches('[').trim_end_matches(']');
        bare.parse().map_or(true, |address| self.allows(address))
    }
}

/// IANA's special-purpose registries (RFC 6890 and what followed it), with addresses of IPv4 inside IPv6 read as such.
fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => is_public_v4(address),
        IpAddr::V6(address) => match v4_inside(address) {
            Some(inner) => is_public_v4(inner),
            None => is_public_v6(address),
        },
    }
}

fn is_public_v4(address: Ipv4Addr) -> bool {
    let [a, b, c, _] = address.octets();
    let is_special = address.is_private()
        || address.is_loopback()
        || address.is_link_local()
        || address.is_multicast()
        || address.is_documentation()
        || matches!((a, b, c), (0, ..) | (100, 64..=127, _) | (192, 0, 0) | (198, 18 | 19, _) | (240.., ..));
    !is_special
}

fn is_public_v6(address: Ipv6Addr) -> bool {
    let [first, second, ..] = address.segments();
    // Only 2000::/3 is given out; of it not what is for documentation or tunnels.
    first & 0xe000 == 0x2000 && !(first == 0x2001 && (second < 0x0200 || second == 0x0db8))
}

/// Mapped (::ffff:0:0/96), translated (64:ff9b::/96) and 6to4 (2002::/16) addresses lead to one of IPv4.
fn v4_inside(address: Ipv6Addr) -> Option<Ipv4Addr> {
    let from = |high: u16, low: u16| Ipv4Addr::from((u32::from(high) << 16) | u32::from(low));
    match address.segments() {
        [0, 0, 0, 0, 0, 0xffff, high, low] | [0x64, 0xff9b, 0, 0, 0, 0, high, low] => Some(from(high, low)),
        [0x2002, high, low, ..] => Some(from(high, low)),
        _ => None,
    }
}

/// Looks names up, and keeps of their addresses those that may be reached.
#[derive(Clone)]
pub(super) struct Resolver {
    system: GaiResolver,
    reach: Reach,
}

impl Resolver {
    /// A resolver for calls of this reach.
    pub fn new(reach: Reach) -> Self {
        Self { system: GaiResolver::new(), reach }
    }
}

impl Service<Name> for Resolver {
    type Response = std::vec::IntoIter<SocketAddr>;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Self::Response>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.system.poll_ready(context)
    }

    fn call(&mut self, name: Name) -> Self::Future {
        let (looking, reach) = (self.system.call(name), self.reach);
        Box::pin(async move {
            let found = looking.await?;
            let kept: Vec<SocketAddr> = found.filter(|address| reach.allows(address.ip())).collect();
            if kept.is_empty() {
                return Err(io::Error::new(
                    io::ErrorKind::PermissionDenied,
                    "the host has no public address",
                ));
            }
            Ok(kept.into_iter())
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_addresses_of_the_public_internet_are_public() {
        for public in
            ["8.8.8.8", "100.63.255.255", "172.32.0.1", "2606:4700::1", "::ffff:1.1.1.1", "2002:101:101::"]
        {
            assert!(Reach::PublicOnly.allows(public.parse().unwrap()), "{public}");
        }
        for inner in [
            "0.0.0.0",
            "10.1.2.3",
            "100.64.0.1",
            "127.0.0.1",
            "127.1.2.3",
            "169.254.169.254",
            "172.16.0.1",
            "192.0.0.8",
            "192.0.2.1",
            "192.168.1.1",
            "198.18.0.1",
            "203.0.113.9",
            "224.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "fc00::1",
            "fe80::1",
            "ff02::1",
            "::ffff:127.0.0.1",
            "64:ff9b::a00:1",
            "2002:7f00:1::",
            "2001:db8::1",
            "2001::1",
            "::127.0.0.1",
        ] {
            let inner: IpAddr = inner.parse().unwrap();
            assert!(!Reach::PublicOnly.allows(inner), "{inner}");
            assert!(Reach::Anywhere.allows(inner), "{inner}");
        }
        assert!(!Reach::PublicOnly.allows_host("[::1]") && !Reach::PublicOnly.allows_host("10.0.0.1"));
        assert!(Reach::PublicOnly.allows_host("hook.example"), "a name is looked at when it is resolved");
    }

    #[tokio::test]
    async fn a_name_that_leads_inside_has_no_address() {
        let look = |reach| {
            let mut resolver = Resolver::new(reach);
            async move { resolver.call("localhost".parse().unwrap()).await }
        };
        assert_eq!(look(Reach::PublicOnly).await.unwrap_err().kind(), io::ErrorKind::PermissionDenied);
        assert!(look(Reach::Anywhere).await.unwrap().all(|address| address.ip().is_loopback()));
    }
}
