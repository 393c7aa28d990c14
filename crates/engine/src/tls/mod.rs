//! libp2p's TLS 1.3: mutual authentication of the peers by their host keys.
//!
//! This module makes rustls configurations from an identity, and reads the peer's public key and the
//! negotiated parameters from a completed session. It does no network I/O and holds no connection state; of QUIC it uses only
//! quinn-proto's `crypto` traits. It reads the environment: if `SSLKEYLOGFILE` names a file, the keys
//! of all connections are appended to it, which is logged as a warning.
//!
//! The rules are those of libp2p's "tls" specification. In addition there is no session
//! resumption and no 0-RTT, so that every handshake authenticates the peer. A listener may serve HTTP/3 beside
//! libp2p; its clients are not authenticated here.

mod algorithms;
#[cfg(test)]
mod browser;
pub mod certificate;
mod certificate_summary;
pub mod client_hello;
mod draft29;
mod hash_verifier;
pub(crate) mod issue;
mod observed_session;
mod opened_packets;
mod padding;
mod parameters;
mod protocol_choice;
mod reset_stream_at;
mod server_hello;
mod verified;
mod verifier;
mod web_certificate;
mod web_session;

#[cfg(test)]
mod handshake_tests;

use std::sync::Arc;

use libp2p_identity::PeerId;
use quinn_proto::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use quinn_proto::crypto::{ClientConfig, ServerConfig, Session};
use rustls::client::Resumption;
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::NoServerSessionStorage;
use rustls::sign::SingleCertAndKey;
use rustls::version::TLS13;
use rustls::{KeyLog, KeyLogFile};

use crate::error::IdentityError;
use crate::host_key::PublicKey;
use crate::identity::Identity;
pub use certificate_summary::{CertificateKey, CertificateSummary};
pub(crate) use draft29::DRAFT_29;
use hash_verifier::HashVerifier;
use observed_session::{ObservedClient, ObservedServer};
pub use parameters::TlsParameters;
pub use protocol_choice::server_of_both;
use verified::VerifiedCertificates;
use verifier::PeerVerifier;
pub use verifier::Refusal;
pub(crate) use verifier::Verdict;
pub use web_certificate::{CertificateHash, WebCertificate, WebCertificates};
use web_session::WebServer;

/// The environment variable that rustls's `KeyLogFile` reads.
const KEY_LOG: &str = "SSLKEYLOGFILE";

/// libp2p tls spec, "ALPN".
const ALPN: &[u8] = b"libp2p";

/// The protocol of browsers: RFC 9114 section 3.1.
const H3: &[u8] = b"h3";

const INITIAL_SUITE: &str = "the suite given is TLS13_AES_128_GCM_SHA256, the only one taken";

/// The TLS configurations of one endpoint, for both roles.
pub(crate) struct Tls {
    server: Arc<rustls::ServerConfig>,
    /// The configuration of HTTP/3, for browsers.
    h3: Arc<rustls::ServerConfig>,
    certificates: Arc<WebCertificates>,
    /// The configuration of dials, except for the verifier.
    client: rustls::ClientConfig,
    /// The same of dials with HTTP/3.
    h3_client: rustls::ClientConfig,
    initial: rustls::quic::Suite,
    verified: Arc<VerifiedCertificates>,
}

impl Tls {
    /// Configure both roles for `identity`, and make its certificate if it has none yet. Web certificates are
    /// those of the time that `now` returns.
    ///
    /// When the environment variable `SSLKEYLOGFILE` names a file, the secrets of every
    /// connection are appended to it, for tools such as Wireshark.
    pub(crate) fn new(
        identity: &Identity,
        now: impl Fn() -> UnixTime + Send + Sync + 'static,
    ) -> Result<Self, IdentityError> {
        let failed = |error| IdentityError::new("cannot configure TLS", error);
        let initial = algorithms::initial_suite()
            .ok_or_else(|| IdentityError::new("cannot configure TLS", "no AES-128-GCM"))?;
        let provider = Arc::new(algorithms::provider());
        let key_log: Arc<dyn KeyLog> = Arc::new(KeyLogFile::new());
        if let Some(file) = std::env::var_os(KEY_LOG).filter(|file| !file.is_empty()) {
            tracing::warn!(
                "{KEY_LOG} is set: the keys of all connections are written to {}, and a reader of that file \
                 can decrypt their packets",
                file.display()
            );
        }
        let certificate = Arc::new(SingleCertAndKey::from(identity.certified_key()?));
        let verified = Arc::<VerifiedCertificates>::default();
        let any_peer = || Arc::new(PeerVerifier::any_peer(Arc::clone(&verified)));

        let mut server = rustls::ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(&[&TLS13])
            .map_err(failed)?
            .with_client_cert_verifier(any_peer())
            .with_cert_resolver(Arc::clone(&certificate) as _);
        complete(&mut server, ALPN, &key_log);

        let certificates = Arc::new(WebCertificates::new(identity, now));
        // A browser has no certificate of libp2p: Noise authenticates it, over a stream.
        let mut h3 = rustls::ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(&[&TLS13])
            .map_err(failed)?
            .with_no_client_auth()
            .with_cert_resolver(Arc::clone(&certificates) as _);
        complete(&mut h3, H3, &key_log);

        let dialer = || -> Result<_, IdentityError> {
            let provider = Arc::clone(&provider);
            let time = Arc::clone(&certificates) as _;
            let builder = rustls::ClientConfig::builder_with_details(provider, time)
                .with_protocol_versions(&[&TLS13])
                .map_err(failed)?;
            Ok(builder
                .dangerous()
                .with_custom_certificate_verifier(any_peer()))
        };
        let mut client = dialer()?.with_client_cert_resolver(certificate);
        complete_client(&mut client, ALPN, &key_log);
        let mut h3_client = dialer()?.with_no_client_auth();
        complete_client(&mut h3_client, H3, &key_log);

        Ok(Self {
            server: Arc::new(server),
            h3: Arc::new(h3),
            certificates,
            client,
            h3_client,
            initial,
            verified,
        })
    }

    /// The configuration of listeners; with `draft_29`, draft 29's version number counts as
    /// version 1.
    pub(crate) fn server(&self, draft_29: bool) -> Arc<dyn ServerConfig> {
        of_versions(self.quic(&self.server), draft_29)
    }

    /// The configuration of listeners that serve browsers too, with `draft_29` as for [`Self::server`].
    pub(crate) fn server_of_both(&self, draft_29: bool) -> Arc<dyn ServerConfig> {
        of_versions(server_of_both(self.quic(&self.server), self.h3()), draft_29)
    }

    /// The certificates that browsers see.
    pub(crate) fn certificates(&self) -> &Arc<WebCertificates> {
        &self.certificates
    }

    fn quic(&self, config: &Arc<rustls::ServerConfig>) -> Arc<dyn ServerConfig> {
        Arc::new(ObservedServer(Arc::new(self.quinns(config))))
    }

    /// The configuration of HTTP/3's sessions.
    fn h3(&self) -> Arc<dyn ServerConfig> {
        let web = WebServer::new(self.quinns(&self.h3), Arc::clone(&self.h3), self.initial);
        Arc::new(ObservedServer(Arc::new(web)))
    }

    fn quinns(&self, config: &Arc<rustls::ServerConfig>) -> QuicServerConfig {
        QuicServerConfig::with_initial(Arc::clone(config), self.initial)
            .unwrap_or_else(|_| unreachable!("{INITIAL_SUITE}"))
    }

    /// The configuration of one dial, and the verdict that records why the peer was refused.
    ///
    /// With an `expected` peer id, the handshake fails when another peer answers.
    pub(crate) fn client(&self, expected: Option<PeerId>) -> (Arc<dyn ClientConfig>, Verdict) {
        let (config, verdict) = self.rustls_client(expected);
        (self.quic_client(config), verdict)
    }

    /// The same of one dial with HTTP/3, to a server whose certificate has one of these hashes.
    pub(crate) fn h3_client(
        &self,
        hashes: Vec<CertificateHash>,
    ) -> (Arc<dyn ClientConfig>, Verdict) {
        let verdict = Verdict::default();
        let mut config = self.h3_client.clone();
        config
            .dangerous()
            .set_certificate_verifier(HashVerifier::new(hashes, verdict.clone()));
        (self.quic_client(Arc::new(config)), verdict)
    }

    fn quic_client(&self, config: Arc<rustls::ClientConfig>) -> Arc<dyn ClientConfig> {
        let config = QuicClientConfig::with_initial(config, self.initial)
            .unwrap_or_else(|_| unreachable!("{INITIAL_SUITE}"));
        Arc::new(ObservedClient(Arc::new(config)))
    }

    fn rustls_client(&self, expected: Option<PeerId>) -> (Arc<rustls::ClientConfig>, Verdict) {
        let verdict = Verdict::default();
        let verified = Arc::clone(&self.verified);
        let verifier = PeerVerifier::dial(expected, verdict.clone(), verified);
        let mut config = self.client.clone();
        config
            .dangerous()
            .set_certificate_verifier(Arc::new(verifier));
        (Arc::new(config), verdict)
    }
}

/// The settings of both servers.
fn complete(server: &mut rustls::ServerConfig, protocol: &[u8], key_log: &Arc<dyn KeyLog>) {
    server.alpn_protocols = vec![protocol.to_vec()];
    server.key_log = Arc::clone(key_log);
    server.session_storage = Arc::new(NoServerSessionStorage {});
    server.send_tls13_tickets = 0;
    // The client's cipher order counts: a client that puts ChaCha20 first may have no AES
    // instructions, and AES would cost it more than ChaCha20 costs us.
    server.ignore_client_order = false;
}

/// The settings of both dialers.
fn complete_client(client: &mut rustls::ClientConfig, protocol: &[u8], key_log: &Arc<dyn KeyLog>) {
    client.alpn_protocols = vec![protocol.to_vec()];
    client.key_log = Arc::clone(key_log);
    client.resumption = Resumption::disabled();
    // libp2p tls spec, "Future Extensibility": clients MUST NOT send a server name.
    client.enable_sni = false;
}

fn of_versions(server: Arc<dyn ServerConfig>, draft_29: bool) -> Arc<dyn ServerConfig> {
    if draft_29 {
        Arc::new(draft29::Draft29AsVersion1(server))
    } else {
        server
    }
}

/// The peer's host key, from a session whose handshake has completed.
///
/// The certificate was verified in the handshake. Here it is only parsed again, so that one that
/// has expired since then does not matter.
pub(crate) fn peer_public_key(session: &dyn Session) -> Option<PublicKey> {
    let chain = peer_chain(session)?;
    certificate::parse(chain.first()?).ok()?.host_key().ok()
}

/// What was negotiated and the peer's certificate, from a session whose handshake has completed.
pub(crate) fn parameters(session: &dyn Session) -> Option<TlsParameters> {
    let data = session.handshake_data()?.downcast::<TlsParameters>();
    let mut parameters = *data.ok()?;
    parameters.certificate = peer_certificate(session).map(Arc::new);
    Some(parameters)
}

/// The peer's certificate; `None` before it arrived, and of a browser, which shows none.
fn peer_certificate(session: &dyn Session) -> Option<CertificateSummary> {
    CertificateSummary::of(peer_chain(session)?.first()?).ok()
}

fn peer_chain(session: &dyn Session) -> Option<Vec<CertificateDer<'static>>> {
    let identity = session.peer_identity()?;
    let chain = identity.downcast::<Vec<CertificateDer<'static>>>();
    chain.ok().map(|chain| *chain)
}

/// Whether the handshake has agreed on HTTP/3.
pub(crate) fn is_h3(negotiated: &TlsParameters) -> bool {
    negotiated.alpn == H3
}
