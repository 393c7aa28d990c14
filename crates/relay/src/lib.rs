//! A UDP relay that misbehaves by seed: the network between real processes, in user space.
//!
//! It stands between any number of dialers and one target, delays, drops and damages
//! datagrams in both directions, and looks into none. The engine's deterministic simulation
//! has the same conditions in virtual time; what they have in common is named alike. No
//! QUIC here, no async runtime, and nothing of the engine but its dice.

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
