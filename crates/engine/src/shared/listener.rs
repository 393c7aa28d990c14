//! The state of one listener that its handle and the I/O thread share: the backlog and the counters.

use std::{collections::VecDeque, net::SocketAddr, sync::Arc, time::Instant};

use crate::{
    driver::{Excess, Limit, LimitLog, SocketKey},
    errno::Errno,
    error::{CloseKind, ConnectionError, Party},
    identity::PeerId,
    multiaddr::Multiaddr,
    ready::Waiters,
    shared::{connection::ConnectionShared, endpoint::SocketInfo, inbound::InboundWaiters},
    sync::Mutex,
    totals::Totals,
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
    /// Connections that wait for [`Listener::poll_accept`](crate::Listener::poll_accept) now.
    pub backlog: usize,
}

/// The state that the application's [`Listener`](crate::Listener) and the I/O thread share.
pub(crate) struct ListenerShared {
    pub(crate) socket: SocketKey,
    pub(crate) local: SocketAddr,
    pub(crate) refusal: Option<Errno>,
    max_backlog: usize,
    /// The endpoint's waiters for peers: each learns of its peer's connection from here.
    inbound: Arc<InboundWaiters>,
    /// The endpoint's counters.
    pub(crate) totals: Arc<Totals>,
    pub(crate) state: Mutex<ListenerState>,
}

#[derive(Default)]
pub(crate) struct ListenerState {
    /// Established connections, in the order of their handshakes.
    pub(crate) backlog: VecDeque<Arc<ConnectionShared>>,
    pub(crate) is_closed: bool,
    /// New connections may speak HTTP/3 instead of libp2p, as browsers do.
    pub(crate) serves_webtransport: bool,
    pub(crate) acceptable: Waiters,
    limit_log: LimitLog,
    pub(crate) statistics: ListenerStatistics,
}

impl ListenerShared {
    pub(crate) fn new(
        info: &SocketInfo,
        max_backlog: usize,
        inbound: Arc<InboundWaiters>,
        totals: Arc<Totals>,
    ) -> Arc<Self> {
        Arc::new(Self {
            socket: info.key,
            local: info.local,
            refusal: info.refusal,
            max_backlog,
            inbound,
            totals,
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
                let excess = Excess {
                    limit: Limit::AcceptBacklog,
                    value: Some(self.max_backlog),
                    remote,
                    local: self.local,
                };
                state.limit_log.note(now, &excess);
                self.totals.add(Limit::AcceptBacklog.counter(), 1);
            }
            return false;
        }
        state.statistics.connections_accepted += 1;
        state.backlog.push_back(connection.clone());
        state.acceptable.wake();
        drop(state);
        self.inbound.arrived(connection);
        true
    }

    /// Whether a waiter waits for this peer's inbound connection.
    pub(crate) fn is_awaited(&self, peer: PeerId) -> bool {
        self.inbound.is_awaited(peer)
    }

    pub(crate) fn handshake_failed(&self, error: &ConnectionError, remote: SocketAddr) {
        tracing::debug!("inbound handshake failed: {}, {error}", Multiaddr(remote));
        let statistics = &mut self.state.lock().statistics;
        statistics.handshakes_failed += 1;
        self.totals.add(|totals| &totals.handshakes_failed, 1);
        if error.by == Party::Local && error.kind == CloseKind::Refused {
            statistics.handshakes_refused += 1;
            self.totals.add(|totals| &totals.handshakes_refused, 1);
        }
    }

    /// Stop accepting. The first call returns the backlog, whose connections the caller closes.
    #[must_use]
    pub(crate) fn close(&self) -> Option<VecDeque<Arc<ConnectionShared>>> {
        let mut state = self.state.lock();
        if std::mem::replace(&mut state.is_closed, true) {
            return None;
        }
        state.acceptable.wake();
        Some(std::mem::take(&mut state.backlog))
    }
}
