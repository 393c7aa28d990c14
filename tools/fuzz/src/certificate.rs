//! libFuzzer's entry for `certificate`; what it does with an input is in `crates/engine/tests/fuzzed`.
#![no_main]

#[path = "../../../crates/engine/tests/fuzzed/bytes.rs"]
#[allow(dead_code)]
mod bytes;
#[path = "../../../crates/engine/tests/fuzzed/certificate.rs"]
mod certificate;
#[path = "../../../crates/engine/tests/forge/mod.rs"]
mod forge;

libfuzzer_sys::fuzz_target!(|data: &[u8]| certificate::run(data));
