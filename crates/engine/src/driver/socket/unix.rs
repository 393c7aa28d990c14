//! Sends by sendmsg, with a source address for each send. Which offloads it has is in `linux` and `portable`.

#[cfg_attr(target_os = "linux", path = "linux.rs")]
#[cfg_attr(not(target_os = "linux"), path = "portable.rs")]
mod options;

use std::{
    io::IoSlice,
    net::{IpAddr, UdpSocket},
    os::fd::AsRawFd,
};

use nix::{
    libc,
    sys::socket::{ControlMessage, MsgFlags, SockaddrStorage, sendmsg},
};
pub(super) use options::{is_of_icmp, report_undelivered, take_undelivered};
use quinn_udp::{Transmit, UdpSocketState};

use crate::errno::Errno;

/// Whether a socket must be bound before quinn-udp sets its options.
pub(super) const IS_BOUND_FIRST: bool = false;

/// One sendmsg of all datagrams of `transmit`.
pub(super) fn send(
    socket: &UdpSocket,
    _: Option<&UdpSocketState>,
    transmit: &Transmit<'_>,
) -> Result<(), Errno> {
    let mark = transmit.ecn.map_or(0, |ecn| ecn as u8);
    let class = i32::from(mark);
    let mark = transmit
        .ecn
        .and_then(|_| options::mark(transmit.destination, &mark, &class));
    // A datagram's size has 16 bits (RFC 768).
    let size = transmit.segment_size.map(|size| size as u16);
    let segments = size.as_ref().and_then(options::segments);
    let (v4, v6);
    let source = match transmit.src_ip {
        None => None,
        Some(IpAddr::V4(ip)) => {
            v4 = libc::in_pktinfo {
                ipi_ifindex: 0,
                ipi_spec_dst: libc::in_addr {
                    s_addr: u32::from_ne_bytes(ip.octets()),
                },
                ipi_addr: libc::in_addr { s_addr: 0 },
            };
            Some(ControlMessage::Ipv4PacketInfo(&v4))
        }
        Some(IpAddr::V6(ip)) => {
            v6 = libc::in6_pktinfo {
                ipi6_addr: libc::in6_addr {
                    s6_addr: ip.octets(),
                },
                ipi6_ifindex: 0,
            };
            Some(ControlMessage::Ipv6PacketInfo(&v6))
        }
    };
    let options: Vec<_> = [mark, segments, source].into_iter().flatten().collect();
    let to = SockaddrStorage::from(transmit.destination);
    let data = [IoSlice::new(transmit.contents)];
    let socket = socket.as_raw_fd();
    loop {
        match sendmsg(socket, &data, &options, MsgFlags::empty(), Some(&to)) {
            Ok(_) => return Ok(()),
            Err(Errno::EINTR) => {}
            Err(error) => return Err(error),
        }
    }
}
