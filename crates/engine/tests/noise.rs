//! The Noise handshake with this engine's identities: every type of host key, on both sides.
#![allow(clippy::unwrap_used)]

mod forge;

use aws_lc_rs::{rsa::KeySize, signature};
use libp2p_identity::Keypair;
use libp2p_quic_engine::{Identity, tls::WebCertificates, tls::certificate::UnixTime};
use libp2p_quic_noise::{Initiator, LONGEST_MESSAGE, Responder, payload::MOST_ENTRIES};

fn run(client: &mut Initiator<Identity>, server: &mut Responder<Identity>) {
    for _ in 0..2 {
        while let Some(bytes) = client.poll_transmit() {
            server.receive(&bytes).unwrap();
        }
        while let Some(bytes) = server.poll_transmit() {
            client.receive(&bytes).unwrap();
        }
    }
}

#[test]
fn every_type_of_host_key_is_proven() {
    let identities = [
        Keypair::generate_ed25519().to_protobuf_encoding().unwrap(),
        Keypair::generate_secp256k1()
            .to_protobuf_encoding()
            .unwrap(),
        Keypair::generate_ecdsa().to_protobuf_encoding().unwrap(),
        forge::rsa_host_protobuf(KeySize::Rsa2048),
        forge::large_rsa_host_protobuf(),
        forge::ecdsa_host_protobuf(&signature::ECDSA_P384_SHA384_ASN1_SIGNING),
        forge::ecdsa_host_protobuf(&signature::ECDSA_P521_SHA512_ASN1_SIGNING),
    ]
    .map(|key| Identity::from_protobuf(&key).unwrap());
    for (dialer, listener) in identities.iter().zip(identities.iter().cycle().skip(1)) {
        let now = UnixTime::now();
        let certificates = WebCertificates::new(listener, UnixTime::now);
        let dialed = certificates.advertised(now).unwrap();
        let confirmed = certificates.confirmed(now).unwrap();
        let vectors = |hashes: &[[u8; 34]]| hashes.iter().map(|hash| hash.to_vec()).collect();
        let mut client =
            Initiator::new(dialer.clone(), Some(listener.peer_id()), vectors(&dialed)).unwrap();
        let mut server = Responder::new(listener.clone(), vectors(&confirmed)).unwrap();
        run(&mut client, &mut server);
        assert_eq!(client.peer().unwrap().key, *listener.public_key());
        assert_eq!(server.peer().unwrap().key, *dialer.public_key());
        assert_eq!(server.peer().unwrap().id, dialer.peer_id());
    }
}

#[test]
fn the_longest_identity_fits_a_message() {
    let identity = Identity::from_protobuf(&forge::large_rsa_host_protobuf()).unwrap();
    let hashes = vec![vec![7; 34]; MOST_ENTRIES];
    let mut client = Initiator::new(Identity::generate(), None, hashes.clone()).unwrap();
    let mut server = Responder::new(identity.clone(), hashes).unwrap();
    server.receive(&client.poll_transmit().unwrap()).unwrap();
    let second = server.poll_transmit().unwrap();
    assert!(
        (2700..LONGEST_MESSAGE).contains(&second.len()),
        "{}",
        second.len()
    );
    client.receive(&second).unwrap();
    assert_eq!(client.peer().unwrap().id, identity.peer_id());
}
