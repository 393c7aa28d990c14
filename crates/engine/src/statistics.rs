//! The counters of a connection.

use std::time::Duration;

/// A snapshot of a connection's counters, at most 10 ms old while data moves.
#[derive(Clone, Copy, Debug, Default)]
#[non_exhaustive]
pub struct Statistics {
    /// Smoothed round-trip time (RFC 9002 section 5.3);
    /// [`Config::initial_rtt`](crate::Config::initial_rtt) before the first measurement.
    pub rtt: Duration,
    /// The shortest round-trip time of the path (RFC 9002 section 5.2);
    /// [`Config::initial_rtt`](crate::Config::initial_rtt) before the first measurement.
    pub min_rtt: Duration,
    /// Of a dial, when the first Initial packet was sent, since the dial began, as are the following
    /// times: that of the attempt that was answered, else of one that still waits. `None` until then,
    /// and for an accepted connection.
    pub initial_sent: Option<Duration>,
    /// Of a dial, when the first datagram of the peer arrived: with its ServerHello, an
    /// acknowledgment, or a Retry (RFC 9000 section 8.1.2).
    pub first_answer: Option<Duration>,
    /// Of a dial, when the first CRYPTO frame of the peer arrived: its ServerHello, or a
    /// HelloRetryRequest (RFC 8446 section 4.1).
    pub server_hello: Option<Duration>,
    /// Duration of the handshake, from the first packet; zero until it has completed.
    pub handshake: Duration,
    /// Of a dial, when HANDSHAKE_DONE arrived, with which the listener confirms the handshake (RFC
    /// 9001 section 4.1.2). Over WebTransport that may be before the peer has proven its identity,
    /// which completes `handshake`.
    pub confirmed: Option<Duration>,
    /// Congestion window, in bytes.
    pub congestion_window: u64,
    /// Largest UDP payload that the path is known to carry, in bytes.
    pub mtu: u16,
    /// Whether datagrams to the peer are marked for ECN.
    pub ecn: EcnState,
    /// Bytes of UDP payload sent.
    pub bytes_sent: u64,
    /// Bytes of UDP payload received.
    pub bytes_received: u64,
    /// Datagrams sent.
    pub datagrams_sent: u64,
    /// Datagrams received.
    pub datagrams_received: u64,
    /// System calls that sent datagrams. With segmentation offload, fewer than `datagrams_sent`.
    pub sends: u64,
    /// Packets sent.
    pub packets_sent: u64,
    /// Packets declared lost (RFC 9002 section 6).
    pub packets_lost: u64,
    /// Bytes of the packets declared lost.
    pub bytes_lost: u64,
    /// Congestion events (RFC 9002 section 7).
    pub congestion_events: u64,
    /// How often a smaller MTU was assumed, as large packets only were lost (RFC 8899 section 4.3).
    pub black_holes: u64,
    /// PINGs sent because the connection was silent.
    pub keep_alives_sent: u64,
    /// How often the peer changed its address (RFC 9000 section 9).
    pub migrations: u64,
    /// Streams on which either direction is still open.
    pub streams_open: usize,
    /// Streams of the peer that wait until this program accepts them.
    pub streams_waiting: usize,
    /// Streams that this program opened.
    pub streams_opened: u64,
    /// Streams of the peer that this program accepted.
    pub streams_accepted: u64,
    /// Bytes that the peer may send beyond those that wait for readers.
    pub receive_window: u64,
    /// Memory of received bytes that wait for readers, in bytes: 64 more than its contents for each
    /// chunk.
    pub receive_held: usize,
}

/// Whether the datagrams on a path are marked for ECN (RFC 9000 appendix A.4).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum EcnState {
    /// Marked; nothing has been acknowledged on this path yet.
    #[default]
    Testing,
    /// Marked; an acknowledgment is overdue.
    Unknown,
    /// Marked; packets are acknowledged.
    Capable,
    /// Not marked: the path or the peer does not carry marks.
    Failed,
}
