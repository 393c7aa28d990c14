//! Counts of the state that an endpoint holds, so that tests find leaks.

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
