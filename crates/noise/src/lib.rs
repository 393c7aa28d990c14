//! libp2p's Noise handshake, XX with 25519, ChaChaPoly and SHA-256, as WebTransport uses it: on the first stream
//! of a session, to prove the peer ids of both sides and the certificate hashes of the server.
//!
//! Nothing is encrypted after the handshake, as HTTP/3 encrypts already. There is no I/O, no timer and no host key here:
//! the caller carries the bytes, and [`HostKeys`] signs and verifies.
//!
//! libp2p noise and webtransport specs.
#![forbid(unsafe_code)]

mod error;
mod handshake;
mod host_keys;
mod message;
pub mod payload;
mod static_key;
mod x25519;

pub use error::{BoxError, NoiseError};
pub use handshake::{Initiator, Peer, Responder};
pub use host_keys::HostKeys;
pub use message::LONGEST_MESSAGE;
pub use static_key::StaticKey;
