//! What a listener for HTTP/3 tells its clients of RESET_STREAM_AT, and what becomes of the frame.

use std::sync::Arc;

use bytes::BytesMut;
use quinn_proto::crypto::{PacketKey, ServerConfig, Session};
use quinn_proto::transport_parameters::TransportParameters;
use quinn_proto::{Side, TransportErrorCode};
use rustls::AlertDescription;
use rustls::quic::{ClientConnection, KeyChange, Secrets, Version};

use super::forge::Key;
use super::{foreign_client, our_provider, ours, presenting_good};
use crate::tls::{H3, browser, parameters as negotiated};

/// The identifiers of the transport parameter, and its length of zero.
const IDENTIFIERS: [&[u8]; 2] = [
    &[0x1d, 0],
    &[0xc0, 0x17, 0xf7, 0x58, 0x6d, 0x2c, 0xb5, 0x71, 0],
];

fn parameters() -> Vec<u8> {
    let defaults = TransportParameters::read(Side::Client, &mut &[][..]).expect("defaults");
    let mut bytes = vec![];
    defaults.write(&mut bytes);
    bytes
}

fn server() -> Box<dyn Session> {
    let server: Arc<dyn ServerConfig> = ours().server_of_both(false);
    let parameters = TransportParameters::read(Side::Client, &mut &[][..]).expect("defaults");
    server.start_session(1, &parameters)
}

fn client() -> ClientConnection {
    let name = "localhost".try_into().expect("a name");
    ClientConnection::new(browser::config(), Version::V1, name, parameters()).expect("a client")
}

/// A whole handshake: the keys that the client seals with, and those that the server opens with.
fn agreed(
    client: &mut ClientConnection,
    server: &mut dyn Session,
) -> (Box<dyn PacketKey>, Secrets, Box<dyn PacketKey>) {
    let (mut sealing, mut opening) = (None, None);
    for _ in 0..8 {
        let mut bytes = vec![];
        if let Some(KeyChange::OneRtt { keys, next }) = client.write_hs(&mut bytes) {
            sealing = Some((keys.local.packet, next));
        }
        server.read_handshake(&bytes).expect("a good client");
        let mut bytes = vec![];
        // The last keys are those of 1-RTT packets.
        if let Some(keys) = server.write_handshake(&mut bytes) {
            opening = Some(keys.packet.remote);
        }
        client.read_hs(&bytes).expect("a good server");
    }
    assert!(!client.is_handshaking() && !server.is_handshaking());
    let (sealing, next) = sealing.expect("keys");
    (Box::new(sealing), next, opening.expect("keys"))
}

/// What the server reads of a packet.
fn passed(sealing: &dyn PacketKey, opening: &dyn PacketKey, payload: &[u8]) -> Vec<u8> {
    let header = [0x40, 1, 2, 3];
    let mut packet = [&header[..], payload, &vec![0; sealing.tag_len()]].concat();
    sealing.encrypt(7, &mut packet, header.len());
    let mut sealed = BytesMut::from(&packet[header.len()..]);
    opening
        .decrypt(7, &header, &mut sealed)
        .expect("the client's packet");
    sealed.to_vec()
}

#[test]
fn a_client_learns_that_the_frame_is_taken_and_it_is_replaced() {
    let (mut client, mut server) = (client(), server());
    let (sealing, mut next, opening) = agreed(&mut client, &mut *server);
    let told = client.quic_transport_parameters().expect("parameters");
    for identifier in IDENTIFIERS {
        assert!(told.windows(identifier.len()).any(|at| at == identifier));
    }
    // The rest is still what quinn-proto's own sessions send.
    TransportParameters::read(Side::Client, &mut &told[..]).expect("parameters");
    assert_eq!(negotiated(&*server).expect("parameters").alpn, H3);
    assert!(server.transport_parameters().expect("good ones").is_some());

    let before = [0x01, 0x24, 8, 1, 9, 3, 0x0a, 4, 1, 0x24];
    let after = [0x01, 0x04, 8, 1, 9, 0, 0x0a, 4, 1, 0x24];
    assert_eq!(passed(&*sealing, &*opening, &before), after);
    // After a key update, too.
    for _ in 0..3 {
        let sealing = next.next_packet_keys().local;
        let opening = server.next_1rtt_keys().expect("keys").remote;
        assert_eq!(passed(&sealing, &*opening, &before), after);
    }
}

/// Dialers of libp2p would get a promise that quinn-proto breaks.
#[test]
fn libp2ps_dialers_are_told_nothing_of_it() {
    let mut server = server();
    let certificate = presenting_good(&Key::p256());
    let config = foreign_client(our_provider(), Some(certificate));
    let name = "libp2p.invalid".try_into().expect("a name");
    let mut client =
        ClientConnection::new(config, Version::V1, name, parameters()).expect("a client");
    agreed(&mut client, &mut *server);
    let told = client.quic_transport_parameters().expect("parameters");
    assert!(!told.windows(9).any(|at| at == IDENTIFIERS[1]));
}

#[test]
fn a_refusal_has_the_alert_of_tls() {
    let mut server = server();
    let mut bytes = vec![];
    client().write_hs(&mut bytes);
    // The first cipher suite, after version, random and an empty session id: none of the offered ones is left.
    let suites = 4 + 2 + 32 + 1;
    let count = usize::from(u16::from_be_bytes([bytes[suites], bytes[suites + 1]]));
    bytes[suites + 2..suites + 2 + count].fill(0x5a);
    let error = server.read_handshake(&bytes).expect_err("no cipher suite");
    let alert = TransportErrorCode::crypto(AlertDescription::HandshakeFailure.into());
    assert_eq!(error.code, alert);
}
