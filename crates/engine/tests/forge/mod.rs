//! A forge of certificates: right by default, and wrong in whichever one way a test asks for.
//!
//! It writes DER by hand and signs with keys of every kind, so that it shares no code with
//! what it tests. It judges nothing.
#![allow(dead_code, missing_docs, unreachable_pub, clippy::unwrap_used)]

use aws_lc_rs::encoding::{AsDer, EcPrivateKeyRfc5915Der, Pkcs8V1Der, PublicKeyX509Der};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{self, EcdsaKeyPair, Ed25519KeyPair, KeyPair, RsaKeyPair};
use libp2p_identity::Keypair;

pub const LIBP2P_OID: &[u8] = &[0x2b, 0x06, 0x01, 0x04, 0x01, 0x83, 0xa2, 0x5a, 0x01, 0x01];
/// 1.3.6.1.4.1.53594.99.1, which nobody knows.
pub const UNKNOWN_OID: &[u8] = &[0x2b, 0x06, 0x01, 0x04, 0x01, 0x83, 0xa2, 0x5a, 0x63, 0x01];

pub fn tlv(tag: u8, contents: &[u8]) -> Vec<u8> {
    let mut out = vec![tag];
    match contents.len() {
        length @ 0..=0x7f => out.push(length as u8),
        length @ 0x80..=0xff => out.extend([0x81, length as u8]),
        length => out.extend([0x82, (length >> 8) as u8, length as u8]),
    }
    out.extend(contents);
    out
}

pub fn sequence(parts: &[&[u8]]) -> Vec<u8> {
    tlv(0x30, &parts.concat())
}

pub fn octets(contents: &[u8]) -> Vec<u8> {
    tlv(0x04, contents)
}

pub fn bits(contents: &[u8]) -> Vec<u8> {
    tlv(0x03, &[&[0], contents].concat())
}

pub fn time(text: &str) -> Vec<u8> {
    tlv(if text.len() == 13 { 0x17 } else { 0x18 }, text.as_bytes())
}

pub fn extension(oid: &[u8], critical: bool, value: &[u8]) -> Vec<u8> {
    let critical: &[u8] = if critical { &[0x01, 0x01, 0xff] } else { &[] };
    sequence(&[&tlv(0x06, oid), critical, &octets(value)])
}

/// The value of the libp2p extension: `host` vouches for `key_info`.
pub fn signed_key(host: &Keypair, key_info: &[u8]) -> Vec<u8> {
    let message = [&b"libp2p-tls-handshake:"[..], key_info].concat();
    sequence(&[
        &octets(&host.public().encode_protobuf()),
        &octets(&host.sign(&message).unwrap()),
    ])
}

type Sign = Box<dyn Fn(&[u8]) -> Vec<u8> + Send + Sync>;

/// A certificate's key, of any kind.
pub struct Key {
    /// The `SubjectPublicKeyInfo`.
    pub info: Vec<u8>,
    /// The `AlgorithmIdentifier` of its signatures.
    pub algorithm: Vec<u8>,
    pub pkcs8: Vec<u8>,
    sign: Sign,
}

const SHA256_WITH_ECDSA: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 0x02];
const SHA384_WITH_ECDSA: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 0x03];
const SHA512_WITH_ECDSA: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 0x04];
const ED25519: &[u8] = &[0x2b, 0x65, 0x70];
const SHA256_WITH_RSA: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x0b];
const RSASSA_PSS: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x0a];
const MGF1: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x08];
const SHA256: &[u8] = &[0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x01];

impl Key {
    pub fn sign(&self, message: &[u8]) -> Vec<u8> {
        (self.sign)(message)
    }

    pub fn p256() -> Self {
        Self::ecdsa(
            &signature::ECDSA_P256_SHA256_ASN1_SIGNING,
            SHA256_WITH_ECDSA,
        )
    }

    pub fn p384() -> Self {
        Self::ecdsa(
            &signature::ECDSA_P384_SHA384_ASN1_SIGNING,
            SHA384_WITH_ECDSA,
        )
    }

    pub fn p521() -> Self {
        Self::ecdsa(
            &signature::ECDSA_P521_SHA512_ASN1_SIGNING,
            SHA512_WITH_ECDSA,
        )
    }

    /// A curve that TLS does not have.
    pub fn secp256k1() -> Self {
        Self::ecdsa(
            &signature::ECDSA_P256K1_SHA256_ASN1_SIGNING,
            SHA256_WITH_ECDSA,
        )
    }

    fn ecdsa(algorithm: &'static signature::EcdsaSigningAlgorithm, oid: &[u8]) -> Self {
        let key = EcdsaKeyPair::generate(algorithm).unwrap();
        Self {
            info: AsDer::<PublicKeyX509Der<'_>>::as_der(key.public_key())
                .unwrap()
                .as_ref()
                .to_vec(),
            algorithm: sequence(&[&tlv(0x06, oid)]),
            pkcs8: key.to_pkcs8v1().unwrap().as_ref().to_vec(),
            sign: Box::new(move |message| {
                key.sign(&SystemRandom::new(), message)
                    .unwrap()
                    .as_ref()
                    .to_vec()
            }),
        }
    }

    pub fn ed25519() -> Self {
        let key = Ed25519KeyPair::generate().unwrap();
        let algorithm = sequence(&[&tlv(0x06, ED25519)]);
        Self {
            info: sequence(&[&algorithm, &bits(key.public_key().as_ref())]),
            algorithm,
            pkcs8: key.to_pkcs8v1().unwrap().as_ref().to_vec(),
            sign: Box::new(move |message| key.sign(message).as_ref().to_vec()),
        }
    }

    pub fn rsa() -> Self {
        let algorithm = sequence(&[&tlv(0x06, SHA256_WITH_RSA), &tlv(0x05, &[])]);
        Self::rsa_with(&signature::RSA_PKCS1_SHA256, algorithm)
    }

    pub fn rsa_pss() -> Self {
        let sha256 = sequence(&[&tlv(0x06, SHA256), &tlv(0x05, &[])]);
        let mask = sequence(&[&tlv(0x06, MGF1), &sha256]);
        let parameters = sequence(&[
            &tlv(0xa0, &sha256),
            &tlv(0xa1, &mask),
            &tlv(0xa2, &tlv(0x02, &[32])),
        ]);
        let algorithm = sequence(&[&tlv(0x06, RSASSA_PSS), &parameters]);
        Self::rsa_with(&signature::RSA_PSS_SHA256, algorithm)
    }

    fn rsa_with(encoding: &'static dyn signature::RsaEncoding, algorithm: Vec<u8>) -> Self {
        let key = RsaKeyPair::generate(KeySize::Rsa2048).unwrap();
        Self {
            info: AsDer::<PublicKeyX509Der<'_>>::as_der(key.public_key())
                .unwrap()
                .as_ref()
                .to_vec(),
            algorithm,
            pkcs8: rsa_pkcs8(&key),
            sign: Box::new(move |message| {
                let mut signature = vec![0; key.public_modulus_len()];
                key.sign(encoding, &SystemRandom::new(), message, &mut signature)
                    .unwrap();
                signature
            }),
        }
    }
}

fn rsa_pkcs8(key: &RsaKeyPair) -> Vec<u8> {
    AsDer::<Pkcs8V1Der<'_>>::as_der(key)
        .unwrap()
        .as_ref()
        .to_vec()
}

/// libp2p's `PrivateKey` protobuf of a new RSA host key.
pub fn rsa_host_protobuf(size: KeySize) -> Vec<u8> {
    let pkcs8 = rsa_pkcs8(&RsaKeyPair::generate(size).unwrap());
    // PrivateKeyInfo is SEQUENCE { version, algorithm, OCTET STRING { the PKCS#1 key } }. For
    // these sizes the last header is four bytes long and follows a fixed prefix of 22.
    host_protobuf(0, &pkcs8[26..])
}

/// libp2p's `PrivateKey` protobuf of the largest RSA host key. It is always the same one, made
/// by OpenSSL: a new one takes half a minute.
pub fn large_rsa_host_protobuf() -> Vec<u8> {
    host_protobuf(0, include_bytes!("rsa_8192.der"))
}

/// libp2p's `PrivateKey` protobuf of a new ECDSA host key on the algorithm's curve.
pub fn ecdsa_host_protobuf(algorithm: &'static signature::EcdsaSigningAlgorithm) -> Vec<u8> {
    let key = EcdsaKeyPair::generate(algorithm).unwrap();
    let der = AsDer::<EcPrivateKeyRfc5915Der<'_>>::as_der(&key.private_key()).unwrap();
    host_protobuf(3, der.as_ref())
}

/// libp2p's protobuf of a private or public key: its type and data of less than 16 KiB.
pub fn host_protobuf(kind: u8, data: &[u8]) -> Vec<u8> {
    let length = [(data.len() & 0x7f) as u8 | 0x80, (data.len() >> 7) as u8];
    [&[0x08, kind, 0x12], &length[..], data].concat()
}

/// All the parts of a certificate. Each is right until a test changes it.
pub struct Forge<'a> {
    pub key: &'a Key,
    pub version: Vec<u8>,
    pub inner_algorithm: Vec<u8>,
    pub outer_algorithm: Vec<u8>,
    pub not_before: Vec<u8>,
    pub not_after: Vec<u8>,
    pub info: Vec<u8>,
    pub unique_identifiers: Vec<u8>,
    pub extensions: Vec<Vec<u8>>,
    pub after_extensions: Vec<u8>,
    pub break_signature: bool,
    pub trailing: Vec<u8>,
}

impl<'a> Forge<'a> {
    pub fn new(key: &'a Key, host: &Keypair) -> Self {
        Self {
            key,
            version: tlv(0xa0, &[0x02, 0x01, 0x02]),
            inner_algorithm: key.algorithm.clone(),
            outer_algorithm: key.algorithm.clone(),
            not_before: time("200101000000Z"),
            not_after: time("21200101000000Z"),
            info: key.info.clone(),
            unique_identifiers: vec![],
            extensions: vec![extension(LIBP2P_OID, false, &signed_key(host, &key.info))],
            after_extensions: vec![],
            break_signature: false,
            trailing: vec![],
        }
    }

    pub fn build(&self) -> Vec<u8> {
        let extensions = match self.extensions.as_slice() {
            [] => vec![],
            some => tlv(0xa3, &tlv(0x30, &some.concat())),
        };
        let signed = sequence(&[
            &self.version,
            &tlv(0x02, &[0x49, 0x96, 0x02, 0xd2]),
            &self.inner_algorithm,
            &sequence(&[]),
            &sequence(&[&self.not_before, &self.not_after]),
            &sequence(&[]),
            &self.info,
            &self.unique_identifiers,
            &extensions,
            &self.after_extensions,
        ]);
        let mut signature = self.key.sign(&signed);
        if self.break_signature {
            *signature.last_mut().unwrap() ^= 1;
        }
        let mut certificate = sequence(&[&signed, &self.outer_algorithm, &bits(&signature)]);
        certificate.extend(&self.trailing);
        certificate
    }
}
