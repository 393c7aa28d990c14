//! Certificates damaged at random and bytes that never were one: refused, and never a panic.
//!
//! `certificates` has those that are wrong on purpose, with the reason for each refusal.
#![allow(clippy::unwrap_used)]

mod forge;

use std::time::Duration;

use forge::{Forge, Key, LIBP2P_OID, bits, extension, host_protobuf, octets, sequence, tlv};
use libp2p_identity::Keypair;
use libp2p_quic_engine::PublicKey;
use libp2p_quic_engine::tls::certificate::{self, CertificateError, UnixTime};
use proptest::prelude::*;

/// 2024-07-03T09:46:40Z.
const NOW: Duration = Duration::from_secs(1_720_000_000);

fn judge(der: &[u8]) -> Result<PublicKey, CertificateError> {
    certificate::parse(der)?.verify(UnixTime::since_unix_epoch(NOW))
}

/// A certificate that is sound but for the value of its libp2p extension.
fn with_extension(value: &[u8]) -> Vec<u8> {
    let key = Key::p256();
    let mut forge = Forge::new(&key, &Keypair::generate_ed25519());
    forge.extensions = vec![extension(LIBP2P_OID, false, value)];
    forge.build()
}

#[test]
fn no_byte_can_be_changed() {
    let host = Keypair::generate_ed25519();
    let key = Key::p256();
    let der = Forge::new(&key, &host).build();
    judge(&der).unwrap();
    for position in 0..der.len() {
        for flip in [0x01, 0x80, 0xff] {
            let mut changed = der.clone();
            changed[position] ^= flip;
            assert!(judge(&changed).is_err(), "byte {position} ^ {flip:#x}");
        }
        assert!(judge(&der[..position]).is_err(), "cut off at {position}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_bytes_make_it_panic(der in proptest::collection::vec(any::<u8>(), 0..600)) {
        prop_assert!(judge(&der).is_err());
    }

    /// Deeper than random bytes get: whatever sits in the extension of a sound certificate.
    #[test]
    fn no_extension_makes_it_panic(value in proptest::collection::vec(any::<u8>(), 0..200)) {
        prop_assert!(judge(&with_extension(&value)).is_err());
    }

    #[test]
    fn no_host_key_makes_it_panic(
        kind in 0_u8..5,
        data in proptest::collection::vec(any::<u8>(), 0..120),
        signature in proptest::collection::vec(any::<u8>(), 0..80),
    ) {
        let protobuf = [&[0x08, kind, 0x12, data.len() as u8], &data[..]].concat();
        let value = sequence(&[&octets(&protobuf), &octets(&signature)]);
        prop_assert!(judge(&with_extension(&value)).is_err());
    }

    /// Deeper: behind the header of an ECDSA key on P-384 or P-521. A library in C reads points.
    #[test]
    fn no_point_makes_it_panic(
        is_521 in any::<bool>(),
        first in 0_u8..8,
        rest in proptest::collection::vec(any::<u8>(), 0..140),
    ) {
        let curve = &[0x2b, 0x81, 0x04, 0x00, if is_521 { 0x23 } else { 0x22 }][..];
        let oids = [&[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01][..], curve].map(|oid| tlv(0x06, oid));
        let info = sequence(&[&tlv(0x30, &oids.concat()), &bits(&[&[first], &rest[..]].concat())]);
        let value = sequence(&[&octets(&host_protobuf(3, &info)), &octets(&[0; 70])]);
        prop_assert!(judge(&with_extension(&value)).is_err());
    }

    /// Several bytes of a sound certificate overwritten, moved or lost.
    #[test]
    fn no_damage_makes_it_panic(
        edits in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>(), 0..3), 1..6),
    ) {
        let host = Keypair::generate_ed25519();
        let key = Key::p256();
        let sound = Forge::new(&key, &host).build();
        let mut der = sound.clone();
        for (index, byte, kind) in edits {
            let index = index.index(der.len());
            match kind {
                0 => der[index] = byte,
                1 => der.insert(index, byte),
                _ => { der.remove(index); }
            }
        }
        prop_assert_eq!(judge(&der).is_ok(), der == sound);
    }
}
