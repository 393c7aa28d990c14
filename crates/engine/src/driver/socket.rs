//! A real UDP socket: large buffers, offloads, and errors that never kill an endpoint.

use std::{
    io,
    net::{SocketAddr, UdpSocket},
    os::fd::{AsFd, BorrowedFd},
};

use quinn_udp::{RecvMeta, Transmit, UdpSocketState};
use socket2::{Domain, Protocol, SockAddr, Type};

use crate::driver::network::Sending;

/// Bytes of kernel buffer asked for, each way. The default loses thousands of packets at
/// speed; the system gives what it allows.
const KERNEL_BUFFER: usize = 4 * 1024 * 1024;

pub(super) struct Socket {
    socket: UdpSocket,
    state: UdpSocketState,
}

impl Socket {
    pub(super) fn bind(addr: SocketAddr) -> io::Result<Self> {
        let socket =
            socket2::Socket::new(Domain::for_address(addr), Type::DGRAM, Some(Protocol::UDP))?;
        if addr.is_ipv6() {
            // One family a socket, so that a wildcard of each can share a port.
            socket.set_only_v6(true)?;
        }
        socket.bind(&SockAddr::from(addr))?;
        let state = UdpSocketState::new((&socket).into())?;
        // Larger is better and none is required.
        let _ = state.set_send_buffer_size((&socket).into(), KERNEL_BUFFER);
        let _ = state.set_recv_buffer_size((&socket).into(), KERNEL_BUFFER);
        Ok(Self {
            socket: socket.into(),
            state,
        })
    }

    pub(super) fn local_addr(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }

    pub(super) fn max_segments(&self) -> usize {
        self.state.max_gso_segments()
    }

    pub(super) fn send(&self, transmit: &Transmit<'_>) -> Sending {
        match self.state.try_send((&self.socket).into(), transmit) {
            Ok(()) => Sending::Sent,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Sending::Blocked,
            // Too large is what MTU discovery asks about; anything else is a lost datagram,
            // which loss recovery mends or a timeout reports (RFC 9000 section 14).
            Err(error) => {
                tracing::trace!(%error, to = %transmit.destination, "datagram not sent");
                Sending::Sent
            }
        }
    }

    /// Receive into `bufs`, and how many were filled.
    pub(super) fn receive(
        &self,
        bufs: &mut [io::IoSliceMut<'_>],
        meta: &mut [RecvMeta],
    ) -> io::Result<usize> {
        self.state.recv((&self.socket).into(), bufs, meta)
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}
