//! The network as a core sees it: sockets by key, sends that may be refused for now.

use std::{
    io,
    net::{IpAddr, SocketAddr},
};

use crate::driver::core::Census;

/// Names a socket of an endpoint; never reused.
pub(crate) type SocketKey = u64;

/// What became of a datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sending {
    /// Out of our hands; like any datagram it may never arrive.
    Sent,
    /// The socket takes nothing now: keep it and try again when it is writable.
    Blocked,
}

/// Where a core's datagrams go.
pub(crate) trait Network {
    /// Send one datagram, or several of `segment_size` at once.
    fn send(&mut self, socket: SocketKey, transmit: &quinn_udp::Transmit<'_>) -> Sending;

    /// How many datagrams one send may hold now; it can fall when the system refuses.
    fn max_segments(&self, socket: SocketKey) -> usize;

    /// No one uses this socket any more.
    fn close(&mut self, socket: SocketKey);
}

/// What an endpoint stands on: where it gets its sockets from, and its core.
pub(crate) trait Ground: Send + Sync {
    /// Bind a socket under `key` and return its address, with the port that it got.
    fn bind(&self, key: SocketKey, addr: SocketAddr) -> io::Result<SocketAddr>;

    /// The address that datagrams to `remote` leave from when their socket is bound to none: what
    /// the system's routing says. No packet leaves.
    fn source(&self, remote: SocketAddr) -> io::Result<IpAddr>;

    /// Whether an interface of this machine has the address of a socket (still).
    fn has_address(&self, local: SocketAddr) -> bool;

    /// Whether two addresses of this machine belong to one network of one interface.
    fn share_network(&self, local: IpAddr, source: IpAddr) -> bool;

    /// What the core holds, once whoever drives it lets go; `None` when there is none.
    fn census(&self) -> Option<Census>;
}

/// quinn-proto's transmit as the socket wants it, over the bytes in `buf`.
pub(super) fn borrow<'a>(
    transmit: &quinn_proto::Transmit,
    buf: &'a [u8],
) -> quinn_udp::Transmit<'a> {
    quinn_udp::Transmit {
        destination: transmit.destination,
        ecn: ecn(transmit),
        contents: &buf[..transmit.size],
        segment_size: transmit.segment_size,
        src_ip: transmit.src_ip,
    }
}

/// quinn-proto's mark as the socket wants it.
pub(super) fn ecn(transmit: &quinn_proto::Transmit) -> Option<quinn_udp::EcnCodepoint> {
    quinn_udp::EcnCodepoint::from_bits(transmit.ecn? as u8)
}
