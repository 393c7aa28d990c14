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

/// WSAENETRESET: the hop limit of a sent datagram was exceeded (WSARecvFrom's documentation). The caller knows
/// WSAECONNRESET, the error of a closed port.
pub(super) fn is_of_icmp(error: Errno, _: bool) -> bool {
    error == Errno::ENETRESET
}

pub(super) fn take_undelivered(_: &UdpSocket) -> Option<Undelivered> {
    None
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;
    use crate::driver::socket::Socket;

    #[test]
    fn an_exceeded_hop_limit_is_no_error_of_the_socket() {
        let socket = Socket::bind((Ipv4Addr::LOCALHOST, 0).into()).expect("a socket");
        let is_about_a_datagram =
            |number| socket.is_about_a_datagram(&io::Error::from_raw_os_error(number));
        // WSAENETRESET, WSAECONNRESET.
        assert!(is_about_a_datagram(10052));
        assert!(is_about_a_datagram(10054));
        // WSAENETDOWN, WSAENOTSOCK.
        assert!(!is_about_a_datagram(10050));
        assert!(!is_about_a_datagram(10038));
    }
}
