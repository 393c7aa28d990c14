//! Wraps TLS's sessions and keys so that a connection's log sees each packet before it is protected
//! and after its protection is removed. Everything else is passed on to the wrapped object.

use std::{
    any::Any,
    sync::{Arc, OnceLock},
};

use bytes::BytesMut;
use parking_lot::Mutex;
use quinn_proto::{
    ConnectError, ConnectionId, Side, TransportError,
    crypto::{
        ClientConfig, CryptoError, ExportKeyingMaterialError, HeaderKey, KeyPair, Keys, PacketKey,
        ServerConfig, Session, UnsupportedVersion,
    },
    transport_parameters::TransportParameters,
};

use super::{
    connection_log::{ConnectionLog, Role},
    files::Files,
    packet::Packet,
};

/// The log of the attempt of a dial that began last. All attempts share the configuration of the
/// dial; each has a file.
#[derive(Clone, Default)]
pub(crate) struct LatestLog(Arc<Mutex<Option<Arc<ConnectionLog>>>>);

impl LatestLog {
    pub(crate) fn of(log: Arc<ConnectionLog>) -> Self {
        Self(Arc::new(Mutex::new(Some(log))))
    }

    pub(crate) fn get(&self) -> Option<Arc<ConnectionLog>> {
        self.0.lock().clone()
    }

    fn set(&self, log: Option<Arc<ConnectionLog>>) {
        *self.0.lock() = log;
    }
}

/// The cryptography of one dial, which begins a log for each attempt.
pub(super) struct LoggedClient {
    pub(super) inner: Arc<dyn ClientConfig>,
    pub(super) files: Arc<Files>,
    pub(super) latest: LatestLog,
}

impl ClientConfig for LoggedClient {
    fn start_session(
        self: Arc<Self>,
        version: u32,
        server_name: &str,
        params: &TransportParameters,
    ) -> Result<Box<dyn Session>, ConnectError> {
        let inner = Arc::clone(&self.inner).start_session(version, server_name, params)?;
        Ok(Box::new(LoggedSession {
            inner,
            log: OnceLock::new(),
            dial: Some(Attempt {
                files: self.files.clone(),
                latest: self.latest.clone(),
                parameters: encoded(params),
            }),
            has_parameters: OnceLock::new(),
        }))
    }
}

/// The first packet of an inbound connection: quinn-proto opens it before the connection exists.
#[derive(Clone, Default)]
pub(crate) struct FirstPacket(Arc<Mutex<Option<Opened>>>);

struct Opened {
    number: u64,
    header: Vec<u8>,
    payload: Vec<u8>,
    length: usize,
}

/// The cryptography of the listeners of an endpoint, which keeps the packet that was opened last.
pub(super) struct LoggedListener {
    pub(super) inner: Arc<dyn ServerConfig>,
    pub(super) first: FirstPacket,
}

impl ServerConfig for LoggedListener {
    fn initial_keys(
        &self,
        version: u32,
        dst_cid: &ConnectionId,
    ) -> Result<Keys, UnsupportedVersion> {
        let mut keys = self.inner.initial_keys(version, dst_cid)?;
        keys.packet.remote = Box::new(FirstKey {
            inner: keys.packet.remote,
            first: self.first.clone(),
        });
        Ok(keys)
    }

    fn retry_tag(&self, version: u32, orig_dst_cid: &ConnectionId, packet: &[u8]) -> [u8; 16] {
        self.inner.retry_tag(version, orig_dst_cid, packet)
    }

    fn start_session(
        self: Arc<Self>,
        version: u32,
        params: &TransportParameters,
    ) -> Box<dyn Session> {
        Arc::clone(&self.inner).start_session(version, params)
    }
}

struct FirstKey {
    inner: Box<dyn PacketKey>,
    first: FirstPacket,
}

impl PacketKey for FirstKey {
    fn encrypt(&self, packet: u64, buf: &mut [u8], header_len: usize) {
        self.inner.encrypt(packet, buf, header_len);
    }

    fn decrypt(
        &self,
        number: u64,
        header: &[u8],
        payload: &mut BytesMut,
    ) -> Result<(), CryptoError> {
        let length = header.len() + payload.len();
        self.inner.decrypt(number, header, payload)?;
        *self.first.0.lock() = Some(Opened {
            number,
            header: header.to_vec(),
            payload: payload.to_vec(),
            length,
        });
        Ok(())
    }

    fn tag_len(&self) -> usize {
        self.inner.tag_len()
    }

    fn confidentiality_limit(&self) -> u64 {
        self.inner.confidentiality_limit()
    }

    fn integrity_limit(&self) -> u64 {
        self.inner.integrity_limit()
    }
}

/// The cryptography of one inbound connection, whose first packet has just been opened.
pub(super) struct LoggedServer {
    pub(super) inner: Arc<dyn ServerConfig>,
    pub(super) first: FirstPacket,
    pub(super) log: Arc<ConnectionLog>,
}

impl ServerConfig for LoggedServer {
    fn initial_keys(
        &self,
        version: u32,
        dst_cid: &ConnectionId,
    ) -> Result<Keys, UnsupportedVersion> {
        self.inner.initial_keys(version, dst_cid)
    }

    fn retry_tag(&self, version: u32, orig_dst_cid: &ConnectionId, packet: &[u8]) -> [u8; 16] {
        self.inner.retry_tag(version, orig_dst_cid, packet)
    }

    fn start_session(
        self: Arc<Self>,
        version: u32,
        params: &TransportParameters,
    ) -> Box<dyn Session> {
        if let Some(opened) = self.first.0.lock().take() {
            self.log.received(&Packet {
                number: opened.number,
                header: &opened.header,
                payload: &opened.payload,
                length: opened.length,
            });
        }
        self.log.parameters(true, &encoded(params));
        Box::new(LoggedSession {
            inner: Arc::clone(&self.inner).start_session(version, params),
            log: OnceLock::from(Some(self.log.clone())),
            dial: None,
            has_parameters: OnceLock::new(),
        })
    }
}

struct LoggedSession {
    inner: Box<dyn Session>,
    /// A dialer's is known with its original destination connection id.
    log: OnceLock<Option<Arc<ConnectionLog>>>,
    dial: Option<Attempt>,
    /// The peer's parameters are logged.
    has_parameters: OnceLock<()>,
}

/// What the log of an attempt begins with.
struct Attempt {
    files: Arc<Files>,
    latest: LatestLog,
    parameters: Vec<u8>,
}

fn encoded(parameters: &TransportParameters) -> Vec<u8> {
    let mut encoded = Vec::new();
    parameters.write(&mut encoded);
    encoded
}

impl LoggedSession {
    fn log(&self) -> Option<&Arc<ConnectionLog>> {
        self.log.get()?.as_ref()
    }

    fn logged(&self, pair: KeyPair<Box<dyn PacketKey>>) -> KeyPair<Box<dyn PacketKey>> {
        let Some(log) = self.log() else {
            return pair;
        };
        let logged = |inner| {
            let log = log.clone();
            Box::new(LoggedKey { inner, log }) as Box<dyn PacketKey>
        };
        KeyPair {
            local: logged(pair.local),
            remote: logged(pair.remote),
        }
    }

    fn all_logged(&self, keys: Keys) -> Keys {
        Keys {
            header: keys.header,
            packet: self.logged(keys.packet),
        }
    }
}

impl Session for LoggedSession {
    fn initial_keys(&self, dst_cid: &ConnectionId, side: Side) -> Keys {
        // It is called again after a Retry; the file keeps the first id.
        self.log.get_or_init(|| {
            let attempt = self.dial.as_ref()?;
            let log = attempt.files.begin(Role::Client, dst_cid);
            if let Some(log) = &log {
                log.parameters(true, &attempt.parameters);
            }
            attempt.latest.set(log.clone());
            log
        });
        self.all_logged(self.inner.initial_keys(dst_cid, side))
    }

    fn handshake_data(&self) -> Option<Box<dyn Any>> {
        self.inner.handshake_data()
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
        self.inner.read_handshake(buf)
    }

    fn transport_parameters(&self) -> Result<Option<TransportParameters>, TransportError> {
        let parameters = self.inner.transport_parameters()?;
        if let (Some(log), Some(parameters)) = (self.log(), &parameters) {
            self.has_parameters
                .get_or_init(|| log.parameters(false, &encoded(parameters)));
        }
        Ok(parameters)
    }

    fn write_handshake(&mut self, buf: &mut Vec<u8>) -> Option<Keys> {
        let keys = self.inner.write_handshake(buf)?;
        Some(self.all_logged(keys))
    }

    fn next_1rtt_keys(&mut self) -> Option<KeyPair<Box<dyn PacketKey>>> {
        let keys = self.inner.next_1rtt_keys()?;
        Some(self.logged(keys))
    }

    fn is_valid_retry(&self, orig_dst_cid: &ConnectionId, header: &[u8], payload: &[u8]) -> bool {
        let is_valid = self.inner.is_valid_retry(orig_dst_cid, header, payload);
        if is_valid && let Some(log) = self.log() {
            log.received_retry(header, header.len() + payload.len());
        }
        is_valid
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

struct LoggedKey {
    inner: Box<dyn PacketKey>,
    log: Arc<ConnectionLog>,
}

impl PacketKey for LoggedKey {
    fn encrypt(&self, number: u64, buf: &mut [u8], header_len: usize) {
        let end = buf.len().saturating_sub(self.inner.tag_len());
        if let (Some(header), Some(payload)) = (buf.get(..header_len), buf.get(header_len..end)) {
            self.log.sent(&Packet {
                number,
                header,
                payload,
                length: buf.len(),
            });
        }
        self.inner.encrypt(number, buf, header_len);
    }

    fn decrypt(
        &self,
        number: u64,
        header: &[u8],
        payload: &mut BytesMut,
    ) -> Result<(), CryptoError> {
        let length = header.len() + payload.len();
        let opened = self.inner.decrypt(number, header, payload);
        match &opened {
            Ok(()) => self.log.received(&Packet {
                number,
                header,
                payload,
                length,
            }),
            Err(_) => self.log.dropped(header, length),
        }
        opened
    }

    fn tag_len(&self) -> usize {
        self.inner.tag_len()
    }

    fn confidentiality_limit(&self) -> u64 {
        self.inner.confidentiality_limit()
    }

    fn integrity_limit(&self) -> u64 {
        self.inner.integrity_limit()
    }
}
