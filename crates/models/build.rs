//! Says `models` to the engine's sources: `signal` and `sync` are then those of this crate, and
//! `models` is there.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rustc-cfg=models");
}
