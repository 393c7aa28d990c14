//! Noise from a fuzzer: payloads, bytes to a server, and servers that name any host key with any signature.
//! Nothing may panic, and no server gets the peer id of another key.

use std::sync::LazyLock;

use libp2p_quic_engine::{Identity, PeerId, PublicKey};
use libp2p_quic_noise::{
    BoxError, HostKeys, Initiator, LONGEST_MESSAGE, NoiseError, Responder, payload::Payload,
};

use crate::bytes::Bytes;

static HOST: LazyLock<Identity> = LazyLock::new(Identity::generate);

pub(crate) fn run(data: &[u8]) {
    let mut bytes = Bytes(data);
    match bytes.u8() % 3 {
        0 => payload(bytes.rest()),
        1 => server(bytes),
        _ => client(bytes),
    }
}

fn payload(bytes: &[u8]) {
    if let Ok(payload) = Payload::read(bytes) {
        let again = Payload::read(&payload.write()).expect("what was written");
        assert_eq!(again, payload);
    }
}

/// A server gets any bytes, in any parts.
fn server(mut bytes: Bytes<'_>) {
    let mut server = Responder::new(HOST.clone(), vec![vec![7; 34]]).expect("a server");
    while !bytes.is_empty() {
        let length = usize::from(bytes.u8());
        let part = bytes.take(length);
        let Ok(taken) = server.receive(part) else {
            assert!(server.receive(b"x").is_err(), "it goes on after an error");
            break;
        };
        assert!(taken <= part.len());
        if let Some(sent) = server.poll_transmit() {
            assert!(sent.len() <= 2 + LONGEST_MESSAGE);
        }
    }
    assert!(server.peer().is_none(), "a peer without a key");
}

/// A client meets a server that names any key.
fn client(mut bytes: Bytes<'_>) {
    let signature = bytes.bool().then(|| {
        let length = usize::from(bytes.u8());
        bytes.take(length).to_vec()
    });
    let dialed = match bytes.u8() % 3 {
        0 => vec![],
        1 => vec![vec![7; 34]],
        _ => vec![vec![8; 34]],
    };
    let is_confirmed = dialed != [vec![8; 34]];
    let named = match bytes.bool() {
        true => HOST.encoded_public_key(),
        false => bytes.rest().to_vec(),
    };
    let liar = Liar { named, signature };
    // What else is in its message has less than 1 KiB, with the signature.
    let is_long = liar.named.len() > LONGEST_MESSAGE - 1024;
    let mut client = Initiator::new(HOST.clone(), None, dialed).expect("a client");
    let mut server = Responder::new(liar, vec![vec![7; 34]]).expect("a server");
    let first = client.poll_transmit().expect("a message");
    match server.receive(&first) {
        Ok(_) => {}
        Err(NoiseError::Local(_)) if is_long => return,
        Err(error) => panic!("a good message: {error}"),
    }
    let second = server.poll_transmit().expect("a message");
    match client.receive(&second) {
        Ok(_) => {
            let peer = client.peer().expect("a peer");
            assert_eq!(peer.id, HOST.peer_id(), "another key's name");
            assert!(is_confirmed, "a hash that is not confirmed");
        }
        Err(_) => assert!(client.poll_transmit().is_none(), "it told its identity"),
    }
}

/// Names any key, and has any signature or that of `HOST`.
struct Liar {
    named: Vec<u8>,
    signature: Option<Vec<u8>>,
}

impl HostKeys for Liar {
    type PublicKey = PublicKey;
    type PeerId = PeerId;

    fn encoded_public_key(&self) -> Vec<u8> {
        self.named.clone()
    }

    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, BoxError> {
        match &self.signature {
            Some(signature) => Ok(signature.clone()),
            None => HOST.sign(message),
        }
    }

    fn read(protobuf: &[u8]) -> Result<PublicKey, BoxError> {
        Identity::read(protobuf)
    }

    fn verify(key: &PublicKey, message: &[u8], signature: &[u8]) -> bool {
        Identity::verify(key, message, signature)
    }

    fn peer_id_of(key: &PublicKey) -> PeerId {
        Identity::peer_id_of(key)
    }
}
