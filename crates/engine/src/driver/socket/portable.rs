//! The functions of `linux` where the system has none of these options: no ECN marks on sent
//! datagrams, one datagram a send, no reports of undelivered datagrams.

use std::net::{SocketAddr, UdpSocket};

use nix::{errno::Errno, sys::socket::ControlMessage};

use crate::driver::network::Undelivered;

pub(super) fn mark<'a>(_: SocketAddr, _: &'a u8, _: &'a i32) -> Option<ControlMessage<'a>> {
    None
}

/// Not called: `max_segments` is 1, as quinn-udp's is.
pub(super) fn segments(_: &u16) -> Option<ControlMessage<'_>> {
    None
}

pub(in crate::driver::socket) fn report_undelivered(
    _: &UdpSocket,
    _: SocketAddr,
    _: bool,
) -> nix::Result<()> {
    Err(Errno::ENOPROTOOPT)
}

pub(in crate::driver::socket) fn is_of_icmp(_: Errno, _: bool) -> bool {
    false
}

pub(in crate::driver::socket) fn take_undelivered(_: &UdpSocket) -> Option<Undelivered> {
    None
}
