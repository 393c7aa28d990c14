//! In which way a dial differs from an ordinary one.

use std::time::Duration;

/// Which socket a dial uses, and what it expects of the path.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DialMode {
    /// From the listening socket that can reach the peer, if there is one.
    #[default]
    Plain,
    /// From a socket of its own, bound to any port and closed with the connection. A NAT of the peer
    /// lets its packets in only if it would let in everybody's, which AutoNAT's dial-back tests.
    FreshPort,
    /// As a plain dial, to a peer that punches a hole for it ([`Inbound::punch`](crate::Inbound::punch))
    /// and may do so after the first packets have arrived. They are repeated from this estimate of
    /// the round-trip time on (RFC 9002 section 6.2.2), in place of
    /// [`Config::initial_rtt`](crate::Config::initial_rtt), and reports that the address is
    /// unreachable are ignored: until then it is.
    Punched {
        /// For instance that of the relayed connection.
        rtt: Duration,
    },
}
