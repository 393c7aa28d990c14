//! X25519 for snow, by aws-lc, which the rest of the engine has TLS from: snow's own, without precomputed tables, is
//! slower, and anyone may have a server agree on two secrets and derive two keys for a session that is never proven.
//!
//! The hash, the cipher and the random numbers are snow's own.

use aws_lc_rs::agreement::{PrivateKey, UnparsedPublicKey, X25519, agree};
use snow::{
    Error,
    params::{CipherChoice, DHChoice, HashChoice},
    resolvers::{CryptoResolver, DefaultResolver},
    types::{Cipher, Dh, Hash, Random},
};

/// RFC 7748 section 5: of a private key, of a public key and of a shared secret.
const LENGTH: usize = 32;

/// What snow calculates with.
pub(crate) struct Primitives;

impl CryptoResolver for Primitives {
    fn resolve_rng(&self) -> Option<Box<dyn Random>> {
        DefaultResolver.resolve_rng()
    }

    fn resolve_dh(&self, choice: &DHChoice) -> Option<Box<dyn Dh>> {
        match choice {
            DHChoice::Curve25519 => Some(Box::<KeyPair>::default()),
            DHChoice::Curve448 => None,
        }
    }

    fn resolve_hash(&self, choice: &HashChoice) -> Option<Box<dyn Hash>> {
        DefaultResolver.resolve_hash(choice)
    }

    fn resolve_cipher(&self, choice: &CipherChoice) -> Option<Box<dyn Cipher>> {
        DefaultResolver.resolve_cipher(choice)
    }
}

/// A static or an ephemeral key. Without a key, which snow allows for, nothing is calculated.
#[derive(Default)]
struct KeyPair {
    key: Option<PrivateKey>,
    private: [u8; LENGTH],
    public: [u8; LENGTH],
}

impl KeyPair {
    fn derive(&mut self) -> Result<(), Error> {
        let key = PrivateKey::from_private_key(&X25519, &self.private).map_err(|_| Error::Dh)?;
        let public = key.compute_public_key().map_err(|_| Error::Dh)?;
        self.public = public.as_ref().try_into().map_err(|_| Error::Dh)?;
        self.key = Some(key);
        Ok(())
    }
}

impl Dh for KeyPair {
    fn name(&self) -> &'static str {
        "25519"
    }

    fn pub_len(&self) -> usize {
        LENGTH
    }

    fn priv_len(&self) -> usize {
        LENGTH
    }

    fn set(&mut self, private: &[u8]) {
        self.key = None;
        // Snow has no error here. Each set of 32 bytes is a key (RFC 7748 section 5), and snow checks their number;
        // without a key `dh` fails.
        if let Ok(private) = private.try_into() {
            self.private = private;
            let _ = self.derive();
        }
    }

    fn generate(&mut self, rng: &mut dyn Random) -> Result<(), Error> {
        rng.try_fill_bytes(&mut self.private)?;
        self.derive()
    }

    fn pubkey(&self) -> &[u8] {
        &self.public
    }

    fn privkey(&self) -> &[u8] {
        &self.private
    }

    /// Fails for a public key of small order, whose secret is zero (RFC 7748 section 6.1).
    fn dh(&self, public: &[u8], out: &mut [u8]) -> Result<(), Error> {
        let key = self.key.as_ref().ok_or(Error::Dh)?;
        let public = public.get(..LENGTH).ok_or(Error::Dh)?;
        agree(
            key,
            UnparsedPublicKey::new(&X25519, public),
            Error::Dh,
            |secret| {
                let out = out.get_mut(..LENGTH).ok_or(Error::Dh)?;
                out.copy_from_slice(secret);
                Ok(())
            },
        )
    }
}

#[cfg(test)]
mod tests {
    use super::{Dh, Error, KeyPair, LENGTH};

    /// RFC 7748 section 6.1.
    const ALICE: (&str, &str) = (
        "77076d0a7318a57d3c16c17251b26645df4c2f87ebc0992ab177fba51db92c2a",
        "8520f0098930a754748b7ddcb43ef75a0dbf3a0d26381af4eba4a98eaa9b4e6a",
    );
    const BOB: (&str, &str) = (
        "5dab087e624a8a4b79e17f8b83800ee66f3bb1292618b6fd1c2f8b27ff88e0eb",
        "de9edb7d7b7dc1b4d35b61c2ece435373f8343c85b78674dadfc7e146f882b4f",
    );
    const SECRET: &str = "4a5d9d5ba4ce2de1728e3bf480350f25e07e21c947d19e3376f09b3c1e161742";

    fn bytes(text: &str) -> Vec<u8> {
        hex::decode(text).expect("hexadecimal")
    }

    fn key(private: &str) -> KeyPair {
        let mut key = KeyPair::default();
        key.set(&bytes(private));
        key
    }

    #[test]
    fn both_sides_have_the_secret_of_the_rfc() {
        for ((private, public), (_, of_peer)) in [(ALICE, BOB), (BOB, ALICE)] {
            let key = key(private);
            assert_eq!(key.pubkey(), bytes(public));
            assert_eq!(key.privkey(), bytes(private));
            let mut secret = [0; LENGTH];
            key.dh(&bytes(of_peer), &mut secret).expect("a secret");
            assert_eq!(secret.as_slice(), bytes(SECRET));
        }
    }

    #[test]
    fn a_public_key_of_small_order_has_no_secret() {
        let secret = key(ALICE.0).dh(&[0; LENGTH], &mut [0; LENGTH]);
        assert!(matches!(secret, Err(Error::Dh)), "{secret:?}");
    }

    #[test]
    fn nothing_is_calculated_without_a_key() {
        let mut none = key(ALICE.0);
        none.set(b"short");
        let secret = none.dh(&bytes(BOB.1), &mut [0; LENGTH]);
        assert!(matches!(secret, Err(Error::Dh)), "{secret:?}");
    }
}
