//! Certificates that are wrong in exactly one way each, and the right ones beside them.
//!
//! What the handshake makes of a refusal is tested in `tls::handshake_tests`; the
//! specification's own certificates are in `tls_vectors`, certificates damaged at random in
//! `certificate_damage`.
#![allow(clippy::unwrap_used)]

mod forge;

use std::time::Duration;

use forge::{
    Forge, Key, LIBP2P_OID, UNKNOWN_OID, extension, octets, sequence, signed_key, time, tlv,
};
use libp2p_identity::{Keypair, PeerId};
use libp2p_quic_engine::tls::certificate::{self, CertificateError, UnixTime};

/// 2024-07-03T09:46:40Z.
const NOW: u64 = 1_720_000_000;

fn judge_at(seconds: u64, der: &[u8]) -> Result<PeerId, CertificateError> {
    let now = UnixTime::since_unix_epoch(Duration::from_secs(seconds));
    Ok(certificate::parse(der)?.verify(now)?.to_peer_id())
}

fn judge(der: &[u8]) -> Result<PeerId, CertificateError> {
    judge_at(NOW, der)
}

type Change = fn(&mut Forge<'_>, &Keypair);

/// Forge a certificate with one thing changed, and judge it.
fn forged(change: impl FnOnce(&mut Forge<'_>, &Keypair)) -> Result<PeerId, CertificateError> {
    let host = Keypair::generate_ed25519();
    let key = Key::p256();
    let mut forge = Forge::new(&key, &host);
    change(&mut forge, &host);
    judge(&forge.build())
}

fn replace_value(forge: &mut Forge<'_>, value: &[u8]) {
    forge.extensions = vec![extension(LIBP2P_OID, false, value)];
}

#[test]
fn every_kind_of_certificate_key_is_taken() {
    let host = Keypair::generate_ed25519();
    for key in [
        Key::p256(),
        Key::p384(),
        Key::p521(),
        Key::ed25519(),
        Key::rsa(),
        Key::rsa_pss(),
    ] {
        assert_eq!(
            judge(&Forge::new(&key, &host).build()),
            Ok(host.public().to_peer_id())
        );
    }
}

#[test]
fn every_kind_of_host_key_is_taken() {
    let rsa = forge::rsa_host_protobuf(aws_lc_rs::rsa::KeySize::Rsa2048);
    for host in [
        Keypair::generate_ed25519(),
        Keypair::generate_secp256k1(),
        Keypair::generate_ecdsa(),
        Keypair::from_protobuf_encoding(&rsa).unwrap(),
    ] {
        let key = Key::p256();
        assert_eq!(
            judge(&Forge::new(&key, &host).build()),
            Ok(host.public().to_peer_id())
        );
    }
}

/// Both `s` and the order less `s` fit an ECDSA signature. libp2p's peer-ids specification takes
/// either, go-libp2p and js-libp2p too, and OpenSSL makes the one as often as the other.
#[test]
fn a_secp256k1_signature_is_taken_with_either_s() {
    let host = Keypair::generate_secp256k1();
    let key = Key::p256();
    let message = [&b"libp2p-tls-handshake:"[..], &key.info].concat();
    let low = host.sign(&message).unwrap();
    let high = with_the_other_s(&low);
    assert_ne!(low, high);
    for signature in [&low, &high] {
        let mut forge = Forge::new(&key, &host);
        let value = sequence(&[
            &octets(&host.public().encode_protobuf()),
            &octets(signature),
        ]);
        replace_value(&mut forge, &value);
        assert_eq!(judge(&forge.build()), Ok(host.public().to_peer_id()));
    }

    // A signature that somebody else made is refused, whichever its s.
    let other = Keypair::generate_secp256k1().sign(&message).unwrap();
    for signature in [&other, &with_the_other_s(&other)] {
        let mut forge = Forge::new(&key, &host);
        let value = sequence(&[
            &octets(&host.public().encode_protobuf()),
            &octets(signature),
        ]);
        replace_value(&mut forge, &value);
        assert_eq!(judge(&forge.build()), Err(CertificateError::HostSignature));
    }
}

/// The signature, SEQUENCE { INTEGER r, INTEGER s }, with the order of secp256k1 less s.
fn with_the_other_s(signature: &[u8]) -> Vec<u8> {
    let order: [u8; 32] =
        hex::decode("fffffffffffffffffffffffffffffffebaaedce6af48a03bbfd25e8cd0364141")
            .unwrap()
            .try_into()
            .unwrap();
    let s_at = 4 + usize::from(signature[3]);
    let s = &signature[s_at + 2..];
    let mut padded = [0; 33];
    padded[33 - s.len()..].copy_from_slice(s);
    let mut other = vec![0];
    other.extend(order);
    let mut borrow = 0;
    for (place, byte) in other.iter_mut().enumerate().skip(1).rev() {
        let difference = i16::from(*byte) - i16::from(padded[place]) - borrow;
        borrow = i16::from(difference < 0);
        *byte = difference.rem_euclid(256) as u8;
    }
    // DER has no zero at the front that the sign does not need.
    while other[0] == 0 && other[1] < 0x80 {
        other.remove(0);
    }
    sequence(&[&signature[2..s_at], &tlv(0x02, &other)])
}

#[test]
fn harmless_variations_are_taken() {
    let variations: [Change; 5] = [
        // libp2p tls spec, "Peer Authentication": the extension MAY be critical.
        |forge, host| {
            forge.extensions = vec![extension(LIBP2P_OID, true, &signed_key(host, &forge.info))];
        },
        // The same: unknown extensions that are not critical MUST be ignored.
        |forge, _| forge.extensions.push(extension(UNKNOWN_OID, false, b"?")),
        |forge, _| {
            forge
                .extensions
                .insert(0, extension(UNKNOWN_OID, false, b"?"));
        },
        // A default written out is not DER, but it means what it says.
        |forge, _| {
            forge.extensions.push(sequence(&[
                &tlv(0x06, UNKNOWN_OID),
                &[0x01, 0x01, 0x00],
                &octets(b"?"),
            ]));
        },
        |forge, _| {
            forge.not_before = time("19500101000000Z");
            forge.not_after = time("99991231235959Z");
        },
    ];
    for change in variations {
        forged(change).unwrap();
    }
}

#[test]
fn the_extension_must_be_there_once_and_whole() {
    use CertificateError::*;

    assert_eq!(
        forged(|forge, _| forge.extensions.clear()),
        Err(ExtensionMissing)
    );
    assert_eq!(
        forged(|forge, _| forge.extensions = vec![extension(UNKNOWN_OID, false, b"?")]),
        Err(ExtensionMissing)
    );
    assert_eq!(
        forged(|forge, _| forge.extensions.push(forge.extensions[0].clone())),
        Err(ExtensionRepeated)
    );
    assert_eq!(
        forged(|forge, _| replace_value(forge, b"garbage")),
        Err(ExtensionMalformed)
    );
    assert_eq!(
        forged(|forge, _| replace_value(forge, b"")),
        Err(ExtensionMalformed)
    );
    assert_eq!(
        forged(|forge, host| {
            let value = [signed_key(host, &forge.info), vec![0]].concat();
            replace_value(forge, &value);
        }),
        Err(ExtensionMalformed),
        "bytes after the signed key"
    );
    assert_eq!(
        forged(|forge, host| {
            let key = octets(&host.public().encode_protobuf());
            replace_value(forge, &sequence(&[&key, &octets(b"s"), &octets(b"more")]));
        }),
        Err(ExtensionMalformed),
        "a third value in the signed key"
    );
    assert_eq!(
        forged(|forge, host| {
            let key = tlv(0x03, &host.public().encode_protobuf());
            replace_value(forge, &sequence(&[&key, &octets(b"s")]));
        }),
        Err(ExtensionMalformed),
        "a BIT STRING, as an early draft of the specification had it"
    );
    assert_eq!(
        forged(|forge, _| forge.extensions.push(extension(UNKNOWN_OID, true, b"?"))),
        Err(UnknownCriticalExtension)
    );
}

#[test]
fn the_host_key_must_have_signed_this_very_key() {
    use CertificateError::*;

    assert_eq!(
        forged(|forge, host| {
            let other = signed_key(host, &Key::p256().info);
            replace_value(forge, &other);
        }),
        Err(HostSignature),
        "a signature over another key"
    );
    assert_eq!(
        forged(|forge, host| {
            let message = [b"libp2p-tls-handshake:", &forge.info[..]].concat();
            let signature = Keypair::generate_ed25519().sign(&message).unwrap();
            let key = octets(&host.public().encode_protobuf());
            replace_value(forge, &sequence(&[&key, &octets(&signature)]));
        }),
        Err(HostSignature),
        "a signature by another key"
    );
    assert_eq!(
        forged(|forge, host| {
            let signature = host.sign(&forge.info).unwrap();
            let key = octets(&host.public().encode_protobuf());
            replace_value(forge, &sequence(&[&key, &octets(&signature)]));
        }),
        Err(HostSignature),
        "a signature without the prefix"
    );
}

#[test]
fn the_host_key_must_be_usable() {
    let with_host_key = |protobuf: &[u8]| {
        forged(|forge, _| {
            let value = sequence(&[&octets(protobuf), &octets(&[0; 64])]);
            replace_value(forge, &value);
        })
    };
    // Type 4 does not exist; type 1 is Ed25519, whose keys have 32 bytes.
    for protobuf in [
        &[0x08, 0x04, 0x12, 0x01, 0x00][..],
        &[0x08, 0x01, 0x12, 0x01, 0x00],
        b"",
        b"\xff",
    ] {
        let error = with_host_key(protobuf).unwrap_err();
        assert!(matches!(error, CertificateError::HostKey(_)), "{error:?}");
    }
}

#[test]
fn the_certificate_must_be_signed_by_its_own_key() {
    use CertificateError::*;

    assert_eq!(
        forged(|forge, _| forge.break_signature = true),
        Err(SelfSignature)
    );
    assert_eq!(
        forged(|forge, host| {
            // Signed by a key that is not the one inside.
            forge.info = Key::p256().info;
            let value = signed_key(host, &forge.info);
            replace_value(forge, &value);
        }),
        Err(SelfSignature)
    );
    assert_eq!(
        forged(|forge, _| forge.inner_algorithm = Key::p384().algorithm),
        Err(SignatureAlgorithmMismatch)
    );
    assert_eq!(
        forged(|forge, _| forge.outer_algorithm = Key::ed25519().algorithm),
        Err(SignatureAlgorithmMismatch)
    );
    let host = Keypair::generate_ed25519();
    assert_eq!(
        judge(&Forge::new(&Key::secp256k1(), &host).build()),
        Err(UnsupportedSignatureAlgorithm)
    );
    assert_eq!(
        forged(|forge, _| {
            // ecdsa-with-SHA1, whose hash is too short.
            let sha1 = sequence(&[&tlv(0x06, &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x01])]);
            forge.inner_algorithm.clone_from(&sha1);
            forge.outer_algorithm = sha1;
        }),
        Err(UnsupportedSignatureAlgorithm)
    );
}

#[test]
fn validity_is_judged_to_the_second() {
    let host = Keypair::generate_ed25519();
    let key = Key::p256();
    let mut forge = Forge::new(&key, &host);
    forge.not_before = time("240703094640Z");
    forge.not_after = time("20240703094641Z");
    let der = forge.build();

    let (not_before, not_after) = (NOW as i64, NOW as i64 + 1);
    assert_eq!(
        judge_at(NOW - 1, &der),
        Err(CertificateError::NotYetValid {
            not_before,
            now: not_before - 1
        })
    );
    assert_eq!(judge_at(NOW, &der), Ok(host.public().to_peer_id()));
    assert_eq!(judge_at(NOW + 1, &der), Ok(host.public().to_peer_id()));
    assert_eq!(
        judge_at(NOW + 2, &der),
        Err(CertificateError::Expired {
            not_after,
            now: not_after + 1
        })
    );
    assert!(judge_at(u64::MAX, &der).is_err());
    // Whose it is can still be read after it has expired.
    assert_eq!(
        certificate::parse(&der)
            .unwrap()
            .host_key()
            .map(|key| key.to_peer_id()),
        Ok(host.public().to_peer_id())
    );
}

#[test]
fn the_form_must_be_that_of_a_version_3_certificate() {
    use CertificateError::*;

    assert_eq!(
        forged(|forge, _| forge.unique_identifiers = tlv(0x81, &[0, 1])),
        Err(UniqueIdentifier)
    );
    assert_eq!(
        forged(|forge, _| forge.unique_identifiers = tlv(0x82, &[0, 1])),
        Err(UniqueIdentifier)
    );
    let malformed: [(&str, Change); 8] = [
        ("the end", |forge, _| forge.trailing = vec![0]),
        ("the version", |forge, _| forge.version.clear()),
        ("the version", |forge, _| {
            forge.version = tlv(0xa0, &[0x02, 0x01, 0x01]);
        }),
        ("the validity period", |forge, _| {
            forge.not_after = time("20241301000000Z");
        }),
        ("the validity period", |forge, _| {
            forge.not_before = octets(b"200101000000Z");
        }),
        ("the public key", |forge, _| forge.info = sequence(&[])),
        ("the end of the signed part", |forge, _| {
            forge.after_extensions = octets(b"more");
        }),
        ("the extensions", |forge, _| {
            forge.extensions = vec![octets(b"?")];
        }),
    ];
    for (place, change) in malformed {
        assert_eq!(forged(change), Err(Malformed(place)));
    }
    assert_eq!(judge(&[]), Err(Malformed("the outermost value")));
}
