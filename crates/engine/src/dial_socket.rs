//! The choice of the socket for a dial: one that answers can reach, and a listening one where
//! possible. This file binds no socket.

use std::net::{IpAddr, SocketAddr};

use crate::{driver::SocketProvider, multiaddr::Multiaddr, shared::SocketInfo};

/// The best of `sockets` for a dial to `remote`. `source` is the source address of the system's
/// route, unless the lookup failed.
pub(crate) fn socket_for(
    socket_provider: &dyn SocketProvider,
    sockets: &mut [SocketInfo],
    remote: SocketAddr,
    source: Option<IpAddr>,
) -> Option<SocketInfo> {
    for socket in sockets.iter_mut() {
        note_lost_address(socket_provider, socket, remote, source);
    }
    let best = |is_neighbor: &dyn Fn(IpAddr) -> bool| {
        let able = sockets.iter().filter_map(|socket| {
            let fitness = fitness(socket, remote, source, is_neighbor)?;
            Some((fitness, *socket))
        });
        able.min_by_key(|(fitness, _)| *fitness)
    };
    // The interfaces are listed only where it matters.
    let known = best(&|_| false).filter(|(fitness, _)| *fitness < Fitness::Neighbor);
    let found = known.or_else(|| {
        best(&|local| source.is_some_and(|source| socket_provider.share_network(local, source)))
    });
    found.map(|(_, socket)| socket)
}

/// Record whether this machine still has the address that a socket listens on, and log once when
/// it does not: a DHCP lease may end, and answers to that address are lost.
fn note_lost_address(
    socket_provider: &dyn SocketProvider,
    socket: &mut SocketInfo,
    remote: SocketAddr,
    source: Option<IpAddr>,
) {
    let ip = socket.local.ip();
    let is_asked = socket.is_listening && ip.is_ipv4() == remote.is_ipv4();
    if !is_asked || ip.is_unspecified() || ip.is_loopback() {
        return;
    }
    let is_gone = source != Some(ip) && !socket_provider.has_address(socket.local);
    let was_gone = std::mem::replace(&mut socket.is_address_gone, is_gone);
    if is_gone && !was_gone {
        tracing::warn!(
            "{}: no interface has the listener's address any more: nobody can reach it there, \
             and dials leave from other sockets",
            Multiaddr(socket.local)
        );
    }
}

/// How well a socket suits a dial, best first.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Fitness {
    /// It listens on the source address of the system's route.
    Source,
    /// It listens on another loopback address, and the peer's address is one too.
    Loopback,
    /// It listens on all addresses; the system chooses one for each datagram.
    Wildcard,
    /// It listens on another address of the source address's interface and network, which answers
    /// reach as well. With IPv6 privacy extensions (RFC 8981) this is the usual case: the system
    /// prefers a temporary address, and listeners are bound to the stable one, which the peer can
    /// then dial back. An address of another network is not used, even on the same interface, as
    /// answers to it may have no route.
    Neighbor,
    /// It listens on some address, and the route lookup failed.
    Unknown,
    /// It was bound for dials and does not listen.
    Own,
}

/// How well this socket suits a dial to `remote`; `None` when it cannot be used.
fn fitness(
    socket: &SocketInfo,
    remote: SocketAddr,
    source: Option<IpAddr>,
    is_neighbor: impl Fn(IpAddr) -> bool,
) -> Option<Fitness> {
    let local = socket.local.ip();
    if local.is_ipv4() != remote.is_ipv4() {
        return None;
    }
    if !socket.is_listening {
        return socket.is_kept.then_some(Fitness::Own);
    }
    if local.is_unspecified() {
        return Some(Fitness::Wildcard);
    }
    // A socket bound to a loopback address reaches only loopback addresses, and apart from it
    // only one bound to the wildcard reaches them.
    if local.is_loopback() != remote.ip().is_loopback()
        || socket.is_address_gone
        || !is_in_zone(socket.local, remote)
    {
        return None;
    }
    match source {
        Some(source) if source == local => Some(Fitness::Source),
        _ if local.is_loopback() => Some(Fitness::Loopback),
        None => Some(Fitness::Unknown),
        Some(_) => is_neighbor(local).then_some(Fitness::Neighbor),
    }
}

/// Whether a socket bound to a link-local IPv6 address is in the zone of `remote`. The same
/// link-local address may exist on several links (RFC 4007 section 6).
fn is_in_zone(local: SocketAddr, remote: SocketAddr) -> bool {
    match (local, remote) {
        (SocketAddr::V6(local), SocketAddr::V6(remote)) => {
            remote.scope_id() == 0 || remote.scope_id() == local.scope_id()
        }
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use std::{
        io,
        sync::{
            Arc,
            atomic::{AtomicBool, AtomicUsize, Ordering},
        },
    };

    use tracing::{Event, Level, Metadata, Subscriber, span};

    use super::*;
    use crate::{
        census::Census,
        driver::{BoundSocket, SocketKey},
    };

    /// A machine with one address, which it may lose; real ones are in tests/test_dial_sockets.py.
    struct Machine {
        has_address: AtomicBool,
    }

    impl SocketProvider for Machine {
        fn bind(&self, _: SocketKey, local: SocketAddr) -> io::Result<BoundSocket> {
            Ok(BoundSocket {
                local,
                refusal: None,
            })
        }

        fn source(&self, _: SocketAddr) -> io::Result<IpAddr> {
            Err(io::ErrorKind::NetworkUnreachable.into())
        }

        fn has_address(&self, _: SocketAddr) -> bool {
            self.has_address.load(Ordering::Relaxed)
        }

        fn share_network(&self, _: IpAddr, _: IpAddr) -> bool {
            true
        }

        fn census(&self) -> Option<Census> {
            None
        }
    }

    /// Counts warnings.
    struct Warnings(Arc<AtomicUsize>);

    impl Subscriber for Warnings {
        fn enabled(&self, metadata: &Metadata<'_>) -> bool {
            *metadata.level() == Level::WARN
        }

        fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
            span::Id::from_u64(1)
        }

        fn record(&self, _: &span::Id, _: &span::Record<'_>) {}

        fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}

        fn event(&self, _: &Event<'_>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }

        fn enter(&self, _: &span::Id) {}

        fn exit(&self, _: &span::Id) {}
    }

    fn at(text: &str) -> SocketAddr {
        text.parse().expect("an address")
    }

    fn listener(text: &str) -> SocketInfo {
        SocketInfo {
            key: 1,
            local: at(text),
            is_listening: true,
            is_kept: false,
            refusal: None,
            is_address_gone: false,
        }
    }

    #[test]
    fn an_address_that_is_gone_is_told_once_until_it_is_back() {
        let machine = Machine {
            has_address: AtomicBool::new(true),
        };
        let mut sockets = [listener("192.0.2.1:1"), listener("127.0.0.1:1")];
        let count = Arc::new(AtomicUsize::new(0));
        let mut dial = |has_address, to| {
            machine.has_address.store(has_address, Ordering::Relaxed);
            let source = Some(at("192.0.2.9:0").ip());
            let found = socket_for(&machine, &mut sockets, at(to), source);
            (found.is_some(), count.load(Ordering::Relaxed))
        };
        tracing::subscriber::with_default(Warnings(count.clone()), || {
            assert_eq!(dial(true, "192.0.2.7:1"), (true, 0));
            // Whether an IPv6 peer can be reached has nothing to do with it.
            assert_eq!(dial(false, "[2001:db8::1]:1"), (false, 0));
            assert_eq!(dial(false, "192.0.2.7:1"), (false, 1));
            assert_eq!(dial(false, "192.0.2.7:1"), (false, 1));
            assert_eq!(dial(true, "192.0.2.7:1"), (true, 1));
            assert_eq!(dial(false, "192.0.2.7:1"), (false, 2));
        });
    }

    #[test]
    fn a_system_that_cannot_be_asked_leaves_listeners_to_dial_from() {
        let machine = Machine {
            has_address: AtomicBool::new(true),
        };
        let from = |sockets: &mut [SocketInfo], to| {
            socket_for(&machine, sockets, at(to), None).map(|socket| socket.local)
        };
        let mut sockets = [listener("127.0.0.2:1"), listener("192.0.2.1:1")];
        assert_eq!(
            from(&mut sockets, "198.51.100.1:1"),
            Some(at("192.0.2.1:1"))
        );
        assert_eq!(from(&mut sockets, "127.0.0.1:1"), Some(at("127.0.0.2:1")));
        assert_eq!(from(&mut sockets, "[::1]:1"), None);
    }

    #[test]
    fn a_link_local_listener_serves_its_own_zone() {
        let machine = Machine {
            has_address: AtomicBool::new(true),
        };
        let mut sockets = [listener("[fe80::1%2]:1"), listener("[fe80::1%3]:1")];
        let source = Some(at("[fe80::1]:0").ip());
        for (to, from) in [
            ("[fe80::9%3]:1", Some("[fe80::1%3]:1")),
            ("[fe80::9%2]:1", Some("[fe80::1%2]:1")),
            ("[fe80::9%4]:1", None),
        ] {
            let found = socket_for(&machine, &mut sockets, at(to), source);
            assert_eq!(found.map(|socket| socket.local), from.map(at), "{to}");
        }
    }
}
