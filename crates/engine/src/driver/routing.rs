//! Asks the system about its addresses and routes, for dials that choose a socket. Sends no packet.

use std::{
    io,
    net::{IpAddr, SocketAddr},
};

use if_addrs::IfAddr;
use socket2::{Domain, Protocol, SockAddr, Socket, Type};

use crate::gate::Prefix;

/// The source address that the kernel's routing chooses for `remote`. Connecting a UDP socket
/// looks up the route and sends nothing.
pub(super) fn source(remote: SocketAddr) -> io::Result<IpAddr> {
    let socket = udp(remote)?;
    socket.connect(&SockAddr::from(remote))?;
    let local = socket.local_addr()?.as_socket();
    local
        .map(|local| local.ip())
        .ok_or_else(|| io::ErrorKind::InvalidData.into())
}

/// Whether an interface of this machine has this address. Any error but EADDRNOTAVAIL counts as
/// yes: a failed test does not prove that the address is gone.
pub(super) fn has_address(local: SocketAddr) -> bool {
    let mut any_port = local;
    any_port.set_port(0);
    let bound = udp(local).and_then(|socket| socket.bind(&SockAddr::from(any_port)));
    !bound.is_err_and(|error| error.kind() == io::ErrorKind::AddrNotAvailable)
}

/// Whether `local` belongs to the same interface and network as `source`: answers that can reach
/// one can then reach the other.
pub(super) fn share_network(local: IpAddr, source: IpAddr) -> bool {
    let interfaces = match if_addrs::get_if_addrs() {
        Ok(interfaces) => interfaces,
        Err(error) => {
            tracing::debug!(%error, "the interfaces cannot be listed");
            return false;
        }
    };
    interfaces.iter().any(|of_source| {
        let length = match &of_source.addr {
            IfAddr::V4(v4) => v4.prefixlen,
            IfAddr::V6(v6) => v6.prefixlen,
        };
        let network = |ip| Prefix::containing(ip, length).first();
        of_source.ip() == source
            && local.is_ipv4() == source.is_ipv4()
            && network(local) == network(source)
            && interfaces
                .iter()
                .any(|of_local| of_local.ip() == local && of_local.index == of_source.index)
    })
}

fn udp(family: SocketAddr) -> io::Result<Socket> {
    Socket::new(
        Domain::for_address(family),
        Type::DGRAM,
        Some(Protocol::UDP),
    )
}
