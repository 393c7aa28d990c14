//! Sends by quinn-udp's WSASendMsg, whose errors are those of the send alone. There are no reports of undelivered
//! datagrams: an ICMP message is the error of a later receive (WSAECONNRESET), which names no datagram.

use std::{io, net::SocketAddr, net::UdpSocket};

use quinn_udp::{Transmit, UdpSocketState};

use crate::{driver::network::Undelivered, errno::Errno};

/// quinn-udp asks for the socket's address, which Windows knows of bound sockets only.
pub(super) const IS_BOUND_FIRST: bool = true;

/// One send of all datagrams of `transmit`. Without offloads there is one, from the address that the system
/// chooses.
pub(super) fn send(
    socket: &UdpSocket,
    offloads: Option<&UdpSocketState>,
    transmit: &Transmit<'_>,
) -> Result<(), Errno> {
    let sent = match offloads {
        Some(offloads) => offloads.try_send(socket.into(), transmit),
        None => socket
            .send_to(transmit.contents, transmit.destination)
            .map(drop),
    };
    sent.map_err(|error| super::errno(&error))
}

pub(super) fn report_undelivered(_: &UdpSocket, _: SocketAddr, _: bool) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

pub(super) fn is_of_icmp(_: Errno) -> bool {
    false
}

pub(super) fn take_undelivered(_: &UdpSocket) -> Option<Undelivered> {
    None
}
