//! The sockets of one core, by key: their listeners, the number of connections that use them, and
//! transmits that blocked. The network makes the system calls.

use std::{net::SocketAddr, sync::Arc};

use quinn_proto::{ConnectionHandle, Transmit};
use rustc_hash::FxHashMap;

use crate::{
    driver::{
        command::Commands,
        network::{Network, Sending, SocketKey, borrow},
    },
    shared::{EndpointState, ListenerShared},
    sync::Mutex,
};

struct Socket {
    local: SocketAddr,
    listener: Option<Arc<ListenerShared>>,
    /// An application thread listens on it, and has not pushed its command yet.
    is_listen_pending: bool,
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
                is_listen_pending: false,
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

    pub(super) fn listen(&mut self, listener: Arc<ListenerShared>, commands: &Commands) {
        match self.0.get_mut(&listener.socket) {
            Some(socket) => {
                socket.listener = Some(listener);
                socket.is_listen_pending = false;
            }
            // The endpoint, and the socket with it, was closed between the two commands.
            None => {
                commands.close_listener(&listener);
            }
        }
    }

    pub(super) fn stop_listening(&mut self, key: SocketKey) {
        if let Some(socket) = self.0.get_mut(&key) {
            socket.listener = None;
        }
    }

    /// Close the socket as soon as no connection uses it.
    pub(super) fn close_when_unused(&mut self, key: SocketKey) {
        if let Some(socket) = self.0.get_mut(&key) {
            socket.is_kept = false;
        }
    }

    /// The endpoint closes: end all listeners, and keep sockets only for their connections.
    pub(super) fn close_all(&mut self, commands: &Commands) {
        for socket in self.0.values_mut() {
            if let Some(listener) = socket.listener.take() {
                commands.close_listener(&listener);
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

    fn is_any_idle(&self) -> bool {
        self.0.values().any(Socket::is_idle)
    }

    /// Whether `release` is worth a call: a socket is idle, and not just until a command arrives.
    pub(super) fn is_any_releasable(&self) -> bool {
        let mut sockets = self.0.values();
        sockets.any(|socket| socket.is_idle() && !socket.is_listen_pending)
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
            socket.is_listen_pending = socket.is_idle() && is_wanted && !state.is_closing;
            if !socket.is_idle() || socket.is_listen_pending {
                return true;
            }
            state.sockets.retain(|s| s.key != *key);
            network.close(*key);
            false
        });
    }
}
