//! Wraps quinn-proto's TLS sessions so that a completed handshake tells its parameters, and so that opened
//! packets are without the padding that `padding` takes out.
//!
//! rustls knows them, but quinn-proto keeps rustls's connection to itself, and its `HandshakeData` has
//! the application protocol only. A session of our own over `rustls::quic::Connection` could ask, at the
//! price of a copy of all that quinn-proto's does, such as the integrity of Retry packets. So the
//! ServerHello is read as it passes, which costs nothing once the handshake is over.

use std::{any::Any, sync::Arc};

use quinn_proto::{
    ConnectError, ConnectionId, Side, TransportError,
    crypto::{
        ClientConfig, ExportKeyingMaterialError, HeaderKey, KeyPair, Keys, PacketKey, ServerConfig,
        Session, UnsupportedVersion, rustls::HandshakeData,
    },
    transport_parameters::TransportParameters,
};

use super::{
    opened_packets::changed_by, padding::unpad, parameters::TlsParameters,
    server_hello::ServerHelloReader,
};

/// A dialer's configuration, whose sessions have [`TlsParameters`] as their `handshake_data`.
pub(super) struct ObservedClient(pub(super) Arc<dyn ClientConfig>);

impl ClientConfig for ObservedClient {
    fn start_session(
        self: Arc<Self>,
        version: u32,
        server_name: &str,
        params: &TransportParameters,
    ) -> Result<Box<dyn Session>, ConnectError> {
        let inner = Arc::clone(&self.0).start_session(version, server_name, params)?;
        Ok(ObservedSession::boxed(inner, Side::Client))
    }
}

/// A listener's configuration, whose sessions have [`TlsParameters`] as their `handshake_data`.
pub(super) struct ObservedServer(pub(super) Arc<dyn ServerConfig>);

impl ServerConfig for ObservedServer {
    fn initial_keys(
        &self,
        version: u32,
        dst_cid: &ConnectionId,
    ) -> Result<Keys, UnsupportedVersion> {
        self.0.initial_keys(version, dst_cid)
    }

    fn retry_tag(&self, version: u32, orig_dst_cid: &ConnectionId, packet: &[u8]) -> [u8; 16] {
        self.0.retry_tag(version, orig_dst_cid, packet)
    }

    fn start_session(
        self: Arc<Self>,
        version: u32,
        params: &TransportParameters,
    ) -> Box<dyn Session> {
        let inner = Arc::clone(&self.0).start_session(version, params);
        ObservedSession::boxed(inner, Side::Server)
    }
}

struct ObservedSession {
    inner: Box<dyn Session>,
    side: Side,
    hello: ServerHelloReader,
}

impl ObservedSession {
    fn boxed(inner: Box<dyn Session>, side: Side) -> Box<dyn Session> {
        let hello = ServerHelloReader::new();
        Box::new(Self { inner, side, hello })
    }
}

impl Session for ObservedSession {
    fn initial_keys(&self, dst_cid: &ConnectionId, side: Side) -> Keys {
        self.inner.initial_keys(dst_cid, side)
    }

    /// The [`TlsParameters`]; of a listener complete once its ServerHello is written.
    fn handshake_data(&self) -> Option<Box<dyn Any>> {
        let data = self.inner.handshake_data()?.downcast::<HandshakeData>();
        let alpn = data.ok()?.protocol.unwrap_or_default();
        Some(Box::new(TlsParameters::new(self.hello.found(), alpn)))
    }

    fn peer_identity(&self) -> Option<Box<dyn Any>> {
        self.inner.peer_identity()
    }

    fn early_crypto(&self) -> Option<(Box<dyn HeaderKey>, Box<dyn PacketKey>)> {
        self.inner.early_crypto()
    }

    fn early_data_accepted(&self) -> Option<bool> {
        self.inner.early_data_accepted()
    }

    fn is_handshaking(&self) -> bool {
        self.inner.is_handshaking()
    }

    fn read_handshake(&mut self, buf: &[u8]) -> Result<bool, TransportError> {
        let has_data = self.inner.read_handshake(buf)?;
        if self.side.is_client() {
            self.hello.read(buf);
        }
        Ok(has_data)
    }

    fn transport_parameters(&self) -> Result<Option<TransportParameters>, TransportError> {
        self.inner.transport_parameters()
    }

    fn write_handshake(&mut self, buf: &mut Vec<u8>) -> Option<Keys> {
        let start = buf.len();
        let keys = self.inner.write_handshake(buf);
        if self.side.is_server() {
            self.hello.read(buf.get(start..).unwrap_or_default());
        }
        keys.map(|Keys { header, packet }| Keys {
            header,
            packet: changed_by(unpad, packet),
        })
    }

    fn next_1rtt_keys(&mut self) -> Option<KeyPair<Box<dyn PacketKey>>> {
        self.inner
            .next_1rtt_keys()
            .map(|keys| changed_by(unpad, keys))
    }

    fn is_valid_retry(&self, orig_dst_cid: &ConnectionId, header: &[u8], payload: &[u8]) -> bool {
        self.inner.is_valid_retry(orig_dst_cid, header, payload)
    }

    fn export_keying_material(
        &self,
        output: &mut [u8],
        label: &[u8],
        context: &[u8],
    ) -> Result<(), ExportKeyingMaterialError> {
        self.inner.export_keying_material(output, label, context)
    }
}
