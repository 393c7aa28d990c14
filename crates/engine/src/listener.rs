//! A listening socket, its backlog of established connections, and its counters.

use std::{
    collections::VecDeque,
    fmt,
    net::SocketAddr,
    sync::Arc,
    task::{Context, Poll},
    time::Instant,
};

use nix::errno::Errno;
use parking_lot::Mutex;

use crate::{
    blocking,
    connection::{Connection, ConnectionShared},
    driver::{Limit, LimitLog, Multiaddr, SocketInfo, SocketKey},
    endpoint::EndpointShared,
    error::{CloseKind, Closed, ConnectionError, Party},
    ready::Waiters,
};

/// Counters of a listener since it was created.
#[derive(Clone, Copy, Debug, Default)]
#[non_exhaustive]
pub struct ListenerStatistics {
    /// Handshakes started.
    pub handshakes_started: u64,
    /// Handshakes that failed, for any reason.
    pub handshakes_failed: u64,
    /// Failed handshakes that this side refused, because of the peer's certificate.
    pub handshakes_refused: u64,
    /// Connections whose handshake completed.
    pub connections_accepted: u64,
    /// Connections refused because of a limit or the deny list. Each counts once, however many
    /// packets its peer has sent.
    pub connections_refused: u64,
    /// Retry packets sent to validate an address (RFC 9000 section 8.1.2).
    pub retries_sent: u64,
    /// Stateless resets sent for packets of unknown connections (RFC 9000 section 10.3).
    pub resets_sent: u64,
    /// Stateless resets not sent, because of the limit of 1 000 per second after a burst of 1 000.
    pub resets_suppressed: u64,
    /// Datagrams received on the socket.
    pub datagrams_received: u64,
    /// Bytes of UDP payload received.
    pub bytes_received: u64,
    /// Received datagrams that were dropped because their source cannot be answered: UDP port 0, a
    /// multicast or broadcast address, no address.
    pub datagrams_unanswerable: u64,
    /// Connections that wait for [`Listener::poll_accept`] now.
    pub backlog: usize,
}

/// The state that the application's [`Listener`] and the I/O thread share.
pub(crate) struct ListenerShared {
    pub(crate) socket: SocketKey,
    local: SocketAddr,
    refusal: Option<Errno>,
    max_backlog: usize,
    pub(crate) state: Mutex<State>,
}

#[derive(Default)]
pub(crate) struct State {
    backlog: VecDeque<Connection>,
    is_closed: bool,
    acceptable: Waiters,
    limit_log: LimitLog,
    pub(crate) statistics: ListenerStatistics,
}

impl ListenerShared {
    pub(crate) fn new(info: &SocketInfo, max_backlog: usize) -> Arc<Self> {
        Arc::new(Self {
            socket: info.key,
            local: info.local,
            refusal: info.refusal,
            max_backlog,
            state: Mutex::default(),
        })
    }

    /// Queue an established connection. False when the backlog is full or the listener closed.
    pub(crate) fn offer(
        &self,
        connection: &Arc<ConnectionShared>,
        now: Instant,
        remote: SocketAddr,
    ) -> bool {
        let mut state = self.state.lock();
        if state.is_closed || state.backlog.len() >= self.max_backlog {
            state.statistics.connections_refused += 1;
            if !state.is_closed {
                state.limit_log.note(now, Limit::AcceptBacklog, remote);
            }
            return false;
        }
        state.statistics.connections_accepted += 1;
        state.backlog.push_back(Connection::new(connection.clone()));
        state.acceptable.wake();
        true
    }

    pub(crate) fn handshake_failed(&self, error: &ConnectionError, remote: SocketAddr) {
        tracing::debug!("inbound handshake failed: {}, {error}", Multiaddr(remote));
        let statistics = &mut self.state.lock().statistics;
        statistics.handshakes_failed += 1;
        if error.by == Party::Local && error.kind == CloseKind::Refused {
            statistics.handshakes_refused += 1;
        }
    }

    /// Stop accepting and close the connections in the backlog. True for the first call.
    pub(crate) fn close(&self) -> bool {
        let backlog = {
            let mut state = self.state.lock();
            if state.is_closed {
                return false;
            }
            state.is_closed = true;
            state.acceptable.wake();
            std::mem::take(&mut state.backlog)
        };
        for connection in backlog {
            connection.close(0, b"listener closed");
        }
        true
    }
}

/// A listening socket. It accepts connections until it is closed or dropped.
pub struct Listener {
    shared: Arc<ListenerShared>,
    endpoint: Arc<EndpointShared>,
}

impl Listener {
    pub(crate) fn new(shared: Arc<ListenerShared>, endpoint: Arc<EndpointShared>) -> Self {
        Self { shared, endpoint }
    }

    /// The address that it listens on, with the port that the system chose.
    pub fn local_addr(&self) -> SocketAddr {
        self.shared.local
    }

    /// What does not work on this socket because the system refused its options, as some
    /// sandboxes do, and what to do about it. `None`: no limitation.
    pub fn limitation(&self) -> Option<String> {
        let error = self.shared.refusal?;
        let mut text = format!(
            "the system refuses socket options ({error:?}): one datagram a call, no ECN marks received"
        );
        if self.shared.local.ip().is_unspecified() {
            text += "; on a host with several addresses peers that dial one may be answered from another: \
                     listen on each address instead of the wildcard";
        }
        Some(text)
    }

    /// The next connection whose handshake has completed. Its peer id is verified.
    ///
    /// # Errors
    /// [`Closed`] after [`close`](Self::close).
    ///
    /// # Cancellation
    /// A connection is taken only when this returns `Ready`.
    pub fn poll_accept(&self, cx: &mut Context<'_>) -> Poll<Result<Connection, Closed>> {
        let mut state = self.shared.state.lock();
        if let Some(connection) = state.backlog.pop_front() {
            return Poll::Ready(Ok(connection));
        }
        if state.is_closed {
            return Poll::Ready(Err(Closed));
        }
        state.acceptable.add(cx.waker());
        Poll::Pending
    }

    /// [`poll_accept`](Self::poll_accept), blocking.
    pub fn accept(&self) -> Result<Connection, Closed> {
        blocking::wait(|cx| self.poll_accept(cx))
    }

    /// Stop accepting, and close connections that were not accepted. Accepted ones live on, and
    /// the socket with them.
    pub fn close(&self) {
        if self.shared.close() {
            self.endpoint.stop_listening(self.shared.socket);
        }
    }

    /// A snapshot of the counters.
    pub fn statistics(&self) -> ListenerStatistics {
        let state = self.shared.state.lock();
        ListenerStatistics {
            backlog: state.backlog.len(),
            ..state.statistics
        }
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.close();
    }
}

impl fmt::Debug for Listener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Listener").field(&self.shared.local).finish()
    }
}
