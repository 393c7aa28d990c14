//! The facts of a peer's certificate that a program may show. Nothing is verified here, and no decision
//! depends on them: `certificate` and `hash_verifier` accept or refuse a certificate in the handshake.

use std::fmt;

use rustls::pki_types::{AlgorithmIdentifier, alg_id};

use super::certificate::{VERSION, key_of, validity};
use crate::der::{INTEGER, NotDer, Reader, SEQUENCE};

/// The curves of ECDSA keys that a certificate may have, by their names in FIPS 186.
static CURVES: [(AlgorithmIdentifier, &str); 3] = [
    (alg_id::ECDSA_P256, "P-256"),
    (alg_id::ECDSA_P384, "P-384"),
    (alg_id::ECDSA_P521, "P-521"),
];

/// The certificate of a peer whose handshake has completed. Its key is not the host key, which has
/// only signed it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct CertificateSummary {
    /// The first second in which it is valid, in seconds since 1970-01-01T00:00:00Z (RFC 5280
    /// section 4.1.2.5).
    pub not_before: i64,
    /// The last such second.
    pub not_after: i64,
    /// The serial number (RFC 5280 section 4.1.2.2), most significant byte first, without leading
    /// zeros.
    pub serial: Vec<u8>,
    /// The type of the certificate's key.
    pub key: CertificateKey,
}

/// The type of a certificate's key. As text it is "Ed25519", "ECDSA on P-256", "RSA of 2048 bits".
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum CertificateKey {
    /// Ed25519 (RFC 8410).
    Ed25519,
    /// ECDSA on this curve: "P-256", "P-384" or "P-521" (RFC 5480).
    Ecdsa(&'static str),
    /// RSA (RFC 8017).
    Rsa {
        /// The size of its modulus.
        bits: usize,
    },
    /// Another type. No certificate that libp2p accepts has one.
    Other,
}

impl CertificateSummary {
    /// The facts of any X.509 certificate in DER.
    pub(super) fn of(der: &[u8]) -> Result<Self, NotDer> {
        let mut fields = Reader::new(der).sequence()?.sequence()?;
        fields.optional(VERSION)?;
        let serial = fields.value(INTEGER)?.contents;
        // The signature algorithm and the issuer.
        fields.value(SEQUENCE)?;
        fields.value(SEQUENCE)?;
        let (not_before, not_after) = validity(&mut fields)?;
        // The subject.
        fields.value(SEQUENCE)?;
        let (algorithm, key) = key_of(fields.value(SEQUENCE)?.whole)?;
        Ok(Self {
            not_before,
            not_after,
            serial: without_leading_zeros(serial).to_vec(),
            key: CertificateKey::of(algorithm, key),
        })
    }
}

impl CertificateKey {
    /// The type of a key with these contents of its `AlgorithmIdentifier`.
    fn of(algorithm: &[u8], key: &[u8]) -> Self {
        let curve = CURVES.iter().find(|(id, _)| id.as_ref() == algorithm);
        if let Some((_, name)) = curve {
            return Self::Ecdsa(name);
        }
        if alg_id::ED25519.as_ref() == algorithm {
            return Self::Ed25519;
        }
        let is_rsa = alg_id::RSA_ENCRYPTION.as_ref() == algorithm;
        match modulus_bits(key) {
            Ok(bits) if is_rsa => Self::Rsa { bits },
            _ => Self::Other,
        }
    }
}

impl fmt::Display for CertificateKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ed25519 => f.write_str("Ed25519"),
            Self::Ecdsa(curve) => write!(f, "ECDSA on {curve}"),
            Self::Rsa { bits } => write!(f, "RSA of {bits} bits"),
            Self::Other => f.write_str("unknown"),
        }
    }
}

/// The size of the modulus of an `RSAPublicKey` (RFC 8017 section A.1.1).
fn modulus_bits(key: &[u8]) -> Result<usize, NotDer> {
    let modulus = Reader::new(key).sequence()?.value(INTEGER)?.contents;
    let modulus = without_leading_zeros(modulus);
    let unused = modulus.first().map_or(0, |first| first.leading_zeros());
    Ok(modulus.len() * 8 - unused as usize)
}

fn without_leading_zeros(number: &[u8]) -> &[u8] {
    let zeros = number.iter().take_while(|byte| **byte == 0).count();
    number.get(zeros..).unwrap_or_default()
}
