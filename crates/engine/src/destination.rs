//! Addresses that cannot be dialed, and why: those that no host can have, and those for which the
//! system's route lookup fails.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6},
};

use crate::errno::Errno;

/// The form in which datagrams from an address show it. An IPv4-mapped address is the IPv4 one, as a socket serves one
/// family; there is no flow information, and a zone only where it tells addresses apart (RFC 4007 section 6).
pub(crate) fn canonical(addr: SocketAddr) -> SocketAddr {
    match (addr.ip().to_canonical(), addr) {
        (IpAddr::V6(ip), SocketAddr::V6(v6)) if ip.is_unicast_link_local() => {
            SocketAddrV6::new(ip, v6.port(), 0, v6.scope_id()).into()
        }
        (ip, _) => SocketAddr::new(ip, addr.port()),
    }
}

/// Why no peer can answer from `remote`, independent of this machine's routes; `None` when one may.
pub(crate) fn objection(remote: SocketAddr) -> Option<&'static str> {
    match remote {
        _ if remote.port() == 0 => {
            Some("nobody listens on port 0: dial the port that the peer listens on")
        }
        SocketAddr::V4(v4) => v4_objection(*v4.ip()),
        SocketAddr::V6(v6) => v6_objection(*v6.ip(), v6.scope_id()),
    }
}

fn v4_objection(ip: Ipv4Addr) -> Option<&'static str> {
    let [first, ..] = ip.octets();
    if ip.is_broadcast() {
        Some("it is the broadcast address (RFC 919): dial the peer's own address")
    } else if ip.is_multicast() {
        Some("it is a multicast group (RFC 1112): dial the peer's own address")
    } else if ip.is_unspecified() {
        Some("it stands for every address of a listener: dial 127.0.0.1 for this machine")
    } else if first == 0 {
        Some("addresses that begin with 0 are no destinations (RFC 1122 section 3.2.1.3)")
    } else if first >= 240 {
        Some("240.0.0.0/4 is reserved, and no host has such an address (RFC 1112 section 4)")
    } else {
        None
    }
}

fn v6_objection(ip: Ipv6Addr, scope: u32) -> Option<&'static str> {
    if ip.is_multicast() {
        Some("it is a multicast group (RFC 4291 section 2.7): dial the peer's own address")
    } else if ip.is_unspecified() {
        Some("it stands for every address of a listener: dial ::1 for this machine")
    } else if ip.is_unicast_link_local() && scope == 0 {
        Some(
            "a link-local address needs the zone of its interface (RFC 4007 section 6), \
             in a multiaddr /ip6zone/eth0 before it",
        )
    } else {
        None
    }
}

/// Why datagrams cannot be sent to `remote`, from the error of the route lookup. `None` when the
/// lookup itself failed, for example without a free descriptor.
pub(crate) fn no_route(remote: SocketAddr, error: &io::Error) -> Option<String> {
    use io::ErrorKind;
    let family = match remote.ip() {
        IpAddr::V4(_) => "IPv4",
        IpAddr::V6(_) => "IPv6",
    };
    let number = error.raw_os_error().map(Errno::from_raw);
    let why = match error.kind() {
        ErrorKind::NetworkUnreachable | ErrorKind::HostUnreachable | ErrorKind::NetworkDown => {
            format!("this machine has no route to it: check that it has an {family} network")
        }
        ErrorKind::AddrNotAvailable | ErrorKind::Unsupported => {
            format!("this machine has no {family} address to reach it from")
        }
        ErrorKind::PermissionDenied => "the system forbids datagrams to it: it is the broadcast \
             address of a network, or a route or a filter prohibits it"
            .to_owned(),
        ErrorKind::InvalidInput => {
            "the system cannot send to it: a route discards it, or its zone is not one of an \
             interface"
                .to_owned()
        }
        _ => match number {
            // These have no kind of their own.
            Some(Errno::EAFNOSUPPORT) => format!("this machine has no {family}"),
            Some(Errno::ENODEV) => "there is no interface of that zone on this machine".to_owned(),
            _ => return None,
        },
    };
    let symbol = number.map(|number| format!(" ({number:?})"));
    Some(why + &symbol.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> SocketAddr {
        canonical(text.parse().expect("an address"))
    }

    #[test]
    fn addresses_that_cannot_answer_have_their_reason() {
        for text in [
            "255.255.255.255:1",
            "224.0.0.1:1",
            "239.255.255.255:1",
            "240.0.0.1:1",
            "255.255.255.254:1",
            "0.0.0.0:1",
            "0.1.2.3:1",
            "192.0.2.1:0",
            "[::]:1",
            "[ff02::1]:1",
            "[ff0e::1]:1",
            "[fe80::1]:1",
            "[febf::1]:1",
            "[2001:db8::1]:0",
            "[::ffff:255.255.255.255]:1",
            "[::ffff:224.0.0.1]:1",
            "[::ffff:0.0.0.0]:1",
        ] {
            assert!(objection(at(text)).is_some(), "{text} is let through");
        }
        for text in [
            "127.0.0.1:1",
            "10.0.0.1:1",
            "100.64.0.1:1",
            "169.254.0.1:1",
            "223.255.255.255:1",
            "[::1]:1",
            "[fe80::1%3]:1",
            "[fd00::1]:1",
            "[::ffff:127.0.0.1]:1",
        ] {
            assert_eq!(objection(at(text)), None, "{text}");
        }
    }

    #[test]
    fn a_zone_is_kept_where_it_tells_addresses_apart() {
        for (text, converted) in [
            ("[fd00::1%3]:1", "[fd00::1]:1"),
            ("[::1%1]:1", "[::1]:1"),
            ("[fe80::1%3]:1", "[fe80::1%3]:1"),
            ("[::ffff:127.0.0.1]:1", "127.0.0.1:1"),
        ] {
            assert_eq!(at(text), converted.parse().expect("an address"), "{text}");
        }
        let flow = SocketAddrV6::new(Ipv6Addr::LOCALHOST, 1, 7, 0);
        assert_eq!(canonical(flow.into()), at("[::1]:1"));
    }

    #[test]
    fn only_a_verdict_of_the_routes_is_one() {
        let says = |errno: Errno| {
            #[cfg(unix)]
            let number = errno as i32;
            #[cfg(windows)]
            let number = errno.raw();
            no_route(at("192.0.2.1:1"), &io::Error::from_raw_os_error(number))
        };
        let verdicts = [
            Errno::ENETUNREACH,
            Errno::EHOSTUNREACH,
            Errno::EACCES,
            Errno::EINVAL,
            Errno::EADDRNOTAVAIL,
            Errno::EAFNOSUPPORT,
            Errno::ENETDOWN,
        ];
        let others = [Errno::ENOBUFS, Errno::EAGAIN];
        #[cfg(unix)]
        let verdicts = [&verdicts[..], &[Errno::EPERM, Errno::ENODEV]].concat();
        #[cfg(unix)]
        let others = [&others[..], &[Errno::EMFILE, Errno::ENFILE, Errno::ENOMEM]].concat();
        for errno in verdicts {
            let why = says(errno).unwrap_or_else(|| panic!("{errno} is no verdict"));
            // As in the errors of sends: the symbol of the system's error.
            assert!(why.ends_with(&format!(" ({errno:?})")), "{why}");
        }
        for errno in others {
            assert_eq!(says(errno), None, "{errno}");
        }
    }
}
