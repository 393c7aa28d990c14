//! The certificates whose signatures an endpoint has verified last, so that a peer that connects again
//! costs two signature verifications less.
//!
//! Only what never changes is remembered: that these bytes are signed by their own key, and that the host
//! key signed that key. Whether the certificate is valid now, and that the peer has its private key, is
//! verified in each handshake.

use std::collections::VecDeque;

use parking_lot::Mutex;

use crate::host_key::PublicKey;

/// How many certificates are remembered. A peer may fill the list with its own, each for the price of a
/// verification; others are then verified as without it.
const MOST: usize = 64;

/// The largest that is remembered, in bytes. One with an RSA host key of 2048 bits has some 1 200.
const LARGEST: usize = 2048;

/// A leaf lock: nothing else is locked under it, and nobody is woken.
#[derive(Debug, Default)]
pub(super) struct VerifiedCertificates(Mutex<VecDeque<(Box<[u8]>, PublicKey)>>);

impl VerifiedCertificates {
    /// The host key of a certificate whose signatures are valid; `None` if that is not known.
    pub(super) fn get(&self, der: &[u8]) -> Option<PublicKey> {
        let known = self.0.lock();
        let found = known.iter().find(|(known, _)| **known == *der);
        found.map(|(_, key)| key.clone())
    }

    /// The signatures of this certificate are valid.
    pub(super) fn insert(&self, der: &[u8], key: &PublicKey) {
        if der.len() > LARGEST {
            return;
        }
        let mut known = self.0.lock();
        if known.len() == MOST {
            known.pop_front();
        }
        known.push_back((der.into(), key.clone()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::Identity;

    #[test]
    fn the_last_certificates_are_remembered_and_no_large_ones() {
        let key = Identity::generate().public_key().clone();
        let verified = VerifiedCertificates::default();
        for n in 0..=MOST {
            verified.insert(&n.to_be_bytes(), &key);
        }
        assert_eq!(verified.get(&0_usize.to_be_bytes()), None);
        assert_eq!(verified.get(&1_usize.to_be_bytes()).as_ref(), Some(&key));
        assert_eq!(verified.get(&MOST.to_be_bytes()).as_ref(), Some(&key));
        verified.insert(&[1; LARGEST + 1], &key);
        assert_eq!(verified.get(&[1; LARGEST + 1]), None);
    }
}
