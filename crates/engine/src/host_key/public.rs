//! A public host key: the peer id it gives, and verifying its signatures.
//!
//! The input comes from peers that are not authenticated, so nothing may panic.

use aws_lc_rs::signature::{ECDSA_P256K1_SHA256_ASN1, UnparsedPublicKey};
use libp2p_identity::{KeyType as IdentityType, PeerId};
use ring::digest::{SHA256, digest};

use super::curve::{self, CurveError};
use super::protobuf::{self, KeyType, ProtobufError};
use super::{BoxError, Curve, RSA_BITS};
use crate::der::{INTEGER, Reader};

/// SHA-256 of 32 bytes, as a multihash begins. <https://multiformats.io/multihash/>
const SHA256_MULTIHASH: [u8; 2] = [0x12, 0x20];

/// How an uncompressed point begins. SEC 1 section 2.3.3.
const UNCOMPRESSED: u8 = 4;

/// The public half of a libp2p host key: Ed25519, secp256k1, ECDSA on P-256, P-384 or P-521,
/// or RSA of 2048 to 8192 bits.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct PublicKey(Inner);

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Inner {
    /// The keys of libp2p-identity: every type, with ECDSA on P-256 only.
    Identity(libp2p_identity::PublicKey),
    /// ECDSA on another curve: its uncompressed point.
    Ecdsa(Curve, Vec<u8>),
}

/// Why bytes are not an accepted public host key.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PublicKeyError {
    #[error(transparent)]
    Protobuf(#[from] ProtobufError),
    #[error("ECDSA: {0}")]
    Curve(#[from] CurveError),
    /// go-libp2p refuses compressed points too.
    #[error("ECDSA: not an uncompressed point of its curve")]
    Point,
    #[error("RSA of {bits} bits")]
    RsaSize { bits: usize },
    #[error("{0}")]
    Identity(BoxError),
}

impl PublicKey {
    /// Read libp2p's `PublicKey` protobuf.
    pub(crate) fn from_protobuf(bytes: &[u8]) -> Result<Self, PublicKeyError> {
        let (kind, data) = protobuf::read(bytes)?;
        if kind == KeyType::Ecdsa {
            let (curve, point) = curve::of_public(data)?;
            if curve != Curve::P256 {
                return Self::on(curve, point);
            }
        }
        let key = libp2p_identity::PublicKey::try_decode_protobuf(&protobuf::write(kind, data))
            .map_err(|error| PublicKeyError::Identity(error.into()))?;
        if key.key_type() == IdentityType::RSA {
            let bits = rsa_bits(key.clone()).unwrap_or(0);
            if !RSA_BITS.contains(&bits) {
                return Err(PublicKeyError::RsaSize { bits });
            }
        }
        Ok(Self(Inner::Identity(key)))
    }

    /// An ECDSA key on a curve that libp2p-identity does not support.
    pub(super) fn on(curve: Curve, point: &[u8]) -> Result<Self, PublicKeyError> {
        let is_sound = curve
            .verification()
            .is_some_and(|algorithm| UnparsedPublicKey::new(algorithm, point).parse().is_ok());
        if !is_sound || point.first() != Some(&UNCOMPRESSED) {
            return Err(PublicKeyError::Point);
        }
        Ok(Self(Inner::Ecdsa(curve, point.to_vec())))
    }

    /// The public half of a libp2p-identity key.
    pub(super) fn of(keypair: &libp2p_identity::Keypair) -> Self {
        Self(Inner::Identity(keypair.public()))
    }

    /// libp2p's `PublicKey` protobuf.
    pub fn encode_protobuf(&self) -> Vec<u8> {
        match &self.0 {
            Inner::Identity(key) => key.encode_protobuf(),
            Inner::Ecdsa(curve, point) => {
                protobuf::write(KeyType::Ecdsa, &curve::public_info(*curve, point))
            }
        }
    }

    /// The peer id, which is a hash of the protobuf.
    pub fn to_peer_id(&self) -> PeerId {
        match &self.0 {
            Inner::Identity(key) => key.to_peer_id(),
            Inner::Ecdsa(..) => {
                // libp2p peer-ids spec, "Peer Ids": more than 42 bytes are hashed.
                let hash = digest(&SHA256, &self.encode_protobuf());
                PeerId::from_bytes(&[&SHA256_MULTIHASH, hash.as_ref()].concat())
                    .unwrap_or_else(|_| unreachable!("a SHA-256 multihash is a peer id"))
            }
        }
    }

    /// Whether the private half made this signature.
    ///
    /// libp2p-identity accepts only the lower one of the two `s` of a secp256k1 signature. libp2p's
    /// peer-ids specification allows both, and libraries such as OpenSSL produce either, so that
    /// every other handshake of such peers would fail.
    pub(crate) fn verify(&self, message: &[u8], signature: &[u8]) -> bool {
        match &self.0 {
            Inner::Identity(key) => match key.clone().try_into_secp256k1() {
                Ok(key) => {
                    UnparsedPublicKey::new(&ECDSA_P256K1_SHA256_ASN1, key.to_bytes_uncompressed())
                        .verify(message, signature)
                        .is_ok()
                }
                Err(_) => key.verify(message, signature),
            },
            Inner::Ecdsa(curve, point) => curve.verification().is_some_and(|algorithm| {
                UnparsedPublicKey::new(algorithm, point)
                    .verify(message, signature)
                    .is_ok()
            }),
        }
    }
}

/// The size of an RSA key's modulus.
fn rsa_bits(key: libp2p_identity::PublicKey) -> Option<usize> {
    let key = key.try_into_rsa().ok()?.encode_pkcs1();
    let mut fields = Reader::new(&key).sequence().ok()?;
    let modulus = fields.value(INTEGER).ok()?.contents;
    let zeros = modulus.iter().take_while(|&&byte| byte == 0).count();
    let first = modulus.get(zeros)?;
    Some((modulus.len() - zeros) * 8 - first.leading_zeros() as usize)
}
