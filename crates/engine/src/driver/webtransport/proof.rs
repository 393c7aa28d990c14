//! The Noise handshake of one connection, as either side: what proves the peer's identity where TLS does not.

use libp2p_quic_noise::{Initiator, NoiseError, Peer, Responder};

use crate::{
    error::{CloseKind, ConnectionError, Party},
    identity::Identity,
};

use super::setup::Setup;

/// A handshake that is under way.
pub(super) enum Proof {
    Initiator(Box<Initiator<Identity>>),
    Responder(Box<Responder<Identity>>),
}

impl Proof {
    /// Begin the handshake. A dialer has something to send at once.
    pub(super) fn begin(setup: &Setup) -> Result<Self, ConnectionError> {
        let hashes = |all: &[[u8; 34]]| all.iter().map(|hash| hash.to_vec()).collect();
        match setup {
            Setup::Listener {
                identity,
                certificates,
            } => {
                let confirmed = certificates.confirmed(certificates.time());
                let confirmed = confirmed.map_err(|e| ConnectionError::internal(e.to_string()))?;
                let responder = Responder::new(identity.clone(), hashes(&confirmed));
                let responder = responder.map_err(|error| refusal(&error))?;
                Ok(Self::Responder(Box::new(responder)))
            }
            Setup::Dialer {
                identity,
                expected,
                hashes: dialed,
                ..
            } => {
                let initiator = Initiator::new(identity.clone(), *expected, hashes(dialed));
                let initiator = initiator.map_err(|error| refusal(&error))?;
                Ok(Self::Initiator(Box::new(initiator)))
            }
        }
    }

    /// Handle bytes of the peer; `None` for the end of its stream.
    pub(super) fn receive(&mut self, bytes: Option<&[u8]>) -> Result<(), ConnectionError> {
        let result = match (self, bytes) {
            (Self::Initiator(it), Some(bytes)) => it.receive(bytes).map(drop),
            (Self::Responder(it), Some(bytes)) => it.receive(bytes).map(drop),
            (Self::Initiator(it), None) => it.end(),
            (Self::Responder(it), None) => it.end(),
        };
        result.map_err(|error| refusal(&error))
    }

    pub(super) fn poll_transmit(&mut self) -> Option<Vec<u8>> {
        match self {
            Self::Initiator(it) => it.poll_transmit(),
            Self::Responder(it) => it.poll_transmit(),
        }
    }

    /// The peer, once it is verified and everything is sent.
    pub(super) fn peer(&self) -> Option<&Peer<Identity>> {
        match self {
            Self::Initiator(it) => it.peer(),
            Self::Responder(it) => it.peer(),
        }
    }
}

/// Why we end the connection.
fn refusal(error: &NoiseError) -> ConnectionError {
    match error {
        NoiseError::PeerIdMismatch { expected, actual } => ConnectionError::new(
            Party::Local,
            CloseKind::PeerIdMismatch,
            None,
            format!("expected {expected}, got {actual}"),
        ),
        NoiseError::Local(_) => ConnectionError::internal(error.to_string()),
        _ => ConnectionError::new(Party::Local, CloseKind::Refused, None, error.to_string()),
    }
}
