//! A server of libp2p and HTTP/3: which of the two a client gets, by its offer and however its first
//! message is divided, and that a client of neither is refused as by a server of libp2p alone.

use std::sync::Arc;

use quinn_proto::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use quinn_proto::crypto::{ClientConfig, ServerConfig, Session};
use quinn_proto::transport_parameters::TransportParameters;
use quinn_proto::{ConnectionId, Side, TransportError};
use rustls::crypto::CryptoProvider;
use rustls::version::TLS13;
use rustls::{AlertDescription, NamedGroup};

use super::forge::Key;
use super::{foreign_client, our_provider, ours, presenting_good};
use crate::tls::{
    ALPN, H3, ObservedClient, ObservedServer, algorithms, parameters as negotiated,
    peer_public_key, server_of_both,
};

/// QUIC version 1.
const V1: u32 = 1;

/// What comes before a message's body.
const HEADER: usize = 4;

/// The largest ClientHello that is held back.
const LONGEST: usize = 8192;

fn server(config: rustls::ServerConfig) -> Arc<dyn ServerConfig> {
    let initial = algorithms::initial_suite().expect("AES-128-GCM");
    let config = QuicServerConfig::with_initial(Arc::new(config), initial).expect("the one suite");
    Arc::new(ObservedServer(Arc::new(config)))
}

/// As a browser wants it: no certificate is asked for.
fn h3_server(provider: Arc<CryptoProvider>) -> Arc<dyn ServerConfig> {
    let mut config = rustls::ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&TLS13])
        .expect("TLS 1.3")
        .with_no_client_auth()
        .with_cert_resolver(presenting_good(&Key::p256()));
    config.alpn_protocols = vec![H3.to_vec()];
    server(config)
}

fn both() -> Arc<dyn ServerConfig> {
    server_of_both(ours().server(false), h3_server(our_provider()))
}

/// A client with these protocols, with a libp2p certificate or without any.
fn client(protocols: &[&[u8]], has_certificate: bool) -> Box<dyn Session> {
    let certificate = has_certificate.then(|| presenting_good(&Key::p256()));
    let mut config = (*foreign_client(our_provider(), certificate)).clone();
    config.alpn_protocols = protocols.iter().map(|name| name.to_vec()).collect();
    let initial = algorithms::initial_suite().expect("AES-128-GCM");
    let config = QuicClientConfig::with_initial(Arc::new(config), initial).expect("the one suite");
    Arc::new(ObservedClient(Arc::new(config)))
        .start_session(V1, "libp2p.invalid", &parameters())
        .expect("a session")
}

fn parameters() -> TransportParameters {
    TransportParameters::read(Side::Client, &mut &[][..]).expect("defaults")
}

fn start(server: &Arc<dyn ServerConfig>) -> Box<dyn Session> {
    Arc::clone(server).start_session(V1, &parameters())
}

fn hello_of(mut client: Box<dyn Session>) -> Vec<u8> {
    let mut bytes = vec![];
    assert!(client.write_handshake(&mut bytes).is_none());
    bytes
}

/// Carry one side's messages in parts of `size` bytes.
fn pass(from: &mut dyn Session, to: &mut dyn Session, size: usize) -> Result<(), TransportError> {
    loop {
        let mut bytes = vec![];
        let keys_changed = from.write_handshake(&mut bytes).is_some();
        for part in bytes.chunks(size) {
            to.read_handshake(part)?;
        }
        if bytes.is_empty() && !keys_changed {
            return Ok(());
        }
    }
}

/// A whole handshake, the client's messages in parts of `size` bytes.
fn run(
    client: &mut dyn Session,
    server: &mut dyn Session,
    size: usize,
) -> Result<(), TransportError> {
    for _ in 0..4 {
        pass(client, server, size)?;
        pass(server, client, usize::MAX)?;
    }
    assert!(!client.is_handshaking() && !server.is_handshaking());
    Ok(())
}

fn protocol(session: &dyn Session) -> Option<Vec<u8>> {
    negotiated(session).map(|negotiated| negotiated.alpn)
}

#[test]
fn each_client_gets_its_protocol() {
    let server = both();
    for (offer, is_libp2p) in [
        (&[ALPN][..], true),
        (&[H3], false),
        (&[ALPN, H3], true),
        (&[H3, ALPN], true),
        (&[b"h2", H3], false),
    ] {
        for size in [1, 7, 1200, usize::MAX] {
            let (mut client, mut server) = (client(offer, is_libp2p), start(&server));
            run(&mut *client, &mut *server, size).expect("a handshake");
            let expected = Some(if is_libp2p { ALPN } else { H3 }.to_vec());
            assert_eq!(protocol(&*server), expected);
            assert_eq!(protocol(&*client), expected);
            assert_eq!(peer_public_key(&*server).is_some(), is_libp2p);
            assert!(server.transport_parameters().is_ok_and(|got| got.is_some()));
            assert!(server.next_1rtt_keys().is_some());
            let export = |session: &dyn Session| {
                let mut secret = [0; 32];
                session
                    .export_keying_material(&mut secret, b"label", b"")
                    .expect("a short secret");
                secret
            };
            assert_eq!(export(&*server), export(&*client));
        }
    }
}

#[test]
fn a_hello_may_be_divided_anywhere() {
    let server = both();
    for offer in [ALPN, H3] {
        let hello = hello_of(client(&[offer], offer == ALPN));
        assert!(hello.len() > 1200, "ML-KEM's share makes it long");
        for end in 1..hello.len() {
            let mut session = start(&server);
            let mut answer = vec![];
            let (begin, rest) = hello.split_at(end);
            assert!(!session.read_handshake(begin).expect("a good part"));
            assert!(session.write_handshake(&mut answer).is_none() && answer.is_empty());
            assert!(session.is_handshaking() && session.handshake_data().is_none());
            assert!(
                session
                    .transport_parameters()
                    .is_ok_and(|got| got.is_none())
            );
            assert!(session.read_handshake(rest).expect("the whole"));
            assert!(session.write_handshake(&mut answer).is_some() && !answer.is_empty());
            assert_eq!(protocol(&*session).as_deref(), Some(offer));
        }
    }
}

#[test]
fn a_retried_hello_stays_with_the_choice() {
    let mut provider = algorithms::provider();
    provider
        .kx_groups
        .retain(|group| group.name() == NamedGroup::secp256r1);
    let server = server_of_both(ours().server(false), h3_server(Arc::new(provider)));
    let (mut client, mut server) = (client(&[H3], false), start(&server));
    run(&mut *client, &mut *server, 1000).expect("a handshake");
    assert_eq!(protocol(&*server).as_deref(), Some(H3));
}

#[test]
fn libp2p_demands_a_certificate_whatever_else_is_offered() {
    let server = both();
    for offer in [&[ALPN][..], &[H3, ALPN]] {
        let error = run(&mut *client(offer, false), &mut *start(&server), 1200)
            .expect_err("no certificate");
        let alert = AlertDescription::CertificateRequired;
        assert_eq!(u64::from(error.code), 0x100 + u64::from(u8::from(alert)));
    }
}

/// What a server says to these bytes, in parts of `size`.
fn answer(server: &Arc<dyn ServerConfig>, bytes: &[u8], size: usize) -> String {
    let mut session = start(server);
    for part in bytes.chunks(size) {
        if let Err(error) = session.read_handshake(part) {
            return error.to_string();
        }
    }
    let mut written = vec![];
    let keys_changed = session.write_handshake(&mut written).is_some();
    format!("{keys_changed} {}", written.len())
}

#[test]
fn a_client_of_neither_is_refused_as_by_libp2p_alone() {
    let identity = crate::identity::Identity::generate();
    let alone = super::tls(&identity).server(false);
    let both = server_of_both(alone.clone(), h3_server(our_provider()));
    let good = hello_of(client(&[H3], false));
    let with = |place: usize, value: u8| {
        let mut bytes = good.clone();
        bytes[place] = value;
        bytes
    };
    let mut refused = 0;
    for bytes in [
        hello_of(client(&[], false)),
        hello_of(client(&[b"h2"], true)),
        hello_of(client(&[b"libp2", b"h3-29"], false)),
        // The lengths of the session id, the suites and the extensions.
        with(HEADER + 34, 0xff),
        with(HEADER + 36, 0xff),
        with(HEADER + 46, 0xff),
        // Another message, and one of 16 MiB.
        with(0, 2),
        with(1, 0xff),
        b"\x14\0\0\0".to_vec(),
        b"GET / HTTP/1.1\r\n\r\n".to_vec(),
        vec![0; 9000],
        vec![1; 9000],
        vec![],
        good[..good.len() - 1].to_vec(),
    ] {
        for size in [1, 1000, usize::MAX] {
            let expected = answer(&alone, &bytes, size);
            assert_eq!(
                answer(&both, &bytes, size),
                expected,
                "{}",
                hex::encode(&bytes)
            );
            refused += usize::from(expected != "false 0");
        }
    }
    assert!(refused > 20, "only {refused} were errors");
}

/// A ClientHello of exactly this length that offers `h3` among others.
fn hello_of_length(length: usize) -> Vec<u8> {
    let shorter = hello_of(client(&[H3], false)).len();
    let mut missing = length - shorter;
    let mut names = vec![H3.to_vec()];
    while missing > 0 {
        // A name needs a byte for its length and one at least.
        let next = match missing {
            ..=256 => missing,
            257 => 255,
            _ => 256,
        };
        names.push(vec![b'x'; next - 1]);
        missing -= next;
    }
    let names: Vec<&[u8]> = names.iter().map(Vec::as_slice).collect();
    let hello = hello_of(client(&names, false));
    assert_eq!(hello.len(), length);
    hello
}

#[test]
fn no_more_than_8_kib_are_held_back() {
    let server = both();
    for (length, is_served) in [(LONGEST, true), (LONGEST + 1, false), (3 * LONGEST, false)] {
        for size in [1, 1200, usize::MAX] {
            let answer = answer(&server, &hello_of_length(length), size);
            assert_eq!(answer.starts_with("true"), is_served, "{length}: {answer}");
        }
    }
}

#[test]
fn what_precedes_the_choice_is_that_of_libp2p() {
    let identity = crate::identity::Identity::generate();
    for draft_29 in [false, true] {
        let alone = super::tls(&identity).server(draft_29);
        let both = server_of_both(alone.clone(), h3_server(our_provider()));
        let cid = ConnectionId::new(&[7; 8]);
        for version in [V1, crate::tls::DRAFT_29] {
            let tag = |server: &Arc<dyn ServerConfig>| server.retry_tag(version, &cid, b"packet");
            assert_eq!(tag(&both), tag(&alone));
            let sealed = |server: &Arc<dyn ServerConfig>| {
                let keys = server
                    .initial_keys(version, &cid)
                    .unwrap_or_else(|_| panic!("version {version:#x} has keys"));
                let mut packet = vec![0; 4 + 16 + 16];
                keys.packet.local.encrypt(0, &mut packet, 4);
                packet
            };
            assert_eq!(sealed(&both), sealed(&alone));
        }
        assert!(both.initial_keys(0x0a0a_0a0a, &cid).is_err());
    }
}
