//! What the handshake needs of libp2p's host keys.

use std::{error::Error, fmt::Display};

/// Any error, in a box.
pub type BoxError = Box<dyn Error + Send + Sync>;

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
