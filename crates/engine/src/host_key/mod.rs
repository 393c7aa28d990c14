//! libp2p's host keys: reading them, and what they sign and verify.
//!
//! libp2p-identity has every type but ECDSA on P-384 and P-521, which go-libp2p and js-libp2p
//! can make; those are here. Certificates are made and verified in `tls`.
//!
//! libp2p peer-ids spec, "Keys": a protobuf of type and data, whose hash is the peer id.

mod create;
mod curve;
mod private;
mod protobuf;
mod public;

use std::error::Error as StdError;

pub use create::{NewKeyType, ed25519_private_key, generate_private_key};
use curve::Curve;
pub(crate) use private::{PrivateKey, extract};
pub use public::PublicKey;
pub(crate) use public::PublicKeyError;

/// Accepted sizes of an RSA modulus, in bits, as in go-libp2p and rust-libp2p. A shorter modulus
/// can be factored; a longer one costs much to verify for a peer that is not authenticated yet.
const RSA_BITS: std::ops::RangeInclusive<usize> = 2048..=8192;

type BoxError = Box<dyn StdError + Send + Sync>;
