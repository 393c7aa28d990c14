//! TLS handshakes in memory, as QUIC carries them: between our own endpoints, and with peers that
//! are older, different, or wrong in one way. This file carries the messages; `peers` tests
//! authentication, `negotiation` the negotiated parameters, `choice` a server of two protocols, and `web` that
//! of HTTP/3.

mod choice;
mod negotiation;
mod peers;
mod web;

use std::sync::Arc;

use libp2p_identity::Keypair;
use quinn_proto::crypto::Session;
use rustls::client::danger::ServerCertVerifier;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName, UnixTime};
use rustls::quic::{ClientConnection, Connection, ServerConnection, Version};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::version::TLS13;
use rustls::{AlertDescription, CipherSuite, NamedGroup};

use super::verifier::PeerVerifier;
use super::{ALPN, Tls, algorithms};
use crate::identity::Identity;

#[path = "../../../tests/forge/mod.rs"]
mod forge;
use forge::{Forge, Key};

/// Why a handshake in memory failed: the side that aborted, its alert and its message.
#[derive(Debug)]
struct Failure {
    by_server: bool,
    alert: Option<AlertDescription>,
    text: String,
}

/// Both ends of a handshake.
struct Pair {
    client: Connection,
    server: Connection,
    /// The lengths of the messages that the client and the server sent, in order.
    sent: Vec<(bool, usize)>,
}

fn connection_pair(client: Arc<rustls::ClientConfig>, server: Arc<rustls::ServerConfig>) -> Pair {
    named_pair(client, server, "libp2p.invalid")
}

fn named_pair(
    client: Arc<rustls::ClientConfig>,
    server: Arc<rustls::ServerConfig>,
    name: &'static str,
) -> Pair {
    let name = ServerName::try_from(name).expect("a name");
    Pair {
        client: ClientConnection::new(client, Version::V1, name, b"parameters".to_vec())
            .expect("a client")
            .into(),
        server: ServerConnection::new(server, Version::V1, b"parameters".to_vec())
            .expect("a server")
            .into(),
        sent: vec![],
    }
}

impl Pair {
    fn handshake(&mut self) -> Result<(), Failure> {
        let mut idle = 0;
        let mut from_server = false;
        while idle < 2 {
            let (from, to) = match from_server {
                false => (&mut self.client, &mut self.server),
                true => (&mut self.server, &mut self.client),
            };
            idle += 1;
            loop {
                let mut bytes = vec![];
                let keys_changed = from.write_hs(&mut bytes).is_some();
                if !bytes.is_empty() {
                    idle = 0;
                    self.sent.push((from_server, bytes.len()));
                    to.read_hs(&bytes).map_err(|error| Failure {
                        by_server: !from_server,
                        alert: to.alert(),
                        text: error.to_string(),
                    })?;
                } else if !keys_changed {
                    break;
                }
            }
            from_server = !from_server;
        }
        assert!(!self.client.is_handshaking() && !self.server.is_handshaking());
        Ok(())
    }

    fn failure(&mut self) -> Failure {
        self.handshake().expect_err("a failure")
    }

    fn group(&self) -> NamedGroup {
        let group = self.client.negotiated_key_exchange_group();
        group.expect("a finished handshake").name()
    }

    fn suite(&self) -> CipherSuite {
        let suite = self.client.negotiated_cipher_suite();
        suite.expect("a finished handshake").suite()
    }
}

/// QUIC version 1.
const V1: u32 = 1;

/// Run two of quinn-proto's sessions against each other.
fn run_sessions(client: &mut dyn Session, server: &mut dyn Session) {
    for _ in 0..4 {
        pass(client, server);
        pass(server, client);
    }
}

fn pass(from: &mut dyn Session, to: &mut dyn Session) {
    loop {
        let mut bytes = vec![];
        let keys_changed = from.write_handshake(&mut bytes).is_some();
        if !bytes.is_empty() {
            to.read_handshake(&bytes).expect("a good message");
        } else if !keys_changed {
            return;
        }
    }
}

fn tls(identity: &Identity) -> Tls {
    Tls::new(identity, UnixTime::now).expect("a configuration")
}

fn ours() -> Tls {
    tls(&Identity::generate())
}

fn dial(tls: &Tls) -> Arc<rustls::ClientConfig> {
    tls.rustls_client(None).0
}

fn our_provider() -> Arc<CryptoProvider> {
    Arc::new(algorithms::provider())
}

/// A peer that presents this chain.
fn presenting(chain: Vec<Vec<u8>>, key: &Key) -> Arc<SingleCertAndKey> {
    let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.pkcs8.clone()));
    let key = rustls::crypto::aws_lc_rs::sign::any_supported_type(&key).expect("a key");
    let chain = chain.into_iter().map(CertificateDer::from).collect();
    Arc::new(SingleCertAndKey::from(CertifiedKey::new(chain, key)))
}

/// A peer that presents a certificate with nothing wrong.
fn presenting_good(key: &Key) -> Arc<SingleCertAndKey> {
    let host = Keypair::generate_ed25519();
    presenting(vec![Forge::new(key, &host).build()], key)
}

fn foreign_server(
    provider: Arc<CryptoProvider>,
    certificate: Arc<SingleCertAndKey>,
) -> Arc<rustls::ServerConfig> {
    let mut config = rustls::ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&TLS13])
        .expect("TLS 1.3")
        .with_client_cert_verifier(Arc::new(PeerVerifier::any_peer(Arc::default())))
        .with_cert_resolver(certificate);
    config.alpn_protocols = vec![ALPN.to_vec()];
    Arc::new(config)
}

fn foreign_client(
    provider: Arc<CryptoProvider>,
    certificate: Option<Arc<SingleCertAndKey>>,
) -> Arc<rustls::ClientConfig> {
    let verifier: Arc<dyn ServerCertVerifier> = Arc::new(PeerVerifier::any_peer(Arc::default()));
    let builder = rustls::ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&TLS13])
        .expect("TLS 1.3")
        .dangerous()
        .with_custom_certificate_verifier(verifier);
    let mut config = match certificate {
        Some(certificate) => builder.with_client_cert_resolver(certificate),
        None => builder.with_no_client_auth(),
    };
    config.alpn_protocols = vec![ALPN.to_vec()];
    Arc::new(config)
}
