//! The waiters for peers' inbound connections that the application and the I/O thread share.

use std::{
    net::SocketAddr,
    sync::{Arc, Weak},
};

use crate::{
    error::Closed, identity::PeerId, ready::Waiters, shared::connection::ConnectionShared,
    sync::Mutex,
};

/// The waiters of an endpoint.
#[derive(Default)]
pub(crate) struct InboundWaiters(Mutex<Registry>);

#[derive(Default)]
struct Registry {
    waiting: Vec<Weak<InboundShared>>,
    is_closed: bool,
}

impl InboundWaiters {
    pub(crate) fn add(&self, waiter: &Arc<InboundShared>) {
        let mut registry = self.0.lock();
        if registry.is_closed {
            waiter.end(Err(Closed));
            return;
        }
        registry.waiting.retain(|each| each.strong_count() > 0);
        registry.waiting.push(Arc::downgrade(waiter));
    }

    /// Whether one of them waits for this peer.
    pub(super) fn is_awaited(&self, peer: PeerId) -> bool {
        let registry = self.0.lock();
        let mut waiting = registry.waiting.iter().filter_map(Weak::upgrade);
        waiting.any(|waiter| waiter.peer == peer)
    }

    /// The handshake of an inbound connection has completed, and its listener has queued it.
    pub(super) fn arrived(&self, connection: &ConnectionShared) {
        let mut registry = self.0.lock();
        if registry.waiting.is_empty() {
            return;
        }
        let (peer, remote) = {
            let state = connection.state.lock();
            (state.peer.as_ref().map(|(id, _)| *id), state.remote)
        };
        registry.waiting.retain(|each| {
            let Some(waiter) = each.upgrade() else {
                return false;
            };
            let is_awaited = Some(waiter.peer) == peer;
            if is_awaited {
                waiter.end(Ok(remote));
            }
            !is_awaited
        });
    }

    /// The endpoint is closed: no connection arrives from now on.
    pub(crate) fn close(&self) {
        let mut registry = self.0.lock();
        registry.is_closed = true;
        for waiter in registry.waiting.drain(..).filter_map(|each| each.upgrade()) {
            waiter.end(Err(Closed));
        }
    }
}

/// The state that the application's [`Inbound`](crate::Inbound) and the I/O thread share.
pub(crate) struct InboundShared {
    pub(crate) peer: PeerId,
    pub(crate) state: Mutex<WaitState>,
}

#[derive(Default)]
pub(crate) struct WaitState {
    /// The remote address of the connection, or that the endpoint was closed.
    pub(crate) outcome: Option<Result<SocketAddr, Closed>>,
    pub(crate) punched: Vec<SocketAddr>,
    pub(crate) ended: Waiters,
}

impl InboundShared {
    pub(crate) fn is_waiting(&self) -> bool {
        self.state.lock().outcome.is_none()
    }

    fn end(&self, outcome: Result<SocketAddr, Closed>) {
        let mut state = self.state.lock();
        state.outcome.get_or_insert(outcome);
        state.ended.wake();
    }
}
