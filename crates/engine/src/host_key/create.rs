//! New private host keys, in libp2p's `PrivateKey` protobuf.
//!
//! The caller stores the bytes, so they leave this crate. `private` reads them back.

use libp2p_identity::{Keypair, ed25519};

use super::protobuf::{KeyType as Kind, write};

/// The types of host keys that [`generate_private_key`] makes. RSA is left out: no program needs a
/// new RSA key, as every libp2p accepts Ed25519.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum NewKeyType {
    /// The default of every libp2p.
    Ed25519,
    /// The keys of Ethereum's node records.
    Secp256k1,
    /// ECDSA on P-256.
    Ecdsa,
}

/// Generate a host key from the operating system's randomness.
///
/// Returns libp2p's `PrivateKey` protobuf, the form that [`crate::Identity::from_protobuf`] reads.
pub fn generate_private_key(key_type: NewKeyType) -> Vec<u8> {
    let keypair = match key_type {
        NewKeyType::Ed25519 => Keypair::generate_ed25519(),
        NewKeyType::Secp256k1 => Keypair::generate_secp256k1(),
        NewKeyType::Ecdsa => Keypair::generate_ecdsa(),
    };
    keypair
        .to_protobuf_encoding()
        .unwrap_or_else(|_| unreachable!("these three key types can be encoded"))
}

/// The Ed25519 host key of a seed (RFC 8032 section 5.1.5), as libp2p's `PrivateKey` protobuf.
///
/// The protobuf has 64 bytes of seed and public key: a seed alone is ambiguous, as a public key has
/// the same length.
pub fn ed25519_private_key(mut seed: [u8; 32]) -> Vec<u8> {
    let secret = ed25519::SecretKey::try_from_bytes(&mut seed)
        .unwrap_or_else(|_| unreachable!("any 32 bytes are an Ed25519 seed"));
    write(Kind::Ed25519, &ed25519::Keypair::from(secret).to_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Identity;

    #[test]
    fn a_generated_key_is_an_identity_and_differs_from_the_next() {
        for kind in [
            NewKeyType::Ed25519,
            NewKeyType::Secp256k1,
            NewKeyType::Ecdsa,
        ] {
            let ids = [(); 2].map(|()| {
                let key = generate_private_key(kind);
                Identity::from_protobuf(&key)
                    .expect("a generated key")
                    .peer_id()
            });
            assert_ne!(ids[0], ids[1], "{kind:?}");
        }
    }

    /// RFC 8032 section 7.1, test 1.
    #[test]
    fn a_seed_has_the_public_key_of_the_rfc() {
        let seed = hex::decode("9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60")
            .expect("hex");
        let public = "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a";
        let key = ed25519_private_key(seed.try_into().expect("32 bytes"));
        assert!(hex::encode(&key).ends_with(public));
        assert!(Identity::from_protobuf(&key).is_ok());
    }
}
