//! What both ends of a connection agreed on in the TLS handshake, by the names of IANA's registry
//! "TLS Parameters"; and the certificate that the peer showed.

use std::sync::Arc;

use super::{certificate_summary::CertificateSummary, server_hello::ServerHello};

/// RFC 8446 section B.4: all suites that QUIC allows (RFC 9001 section 5.3) but CCM_8.
const CIPHER_SUITES: [(u16, &str); 4] = [
    (0x1301, "TLS_AES_128_GCM_SHA256"),
    (0x1302, "TLS_AES_256_GCM_SHA384"),
    (0x1303, "TLS_CHACHA20_POLY1305_SHA256"),
    (0x1304, "TLS_AES_128_CCM_SHA256"),
];

/// RFC 8446 section 4.2.7, and draft-ietf-tls-ecdhe-mlkem section 6.
const GROUPS: [(u16, &str); 5] = [
    (0x0017, "secp256r1"),
    (0x0018, "secp384r1"),
    (0x0019, "secp521r1"),
    (0x001d, "x25519"),
    (0x11ec, "X25519MLKEM768"),
];

/// The negotiated parameters of a connection's TLS session, whose version is always 1.3, and the
/// peer's certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct TlsParameters {
    /// The cipher suite that protects the packets, such as "TLS_AES_128_GCM_SHA256".
    pub cipher_suite: &'static str,
    /// The group of the key exchange, such as "X25519MLKEM768" or "x25519".
    pub key_exchange: &'static str,
    /// The application protocol (RFC 7301).
    pub alpn: Vec<u8>,
    /// The certificate of the peer, which differs between the two ends; `None` of a browser, which
    /// shows none.
    pub certificate: Option<Arc<CertificateSummary>>,
}

impl TlsParameters {
    /// Without the certificate, which [`parameters`](super::parameters) adds.
    pub(super) fn new(hello: Option<ServerHello>, alpn: Vec<u8>) -> Self {
        let hello = hello.unwrap_or_default();
        Self {
            cipher_suite: name(&CIPHER_SUITES, hello.cipher_suite),
            key_exchange: name(&GROUPS, hello.group),
            alpn,
            certificate: None,
        }
    }
}

/// rustls completes no handshake with an algorithm that was not offered, so all that occur have names.
fn name(names: &[(u16, &'static str)], number: u16) -> &'static str {
    let found = names.iter().find(|(known, _)| *known == number);
    found.map_or("unknown", |(_, name)| name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tls::algorithms;

    #[test]
    fn every_algorithm_that_we_offer_has_a_name() {
        let provider = algorithms::provider();
        for suite in provider.cipher_suites {
            assert_ne!(name(&CIPHER_SUITES, suite.suite().into()), "unknown");
        }
        for group in provider.kx_groups {
            assert_ne!(name(&GROUPS, group.name().into()), "unknown");
        }
        assert_eq!(name(&GROUPS, 0x6a6a), "unknown");
    }
}
