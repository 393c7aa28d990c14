//! Generates our connection ids (RFC 9000 section 5.1). They look random to others, do not repeat, and
//! are recognized by an endpoint with the same identity key: a restarted node answers packets of its
//! predecessor's connections, and no others, with a stateless reset.
//!
//! `id_supply` limits how often a peer gets one.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use quinn_proto::{ConnectionId, ConnectionIdGenerator, InvalidCid};
use ring::hmac;

use crate::identity::Identity;

/// 64 bits that look random: a repetition becomes likely after 2^32 ids, which takes thirteen years at
/// ten a second. quinn-proto's generator has 24 bits, and repeats an id after some 4 000.
const NONCE_LENGTH: usize = 8;

/// One in 2^32 random ids passes as ours. Each byte here is one more in every packet sent to us.
const TAG_LENGTH: usize = 4;

/// Bytes of a connection id.
pub(crate) const CONNECTION_ID_LENGTH: usize = NONCE_LENGTH + TAG_LENGTH;

/// Clones share one sequence of ids.
#[derive(Clone)]
pub(super) struct ConnectionIds {
    /// Derived from the identity.
    tag_key: hmac::Key,
    /// Specific to this endpoint.
    nonce_key: hmac::Key,
    drawn: Arc<AtomicU64>,
}

impl ConnectionIds {
    /// `seed` must be secret and fresh for every endpoint: it determines the ids.
    pub(super) fn new(identity: &Identity, seed: &[u8; 32]) -> Self {
        let key = |secret: &[u8]| hmac::Key::new(hmac::HMAC_SHA256, secret);
        Self {
            tag_key: key(&identity.derive_secret("connection ids")),
            nonce_key: key(seed),
            drawn: Arc::default(),
        }
    }
}

impl ConnectionIdGenerator for ConnectionIds {
    fn generate_cid(&mut self) -> ConnectionId {
        let number = self.drawn.fetch_add(1, Ordering::Relaxed);
        let nonce = hmac::sign(&self.nonce_key, &number.to_be_bytes());
        let nonce = &nonce.as_ref()[..NONCE_LENGTH];
        let tag = hmac::sign(&self.tag_key, nonce);
        let mut id = [0; CONNECTION_ID_LENGTH];
        id[..NONCE_LENGTH].copy_from_slice(nonce);
        id[NONCE_LENGTH..].copy_from_slice(&tag.as_ref()[..TAG_LENGTH]);
        ConnectionId::new(&id)
    }

    fn validate(&self, id: &ConnectionId) -> Result<(), InvalidCid> {
        // Guessing a tag only gains a stateless reset for an id without a connection, so the
        // comparison need not be constant-time.
        let (nonce, tag) = id.split_at_checked(NONCE_LENGTH).ok_or(InvalidCid)?;
        let expected = hmac::sign(&self.tag_key, nonce);
        if tag == &expected.as_ref()[..TAG_LENGTH] {
            Ok(())
        } else {
            Err(InvalidCid)
        }
    }

    fn cid_len(&self) -> usize {
        CONNECTION_ID_LENGTH
    }

    fn cid_lifetime(&self) -> Option<Duration> {
        None
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    fn drawn(ids: &mut ConnectionIds, count: usize) -> Vec<ConnectionId> {
        (0..count).map(|_| ids.generate_cid()).collect()
    }

    #[test]
    fn no_id_comes_twice_and_clones_share_them() {
        let mut ids = ConnectionIds::new(&Identity::generate(), &[1; 32]);
        let mut clone = ids.clone();
        let mut all = drawn(&mut ids, 100_000);
        all.extend(drawn(&mut clone, 100_000));
        let distinct: HashSet<_> = all.iter().map(|id| id.to_vec()).collect();
        assert_eq!(distinct.len(), 200_000);
        // The nonces alone are distinct.
        let nonces: HashSet<_> = all.iter().map(|id| id[..NONCE_LENGTH].to_vec()).collect();
        assert_eq!(nonces.len(), 200_000);
    }

    #[test]
    fn a_restarted_endpoint_recognizes_them_and_generates_others() {
        let identity = Identity::generate();
        let mut before = ConnectionIds::new(&identity, &[1; 32]);
        let mut after = ConnectionIds::new(&identity, &[2; 32]);
        let old = drawn(&mut before, 1_000);
        let new: HashSet<_> = drawn(&mut after, 1_000).into_iter().collect();
        assert!(old.iter().all(|id| after.validate(id).is_ok()));
        assert!(old.iter().all(|id| !new.contains(id)));
    }

    #[test]
    fn ids_of_others_and_forged_ids_are_refused() {
        let ids = ConnectionIds::new(&Identity::generate(), &[1; 32]);
        let mut other = ConnectionIds::new(&Identity::generate(), &[1; 32]);
        for id in drawn(&mut other, 1_000) {
            assert!(ids.validate(&id).is_err());
        }
        let mut own = ids.clone();
        for id in drawn(&mut own, 100) {
            for bit in 0..CONNECTION_ID_LENGTH * 8 {
                let mut changed = id.to_vec();
                changed[bit / 8] ^= 1 << (bit % 8);
                assert!(ids.validate(&ConnectionId::new(&changed)).is_err());
            }
        }
        for short in [&[][..], &[1; 7], &[1; 8]] {
            assert!(ids.validate(&ConnectionId::new(short)).is_err());
        }
    }
}
