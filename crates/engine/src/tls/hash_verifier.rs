//! rustls' verifier for dials over WebTransport: a server's certificate is accepted by its hash, which the dialed
//! address has. Who the server is, Noise proves afterwards.
//!
//! libp2p webtransport spec, "Certificates".

use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::verify_tls13_signature;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{DigitallySignedStruct, Error, SignatureScheme};

use super::algorithms::SIGNATURES;
use super::certificate;
use super::verifier::{Refusal, Verdict, failure, no_tls12};
use super::web_certificate::{CertificateHash, VALIDITY, hash_of};

/// Accepts the certificates with these hashes, and records in `verdict` why another was refused.
#[derive(Debug)]
pub(super) struct HashVerifier {
    hashes: Vec<CertificateHash>,
    verdict: Verdict,
}

impl HashVerifier {
    pub(super) fn new(hashes: Vec<CertificateHash>, verdict: Verdict) -> Arc<Self> {
        Arc::new(Self { hashes, verdict })
    }

    /// Why the certificate is not accepted, if it is not.
    fn objection(&self, certificate: &[u8], now: UnixTime) -> Option<Refusal> {
        if !self.hashes.contains(&hash_of(certificate)) {
            return Some(Refusal::CertificateHash);
        }
        let now = i64::try_from(now.as_secs()).unwrap_or(i64::MAX);
        let is_valid = certificate::validity_of(certificate).is_ok_and(|(from, to)| {
            to.saturating_sub(from) <= VALIDITY as i64 && (from..=to).contains(&now)
        });
        (!is_valid).then_some(Refusal::WebCertificateValidity)
    }
}

impl ServerCertVerifier for HashVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        match self.objection(end_entity, now) {
            None => Ok(ServerCertVerified::assertion()),
            Some(refusal) => {
                let error = failure(&refusal);
                self.verdict.refuse(refusal);
                Err(error)
            }
        }
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        no_tls12()
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, cert, dss, &SIGNATURES)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        SIGNATURES.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::identity::Identity;
    use crate::tls::web_certificate::WebCertificates;

    fn at(seconds: u64) -> UnixTime {
        UnixTime::since_unix_epoch(Duration::from_secs(seconds))
    }

    #[test]
    fn a_certificate_is_accepted_by_its_hash_while_it_is_valid() {
        let now = 1_795_910_400;
        let certificates = WebCertificates::new(&Identity::generate(), move || at(now));
        let certificate = certificates.current(at(now)).expect("a certificate");
        let check = |hashes: &[CertificateHash], when| {
            let verifier = HashVerifier::new(hashes.to_vec(), Verdict::default());
            verifier.objection(certificate.der(), at(when))
        };
        let hash = certificate.hash();
        assert_eq!(check(&[[7; 34], hash], now), None);
        assert_eq!(check(&[], now), Some(Refusal::CertificateHash));
        let mut other = hash;
        other[33] ^= 1;
        assert_eq!(check(&[other], now), Some(Refusal::CertificateHash));
        for wrong in [now - VALIDITY, now + VALIDITY] {
            assert_eq!(check(&[hash], wrong), Some(Refusal::WebCertificateValidity));
        }
    }
}
