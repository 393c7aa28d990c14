//! The cryptographic algorithms that we offer, in order of preference. No handshake logic.
//!
//! ring protects packets, and AWS-LC does everything else. At packet size ring's AES-GCM is the
//! faster of the two; AWS-LC has the post-quantum key exchange and P-521.

use rustls::SignatureScheme;
use rustls::SupportedCipherSuite;
use rustls::crypto::aws_lc_rs::{self, kx_group};
use rustls::crypto::ring::{self, cipher_suite};
use rustls::crypto::{CryptoProvider, SupportedKxGroup, WebPkiSupportedAlgorithms};
use rustls::pki_types::SignatureVerificationAlgorithm;
use rustls::quic::Suite;
use webpki::aws_lc_rs as verify;

/// The suite that protects Initial packets. RFC 9001 section 5.2.
const INITIAL_SUITE: SupportedCipherSuite = cipher_suite::TLS13_AES_128_GCM_SHA256;

/// With AES instructions, AES-128-GCM carries a third more than ChaCha20-Poly1305.
const WITH_AES: [SupportedCipherSuite; 3] = [
    cipher_suite::TLS13_AES_128_GCM_SHA256,
    cipher_suite::TLS13_AES_256_GCM_SHA384,
    cipher_suite::TLS13_CHACHA20_POLY1305_SHA256,
];

/// Without them AES is several times slower, and its timing can leak the key.
pub(super) const WITHOUT_AES: [SupportedCipherSuite; 3] = [
    cipher_suite::TLS13_CHACHA20_POLY1305_SHA256,
    cipher_suite::TLS13_AES_128_GCM_SHA256,
    cipher_suite::TLS13_AES_256_GCM_SHA384,
];

/// A client sends its key shares for the first group: the hybrid and, inside it, X25519. A
/// server without ML-KEM therefore answers with X25519 in the same round trip.
const KEY_EXCHANGE: [&dyn SupportedKxGroup; 4] = [
    kx_group::X25519MLKEM768,
    kx_group::X25519,
    kx_group::SECP256R1,
    kx_group::SECP384R1,
];

/// The algorithms that a peer may sign its certificate and its handshake with.
///
/// libp2p certificates are self-signed with keys of any usual type: implementations default
/// to P-256, and some send Ed25519, P-384 or RSA. Hashes shorter than 256 bits are left out.
pub(super) static SIGNATURES: WebPkiSupportedAlgorithms = WebPkiSupportedAlgorithms {
    all: &[
        verify::ECDSA_P256_SHA256,
        verify::ECDSA_P256_SHA384,
        verify::ECDSA_P256_SHA512,
        verify::ECDSA_P384_SHA256,
        verify::ECDSA_P384_SHA384,
        verify::ECDSA_P384_SHA512,
        verify::ECDSA_P521_SHA256,
        verify::ECDSA_P521_SHA384,
        verify::ECDSA_P521_SHA512,
        verify::ED25519,
        verify::RSA_PSS_2048_8192_SHA256_LEGACY_KEY,
        verify::RSA_PSS_2048_8192_SHA384_LEGACY_KEY,
        verify::RSA_PSS_2048_8192_SHA512_LEGACY_KEY,
        verify::RSA_PKCS1_2048_8192_SHA256,
        verify::RSA_PKCS1_2048_8192_SHA384,
        verify::RSA_PKCS1_2048_8192_SHA512,
        verify::RSA_PKCS1_2048_8192_SHA256_ABSENT_PARAMS,
        verify::RSA_PKCS1_2048_8192_SHA384_ABSENT_PARAMS,
        verify::RSA_PKCS1_2048_8192_SHA512_ABSENT_PARAMS,
    ],
    // In TLS 1.3 the scheme determines the curve: the first algorithm of each list is used.
    mapping: &[
        (
            SignatureScheme::ECDSA_NISTP256_SHA256,
            &[verify::ECDSA_P256_SHA256],
        ),
        (SignatureScheme::ED25519, &[verify::ED25519]),
        (
            SignatureScheme::ECDSA_NISTP384_SHA384,
            &[verify::ECDSA_P384_SHA384],
        ),
        (
            SignatureScheme::ECDSA_NISTP521_SHA512,
            &[verify::ECDSA_P521_SHA512],
        ),
        (
            SignatureScheme::RSA_PSS_SHA256,
            &[verify::RSA_PSS_2048_8192_SHA256_LEGACY_KEY],
        ),
        (
            SignatureScheme::RSA_PSS_SHA384,
            &[verify::RSA_PSS_2048_8192_SHA384_LEGACY_KEY],
        ),
        (
            SignatureScheme::RSA_PSS_SHA512,
            &[verify::RSA_PSS_2048_8192_SHA512_LEGACY_KEY],
        ),
        // TLS 1.3 allows PKCS#1 v1.5 inside certificates only, and a peer with an RSA
        // certificate looks for these before it sends it. RFC 8446 section 4.2.3.
        (
            SignatureScheme::RSA_PKCS1_SHA256,
            &[verify::RSA_PKCS1_2048_8192_SHA256],
        ),
        (
            SignatureScheme::RSA_PKCS1_SHA384,
            &[verify::RSA_PKCS1_2048_8192_SHA384],
        ),
        (
            SignatureScheme::RSA_PKCS1_SHA512,
            &[verify::RSA_PKCS1_2048_8192_SHA512],
        ),
    ],
};

/// The algorithm for a certificate signed with `signature` by a `key`, both given as the
/// contents of their `AlgorithmIdentifier`. Comparing whole identifiers also fixes their
/// parameters: a named curve, and for RSA-PSS one hash throughout and its salt.
pub(super) fn for_certificate(
    signature: &[u8],
    key: &[u8],
) -> Option<&'static dyn SignatureVerificationAlgorithm> {
    SIGNATURES.all.iter().copied().find(|algorithm| {
        algorithm.signature_alg_id().as_ref() == signature
            && algorithm.public_key_alg_id().as_ref() == key
    })
}

/// The provider for rustls, with the cipher order for this machine's processor.
pub(super) fn provider() -> CryptoProvider {
    let cipher_suites = if has_aes_instructions() {
        WITH_AES
    } else {
        WITHOUT_AES
    };
    CryptoProvider {
        cipher_suites: cipher_suites.to_vec(),
        kx_groups: KEY_EXCHANGE.to_vec(),
        signature_verification_algorithms: SIGNATURES,
        secure_random: ring::default_provider().secure_random,
        key_provider: aws_lc_rs::default_provider().key_provider,
    }
}

/// The suite for Initial packets, in the form quinn-proto wants.
pub(super) fn initial_suite() -> Option<Suite> {
    INITIAL_SUITE.tls13()?.quic_suite()
}

/// Whether this processor seals AES-GCM in hardware.
pub(super) fn has_aes_instructions() -> bool {
    #[cfg(any(target_arch = "x86", target_arch = "x86_64"))]
    {
        std::arch::is_x86_feature_detected!("aes")
            && std::arch::is_x86_feature_detected!("pclmulqdq")
    }
    #[cfg(target_arch = "aarch64")]
    {
        std::arch::is_aarch64_feature_detected!("aes")
    }
    #[cfg(not(any(target_arch = "x86", target_arch = "x86_64", target_arch = "aarch64")))]
    {
        false
    }
}
