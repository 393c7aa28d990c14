//! What the fuzz targets of this crate do with an input, and every kept input again, as an ordinary test.
//!
//! `tools/fuzz` builds the same files around libFuzzer. `cases/` holds one folder a target: seeds to start from,
//! and what was found, each named for what it showed.
#![allow(clippy::unwrap_used)]

#[path = "../../../engine/tests/fuzzed/bytes.rs"]
#[allow(dead_code)]
mod bytes;
mod http3;
#[path = "../connection/peer.rs"]
#[allow(dead_code)]
mod peer;
mod pieces;
#[path = "../../../engine/tests/fuzzed/replay.rs"]
mod replay;

use replay::replay;

#[test]
fn settings() {
    replay("h3_settings", pieces::settings);
}

#[test]
fn field_sections() {
    replay("h3_fields", pieces::field_section);
}

#[test]
fn capsules() {
    replay("h3_capsules", pieces::capsules);
}

#[test]
fn session_streams() {
    replay("h3_streams", http3::session_streams);
}

#[test]
fn connections() {
    replay("h3_connection", http3::connection);
}
