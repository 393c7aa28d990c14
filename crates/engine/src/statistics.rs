//! What a connection can tell of itself: a snapshot, at most a few milliseconds old.

use std::time::Duration;

/// A snapshot of a connection's counters.
#[derive(Clone, Copy, Debug, Default)]
#[non_exhaustive]
pub struct Statistics {
    /// Smoothed round-trip time; the configured guess before the first measurement.
    pub rtt: Duration,
    /// Bytes that may be in flight.
    pub congestion_window: u64,
    /// Largest UDP payload the path is known to carry, in bytes.
    pub mtu: u16,
    /// Bytes of UDP payload sent.
    pub bytes_sent: u64,
    /// Bytes of UDP payload received.
    pub bytes_received: u64,
    /// Datagrams sent.
    pub datagrams_sent: u64,
    /// System calls that sent them: fewer with segmentation offload.
    pub sends: u64,
    /// Datagrams received.
    pub datagrams_received: u64,
    /// Packets deemed lost.
    pub packets_lost: u64,
    /// Times that congestion was found.
    pub congestion_events: u64,
    /// Streams on which either direction is still open.
    pub streams_open: usize,
    /// From the first packet to the proven peer; zero before.
    pub handshake: Duration,
}
