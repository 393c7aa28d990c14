//! libFuzzer's entry for `configuration`; what it does with an input is in `crates/engine/tests/fuzzed`.
#![no_main]

#[path = "../../../crates/engine/tests/fuzzed/bytes.rs"]
#[allow(dead_code)]
mod bytes;
#[path = "../../../crates/engine/tests/fuzzed/configuration.rs"]
mod configuration;

libfuzzer_sys::fuzz_target!(|data: &[u8]| configuration::run(data));
