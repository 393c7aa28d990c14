//! rustls' certificate verifiers for both roles, by libp2p's rules.
//!
//! The rules themselves are in `certificate`. Here a violation fails the handshake with the fitting
//! alert, and a dial's [`Verdict`] records the reason.

use std::fmt;
use std::sync::{Arc, OnceLock};

use libp2p_identity::PeerId;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::{CertificateDer, ServerName, SubjectPublicKeyInfoDer, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{
    CertificateError as Alert, DigitallySignedStruct, DistinguishedName, OtherError,
    PeerIncompatible, SignatureScheme,
};

use super::algorithms::SIGNATURES;
use super::certificate::{self, CertificateError};
use super::verified::VerifiedCertificates;

/// Why we refused a peer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// The peer's id is not the dialed one.
    #[error("Peer ID mismatch: expected {expected}, but {actual} answered")]
    PeerIdMismatch {
        /// The dialed peer id.
        expected: PeerId,
        /// The verified peer id that answered.
        actual: PeerId,
    },
    /// The peer's certificate is not accepted.
    #[error(transparent)]
    Certificate(#[from] CertificateError),
    /// The peer's web certificate is none of those whose hashes the dialed address has.
    #[error(
        "the certificate's hash is none of the dialed address's: the address is too old, or another party answers"
    )]
    CertificateHash,
    /// The peer's web certificate is not valid now, or for longer than 14 days.
    #[error("the certificate is not valid now, or for longer than 14 days")]
    WebCertificateValidity,
}

/// Why our verifier refused the peer of one dial, if it did. All clones share one answer, which is boxed:
/// rustls keeps the verifier as long as the connection, and few peers are refused.
#[derive(Debug, Clone, Default)]
pub(crate) struct Verdict(Arc<OnceLock<Box<Refusal>>>);

impl Verdict {
    /// The reason, once the verifier has refused the peer. `None` before the certificate is
    /// verified, when it is accepted, and when the handshake failed for another reason.
    pub(crate) fn refusal(&self) -> Option<&Refusal> {
        self.0.get().map(Box::as_ref)
    }

    /// Record why. A handshake has one certificate, so that there is at most one refusal.
    pub(super) fn refuse(&self, refusal: Refusal) {
        let _ = self.0.set(Box::new(refusal));
    }
}

/// Verifies the peer of a dial, with or without an expected peer id, or of an inbound connection.
#[derive(Debug)]
pub(super) struct PeerVerifier {
    expected: Option<PeerId>,
    /// Of a dial; `None` for inbound connections.
    verdict: Option<Verdict>,
    /// Those of the whole endpoint.
    verified: Arc<VerifiedCertificates>,
}

impl PeerVerifier {
    /// For inbound connections: every peer with a valid certificate.
    pub(super) fn any_peer(verified: Arc<VerifiedCertificates>) -> Self {
        Self {
            expected: None,
            verdict: None,
            verified,
        }
    }

    /// For one dial: a refusal is recorded in `verdict`.
    pub(super) fn dial(
        expected: Option<PeerId>,
        verdict: Verdict,
        verified: Arc<VerifiedCertificates>,
    ) -> Self {
        Self {
            expected,
            verdict: Some(verdict),
            verified,
        }
    }

    fn verify_peer(
        &self,
        certificate: &CertificateDer<'_>,
        others: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<(), rustls::Error> {
        let actual = peer_id_of(certificate, others, now, &self.verified)
            .map_err(|error| self.refuse(error.into()))?;
        match self.expected {
            // libp2p tls spec, "libp2p Public Key Extension": clients MUST compare.
            Some(expected) if expected != actual => {
                Err(self.refuse(Refusal::PeerIdMismatch { expected, actual }))
            }
            _ => Ok(()),
        }
    }

    fn refuse(&self, refusal: Refusal) -> rustls::Error {
        let error = failure(&refusal);
        match &self.verdict {
            // The error of the dial reports it.
            Some(verdict) => verdict.refuse(refusal),
            // The listener's line about the handshake has only the alert in most cases.
            None => tracing::debug!("the certificate of an inbound peer is refused: {refusal}"),
        }
        error
    }
}

/// The peer id of a valid certificate.
fn peer_id_of(
    certificate: &CertificateDer<'_>,
    others: &[CertificateDer<'_>],
    now: UnixTime,
    verified: &VerifiedCertificates,
) -> Result<PeerId, CertificateError> {
    // libp2p tls spec, "Peer Authentication": abort if more than one is received.
    if !others.is_empty() {
        return Err(CertificateError::ChainLength {
            count: 1 + others.len(),
        });
    }
    let parsed = certificate::parse(certificate)?;
    let key = match verified.get(certificate) {
        Some(key) => {
            parsed.verify_period(now)?;
            key
        }
        None => {
            let key = parsed.verify(now)?;
            verified.insert(certificate, &key);
            key
        }
    };
    Ok(key.to_peer_id())
}

/// The rustls error whose TLS alert fits. Where the alert is `certificate_unknown`, the error's
/// text is the refusal's own; the other errors have fixed texts.
fn alert(refusal: &Refusal) -> Alert {
    match refusal {
        Refusal::Certificate(error) => match error {
            CertificateError::Malformed(_)
            | CertificateError::ExtensionMalformed
            | CertificateError::HostKey(_) => Alert::BadEncoding,
            CertificateError::UnknownCriticalExtension => Alert::UnhandledCriticalExtension,
            CertificateError::NotYetValid { .. } => Alert::NotValidYet,
            CertificateError::Expired { .. } => Alert::Expired,
            CertificateError::SelfSignature | CertificateError::HostSignature => {
                Alert::BadSignature
            }
            _ => other(refusal),
        },
        Refusal::PeerIdMismatch { .. }
        | Refusal::CertificateHash
        | Refusal::WebCertificateValidity => other(refusal),
    }
}

/// The failure of the handshake for a refusal.
pub(super) fn failure(refusal: &Refusal) -> rustls::Error {
    rustls::Error::InvalidCertificate(alert(refusal))
}

fn other(refusal: &Refusal) -> Alert {
    Alert::Other(OtherError(Arc::new(Reason(refusal.clone()))))
}

/// A refusal inside a rustls error, which formats its contents with `Debug`.
#[derive(thiserror::Error)]
#[error(transparent)]
struct Reason(Refusal);

impl fmt::Debug for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

/// Verify the peer's signature over the handshake with its certificate's key.
///
/// The key comes from our own parser. webpki refuses certificates with a critical extension that
/// it does not know, and libp2p's extension MAY be critical.
fn verify_handshake_signature(
    message: &[u8],
    certificate: &CertificateDer<'_>,
    signed: &DigitallySignedStruct,
) -> Result<HandshakeSignatureValid, rustls::Error> {
    let certificate = certificate::parse(certificate)
        .map_err(|_| rustls::Error::InvalidCertificate(Alert::BadEncoding))?;
    let key = SubjectPublicKeyInfoDer::from(certificate.key_info());
    rustls::crypto::verify_tls13_signature_with_raw_key(message, &key, signed, &SIGNATURES)
}

/// libp2p tls spec, "Handshake Protocol": versions below 1.3 MUST NOT be negotiated. QUIC has
/// none either, so that this is never called.
pub(super) fn no_tls12() -> Result<HandshakeSignatureValid, rustls::Error> {
    Err(PeerIncompatible::Tls12NotOfferedOrEnabled.into())
}

impl ServerCertVerifier for PeerVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        self.verify_peer(end_entity, intermediates, now)
            .map(|()| ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        no_tls12()
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_handshake_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        SIGNATURES.supported_schemes()
    }
}

impl ClientCertVerifier for PeerVerifier {
    // libp2p tls spec, "Handshake Protocol": servers MUST require client authentication. Both are
    // rustls' defaults, and stated here because security depends on them.
    fn offer_client_auth(&self) -> bool {
        true
    }

    fn client_auth_mandatory(&self) -> bool {
        true
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        self.verify_peer(end_entity, intermediates, now)
            .map(|()| ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        no_tls12()
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_handshake_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        SIGNATURES.supported_schemes()
    }
}
