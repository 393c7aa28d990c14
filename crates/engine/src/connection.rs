//! One connection: open and accept streams, close, and read why it ended.
//!
//! The I/O thread opens streams ahead of need, so that opening one costs no round trip between
//! threads. QUIC announces a stream only with its first frame, so that an unused one costs
//! the peer nothing.

use std::{
    fmt,
    net::SocketAddr,
    sync::Arc,
    task::{Context, Poll},
    time::Instant,
};

use crate::{
    blocking,
    driver::{Command, Commands},
    error::{CloseKind, ConnectionError, Party},
    handle::Handle,
    host_key::PublicKey,
    identity::PeerId,
    shared::{ConnectionShared, STREAMS_OPENED_AHEAD},
    statistics::Statistics,
    stream::Stream,
    tls::{TlsParameters, is_h3},
};

/// A QUIC connection. Clones are the same connection, which closes with code 0 when the last
/// clone and the last of its streams are dropped.
#[derive(Clone)]
pub struct Connection(pub(crate) Arc<Handle>);

impl Connection {
    pub(crate) fn new(shared: Arc<ConnectionShared>, commands: Arc<Commands>) -> Self {
        Self(Handle::new(shared, commands))
    }

    fn shared(&self) -> &ConnectionShared {
        &self.0.shared
    }

    /// Ready when the handshake has completed and the peer's id is verified, or with the error
    /// that ended the connection.
    ///
    /// In TLS 1.3 the listener verifies the dialer last (libp2p tls spec, "Handshake Protocol"): a
    /// dialer may see a refusal only as the end of a connection that was already established.
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

    /// Open a bidirectional stream. Pending until the handshake has completed and while the
    /// peer's stream limit is reached (RFC 9000 section 4.6).
    ///
    /// The peer learns of the stream with its first bytes.
    ///
    /// # Errors
    /// The error that ended the connection.
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
                Some(stream) => {
                    state.streams_opened += 1;
                    self.shared().totals.add(|it| &it.streams_opened, 1);
                    Poll::Ready(Ok(Stream::new(stream, self.0.clone())))
                }
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
            self.0.commands.push(Command::Refill(self.shared().id));
        }
        result
    }

    /// Tell how many tasks wait for [`poll_open`](Self::poll_open) behind one waker, after it was
    /// pending: that many streams are opened together, as far as the peer allows.
    pub fn want_streams(&self, tasks: usize) {
        self.shared().state.lock().wanted = tasks;
    }

    /// The next stream that the peer opened.
    ///
    /// # Errors
    /// The error that ended the connection, after all streams that arrived before it.
    ///
    /// # Cancellation
    /// A stream is taken only when this returns `Ready`.
    pub fn poll_accept(&self, cx: &mut Context<'_>) -> Poll<Result<Stream, ConnectionError>> {
        let mut state = self.shared().state.lock();
        if let Some(stream) = state.arrived.pop_front() {
            state.streams_accepted += 1;
            drop(state);
            self.shared().totals.add(|it| &it.streams_accepted, 1);
            let stream = Stream::new(stream, self.0.clone());
            stream.accept();
            return Poll::Ready(Ok(stream));
        }
        if let Some(error) = &state.error {
            return Poll::Ready(Err(error.clone()));
        }
        state.acceptable.add(cx.waker());
        Poll::Pending
    }

    /// Ready when the connection has ended, with the error that ended it. The waker is also woken when
    /// [`remote_addr`](Self::remote_addr) changes.
    pub fn poll_closed(&self, cx: &mut Context<'_>) -> Poll<ConnectionError> {
        let mut state = self.shared().state.lock();
        if let Some(error) = &state.error {
            return Poll::Ready(error.clone());
        }
        state.closed.add(cx.waker());
        Poll::Pending
    }

    /// Close with an application code below 2^62 (RFC 9000 section 10.2). For this program the
    /// connection ends at once. The peer first gets the rest of all finished streams, for at
    /// most [`Config::linger`](crate::Config::linger). Does nothing on a connection that has
    /// ended.
    pub fn close(&self, code: u64, reason: &[u8]) {
        self.0.close(code, reason);
    }

    /// The error that ended the connection; `None` while it is open.
    pub fn error(&self) -> Option<ConnectionError> {
        self.shared().state.lock().error.clone()
    }

    /// The peer's verified id; `None` until the handshake has completed.
    pub fn peer_id(&self) -> Option<PeerId> {
        self.shared().state.lock().peer.as_ref().map(|(id, _)| *id)
    }

    /// The peer's libp2p public key; `None` until the handshake has completed.
    pub fn public_key(&self) -> Option<PublicKey> {
        let state = self.shared().state.lock();
        state.peer.as_ref().map(|(_, key)| key.clone())
    }

    /// What both ends agreed on in the TLS handshake; `None` until it has completed.
    pub fn tls(&self) -> Option<TlsParameters> {
        self.shared().state.lock().tls.clone()
    }

    /// Whether an ICMP port unreachable message came while the dial was unanswered: nothing listens
    /// on the port, or a firewall or router rejects UDP. The dial continues: the host of a peer that
    /// is just starting reports the same. When this becomes true the waker of
    /// [`poll_connected`](Self::poll_connected) is woken, so that a program can try another address
    /// beside this one.
    pub fn is_port_unreachable(&self) -> bool {
        self.shared().state.lock().is_port_unreachable
    }

    /// Why a dial is not connected: the error that ended it, else the one that a handshake timeout
    /// would give now, for a program that gives the dial up. `None` once connected.
    pub fn unconnected(&self) -> Option<ConnectionError> {
        let state = self.shared().state.lock();
        if state.peer.is_some() {
            return None;
        }
        if let Some(error) = &state.error {
            return Some(error.clone());
        }
        let Some(dial) = &state.dial else {
            let why = "no datagram was sent yet";
            let kind = CloseKind::HandshakeTimeout;
            return Some(ConnectionError::new(Party::Local, kind, None, why));
        };
        let received = state.statistics.datagrams_received;
        Some(dial.handshake_timeout(Instant::now(), received))
    }

    /// Whether it is a session of WebTransport; `false` until the handshake has completed.
    pub fn is_webtransport(&self) -> bool {
        self.shared().state.lock().tls.as_ref().is_some_and(is_h3)
    }

    /// Whether this program dialed.
    pub fn is_initiator(&self) -> bool {
        self.shared().is_initiator
    }

    /// The peer's address. It changes when the peer migrates (RFC 9000 section 9).
    pub fn remote_addr(&self) -> SocketAddr {
        self.shared().state.lock().remote
    }

    /// Our address: the destination of the peer's packets where the system reports it, else the
    /// address that the socket is bound to.
    pub fn local_addr(&self) -> SocketAddr {
        self.shared().state.lock().local
    }

    /// A snapshot of the counters, at most 10 ms old while data moves. Those of a dial without a
    /// connection count the datagrams of all its attempts, as its error does.
    pub fn statistics(&self) -> Statistics {
        let receive_credit = &self.shared().receive_credit;
        let state = self.shared().state.lock();
        let published = state.statistics.datagrams_sent;
        Statistics {
            datagrams_sent: state.dial.as_ref().map_or(published, |dial| dial.sent()),
            streams_waiting: state.arrived.len(),
            streams_opened: state.streams_opened,
            streams_accepted: state.streams_accepted,
            receive_window: receive_credit.window(),
            receive_held: receive_credit.held(),
            ..state.statistics
        }
    }

    /// [`poll_connected`](Self::poll_connected), blocking.
    pub fn wait_connected(&self) -> Result<(), ConnectionError> {
        blocking::wait(|cx| self.poll_connected(cx))
    }

    /// [`poll_open`](Self::poll_open), blocking.
    pub fn open(&self) -> Result<Stream, ConnectionError> {
        blocking::wait(|cx| self.poll_open(cx))
    }

    /// [`poll_accept`](Self::poll_accept), blocking.
    pub fn accept(&self) -> Result<Stream, ConnectionError> {
        blocking::wait(|cx| self.poll_accept(cx))
    }

    /// [`poll_closed`](Self::poll_closed), blocking.
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
