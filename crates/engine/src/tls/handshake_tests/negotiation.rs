//! The negotiated parameters: protocol, key exchange, cipher, no resumption, no server name.

use std::sync::Arc;

use libp2p_identity::Keypair;
use quinn_proto::Side;
use quinn_proto::crypto::{ServerConfig, rustls::QuicServerConfig};
use quinn_proto::transport_parameters::TransportParameters;
use rustls::crypto::CryptoProvider;
use rustls::quic::Connection;
use rustls::{AlertDescription, CipherSuite, HandshakeKind, NamedGroup};

use super::forge::{Forge, Key};
use super::{
    Failure, V1, connection_pair, dial, foreign_client, foreign_server, named_pair, ours,
    presenting_good, run_sessions,
};
use crate::tls::{
    CertificateKey, CertificateSummary, TlsParameters, algorithms,
    observed_session::ObservedServer, parameters,
};

/// A provider that differs from ours in its key exchange groups.
fn provider_with(groups: &[NamedGroup]) -> Arc<CryptoProvider> {
    let mut provider = algorithms::provider();
    provider
        .kx_groups
        .retain(|group| groups.contains(&group.name()));
    Arc::new(provider)
}

/// libp2p tls spec, "ALPN"; RFC 9001 section 8.1 says the same of QUIC, for both roles.
#[test]
fn another_protocol_or_none_is_refused() {
    let refused = Some(AlertDescription::NoApplicationProtocol);
    for protocols in [vec![b"h3".to_vec()], vec![]] {
        let mut client = (*dial(&ours())).clone();
        client.alpn_protocols.clone_from(&protocols);
        let failure = connection_pair(Arc::new(client), Arc::clone(&ours().server)).failure();
        assert_eq!((failure.by_server, failure.alert), (true, refused));
    }
    // A server that answers without choosing a protocol.
    let mut server = (*ours().server).clone();
    server.alpn_protocols = vec![];
    let mut pair = connection_pair(dial(&ours()), Arc::new(server));
    assert_eq!(pair.failure().alert, refused);
}

#[test]
fn between_ourselves_key_exchange_is_post_quantum_and_takes_one_round_trip() {
    let mut pair = connection_pair(dial(&ours()), Arc::clone(&ours().server));
    pair.handshake().expect("a handshake");
    assert_eq!(pair.group(), NamedGroup::X25519MLKEM768);
    assert_eq!(pair.server.handshake_kind(), Some(HandshakeKind::Full));

    // A ClientHello that fills more than one Initial packet, but never more than two.
    let (_, hello) = pair.sent[0];
    assert!((1200..2 * 1150).contains(&hello), "{hello} bytes");
}

#[test]
fn a_peer_without_ml_kem_costs_no_further_round_trip() {
    let older = provider_with(&[NamedGroup::X25519, NamedGroup::secp256r1]);
    let certificate = presenting_good(&Key::p256());
    let server = foreign_server(Arc::clone(&older), Arc::clone(&certificate));
    let client = foreign_client(older, Some(certificate));
    for (client, server) in [
        (dial(&ours()), server),
        (client, Arc::clone(&ours().server)),
    ] {
        let mut pair = connection_pair(client, server);
        pair.handshake().expect("a handshake");
        assert_eq!(pair.group(), NamedGroup::X25519);
        assert_eq!(pair.server.handshake_kind(), Some(HandshakeKind::Full));
    }
}

#[test]
fn a_peer_with_only_p256_is_asked_to_try_again() {
    let only = provider_with(&[NamedGroup::secp256r1]);
    let certificate = presenting_good(&Key::p256());
    let server = foreign_server(only, certificate);
    let mut pair = connection_pair(dial(&ours()), server);
    pair.handshake().expect("a handshake");
    assert_eq!(pair.group(), NamedGroup::secp256r1);
    let kind = pair.server.handshake_kind();
    assert_eq!(kind, Some(HandshakeKind::FullWithHelloRetryRequest));
}

#[test]
fn the_cipher_follows_the_processor_of_the_dialer() {
    let mut pair = connection_pair(dial(&ours()), Arc::clone(&ours().server));
    pair.handshake().expect("a handshake");
    let expected = match algorithms::has_aes_instructions() {
        true => CipherSuite::TLS13_AES_128_GCM_SHA256,
        false => CipherSuite::TLS13_CHACHA20_POLY1305_SHA256,
    };
    assert_eq!(pair.suite(), expected);

    // A dialer that lists ChaCha20 first gets it.
    let mut provider = algorithms::provider();
    provider.cipher_suites = algorithms::WITHOUT_AES.to_vec();
    let certificate = presenting_good(&Key::p256());
    let client = foreign_client(Arc::new(provider), Some(certificate));
    let mut pair = connection_pair(client, Arc::clone(&ours().server));
    pair.handshake().expect("a handshake");
    assert_eq!(pair.suite(), CipherSuite::TLS13_CHACHA20_POLY1305_SHA256);
}

/// What both ends of two of quinn-proto's sessions tell, which must be the same.
fn negotiated(server: Arc<rustls::ServerConfig>) -> TlsParameters {
    let tls = ours();
    let server = QuicServerConfig::with_initial(server, tls.initial).expect("the initial suite");
    let server = Arc::new(ObservedServer(Arc::new(server)));
    let of = TransportParameters::read(Side::Client, &mut &[][..]).expect("defaults");
    let (client, _) = tls.client(None);
    let mut client = client.start_session(V1, "libp2p", &of).expect("a session");
    let mut server = server.start_session(V1, &of);
    assert_eq!(parameters(&*client), None, "before the handshake");
    run_sessions(&mut *client, &mut *server);
    let [ours, theirs] =
        [client, server].map(|session| parameters(&*session).expect("a finished handshake"));
    let certificate = ours.certificate.clone();
    assert_ne!(certificate, theirs.certificate, "each sees the other's");
    assert_eq!(
        ours,
        TlsParameters {
            certificate,
            ..theirs
        }
    );
    ours
}

#[test]
fn both_ends_tell_what_was_negotiated() {
    let ours = negotiated(Arc::clone(&ours().server));
    let cipher = match algorithms::has_aes_instructions() {
        true => "TLS_AES_128_GCM_SHA256",
        false => "TLS_CHACHA20_POLY1305_SHA256",
    };
    assert_eq!(ours.cipher_suite, cipher);
    assert_eq!(ours.key_exchange, "X25519MLKEM768");
    assert_eq!(ours.alpn, b"libp2p");
}

/// A forged certificate begins in 2020, ends in 2120 and has the serial number 1 234 567 890.
#[test]
fn the_certificate_of_a_peer_is_told_with_its_key() {
    for (key, told) in [
        (Key::p256(), "ECDSA on P-256"),
        (Key::p384(), "ECDSA on P-384"),
        (Key::p521(), "ECDSA on P-521"),
        (Key::ed25519(), "Ed25519"),
        (Key::rsa(), "RSA of 2048 bits"),
    ] {
        let server = foreign_server(Arc::new(algorithms::provider()), presenting_good(&key));
        let certificate = negotiated(server).certificate.expect("a certificate");
        assert_eq!(certificate.key.to_string(), told);
        assert_eq!(certificate.serial, 1_234_567_890_u32.to_be_bytes());
        assert_eq!(certificate.not_before, 1_577_836_800);
        assert_eq!(certificate.not_after, 4_733_510_400);
    }
}

/// Certificates of web servers lack the libp2p extension.
#[test]
fn any_certificate_is_summarized_and_a_damaged_one_is_not() {
    let host = Keypair::generate_ed25519();
    let key = Key::secp256k1();
    let mut forge = Forge::new(&key, &host);
    forge.extensions.clear();
    let whole = forge.build();
    let summary = CertificateSummary::of(&whole).expect("a certificate");
    assert_eq!(summary.key, CertificateKey::Other);
    assert_eq!(summary.key.to_string(), "unknown");
    for end in 0..whole.len() {
        assert!(CertificateSummary::of(&whole[..end]).is_err(), "{end}");
    }
}

#[test]
fn after_a_retry_request_both_ends_tell_the_second_group() {
    let mut provider = algorithms::provider();
    provider
        .kx_groups
        .retain(|group| group.name() == NamedGroup::secp256r1);
    provider
        .cipher_suites
        .retain(|suite| suite.suite() == CipherSuite::TLS13_AES_256_GCM_SHA384);
    let certificate = presenting_good(&Key::p256());
    let found = negotiated(foreign_server(Arc::new(provider), certificate));
    assert_eq!(found.key_exchange, "secp256r1");
    assert_eq!(found.cipher_suite, "TLS_AES_256_GCM_SHA384");
}

/// Resumed, a peer would not have to show its certificate again.
#[test]
fn no_handshake_is_ever_resumed() {
    let (client, server) = (dial(&ours()), Arc::clone(&ours().server));
    for _ in 0..2 {
        let mut pair = connection_pair(Arc::clone(&client), Arc::clone(&server));
        pair.handshake().expect("a handshake");
        assert_eq!(pair.server.handshake_kind(), Some(HandshakeKind::Full));
        let Connection::Client(client) = &pair.client else {
            unreachable!("it was made as a client");
        };
        assert_eq!(client.tls13_tickets_received(), 0);
    }
}

/// The server name that our client is configured with.
const NAME: &str = "name.invalid";

/// The client's first message with `name` in place of any name in it, and our server's answer.
fn hello(config: Arc<rustls::ClientConfig>, name: &str) -> (Vec<u8>, Result<(), Failure>) {
    let mut pair = named_pair(config, Arc::clone(&ours().server), NAME);
    let mut bytes = vec![];
    assert!(pair.client.write_hs(&mut bytes).is_none());
    assert_eq!(name.len(), NAME.len(), "nothing else may move");
    let place = bytes
        .windows(NAME.len())
        .position(|part| part == NAME.as_bytes());
    if let Some(place) = place {
        bytes[place..place + name.len()].copy_from_slice(name.as_bytes());
    }
    let answer = pair.server.read_hs(&bytes).map_err(|error| Failure {
        by_server: true,
        alert: pair.server.alert(),
        text: error.to_string(),
    });
    (bytes, answer)
}

/// libp2p tls spec, "Future Extensibility".
#[test]
fn no_server_name_is_sent_and_any_is_taken() {
    let sent = |bytes: &[u8], name: &str| {
        bytes
            .windows(name.len())
            .any(|part| part == name.as_bytes())
    };

    let (bytes, answer) = hello(dial(&ours()), NAME);
    assert!(!sent(&bytes, NAME));
    answer.expect("an answer");

    let mut client = (*dial(&ours())).clone();
    client.enable_sni = true;
    let client = Arc::new(client);
    // msquic sends the address it dials, which RFC 6066 forbids.
    for name in [NAME, "192.168.77.5", "2001:db8::12"] {
        let (bytes, answer) = hello(Arc::clone(&client), name);
        assert!(sent(&bytes, name));
        answer.expect("an answer");
    }
}

/// A simulation by seed needs every message to be as long in each run.
#[cfg(feature = "simulation")]
#[test]
fn deterministic_identities_make_messages_of_one_length() {
    let lengths = || {
        use crate::identity::Identity;
        let (a, b) = (Identity::deterministic(1), Identity::deterministic(2));
        assert_ne!(a.peer_id(), b.peer_id());
        let mut pair = connection_pair(dial(&super::tls(&a)), Arc::clone(&super::tls(&b).server));
        pair.handshake().expect("a handshake");
        let certificate = a.certified_key().expect("a certificate").cert.clone();
        (certificate, pair.sent)
    };
    let first = lengths();
    for _ in 0..20 {
        assert_eq!(lengths(), first);
    }
}

#[test]
fn a_server_name_that_is_no_name_is_refused_by_rustls() {
    let mut client = (*dial(&ours())).clone();
    client.enable_sni = true;
    let (_, answer) = hello(Arc::new(client), "not a name!!");
    let failure = answer.expect_err("a refusal");
    assert_eq!(failure.alert, Some(AlertDescription::IllegalParameter));
}
