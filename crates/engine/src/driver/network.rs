//! The interface between a core and its network: sockets by key, received datagrams, and sends that
//! may block.

use std::{
    io,
    net::{IpAddr, SocketAddr},
};

use bytes::BytesMut;
use quinn_proto::EcnCodepoint;

use crate::{census::Census, errno::Errno};

/// Names a socket of an endpoint; never reused.
pub(crate) type SocketKey = u64;

/// The result of binding a socket.
#[derive(Clone, Copy, Debug)]
pub(crate) struct BoundSocket {
    /// Its address, with the port that was assigned.
    pub(crate) local: SocketAddr,
    /// The system refused options with this error: the socket works with one datagram a call, and
    /// does not report which local address a datagram came to.
    pub(crate) refusal: Option<Errno>,
}

/// A datagram that arrived at a socket.
#[derive(Debug)]
pub(crate) struct ReceivedDatagram {
    pub(crate) socket: SocketKey,
    pub(crate) remote: SocketAddr,
    /// Its destination, if the system tells it.
    pub(crate) local_ip: Option<IpAddr>,
    pub(crate) ecn: Option<EcnCodepoint>,
    pub(crate) data: BytesMut,
}

/// The result of one send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sending {
    /// The system took it; it may still be lost on the way.
    Sent,
    /// The system took the datagrams one by one, after it had refused them as a batch.
    SentSingly,
    /// The socket's buffer is full: try again when it is writable.
    Blocked,
    /// The system refused it with this error, and it is lost.
    Failed(Errno),
}

/// Whether a datagram from `source` to `local` may be answered. A datagram from UDP port 0, or with
/// a multicast or broadcast address at either end, is forged to provoke an answer that the system
/// refuses, or that goes to many hosts. IPv4 arrives at an IPv6 socket if the system does not
/// separate the families.
pub(crate) fn is_answerable(source: SocketAddr, local: Option<IpAddr>) -> bool {
    source.port() != 0 && is_unicast(source.ip()) && local.is_none_or(is_unicast)
}

fn is_unicast(ip: IpAddr) -> bool {
    match ip {
        // 0.0.0.0/8 is not a valid destination (RFC 1122 section 3.2.1.3).
        IpAddr::V4(ip) => ip.octets()[0] != 0 && !ip.is_multicast() && !ip.is_broadcast(),
        IpAddr::V6(ip) => {
            !ip.is_unspecified() && !ip.is_multicast() && ip.to_ipv4_mapped().is_none()
        }
    }
}

/// An ICMP message about a datagram that was sent from a socket. Only Linux reports them.
#[derive(Clone, Debug)]
#[cfg_attr(not(target_os = "linux"), allow(dead_code))]
pub(crate) struct Undelivered {
    /// The datagram's destination.
    pub(crate) to: SocketAddr,
    pub(crate) error: Errno,
    /// The beginning of the datagram; empty if the router quotes none of it.
    pub(crate) quoted: Vec<u8>,
}

/// The sockets that a core sends through.
pub(crate) trait Network {
    /// Send one datagram, or several of `segment_size` at once.
    fn send(&mut self, socket: SocketKey, transmit: &quinn_udp::Transmit<'_>) -> Sending;

    /// How many datagrams one send may hold now; it can fall after a refusal by the system.
    fn max_segments(&self, socket: SocketKey) -> usize;

    /// Turn the system's reports of this socket's undelivered datagrams on or off.
    fn report_undelivered(&mut self, socket: SocketKey, is_on: bool);

    /// Close a socket that is no longer used.
    fn close(&mut self, socket: SocketKey);
}

/// Binds an endpoint's sockets, and answers questions about addresses and about its core.
pub(crate) trait SocketProvider: Send + Sync {
    /// Bind a socket under `key`.
    fn bind(&self, key: SocketKey, addr: SocketAddr) -> io::Result<BoundSocket>;

    /// The source address that the system's routing chooses for datagrams to `remote` from a socket
    /// bound to the wildcard address. Sends no packet.
    fn source(&self, remote: SocketAddr) -> io::Result<IpAddr>;

    /// Whether an interface of this machine (still) has this address.
    fn has_address(&self, local: SocketAddr) -> bool;

    /// Whether two addresses of this machine belong to one network of one interface.
    fn share_network(&self, local: IpAddr, source: IpAddr) -> bool;

    /// What the core holds, after waiting for its lock; `None` if the core has ended.
    fn census(&self) -> Option<Census>;
}

/// Converts quinn-proto's transmit to quinn-udp's, over the bytes in `buf`.
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

/// Converts quinn-proto's ECN mark to quinn-udp's.
pub(super) fn ecn(transmit: &quinn_proto::Transmit) -> Option<quinn_udp::EcnCodepoint> {
    quinn_udp::EcnCodepoint::from_bits(transmit.ecn? as u8)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_unicast_datagrams_are_answered() {
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
