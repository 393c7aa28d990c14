//! The state of one connection that its handles and its driver share.

use std::{collections::VecDeque, net::SocketAddr, sync::Arc, time::Instant};

use crate::{
    budget::Budget, congestion::CongestionSignals, error::ConnectionError, host_key::PublicKey,
    identity::PeerId, ready::Waiters, receive_credit::ReceiveCredit, shared::stream::StreamShared,
    statistics::Statistics, sync::Mutex, tls::TlsParameters, totals::Totals,
};

/// The state that the application's [`Connection`](crate::Connection) and the I/O thread share.
pub(crate) struct ConnectionShared {
    /// Unique in the process: quinn-proto's own handles are reused.
    pub(crate) id: u64,
    pub(crate) is_initiator: bool,
    /// Received bytes that this connection holds for readers.
    pub(crate) receive_credit: Arc<ReceiveCredit>,
    /// The endpoint's budget of bytes not yet acknowledged.
    pub(crate) unacked: Arc<Budget>,
    pub(crate) congestion_signals: CongestionSignals,
    /// The endpoint's counters.
    pub(crate) totals: Arc<Totals>,
    pub(crate) state: Mutex<ConnectionState>,
}

/// What has come of a dial so far. The I/O thread notes it.
pub(crate) trait DialProgress: Send + Sync {
    /// The error of a dial whose handshake is not complete at `now`, with `received` datagrams from
    /// the peer.
    fn handshake_timeout(&self, now: Instant, received: u64) -> ConnectionError;

    /// Datagrams of all attempts that the system took, those that it refused at first among them.
    fn sent(&self) -> u64;
}

pub(crate) struct ConnectionState {
    pub(crate) remote: SocketAddr,
    pub(crate) local: SocketAddr,
    /// Of a dial that the I/O thread has begun, until the handshake is complete or has failed.
    pub(crate) dial: Option<Arc<dyn DialProgress>>,
    pub(crate) peer: Option<(PeerId, PublicKey)>,
    /// What was negotiated; known when `peer` is.
    pub(crate) tls: Option<TlsParameters>,
    /// Why the connection has ended.
    pub(crate) error: Option<ConnectionError>,
    /// ICMP reported the port of its dial as unreachable.
    pub(crate) is_port_unreachable: bool,
    /// Opened ahead of need, lowest id first.
    pub(crate) opened_ahead: VecDeque<Arc<StreamShared>>,
    /// The I/O thread has been asked to refill `opened_ahead`.
    pub(crate) is_refilling: bool,
    /// How many tasks wait for a stream behind one waker, as an event loop told.
    pub(crate) wanted: usize,
    /// Streams opened by the peer and not yet accepted.
    pub(crate) arrived: VecDeque<Arc<StreamShared>>,
    /// As the driver published them last; the handle adds those of streams and receive credit.
    pub(crate) statistics: Statistics,
    pub(crate) streams_opened: u64,
    pub(crate) streams_accepted: u64,
    pub(crate) connected: Waiters,
    pub(crate) openable: Waiters,
    pub(crate) acceptable: Waiters,
    pub(crate) closed: Waiters,
}

impl ConnectionState {
    /// Note the peer's address. Another one than before wakes the tasks that wait for the end: those
    /// live as long as the connection, and so need no task beside them to follow the peer.
    pub(crate) fn set_remote(&mut self, remote: SocketAddr) {
        if std::mem::replace(&mut self.remote, remote) != remote {
            self.closed.wake();
        }
    }

    fn wake_all(&mut self) {
        self.connected.wake();
        self.openable.wake();
        self.acceptable.wake();
        self.closed.wake();
    }
}

/// The memory accounts of a connection, for receiving and sending.
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
        memory: ConnectionMemory,
        congestion_signals: CongestionSignals,
        totals: Arc<Totals>,
    ) -> Arc<Self> {
        Arc::new(Self {
            id,
            is_initiator,
            receive_credit: memory.receive_credit,
            unacked: memory.unacked,
            congestion_signals,
            totals,
            state: Mutex::new(ConnectionState {
                remote,
                local,
                dial: None,
                peer: None,
                tls: None,
                error: None,
                is_port_unreachable: false,
                opened_ahead: VecDeque::new(),
                is_refilling: false,
                wanted: 0,
                arrived: VecDeque::new(),
                statistics: Statistics::default(),
                streams_opened: 0,
                streams_accepted: 0,
                connected: Waiters::default(),
                openable: Waiters::default(),
                acceptable: Waiters::default(),
                closed: Waiters::default(),
            }),
        })
    }

    /// Record why the connection ended and wake all waiters. The first error counts; true when
    /// this is it.
    pub(crate) fn end(&self, error: ConnectionError) -> bool {
        let mut state = self.state.lock();
        let is_first = state.error.is_none();
        state.error.get_or_insert(error);
        state.dial = None;
        state.opened_ahead.clear();
        state.wake_all();
        is_first
    }

    /// Record an ICMP port unreachable. Wakes the waiters for the handshake, the first time only.
    pub(crate) fn note_port_unreachable(&self) {
        let mut state = self.state.lock();
        if !std::mem::replace(&mut state.is_port_unreachable, true) {
            state.connected.wake();
        }
    }
}
