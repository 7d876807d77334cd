//! The PROXY protocol, versions 1 and 2: a header in which a trusted proxy says for whom it connects.
//!
//! Read strictly, as its text asks: whatever is not exactly a header ends the connection.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// What version 2 begins with; no other protocol does.
const V2_SIGNATURE: [u8; 12] = *b"\r\n\r\n\0\r\nQUIT\n";

/// What version 1 begins with.
const V1_START: &[u8] = b"PROXY ";

/// The longest header of version 1, its CRLF included.
const V1_BYTES_MAX: usize = 107;

/// Signature, version and command, family, length.
const V2_FIXED_BYTES: usize = 16;

/// Addresses and further values of version 2 that we take. Its length field allows 64 KiB; what proxies send has some
/// hundred bytes, and strangers behind a broken one shall not make us keep more.
const V2_REST_BYTES_MAX: usize = 4 << 10;

/// A whole header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    /// Where the client is. `None`: the proxy speaks for itself, or does not know.
    pub(crate) source: Option<SocketAddr>,
    /// Bytes that it takes.
    pub(crate) length: usize,
}

/// How far parsing got.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Parsed {
    /// More bytes are needed.
    Incomplete,
    /// It is there.
    Whole(Header),
}

/// Why bytes are no PROXY header.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no PROXY protocol header")]
pub(crate) struct NoHeader;

/// Looks for a header at the beginning of what came.
///
/// # Errors
/// [`NoHeader`] as soon as the bytes cannot become one.
pub(crate) fn parse(bytes: &[u8]) -> Result<Parsed, NoHeader> {
    if begins(bytes, &V2_SIGNATURE) {
        return parse_v2(bytes);
    }
    if begins(bytes, V1_START) {
        return parse_v1(bytes);
    }
    Err(NoHeader)
}

/// Whether the bytes begin with it, as far as they came.
fn begins(bytes: &[u8], with: &[u8]) -> bool {
    bytes.iter().zip(with).all(|(byte, wanted)| byte == wanted)
}

fn parse_v1(bytes: &[u8]) -> Result<Parsed, NoHeader> {
    let head = bytes.get(..V1_BYTES_MAX).unwrap_or(bytes);
    let Some(end) = head.windows(2).position(|pair| pair == b"\r\n") else {
        return if head.len() < V1_BYTES_MAX { Ok(Parsed::Incomplete) } else { Err(NoHeader) };
    };
    let line = head.get(..end).and_then(|line| str::from_utf8(line).ok()).ok_or(NoHeader)?;
    Ok(Parsed::Whole(Header { source: source_v1(line)?, length: end + 2 }))
}

fn source_v1(line: &str) -> Result<Option<SocketAddr>, NoHeader> {
    let mut words = line.split(' ').skip(1);
    let family = words.next().ok_or(NoHeader)?;
    if family == "UNKNOWN" {
        return Ok(None); // whatever follows is to be ignored
    }
    let mut word = || words.next().ok_or(NoHeader);
    let (source, destination, source_port, destination_port) = (word()?, word()?, word()?, word()?);
    if words.next().is_some() {
        return Err(NoHeader);
    }
    let address = |text: &str| match family {
        "TCP4" => text.parse::<Ipv4Addr>().map(IpAddr::V4).map_err(|_| NoHeader),
        "TCP6" => text.parse::<Ipv6Addr>().map(IpAddr::V6).map_err(|_| NoHeader),
        _ => Err(NoHeader),
    };
    address(destination)?;
    port_v1(destination_port)?;
    Ok(Some(SocketAddr::new(address(source)?, port_v1(source_port)?)))
}

/// Decimal, without sign or leading zero.
fn port_v1(text: &str) -> Result<u16, NoHeader> {
    let is_plain = text.bytes().all(|byte| byte.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
    text.parse().ok().filter(|_| is_plain).ok_or(NoHeader)
}

fn parse_v2(bytes: &[u8]) -> Result<Parsed, NoHeader> {
    let Some(fixed) = bytes.get(V2_SIGNATURE.len()..V2_FIXED_BYTES) else { return Ok(Parsed::Incomplete) };
    let [version_and_command, family, high, low] = fixed.try_into().map_err(|_| NoHeader)?;
    let rest_length = usize::from(u16::from_be_bytes([high, low]));
    if rest_length > V2_REST_BYTES_MAX {
        return Err(NoHeader);
    }
    let length = V2_FIXED_BYTES + rest_length;
    let is_local = match version_and_command {
        0x20 => true,
        0x21 => false,
        _ => return Err(NoHeader),
    };
    let Some(rest) = bytes.get(V2_FIXED_BYTES..length) else { return Ok(Parsed::Incomplete) };
    let source = if is_local { None } else { source_v2(family, rest)? };
    Ok(Parsed::Whole(Header { source, length }))
}

/// The values behind the addresses (TLV) are not for us.
fn source_v2(family: u8, rest: &[u8]) -> Result<Option<SocketAddr>, NoHeader> {
    match family {
        0x11 => {
            let (source, ports) = (array::<4>(rest, 0)?, array::<4>(rest, 8)?);
            Ok(Some(SocketAddr::new(Ipv4Addr::from(source).into(), source_port(ports))))
        }
        0x21 => {
            let (source, ports) = (array::<16>(rest, 0)?, array::<4>(rest, 32)?);
            Ok(Some(SocketAddr::new(Ipv6Addr::from(source).into(), source_port(ports))))
        }
        // Unspecified, and a Unix socket at the proxy: a stream, but no address of a network.
        0x00 | 0x31 => Ok(None),
        _ => Err(NoHeader), // datagrams, which this is not, and families that do not exist
    }
}

fn array<const N: usize>(bytes: &[u8], at: usize) -> Result<[u8; N], NoHeader> {
    bytes.get(at..at + N).and_then(|part| part.try_into().ok()).ok_or(NoHeader)
}

fn source_port([high, low, _, _]: [u8; 4]) -> u16 {
    u16::from_be_bytes([high, low])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn whole(source: Option<&str>, length: usize) -> Result<Parsed, NoHeader> {
        Ok(Parsed::Whole(Header { source: source.map(|text| text.parse().unwrap()), length }))
    }

    #[test]
    fn a_header_of_version_1_is_read_strictly() {
        let rows: [(&[u8], Result<Parsed, NoHeader>); 18] = [
            (b"PROXY TCP4 192.0.2.1 192.0.2.9 56324 1883\r\n\x10", whole(Some("192.0.2.1:56324"), 43)),
            (b"PROXY TCP6 2001:db8::1 2001:db8::2 1 2\r\n", whole(Some("[2001:db8::1]:1"), 40)),
            (b"PROXY UNKNOWN\r\n", whole(None, 15)),
            (b"PROXY UNKNOWN whatever stands here\r\n", whole(None, 36)),
            (b"", Ok(Parsed::Incomplete)),
            (b"PRO", Ok(Parsed::Incomplete)),
            (b"PROXY TCP4 192.0.2.1 192.0.2.9 56324 1883\r", Ok(Parsed::Incomplete)),
            (b"\x10\x0d\x00\x04MQTT", Err(NoHeader)),
            (b"proxy TCP4 192.0.2.1 192.0.2.9 1 2\r\n", Err(NoHeader)),
            (b"PROXY TCP4 192.0.2.1 192.0.2.9 1\r\n", Err(NoHeader)),
            (b"PROXY TCP4 192.0.2.1 192.0.2.9 1 2 3\r\n", Err(NoHeader)),
            (b"PROXY TCP4 192.0.2.1  192.0.2.9 1 2\r\n", Err(NoHeader)),
            (b"PROXY TCP4 2001:db8::1 192.0.2.9 1 2\r\n", Err(NoHeader)),
            (b"PROXY TCP4 192.0.2.1 192.0.2.9 65536 2\r\n", Err(NoHeader)),
            (b"PROXY TCP4 192.0.2.1 192.0.2.9 01 2\r\n", Err(NoHeader)),
            (b"PROXY TCP4 192.0.2.1 192.0.2.9 +1 2\r\n", Err(NoHeader)),
            (b"PROXY UDP4 192.0.2.1 192.0.2.9 1 2\r\n", Err(NoHeader)),
            (b"PROXY\r\n", Err(NoHeader)),
        ];
        for (bytes, wanted) in rows {
            assert_eq!(parse(bytes), wanted, "{:?}", String::from_utf8_lossy(bytes));
        }
        let endless = [b"PROXY UNKNOWN ".as_slice(), &[b'x'; 200]].concat();
        assert_eq!(parse(&endless), Err(NoHeader), "no line of version 1 is so long");
    }

    fn v2(version_and_command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
        let length = u16::try_from(rest.len()).unwrap().to_be_bytes();
        [&V2_SIGNATURE[..], &[version_and_command, family], &length, rest].concat()
    }

    #[test]
    fn a_header_of_version_2_is_read_strictly() {
        let v4 = [192, 0, 2, 1, 192, 0, 2, 9, 0x12, 0x34, 7, 91];
        let mut v6 = [0; 36];
        v6[15] = 1;
        v6[33] = 80;
        let with_values = [&v4[..], &[0x20, 0, 3, 1, 2, 3]].concat();
        let rows = [
            (v2(0x21, 0x11, &v4), whole(Some("192.0.2.1:4660"), 28)),
            (v2(0x21, 0x21, &v6), whole(Some("[::1]:80"), 52)),
            (v2(0x21, 0x11, &with_values), whole(Some("192.0.2.1:4660"), 34)),
            (v2(0x20, 0x11, &v4), whole(None, 28)),
            (v2(0x20, 0x00, &[]), whole(None, 16)),
            (v2(0x21, 0x00, &[1, 2]), whole(None, 18)),
            (v2(0x21, 0x31, &[0; 216]), whole(None, 232)),
            (v2(0x21, 0x12, &v4), Err(NoHeader)),
            (v2(0x21, 0x11, &v4[..11]), Err(NoHeader)),
            (v2(0x21, 0x51, &v4), Err(NoHeader)),
            (v2(0x22, 0x11, &v4), Err(NoHeader)),
            (v2(0x11, 0x11, &v4), Err(NoHeader)),
            (v2(0x21, 0x11, &[0; 5000]), Err(NoHeader)),
        ];
        for (bytes, wanted) in rows {
            assert_eq!(parse(&bytes), wanted, "{bytes:?}");
        }
    }

    #[test]
    fn a_header_that_comes_byte_by_byte_is_awaited() {
        let whole = v2(0x21, 0x11, &[192, 0, 2, 1, 192, 0, 2, 9, 0, 1, 0, 2]);
        for bytes in [&whole[..], b"PROXY TCP4 192.0.2.1 192.0.2.9 1 2\r\n"] {
            for end in 0..bytes.len() {
                assert_eq!(parse(&bytes[..end]), Ok(Parsed::Incomplete), "{end} of {bytes:?}");
            }
            assert!(matches!(parse(bytes), Ok(Parsed::Whole(_))));
        }
    }

    proptest::proptest! {
        /// Whatever comes: no panic, and a whole header stays one when more follows.
        #[test]
        fn more_bytes_do_not_change_a_header(
            start in 0_usize..4,
            tail in proptest::collection::vec(0_u8.., 0..60),
            more in proptest::collection::vec(0_u8.., 0..20),
        ) {
            let starts: [&[u8]; 4] =
                [b"", b"PROXY TCP4 1.2.3.4 5.6.7.8 9 ", b"\r\n\r\n\0\r\nQUIT\n\x21\x11\x00\x0c", b"PROXY UNKNOWN\r"];
            let bytes = [starts[start], &tail].concat();
            let first = parse(&bytes);
            if first != Ok(Parsed::Incomplete) {
                proptest::prop_assert_eq!(parse(&[bytes, more].concat()), first);
            }
        }
    }
}
