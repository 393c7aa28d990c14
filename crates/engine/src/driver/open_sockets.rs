//! The open sockets of one core, by key, as the network that the core sends through. `sockets` is
//! the core's own record of them.

use std::mem;

use quinn_udp::Transmit;
use rustc_hash::FxHashMap;

use crate::driver::{
    network::{Network, Sending, SocketKey},
    socket::Socket,
};

/// The open sockets of one core, which are its network.
#[derive(Default)]
pub(super) struct OpenSockets {
    sockets: FxHashMap<SocketKey, Socket>,
    /// Bytes given to sockets since `take_sent`.
    sent: usize,
}

impl OpenSockets {
    pub(super) fn extend(&mut self, bound: impl IntoIterator<Item = (SocketKey, Socket)>) {
        self.sockets.extend(bound);
    }

    pub(super) fn keys(&self) -> impl Iterator<Item = SocketKey> {
        self.sockets.keys().copied()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (SocketKey, &Socket)> {
        self.sockets.iter().map(|(key, socket)| (*key, socket))
    }

    /// Bytes given to sockets since the last call, also those that one refused.
    pub(super) fn take_sent(&mut self) -> usize {
        mem::take(&mut self.sent)
    }

    pub(super) fn get_mut(&mut self, key: SocketKey) -> Option<&mut Socket> {
        self.sockets.get_mut(&key)
    }
}

impl Network for OpenSockets {
    fn send(&mut self, socket: SocketKey, transmit: &Transmit<'_>) -> Sending {
        self.sent += transmit.contents.len();
        self.sockets
            .get_mut(&socket)
            .map_or(Sending::Sent, |socket| socket.send(transmit))
    }

    fn max_segments(&self, socket: SocketKey) -> usize {
        self.sockets.get(&socket).map_or(1, Socket::max_segments)
    }

    fn report_undelivered(&mut self, socket: SocketKey, is_on: bool) {
        if let Some(socket) = self.sockets.get_mut(&socket) {
            socket.report_undelivered(is_on);
        }
    }

    fn close(&mut self, socket: SocketKey) {
        self.sockets.remove(&socket);
    }
}
