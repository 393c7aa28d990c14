//! Whole handshakes between the two sides, with libp2p-identity's keys, and with peers that are wrong in one way.
#![allow(clippy::unwrap_used)]

use libp2p_identity::{Keypair, PeerId, PublicKey};
use libp2p_quic_noise::{BoxError, HostKeys, Initiator, NoiseError, Responder, payload::Payload};
use snow::{Builder, HandshakeState};

const PROTOCOL: &str = "Noise_XX_25519_ChaChaPoly_SHA256";

/// A host key; a dishonest peer names another one than it signs with.
#[derive(Clone)]
struct Keys {
    signs: Keypair,
    named: PublicKey,
}

impl Keys {
    fn new() -> Self {
        let signs = Keypair::generate_ed25519();
        Self {
            named: signs.public(),
            signs,
        }
    }

    fn id(&self) -> PeerId {
        self.named.to_peer_id()
    }
}

impl HostKeys for Keys {
    type PublicKey = PublicKey;
    type PeerId = PeerId;

    fn encoded_public_key(&self) -> Vec<u8> {
        self.named.encode_protobuf()
    }

    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, BoxError> {
        Ok(self.signs.sign(message)?)
    }

    fn read(protobuf: &[u8]) -> Result<PublicKey, BoxError> {
        Ok(PublicKey::try_decode_protobuf(protobuf)?)
    }

    fn verify(key: &PublicKey, message: &[u8], signature: &[u8]) -> bool {
        key.verify(message, signature)
    }

    fn peer_id_of(key: &PublicKey) -> PeerId {
        key.to_peer_id()
    }
}

fn hash(value: u8) -> Vec<u8> {
    [&[0x12, 0x20][..], &[value; 32]].concat()
}

fn initiator(keys: &Keys, expected: Option<&Keys>, dialed: &[u8]) -> Initiator<Keys> {
    let dialed = dialed.iter().copied().map(hash).collect();
    Initiator::new(keys.clone(), expected.map(Keys::id), dialed).unwrap()
}

fn responder(keys: &Keys, confirmed: &[u8]) -> Responder<Keys> {
    let confirmed = confirmed.iter().copied().map(hash).collect();
    Responder::new(keys.clone(), confirmed).unwrap()
}

/// Carry all messages in parts of `size` bytes.
fn run(
    client: &mut Initiator<Keys>,
    server: &mut Responder<Keys>,
    size: usize,
) -> Result<(), NoiseError> {
    loop {
        let mut is_idle = true;
        if let Some(bytes) = client.poll_transmit() {
            is_idle = false;
            for part in bytes.chunks(size) {
                assert_eq!(server.receive(part)?, part.len());
            }
        }
        if let Some(bytes) = server.poll_transmit() {
            is_idle = false;
            for part in bytes.chunks(size) {
                assert_eq!(client.receive(part)?, part.len());
            }
        }
        if is_idle {
            return Ok(());
        }
    }
}

#[test]
fn both_sides_know_each_other() {
    let (dialer, listener) = (Keys::new(), Keys::new());
    for size in [1, 2, 7, usize::MAX] {
        for expected in [Some(&listener), None] {
            let mut client = initiator(&dialer, expected, &[2, 1]);
            let mut server = responder(&listener, &[0, 1, 2]);
            assert!(client.peer().is_none() && server.peer().is_none());
            run(&mut client, &mut server, size).unwrap();
            let found = client.peer().unwrap();
            assert_eq!(found.id, listener.id());
            assert_eq!(found.key, listener.named);
            let hashes = &found.extensions.webtransport_certhashes;
            assert_eq!(*hashes, [hash(0), hash(1), hash(2)]);
            let found = server.peer().unwrap();
            assert_eq!(found.id, dialer.id());
            assert_eq!(found.extensions, Default::default());
            client.end().unwrap();
            server.end().unwrap();
        }
    }
}

#[test]
fn bytes_after_the_handshake_are_not_taken() {
    let (dialer, listener) = (Keys::new(), Keys::new());
    let mut client = initiator(&dialer, None, &[]);
    let mut server = responder(&listener, &[]);
    server.receive(&client.poll_transmit().unwrap()).unwrap();
    let second = server.poll_transmit().unwrap();
    let taken = client.receive(&[&second[..], b"more"].concat()).unwrap();
    assert_eq!(taken, second.len());
    assert_eq!(client.receive(b"more").unwrap(), 0);
    let third = client.poll_transmit().unwrap();
    let taken = server.receive(&[&third[..], b"more"].concat()).unwrap();
    assert_eq!(taken, third.len());
    assert_eq!(server.receive(b"more").unwrap(), 0);
    assert!(client.peer().is_some() && server.peer().is_some());
}

/// Whatever the client does not like of the server, it has not told its identity.
fn refused_by_the_client(mut client: Initiator<Keys>, mut server: Responder<Keys>) -> NoiseError {
    let error = run(&mut client, &mut server, usize::MAX).unwrap_err();
    assert!(client.poll_transmit().is_none(), "a third message");
    assert!(client.peer().is_none());
    assert!(matches!(client.receive(b"x"), Err(NoiseError::Over)));
    assert!(matches!(client.end(), Err(NoiseError::Over)));
    error
}

#[test]
fn another_peer_than_the_one_dialed_is_refused() {
    let (dialer, listener, dialed) = (Keys::new(), Keys::new(), Keys::new());
    let error = refused_by_the_client(
        initiator(&dialer, Some(&dialed), &[]),
        responder(&listener, &[]),
    );
    let (expected, actual) = (dialed.id(), listener.id());
    assert_eq!(
        error.to_string(),
        format!("Peer ID mismatch: expected {expected}, but {actual} answered")
    );
}

#[test]
fn every_dialed_hash_must_be_confirmed() {
    let (dialer, listener) = (Keys::new(), Keys::new());
    for (dialed, confirmed) in [(&[1][..], &[][..]), (&[1, 7], &[0, 1, 2]), (&[7], &[1])] {
        let error = refused_by_the_client(
            initiator(&dialer, Some(&listener), dialed),
            responder(&listener, confirmed),
        );
        let NoiseError::CertificateNotConfirmed { peer, hash } = &error else {
            panic!("{error:?}");
        };
        assert_eq!(*peer, listener.id().to_string());
        let missing = if dialed.contains(&7) {
            "1220070707"
        } else {
            "1220010101"
        };
        assert!(hash.starts_with(missing), "{hash}");
    }
}

#[test]
fn a_host_key_that_did_not_sign_is_refused() {
    let (honest, mut liar) = (Keys::new(), Keys::new());
    liar.named = Keys::new().named;
    let error = refused_by_the_client(initiator(&honest, None, &[]), responder(&liar, &[]));
    let expected = format!(
        "the Noise key of peer {} is not signed by its host key",
        liar.id()
    );
    assert_eq!(error.to_string(), expected);

    let mut client = initiator(&liar, None, &[]);
    let mut server = responder(&honest, &[]);
    let error = run(&mut client, &mut server, usize::MAX).unwrap_err();
    assert_eq!(error.to_string(), expected);
    assert!(server.peer().is_none());
    assert!(matches!(server.receive(b""), Err(NoiseError::Over)));
}

#[test]
fn an_altered_byte_is_refused_wherever_it_is() {
    let (dialer, listener) = (Keys::new(), Keys::new());
    let begin = || {
        let mut client = initiator(&dialer, None, &[1]);
        let mut server = responder(&listener, &[1]);
        server.receive(&client.poll_transmit().unwrap()).unwrap();
        let second = server.poll_transmit().unwrap();
        (client, server, second)
    };
    for place in 2..begin().2.len() {
        let (mut client, _, mut second) = begin();
        second[place] ^= 1;
        let error = client.receive(&second).unwrap_err();
        assert!(
            matches!(error, NoiseError::Refused { message: 2, .. }),
            "{error}"
        );
    }
    let finish = || {
        let (mut client, server, second) = begin();
        client.receive(&second).unwrap();
        (server, client.poll_transmit().unwrap())
    };
    for place in 2..finish().1.len() {
        let (mut server, mut third) = finish();
        third[place] ^= 1;
        let error = server.receive(&third).unwrap_err();
        assert!(
            matches!(error, NoiseError::Refused { message: 3, .. }),
            "{error}"
        );
    }
}

#[test]
fn a_stream_may_not_end_before_the_handshake() {
    let keys = Keys::new();
    let mut client = initiator(&keys, None, &[]);
    let mut server = responder(&keys, &[]);
    let first = client.poll_transmit().unwrap();
    assert_eq!(server.receive(&first[..9]).unwrap(), 9);
    assert_eq!(
        server.end().unwrap_err().to_string(),
        "the peer ended the stream before the end of its Noise message 1"
    );
    assert!(matches!(
        client.end(),
        Err(NoiseError::Ended { message: 2 })
    ));
}

#[test]
fn what_is_no_noise_is_refused() {
    let keys = Keys::new();
    let error = responder(&keys, &[]).receive(b"\0\x05hello").unwrap_err();
    assert!(
        matches!(error, NoiseError::Refused { message: 1, .. }),
        "{error}"
    );
    let error = responder(&keys, &[])
        .receive(b"\x13/multistream/1.0.0")
        .unwrap_err();
    assert!(
        matches!(
            error,
            NoiseError::TooLong {
                message: 1,
                length: 0x132f
            }
        ),
        "{error}"
    );
    let error = initiator(&keys, None, &[]).receive(&[0, 0]).unwrap_err();
    assert!(
        matches!(error, NoiseError::Refused { message: 2, .. }),
        "{error}"
    );
}

/// An ephemeral key of small order, with which every secret is zero (RFC 7748 section 6.1).
#[test]
fn a_key_without_a_secret_is_the_peers_fault() {
    let keys = Keys::new();
    let first = [&[0, 32][..], &[0; 32]].concat();
    let error = responder(&keys, &[]).receive(&first).unwrap_err();
    assert!(
        matches!(error, NoiseError::Refused { message: 1, .. }),
        "{error}"
    );
    let mut client = initiator(&keys, None, &[]);
    let mut server = responder(&keys, &[]);
    server.receive(&client.poll_transmit().unwrap()).unwrap();
    let mut second = server.poll_transmit().unwrap();
    second[2..34].fill(0);
    let error = client.receive(&second).unwrap_err();
    assert!(
        matches!(error, NoiseError::Refused { message: 2, .. }),
        "{error}"
    );
}

#[test]
fn more_hashes_than_a_peer_reads_are_an_error() {
    let confirmed = vec![hash(1); 17];
    let error = Responder::new(Keys::new(), confirmed)
        .map(drop)
        .unwrap_err();
    assert!(
        matches!(error, NoiseError::TooMany { most: 16, .. }),
        "{error}"
    );
}

/// A peer that only has snow.
fn bare(build: fn(Builder<'_>) -> Result<HandshakeState, snow::Error>) -> HandshakeState {
    let builder = Builder::new(PROTOCOL.parse().unwrap());
    let key = builder.generate_keypair().unwrap().private;
    build(builder.local_private_key(&key).unwrap()).unwrap()
}

/// The second message with this payload, to a client that begins.
fn answered_with(payload: &[u8]) -> Result<(), NoiseError> {
    let mut client = initiator(&Keys::new(), None, &[]);
    let mut server = bare(|builder| builder.build_responder());
    let first = client.poll_transmit().unwrap();
    server.read_message(&first[2..], &mut [0; 100]).unwrap();
    let mut message = vec![0; 65_535];
    let length = server.write_message(payload, &mut message).unwrap();
    let length_bytes = (length as u16).to_be_bytes();
    client
        .receive(&[&length_bytes[..], &message[..length]].concat())
        .map(drop)
}

#[test]
fn a_payload_without_a_host_key_is_refused() {
    let error = answered_with(b"").unwrap_err();
    assert!(matches!(error, NoiseError::HostKey(_)), "{error}");
    let error = answered_with(b"\xff").unwrap_err();
    assert!(matches!(error, NoiseError::Malformed(_)), "{error}");
    let payload = Payload {
        identity_key: Keys::new().encoded_public_key(),
        ..Payload::default()
    };
    let error = answered_with(&payload.write()).unwrap_err();
    assert!(matches!(error, NoiseError::Signature { .. }), "{error}");
    let error = answered_with(&[0; 4096]).unwrap_err();
    assert!(
        matches!(error, NoiseError::TooLong { message: 2, .. }),
        "{error}"
    );
}

/// Early revisions of libp2p's webtransport spec sent hashes there; others may send anything.
#[test]
fn the_payload_of_the_first_message_is_ignored() {
    let mut server = responder(&Keys::new(), &[1]);
    let mut client = bare(|builder| builder.build_initiator());
    let mut message = vec![0; 4096];
    let length = client.write_message(b"anything", &mut message).unwrap();
    let length_bytes = (length as u16).to_be_bytes();
    server
        .receive(&[&length_bytes[..], &message[..length]].concat())
        .unwrap();
    assert!(server.poll_transmit().is_some());
}
