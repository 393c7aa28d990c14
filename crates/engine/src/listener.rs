//! A listening socket: connections that are proven and wait to be accepted.

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

/// Counters of a listener, since it began to listen.
#[derive(Clone, Copy, Debug, Default)]
#[non_exhaustive]
pub struct ListenerStatistics {
    /// Handshakes that began.
    pub handshakes_started: u64,
    /// Handshakes that ended without a proven peer, for whatever reason.
    pub handshakes_failed: u64,
    /// Those of them that this side refused, for the peer's certificate.
    pub handshakes_refused: u64,
    /// Connections with a proven peer.
    pub connections_accepted: u64,
    /// Connections refused for a limit, or because their address is denied. Each counts once,
    /// however many packets its peer has sent.
    pub connections_refused: u64,
    /// First packets whose senders had to prove their address.
    pub retries_sent: u64,
    /// Stateless resets sent, for packets of connections that are not known (RFC 9000 section 10.3).
    pub resets_sent: u64,
    /// Those that were not sent, as there are no more than 1 000 in a second, after as many at once.
    pub resets_suppressed: u64,
    /// Datagrams that arrived at the socket.
    pub datagrams_received: u64,
    /// Bytes in them.
    pub bytes_received: u64,
    /// Datagrams among them that were dropped because nothing can be sent to where they say they
    /// come from: UDP port 0, a multicast or broadcast address, no address.
    pub datagrams_unanswerable: u64,
    /// Connections that wait in [`Listener::poll_accept`].
    pub backlog: usize,
}

/// What the application's listener and the I/O thread share.
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

    /// Hand over a proven connection. False when there is no room or no one to take it.
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

    /// Stop accepting; who still waits to be accepted is closed. True the first time.
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

/// A socket that accepts connections, until it is closed or dropped.
pub struct Listener {
    shared: Arc<ListenerShared>,
    endpoint: Arc<EndpointShared>,
}

impl Listener {
    pub(crate) fn new(shared: Arc<ListenerShared>, endpoint: Arc<EndpointShared>) -> Self {
        Self { shared, endpoint }
    }

    /// Where it listens, with the port that the system chose.
    pub fn local_addr(&self) -> SocketAddr {
        self.shared.local
    }

    /// What does not work at this socket because the system refuses options of it, as some
    /// sandboxes do, and what to do about it; `None` where all is well.
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

    /// The next connection whose handshake is done and whose peer is proven.
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

    /// Block until a peer connects.
    pub fn accept(&self) -> Result<Connection, Closed> {
        blocking::wait(|cx| self.poll_accept(cx))
    }

    /// Stop accepting. Connections that were accepted live on, and the socket with them.
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
