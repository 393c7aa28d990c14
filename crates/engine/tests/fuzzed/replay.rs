//! Runs the kept cases of a fuzz target of the crate that includes this file, as an ordinary test.

use std::{fs, panic::catch_unwind, path::Path};

/// Run every case of a target, and say which failed.
pub(crate) fn replay(target: &str, run: fn(&[u8])) {
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
