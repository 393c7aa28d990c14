//! The open sockets of one core, by key, as the network that the core sends through. `sockets` is
//! the core's own record of them.

use quinn_udp::Transmit;
use rustc_hash::FxHashMap;

use crate::driver::{
    network::{Network, Sending, SocketKey},
    socket::Socket,
};

/// The open sockets of one core, which are its network.
#[derive(Default)]
pub(super) struct OpenSockets(FxHashMap<SocketKey, Socket>);

impl OpenSockets {
    pub(super) fn extend(&mut self, bound: impl IntoIterator<Item = (SocketKey, Socket)>) {
        self.0.extend(bound);
    }

    pub(super) fn keys(&self) -> impl Iterator<Item = SocketKey> {
        self.0.keys().copied()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (SocketKey, &Socket)> {
        self.0.iter().map(|(key, socket)| (*key, socket))
    }

    pub(super) fn get_mut(&mut self, key: SocketKey) -> Option<&mut Socket> {
        self.0.get_mut(&key)
    }
}

impl Network for OpenSockets {
    fn send(&mut self, socket: SocketKey, transmit: &Transmit<'_>) -> Sending {
        self.0
            .get_mut(&socket)
            .map_or(Sending::Sent, |socket| socket.send(transmit))
    }

    fn max_segments(&self, socket: SocketKey) -> usize {
        self.0.get(&socket).map_or(1, Socket::max_segments)
    }

    fn report_undelivered(&mut self, socket: SocketKey, is_on: bool) {
        if let Some(socket) = self.0.get_mut(&socket) {
            socket.report_undelivered(is_on);
        }
    }

    fn close(&mut self, socket: SocketKey) {
        self.0.remove(&socket);
    }
}
