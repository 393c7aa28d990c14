//! What quinn-proto would take from the system, taken from the seed: connection ids, its
//! random numbers, the wall clock that dates Retry tokens.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use parking_lot::Mutex;
use quinn_proto::{
    ConnectionId, ConnectionIdGenerator, EndpointConfig, TimeSource, crypto::HmacKey,
};
use ring::hmac;

use super::{clock::Clock, dice::Dice};
use crate::{
    config::Config,
    driver::{Cover, Settings},
    error::EndpointError,
    identity::Identity,
};

/// Bytes of a connection id, as quinn-proto's own generators use.
const ID_LENGTH: usize = 8;

/// Bytes of the id that a dial invents for its first packets, the most that QUIC allows.
const FIRST_ID_LENGTH: usize = 20;

/// The settings of an endpoint of which a seed repeats everything but the cipher text.
pub(super) fn settings(
    identity: &Identity,
    config: Config,
    clock: &Clock,
    dice: &mut Dice,
    cover: Option<Cover>,
) -> Result<Arc<Settings>, EndpointError> {
    // As in a real endpoint it comes from the identity: a restarted node can reset what its
    // predecessor left behind.
    let key = hmac::Key::new(
        hmac::HMAC_SHA256,
        &identity.derive_secret("stateless reset"),
    );
    let mut endpoint = EndpointConfig::new(Arc::new(key) as Arc<dyn HmacKey>);
    endpoint.rng_seed(Some(dice.bytes()));
    let ids = dice.fork();
    endpoint.cid_generator(move || Box::new(Ids(ids.clone())));
    let first_ids = Mutex::new(dice.fork());
    Settings::repeatable(
        identity,
        config,
        endpoint,
        Arc::new(Calendar(clock.clone())),
        Arc::new(move || ConnectionId::new(&first_ids.lock().bytes::<FIRST_ID_LENGTH>())),
        cover,
    )
}

struct Ids(Dice);

impl ConnectionIdGenerator for Ids {
    fn generate_cid(&mut self) -> ConnectionId {
        ConnectionId::new(&self.0.bytes::<ID_LENGTH>())
    }

    fn cid_len(&self) -> usize {
        ID_LENGTH
    }

    fn cid_lifetime(&self) -> Option<Duration> {
        None
    }
}

/// The wall clock of a world.
struct Calendar(Clock);

impl TimeSource for Calendar {
    fn now(&self) -> SystemTime {
        self.0.calendar()
    }
}
