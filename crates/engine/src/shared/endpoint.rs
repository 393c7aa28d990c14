//! The state of one endpoint that its handle, its listeners and its core share.

use std::{net::SocketAddr, sync::Arc};

use crate::{
    driver::SocketKey, errno::Errno, gate::Gate, ready::Waiters, shared::inbound::InboundWaiters,
    totals::Totals,
};

/// The state that an endpoint's handle and its core share.
#[derive(Default)]
pub(crate) struct EndpointState {
    /// Open sockets; application threads add them, the core removes them.
    pub(crate) sockets: Vec<SocketInfo>,
    pub(crate) is_closing: bool,
    /// The addresses that may not begin a handshake.
    pub(crate) gate: Gate,
    /// Every connection has ended and every socket is closed.
    pub(crate) is_closed: bool,
    pub(crate) closed: Waiters,
    pub(crate) inbound: Arc<InboundWaiters>,
    pub(crate) totals: Arc<Totals>,
}

impl EndpointState {
    /// A listener of this socket was closed.
    pub(crate) fn stop_listening(&mut self, socket: SocketKey) {
        for info in &mut self.sockets {
            info.is_listening &= info.key != socket;
        }
    }
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct SocketInfo {
    pub(crate) key: SocketKey,
    pub(crate) local: SocketAddr,
    /// The system refused options of the socket with this error.
    pub(crate) refusal: Option<Errno>,
    pub(crate) is_listening: bool,
    /// Bound for dials; open as long as the endpoint.
    pub(crate) is_kept: bool,
    /// No interface had its address when a dial last checked.
    pub(crate) is_address_gone: bool,
}
