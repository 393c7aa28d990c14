//! The sockets of one core, by key: their listeners, the number of connections that use them, and
//! transmits that blocked. The network makes the system calls.

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

struct Socket {
    local: SocketAddr,
    listener: Option<Arc<ListenerShared>>,
    /// Outlives its listeners and connections.
    is_kept: bool,
    /// The number of connections that use it.
    users: usize,
    /// The transmit that blocked, with its bytes.
    blocked: Option<(Transmit, Vec<u8>)>,
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
                blocked: None,
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
            // The endpoint, and the socket with it, was closed between the two commands.
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

    /// The endpoint closes: end all listeners, and keep sockets only for their connections.
    pub(super) fn close_all(&mut self) {
        for socket in self.0.values_mut() {
            if let Some(listener) = socket.listener.take() {
                listener.close();
            }
            socket.is_kept = false;
        }
    }

    /// A connection begins to use the socket.
    pub(super) fn join(&mut self, key: SocketKey) {
        if let Some(socket) = self.0.get_mut(&key) {
            socket.users += 1;
        }
    }

    /// A connection no longer uses the socket.
    pub(super) fn leave(&mut self, key: SocketKey) {
        if let Some(socket) = self.0.get_mut(&key) {
            socket.users -= 1;
        }
    }

    /// Whether the socket has a blocked transmit and must be watched for writability.
    pub(super) fn is_blocked(&self, key: SocketKey) -> bool {
        self.0.get(&key).is_some_and(|s| s.blocked.is_some())
    }

    /// Store a transmit that blocked, as quinn-proto counts it as sent.
    pub(super) fn store_blocked(&mut self, key: SocketKey, transmit: Transmit, contents: &[u8]) {
        if let Some(socket) = self.0.get_mut(&key) {
            socket.blocked = Some((transmit, contents.to_vec()));
        }
    }

    /// Add a connection that waits until the socket is writable.
    pub(super) fn wait(&mut self, key: SocketKey, handle: ConnectionHandle) {
        if let Some(socket) = self.0.get_mut(&key) {
            socket.waiting.push(handle);
        }
    }

    /// The socket is writable: send the blocked transmit. Returns the connections that waited, once
    /// the transmit is sent.
    pub(super) fn resume(
        &mut self,
        key: SocketKey,
        network: &mut dyn Network,
    ) -> Vec<ConnectionHandle> {
        let Some(socket) = self.0.get_mut(&key) else {
            return Vec::new();
        };
        if let Some((transmit, contents)) = socket.blocked.take()
            && network.send(key, &borrow(&transmit, &contents)) == Sending::Blocked
        {
            socket.blocked = Some((transmit, contents));
            return Vec::new();
        }
        std::mem::take(&mut socket.waiting)
    }

    pub(super) fn is_any_idle(&self) -> bool {
        self.0.values().any(Socket::is_idle)
    }

    /// Close sockets that are no longer used.
    pub(super) fn release(&mut self, state: &Mutex<EndpointState>, network: &mut dyn Network) {
        if !self.is_any_idle() {
            return;
        }
        let mut state = state.lock();
        self.0.retain(|key, socket| {
            // An application thread may just have begun to listen on it again.
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
