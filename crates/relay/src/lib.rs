//! A UDP relay with seeded network conditions between real processes, in user space.
//!
//! It relays between any number of dialers and one target, and delays, drops and damages
//! datagrams in both directions without parsing them. The engine's deterministic simulation has
//! the same conditions, under the same names, in virtual time. This crate has no QUIC and no async
//! runtime, and shares only the engine's dice.

#![forbid(unsafe_code)]

pub mod command;
pub mod conditions;
// One generator for both networks; it depends on nothing.
#[path = "../../engine/src/simulation/dice.rs"]
pub mod dice;
pub mod line;
pub mod options;
mod relay;
mod socket;
mod totals;
pub mod units;

pub use conditions::{Conditions, Directions};
pub use options::Options;
pub use relay::Relay;
