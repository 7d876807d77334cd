//! Handshakes of one byte at a time, which never end.

use crate::rounds;
use crate::stranger::{Sent, Stranger};
use crate::target::{Damage, Target};
use std::io::{ErrorKind, Read};
use std::thread;
use std::time::Duration;

/// Of each kind.
const SOCKETS: usize = 500;

/// Between two bytes: slow enough to be cheap, fast enough to look alive.
const PACE: Duration = Duration::from_millis(50);

/// How handshakes begin that would go on for most of an hour: a client id of 60,000 bytes, a client hello of 16,000, a
/// header without an end.
const CONNECT: &[u8] = b"\x10\xed\xd4\x03\x00\x04MQTT\x04\x02\x00\x3c\xea\x60";
const CLIENT_HELLO: &[u8] = b"\x16\x03\x01\x3e\x80\x01\x00\x3e\x7c\x03\x03";
const UPGRADE: &[u8] = b"GET /mqtt HTTP/1.1\r\nHost: localhost\r\nX-Slow: ";

pub fn run(target: &Target) -> Damage {
    let kinds = [
        (target.address(), CONNECT),
        (target.listener("tls"), CLIENT_HELLO),
        (target.listener("ws"), UPGRADE),
    ];
    let mut open = Vec::new();
    for number in 0..SOCKETS * kinds.len() {
        let (address, start) = kinds[number % kinds.len()];
        open.push((Stranger::dial(address, number).unwrap(), start));
    }
    let mut position = 0;
    while !open.is_empty() {
        open.retain_mut(|(stranger, start)| {
            let byte = start.get(position).copied().unwrap_or(b'x');
            stranger.send_bytes(&[byte]) == Sent::Taken && is_open(stranger)
        });
        position += 1;
        thread::park_timeout(PACE); // the attack itself: nothing waits for the time to pass
    }
    Damage { what: "slow handshakes over TCP, TLS and WebSocket", count: SOCKETS * kinds.len() }
}

/// Whether the broker has not hung up. It says nothing before CONNECT is whole.
fn is_open(stranger: &mut Stranger) -> bool {
    stranger.socket.set_nonblocking(true).unwrap();
    let read = stranger.socket.read(&mut [0; 16]);
    stranger.socket.set_nonblocking(false).unwrap();
    matches!(read, Err(error) if error.kind() == ErrorKind::WouldBlock)
}

#[test]
fn slow_handshakes_end_at_their_deadline() {
    Target::start().suffer("slow handshakes", rounds(), run);
}
