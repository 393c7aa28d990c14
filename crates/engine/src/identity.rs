//! An endpoint's identity: the libp2p host key, its peer id, and the TLS certificate that the
//! host key signs.
//!
//! The private key stays in this module, `host_key`, and `tls::issue`, which signs with it. Other
//! modules get the peer id, the public key, secrets derived under a label, the certificate, and the signatures of
//! Noise.

use std::fmt;
use std::sync::{Arc, OnceLock};

use libp2p_identity::Keypair;
pub use libp2p_identity::PeerId;
use libp2p_quic_noise::{BoxError, HostKeys, NoiseError, StaticKey};
use ring::{digest, hmac};
use rustls::sign::CertifiedKey;

use crate::error::IdentityError;
use crate::host_key::{PrivateKey, PublicKey, extract};
use crate::tls::issue;

/// The domain separation label of the root secret, which all derived secrets come from.
const SECRET_DOMAIN: &[u8] = b"libp2p-quic derived secrets v1";

/// A libp2p host key and the TLS certificate made for it.
///
/// Cloning is cheap: all clones share one key and one certificate. `Debug` shows only the
/// peer id.
#[derive(Clone)]
pub struct Identity(Arc<Inner>);

struct Inner {
    key: PrivateKey,
    peer_id: PeerId,
    /// The root of [`Identity::derive_secret`].
    secrets: hmac::Key,
    /// The seed of the certificate's key, for deterministic identities.
    #[cfg(feature = "simulation")]
    certificate_seed: Option<[u8; 32]>,
    /// Made on first use, then the same for every endpoint and every connection.
    certified_key: OnceLock<Arc<CertifiedKey>>,
    /// For WebTransport, made likewise.
    static_key: OnceLock<Arc<StaticKey>>,
}

impl Identity {
    /// Read a host key from libp2p's `PrivateKey` protobuf.
    ///
    /// All four key types are accepted: Ed25519 (seed and public key, which must belong together, or
    /// the old form with the public key twice), secp256k1, ECDSA on P-256, P-384 and P-521, and RSA
    /// of 2048 to 8192 bits. A bare 32-byte Ed25519 seed is refused: a public key has the same form.
    ///
    /// # Errors
    ///
    /// [`IdentityError`] when the bytes are not such a key, or its parts do not belong together.
    pub fn from_protobuf(bytes: &[u8]) -> Result<Self, IdentityError> {
        let key = PrivateKey::from_protobuf(bytes)
            .map_err(|error| IdentityError::new("cannot read the private key", error))?;
        // RSA keys have no short secret. Their encoding holds the private exponent and both
        // primes, which is input enough for HKDF-Extract.
        let root = key
            .derive_secret(SECRET_DOMAIN)
            .unwrap_or_else(|| extract(SECRET_DOMAIN, bytes));
        Ok(Self::new(key, root))
    }

    /// Generate an Ed25519 host key from the operating system's randomness.
    pub fn generate() -> Self {
        let key = PrivateKey::from(Keypair::generate_ed25519());
        let root = key
            .derive_secret(SECRET_DOMAIN)
            .unwrap_or_else(|| unreachable!("Ed25519 keys have a secret to derive from"));
        Self::new(key, root)
    }

    /// The identity of `seed`, with the same host key and certificate each time.
    ///
    /// Host key and certificate key are both Ed25519, whose signatures have a fixed length, so
    /// that every handshake message has the same length in each run. For simulations only: the
    /// seed reveals the private key.
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
            ..Inner::new(keypair.into(), expand(b"simulated derived secrets"))
        }))
    }

    fn new(key: PrivateKey, root: [u8; 32]) -> Self {
        Self(Arc::new(Inner::new(key, root)))
    }

    /// The peer id, a hash of the public host key (libp2p peer-ids spec).
    pub fn peer_id(&self) -> PeerId {
        self.0.peer_id
    }

    /// The public half of the host key.
    pub fn public_key(&self) -> &PublicKey {
        self.0.key.public()
    }

    /// A secret that only the holder of this private key can compute. It is the same for the same
    /// `label` in every process, and independent of those of other labels.
    pub(crate) fn derive_secret(&self, label: &str) -> [u8; 32] {
        tag_bytes(&hmac::sign(&self.0.secrets, label.as_bytes()))
    }

    /// The certificate and its key, created by the first call.
    pub(crate) fn certified_key(&self) -> Result<Arc<CertifiedKey>, IdentityError> {
        if let Some(made) = self.0.certified_key.get() {
            return Ok(Arc::clone(made));
        }
        #[cfg(feature = "simulation")]
        let seed = self.0.certificate_seed.as_ref();
        #[cfg(not(feature = "simulation"))]
        let seed = None;
        let made = issue::certified_key(&self.0.key, seed)?;
        // Two threads may race here: the first result counts for both.
        Ok(Arc::clone(
            self.0.certified_key.get_or_init(|| Arc::new(made)),
        ))
    }
}

/// For the handshake by which browsers and nodes authenticate each other over WebTransport.
impl HostKeys for Identity {
    type PublicKey = PublicKey;
    type PeerId = PeerId;

    fn encoded_public_key(&self) -> Vec<u8> {
        self.public_key().encode_protobuf()
    }

    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, BoxError> {
        self.0.key.sign(message)
    }

    fn static_key(&self) -> Result<Arc<StaticKey>, NoiseError> {
        if let Some(made) = self.0.static_key.get() {
            return Ok(Arc::clone(made));
        }
        let made = Arc::new(StaticKey::new(|message| self.sign(message))?);
        Ok(Arc::clone(self.0.static_key.get_or_init(|| made)))
    }

    fn read(protobuf: &[u8]) -> Result<PublicKey, BoxError> {
        Ok(PublicKey::from_protobuf(protobuf)?)
    }

    fn verify(key: &PublicKey, message: &[u8], signature: &[u8]) -> bool {
        key.verify(message, signature)
    }

    fn peer_id_of(key: &PublicKey) -> PeerId {
        key.to_peer_id()
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Identity").field(&self.0.peer_id).finish()
    }
}

impl Inner {
    fn new(key: PrivateKey, root: [u8; 32]) -> Self {
        Self {
            peer_id: key.public().to_peer_id(),
            key,
            secrets: hmac::Key::new(hmac::HMAC_SHA256, &root),
            #[cfg(feature = "simulation")]
            certificate_seed: None,
            certified_key: OnceLock::new(),
            static_key: OnceLock::new(),
        }
    }
}

fn tag_bytes(tag: &hmac::Tag) -> [u8; 32] {
    let mut bytes = [0; digest::SHA256_OUTPUT_LEN];
    bytes.copy_from_slice(tag.as_ref());
    bytes
}

#[cfg(test)]
mod tests {
    use std::error::Error as _;

    use super::*;

    fn private(kind: u8, key: &[u8]) -> Vec<u8> {
        assert!(key.len() < 0x4000, "the length is written as two bytes");
        let length = [(key.len() & 0x7f) as u8 | 0x80, (key.len() >> 7) as u8];
        [&[0x08, kind, 0x12], &length[..], key].concat()
    }

    fn seeded(seed: [u8; 32]) -> Identity {
        let keypair = Keypair::ed25519_from_bytes(seed).expect("a key");
        let bytes = keypair.to_protobuf_encoding().expect("an encoding");
        let made = Identity::from_protobuf(&bytes).expect("an identity");
        assert_eq!(made.peer_id(), keypair.public().to_peer_id());
        made
    }

    #[test]
    fn what_may_be_a_public_key_is_no_private_key() {
        let keypair = Keypair::ed25519_from_bytes([7; 32]).expect("a key");
        let public = keypair.public().encode_protobuf();
        let error = Identity::from_protobuf(&public).expect_err("public");
        assert!(error.to_string().contains("cannot read"), "{error}");
        // The seed alone has the same form.
        assert!(Identity::from_protobuf(&private(1, &[7; 32])).is_err());
        // The public half of another key.
        let mut bytes = keypair.to_protobuf_encoding().expect("an encoding");
        let other = Keypair::ed25519_from_bytes([8; 32]).expect("a key");
        let other = other.to_protobuf_encoding().expect("an encoding");
        bytes[36..].copy_from_slice(&other[36..]);
        assert!(Identity::from_protobuf(&bytes).is_err());
    }

    #[test]
    fn secrets_depend_on_key_and_label_only() {
        let one = seeded([1; 32]);
        let again = seeded([1; 32]);
        let other = seeded([2; 32]);
        assert_eq!(one.derive_secret("a"), again.derive_secret("a"));
        assert_ne!(one.derive_secret("a"), one.derive_secret("b"));
        assert_ne!(one.derive_secret("a"), other.derive_secret("a"));
        // A reset token made before an update must be the one made after it.
        let expected = "8cafbc6aa83c9833564d8fb1a0b606da9f8b5200b11ac48d52d64a873483c276";
        assert_eq!(hex::encode(one.derive_secret("a")), expected);
    }

    #[test]
    fn what_is_no_key_is_refused() {
        for bytes in [
            &b""[..],
            b"garbage",
            &private(4, &[1; 32]),
            &private(1, &[1; 31]),
            &private(2, &[0; 32]),
            &private(3, &[1; 32]),
            &private(0, &hex::decode(RSA_1024).expect("hex")),
        ] {
            let error = Identity::from_protobuf(bytes).expect_err("no key");
            assert!(error.source().is_some(), "{error}");
        }
    }

    #[test]
    fn debug_shows_the_peer_id_and_no_secret() {
        let identity = seeded([7; 32]);
        assert_eq!(
            format!("{identity:?}"),
            format!("Identity({:?})", identity.peer_id())
        );
    }

    /// A sound RSA key, too short to be safe.
    const RSA_1024: &str = "\
        3082025c02010002818100cef4a52dd68b72bcae19708e55b6fa89b7d02638bfa325fff1837ba5f2\
        b08d6188142f24601417af1f8ac4f314e4de5a3c49da04ac91898254c3e92578bdd5b1ee769b00b4\
        f6b54109348d9f06b4f3550a16011beac4e5d04923154915ecc7496d05af8d752d704d25d5af13ae\
        22bd31b4fff696c548671cf7de4e72e6d985fd020301000102818077ea7dc37fab31826e86c31756\
        473e088a7f8b861a5498722329027e778f217cbff2a2163bada8c38a4d482d698febdef14c018def\
        c82c9b5e2e5e6b9df8b156eb8b7a3a45cd2699fe628c95d8c40deb5094a69a3d3b08c41f21c30854\
        5d38357fd8a864f86311f708b2451446340317b18b5a385060de2eb9c0918cbda8bdc1024100e7d5\
        1f213454c5fdd7200da2f1cb2d88d3958d51fc420864e70f4dffe4693d760f3c6606641683d13d8c\
        3482f0fb412214fa39d4de8a52d4fea346402a7c0bd5024100e487a380424e1175fe198cab609b5d\
        6ad28d9dfbfb3b0043d6a346a51560c68c3e5ebaebdf8a2202ad964e4f913d0c6cae099f3b6b3440\
        cdf0afeb89c5f7ed89024018d447883bdd9472f256597f891bf49d81e3b38603596322c3686d3729\
        d467a3bc5000b15088e4c7452b3df8842cb4b61cbf0bf09381070c0ed597d1897b4d9d024100c83f\
        feca3dcf90c756d0668e298a1a92a74b86db2daae6b18b1be9a470962b84ea8631becc538b37d389\
        f8b70a2a777fa805306d6da40d01285dcec41c20031902407e7339dab61cf4ce1edb23b6096cb9f2\
        7b191ebf2bf250c681f2c70db2daadf9de2b28ee3fe78bb97296ae60da68ad3b6a3458af3698ee23\
        569c0a709b3ff486";
}
