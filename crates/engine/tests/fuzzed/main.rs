//! What the fuzz targets do with an input, and every kept input again, as an ordinary test.
//!
//! `tools/fuzz` builds the same files around libFuzzer. `cases/` holds one folder a target: seeds
//! to start from, and what was found, each named for what it showed.
#![allow(clippy::unwrap_used)]

mod bytes;
mod certificate;
mod client_hello;
mod configuration;
mod datagrams;
#[path = "../forge/mod.rs"]
mod forge;
mod noise;
mod replay;

use std::{fs, path::Path};

use replay::replay;

#[test]
fn certificates() {
    replay("certificate", certificate::run);
}

#[test]
fn client_hellos() {
    replay("client_hello", client_hello::run);
    // Otherwise nothing is compared.
    for case in ["h3", "libp2p", "none", "both_with_server_name"] {
        let path = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("tests/fuzzed/cases/client_hello")
            .join(case);
        let data = fs::read(path).expect("a case");
        assert!(client_hello::by_rustls(&data).is_some(), "{case}");
    }
}

#[test]
fn configurations() {
    replay("configuration", configuration::run);
}

#[test]
fn noise() {
    replay("noise", noise::run);
}

#[test]
fn datagrams_of_an_attacker() {
    replay("attacker", datagrams::attacker);
}

#[test]
fn datagrams_of_a_peer() {
    replay("peer", datagrams::peer);
}
