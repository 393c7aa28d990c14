//! Chooses between two TLS configurations by the protocols that a client offers, as one UDP port
//! serves libp2p and HTTP/3.
//!
//! rustls fixes for each configuration whether clients must show a certificate, which libp2p demands
//! and a browser cannot do. The choice grants nothing: each configuration accepts its own protocol only.

use std::{any::Any, sync::Arc};

use quinn_proto::{
    ConnectionId, Side, TransportError,
    crypto::{
        ExportKeyingMaterialError, HeaderKey, KeyPair, Keys, PacketKey, ServerConfig, Session,
        UnsupportedVersion,
    },
    transport_parameters::TransportParameters,
};

use super::client_hello::{self, ClientHello};
use super::{ALPN, H3};

/// The largest ClientHello for which the choice waits, with its header. One with ML-KEM's key share has 1.2 KiB
/// and more, and takes two or three packets.
const LONGEST: usize = 8 * 1024;

/// A server of libp2p and HTTP/3. A client that offers both gets libp2p, and so does one whose offer
/// cannot be read, whose handshake then fails as it does at a server of libp2p alone.
///
/// Everything that precedes the ClientHello (Initial keys, Retry) is that of `libp2p`; both must have the same.
pub fn server_of_both(
    libp2p: Arc<dyn ServerConfig>,
    h3: Arc<dyn ServerConfig>,
) -> Arc<dyn ServerConfig> {
    Arc::new(ServerOfBoth { libp2p, h3 })
}

struct ServerOfBoth {
    libp2p: Arc<dyn ServerConfig>,
    h3: Arc<dyn ServerConfig>,
}

impl ServerConfig for ServerOfBoth {
    fn initial_keys(
        &self,
        version: u32,
        dst_cid: &ConnectionId,
    ) -> Result<Keys, UnsupportedVersion> {
        self.libp2p.initial_keys(version, dst_cid)
    }

    fn retry_tag(&self, version: u32, orig_dst_cid: &ConnectionId, packet: &[u8]) -> [u8; 16] {
        self.libp2p.retry_tag(version, orig_dst_cid, packet)
    }

    fn start_session(
        self: Arc<Self>,
        version: u32,
        params: &TransportParameters,
    ) -> Box<dyn Session> {
        Box::new(ChoosingSession {
            session: Arc::clone(&self.libp2p).start_session(version, params),
            choice: Some(Choice {
                held: Vec::new(),
                h3: Arc::clone(&self.h3),
                version,
                parameters: *params,
            }),
        })
    }
}

/// libp2p's session, which answers all questions from the start, until the client's offer asks for the other.
struct ChoosingSession {
    session: Box<dyn Session>,
    /// `None` once the choice is made.
    choice: Option<Choice>,
}

struct Choice {
    /// The handshake bytes received so far, which no session has: fewer than [`LONGEST`].
    held: Vec<u8>,
    h3: Arc<dyn ServerConfig>,
    version: u32,
    parameters: TransportParameters,
}

enum Decision {
    Wait,
    Libp2p,
    H3,
}

impl Choice {
    fn decide(&self) -> Decision {
        // A message that is too long must not depend on how it was divided.
        if self.held.len() > LONGEST {
            return Decision::Libp2p;
        }
        match client_hello::read(&self.held) {
            ClientHello::Partial { length } if length.unwrap_or(0) <= LONGEST => Decision::Wait,
            ClientHello::Whole(offered) if offered.contains(H3) && !offered.contains(ALPN) => {
                Decision::H3
            }
            _ => Decision::Libp2p,
        }
    }
}

impl Session for ChoosingSession {
    fn initial_keys(&self, dst_cid: &ConnectionId, side: Side) -> Keys {
        self.session.initial_keys(dst_cid, side)
    }

    fn handshake_data(&self) -> Option<Box<dyn Any>> {
        self.session.handshake_data()
    }

    fn peer_identity(&self) -> Option<Box<dyn Any>> {
        self.session.peer_identity()
    }

    fn early_crypto(&self) -> Option<(Box<dyn HeaderKey>, Box<dyn PacketKey>)> {
        self.session.early_crypto()
    }

    fn early_data_accepted(&self) -> Option<bool> {
        self.session.early_data_accepted()
    }

    fn is_handshaking(&self) -> bool {
        self.session.is_handshaking()
    }

    fn read_handshake(&mut self, buf: &[u8]) -> Result<bool, TransportError> {
        let Some(choice) = &mut self.choice else {
            return self.session.read_handshake(buf);
        };
        // quinn-proto passes at most a datagram's worth at once, and what a session would refuse need not be held.
        choice.held.extend_from_slice(buf);
        match choice.decide() {
            Decision::Wait => return Ok(false),
            Decision::Libp2p => {}
            Decision::H3 => {
                self.session =
                    Arc::clone(&choice.h3).start_session(choice.version, &choice.parameters);
            }
        }
        let held = std::mem::take(&mut choice.held);
        self.choice = None;
        self.session.read_handshake(&held)
    }

    fn transport_parameters(&self) -> Result<Option<TransportParameters>, TransportError> {
        self.session.transport_parameters()
    }

    fn write_handshake(&mut self, buf: &mut Vec<u8>) -> Option<Keys> {
        self.session.write_handshake(buf)
    }

    fn next_1rtt_keys(&mut self) -> Option<KeyPair<Box<dyn PacketKey>>> {
        self.session.next_1rtt_keys()
    }

    fn is_valid_retry(&self, orig_dst_cid: &ConnectionId, header: &[u8], payload: &[u8]) -> bool {
        self.session.is_valid_retry(orig_dst_cid, header, payload)
    }

    fn export_keying_material(
        &self,
        output: &mut [u8],
        label: &[u8],
        context: &[u8],
    ) -> Result<(), ExportKeyingMaterialError> {
        self.session.export_keying_material(output, label, context)
    }
}
