//! A blocking interface to msquic: its callbacks record events and wake waiting threads. This file has
//! the node, its listeners and its connections; `stream` has streams. Only these two files have callbacks
//! and `unsafe`.

use std::{
    net::SocketAddr,
    ptr,
    sync::{
        Arc, Mutex,
        mpsc::{self, Receiver},
    },
};

use libp2p_identity::PeerId;
use msquic::{
    Addr, Api, BufferRef, CertificateFile, Configuration, ConnectionEvent, ConnectionShutdownFlags,
    Credential, CredentialConfig, CredentialFlags, ListenerEvent,
    PARAM_GLOBAL_RETRY_MEMORY_PERCENT, Registration, RegistrationConfig, Settings, Status,
    StatusCode,
};

use crate::{
    Failure,
    stream::{Incoming, Stream},
    tls::{Certificate, peer_of},
    watched::Watched,
};

/// A certificate, and the msquic objects that dial and listen with it.
pub struct Node {
    dialing: Configuration,
    listening: Arc<Configuration>,
    // Dropped last, because it waits until everything else is closed.
    registration: Registration,
}

impl Drop for Node {
    fn drop(&mut self) {
        // Threads that serve a connection end with it.
        self.registration.shutdown();
    }
}

/// Have every listener of this process validate addresses by a Retry packet. msquic does so above this
/// share of the memory for handshakes.
pub fn always_retry() -> Result<(), Failure> {
    let percent: u16 = 0;
    // Loads the library, which has the setting.
    let _registration = Registration::new(&RegistrationConfig::new())?;
    // SAFETY: this setting has no handle and takes two bytes, which outlive the call.
    unsafe {
        Api::set_param(
            ptr::null_mut(),
            PARAM_GLOBAL_RETRY_MEMORY_PERCENT,
            size_of::<u16>() as u32,
            (&raw const percent).cast(),
        )?;
    }
    Ok(())
}

impl Node {
    pub fn new(certificate: &Certificate) -> Result<Self, Failure> {
        let registration = Registration::new(&RegistrationConfig::new())?;
        let settings = Settings::new()
            .set_PeerBidiStreamCount(256)
            .set_HandshakeIdleTimeoutMs(5_000)
            .set_IdleTimeoutMs(10_000)
            .set_KeepAliveIntervalMs(5_000);
        let configuration = |role| -> Result<_, Failure> {
            let made =
                Configuration::open(&registration, &[BufferRef::from("libp2p")], Some(&settings))?;
            made.load_credential(
                &CredentialConfig::new()
                    // A libp2p peer has a self-signed certificate; `peer_of` verifies it.
                    .set_credential_flags(
                        role | CredentialFlags::INDICATE_CERTIFICATE_RECEIVED
                            | CredentialFlags::DEFER_CERTIFICATE_VALIDATION
                            | CredentialFlags::USE_PORTABLE_CERTIFICATES,
                    )
                    .set_credential(Credential::CertificateFile(CertificateFile::new(
                        certificate.key.display().to_string(),
                        certificate.certificate.display().to_string(),
                    ))),
            )?;
            Ok(made)
        };
        Ok(Node {
            dialing: configuration(CredentialFlags::CLIENT)?,
            listening: Arc::new(configuration(
                CredentialFlags::REQUIRE_CLIENT_AUTHENTICATION,
            )?),
            registration,
        })
    }

    /// Connect, and verify `peer`.
    pub fn dial(&self, to: SocketAddr, peer: PeerId) -> Result<Connection, Failure> {
        let (state, callback, streams) = connection_callback(Some(peer));
        let handle = msquic::Connection::open(&self.registration, callback)?;
        handle.start(&self.dialing, &to.ip().to_string(), to.port())?;
        let connection = Connection::new(handle, state, streams);
        connection.proven()?;
        Ok(connection)
    }

    /// Listen, until the listener is dropped. Its connections arrive before their handshakes are
    /// complete.
    pub fn listen(&self, at: SocketAddr) -> Result<(Listener, Receiver<Connection>), Failure> {
        let configuration = self.listening.clone();
        let (sender, connections) = mpsc::channel();
        let handle = msquic::Listener::open(&self.registration, move |_, event| {
            if let ListenerEvent::NewConnection { connection, .. } = event {
                let (state, callback, streams) = connection_callback(None);
                connection.set_callback_handler(callback);
                connection.set_configuration(&configuration)?;
                // SAFETY: msquic transfers the ownership of an accepted connection.
                let handle = unsafe { msquic::Connection::from_raw(connection.as_raw()) };
                // A program that ends accepts no connections, which closes them.
                sender.send(Connection::new(handle, state, streams)).ok();
            }
            Ok(())
        })?;
        handle.start(&[BufferRef::from("libp2p")], Some(&Addr::from(at)))?;
        let address = handle.get_local_addr()?.as_socket();
        Ok((
            Listener {
                address: address.ok_or("a listener has an address")?,
                _handle: handle,
            },
            connections,
        ))
    }
}

pub struct Listener {
    pub address: SocketAddr,
    _handle: msquic::Listener,
}

#[derive(Default)]
struct ConnectionState {
    peer: Option<PeerId>,
    is_connected: bool,
    ended: Option<String>,
    is_over: bool,
}

fn connection_callback(
    expected: Option<PeerId>,
) -> (
    Arc<Watched<ConnectionState>>,
    impl FnMut(msquic::ConnectionRef, ConnectionEvent) -> Result<(), Status>,
    Receiver<Incoming>,
) {
    let watched = Arc::new(Watched::<ConnectionState>::default());
    let state = watched.clone();
    let (sender, streams) = mpsc::channel();
    let mut sender = Some(sender);
    let callback = move |_: msquic::ConnectionRef, event: ConnectionEvent| {
        match event {
            ConnectionEvent::PeerCertificateReceived { certificate, .. } => {
                // SAFETY: a portable certificate is a buffer of DER, valid in this callback.
                let der = unsafe { &*certificate.cast::<msquic::ffi::QUIC_BUFFER>() };
                match peer_of(BufferRef::from_ffi_ref(der).as_bytes(), expected) {
                    Ok(peer) => state.change(|state| state.peer = Some(peer)),
                    Err(error) => {
                        state.change(|state| state.ended = Some(error.to_string()));
                        return Err(StatusCode::QUIC_STATUS_BAD_CERTIFICATE.into());
                    }
                }
            }
            ConnectionEvent::Connected { .. } => state.change(|state| state.is_connected = true),
            ConnectionEvent::PeerStreamStarted { stream, .. } => {
                if let Some(sender) = &sender {
                    // A dropped connection accepts no streams, which closes them.
                    sender.send(Incoming::new(&stream)).ok();
                }
            }
            ConnectionEvent::ShutdownInitiatedByTransport { status, error_code } => {
                let why = format!("the connection was lost: {status}, error {error_code:#x}");
                state.change(|state| {
                    state.ended.get_or_insert(why);
                });
            }
            ConnectionEvent::ShutdownInitiatedByPeer { error_code } => {
                let why = format!("the other side closed the connection with code {error_code}");
                state.change(|state| {
                    state.ended.get_or_insert(why);
                });
            }
            ConnectionEvent::ShutdownComplete { .. } => {
                sender = None;
                state.change(|state| state.is_over = true);
            }
            _ => {}
        }
        Ok(())
    };
    (watched, callback, streams)
}

/// One connection. Clones are the same connection; dropping the last one closes it.
#[derive(Clone)]
pub struct Connection(Arc<ConnectionHandle>);

struct ConnectionHandle {
    state: Arc<Watched<ConnectionState>>,
    // Dropped before the connection, because streams must be closed first.
    streams: Mutex<Receiver<Incoming>>,
    handle: msquic::Connection,
}

impl Connection {
    fn new(
        handle: msquic::Connection,
        state: Arc<Watched<ConnectionState>>,
        streams: Receiver<Incoming>,
    ) -> Self {
        Connection(Arc::new(ConnectionHandle {
            state,
            streams: Mutex::new(streams),
            handle,
        }))
    }

    /// Wait for the end of the handshake; returns the peer id.
    pub fn proven(&self) -> Result<PeerId, Failure> {
        self.0.state.wait(|state| {
            if state.is_connected {
                return Some(
                    state
                        .peer
                        .ok_or_else(|| "the peer sent no certificate".into()),
                );
            }
            let ended = state.ended.clone().unwrap_or_else(|| "ended".to_owned());
            state
                .is_over
                .then(|| Err(format!("handshake: {ended}").into()))
        })
    }

    pub fn remote(&self) -> Result<SocketAddr, Failure> {
        Ok(self
            .0
            .handle
            .get_remote_addr()?
            .as_socket()
            .ok_or("a connection has an address")?)
    }

    pub fn open(&self) -> Result<Stream, Failure> {
        Stream::open(&self.0.handle, self.clone())
    }

    /// The next stream that the other side opened, or None when the connection is over.
    pub fn accept(&self) -> Option<Stream> {
        let streams = self
            .0
            .streams
            .lock()
            .expect("no thread panics with the lock");
        Some(streams.recv().ok()?.claimed(self.clone()))
    }

    pub fn close(&self, code: u64) {
        self.0.handle.shutdown(ConnectionShutdownFlags::NONE, code);
        self.0.state.wait(|state| state.is_over.then_some(()));
    }
}
