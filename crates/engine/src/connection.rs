//! One connection: open and accept streams, close, and know why it ended.
//!
//! Streams that we open come from a stock that the I/O thread keeps opened ahead of need, so
//! that opening one costs no round trip between threads. QUIC tells the peer of a stream
//! only with its first bytes, so an unused one costs nothing.

use std::{
    collections::VecDeque,
    fmt,
    net::SocketAddr,
    sync::Arc,
    task::{Context, Poll},
};

use crate::{
    blocking,
    budget::Budget,
    congestion::CongestionSignals,
    driver::{Command, Commands},
    error::ConnectionError,
    host_key::PublicKey,
    identity::PeerId,
    ready::Waiters,
    receive_credit::ReceiveCredit,
    statistics::Statistics,
    stream::{Stream, StreamShared},
    sync::Mutex,
};

/// What the application's connection and the I/O thread share.
pub(crate) struct ConnectionShared {
    /// Unique in the process: quinn-proto's own handles are reused.
    pub(crate) id: u64,
    pub(crate) is_initiator: bool,
    pub(crate) commands: Arc<Commands>,
    /// What it holds for readers.
    pub(crate) receive_credit: Arc<ReceiveCredit>,
    /// What waits to be acknowledged, of the whole endpoint.
    pub(crate) unacked: Arc<Budget>,
    pub(crate) congestion_signals: CongestionSignals,
    pub(crate) state: Mutex<State>,
}

pub(crate) struct State {
    pub(crate) remote: SocketAddr,
    pub(crate) local: SocketAddr,
    pub(crate) peer: Option<(PeerId, PublicKey)>,
    /// Why it is over.
    pub(crate) error: Option<ConnectionError>,
    /// Opened ahead of need, lowest id first.
    pub(crate) opened_ahead: VecDeque<Arc<StreamShared>>,
    /// The stock has been asked to be filled.
    pub(crate) is_refilling: bool,
    /// Opened by the peer and not yet accepted.
    pub(crate) arrived: VecDeque<Arc<StreamShared>>,
    pub(crate) statistics: Statistics,
    pub(crate) connected: Waiters,
    pub(crate) openable: Waiters,
    pub(crate) acceptable: Waiters,
    pub(crate) closed: Waiters,
}

impl State {
    fn wake_all(&mut self) {
        self.connected.wake();
        self.openable.wake();
        self.acceptable.wake();
        self.closed.wake();
    }
}

/// What a connection may hold: for readers, and for its peer.
pub(crate) struct ConnectionMemory {
    pub(crate) receive_credit: Arc<ReceiveCredit>,
    pub(crate) unacked: Arc<Budget>,
}

/// Streams that the I/O thread keeps opened ahead of need.
pub(crate) const STREAMS_OPENED_AHEAD: usize = 8;

impl ConnectionShared {
    pub(crate) fn new(
        id: u64,
        is_initiator: bool,
        remote: SocketAddr,
        local: SocketAddr,
        commands: Arc<Commands>,
        memory: ConnectionMemory,
        congestion_signals: CongestionSignals,
    ) -> Arc<Self> {
        Arc::new(Self {
            id,
            is_initiator,
            commands,
            receive_credit: memory.receive_credit,
            unacked: memory.unacked,
            congestion_signals,
            state: Mutex::new(State {
                remote,
                local,
                peer: None,
                error: None,
                opened_ahead: VecDeque::new(),
                is_refilling: false,
                arrived: VecDeque::new(),
                statistics: Statistics::default(),
                connected: Waiters::default(),
                openable: Waiters::default(),
                acceptable: Waiters::default(),
                closed: Waiters::default(),
            }),
        })
    }
}

/// Closes the connection when the last of its users is gone.
pub(crate) struct Handle(pub(crate) Arc<ConnectionShared>);

impl Drop for Handle {
    fn drop(&mut self) {
        self.0.close(0, b"dropped");
    }
}

impl ConnectionShared {
    /// It is over: tell whoever waits. The first reason stays; true when this is it.
    pub(crate) fn end(&self, error: ConnectionError) -> bool {
        let mut state = self.state.lock();
        let is_first = state.error.is_none();
        state.error.get_or_insert(error);
        state.opened_ahead.clear();
        state.wake_all();
        is_first
    }

    fn close(&self, code: u64, reason: &[u8]) {
        if !self.end(ConnectionError::closed_here(code, reason)) {
            return;
        }
        self.commands.push(Command::Close {
            connection: self.id,
            code,
            reason: reason.to_vec(),
        });
    }
}

/// A connection to a proven peer. Clones are the same connection, which closes with code 0
/// when the last clone and the last of its streams is dropped.
#[derive(Clone)]
pub struct Connection(pub(crate) Arc<Handle>);

impl Connection {
    pub(crate) fn new(shared: Arc<ConnectionShared>) -> Self {
        Self(Arc::new(Handle(shared)))
    }

    fn shared(&self) -> &ConnectionShared {
        &self.0.0
    }

    /// Ready when the handshake is done and the peer is proven.
    ///
    /// The peer judges us a moment later (libp2p tls spec, "Handshake Protocol"): a dialer may
    /// see a refusal only as the loss of a connection that was already established.
    pub fn poll_connected(&self, cx: &mut Context<'_>) -> Poll<Result<(), ConnectionError>> {
        let mut state = self.shared().state.lock();
        if let Some(error) = &state.error {
            return Poll::Ready(Err(error.clone()));
        }
        if state.peer.is_some() {
            return Poll::Ready(Ok(()));
        }
        state.connected.add(cx.waker());
        Poll::Pending
    }

    /// Open a stream. Pending while the peer allows no further one.
    ///
    /// The peer learns of the stream with its first bytes.
    ///
    /// # Cancellation
    /// A stream is taken only when this returns `Ready`.
    pub fn poll_open(&self, cx: &mut Context<'_>) -> Poll<Result<Stream, ConnectionError>> {
        let (result, refill) = {
            let mut state = self.shared().state.lock();
            if let Some(error) = &state.error {
                return Poll::Ready(Err(error.clone()));
            }
            let result = match state.opened_ahead.pop_front() {
                Some(stream) => Poll::Ready(Ok(Stream::new(stream, self.0.clone()))),
                None => {
                    state.openable.add(cx.waker());
                    Poll::Pending
                }
            };
            let refill =
                state.peer.is_some() && state.opened_ahead.len() <= STREAMS_OPENED_AHEAD / 2;
            (
                result,
                refill && !std::mem::replace(&mut state.is_refilling, true),
            )
        };
        if refill {
            self.shared()
                .commands
                .push(Command::Refill(self.shared().id));
        }
        result
    }

    /// The next stream that the peer opened. Those that arrived before the connection ended
    /// come before the error.
    ///
    /// # Cancellation
    /// A stream is taken only when this returns `Ready`.
    pub fn poll_accept(&self, cx: &mut Context<'_>) -> Poll<Result<Stream, ConnectionError>> {
        let mut state = self.shared().state.lock();
        if let Some(stream) = state.arrived.pop_front() {
            drop(state);
            stream.accept();
            return Poll::Ready(Ok(Stream::new(stream, self.0.clone())));
        }
        if let Some(error) = &state.error {
            return Poll::Ready(Err(error.clone()));
        }
        state.acceptable.add(cx.waker());
        Poll::Pending
    }

    /// Ready when the connection is over, with the reason.
    pub fn poll_closed(&self, cx: &mut Context<'_>) -> Poll<ConnectionError> {
        let mut state = self.shared().state.lock();
        if let Some(error) = &state.error {
            return Poll::Ready(error.clone());
        }
        state.closed.add(cx.waker());
        Poll::Pending
    }

    /// Close with an application code below 2^62. For this program the connection is over at
    /// once; what finished streams still owe the peer is delivered first, for at most
    /// [`Config::linger`](crate::Config::linger). Does nothing on a connection that is over.
    pub fn close(&self, code: u64, reason: &[u8]) {
        self.shared().close(code, reason);
    }

    /// Why the connection is over; `None` while it is not.
    pub fn error(&self) -> Option<ConnectionError> {
        self.shared().state.lock().error.clone()
    }

    /// Who the peer is; `None` before it is proven.
    pub fn peer_id(&self) -> Option<PeerId> {
        self.shared().state.lock().peer.as_ref().map(|(id, _)| *id)
    }

    /// The peer's libp2p public key; `None` before it is proven.
    pub fn public_key(&self) -> Option<PublicKey> {
        let state = self.shared().state.lock();
        state.peer.as_ref().map(|(_, key)| key.clone())
    }

    /// Whether this program dialed.
    pub fn is_initiator(&self) -> bool {
        self.shared().is_initiator
    }

    /// Where the peer is now; it may move.
    pub fn remote_addr(&self) -> SocketAddr {
        self.shared().state.lock().remote
    }

    /// The address of our socket: the address that packets arrived at where the system tells,
    /// else the one that was bound.
    pub fn local_addr(&self) -> SocketAddr {
        self.shared().state.lock().local
    }

    /// A snapshot of the counters, at most a few milliseconds old while data moves.
    pub fn statistics(&self) -> Statistics {
        self.shared().state.lock().statistics
    }

    /// Block until the peer is proven.
    pub fn wait_connected(&self) -> Result<(), ConnectionError> {
        blocking::wait(|cx| self.poll_connected(cx))
    }

    /// Block until a stream may be opened, and open it.
    pub fn open(&self) -> Result<Stream, ConnectionError> {
        blocking::wait(|cx| self.poll_open(cx))
    }

    /// Block until the peer opens a stream.
    pub fn accept(&self) -> Result<Stream, ConnectionError> {
        blocking::wait(|cx| self.poll_accept(cx))
    }

    /// Block until the connection is over.
    pub fn wait_closed(&self) -> ConnectionError {
        blocking::wait(|cx| self.poll_closed(cx))
    }
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.shared().state.lock();
        f.debug_struct("Connection")
            .field("remote", &state.remote)
            .field("peer", &state.peer.as_ref().map(|(id, _)| id))
            .field("error", &state.error)
            .finish_non_exhaustive()
    }
}
