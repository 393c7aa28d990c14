//! One identity and its UDP sockets: listen, dial, close.
//!
//! Dials leave from a listening socket that can reach the peer where there is one, so that
//! peers see the address that they can dial back and a NAT keeps one mapping for both.

use std::{
    fmt, io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll},
};

use parking_lot::Mutex;

use crate::{
    blocking,
    config::Config,
    congestion::CongestionSignals,
    connection::{Connection, ConnectionShared},
    destination::{no_route, objection, unmapped},
    dial_socket::socket_for,
    driver::{
        BoundSocket, Census, Command, Commands, Core, EndpointState, Settings, SocketInfo,
        SocketKey, SocketProvider, on_the_io_thread,
    },
    error::{Closed, ConnectionError, EndpointError},
    gate::{Gate, Prefix},
    identity::{Identity, PeerId},
    listener::{Listener, ListenerShared},
};

/// What endpoints, listeners and the I/O thread share of one endpoint.
pub(crate) struct EndpointShared {
    peer_id: PeerId,
    settings: Arc<Settings>,
    commands: Arc<Commands>,
    sockets: Arc<dyn SocketProvider>,
    state: Arc<Mutex<EndpointState>>,
    next_socket: AtomicU64,
    next_connection: AtomicU64,
}

impl EndpointShared {
    pub(crate) fn stop_listening(&self, socket: SocketKey) {
        for info in &mut self.state.lock().sockets {
            info.is_listening &= info.key != socket;
        }
        self.commands.push(Command::StopListening(socket));
    }

    /// Bind a socket; the caller holds the state's lock and records it there.
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

    /// A dial that is over before it began, and says why.
    fn failed_dial(&self, remote: SocketAddr, error: ConnectionError) -> Connection {
        let shared = self.new_connection(remote, any(remote), CongestionSignals::default());
        shared.end(error);
        Connection::new(shared)
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
            self.commands.clone(),
            self.settings.memory(),
            congestion_signals,
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

/// One identity with its sockets. Dropping it closes everything.
pub struct Endpoint(Arc<EndpointShared>);

impl Endpoint {
    /// An endpoint without sockets yet. Fails on a configuration that makes no sense, a key
    /// that cannot be used, or a system without room for a thread.
    pub fn new(identity: &Identity, config: Config) -> Result<Self, EndpointError> {
        let settings = Settings::new(identity, config)?;
        Ok(on_the_io_thread(|waker, sockets| {
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
        let core = Core::new(settings.clone(), state.clone(), commands.clone());
        let endpoint = Self(Arc::new(EndpointShared {
            peer_id: identity.peer_id(),
            settings,
            commands,
            sockets,
            state,
            next_socket: AtomicU64::new(0),
            next_connection: AtomicU64::new(0),
        }));
        (core, endpoint)
    }

    /// Who we are.
    pub fn peer_id(&self) -> PeerId {
        self.0.peer_id
    }

    /// Bind a UDP socket and accept connections on it. Port 0: the system chooses.
    ///
    /// An address whose listener was closed, and whose socket still serves connections, is
    /// taken up again.
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
        drop(state);
        let backlog = self.0.settings.config.max_accept_backlog;
        let listener = ListenerShared::new(&info, backlog);
        self.0.commands.push(Command::Listen(listener.clone()));
        Ok(Listener::new(listener, self.0.clone()))
    }

    /// Begin a handshake and return at once; [`Connection::poll_connected`] tells how it went.
    /// When `peer` is given, any other that answers is refused. Dropping the connection
    /// gives the attempt up.
    ///
    /// The dial leaves from the socket that listens on the address that the system's routing
    /// would send from; else from one that listens on the wildcard, or on another address of the
    /// same network and interface; else from a socket for dials, bound to the wildcard and any port. A remote
    /// that nobody can answer from, or that there is no route to, ends the connection at once with
    /// [`CloseKind::Unreachable`](crate::CloseKind::Unreachable); a link-local IPv6 address needs
    /// its zone (`scope_id`).
    pub fn connect(
        &self,
        remote: SocketAddr,
        peer: Option<PeerId>,
    ) -> Result<Connection, EndpointError> {
        let remote = unmapped(remote);
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
                // For want of a descriptor, for instance: a socket that is there may do.
                tracing::debug!(%remote, %error, "the system cannot be asked for a route");
                None
            }
        };
        let mut state = self.0.state.lock();
        if state.is_closing {
            return Err(Closed.into());
        }
        let info = match socket_for(&*self.0.sockets, &mut state.sockets, remote, source) {
            Some(info) => info,
            None => {
                let info = self.0.bind(any(remote), true)?;
                state.sockets.push(info);
                info
            }
        };
        drop(state);
        let congestion_signals = CongestionSignals::default();
        let (config, verdict) = self.0.settings.client(peer, congestion_signals.clone());
        let shared = self
            .0
            .new_connection(remote, info.local, congestion_signals);
        self.0.commands.push(Command::Connect {
            socket: info.key,
            shared: shared.clone(),
            config: Box::new(config),
            verdict,
        });
        Ok(Connection::new(shared))
    }

    /// Refuse the handshakes that these addresses begin from now on, and of no others any more.
    /// Connections that exist live on, and dials are not asked.
    pub fn deny(&self, addresses: impl IntoIterator<Item = Prefix>) {
        self.0.state.lock().gate = Gate::denying(addresses);
    }

    /// Hand over what verbs queued since the last flush; needed only with
    /// [`Flush::OnRequest`](crate::Flush::OnRequest).
    pub fn flush(&self) {
        self.0.commands.flush();
    }

    /// Close every listener and connection with an application code below 2^62. Finished
    /// streams are delivered as in [`Connection::close`]. Peers of which nothing more is to be
    /// heard, and to whom nothing is owed, are told before this returns, in time for the end of
    /// the process.
    pub fn close(&self, code: u64, reason: &[u8]) {
        {
            let mut state = self.0.state.lock();
            if std::mem::replace(&mut state.is_closing, true) {
                return;
            }
            for info in &mut state.sockets {
                info.is_listening = false;
            }
        }
        self.0.commands.push(Command::CloseAll {
            code,
            reason: reason.to_vec(),
        });
    }

    /// Ready when every connection has ended and every socket is closed, which takes at most
    /// the linger time and two seconds more.
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

    /// What there is of it behind its handles: for those who look for what is left. Waits for
    /// the I/O thread's pass, some milliseconds at most.
    pub fn census(&self) -> Census {
        self.0.sockets.census().unwrap_or_default()
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
