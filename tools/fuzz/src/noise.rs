//! libFuzzer's entry for `noise`; what it does with an input is in `crates/engine/tests/fuzzed`.
#![no_main]

#[path = "../../../crates/engine/tests/fuzzed/bytes.rs"]
#[allow(dead_code)]
mod bytes;
#[path = "../../../crates/engine/tests/fuzzed/noise.rs"]
mod noise;

libfuzzer_sys::fuzz_target!(|data: &[u8]| noise::run(data));
