//! The network as a core sees it: sockets by key, sends that may be refused for now.

use std::{
    io,
    net::{IpAddr, SocketAddr},
};

use nix::errno::Errno;

use crate::driver::core::Census;

/// Names a socket of an endpoint; never reused.
pub(crate) type SocketKey = u64;

/// A socket as it came to be.
#[derive(Clone, Copy, Debug)]
pub(crate) struct BoundSocket {
    /// Its address, with the port that it got.
    pub(crate) local: SocketAddr,
    /// The system refused options with this error: it works, one datagram a call, and does not
    /// know which of several addresses a datagram came to.
    pub(crate) refusal: Option<Errno>,
}

/// What became of one send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sending {
    /// Out of our hands; like any datagram it may never arrive.
    Sent,
    /// Likewise, but one by one: as a batch the system had refused them.
    SentSingly,
    /// The socket takes nothing now: keep it and try again when it is writable.
    Blocked,
    /// The system refused it for this reason, and it is lost.
    Failed(Errno),
}

/// Whether a datagram from `source` to `local` may be answered. One from UDP port 0, or one that
/// names a group as an end of it, can only have been made to provoke an answer that the system
/// refuses, or that goes to many. IPv4 at an IPv6 socket comes where the system does not keep
/// the families apart.
pub(crate) fn is_answerable(source: SocketAddr, local: Option<IpAddr>) -> bool {
    source.port() != 0 && is_unicast(source.ip()) && local.is_none_or(is_unicast)
}

fn is_unicast(ip: IpAddr) -> bool {
    match ip {
        // 0.0.0.0/8 names no host that can be sent to (RFC 1122 section 3.2.1.3).
        IpAddr::V4(ip) => ip.octets()[0] != 0 && !ip.is_multicast() && !ip.is_broadcast(),
        IpAddr::V6(ip) => {
            !ip.is_unspecified() && !ip.is_multicast() && ip.to_ipv4_mapped().is_none()
        }
    }
}

/// An ICMP message about a datagram that left a socket.
#[derive(Clone, Debug)]
pub(crate) struct Undelivered {
    /// Where the datagram should have gone.
    pub(crate) to: SocketAddr,
    pub(crate) error: Errno,
    /// Its beginning; not all routers quote any of it.
    pub(crate) quoted: Vec<u8>,
}

/// Where a core's datagrams go.
pub(crate) trait Network {
    /// Send one datagram, or several of `segment_size` at once.
    fn send(&mut self, socket: SocketKey, transmit: &quinn_udp::Transmit<'_>) -> Sending;

    /// How many datagrams one send may hold now; it can fall when the system refuses.
    fn max_segments(&self, socket: SocketKey) -> usize;

    /// Have the system report what becomes of this socket's datagrams, or no longer.
    fn report_undelivered(&mut self, socket: SocketKey, is_on: bool);

    /// No one uses this socket any more.
    fn close(&mut self, socket: SocketKey);
}

/// What an endpoint stands on: where it gets its sockets from, and its core.
pub(crate) trait SocketProvider: Send + Sync {
    /// Bind a socket under `key`.
    fn bind(&self, key: SocketKey, addr: SocketAddr) -> io::Result<BoundSocket>;

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
#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_one_host_sent_to_one_host_is_answered() {
        let is_answered = |source: &str, local: Option<&str>| {
            let local = local.map(|ip| ip.parse().expect("an IP address"));
            is_answerable(source.parse().expect("a socket address"), local)
        };
        for source in [
            "192.0.2.1:4001",
            "127.0.0.1:1",
            "[2001:db8::1]:4001",
            "[fe80::1]:9",
        ] {
            assert!(is_answered(source, None), "{source}");
            assert!(is_answered(source, Some("192.0.2.7")), "{source}");
        }
        for source in [
            "192.0.2.1:0",
            "[2001:db8::1]:0",
            "0.0.0.0:4001",
            "0.1.2.3:4001",
            "255.255.255.255:4001",
            "224.0.0.1:4001",
            "239.255.255.250:1900",
            "[::]:4001",
            "[ff02::1]:4001",
            "[::ffff:192.0.2.1]:4001",
        ] {
            assert!(!is_answered(source, None), "{source}");
        }
        for local in [
            "0.0.0.0",
            "255.255.255.255",
            "224.0.0.251",
            "::",
            "ff02::fb",
        ] {
            assert!(!is_answered("192.0.2.1:4001", Some(local)), "{local}");
        }
    }
}
