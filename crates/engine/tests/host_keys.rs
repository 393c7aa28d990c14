//! Host keys of every type, size and encoding: those that are taken, as a peer's and as our own,
//! and the reason for each that is not.
//!
//! The keys and certificates at the end were made by go-libp2p 0.51.0, in its `core/crypto` and
//! `p2p/security/tls`.
#![allow(clippy::unwrap_used)]

mod forge;

use std::error::Error;
use std::time::Duration;

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{
    ECDSA_P384_SHA384_ASN1_SIGNING, ECDSA_P521_SHA256_ASN1_SIGNING, ECDSA_P521_SHA512_ASN1_SIGNING,
    EcdsaKeyPair, EcdsaSigningAlgorithm, KeyPair,
};
use forge::{Forge, Key, LIBP2P_OID, bits, extension, host_protobuf, octets, sequence, tlv};
use libp2p_identity::Keypair;
use libp2p_quic_engine::tls::certificate::{self, CertificateError, UnixTime};
use libp2p_quic_engine::{Identity, PeerId, PublicKey};

/// 2027-01-15T08:00:00Z.
const NOW: Duration = Duration::from_secs(1_800_000_000);

const EC_PUBLIC_KEY: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01];
const SECP384R1: &[u8] = &[0x2b, 0x81, 0x04, 0x00, 0x22];
const SECP521R1: &[u8] = &[0x2b, 0x81, 0x04, 0x00, 0x23];
const RSA: u8 = 0;
const ED25519: u8 = 1;
const SECP256K1: u8 = 2;
const ECDSA: u8 = 3;

/// What one implementation made of one host key.
struct Made {
    peer_id: &'static str,
    private: &'static str,
    certificate: &'static str,
}

fn judge(der: &[u8]) -> Result<PublicKey, CertificateError> {
    certificate::parse(der)?.verify(UnixTime::since_unix_epoch(NOW))
}

/// Judge a certificate with this host key, which has signed with `sign`.
fn judge_host(
    host: &[u8],
    sign: impl FnOnce(&[u8]) -> Vec<u8>,
) -> Result<PublicKey, CertificateError> {
    let key = Key::p256();
    let mut forge = Forge::new(&key, &Keypair::generate_ed25519());
    let message = [&b"libp2p-tls-handshake:"[..], &key.info].concat();
    let value = sequence(&[&octets(host), &octets(&sign(&message))]);
    forge.extensions = vec![extension(LIBP2P_OID, false, &value)];
    judge(&forge.build())
}

/// Why a peer's host key is refused before its signature is looked at.
fn refused(host: &[u8]) -> String {
    match judge_host(host, |_| vec![0; 64]) {
        Err(CertificateError::HostKey(reason)) => reason,
        other => panic!("{other:?} of {host:02x?}"),
    }
}

/// Why a private key is refused.
fn refused_private(bytes: &[u8]) -> String {
    let error = Identity::from_protobuf(bytes).expect_err("it was taken");
    let reason = error.source().expect("a reason").to_string();
    assert_eq!(
        error.to_string(),
        format!("cannot read the private key: {reason}")
    );
    reason
}

fn info(curve: &[u8], point: &[u8]) -> Vec<u8> {
    let algorithm = sequence(&[&tlv(0x06, EC_PUBLIC_KEY), &tlv(0x06, curve)]);
    sequence(&[&algorithm, &bits(point)])
}

fn point(algorithm: &'static EcdsaSigningAlgorithm) -> Vec<u8> {
    let key = EcdsaKeyPair::generate(algorithm).unwrap();
    key.public_key().as_ref().to_vec()
}

#[test]
fn peers_with_an_ecdsa_key_of_go_libp2p_are_taken_on_each_curve() {
    for made in [P256, P384, P521] {
        let key = judge(&hex::decode(made.certificate).unwrap()).unwrap();
        assert_eq!(key.to_peer_id().to_string(), made.peer_id);
    }
}

#[test]
fn we_have_the_peer_id_that_go_libp2p_has_with_the_same_ecdsa_key() {
    for made in [P256, P384, P521] {
        let identity = Identity::from_protobuf(&hex::decode(made.private).unwrap()).unwrap();
        assert_eq!(identity.peer_id().to_string(), made.peer_id);
        let peers = judge(&hex::decode(made.certificate).unwrap()).unwrap();
        assert_eq!(identity.public_key(), &peers);
        assert_eq!(
            identity.public_key().encode_protobuf(),
            peers.encode_protobuf()
        );
    }
}

/// The peer id is the hash of the one encoding of a key, whatever the order in which it came.
#[test]
fn a_public_key_has_one_peer_id() {
    let host = EcdsaKeyPair::generate(&ECDSA_P521_SHA256_ASN1_SIGNING).unwrap();
    let info = info(SECP521R1, host.public_key().as_ref());
    let usual = host_protobuf(ECDSA, &info);
    let (kind, data) = usual.split_at(2);
    let turned = [data, kind].concat();
    let sign = |message: &[u8]| {
        let signature = host.sign(&SystemRandom::new(), message).unwrap();
        signature.as_ref().to_vec()
    };
    let hash = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &usual);
    let expected = PeerId::from_bytes(&[&[0x12, 0x20], hash.as_ref()].concat()).unwrap();
    for each in [&usual, &turned] {
        let key = judge_host(each, sign).unwrap();
        assert_eq!(key.encode_protobuf(), usual);
        assert_eq!(key.to_peer_id(), expected);
    }
}

/// go-libp2p writes a secp256k1 point compressed, whichever form it has read.
#[test]
fn a_secp256k1_key_has_one_peer_id_in_both_forms_of_its_point() {
    let host = Keypair::generate_secp256k1();
    let public = host.public().try_into_secp256k1().unwrap();
    for point in [&public.to_bytes()[..], &public.to_bytes_uncompressed()[..]] {
        let key = host_protobuf(SECP256K1, point);
        let key = judge_host(&key, |message| host.sign(message).unwrap()).unwrap();
        assert_eq!(key.to_peer_id(), host.public().to_peer_id());
    }
}

#[test]
fn an_ecdsa_signature_must_be_over_sha_256_and_by_that_key() {
    for (curve, of_the_curve) in [
        (SECP384R1, &ECDSA_P384_SHA384_ASN1_SIGNING),
        (SECP521R1, &ECDSA_P521_SHA512_ASN1_SIGNING),
    ] {
        let host = EcdsaKeyPair::generate(of_the_curve).unwrap();
        let key = host_protobuf(ECDSA, &info(curve, host.public_key().as_ref()));
        let signed = judge_host(&key, |message| {
            let signature = host.sign(&SystemRandom::new(), message).unwrap();
            signature.as_ref().to_vec()
        });
        assert_eq!(signed, Err(CertificateError::HostSignature));
    }

    let other = EcdsaKeyPair::generate(&ECDSA_P521_SHA256_ASN1_SIGNING).unwrap();
    let key = host_protobuf(
        ECDSA,
        &info(SECP521R1, &point(&ECDSA_P521_SHA256_ASN1_SIGNING)),
    );
    let signed = judge_host(&key, |message| {
        let signature = other.sign(&SystemRandom::new(), message).unwrap();
        signature.as_ref().to_vec()
    });
    assert_eq!(signed, Err(CertificateError::HostSignature));
}

#[test]
fn other_forms_of_ecdsa_keys_are_refused_with_the_reason() {
    let on_384 = point(&ECDSA_P384_SHA384_ASN1_SIGNING);
    let on_521 = point(&ECDSA_P521_SHA256_ASN1_SIGNING);
    let compressed = |point: &[u8]| {
        let (x, y) = point[1..].split_at(point.len() / 2);
        [&[2 + (y[y.len() - 1] & 1)][..], x].concat()
    };
    let beside_its_curve = |point: &[u8]| {
        let mut point = point.to_vec();
        *point.last_mut().unwrap() ^= 1;
        point
    };
    let no_point = "ECDSA: not an uncompressed point of its curve";
    for data in [
        info(SECP384R1, &compressed(&on_384)),
        info(SECP521R1, &compressed(&on_521)),
        info(SECP384R1, &beside_its_curve(&on_384)),
        info(SECP521R1, &beside_its_curve(&on_521)),
        info(SECP384R1, &on_521),
        info(SECP521R1, &on_384),
        info(SECP384R1, &[0]),
        info(SECP521R1, &[]),
    ] {
        assert_eq!(refused(&host_protobuf(ECDSA, &data)), no_point);
    }

    // js-libp2p's own form (packages/crypto, publicKeyToPKIMessage), which is nobody else's.
    let of_js = sequence(&[
        &tlv(0x02, &[1]),
        &tlv(0xa0, &tlv(0x06, SECP384R1)),
        &tlv(0xa1, &bits(&on_384)),
    ]);
    // Explicit parameters. RFC 5480 section 2.1.1: they MUST NOT be used.
    let explicit = sequence(&[&tlv(0x06, EC_PUBLIC_KEY), &sequence(&[&tlv(0x02, &[1])])]);
    let explicit = sequence(&[&explicit, &bits(&on_384)]);
    let with_a_tail = [info(SECP384R1, &on_384), vec![0]].concat();
    for data in [of_js, explicit, with_a_tail, on_384.clone(), vec![]] {
        assert_eq!(
            refused(&host_protobuf(ECDSA, &data)),
            "ECDSA: not a SubjectPublicKeyInfo (RFC 5480) with a named curve"
        );
    }

    let error = judge(&hex::decode(P224_CERTIFICATE).unwrap()).unwrap_err();
    let reason = "ECDSA: curve 1.3.132.0.33 is none of P-256, P-384 and P-521";
    assert_eq!(error, CertificateError::HostKey(reason.into()));
    // py-libp2p's own type, a bare point on P-256, which it can neither sign nor verify with.
    let reason = "key type 4 is none of RSA (0), Ed25519 (1), secp256k1 (2) and ECDSA (3)";
    assert_eq!(refused(&host_protobuf(4, &[4; 65])), reason);
}

#[test]
fn an_rsa_key_of_a_peer_has_2048_to_8192_bits() {
    let of_bits = |bits: usize| {
        let algorithm = sequence(&[
            &tlv(
                0x06,
                &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01],
            ),
            &tlv(0x05, &[]),
        ]);
        let modulus = tlv(0x02, &[&[0x00], &vec![0xc5; bits / 8][..]].concat());
        let key = sequence(&[&modulus, &tlv(0x02, &[1, 0, 1])]);
        let host = host_protobuf(RSA, &sequence(&[&algorithm, &forge::bits(&key)]));
        judge_host(&host, |_| vec![0; bits / 8])
    };
    for bits in [2048, 3072, 4096, 8192] {
        // Nobody has the private half of these.
        assert_eq!(
            of_bits(bits),
            Err(CertificateError::HostSignature),
            "{bits}"
        );
    }
    for bits in [1024, 2040, 8200, 16_384] {
        let expected = Err(CertificateError::HostKeySize { bits });
        assert_eq!(of_bits(bits), expected);
    }
}

/// libp2p peer-ids spec, "Ed25519": the public key twice is an old form, still to be read.
#[test]
fn an_ed25519_key_of_ours_is_the_same_in_both_forms() {
    let pair = Keypair::ed25519_from_bytes([7; 32]).unwrap();
    let public = pair.clone().try_into_ed25519().unwrap().public().to_bytes();
    for data in [
        [[7; 32], public].concat(),
        [[7; 32], public, public].concat(),
    ] {
        let identity = Identity::from_protobuf(&host_protobuf(ED25519, &data)).unwrap();
        assert_eq!(identity.peer_id(), pair.public().to_peer_id());
    }
}

#[test]
fn an_ed25519_key_whose_parts_do_not_belong_together_is_refused_with_the_reason() {
    let public = |seed: u8| {
        let pair = Keypair::ed25519_from_bytes([seed; 32]).unwrap();
        pair.try_into_ed25519().unwrap().public().to_bytes()
    };
    let (ours, others) = (public(7), public(8));
    let not_its = "the public key in an Ed25519 key does not belong to its seed";
    let differ = "the two public keys in the 96 bytes of an Ed25519 key differ";
    for (data, reason) in [
        ([[7; 32], others].concat(), not_its),
        ([[7; 32], others, others].concat(), not_its),
        ([[7; 32], ours, others].concat(), differ),
        ([[7; 32], others, ours].concat(), differ),
    ] {
        assert_eq!(refused_private(&host_protobuf(ED25519, &data)), reason);
    }
    for length in [0, 31, 33, 63, 65, 95, 97, 128] {
        let reason = refused_private(&host_protobuf(ED25519, &vec![7; length]));
        let expected = "an Ed25519 key is 64 bytes (seed and public key) or 96 (public key twice)";
        assert_eq!(reason, format!("{expected}, not {length}"));
    }
}

#[test]
fn other_forms_of_our_own_ecdsa_key_are_refused_with_the_reason() {
    let error = refused_private(&hex::decode(P224_PRIVATE).unwrap());
    assert_eq!(
        error,
        "ECDSA: curve 1.3.132.0.33 is none of P-256, P-384 and P-521"
    );
    let form = "ECDSA: not an ECPrivateKey (RFC 5915) with a named curve";
    let pkcs8 = EcdsaKeyPair::generate(&ECDSA_P384_SHA384_ASN1_SIGNING).unwrap();
    let pkcs8 = pkcs8.to_pkcs8v1().unwrap();
    for data in [pkcs8.as_ref(), &[1; 32], b""] {
        assert_eq!(refused_private(&host_protobuf(ECDSA, data)), form);
    }
    for (made, name) in [(P384, "P-384"), (P521, "P-521")] {
        let mut bytes = hex::decode(made.private).unwrap();
        // The last byte of the public key that comes along.
        *bytes.last_mut().unwrap() ^= 1;
        let reason = refused_private(&bytes);
        assert!(
            reason.starts_with(&format!("ECDSA on {name}: ")),
            "{reason}"
        );
    }
}

/// The name of the curve and the public key may be left out. RFC 5915 section 3.
#[test]
fn our_own_ecdsa_key_may_be_the_scalar_alone() {
    for (made, size) in [(P256, 32), (P384, 48), (P521, 66)] {
        let bytes = hex::decode(made.private).unwrap();
        // Two or three bytes of type and length, the headers of protobuf and SEQUENCE; then
        // INTEGER 1 and the header of the scalar.
        let at = bytes.windows(3).position(|each| each == [2, 1, 1]).unwrap() + 5;
        let scalar = &bytes[at..at + size];
        let alone = sequence(&[&tlv(0x02, &[1]), &octets(scalar)]);
        let identity = Identity::from_protobuf(&host_protobuf(ECDSA, &alone)).unwrap();
        assert_eq!(identity.peer_id().to_string(), made.peer_id);
    }
}

#[test]
fn an_rsa_key_of_ours_has_2048_bits_or_more() {
    for size in [KeySize::Rsa2048, KeySize::Rsa3072] {
        let bytes = forge::rsa_host_protobuf(size);
        let known = Keypair::from_protobuf_encoding(&bytes).unwrap();
        let identity = Identity::from_protobuf(&bytes).unwrap();
        assert_eq!(identity.peer_id(), known.public().to_peer_id());
    }
    let reason = refused_private(&host_protobuf(RSA, &[1; 32]));
    assert!(
        reason.starts_with("RSA of 2048 to 8192 bits (PKCS#1): "),
        "{reason}"
    );
}

#[test]
fn a_secp256k1_key_is_its_32_bytes() {
    for data in [[0; 32], [0xff; 32]] {
        let reason = refused_private(&host_protobuf(SECP256K1, &data));
        assert!(reason.starts_with("secp256k1: "), "{reason}");
    }
    for length in [0, 31, 33] {
        let reason = refused_private(&host_protobuf(SECP256K1, &vec![1; length]));
        assert_eq!(reason, format!("a secp256k1 key is 32 bytes, not {length}"));
    }
    Identity::from_protobuf(&host_protobuf(SECP256K1, &[1; 32])).unwrap();
}

const P256: Made = Made {
    peer_id: "QmRVDdUsrMnyfbM7rXyvH5omLNPRQgjfLjm7PpgbA9K6Vm",
    private: P256_PRIVATE,
    certificate: P256_CERTIFICATE,
};

const P256_PRIVATE: &str = "\
    08031279307702010104201f34ad74e5074453ae5f20240b9a9cfbe6bf8dbc5434cfcb12fb07cf3e7c5061a0\
    0a06082a8648ce3d030107a1440342000477948f075e322220b1d7cc7c1ae1513b0ab9a22a66775e4ac9a3ea\
    25f3b43a8ba5d74ba83f2fea24db252620e952d41163c4aca05ede893b57ed5be47bced768";

const P256_CERTIFICATE: &str = "\
    308201f53082019ba00302010202083e8334b1b58405e3300a06082a8648ce3d040302301d311b3019060355\
    040513123831303933393633373535363235353036313020170d3236313132383036323434305a180f323132\
    36313130343037323434305a301d311b30190603550405131238313039333936333735353632353530363130\
    59301306072a8648ce3d020106082a8648ce3d03010703420004c0a418fd49be641223c7a61a60fbb7d7e07f\
    935de34d6ae8e4171b86f1f7e07d916c6cac40d4b7cc955bc25be4199c8e3ce2d6b7db90f5d83f51f439e4b7\
    e907a381c23081bf3081bc060a2b0601040183a25a01010481ad3081aa045f0803125b3059301306072a8648\
    ce3d020106082a8648ce3d0301070342000477948f075e322220b1d7cc7c1ae1513b0ab9a22a66775e4ac9a3\
    ea25f3b43a8ba5d74ba83f2fea24db252620e952d41163c4aca05ede893b57ed5be47bced768044730450220\
    58d6f068f5fd8796a96a6d5e7d971a2d493da94db670ec92628181e6240f9c57022100ba5fe05afb35163c2e\
    622b8cecb1d3a9aa5059fe276f62bcc5d9f6eee83ec2b6300a06082a8648ce3d040302034800304502207af6\
    18e26ff8c4b09c33825c67528a863a473c2ee97c37f306f7e9addf849916022100c4b60aeaa992538408e93a\
    5421308a1fec9ba2e367e926ad0df295e6602b8652";

const P384: Made = Made {
    peer_id: "QmS51uHVigmYzPmYCFghHEhfAbYpeXCWxBmbgfmELN1WHd",
    private: P384_PRIVATE,
    certificate: P384_CERTIFICATE,
};

const P384_PRIVATE: &str = "\
    080312a7013081a40201010430c03f8e56aa1c2cdb932f7d9f4fbbdcddc67aca9eac339f851c931f131cc946\
    961f2445ca50554db474276fd078509152a00706052b81040022a164036200049a144bb998f421152c5aafdf\
    4d27fe315334d507e5257e6ee5a504e190aa24bf565a3fc2ef1c87ae8b37572e53eed6ac21bbde06a1a41a2e\
    17678ccc75e5dca582a2469f9db9cce8f522c14832da54afc2cc3e54cf071d28fe66d8cef6a03874";

const P384_CERTIFICATE: &str = "\
    30820235308201dca00302010202083dce93c5a69b1551300a06082a8648ce3d040302301e311c301a060355\
    04051313323337353731373831383330353539393230313020170d3236313132383036323434305a180f3231\
    3236313130343037323434305a301e311c301a06035504051313323337353731373831383330353539393230\
    313059301306072a8648ce3d020106082a8648ce3d03010703420004a5eb0e6117966bed43d84df05b85a720\
    f629d846b9dd0263798cb1e4bdbc8a19b02bdf1ed69735ba6d96f209c065c199415dcdc7fb25a92cd65d6715\
    0c5fa0cea38201003081fd3081fa060a2b0601040183a25a01010481eb3081e8047c08031278307630100607\
    2a8648ce3d020106052b81040022036200049a144bb998f421152c5aafdf4d27fe315334d507e5257e6ee5a5\
    04e190aa24bf565a3fc2ef1c87ae8b37572e53eed6ac21bbde06a1a41a2e17678ccc75e5dca582a2469f9db9\
    cce8f522c14832da54afc2cc3e54cf071d28fe66d8cef6a0387404683066023100a0260b9351db0da76ff6ae\
    ffbf89e2aa37bafb4aa34afbaa9c981356e5368693e927befddc3d834852aaca8e29a5be6c023100f40cf99e\
    a7fe51fdd802424e1f90e38ce94ea993d355fb5d086ffd0e62b957197b73dee1744420af51f6919258a7c2f4\
    300a06082a8648ce3d040302034700304402203d8d6bf554f7202d59564d4b9f43e6bcabecbdd26665fe2a8d\
    08e1e6b2aaa83b022031010c81afdbd63b3852b61702e487d95dc7e52b576f7ecc5f91303addc1dddf";

const P521: Made = Made {
    peer_id: "QmcDKKSHCWeNNfAeNSuawfnNLg5Jd5PUUHoFLnRxo6MAdg",
    private: P521_PRIVATE,
    certificate: P521_CERTIFICATE,
};

const P521_PRIVATE: &str = "\
    080312df013081dc0201010442007b3264c8dae863f0e5dd74b867df5d0ab2fb798c4e713d9f90c873e23446\
    cfdce4be890ae68587387a4b172c2eaaa62aa4c82941c78f63ce56498f7e04aa592766a00706052b81040023\
    a1818903818600040190a5d247a230de367d9a3758cb8e2b885f5dc088a7fefa7b4216787e33a9b5d9f58892\
    033a876d660bf143e4663926b79af937f1f300febf88eafe89150702fb51005738ad7eb8470c77fcbf7a3bde\
    e3021de3dd59b206ecb2b8c0f9d22ab04061f6946ee217ec2b0ccb3482e65bb0b2c68ca1d8de58d9373cc467\
    5d47d99d1d1d5502";

const P521_CERTIFICATE: &str = "\
    308202853082022ba003020102020813f7ec5da7827bb4300a06082a8648ce3d040302301e311c301a060355\
    04051313323239373235393335373035303539333133333020170d3236313132383036323434305a180f3231\
    3236313130343037323434305a301e311c301a06035504051313323239373235393335373035303539333133\
    333059301306072a8648ce3d020106082a8648ce3d030107034200048536c4edba16954b74be20311df1a45d\
    c43418f1f6586fcbda1c9d383d6866b34595972fbe0922266e719a29a1cbe8eb6bd7e3d196cefb4259395b4e\
    0cfff8d2a382014f3082014b30820147060a2b0601040183a25a010104820137308201330481a30803129e01\
    30819b301006072a8648ce3d020106052b8104002303818600040190a5d247a230de367d9a3758cb8e2b885f\
    5dc088a7fefa7b4216787e33a9b5d9f58892033a876d660bf143e4663926b79af937f1f300febf88eafe8915\
    0702fb51005738ad7eb8470c77fcbf7a3bdee3021de3dd59b206ecb2b8c0f9d22ab04061f6946ee217ec2b0c\
    cb3482e65bb0b2c68ca1d8de58d9373cc4675d47d99d1d1d550204818a30818702415e2d91d32a8894fda33d\
    0cb36bae9758b092fdec8f45a4dab6675385dabd5118834e0e8601a80430c6b4011d6c68d16969ae82d237ea\
    62ba2d1e01159923c57ece024201c039984d3238f552a91588643619f5647d65e37ac35cbb38cc53fc4aea88\
    22599c8252b874b9ef0deaa2f9de5f8ad56f3a6414507dfa06ddcb824d28d6dd41a583300a06082a8648ce3d\
    040302034800304502210081bebb8fbfd89d3e5007e4469d8e03a7f61e2c2bee2ea23e777b91c06536109702\
    204a3b501342be2861dde4bc237567e32fc09e131cc198b92464d43a0fdfa0e8b0";

const P224_PRIVATE: &str = "\
    0803126a3068020101041c4a1f794a5973051fab03493e88fc5e10314bd8974a7bdc923f6cd51aa00706052b\
    81040021a13c033a0004a02af8ddf7381e6bdc56a1d13b169233ab6fcf84bab68c898569c9f0a8fb5ca6856d\
    df8fb293b9028b436e8e6d97ec9b9c26cd894e82e8ab";

const P224_CERTIFICATE: &str = "\
    308201e230820189a003020102020806d840ceb311a5da300a06082a8648ce3d040302301e311c301a060355\
    04051313313433313038393238333637333035383836383020170d3236313132383036323434305a180f3231\
    3236313130343037323434305a301e311c301a06035504051313313433313038393238333637333035383836\
    383059301306072a8648ce3d020106082a8648ce3d030107034200046a22a908cbcec2022145816a6c5b2d84\
    37629933324b2eb34c6d06878541aa1f85b94fdc6850c51834c86827841445486e7e71e80bc2938162fb202e\
    edf1212aa381ae3081ab3081a8060a2b0601040183a25a0101048199308196045408031250304e301006072a\
    8648ce3d020106052b81040021033a0004a02af8ddf7381e6bdc56a1d13b169233ab6fcf84bab68c898569c9\
    f0a8fb5ca6856ddf8fb293b9028b436e8e6d97ec9b9c26cd894e82e8ab043e303c021c2d9240930f9226cb88\
    9719cd0656492c898277939804de9cab648d8d021c7d8c349f64d951eb57434deb590b65bc650b049fb72c67\
    9fc15d9bcb300a06082a8648ce3d04030203470030440220314e706dd1d583081f97a34d43be5b72acbc30c4\
    2c949de59adc2a2821256fed022052a121ee45493bdf236658b1ee4f76a3aac152b2a12d81d8fd6588e50502\
    9a2c";
