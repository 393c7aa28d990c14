//! What a core holds, for those who look for what is left; and the one pass of work that
//! simulations ask of it.

#[cfg(feature = "simulation")]
use std::time::Instant;

use super::Core;
#[cfg(feature = "simulation")]
use crate::driver::{core::TURNS_PER_DRIVE, network::Network};

/// What an endpoint holds, whoever has handles to it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Census {
    /// Connections that are driven.
    pub connections: usize,
    /// Connections that commands can reach.
    pub names: usize,
    /// Connections that quinn-proto knows.
    pub quic_connections: usize,
    /// Inbound ones among them whose peer is not proven, or never was.
    pub inbound_handshakes: usize,
    /// Remote addresses that have any inbound connection.
    pub addresses: usize,
    /// Streams of all connections, those opened ahead of need among them.
    pub streams: usize,
    /// Bytes that all connections may hold for readers, as far as they were promised.
    pub promised: u64,
    /// Bytes that they may hold for peers: what waits in queues, and their send windows.
    pub unacked: u64,
    /// Bytes of memory that the process keeps for more traffic, of all its endpoints, until nothing
    /// has come for a moment.
    pub kept: usize,
    /// Bytes of datagrams that quinn-proto keeps for handshakes not yet looked at.
    pub waiting_datagram_bytes: u64,
}

impl Core {
    /// Take commands and advance: one pass of a thread that has but this core.
    #[cfg(feature = "simulation")]
    pub(crate) fn drive(&mut self, now: Instant, network: &mut dyn Network) -> bool {
        self.take_commands(now);
        let has_more = self.advance(now, TURNS_PER_DRIVE, network);
        self.release(network);
        has_more
    }

    pub(crate) fn census(&self) -> Census {
        let driven = || self.connections.iter().flatten();
        let (promised, unacked) = self.settings.charged();
        Census {
            connections: driven().count(),
            names: self.handles.len(),
            quic_connections: self.endpoint.open_connections(),
            inbound_handshakes: self.admission.handshakes(),
            addresses: self.admission.addresses(),
            streams: driven().map(|driven| driven.streams()).sum(),
            promised,
            unacked,
            // Not of a core: its thread knows.
            kept: 0,
            waiting_datagram_bytes: self.endpoint.incoming_buffer_bytes(),
        }
    }
}
