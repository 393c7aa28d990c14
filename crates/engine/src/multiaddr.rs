//! Displays socket addresses as multiaddrs, the form that addresses have in errors and logs. Parsing
//! multiaddrs is left to the program.

use std::{
    fmt,
    net::{IpAddr, SocketAddr},
};

/// Displays a socket address as a multiaddr, as libp2p logs do.
pub(crate) struct Multiaddr(pub(crate) SocketAddr);

impl fmt::Display for Multiaddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (ip, port) = (self.0.ip().to_canonical(), self.0.port());
        let version = match ip {
            IpAddr::V4(_) => 4,
            IpAddr::V6(_) => 6,
        };
        write!(f, "/ip{version}/{ip}/udp/{port}/quic-v1")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_multiaddrs() {
        let shown = |text: &str| Multiaddr(text.parse().expect("an address")).to_string();
        assert_eq!(shown("192.0.2.1:7"), "/ip4/192.0.2.1/udp/7/quic-v1");
        assert_eq!(
            shown("[::ffff:192.0.2.1]:7"),
            "/ip4/192.0.2.1/udp/7/quic-v1"
        );
        assert_eq!(shown("[2001:db8::1]:7"), "/ip6/2001:db8::1/udp/7/quic-v1");
    }
}
