//! The two sides of the handshake. Bytes go in by `receive`, come out by `poll_transmit`; three messages, and then
//! the peer is known.

use std::{fmt, sync::Arc};

use snow::{Builder, HandshakeState};

use crate::{
    error::NoiseError,
    host_keys::HostKeys,
    message::{Inbox, LONGEST_MESSAGE, framed},
    payload::{Extensions, MOST_ENTRIES, Payload},
    static_key::{StaticKey, local, signed},
};

/// The peer at the other end, verified.
pub struct Peer<K: HostKeys> {
    /// Its host key.
    pub key: K::PublicKey,
    /// Its peer id.
    pub id: K::PeerId,
    /// What it sent beside its identity.
    pub extensions: Extensions,
}

impl<K: HostKeys> fmt::Debug for Peer<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Peer({})", self.id)
    }
}

/// What both sides have: Noise's state and the bytes on their way.
struct Exchange {
    noise: HandshakeState,
    static_key: Arc<StaticKey>,
    inbox: Inbox,
    outbox: Option<Vec<u8>>,
    /// The number of the peer's last message.
    last_read: u8,
}

/// The client, which sends the first message and learns the peer's identity before it tells its own.
pub struct Initiator<K: HostKeys> {
    exchange: Exchange,
    keys: K,
    expected: Option<K::PeerId>,
    dialed: Vec<Vec<u8>>,
    state: State<K>,
}

/// The server, which tells its identity and its certificate hashes in the second message.
pub struct Responder<K: HostKeys> {
    exchange: Exchange,
    keys: K,
    confirmed: Vec<Vec<u8>>,
    state: State<K>,
}

enum State<K: HostKeys> {
    /// This message is awaited.
    Awaiting(u8),
    Complete(Peer<K>),
    Failed,
}

impl<K: HostKeys> Initiator<K> {
    /// Begin a handshake; the first message can be sent at once.
    ///
    /// With an `expected` peer id, another peer fails the handshake. `dialed` are the certificate hashes of the dialed
    /// address, of which the TLS connection has proven one: the peer must confirm them all.
    ///
    /// # Errors
    /// [`NoiseError::Local`] if no Noise key can be made or signed.
    pub fn new(
        keys: K,
        expected: Option<K::PeerId>,
        dialed: Vec<Vec<u8>>,
    ) -> Result<Self, NoiseError> {
        let mut exchange = Exchange::new(&keys, |builder| builder.build_initiator())?;
        exchange.send(&[])?;
        Ok(Self {
            exchange,
            keys,
            expected,
            dialed,
            state: State::Awaiting(2),
        })
    }

    /// Take received bytes, and return how many were taken: not those after the end of the handshake.
    ///
    /// # Errors
    /// [`NoiseError`], and the handshake is over: our identity was not sent.
    pub fn receive(&mut self, bytes: &[u8]) -> Result<usize, NoiseError> {
        let mut rest = bytes;
        if let Some(message) = self.state.take(&mut self.exchange, &mut rest)? {
            let peer = self.answer(&message);
            self.state.settle(peer)?;
        }
        Ok(bytes.len() - rest.len())
    }

    /// Verify the second message, and make the third.
    fn answer(&mut self, message: &[u8]) -> Result<Peer<K>, NoiseError> {
        let peer: Peer<K> = self.exchange.verify(message, 2)?;
        if let Some(expected) = &self.expected
            && *expected != peer.id
        {
            return Err(NoiseError::PeerIdMismatch {
                expected: expected.to_string(),
                actual: peer.id.to_string(),
            });
        }
        // libp2p webtransport spec, "Security Handshake": abort if one of them is not in the list.
        let confirmed = &peer.extensions.webtransport_certhashes;
        if let Some(hash) = self.dialed.iter().find(|hash| !confirmed.contains(hash)) {
            return Err(NoiseError::CertificateNotConfirmed {
                peer: peer.id.to_string(),
                hash: hash.iter().map(|byte| format!("{byte:02x}")).collect(),
            });
        }
        self.exchange.identify(&self.keys, Extensions::default())?;
        Ok(peer)
    }

    /// The next bytes to send, if there are any.
    pub fn poll_transmit(&mut self) -> Option<Vec<u8>> {
        self.exchange.outbox.take()
    }

    /// The peer ended the stream.
    ///
    /// # Errors
    /// [`NoiseError`] unless the handshake is complete.
    pub fn end(&mut self) -> Result<(), NoiseError> {
        self.state.end()
    }

    /// The peer, once it is verified. The handshake is complete when the last bytes are sent as well.
    pub fn peer(&self) -> Option<&Peer<K>> {
        self.state.peer()
    }
}

impl<K: HostKeys> Responder<K> {
    /// Await a handshake. `confirmed` are the hashes of our certificates: all that peers may know.
    ///
    /// # Errors
    /// [`NoiseError::Local`] if no Noise key can be made or signed, [`NoiseError::TooMany`] if there are more hashes than a peer
    /// reads.
    pub fn new(keys: K, confirmed: Vec<Vec<u8>>) -> Result<Self, NoiseError> {
        if confirmed.len() > MOST_ENTRIES {
            return Err(NoiseError::TooMany {
                what: "certificate hashes",
                most: MOST_ENTRIES,
            });
        }
        Ok(Self {
            exchange: Exchange::new(&keys, |builder| builder.build_responder())?,
            keys,
            confirmed,
            state: State::Awaiting(1),
        })
    }

    /// Take received bytes, and return how many were taken: not those after the end of the handshake.
    ///
    /// # Errors
    /// [`NoiseError`], and the handshake is over.
    pub fn receive(&mut self, bytes: &[u8]) -> Result<usize, NoiseError> {
        let mut rest = bytes;
        while let Some(message) = self.state.take(&mut self.exchange, &mut rest)? {
            if let State::Awaiting(1) = self.state {
                let sent = self.introduce(&message);
                self.state.advance(sent)?;
            } else {
                let peer = self.exchange.verify(&message, 3);
                self.state.settle(peer)?;
            }
        }
        Ok(bytes.len() - rest.len())
    }

    /// Read the first message, whose payload libp2p does not use, and make the second.
    fn introduce(&mut self, message: &[u8]) -> Result<(), NoiseError> {
        self.exchange.read(message, 1)?;
        let extensions = Extensions {
            webtransport_certhashes: std::mem::take(&mut self.confirmed),
            stream_muxers: Vec::new(),
        };
        self.exchange.identify(&self.keys, extensions)
    }

    /// The next bytes to send, if there are any.
    pub fn poll_transmit(&mut self) -> Option<Vec<u8>> {
        self.exchange.outbox.take()
    }

    /// The peer ended the stream.
    ///
    /// # Errors
    /// [`NoiseError`] unless the handshake is complete.
    pub fn end(&mut self) -> Result<(), NoiseError> {
        self.state.end()
    }

    /// The peer, once it is verified: the handshake is complete.
    pub fn peer(&self) -> Option<&Peer<K>> {
        self.state.peer()
    }
}

impl<K: HostKeys> State<K> {
    /// The awaited message, if it is whole.
    fn take(
        &mut self,
        exchange: &mut Exchange,
        bytes: &mut &[u8],
    ) -> Result<Option<Vec<u8>>, NoiseError> {
        match self {
            Self::Awaiting(number) => {
                let message = exchange.inbox.take(bytes, *number);
                message.inspect_err(|_| *self = Self::Failed)
            }
            Self::Complete(_) => Ok(None),
            Self::Failed => Err(NoiseError::Over),
        }
    }

    /// Our second message is made, or cannot be.
    fn advance(&mut self, sent: Result<(), NoiseError>) -> Result<(), NoiseError> {
        *self = match sent {
            Ok(()) => Self::Awaiting(3),
            Err(_) => Self::Failed,
        };
        sent
    }

    /// The last message of the peer is read.
    fn settle(&mut self, peer: Result<Peer<K>, NoiseError>) -> Result<(), NoiseError> {
        match peer {
            Ok(peer) => {
                *self = Self::Complete(peer);
                Ok(())
            }
            Err(error) => {
                *self = Self::Failed;
                Err(error)
            }
        }
    }

    fn end(&mut self) -> Result<(), NoiseError> {
        match *self {
            Self::Complete(_) => Ok(()),
            Self::Failed => Err(NoiseError::Over),
            Self::Awaiting(message) => {
                *self = Self::Failed;
                Err(NoiseError::Ended { message })
            }
        }
    }

    fn peer(&self) -> Option<&Peer<K>> {
        match self {
            Self::Complete(peer) => Some(peer),
            _ => None,
        }
    }
}

impl Exchange {
    fn new<K: HostKeys>(
        keys: &K,
        build: impl for<'a> FnOnce(Builder<'a>) -> Result<HandshakeState, snow::Error>,
    ) -> Result<Self, NoiseError> {
        let static_key = keys.static_key()?;
        let noise = build(static_key.builder()?).map_err(local)?;
        Ok(Self {
            noise,
            static_key,
            inbox: Inbox::default(),
            outbox: None,
            last_read: 0,
        })
    }

    fn send(&mut self, payload: &[u8]) -> Result<(), NoiseError> {
        let mut message = vec![0; LONGEST_MESSAGE];
        let length = self.noise.write_message(payload, &mut message);
        message.truncate(length.map_err(|error| match error {
            // The peer's key, which came before, has no secret with ours.
            snow::Error::Dh => NoiseError::Refused {
                message: self.last_read,
                source: error,
            },
            _ => local(error),
        })?);
        self.outbox = Some(framed(&message));
        Ok(())
    }

    /// Send our identity and these extensions.
    fn identify<K: HostKeys>(
        &mut self,
        keys: &K,
        extensions: Extensions,
    ) -> Result<(), NoiseError> {
        let payload = Payload {
            identity_key: keys.encoded_public_key(),
            identity_sig: self.static_key.identity_sig.clone(),
            extensions,
        };
        self.send(&payload.write())
    }

    /// The payload of the peer's message with this number.
    fn read(&mut self, message: &[u8], number: u8) -> Result<Vec<u8>, NoiseError> {
        self.last_read = number;
        let mut payload = vec![0; LONGEST_MESSAGE];
        let length = self.noise.read_message(message, &mut payload);
        payload.truncate(length.map_err(|source| NoiseError::Refused {
            message: number,
            source,
        })?);
        Ok(payload)
    }

    /// The peer of a message with an identity. libp2p noise spec, "Static Key Authentication".
    fn verify<K: HostKeys>(&mut self, message: &[u8], number: u8) -> Result<Peer<K>, NoiseError> {
        let payload = Payload::read(&self.read(message, number)?)?;
        let key = K::read(&payload.identity_key).map_err(NoiseError::HostKey)?;
        let id = K::peer_id_of(&key);
        let static_key = self.noise.get_remote_static().unwrap_or_default();
        if !K::verify(&key, &signed(static_key), &payload.identity_sig) {
            return Err(NoiseError::Signature {
                peer: id.to_string(),
            });
        }
        Ok(Peer {
            key,
            id,
            extensions: payload.extensions,
        })
    }
}
