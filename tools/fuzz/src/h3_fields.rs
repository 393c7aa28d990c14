//! libFuzzer's entry for `h3_fields`; what it does with an input is in `crates/webtransport/tests/fuzzed`.
#![no_main]

#[path = "../../../crates/engine/tests/fuzzed/bytes.rs"]
#[allow(dead_code)]
mod bytes;
#[path = "../../../crates/webtransport/tests/connection/peer.rs"]
#[allow(dead_code)]
mod peer;
#[path = "../../../crates/webtransport/tests/fuzzed/pieces.rs"]
#[allow(dead_code)]
mod pieces;

libfuzzer_sys::fuzz_target!(|data: &[u8]| pieces::field_section(data));
