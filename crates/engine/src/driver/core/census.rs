//! Counts what a core holds, so that tests find leaks; and drives a core once for simulations.

#[cfg(feature = "simulation")]
use std::time::Instant;

use super::Core;
#[cfg(feature = "simulation")]
use crate::driver::{core::TURNS_PER_DRIVE, network::Network};

/// What an endpoint holds, whether or not the application has handles to it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Census {
    /// Connections that are driven.
    pub connections: usize,
    /// Connections that commands can reach.
    pub names: usize,
    /// Connections that quinn-proto knows.
    pub quic_connections: usize,
    /// Inbound connections whose handshake has not completed, or failed.
    pub inbound_handshakes: usize,
    /// Remote addresses that have any inbound connection.
    pub addresses: usize,
    /// Streams of all connections, including those opened ahead of need.
    pub streams: usize,
    /// Bytes of receive credit that all connections have reserved.
    pub promised: u64,
    /// Bytes that they may hold for peers: their send queues and send windows.
    pub unacked: u64,
    /// Bytes of pooled buffers, for all endpoints of the process; freed after a short silence.
    pub kept: usize,
    /// Bytes of datagrams that quinn-proto buffers for handshakes not yet accepted.
    pub waiting_datagram_bytes: u64,
}

impl Core {
    /// Take commands and advance: one pass of a thread with this core only.
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
            // The core's thread fills this in.
            kept: 0,
            waiting_datagram_bytes: self.endpoint.incoming_buffer_bytes(),
        }
    }
}
