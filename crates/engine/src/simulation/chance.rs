//! Seeded replacements of what quinn-proto takes from the system: connection ids, random numbers,
//! and the wall clock for Retry tokens.

use std::{sync::Arc, time::SystemTime};

use parking_lot::Mutex;
use quinn_proto::{ConnectionId, TimeSource};

use super::{clock::Clock, dice::Dice};
use crate::{
    config::Config,
    driver::{CryptoOverride, Settings, endpoint_config},
    error::EndpointError,
    identity::Identity,
};

/// Bytes of the destination connection id of a dial's first packets: the most that QUIC allows.
const FIRST_ID_LENGTH: usize = 20;

/// The settings of an endpoint whose behavior, except for cipher text, depends on the seed only.
pub(super) fn settings(
    identity: &Identity,
    config: Config,
    clock: &Clock,
    dice: &mut Dice,
    crypto_override: Option<CryptoOverride>,
) -> Result<Arc<Settings>, EndpointError> {
    let mut endpoint = endpoint_config(identity, &dice.bytes());
    endpoint.rng_seed(Some(dice.bytes()));
    let first_ids = Mutex::new(dice.fork());
    Settings::repeatable(
        identity,
        config,
        endpoint,
        Arc::new(WallClock(clock.clone())),
        Arc::new(move || ConnectionId::new(&first_ids.lock().bytes::<FIRST_ID_LENGTH>())),
        crypto_override,
    )
}

/// The wall clock of a world.
struct WallClock(Clock);

impl TimeSource for WallClock {
    fn now(&self) -> SystemTime {
        self.0.wall_clock()
    }
}
