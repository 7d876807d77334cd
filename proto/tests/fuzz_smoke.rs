//! The bodies of the fuzz targets, run shortly and always alike: valid packets, damaged by a seeded generator.
#![allow(clippy::unwrap_used, reason = "a test ends where its assumption breaks")]

#[path = "../fuzz/src/lib.rs"]
mod bodies;
#[path = "support/strategies.rs"]
#[allow(dead_code, reason = "the strategies for single packets serve other tests")]
mod strategies;

use bytes::BytesMut;
use proptest::strategy::{Strategy, ValueTree};
use proptest::test_runner::TestRunner;
use reveille_proto::mqtt::Packet;

const ROUNDS: usize = 30_000;

/// A small generator (xorshift) whose whole state is the seed.
struct Dice(u64);

impl Dice {
    fn throw(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, bound: usize) -> usize {
        (self.throw() % bound.max(1) as u64) as usize
    }

    /// Damages the bytes in one to four places, as a fuzzer would.
    fn mutate(&mut self, bytes: &mut Vec<u8>, other: &[u8]) {
        const LIMITS: [u8; 8] = [0, 1, 2, 3, 0x7F, 0x80, 0xFE, 0xFF];
        for _ in 0..=self.below(4) {
            let at = self.below(bytes.len());
            let limit = LIMITS.get(self.below(LIMITS.len())).copied().unwrap_or(0);
            let flipped = 1u8 << self.below(8);
            match (self.below(6), bytes.get_mut(at)) {
                (0, Some(byte)) => *byte ^= flipped,
                (1, Some(byte)) => *byte = limit,
                (2, Some(byte)) => *byte = byte.wrapping_add(1),
                (3, Some(_)) => drop(bytes.remove(at)),
                (4, _) => bytes.insert(at, limit),
                (_, _) => {
                    bytes.truncate(at);
                    bytes.extend_from_slice(other.get(self.below(other.len())..).unwrap_or_default());
                }
            }
        }
    }
}

/// Valid inputs of the packet targets: the choice of the version, then the packet.
fn packets() -> Vec<Vec<u8>> {
    let mut runner = TestRunner::deterministic();
    let mut corpus = vec![];
    for (at, version) in strategies::VERSIONS.into_iter().enumerate() {
        let strategy = strategies::packet(version);
        for _ in 0..120 {
            let packet = strategy.new_tree(&mut runner).unwrap().current();
            let mut bytes = BytesMut::new();
            packet.write(version, &mut bytes).unwrap();
            let choice = if matches!(packet, Packet::Connect(_)) { 0 } else { at + 1 };
            corpus.push([&[choice as u8], &bytes[..]].concat());
        }
    }
    corpus
}

fn run(corpus: &[Vec<u8>], seed: u64, body: fn(&[u8])) {
    let mut dice = Dice(seed);
    corpus.iter().for_each(|input| body(input));
    for _ in 0..ROUNDS {
        let mut input = corpus.get(dice.below(corpus.len())).unwrap().clone();
        let other = corpus.get(dice.below(corpus.len())).unwrap();
        dice.mutate(&mut input, other);
        body(&input);
    }
}

#[test]
fn damaged_packets_are_read_without_harm() {
    run(&packets(), 0x5EED_0001, bodies::read_packet);
}

#[test]
fn what_is_read_from_damaged_packets_is_written_and_read_again() {
    run(&packets(), 0x5EED_0002, bodies::read_then_write);
}

#[test]
fn damaged_topics_keep_their_rules() {
    let corpus = [
        "设备/+/温度\n设备/一/温度",
        "a/b/#\na/b",
        "#\n$SYS/x",
        "+/+\n/",
        "$share/组/设备/#\n设备",
        "a//+/b\na//c/b",
        "$push/v1/#\n$push/v1/send",
    ];
    run(&corpus.map(|text| text.as_bytes().to_vec()), 0x5EED_0003, bodies::topic);
}
