//! Our private host key: reading it from libp2p's protobuf, and signing.
//!
//! The bytes of the key do not leave this file: others get signatures and derived secrets.

use aws_lc_rs::encoding::{AsBigEndian, AsDer, EcPrivateKeyBin, PublicKeyX509Der};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{
    ECDSA_P521_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair as _, RSA_PKCS1_SHA256, RsaKeyPair,
};
use libp2p_identity::Keypair;
use p384::ecdsa::signature::hazmat::PrehashSigner;
use ring::digest::{SHA256, digest};
use ring::hmac;

use super::curve::{self, CurveError};
use super::protobuf::{self, KeyType, ProtobufError};
use super::{BoxError, Curve, PublicKey};

const SECP256K1: usize = 32;
const ED25519_SEED: usize = 32;
const ED25519_PAIR: usize = 64;
/// libp2p peer-ids spec, "Ed25519": implementations once wrote the public key twice, and must
/// still read that form.
const ED25519_REPEATED: usize = 96;

/// A private host key and its public half.
pub(crate) struct PrivateKey {
    inner: Inner,
    public: PublicKey,
}

enum Inner {
    Identity(Keypair),
    P384(p384::ecdsa::SigningKey),
    P521(EcdsaKeyPair),
    /// AWS-LC's instead of libp2p-identity's, which signs with no more than 4096 bits.
    Rsa(RsaKeyPair),
}

/// Why bytes are not a usable private host key.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PrivateKeyError {
    #[error(transparent)]
    Protobuf(#[from] ProtobufError),
    #[error("an Ed25519 key is 64 bytes (seed and public key) or 96 (public key twice), not {0}")]
    Ed25519Length(usize),
    #[error(
        "these 32 bytes may be an Ed25519 public key as well as a seed: \
         give the 64 bytes of seed and public key"
    )]
    Ed25519Seed,
    #[error("the two public keys in the 96 bytes of an Ed25519 key differ")]
    Ed25519Copies,
    #[error("the public key in an Ed25519 key does not belong to its seed")]
    Ed25519Public,
    #[error("a secp256k1 key is 32 bytes, not {0}")]
    Secp256k1Length(usize),
    #[error("ECDSA: {0}")]
    Curve(#[from] CurveError),
    #[error("{kind}: {source}")]
    Rejected {
        kind: &'static str,
        source: BoxError,
    },
}

fn rejected<E: Into<BoxError>>(kind: &'static str) -> impl FnOnce(E) -> PrivateKeyError {
    move |error| PrivateKeyError::Rejected {
        kind,
        source: error.into(),
    }
}

impl From<Keypair> for PrivateKey {
    fn from(keypair: Keypair) -> Self {
        Self {
            public: PublicKey::of(&keypair),
            inner: Inner::Identity(keypair),
        }
    }
}

impl PrivateKey {
    /// Read libp2p's `PrivateKey` protobuf.
    pub(crate) fn from_protobuf(bytes: &[u8]) -> Result<Self, PrivateKeyError> {
        let (kind, data) = protobuf::read(bytes)?;
        let identity = |name| {
            Keypair::from_protobuf_encoding(&protobuf::write(kind, data))
                .map(Self::from)
                .map_err(rejected(name))
        };
        match kind {
            KeyType::Ed25519 => ed25519(data),
            // libp2p-identity would take some shorter ones too.
            KeyType::Secp256k1 if data.len() != SECP256K1 => {
                Err(PrivateKeyError::Secp256k1Length(data.len()))
            }
            KeyType::Secp256k1 => identity("secp256k1"),
            KeyType::Rsa => rsa(data),
            KeyType::Ecdsa => match curve::of_private(data)? {
                Curve::P256 => identity("ECDSA on P-256"),
                Curve::P384 => p384(data),
                Curve::P521 => p521(data),
            },
        }
    }

    /// The public half.
    pub(crate) fn public(&self) -> &PublicKey {
        &self.public
    }

    /// Sign as libp2p does: ECDSA and RSA over a SHA-256 hash. libp2p peer-ids spec, "Keys".
    pub(crate) fn sign(&self, message: &[u8]) -> Result<Vec<u8>, BoxError> {
        match &self.inner {
            Inner::Identity(keypair) => Ok(keypair.sign(message)?),
            Inner::P384(key) => {
                let hash = digest(&SHA256, message);
                let signature: p384::ecdsa::DerSignature = key.sign_prehash(hash.as_ref())?;
                Ok(signature.as_bytes().to_vec())
            }
            Inner::P521(key) => Ok(key.sign(&SystemRandom::new(), message)?.as_ref().to_vec()),
            Inner::Rsa(key) => {
                let mut signature = vec![0; key.public_modulus_len()];
                let random = SystemRandom::new();
                key.sign(&RSA_PKCS1_SHA256, &random, message, &mut signature)?;
                Ok(signature)
            }
        }
    }

    /// A secret that depends on this key and `domain` only, not on the encoding of the key.
    /// `None` for RSA, which has no short secret to derive it from.
    pub(crate) fn derive_secret(&self, domain: &[u8]) -> Option<[u8; 32]> {
        match &self.inner {
            Inner::Identity(keypair) => keypair.derive_secret(domain),
            Inner::P384(key) => Some(extract(domain, &key.to_bytes())),
            Inner::P521(key) => {
                let scalar = AsBigEndian::<EcPrivateKeyBin<'_>>::as_be_bytes(&key.private_key());
                scalar.ok().map(|scalar| extract(domain, scalar.as_ref()))
            }
            Inner::Rsa(_) => None,
        }
    }
}

fn ed25519(data: &[u8]) -> Result<PrivateKey, PrivateKeyError> {
    let pair = match data.len() {
        // The protobuf of a public key has the same form: its bytes would become the seed.
        ED25519_SEED => return Err(PrivateKeyError::Ed25519Seed),
        ED25519_PAIR => data,
        ED25519_REPEATED => {
            let (pair, again) = data.split_at(ED25519_PAIR);
            if !pair.ends_with(again) {
                return Err(PrivateKeyError::Ed25519Copies);
            }
            pair
        }
        length => return Err(PrivateKeyError::Ed25519Length(length)),
    };
    libp2p_identity::ed25519::Keypair::try_from_bytes(&mut pair.to_vec())
        .map(|pair| Keypair::from(pair).into())
        .map_err(|_| PrivateKeyError::Ed25519Public)
}

fn rsa(data: &[u8]) -> Result<PrivateKey, PrivateKeyError> {
    const KIND: &str = "RSA of 2048 to 8192 bits (PKCS#1)";
    let key = RsaKeyPair::from_der(data).map_err(rejected(KIND))?;
    let info = AsDer::<PublicKeyX509Der<'_>>::as_der(key.public_key()).map_err(rejected(KIND))?;
    let public = protobuf::write(KeyType::Rsa, info.as_ref());
    Ok(PrivateKey {
        public: PublicKey::from_protobuf(&public).map_err(rejected(KIND))?,
        inner: Inner::Rsa(key),
    })
}

/// A library of its own, as AWS-LC and ring sign on P-384 with SHA-384 only.
fn p384(data: &[u8]) -> Result<PrivateKey, PrivateKeyError> {
    const KIND: &str = "ECDSA on P-384";
    let key: p384::ecdsa::SigningKey = p384::SecretKey::from_sec1_der(data)
        .map_err(rejected(KIND))?
        .into();
    let point = key.verifying_key().to_sec1_point(false);
    Ok(PrivateKey {
        public: PublicKey::on(Curve::P384, point.as_bytes()).map_err(rejected(KIND))?,
        inner: Inner::P384(key),
    })
}

fn p521(data: &[u8]) -> Result<PrivateKey, PrivateKeyError> {
    const KIND: &str = "ECDSA on P-521";
    let key = EcdsaKeyPair::from_private_key_der(&ECDSA_P521_SHA256_ASN1_SIGNING, data)
        .map_err(rejected(KIND))?;
    Ok(PrivateKey {
        public: PublicKey::on(Curve::P521, key.public_key().as_ref()).map_err(rejected(KIND))?,
        inner: Inner::P521(key),
    })
}

/// HKDF-Extract of RFC 5869, which is one HMAC, with `domain` as the salt.
pub(crate) fn extract(domain: &[u8], key_material: &[u8]) -> [u8; 32] {
    let salt = hmac::Key::new(hmac::HMAC_SHA256, domain);
    let tag = hmac::sign(&salt, key_material);
    let mut secret = [0; 32];
    secret.copy_from_slice(tag.as_ref());
    secret
}
