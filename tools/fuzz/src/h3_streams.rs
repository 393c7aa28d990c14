//! libFuzzer's entry for `h3_streams`; what it does with an input is in `crates/webtransport/tests/fuzzed`.
#![no_main]

#[path = "../../../crates/engine/tests/fuzzed/bytes.rs"]
#[allow(dead_code)]
mod bytes;
#[path = "../../../crates/webtransport/tests/fuzzed/http3.rs"]
#[allow(dead_code)]
mod http3;
#[path = "../../../crates/webtransport/tests/connection/peer.rs"]
#[allow(dead_code)]
mod peer;

libfuzzer_sys::fuzz_target!(|data: &[u8]| http3::session_streams(data));
