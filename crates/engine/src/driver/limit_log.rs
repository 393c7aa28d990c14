//! Logs that a limit was reached: at most one WARN line for each limit in ten seconds, with the number
//! of events since the last one. Each event is logged at DEBUG, with the remote address.

use std::{
    fmt,
    net::{IpAddr, SocketAddr},
    time::{Duration, Instant},
};

/// Six lines a minute are readable, and an operator sees a flood while it lasts.
const INTERVAL: Duration = Duration::from_secs(10);

/// A limit of [`Config`](crate::Config) that inbound handshakes can reach.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Limit {
    Connections,
    ConnectionsPerAddress,
    Handshakes,
    HandshakesPerAddress,
    AcceptBacklog,
}

impl Limit {
    const COUNT: usize = Self::AcceptBacklog as usize + 1;

    fn field(self) -> &'static str {
        match self {
            Self::Connections => "max_connections",
            Self::ConnectionsPerAddress => "max_connections_per_address",
            Self::Handshakes => "max_handshakes",
            Self::HandshakesPerAddress => "max_handshakes_per_address",
            Self::AcceptBacklog => "max_accept_backlog",
        }
    }

    /// What happens to a connection beyond the limit.
    fn consequence(self) -> &'static str {
        match self {
            Self::Connections | Self::ConnectionsPerAddress => "connection refused",
            Self::Handshakes | Self::HandshakesPerAddress => "first packet dropped",
            Self::AcceptBacklog => "connection closed with 0x1001",
        }
    }
}

#[derive(Clone, Copy, Debug, Default)]
struct Line {
    due: Option<Instant>,
    /// Events since the last line.
    events: u64,
}

#[derive(Debug, Default)]
pub(crate) struct LimitLog([Line; Limit::COUNT]);

impl LimitLog {
    /// `max_handshakes` are in flight, so quinn-proto drops Initial packets of new connections now.
    pub(crate) fn note_full(&mut self, now: Instant) {
        let line = &mut self.0[Limit::Handshakes as usize];
        if line.due.is_none_or(|due| now >= due) {
            line.due = Some(now + INTERVAL);
            tracing::warn!(
                "max_handshakes is reached: first packets are dropped until handshakes end"
            );
        }
    }

    /// A connection from `remote` exceeded `limit`.
    pub(crate) fn note(&mut self, now: Instant, limit: Limit, remote: SocketAddr) {
        let (field, consequence, remote) = (limit.field(), limit.consequence(), Multiaddr(remote));
        tracing::debug!("{consequence}: {remote}, {field} is reached");
        let line = &mut self.0[limit as usize];
        line.events += 1;
        if line.due.is_some_and(|due| now < due) {
            return;
        }
        line.due = Some(now + INTERVAL);
        let events = std::mem::take(&mut line.events);
        tracing::warn!(
            "{field} is reached: {consequence}, {events} since the last such line, the last one from {remote}"
        );
    }
}

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
