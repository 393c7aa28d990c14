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

use std::{fs, panic::catch_unwind, path::Path};

/// Run every case of a target, and say which failed.
fn replay(target: &str, run: fn(&[u8])) {
    let cases = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/fuzzed/cases")
        .join(target);
    let mut paths: Vec<_> = fs::read_dir(&cases)
        .unwrap_or_else(|error| panic!("{}: {error}", cases.display()))
        .map(|entry| entry.expect("an entry").path())
        .collect();
    paths.sort();
    assert!(!paths.is_empty(), "no cases in {}", cases.display());
    let failed: Vec<_> = paths
        .iter()
        .filter(|path| {
            let data = fs::read(path).expect("a case");
            catch_unwind(|| run(&data)).is_err()
        })
        .collect();
    assert!(failed.is_empty(), "{failed:?}");
}

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
