//! The sockets of one core, by key: who listens on them, who uses them, and what the system
//! refused to take for now. Knows no system calls; those are the network's.

use std::{net::SocketAddr, sync::Arc};

use nix::errno::Errno;
use parking_lot::Mutex;
use quinn_proto::{ConnectionHandle, Transmit};
use rustc_hash::FxHashMap;

use crate::{
    driver::network::{Network, Sending, SocketKey, borrow},
    gate::Gate,
    listener::ListenerShared,
    ready::Waiters,
};

/// What an endpoint's handle and its core share.
#[derive(Default)]
pub(crate) struct EndpointState {
    /// Sockets that exist; application threads add, the core removes.
    pub(crate) sockets: Vec<SocketInfo>,
    pub(crate) is_closing: bool,
    /// Who may not begin a handshake.
    pub(crate) gate: Gate,
    /// Every connection has ended and every socket is closed.
    pub(crate) is_closed: bool,
    pub(crate) closed: Waiters,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct SocketInfo {
    pub(crate) key: SocketKey,
    pub(crate) local: SocketAddr,
    /// The system refused options that it would have.
    pub(crate) refusal: Option<Errno>,
    pub(crate) is_listening: bool,
    /// Made for dials; lives as long as the endpoint.
    pub(crate) is_kept: bool,
    /// No interface had the address that it listens on when a dial last asked.
    pub(crate) is_address_gone: bool,
}

struct Socket {
    local: SocketAddr,
    listener: Option<Arc<ListenerShared>>,
    /// Outlives its listeners and connections.
    is_kept: bool,
    /// Connections that use it.
    users: usize,
    /// What the system refused to take for now.
    refused: Option<(Transmit, Vec<u8>)>,
    /// Connections that wait until it is writable.
    waiting: Vec<ConnectionHandle>,
}

impl Socket {
    fn is_idle(&self) -> bool {
        self.users == 0 && self.listener.is_none() && !self.is_kept
    }
}

#[derive(Default)]
pub(super) struct Sockets(FxHashMap<SocketKey, Socket>);

impl Sockets {
    pub(super) fn insert(&mut self, key: SocketKey, local: SocketAddr, is_kept: bool) {
        self.0.insert(
            key,
            Socket {
                local,
                listener: None,
                is_kept,
                users: 0,
                refused: None,
                waiting: Vec::new(),
            },
        );
    }

    pub(super) fn contains(&self, key: SocketKey) -> bool {
        self.0.contains_key(&key)
    }

    pub(super) fn local(&self, key: SocketKey) -> Option<SocketAddr> {
        Some(self.0.get(&key)?.local)
    }

    pub(super) fn listener(&self, key: SocketKey) -> Option<&Arc<ListenerShared>> {
        self.0.get(&key)?.listener.as_ref()
    }

    pub(super) fn listen(&mut self, listener: Arc<ListenerShared>) {
        match self.0.get_mut(&listener.socket) {
            Some(socket) => socket.listener = Some(listener),
            // The endpoint was closed between the two commands, and the socket with it.
            None => {
                listener.close();
            }
        }
    }

    pub(super) fn stop_listening(&mut self, key: SocketKey) {
        if let Some(socket) = self.0.get_mut(&key) {
            socket.listener = None;
        }
    }

    /// The endpoint closes: no socket is needed beyond its connections.
    pub(super) fn close_all(&mut self) {
        for socket in self.0.values_mut() {
            if let Some(listener) = socket.listener.take() {
                listener.close();
            }
            socket.is_kept = false;
        }
    }

    /// A connection uses the socket.
    pub(super) fn join(&mut self, key: SocketKey) {
        if let Some(socket) = self.0.get_mut(&key) {
            socket.users += 1;
        }
    }

    /// It no longer does.
    pub(super) fn leave(&mut self, key: SocketKey) {
        if let Some(socket) = self.0.get_mut(&key) {
            socket.users -= 1;
        }
    }

    /// Whether the socket has refused a datagram and is worth watching for writability.
    pub(super) fn is_blocked(&self, key: SocketKey) -> bool {
        self.0.get(&key).is_some_and(|s| s.refused.is_some())
    }

    /// Keep what the system refused. quinn-proto takes it for sent.
    pub(super) fn keep_refused(&mut self, key: SocketKey, transmit: Transmit, contents: &[u8]) {
        if let Some(socket) = self.0.get_mut(&key) {
            socket.refused = Some((transmit, contents.to_vec()));
        }
    }

    /// Note a connection that waits until the socket is writable.
    pub(super) fn wait(&mut self, key: SocketKey, handle: ConnectionHandle) {
        if let Some(socket) = self.0.get_mut(&key) {
            socket.waiting.push(handle);
        }
    }

    /// The system takes datagrams again. What was refused goes first; when it is out, those
    /// who waited are returned.
    pub(super) fn resume(
        &mut self,
        key: SocketKey,
        network: &mut dyn Network,
    ) -> Vec<ConnectionHandle> {
        let Some(socket) = self.0.get_mut(&key) else {
            return Vec::new();
        };
        if let Some((transmit, contents)) = socket.refused.take()
            && network.send(key, &borrow(&transmit, &contents)) == Sending::Blocked
        {
            socket.refused = Some((transmit, contents));
            return Vec::new();
        }
        std::mem::take(&mut socket.waiting)
    }

    pub(super) fn is_any_idle(&self) -> bool {
        self.0.values().any(Socket::is_idle)
    }

    /// Close sockets that nobody needs any more.
    pub(super) fn release(&mut self, state: &Mutex<EndpointState>, network: &mut dyn Network) {
        if !self.is_any_idle() {
            return;
        }
        let mut state = state.lock();
        self.0.retain(|key, socket| {
            // An application thread may just have decided to listen on it again.
            let is_wanted = state
                .sockets
                .iter()
                .any(|s| s.key == *key && s.is_listening);
            if !socket.is_idle() || (is_wanted && !state.is_closing) {
                return true;
            }
            state.sockets.retain(|s| s.key != *key);
            network.close(*key);
            false
        });
    }
}
