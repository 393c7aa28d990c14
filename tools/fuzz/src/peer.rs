//! libFuzzer's entry for `peer`; what it does with an input is in `crates/engine/tests/fuzzed`.
#![no_main]

#[path = "../../../crates/engine/tests/fuzzed/bytes.rs"]
#[allow(dead_code)]
mod bytes;
#[path = "../../../crates/engine/tests/fuzzed/datagrams.rs"]
#[allow(dead_code)]
mod datagrams;

libfuzzer_sys::fuzz_target!(|data: &[u8]| datagrams::peer(data));
