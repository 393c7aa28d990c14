//! Making our own certificate: a fresh key, signed by the host key.
//!
//! `certificate` verifies the certificates of peers.

use rcgen::{CertificateParams, CustomExtension, DistinguishedName, PublicKeyData};
use rustls::crypto::aws_lc_rs::sign;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::sign::CertifiedKey;

use super::certificate::SIGNED_PREFIX;
use crate::der::{self, OCTET_STRING, SEQUENCE};
use crate::error::IdentityError;
use crate::host_key::PrivateKey;

/// libp2p tls spec, "libp2p Public Key Extension".
const EXTENSION_OID: [u64; 9] = [1, 3, 6, 1, 4, 1, 53594, 1, 1];

/// The first bytes of a PKCS#8 `PrivateKeyInfo` around a 32-byte Ed25519 seed, RFC 8410.
const ED25519_PKCS8_HEADER: [u8; 16] = [
    0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20,
];

/// Issue the certificate of the holder of `host`.
///
/// Its key is a new one on P-256, which every TLS library verifies, fast and in few bytes;
/// it is not related to the host key, as the specification asks. With a `seed` the key is
/// that Ed25519 key instead and the certificate has the same bytes every time.
pub(crate) fn certified_key(
    host: &PrivateKey,
    seed: Option<&[u8; 32]>,
) -> Result<CertifiedKey, IdentityError> {
    let failed = |error| IdentityError::new("cannot make a TLS certificate", error);
    let key = match seed {
        None => rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256),
        Some(seed) => {
            let pkcs8 = [&ED25519_PKCS8_HEADER[..], seed].concat();
            rcgen::KeyPair::try_from(pkcs8)
        }
    }
    .map_err(failed)?;

    let mut message = SIGNED_PREFIX.to_vec();
    message.extend_from_slice(&key.subject_public_key_info());
    let signature = host
        .sign(&message)
        .map_err(|error| IdentityError::new("cannot sign with the host key", error))?;
    let signed_key = der::write(
        SEQUENCE,
        &[
            der::write(OCTET_STRING, &host.public().encode_protobuf()),
            der::write(OCTET_STRING, &signature),
        ]
        .concat(),
    );

    let mut params = CertificateParams::default();
    // It must be valid for peers with wrong clocks, and for years. The specification's test
    // vectors and rust-libp2p use the same dates, and they do not reveal when this process
    // started.
    params.not_before = rcgen::date_time_ymd(1975, 1, 1);
    params.not_after = rcgen::date_time_ymd(4096, 1, 1);
    // libp2p ignores names. The serial number is rcgen's, a hash of the new key.
    params.distinguished_name = DistinguishedName::new();
    // Not critical: old go-libp2p versions refuse the extension when it is.
    params.custom_extensions = vec![CustomExtension::from_oid_content(
        &EXTENSION_OID,
        signed_key,
    )];
    let certificate = params.self_signed(&key).map_err(failed)?;

    let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let key = sign::any_supported_type(&key)
        .map_err(|error| IdentityError::new("cannot use the certificate's key", error))?;
    // `CertifiedKey::new` does not parse the certificate again, unlike `from_der`.
    Ok(CertifiedKey::new(vec![certificate.into()], key))
}
