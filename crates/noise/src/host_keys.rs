//! What the handshake needs of libp2p's host keys.

use std::{fmt::Display, sync::Arc};

use crate::{
    error::{BoxError, NoiseError},
    static_key::StaticKey,
};

/// Our host key, and the reading and verifying of the peer's.
pub trait HostKeys {
    /// A host key's public half.
    type PublicKey;
    /// The id that a public key gives.
    type PeerId: PartialEq + Display;

    /// Our public key as libp2p's protobuf.
    fn encoded_public_key(&self) -> Vec<u8>;

    /// Sign with our private key.
    ///
    /// # Errors
    /// If the key cannot sign.
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, BoxError>;

    /// Our static key for Noise: a new one, unless the implementation keeps one for all handshakes.
    ///
    /// # Errors
    /// [`NoiseError::Local`] if none can be made or signed.
    fn static_key(&self) -> Result<Arc<StaticKey>, NoiseError>
    where
        Self: Sized,
    {
        StaticKey::new(|message| self.sign(message)).map(Arc::new)
    }

    /// Read a peer's public key from libp2p's protobuf.
    ///
    /// # Errors
    /// If the bytes are no acceptable key.
    fn read(protobuf: &[u8]) -> Result<Self::PublicKey, BoxError>;

    /// Whether the private half of `key` made this signature.
    fn verify(key: &Self::PublicKey, message: &[u8], signature: &[u8]) -> bool;

    /// The peer id of a public key.
    fn peer_id_of(key: &Self::PublicKey) -> Self::PeerId;
}
