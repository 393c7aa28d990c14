//! The counters of a connection.

use std::time::Duration;

/// A snapshot of a connection's counters, at most a few milliseconds old while data moves.
#[derive(Clone, Copy, Debug, Default)]
#[non_exhaustive]
pub struct Statistics {
    /// Smoothed round-trip time (RFC 9002 section 5.3);
    /// [`Config::initial_rtt`](crate::Config::initial_rtt) before the first measurement.
    pub rtt: Duration,
    /// Congestion window, in bytes.
    pub congestion_window: u64,
    /// Largest UDP payload that the path is known to carry, in bytes.
    pub mtu: u16,
    /// Bytes of UDP payload sent.
    pub bytes_sent: u64,
    /// Bytes of UDP payload received.
    pub bytes_received: u64,
    /// Datagrams sent.
    pub datagrams_sent: u64,
    /// System calls that sent them. With segmentation offload, fewer than `datagrams_sent`.
    pub sends: u64,
    /// Datagrams received.
    pub datagrams_received: u64,
    /// Packets declared lost (RFC 9002 section 6).
    pub packets_lost: u64,
    /// Congestion events (RFC 9002 section 7).
    pub congestion_events: u64,
    /// Streams on which either direction is still open.
    pub streams_open: usize,
    /// Duration of the handshake, from the first packet; zero until it has completed.
    pub handshake: Duration,
}
