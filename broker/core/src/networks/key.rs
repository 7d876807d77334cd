//! What counts as one network: a prefix of the address that the broker itself sees, and the radio that the device names.
//!
//! The prefix is never the client's claim, so a liar can only spoil his own. The radio only splits a prefix.

use bytestring::ByteString;
use reveille_proto::heartbeat::Radio;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

/// The leading bits of an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Prefix {
    address: IpAddr,
    bits: u8,
}

/// Why a text is no prefix.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a prefix looks like 10.0.0.0/8 or fd00::/8")]
pub struct NoPrefix;

impl Prefix {
    /// So many leading bits of an address. An IPv4 address that came through an IPv6 socket is the IPv4 address.
    pub fn of(address: IpAddr, bits: u8) -> Self {
        match address.to_canonical() {
            IpAddr::V4(address) => {
                let bits = bits.min(32);
                let mask = u32::MAX.checked_shl(32 - u32::from(bits)).unwrap_or(0);
                Self { address: Ipv4Addr::from_bits(address.to_bits() & mask).into(), bits }
            }
            IpAddr::V6(address) => {
                let bits = bits.min(128);
                let mask = u128::MAX.checked_shl(128 - u32::from(bits)).unwrap_or(0);
                Self { address: Ipv6Addr::from_bits(address.to_bits() & mask).into(), bits }
            }
        }
    }

    /// Where neighbours mostly share a provider and its equipment: /24, /48.
    pub fn near(address: IpAddr) -> Self {
        Self::of(address, if address.to_canonical().is_ipv4() { 24 } else { 48 })
    }

    /// The wider surroundings, for where nearer nothing is known yet: /16, /32.
    pub fn wide(address: IpAddr) -> Self {
        Self::of(address, if address.to_canonical().is_ipv4() { 16 } else { 32 })
    }

    /// The wide prefix around it.
    pub(super) fn widened(&self) -> Self {
        Self::wide(self.address)
    }

    /// One customer: a single IPv4 address, or the /64 from which a device picks its IPv6 addresses.
    pub fn source(address: IpAddr) -> Self {
        Self::of(address, if address.to_canonical().is_ipv4() { 32 } else { 64 })
    }

    /// Whether the address is in it.
    pub fn contains(&self, address: IpAddr) -> bool {
        address.to_canonical().is_ipv4() == self.address.is_ipv4() && Self::of(address, self.bits) == *self
    }

    /// A number for it, the same for ever. Not secret: an address is not either.
    pub(super) fn hash(&self) -> u32 {
        let hash = match self.address {
            IpAddr::V4(address) => fnv1a(&address.octets()),
            IpAddr::V6(address) => fnv1a(&address.octets()),
        };
        (hash ^ (hash >> 32)) as u32
    }
}

/// FNV-1a: what is stored under it must be found again by every later release.
pub(super) fn fnv1a(bytes: &[u8]) -> u64 {
    const OFFSET: u64 = 0xcbf2_9ce4_8422_2325;
    const PRIME: u64 = 0x0000_0100_0000_01b3;
    bytes.iter().fold(OFFSET, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(PRIME))
}

impl fmt::Display for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.bits)
    }
}

impl FromStr for Prefix {
    type Err = NoPrefix;

    fn from_str(text: &str) -> Result<Self, NoPrefix> {
        let (address, bits) = text.split_once('/').ok_or(NoPrefix)?;
        let address: IpAddr = address.parse().map_err(|_| NoPrefix)?;
        let bits: u8 = bits.parse().map_err(|_| NoPrefix)?;
        let prefix = Self::of(address, bits);
        if prefix.bits == bits { Ok(prefix) } else { Err(NoPrefix) }
    }
}

/// Where a network is.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Place {
    /// Where the address says.
    Prefix(Prefix),
    /// Prefixes to which an operator gave one name.
    Named(ByteString),
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Prefix(prefix) => prefix.fmt(f),
            Self::Named(name) => f.write_str(name),
        }
    }
}

/// One network.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NetworkKey {
    /// Where.
    pub place: Place,
    /// How its devices reach it.
    pub radio: Radio,
}

impl fmt::Display for NetworkKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.place, self.radio.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_has_a_near_and_a_wide_prefix_and_one_customer() {
        let rows = [
            ("203.0.113.77", "203.0.113.0/24", "203.0.0.0/16", "203.0.113.77/32"),
            ("::ffff:203.0.113.77", "203.0.113.0/24", "203.0.0.0/16", "203.0.113.77/32"),
            ("2001:db8:1:2:3::4", "2001:db8:1::/48", "2001:db8::/32", "2001:db8:1:2::/64"),
        ];
        for (address, near, wide, source) in rows {
            let address: IpAddr = address.parse().unwrap();
            let found = [Prefix::near(address), Prefix::wide(address), Prefix::source(address)];
            assert_eq!(found.map(|prefix| prefix.to_string()), [near, wide, source], "{address}");
            assert!(found.iter().all(|prefix| prefix.contains(address)), "{address}");
        }
    }

    #[test]
    fn a_prefix_is_read_as_it_is_written() {
        for text in ["10.0.0.0/8", "0.0.0.0/0", "192.0.2.1/32", "::/0", "fd00::/8"] {
            assert_eq!(text.parse::<Prefix>().unwrap().to_string(), text);
        }
        assert_eq!("10.1.2.3/8".parse::<Prefix>().unwrap().to_string(), "10.0.0.0/8");
        for text in ["10.0.0.0", "10.0.0.0/33", "fd00::/129", "ten/8", "", "10.0.0.0/8/8"] {
            assert!(text.parse::<Prefix>().is_err(), "{text}");
        }
        let v4: Prefix = "0.0.0.0/0".parse().unwrap();
        assert!(!v4.contains("::1".parse().unwrap()), "the families are two");
    }
}
