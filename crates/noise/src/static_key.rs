//! The static key of Noise, with the signature of the host key that makes it the peer's. Handshakes may share it:
//! each has an ephemeral key of its own, and a signature by an RSA host key costs more than the rest of a handshake.

use std::fmt;

use snow::{Builder, Keypair};

use crate::{
    error::{BoxError, NoiseError},
    x25519::Primitives,
};

/// libp2p noise spec, "Cryptographic Primitives".
const PROTOCOL: &str = "Noise_XX_25519_ChaChaPoly_SHA256";

/// The host key signs these bytes and then the Noise key. libp2p noise spec, "The libp2p-specific handshake payload".
const SIGNED_PREFIX: &[u8] = b"noise-libp2p-static-key:";

/// A static key and the host key's signature of it.
pub struct StaticKey {
    private: Vec<u8>,
    pub(crate) identity_sig: Vec<u8>,
}

impl fmt::Debug for StaticKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StaticKey").finish_non_exhaustive()
    }
}

impl StaticKey {
    /// Make a key, and have it signed by the host key.
    ///
    /// # Errors
    /// [`NoiseError::Local`] if no Noise key can be made, or the host key cannot sign.
    pub fn new(sign: impl FnOnce(&[u8]) -> Result<Vec<u8>, BoxError>) -> Result<Self, NoiseError> {
        let Keypair { private, public } = builder()?.generate_keypair().map_err(local)?;
        let identity_sig = sign(&signed(&public)).map_err(NoiseError::Local)?;
        Ok(Self {
            private,
            identity_sig,
        })
    }

    /// A handshake with this key.
    pub(crate) fn builder(&self) -> Result<Builder<'_>, NoiseError> {
        builder()?.local_private_key(&self.private).map_err(local)
    }
}

fn builder() -> Result<Builder<'static>, NoiseError> {
    let protocol = PROTOCOL.parse().map_err(local)?;
    Ok(Builder::with_resolver(protocol, Box::new(Primitives)))
}

/// What the host key of the owner of this static key signs.
pub(crate) fn signed(static_key: &[u8]) -> Vec<u8> {
    [SIGNED_PREFIX, static_key].concat()
}

pub(crate) fn local(error: snow::Error) -> NoiseError {
    NoiseError::Local(BoxError::from(error))
}
