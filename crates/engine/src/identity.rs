//! Who we are: the libp2p host key, the peer id derived from it, and the one TLS certificate
//! that vouches for it.
//!
//! Nothing here speaks TLS or touches the network. The private key never leaves this module:
//! other rooms see the peer id, the public key, secrets derived from the private key under a
//! label, and a certificate ready to be presented.

use std::error::Error as StdError;
use std::fmt;
use std::sync::{Arc, OnceLock};

use libp2p_identity::Keypair;
pub use libp2p_identity::{PeerId, PublicKey};
use ring::{digest, hmac};
use rustls::sign::CertifiedKey;

use crate::tls::issue;

/// The domain under which the root of all derived secrets is taken from the private key.
const SECRET_DOMAIN: &[u8] = b"libp2p-quic derived secrets v1";

/// The first bytes of a `PrivateKey` protobuf whose data is a bare 32-byte Ed25519 seed:
/// field 1 (type) = 1, field 2 (data) of 32 bytes.
const ED25519_SEED_HEADER: [u8; 4] = [0x08, 0x01, 0x12, 0x20];

/// A libp2p host key and the TLS certificate made for it.
///
/// Cloning is cheap: all clones share one key and one certificate. `Debug` shows only the
/// peer id.
#[derive(Clone)]
pub struct Identity(Arc<Inner>);

struct Inner {
    keypair: Keypair,
    public_key: PublicKey,
    peer_id: PeerId,
    /// The root of [`Identity::derive_secret`].
    secrets: hmac::Key,
    /// The seed of the certificate's key, for identities whose every byte must be repeatable.
    #[cfg(feature = "simulation")]
    certificate_seed: Option<[u8; 32]>,
    /// Made on first use, then the same for every endpoint and every connection.
    certified_key: OnceLock<Arc<CertifiedKey>>,
}

impl Identity {
    /// Read a host key from libp2p's `PrivateKey` protobuf.
    ///
    /// All four key types are taken: Ed25519 (as 64 bytes, or as the bare 32-byte seed that
    /// some implementations write), secp256k1, ECDSA on P-256, and RSA of 2048 to 4096 bits.
    ///
    /// # Errors
    ///
    /// [`IdentityError`] when the bytes are not such a key.
    pub fn from_protobuf(bytes: &[u8]) -> Result<Self, IdentityError> {
        let keypair = match bytes.split_first_chunk() {
            // The peer id specification asks for seed and public key, 64 bytes; py-libp2p
            // writes the seed alone, which says as much.
            Some((&ED25519_SEED_HEADER, seed)) if seed.len() == 32 => {
                Keypair::ed25519_from_bytes(seed.to_vec())
            }
            _ => Keypair::from_protobuf_encoding(bytes),
        }
        .map_err(|error| IdentityError::new("cannot read the private key", error))?;

        // RSA keys have no short secret that libp2p-identity would derive from. Their encoding
        // holds the private exponent and both primes: more than enough for an extract step.
        let root = keypair
            .derive_secret(SECRET_DOMAIN)
            .unwrap_or_else(|| extract(bytes));
        Ok(Self::new(keypair, root))
    }

    /// Make a new Ed25519 host key from the operating system's randomness.
    pub fn generate() -> Self {
        let keypair = Keypair::generate_ed25519();
        let root = keypair
            .derive_secret(SECRET_DOMAIN)
            .unwrap_or_else(|| unreachable!("Ed25519 keys have a secret to derive from"));
        Self::new(keypair, root)
    }

    /// Make the identity that belongs to `seed`: the same host key and the same certificate
    /// every time.
    ///
    /// Host key and certificate key are both Ed25519, whose signatures have one length, so
    /// that every handshake message is as long in one run as in the next. For simulations
    /// only: whoever knows the seed knows the private key.
    #[cfg(feature = "simulation")]
    pub fn deterministic(seed: u64) -> Self {
        let expand = |label: &[u8]| {
            let key = hmac::Key::new(hmac::HMAC_SHA256, &seed.to_be_bytes());
            tag_bytes(&hmac::sign(&key, label))
        };
        let mut host = expand(b"simulated host key");
        let secret = libp2p_identity::ed25519::SecretKey::try_from_bytes(&mut host)
            .unwrap_or_else(|_| unreachable!("any 32 bytes are an Ed25519 seed"));
        let keypair = Keypair::from(libp2p_identity::ed25519::Keypair::from(secret));
        Self(Arc::new(Inner {
            certificate_seed: Some(expand(b"simulated certificate key")),
            ..Inner::new(keypair, expand(b"simulated derived secrets"))
        }))
    }

    fn new(keypair: Keypair, root: [u8; 32]) -> Self {
        Self(Arc::new(Inner::new(keypair, root)))
    }

    /// The peer id: what others know and dial this node by.
    pub fn peer_id(&self) -> PeerId {
        self.0.peer_id
    }

    /// The public half of the host key.
    pub fn public_key(&self) -> &PublicKey {
        &self.0.public_key
    }

    /// A secret that only the holder of this private key can compute: the same for the same
    /// `label` in every process, independent of every other label.
    pub(crate) fn derive_secret(&self, label: &str) -> [u8; 32] {
        tag_bytes(&hmac::sign(&self.0.secrets, label.as_bytes()))
    }

    /// The certificate and its key, made on the first call.
    pub(crate) fn certified_key(&self) -> Result<Arc<CertifiedKey>, IdentityError> {
        if let Some(made) = self.0.certified_key.get() {
            return Ok(Arc::clone(made));
        }
        #[cfg(feature = "simulation")]
        let seed = self.0.certificate_seed.as_ref();
        #[cfg(not(feature = "simulation"))]
        let seed = None;
        let made = issue::certified_key(&self.0.keypair, seed)?;
        // Two threads may have raced here: the first to arrive decides for both.
        Ok(Arc::clone(
            self.0.certified_key.get_or_init(|| Arc::new(made)),
        ))
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Identity").field(&self.0.peer_id).finish()
    }
}

impl Inner {
    fn new(keypair: Keypair, root: [u8; 32]) -> Self {
        let public_key = keypair.public();
        Self {
            peer_id: public_key.to_peer_id(),
            public_key,
            keypair,
            secrets: hmac::Key::new(hmac::HMAC_SHA256, &root),
            #[cfg(feature = "simulation")]
            certificate_seed: None,
            certified_key: OnceLock::new(),
        }
    }
}

/// HKDF-Extract of RFC 5869, which is one HMAC, with our domain as the salt.
fn extract(key_material: &[u8]) -> [u8; 32] {
    let salt = hmac::Key::new(hmac::HMAC_SHA256, SECRET_DOMAIN);
    tag_bytes(&hmac::sign(&salt, key_material))
}

fn tag_bytes(tag: &hmac::Tag) -> [u8; 32] {
    let mut bytes = [0; digest::SHA256_OUTPUT_LEN];
    bytes.copy_from_slice(tag.as_ref());
    bytes
}

/// Why an [`Identity`] could not be made: bad private key bytes, or no certificate for them.
#[derive(Debug, thiserror::Error)]
#[error("{what}: {source}")]
pub struct IdentityError {
    what: &'static str,
    source: Box<dyn StdError + Send + Sync>,
}

impl IdentityError {
    pub(crate) fn new(
        what: &'static str,
        source: impl Into<Box<dyn StdError + Send + Sync>>,
    ) -> Self {
        Self {
            what,
            source: source.into(),
        }
    }
}
