//! Parsing and verifying libp2p certificates.
//!
//! The input comes from peers that are not authenticated, so no input may cause a panic. No clock
//! and no I/O: the time is a parameter. `issue` makes our own certificate, and `verifier` turns a
//! refusal into the failure of a handshake.

pub use rustls::pki_types::UnixTime;

use super::algorithms;
use crate::der::{
    self, BOOLEAN, GENERALIZED_TIME, INTEGER, NotDer, OBJECT_IDENTIFIER, OCTET_STRING, Reader,
    SEQUENCE, UTC_TIME,
};
use crate::host_key::{PublicKey, PublicKeyError};

/// The contents of the object identifier 1.3.6.1.4.1.53594.1.1.
/// libp2p tls spec, "libp2p Public Key Extension".
const EXTENSION_OID: [u8; 10] = [0x2b, 0x06, 0x01, 0x04, 0x01, 0x83, 0xa2, 0x5a, 0x01, 0x01];

/// The host key signs these bytes and then the certificate's public key.
/// libp2p tls spec, "libp2p Public Key Extension".
pub(super) const SIGNED_PREFIX: &[u8] = b"libp2p-tls-handshake:";

pub(super) const VERSION: u8 = 0xa0;
const ISSUER_UNIQUE_ID: u8 = 0x81;
const SUBJECT_UNIQUE_ID: u8 = 0x82;
const EXTENSIONS: u8 = 0xa3;

/// A parsed certificate. Nothing in it is trusted before [`PeerCertificate::verify`].
#[derive(Debug, Clone)]
pub struct PeerCertificate<'a> {
    /// The part that the self-signature covers, as sent.
    signed: &'a [u8],
    /// The contents of the `AlgorithmIdentifier` outside the signed part.
    signature_algorithm: &'a [u8],
    /// The contents of the `AlgorithmIdentifier` inside the signed part.
    inner_signature_algorithm: &'a [u8],
    signature: &'a [u8],
    not_before: i64,
    not_after: i64,
    /// The `SubjectPublicKeyInfo` as sent, which is what the host key has signed.
    key_info: &'a [u8],
    /// The contents of its `AlgorithmIdentifier`.
    key_algorithm: &'a [u8],
    key: &'a [u8],
    /// The host key's protobuf.
    host_key: &'a [u8],
    host_signature: &'a [u8],
}

/// Parse a certificate. Only its form is checked.
///
/// # Errors
///
/// [`CertificateError`] when the bytes are not one X.509 version 3 certificate in DER with
/// the libp2p extension exactly once, no other critical extension and no unique identifiers.
pub fn parse(der: &[u8]) -> Result<PeerCertificate<'_>, CertificateError> {
    use CertificateError::Malformed;
    let malformed = |what| move |NotDer| Malformed(what);

    let mut outer = Reader::new(der);
    let mut certificate = outer.sequence().map_err(malformed("the outermost value"))?;
    outer.end().map_err(malformed("the end"))?;

    let signed = certificate
        .value(SEQUENCE)
        .map_err(malformed("the signed part"))?;
    let signature_algorithm = certificate
        .value(SEQUENCE)
        .map_err(malformed("the signature algorithm"))?
        .contents;
    let signature = certificate
        .bit_string()
        .and_then(|signature| certificate.end().map(|()| signature))
        .map_err(malformed("the signature"))?;

    let mut fields = Reader::new(signed.contents);
    // Only version 3 (written as 2) has extensions, and a libp2p certificate needs one.
    let version = fields.value(VERSION).map_err(malformed("the version"))?;
    if version.contents != [INTEGER, 1, 2] {
        return Err(Malformed("the version"));
    }
    fields
        .value(INTEGER)
        .map_err(malformed("the serial number"))?;
    let inner_signature_algorithm = fields
        .value(SEQUENCE)
        .map_err(malformed("the inner signature algorithm"))?
        .contents;
    // libp2p ignores names: the host key is the identity.
    fields.value(SEQUENCE).map_err(malformed("the issuer"))?;
    let (not_before, not_after) =
        validity(&mut fields).map_err(malformed("the validity period"))?;
    fields.value(SEQUENCE).map_err(malformed("the subject"))?;
    let key_info = fields
        .value(SEQUENCE)
        .map_err(malformed("the public key"))?
        .whole;
    let (key_algorithm, key) = key_of(key_info).map_err(malformed("the public key"))?;

    // libp2p tls spec, "Peer Authentication": both MUST be omitted.
    for tag in [ISSUER_UNIQUE_ID, SUBJECT_UNIQUE_ID] {
        let present = fields
            .optional(tag)
            .map_err(malformed("a unique identifier"))?;
        if present.is_some() {
            return Err(CertificateError::UniqueIdentifier);
        }
    }
    let extensions = fields
        .optional(EXTENSIONS)
        .map_err(malformed("the extensions"))?;
    fields
        .end()
        .map_err(malformed("the end of the signed part"))?;
    let extensions = extensions.ok_or(CertificateError::ExtensionMissing)?;
    let (host_key, host_signature) = libp2p_extension(extensions.contents)?;

    Ok(PeerCertificate {
        signed: signed.whole,
        signature_algorithm,
        inner_signature_algorithm,
        signature,
        not_before,
        not_after,
        key_info,
        key_algorithm,
        key,
        host_key,
        host_signature,
    })
}

/// When any certificate begins and ends to be valid, in seconds since 1970.
pub(super) fn validity_of(der: &[u8]) -> Result<(i64, i64), NotDer> {
    let mut fields = Reader::new(der).sequence()?.sequence()?;
    fields.optional(VERSION)?;
    fields.value(INTEGER)?;
    // The signature algorithm and the issuer.
    fields.value(SEQUENCE)?;
    fields.value(SEQUENCE)?;
    validity(&mut fields)
}

/// `Validity ::= SEQUENCE { notBefore Time, notAfter Time }`, in seconds since 1970.
pub(super) fn validity(fields: &mut Reader<'_>) -> Result<(i64, i64), NotDer> {
    let mut validity = fields.sequence()?;
    let mut time = || {
        let value = validity.any()?;
        match value.tag {
            UTC_TIME | GENERALIZED_TIME => der::unix_seconds(value),
            _ => Err(NotDer),
        }
    };
    let period = (time()?, time()?);
    validity.end()?;
    Ok(period)
}

/// The algorithm and the key of a `SubjectPublicKeyInfo`.
pub(super) fn key_of(key_info: &[u8]) -> Result<(&[u8], &[u8]), NotDer> {
    let mut fields = Reader::new(key_info).sequence()?;
    let algorithm = fields.value(SEQUENCE)?.contents;
    let key = fields.bit_string()?;
    fields.end()?;
    Ok((algorithm, key))
}

/// Find the libp2p extension, and return the host key's protobuf and its signature.
fn libp2p_extension(extensions: &[u8]) -> Result<(&[u8], &[u8]), CertificateError> {
    let malformed = |NotDer| CertificateError::Malformed("the extensions");

    let mut outer = Reader::new(extensions);
    let mut list = outer.sequence().map_err(malformed)?;
    outer.end().map_err(malformed)?;

    let mut found = None;
    while !list.is_empty() {
        let mut fields = list.sequence().map_err(malformed)?;
        let oid = fields.value(OBJECT_IDENTIFIER).map_err(malformed)?.contents;
        let critical = match fields.optional(BOOLEAN).map_err(malformed)? {
            None => false,
            // DER leaves a false default out. Some encoders write it, and it does no harm.
            Some(value) => match value.contents {
                [0x00] => false,
                [0xff] => true,
                _ => return Err(malformed(NotDer)),
            },
        };
        let value = fields.value(OCTET_STRING).map_err(malformed)?.contents;
        fields.end().map_err(malformed)?;

        if oid == EXTENSION_OID {
            // The specification does not say which of two counts, so two are refused.
            if found.replace(value).is_some() {
                return Err(CertificateError::ExtensionRepeated);
            }
        } else if critical {
            // libp2p tls spec, "Peer Authentication": unknown extensions are ignored unless
            // they are critical. No extension but our own is known here.
            return Err(CertificateError::UnknownCriticalExtension);
        }
    }
    let value = found.ok_or(CertificateError::ExtensionMissing)?;
    signed_key(value).map_err(|NotDer| CertificateError::ExtensionMalformed)
}

/// `SignedKey ::= SEQUENCE { publicKey OCTET STRING, signature OCTET STRING }`
fn signed_key(value: &[u8]) -> Result<(&[u8], &[u8]), NotDer> {
    let mut outer = Reader::new(value);
    let mut fields = outer.sequence()?;
    outer.end()?;
    let key = fields.value(OCTET_STRING)?.contents;
    let signature = fields.value(OCTET_STRING)?.contents;
    fields.end()?;
    Ok((key, signature))
}

impl<'a> PeerCertificate<'a> {
    /// Verify the certificate at the time `now`, and return its host key.
    ///
    /// # Errors
    ///
    /// [`CertificateError`] when the certificate is not valid at `now`, when it is not signed
    /// by its own key, or when the host key is unusable or has not signed that key.
    pub fn verify(&self, now: UnixTime) -> Result<PublicKey, CertificateError> {
        self.verify_period(now)?;
        self.verify_self_signature()?;

        let host_key = self.host_key()?;
        let mut message = SIGNED_PREFIX.to_vec();
        // The key as sent: encoded again it might differ from the bytes that were signed.
        message.extend_from_slice(self.key_info);
        if !host_key.verify(&message, self.host_signature) {
            return Err(CertificateError::HostSignature);
        }
        Ok(host_key)
    }

    /// Verify that the certificate is valid at the time `now`, and nothing else.
    pub(super) fn verify_period(&self, now: UnixTime) -> Result<(), CertificateError> {
        let now = i64::try_from(now.as_secs()).unwrap_or(i64::MAX);
        if now < self.not_before {
            return Err(CertificateError::NotYetValid {
                not_before: self.not_before,
                now,
            });
        }
        if now > self.not_after {
            return Err(CertificateError::Expired {
                not_after: self.not_after,
                now,
            });
        }
        Ok(())
    }

    /// libp2p tls spec, "Peer Authentication": abort if the self-signature is not valid.
    fn verify_self_signature(&self) -> Result<(), CertificateError> {
        // RFC 5280 section 4.1.1.2: the two MUST be the same. The outer one is not signed.
        if self.signature_algorithm != self.inner_signature_algorithm {
            return Err(CertificateError::SignatureAlgorithmMismatch);
        }
        let algorithm = algorithms::for_certificate(self.signature_algorithm, self.key_algorithm)
            .ok_or(CertificateError::UnsupportedSignatureAlgorithm)?;
        algorithm
            .verify_signature(self.key, self.signed, self.signature)
            .map_err(|_| CertificateError::SelfSignature)
    }

    /// The host key that the certificate names. Nothing is verified here: this is for
    /// certificates that [`Self::verify`] has already accepted.
    ///
    /// # Errors
    ///
    /// [`CertificateError`] when the host key cannot be read or has a wrong size.
    pub fn host_key(&self) -> Result<PublicKey, CertificateError> {
        PublicKey::from_protobuf(self.host_key).map_err(|error| match error {
            PublicKeyError::RsaSize { bits } => CertificateError::HostKeySize { bits },
            other => CertificateError::HostKey(other.to_string()),
        })
    }

    /// The certificate's own public key as sent, a `SubjectPublicKeyInfo` in DER.
    pub(super) fn key_info(&self) -> &'a [u8] {
        self.key_info
    }
}

/// What is wrong with a peer's certificate. Times are seconds since 1970-01-01T00:00:00Z.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CertificateError {
    /// The peer sent a chain. libp2p peers send exactly one certificate.
    #[error("the peer sent {count} certificates instead of one")]
    ChainLength {
        /// How many certificates the peer sent.
        count: usize,
    },
    /// The bytes are not an X.509 version 3 certificate in DER.
    #[error("the peer's certificate is malformed at {0}")]
    Malformed(&'static str),
    /// `issuerUniqueID` or `subjectUniqueID` is present.
    #[error("the peer's certificate has a deprecated unique identifier")]
    UniqueIdentifier,
    /// The libp2p extension is missing: the peer does not speak libp2p's TLS.
    #[error("the peer's certificate lacks the libp2p extension")]
    ExtensionMissing,
    /// The libp2p extension occurs twice.
    #[error("the peer's certificate has the libp2p extension more than once")]
    ExtensionRepeated,
    /// The libp2p extension is not a `SignedKey`.
    #[error("the libp2p extension of the peer's certificate is malformed")]
    ExtensionMalformed,
    /// An extension other than libp2p's is marked critical.
    #[error("the peer's certificate has a critical extension other than libp2p's")]
    UnknownCriticalExtension,
    /// The certificate is not valid yet, or a clock is wrong.
    #[error("the peer's certificate is valid from {not_before} (Unix time), and it is {now}")]
    NotYetValid {
        /// The certificate's first valid second.
        not_before: i64,
        /// The time of the verification.
        now: i64,
    },
    /// The certificate has expired, or a clock is wrong.
    #[error("the peer's certificate expired after {not_after} (Unix time), and it is {now}")]
    Expired {
        /// The certificate's last valid second.
        not_after: i64,
        /// The time of the verification.
        now: i64,
    },
    /// The certificate names one signature algorithm inside the signed part, another outside.
    #[error("the peer's certificate names two different signature algorithms")]
    SignatureAlgorithmMismatch,
    /// The certificate's key or signature algorithm is not supported.
    #[error("the peer's certificate uses an unsupported key or signature algorithm")]
    UnsupportedSignatureAlgorithm,
    /// The certificate is not signed by its own key.
    #[error("the peer's certificate is not signed by its own key")]
    SelfSignature,
    /// The host key is of an unknown type or cannot be read.
    #[error("the peer's host key cannot be read: {0}")]
    HostKey(String),
    /// The host key is an RSA key of fewer than 2048 or more than 8192 bits.
    #[error("the peer's RSA host key has {bits} bits, and 2048 to 8192 are taken")]
    HostKeySize {
        /// The size of its modulus.
        bits: usize,
    },
    /// The host key has not signed the certificate's key: the peer does not have the claimed id.
    #[error("the peer's certificate is not signed by the host key it names")]
    HostSignature,
}
