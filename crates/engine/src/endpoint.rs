//! One identity and its UDP sockets: listen, dial, close.
//!
//! A dial uses a listening socket that can reach the peer where there is one: the peer then sees
//! an address that it can dial back, and a NAT has one mapping for both.

use std::{
    fmt, io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::Arc,
    task::{Context, Poll},
};

use crate::{
    blocking,
    census::Census,
    config::Config,
    congestion::CongestionSignals,
    connection::Connection,
    destination::{canonical, no_route, objection},
    dial_mode::DialMode,
    dial_socket::socket_for,
    driver::{
        BoundSocket, Command, Commands, Core, Settings, SocketProvider, Wanted, on_the_io_thread,
    },
    error::{Closed, ConnectionError, EndpointError},
    gate::{Gate, Prefix},
    identity::{Identity, PeerId},
    inbound::Inbound,
    listener::Listener,
    multiaddr::Multiaddr,
    ready::ReadyQueue,
    shared::{ConnectionShared, EndpointState, ListenerShared, SocketInfo},
    sync::{
        Mutex,
        atomic::{AtomicU64, Ordering},
    },
    tls::CertificateHash,
    totals::{EndpointStatistics, Totals},
};

/// The parts of an endpoint.
struct EndpointInner {
    peer_id: PeerId,
    settings: Arc<Settings>,
    commands: Arc<Commands>,
    sockets: Arc<dyn SocketProvider>,
    state: Arc<Mutex<EndpointState>>,
    totals: Arc<Totals>,
    next_socket: AtomicU64,
    next_connection: AtomicU64,
}

impl EndpointInner {
    /// Bind a socket. The caller holds the lock of `state` and records the socket there.
    fn bind(&self, addr: SocketAddr, is_kept: bool) -> io::Result<SocketInfo> {
        let key = self.next_socket.fetch_add(1, Ordering::Relaxed);
        let BoundSocket { local, refusal } = self.sockets.bind(key, addr)?;
        self.commands.push(Command::Socket {
            socket: key,
            local,
            is_kept,
        });
        Ok(SocketInfo {
            key,
            local,
            refusal,
            is_listening: !is_kept,
            is_kept,
            is_address_gone: false,
        })
    }

    /// A connection that failed before its first packet, with `error`.
    fn failed_dial(&self, remote: SocketAddr, error: ConnectionError) -> Connection {
        let shared = self.new_connection(remote, any(remote), CongestionSignals::default());
        shared.end(error);
        Connection::new(shared, self.commands.clone())
    }

    fn new_connection(
        &self,
        remote: SocketAddr,
        local: SocketAddr,
        congestion_signals: CongestionSignals,
    ) -> Arc<ConnectionShared> {
        ConnectionShared::new(
            self.next_connection.fetch_add(1, Ordering::Relaxed),
            true,
            remote,
            local,
            self.settings.memory(),
            congestion_signals,
            self.totals.clone(),
        )
    }
}

/// The wildcard of the family of `remote`, and any port.
fn any(remote: SocketAddr) -> SocketAddr {
    let ip: IpAddr = match remote {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    SocketAddr::new(ip, 0)
}

/// One identity with its UDP sockets. Dropping it closes every listener and connection with
/// code 0.
pub struct Endpoint(EndpointInner);

impl Endpoint {
    /// Create an endpoint. It has no sockets until it listens or dials.
    ///
    /// # Errors
    /// [`EndpointError`] when a configuration value is out of range, the key cannot be used, or
    /// the system refuses the I/O thread.
    pub fn new(identity: &Identity, config: Config) -> Result<Self, EndpointError> {
        Self::start(identity, config, None)
    }

    /// As `new`, for a program whose wakers are those of this queue. The queue's event loop may
    /// receive datagrams itself while they come in close succession, if the queue is
    /// [`ReadyQueue::receiving`].
    ///
    /// # Errors
    /// Those of `new`.
    #[doc(hidden)]
    pub fn with_ready_queue(
        identity: &Identity,
        config: Config,
        ready_queue: &Arc<ReadyQueue>,
    ) -> Result<Self, EndpointError> {
        Self::start(identity, config, Some(ready_queue))
    }

    fn start(
        identity: &Identity,
        config: Config,
        ready_queue: Option<&Arc<ReadyQueue>>,
    ) -> Result<Self, EndpointError> {
        let settings = Settings::new(identity, config)?;
        Ok(on_the_io_thread(ready_queue, |waker, sockets| {
            let commands = Commands::new(waker, settings.config.flush);
            Self::assemble(identity, settings, commands, sockets)
        })?)
    }

    pub(crate) fn assemble(
        identity: &Identity,
        settings: Arc<Settings>,
        commands: Arc<Commands>,
        sockets: Arc<dyn SocketProvider>,
    ) -> (Core, Self) {
        let state = Arc::<Mutex<EndpointState>>::default();
        let totals = state.lock().totals.clone();
        let core = Core::new(settings.clone(), state.clone(), commands.clone());
        let endpoint = Self(EndpointInner {
            peer_id: identity.peer_id(),
            settings,
            commands,
            sockets,
            state,
            totals,
            next_socket: AtomicU64::new(0),
            next_connection: AtomicU64::new(0),
        });
        (core, endpoint)
    }

    /// The peer id of this endpoint's identity.
    pub fn peer_id(&self) -> PeerId {
        self.0.peer_id
    }

    /// Bind a UDP socket and accept connections on it. Port 0: the system chooses.
    ///
    /// When the listener of the address was closed and its socket still serves connections, that
    /// socket is used again.
    ///
    /// # Errors
    /// [`EndpointError::Io`] when the system refuses the socket; [`EndpointError::Closed`] after
    /// [`close`](Self::close).
    pub fn listen(&self, addr: SocketAddr) -> Result<Listener, EndpointError> {
        let mut state = self.0.state.lock();
        if state.is_closing {
            return Err(Closed.into());
        }
        let known = state
            .sockets
            .iter_mut()
            .find(|s| s.local == addr && !s.is_listening);
        let info = match known {
            Some(info) => {
                info.is_listening = true;
                *info
            }
            None => {
                let info = self.0.bind(addr, false)?;
                state.sockets.push(info);
                info
            }
        };
        let inbound = state.inbound.clone();
        drop(state);
        let backlog = self.0.settings.config.max_accept_backlog;
        let listener = ListenerShared::new(&info, backlog, inbound, self.0.totals.clone());
        self.0.commands.push(Command::Listen(listener.clone()));
        let (commands, state) = (self.0.commands.clone(), self.0.state.clone());
        Ok(Listener::new(listener, commands, state))
    }

    /// Start a handshake and return at once; [`Connection::poll_connected`] gives its result.
    /// When `peer` is given, a peer with another id is refused.
    ///
    /// The dial uses the socket that listens on the source address of the system's route to
    /// `remote`; else one that listens on the wildcard, or on another address of the same network
    /// and interface; else a socket for dials, bound to the wildcard and any port. A link-local
    /// IPv6 address needs its zone (`scope_id`).
    ///
    /// # Errors
    /// [`EndpointError::Io`] when the system refuses a socket; [`EndpointError::Closed`] after
    /// [`close`](Self::close). A `remote` that cannot answer, or without a route to it, gives a
    /// connection that has ended with [`CloseKind::Unreachable`](crate::CloseKind::Unreachable).
    ///
    /// # Cancellation
    /// Dropping the connection cancels the dial.
    pub fn connect(
        &self,
        remote: SocketAddr,
        peer: Option<PeerId>,
    ) -> Result<Connection, EndpointError> {
        self.connect_as(remote, peer, DialMode::Plain)
    }

    /// [`connect`](Self::connect) over WebTransport, as browsers do: the server's certificate must have one of these
    /// hashes, and the server must confirm all of them (libp2p webtransport spec, "Security Handshake").
    ///
    /// # Errors
    /// As [`connect`](Self::connect).
    pub fn connect_webtransport(
        &self,
        remote: SocketAddr,
        peer: Option<PeerId>,
        hashes: Vec<CertificateHash>,
    ) -> Result<Connection, EndpointError> {
        self.dial(remote, Wanted::WebTransport(peer, hashes), DialMode::Plain)
    }

    /// The hashes that an address for browsers has now: those of the current and of the next certificate. They
    /// change when [`certificates_renewed`](Self::certificates_renewed) says.
    ///
    /// # Errors
    /// [`EndpointError::Identity`] if no certificate can be made.
    pub fn certificate_hashes(&self) -> Result<[CertificateHash; 2], EndpointError> {
        let certificates = self.0.settings.certificates();
        Ok(certificates.advertised(certificates.time())?)
    }

    /// When the next certificate becomes the current one, in seconds since 1970.
    pub fn certificates_renewed(&self) -> u64 {
        let certificates = self.0.settings.certificates();
        certificates.renewal(certificates.time())
    }

    /// [`connect`](Self::connect) in another way.
    ///
    /// # Errors
    /// As [`connect`](Self::connect).
    pub fn connect_as(
        &self,
        remote: SocketAddr,
        peer: Option<PeerId>,
        mode: DialMode,
    ) -> Result<Connection, EndpointError> {
        self.dial(remote, Wanted::Libp2p(peer), mode)
    }

    fn dial(
        &self,
        remote: SocketAddr,
        wanted: Wanted,
        mode: DialMode,
    ) -> Result<Connection, EndpointError> {
        let remote = canonical(remote);
        if self.0.state.lock().is_closing {
            return Err(Closed.into());
        }
        if let Some(why) = objection(remote) {
            return Ok(self
                .0
                .failed_dial(remote, ConnectionError::unreachable(why)));
        }
        let source = match self.0.sockets.source(remote) {
            Ok(source) => Some(source),
            Err(error) => {
                if let Some(why) = no_route(remote, &error) {
                    return Ok(self
                        .0
                        .failed_dial(remote, ConnectionError::unreachable(why)));
                }
                // The lookup itself failed, for example without a free descriptor. A socket
                // that is already bound may still reach the peer.
                tracing::debug!("{}: the route lookup failed: {error}", Multiaddr(remote));
                None
            }
        };
        let mut state = self.0.state.lock();
        if state.is_closing {
            return Err(Closed.into());
        }
        let is_fresh = mode == DialMode::FreshPort;
        let known = match is_fresh {
            true => None,
            false => socket_for(&*self.0.sockets, &mut state.sockets, remote, source),
        };
        let info = match known {
            Some(info) => info,
            // Not recorded, so that no other dial uses it.
            None if is_fresh => self.0.bind(any(remote), true)?,
            None => {
                let info = self.0.bind(any(remote), true)?;
                state.sockets.push(info);
                info
            }
        };
        drop(state);
        let congestion_signals = CongestionSignals::default();
        let (config, verdict) =
            self.0
                .settings
                .client(remote, wanted, congestion_signals.clone(), mode);
        let shared = self
            .0
            .new_connection(remote, info.local, congestion_signals);
        self.0.commands.push(Command::Connect {
            socket: info.key,
            shared: shared.clone(),
            config: Arc::new(config),
            verdict,
            mode,
        });
        Ok(Connection::new(shared, self.0.commands.clone()))
    }

    /// Wait for the next inbound connection of `peer`; [`Inbound::punch`] opens NATs for it.
    pub fn next_inbound(&self, peer: PeerId) -> Inbound {
        let inner = &self.0;
        let (commands, sockets) = (inner.commands.clone(), inner.sockets.clone());
        Inbound::new(peer, commands, inner.state.clone(), sockets)
    }

    /// Replace the deny list: refuse inbound handshakes from these addresses or networks. Neither
    /// existing connections nor dials are affected.
    pub fn deny(&self, addresses: impl IntoIterator<Item = Prefix>) {
        self.0.state.lock().gate = Gate::denying(addresses);
    }

    /// Hand the work queued since the last flush to the I/O thread; needed only with
    /// [`Flush::OnRequest`](crate::Flush::OnRequest).
    pub fn flush(&self) {
        self.0.commands.flush();
    }

    /// Close every listener and connection with an application code below 2^62. Finished
    /// streams are delivered as in [`Connection::close`]. CONNECTION_CLOSE is sent before this
    /// returns on each connection without undelivered streams, so that the process may exit.
    pub fn close(&self, code: u64, reason: &[u8]) {
        {
            let mut state = self.0.state.lock();
            if std::mem::replace(&mut state.is_closing, true) {
                return;
            }
            state.inbound.close();
            for info in &mut state.sockets {
                info.is_listening = false;
            }
        }
        self.0.commands.push(Command::CloseAll {
            code,
            reason: reason.to_vec(),
        });
    }

    /// Ready when every connection has ended and every socket is closed. After
    /// [`close`](Self::close) that takes at most [`Config::linger`] and two seconds more.
    pub fn poll_closed(&self, cx: &mut Context<'_>) -> Poll<()> {
        let mut state = self.0.state.lock();
        if state.is_closed {
            return Poll::Ready(());
        }
        state.closed.add(cx.waker());
        Poll::Pending
    }

    /// Block until everything is closed.
    pub fn wait_closed(&self) {
        blocking::wait(|cx| self.poll_closed(cx));
    }

    /// Counts of the state that this endpoint holds, to find leaks. Blocks until the I/O thread
    /// has finished its pass, at most some milliseconds.
    pub fn census(&self) -> Census {
        self.0.sockets.census().unwrap_or_default()
    }

    /// A snapshot of the counters. Reads a hundred or so atomics and waits for nothing, so that a node with
    /// any number of connections may ask each second.
    pub fn statistics(&self) -> EndpointStatistics {
        let settings = &self.0.settings;
        EndpointStatistics {
            receive_budget: settings.config.receive_budget,
            receive_reserved: settings.receive_charged(),
            send_budget: settings.config.send_budget,
            send_reserved: settings.unacked_charged(),
            ..self.0.totals.read()
        }
    }

    #[cfg(feature = "simulation")]
    pub(crate) fn commands(&self) -> &Commands {
        &self.0.commands
    }
}

impl Drop for Endpoint {
    fn drop(&mut self) {
        self.close(0, b"dropped");
    }
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Endpoint").field(&self.0.peer_id).finish()
    }
}
