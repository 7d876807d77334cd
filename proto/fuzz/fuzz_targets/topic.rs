//! Runs [`reveille_proto_fuzz::topic`] on whatever the fuzzer finds.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| reveille_proto_fuzz::topic(data));
