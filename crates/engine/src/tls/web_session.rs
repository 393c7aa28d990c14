//! The TLS session of a listener for HTTP/3. It is quinn-proto's, except that it tells the peer that we take
//! RESET_STREAM_AT: a dialer of go-libp2p makes no WebTransport session without that.
//!
//! quinn-proto can neither send a transport parameter that it does not know nor read the frame, so a session of our own
//! over rustls appends the parameter, and `reset_stream_at` changes the frame as its packet is opened.

use std::{any::Any, sync::Arc};

use quinn_proto::{
    ConnectionId, Side, TransportError, TransportErrorCode,
    crypto::{
        ExportKeyingMaterialError, HeaderKey, KeyPair, Keys, PacketKey, ServerConfig, Session,
        UnsupportedVersion,
        rustls::{HandshakeData, QuicServerConfig},
    },
    transport_parameters::TransportParameters,
};
use rustls::quic::{Connection, KeyChange, Secrets, ServerConnection, Suite, Version};

use super::{opened_packets::changed_by, reset_stream_at::rewrite};

/// The transport parameter `reset_stream_at`, which is empty, with its length: by the identifier of
/// draft-ietf-quic-reliable-stream-reset-09, and by that of the drafts before it.
const RESET_STREAM_AT: [u8; 11] = [0x1d, 0, 0xc0, 0x17, 0xf7, 0x58, 0x6d, 0x2c, 0xb5, 0x71, 0];

/// A listener's configuration, which asks clients for no certificate.
pub(super) struct WebServer {
    /// What precedes a session is quinn-proto's.
    quic: QuicServerConfig,
    config: Arc<rustls::ServerConfig>,
    initial: Suite,
}

impl WebServer {
    /// `quic` must be made of `config` and `initial`.
    pub(super) fn new(
        quic: QuicServerConfig,
        config: Arc<rustls::ServerConfig>,
        initial: Suite,
    ) -> Self {
        Self {
            quic,
            config,
            initial,
        }
    }
}

impl ServerConfig for WebServer {
    fn initial_keys(
        &self,
        version: u32,
        dst_cid: &ConnectionId,
    ) -> Result<Keys, UnsupportedVersion> {
        self.quic.initial_keys(version, dst_cid)
    }

    fn retry_tag(&self, version: u32, orig_dst_cid: &ConnectionId, packet: &[u8]) -> [u8; 16] {
        self.quic.retry_tag(version, orig_dst_cid, packet)
    }

    /// The version is 1, or draft 29's that counts as it: `initial_keys` refuses others.
    fn start_session(
        self: Arc<Self>,
        _version: u32,
        params: &TransportParameters,
    ) -> Box<dyn Session> {
        let mut parameters = Vec::new();
        params.write(&mut parameters);
        parameters.extend(RESET_STREAM_AT);
        let tls = ServerConnection::new(Arc::clone(&self.config), Version::V1, parameters)
            .unwrap_or_else(|error| unreachable!("TLS 1.3 without early data: {error}"));
        Box::new(WebSession {
            tls: Connection::Server(tls),
            initial: self.initial,
            next: None,
            is_protocol_told: false,
        })
    }
}

struct WebSession {
    tls: Connection,
    initial: Suite,
    /// The secrets of the next key update, once the handshake has some.
    next: Option<Secrets>,
    /// quinn-proto has been told that the protocol is agreed on.
    is_protocol_told: bool,
}

impl WebSession {
    fn protocol(&self) -> Option<Vec<u8>> {
        self.tls.alpn_protocol().map(<[u8]>::to_vec)
    }
}

impl Session for WebSession {
    fn initial_keys(&self, dst_cid: &ConnectionId, side: Side) -> Keys {
        all_keys(self.initial.keys(dst_cid, side.into(), Version::V1))
    }

    fn handshake_data(&self) -> Option<Box<dyn Any>> {
        let protocol = self.protocol()?;
        Some(Box::new(HandshakeData {
            protocol: Some(protocol),
            // No listener looks at it.
            server_name: None,
        }))
    }

    /// None: clients have no certificate.
    fn peer_identity(&self) -> Option<Box<dyn Any>> {
        None
    }

    /// None: there is no early data.
    fn early_crypto(&self) -> Option<(Box<dyn HeaderKey>, Box<dyn PacketKey>)> {
        None
    }

    fn early_data_accepted(&self) -> Option<bool> {
        None
    }

    fn is_handshaking(&self) -> bool {
        self.tls.is_handshaking()
    }

    fn read_handshake(&mut self, buf: &[u8]) -> Result<bool, TransportError> {
        if let Err(error) = self.tls.read_hs(buf) {
            let alert = self.tls.alert();
            let code = alert.map_or(TransportErrorCode::PROTOCOL_VIOLATION, |alert| {
                TransportErrorCode::crypto(alert.into())
            });
            return Err(TransportError {
                code,
                frame: None,
                reason: error.to_string(),
            });
        }
        let is_new = !self.is_protocol_told && self.protocol().is_some();
        self.is_protocol_told |= is_new;
        Ok(is_new)
    }

    fn transport_parameters(&self) -> Result<Option<TransportParameters>, TransportError> {
        let received = self.tls.quic_transport_parameters();
        let read = received.map(|mut bytes| TransportParameters::read(Side::Server, &mut bytes));
        Ok(read.transpose()?)
    }

    fn write_handshake(&mut self, buf: &mut Vec<u8>) -> Option<Keys> {
        match self.tls.write_hs(buf)? {
            KeyChange::Handshake { keys } => Some(all_keys(keys)),
            KeyChange::OneRtt { keys, next } => {
                self.next = Some(next);
                let keys = all_keys(keys);
                Some(Keys {
                    header: keys.header,
                    packet: rewriting(keys.packet),
                })
            }
        }
    }

    fn next_1rtt_keys(&mut self) -> Option<KeyPair<Box<dyn PacketKey>>> {
        let keys = self.next.as_mut()?.next_packet_keys();
        Some(rewriting(KeyPair {
            local: Box::new(keys.local),
            remote: Box::new(keys.remote),
        }))
    }

    /// A server gets no Retry packets.
    fn is_valid_retry(&self, _: &ConnectionId, _: &[u8], _: &[u8]) -> bool {
        false
    }

    fn export_keying_material(
        &self,
        output: &mut [u8],
        label: &[u8],
        context: &[u8],
    ) -> Result<(), ExportKeyingMaterialError> {
        let exported = self
            .tls
            .export_keying_material(output, label, Some(context));
        exported.map(drop).map_err(|_| ExportKeyingMaterialError)
    }
}

/// rustls's keys as quinn-proto takes them.
fn all_keys(keys: rustls::quic::Keys) -> Keys {
    Keys {
        header: KeyPair {
            local: Box::new(keys.local.header),
            remote: Box::new(keys.remote.header),
        },
        packet: KeyPair {
            local: Box::new(keys.local.packet),
            remote: Box::new(keys.remote.packet),
        },
    }
}

fn rewriting(keys: KeyPair<Box<dyn PacketKey>>) -> KeyPair<Box<dyn PacketKey>> {
    changed_by(|payload| rewrite(payload), keys)
}
