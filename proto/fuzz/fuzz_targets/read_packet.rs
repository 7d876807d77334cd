//! Runs [`reveille_proto_fuzz::read_packet`] on whatever the fuzzer finds.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| reveille_proto_fuzz::read_packet(data));
