//! libFuzzer's entry for `client_hello`; what it does with an input is in `crates/engine/tests/fuzzed`.
#![no_main]

#[path = "../../../crates/engine/tests/fuzzed/client_hello.rs"]
mod client_hello;

libfuzzer_sys::fuzz_target!(|data: &[u8]| client_hello::run(data));
