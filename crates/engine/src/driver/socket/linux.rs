//! What a socket can do on Linux alone: ECN marks and segmentation by sendmsg, and reports of
//! undelivered datagrams. `portable` has the same functions for other systems.

use std::{
    io::IoSliceMut,
    net::{SocketAddr, UdpSocket},
    os::fd::AsRawFd,
};

use nix::{
    cmsg_space,
    errno::Errno,
    libc,
    sys::socket::{
        ControlMessage, ControlMessageOwned, MsgFlags, SockaddrStorage, recvmsg, setsockopt,
        sockopt,
    },
};

use crate::driver::network::Undelivered;

/// Bytes read of a reported datagram: a long header with the longest ids.
const QUOTED: usize = 64;

/// The option that marks the datagrams of one send to `destination`. Each family has its own type.
pub(super) fn mark<'a>(
    destination: SocketAddr,
    tos: &'a u8,
    class: &'a i32,
) -> Option<ControlMessage<'a>> {
    Some(match destination {
        SocketAddr::V4(_) => ControlMessage::Ipv4Tos(tos),
        SocketAddr::V6(_) => ControlMessage::Ipv6TClass(class),
    })
}

/// The option that splits the contents of one send into datagrams of `size` bytes.
pub(super) fn segments(size: &u16) -> Option<ControlMessage<'_>> {
    Some(ControlMessage::UdpGsoSegments(size))
}

/// Turn IP_RECVERR on or off.
pub(in crate::driver::socket) fn report_undelivered(
    socket: &UdpSocket,
    local: SocketAddr,
    is_on: bool,
) -> nix::Result<()> {
    match local {
        SocketAddr::V4(_) => setsockopt(socket, sockopt::Ipv4RecvErr, &is_on),
        SocketAddr::V6(_) => setsockopt(socket, sockopt::Ipv6RecvErr, &is_on),
    }
}

/// The errors that ICMP messages cause beside those that the caller knows: icmp_err_convert of Linux's net/ipv4/icmp.c,
/// and its sibling in net/ipv6/icmp.c. A socket gets them once its undelivered datagrams were reported.
pub(in crate::driver::socket) fn is_of_icmp(error: Errno, has_reported: bool) -> bool {
    has_reported
        && matches!(
            error,
            Errno::EMSGSIZE
                | Errno::EACCES
                | Errno::EPROTO
                | Errno::ENOPROTOOPT
                | Errno::EOPNOTSUPP
                | Errno::EHOSTDOWN
                | Errno::ENONET
        )
}

/// The next report of an ICMP message. Errors of this host, such as a datagram too large for its
/// interface, are skipped: the send itself failed with them.
pub(in crate::driver::socket) fn take_undelivered(socket: &UdpSocket) -> Option<Undelivered> {
    loop {
        let mut quoted = vec![0; QUOTED];
        // Room for the error and for the options that received datagrams have.
        let mut options = cmsg_space!([u64; 32]);
        let mut bufs = [IoSliceMut::new(&mut quoted)];
        let flags = MsgFlags::MSG_ERRQUEUE | MsgFlags::MSG_DONTWAIT;
        let socket = socket.as_raw_fd();
        let report =
            recvmsg::<SockaddrStorage>(socket, &mut bufs, Some(&mut options), flags).ok()?;
        let error = report.cmsgs().ok()?.find_map(|option| match option {
            ControlMessageOwned::Ipv4RecvErr(error, _)
            | ControlMessageOwned::Ipv6RecvErr(error, _) => Some(error),
            _ => None,
        });
        let (to, len) = (report.address, report.bytes);
        let error = error.filter(|error| {
            matches!(
                error.ee_origin,
                libc::SO_EE_ORIGIN_ICMP | libc::SO_EE_ORIGIN_ICMP6
            )
        });
        if let Some((error, to)) = error.zip(to.and_then(address)) {
            quoted.truncate(len);
            return Some(Undelivered {
                to,
                error: Errno::from_raw(error.ee_errno.cast_signed()),
                quoted,
            });
        }
    }
}

fn address(storage: SockaddrStorage) -> Option<SocketAddr> {
    let v4 = storage.as_sockaddr_in().map(|v4| SocketAddr::from(*v4));
    v4.or_else(|| storage.as_sockaddr_in6().map(|v6| SocketAddr::from(*v6)))
}
