//! Limits and timeouts of an endpoint: each default with its why.
//!
//! A [`Config`] is plain values; it is checked once, when an endpoint is made of it, and
//! becomes quinn-proto's two configurations there. Nothing else reads environment or files.

use std::{sync::Arc, time::Duration};

use quinn_proto::{IdleTimeout, MtuDiscoveryConfig, TransportConfig, VarInt};

use crate::{
    congestion::{Congestion, CongestionSignals},
    driver::FIRST_SEND_WINDOW,
    error::ConfigError,
    receive_credit::FIRST_WINDOW,
};

/// Which algorithm decides how fast to send.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CongestionControl {
    /// BBR: follows measured bandwidth and round-trip time.
    Bbr,
    /// CUBIC (RFC 9438) with the share of two flows, which is what go-libp2p takes.
    #[default]
    Cubic,
    /// NewReno (RFC 9002).
    NewReno,
}

/// When the verbs hand their work to the I/O thread.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Flush {
    /// Each verb at once.
    #[default]
    Immediate,
    /// At [`Endpoint::flush`](crate::Endpoint::flush), which an event loop calls once per
    /// pass: what many tasks wrote in one pass then costs one wake-up. Dropping a stream waits
    /// for none, as nobody may know of it.
    OnRequest,
}

/// Limits and timeouts of an endpoint.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Config {
    /// How long a handshake may take, dialed or accepted. 10 s, as in rust-libp2p's swarm.
    pub handshake_timeout: Duration,
    /// How long a connection lives without hearing from the peer; the smaller of both
    /// sides' values counts. 30 s, as in go-libp2p.
    pub idle_timeout: Duration,
    /// Silence after which a PING is sent. 5 s, as in rust- and js-libp2p: peers exist that
    /// give up after 10 s and send no keep-alive of their own. Where a third of the idle timeout
    /// that both sides agreed on is shorter, it counts instead, so that one lost PING ends nothing
    /// (RFC 9000 section 10.1). `None`: never.
    pub keep_alive_interval: Option<Duration>,
    /// How long a closed connection goes on delivering what finished streams still owe.
    /// 1 s: enough for a retransmission on any common path, and no shutdown hangs on it.
    pub linger: Duration,
    /// ReceiveCredit bytes the peer may send on one stream. 10 MB, as in the siblings.
    pub stream_receive_window: u64,
    /// ReceiveCredit bytes the peer may send on all streams of a connection. 15 MB, likewise. It
    /// begins at 32 KiB and doubles up to this when half of it is read within few round trips, and
    /// when readers have stopped, as far as `receive_budget` allows.
    pub connection_receive_window: u64,
    /// ReceiveCredit bytes that the peers of all connections together may make this endpoint hold. A
    /// connection is charged its window, for what QUIC holds, and as much or more for what waits
    /// in queues. When it is used up, nothing grows, and new connections stay at 32 KiB each.
    /// 256 MiB: eight full windows, or 4096 first ones.
    pub receive_budget: u64,
    /// Bytes that QUIC keeps per connection until they are acknowledged. 10 MB: one stream window. It
    /// begins at 64 KiB and doubles up to this as the peer acknowledges, as far as `send_budget`
    /// allows.
    pub send_window: u64,
    /// Bytes that all connections together may hold for their peers. A connection is charged its send
    /// window, and what waits in the queues of its streams. When half of it is used up, a stream
    /// takes no more at a time than its peer took of it before; when all of it is, 4 KiB, and no
    /// window grows. 256 MiB, as for what is received.
    pub send_budget: u64,
    /// Received bytes that wait outside of QUIC for the reader of a stream. 4 MiB: what a fast peer
    /// sends while a reader pauses. What waits inside, quinn-proto copies when it is more than 2 048
    /// datagrams' worth, and that costs a fast receiver a tenth of its time.
    pub read_buffer: usize,
    /// Written bytes that wait for the I/O thread, per stream; no byte is accepted beyond.
    pub write_buffer: usize,
    /// Streams that the peer may have open at once. One counts until it is accepted, even where
    /// the peer has given it up: none is refused. The allowance starts at 16 and doubles
    /// up to this while more than half is in use, as quinn-proto reserves memory for each.
    pub max_incoming_streams: u32,
    /// Connections that are done with their handshake and wait for
    /// [`Listener::poll_accept`](crate::Listener::poll_accept). Beyond it, peers are refused.
    pub max_accept_backlog: usize,
    /// Inbound handshakes in flight, failed ones that are not yet forgotten among them. Beyond
    /// it, first packets are dropped before anything is computed for them; honest clients
    /// send theirs again. 1024: some 50 MB.
    pub max_handshakes: usize,
    /// Inbound handshakes in flight of one address, once more for those that have proven
    /// that the address is theirs. Beyond it, an address must be proven by a Retry, and if it
    /// is, first packets are dropped. The loopback has no such limit.
    pub max_handshakes_per_address: usize,
    /// Inbound handshakes in flight above which unknown addresses must first answer a Retry
    /// (RFC 9000 section 8.1.2), which costs honest ones a round trip. `Some(0)`: always.
    /// `None`: only those of an address with too many handshakes. 256: no honest crowd, and
    /// a quarter of `max_handshakes`, so that forged addresses never take all places.
    pub retry_above: Option<usize>,
    /// Connections in all, inbound ones beyond which are refused. `None`: no limit. 4096:
    /// idle ones take some 200 MB.
    pub max_connections: Option<usize>,
    /// Inbound connections of one address, beyond which they are refused. `None`: no limit.
    /// 256: many households behind one NAT, and a sixteenth of all. The loopback has no such limit.
    pub max_connections_per_address: Option<usize>,
    /// Leading bits of an IPv4 address that make it another one for these limits.
    pub ipv4_prefix: u8,
    /// The same for IPv6: by default 64, as whoever has one address there has 2^64.
    pub ipv6_prefix: u8,
    /// The congestion control algorithm.
    pub congestion_control: CongestionControl,
    /// Round-trip time assumed before the first measurement. 333 ms (RFC 9002 section 6.2.2).
    pub initial_rtt: Duration,
    /// The largest UDP payload that path MTU discovery tries. 1452: Ethernet less IPv6 and UDP.
    pub max_datagram_size: u16,
    /// Give the kernel many datagrams in one system call (GSO) where it can take them.
    pub segmentation_offload: bool,
    /// Accept dials that carry draft 29's version number and version 1's keys, as the QUIC
    /// transport of py-libp2p makes them to `/quic` addresses. Our own dials are version 1.
    pub accept_draft_29: bool,
    /// Let peers that dialed us go on from another address (RFC 9000 section 9). Without it
    /// they are told not to, and what comes from another address is dropped.
    pub migration: bool,
    /// When verbs hand their work over.
    pub flush: Flush,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            handshake_timeout: Duration::from_secs(10),
            idle_timeout: Duration::from_secs(30),
            keep_alive_interval: Some(Duration::from_secs(5)),
            linger: Duration::from_secs(1),
            stream_receive_window: 10_000_000,
            connection_receive_window: 15_000_000,
            receive_budget: 256 * 1024 * 1024,
            send_window: 10_000_000,
            send_budget: 256 * 1024 * 1024,
            read_buffer: 4 * 1024 * 1024,
            write_buffer: 256 * 1024,
            max_incoming_streams: 1024,
            max_accept_backlog: 256,
            max_handshakes: 1024,
            max_handshakes_per_address: 64,
            retry_above: Some(256),
            max_connections: Some(4096),
            max_connections_per_address: Some(256),
            ipv4_prefix: 32,
            ipv6_prefix: 64,
            congestion_control: CongestionControl::default(),
            initial_rtt: Duration::from_millis(333),
            max_datagram_size: 1452,
            segmentation_offload: true,
            accept_draft_29: false,
            migration: true,
            flush: Flush::default(),
        }
    }
}

/// Streams allowed to the peer before it has shown that it needs more: quinn-proto reserves
/// about 0.1 KiB for each, which an idle connection would pay for.
pub(crate) const INITIAL_STREAM_ALLOWANCE: u32 = 16;

/// Smallest payload every QUIC path must carry (RFC 9000 section 14).
const MIN_DATAGRAM_SIZE: u16 = 1200;

/// The longest time, 34 years. QUIC could express more, but no clock can add it, nor its
/// multiples (the probe timeout is one of the round-trip time), to now.
const LONGEST: Duration = Duration::from_secs(1 << 30);

impl Config {
    /// Check every field and that they agree with each other.
    pub fn check(&self) -> Result<(), ConfigError> {
        let refuse = |field, reason: &str| {
            Err(ConfigError {
                field,
                reason: reason.to_owned(),
            })
        };
        for (field, value) in [
            ("handshake_timeout", self.handshake_timeout),
            ("idle_timeout", self.idle_timeout),
            ("initial_rtt", self.initial_rtt),
        ] {
            if value.is_zero() {
                return refuse(field, "must be more than zero");
            }
        }
        for (field, value) in [
            ("handshake_timeout", self.handshake_timeout),
            ("idle_timeout", self.idle_timeout),
            (
                "keep_alive_interval",
                self.keep_alive_interval.unwrap_or_default(),
            ),
            ("linger", self.linger),
            ("initial_rtt", self.initial_rtt),
        ] {
            if value > LONGEST {
                return refuse(field, "must be at most 2**30 seconds");
            }
        }
        if let Some(interval) = self.keep_alive_interval {
            if interval.is_zero() {
                return refuse("keep_alive_interval", "must be more than zero, or absent");
            }
            if interval >= self.idle_timeout {
                return refuse(
                    "keep_alive_interval",
                    "must be shorter than idle_timeout, or the connection dies before the first one",
                );
            }
        }
        for (field, value) in [
            ("stream_receive_window", self.stream_receive_window),
            ("connection_receive_window", self.connection_receive_window),
            ("send_window", self.send_window),
        ] {
            if value == 0 || VarInt::from_u64(value).is_err() {
                return refuse(field, "must be between 1 and 2**62 - 1 bytes");
            }
        }
        if self.stream_receive_window > self.connection_receive_window {
            return refuse(
                "stream_receive_window",
                "must not exceed connection_receive_window",
            );
        }
        if self.receive_budget < 2 * FIRST_WINDOW {
            return refuse(
                "receive_budget",
                "must be at least 65536 bytes, the first window of one connection",
            );
        }
        if self.send_budget < FIRST_SEND_WINDOW {
            return refuse(
                "send_budget",
                "must be at least 65536 bytes, the first window of one connection",
            );
        }
        for (field, value) in [
            ("read_buffer", self.read_buffer),
            ("write_buffer", self.write_buffer),
            ("max_accept_backlog", self.max_accept_backlog),
            ("max_handshakes", self.max_handshakes),
            (
                "max_handshakes_per_address",
                self.max_handshakes_per_address,
            ),
        ] {
            if value == 0 {
                return refuse(field, "must be at least 1");
            }
        }
        if self
            .retry_above
            .is_some_and(|above| above >= self.max_handshakes)
        {
            return refuse(
                "retry_above",
                "must be less than max_handshakes, or forged addresses could take every place",
            );
        }
        if !(1..=32).contains(&self.ipv4_prefix) {
            return refuse("ipv4_prefix", "must be between 1 and 32 bits");
        }
        if !(1..=128).contains(&self.ipv6_prefix) {
            return refuse("ipv6_prefix", "must be between 1 and 128 bits");
        }
        if self.max_datagram_size < MIN_DATAGRAM_SIZE {
            return refuse(
                "max_datagram_size",
                "must be at least 1200 (RFC 9000 section 14)",
            );
        }
        Ok(())
    }

    /// What QUIC needs to know of it for one connection. It must have been checked.
    pub(crate) fn transport(&self, congestion_signals: CongestionSignals) -> Arc<TransportConfig> {
        // `check` has bounded what these conversions could refuse.
        let varint = |value: u64| VarInt::from_u64(value).unwrap_or(VarInt::MAX);
        let mut transport = TransportConfig::default();
        transport
            .max_concurrent_bidi_streams(VarInt::from_u32(
                self.max_incoming_streams.min(INITIAL_STREAM_ALLOWANCE),
            ))
            // libp2p's streams are bidirectional (libp2p connections spec).
            .max_concurrent_uni_streams(VarInt::from_u32(0))
            .max_idle_timeout(IdleTimeout::try_from(self.idle_timeout).ok())
            // Ours depends on the peer's idle timeout: `driver/keep_alive.rs`.
            .keep_alive_interval(None)
            .stream_receive_window(varint(self.stream_receive_window))
            .receive_window(varint(self.connection_receive_window.min(FIRST_WINDOW)))
            .send_window(self.send_window.min(FIRST_SEND_WINDOW))
            .initial_rtt(self.initial_rtt)
            .datagram_receive_buffer_size(None)
            .enable_segmentation_offload(self.segmentation_offload);
        let mut discovery = MtuDiscoveryConfig::default();
        discovery.upper_bound(self.max_datagram_size);
        transport.mtu_discovery_config(
            (self.max_datagram_size > MIN_DATAGRAM_SIZE).then_some(discovery),
        );
        transport.congestion_controller_factory(Arc::new(Congestion {
            algorithm: self.congestion_control,
            congestion_signals,
        }));
        Arc::new(transport)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_are_sound() {
        assert_eq!(Config::default().check(), Ok(()));
    }

    #[test]
    fn nonsense_names_its_field() {
        let refused = |spoil: fn(&mut Config)| {
            let mut config = Config::default();
            spoil(&mut config);
            config.check().map_err(|e| e.field)
        };
        assert_eq!(
            refused(|c| c.handshake_timeout = Duration::ZERO),
            Err("handshake_timeout")
        );
        assert_eq!(
            refused(|c| c.idle_timeout = Duration::MAX),
            Err("idle_timeout")
        );
        assert_eq!(
            refused(|c| c.handshake_timeout = Duration::MAX),
            Err("handshake_timeout")
        );
        assert_eq!(refused(|c| c.linger = Duration::MAX), Err("linger"));
        assert_eq!(
            refused(|c| c.initial_rtt = LONGEST + Duration::from_nanos(1)),
            Err("initial_rtt")
        );
        assert_eq!(
            refused(|c| c.keep_alive_interval = Some(c.idle_timeout)),
            Err("keep_alive_interval")
        );
        assert_eq!(
            refused(|c| c.stream_receive_window = u64::MAX),
            Err("stream_receive_window")
        );
        assert_eq!(
            refused(|c| c.connection_receive_window = 1),
            Err("stream_receive_window")
        );
        assert_eq!(refused(|c| c.write_buffer = 0), Err("write_buffer"));
        assert_eq!(refused(|c| c.receive_budget = 0), Err("receive_budget"));
        assert_eq!(refused(|c| c.send_budget = 65_535), Err("send_budget"));
        assert_eq!(refused(|c| c.max_handshakes = 0), Err("max_handshakes"));
        assert_eq!(
            refused(|c| c.max_handshakes_per_address = 0),
            Err("max_handshakes_per_address")
        );
        assert_eq!(
            refused(|c| c.retry_above = Some(c.max_handshakes)),
            Err("retry_above")
        );
        assert_eq!(refused(|c| c.ipv4_prefix = 33), Err("ipv4_prefix"));
        assert_eq!(refused(|c| c.ipv6_prefix = 0), Err("ipv6_prefix"));
        assert_eq!(
            refused(|c| c.max_datagram_size = 1199),
            Err("max_datagram_size")
        );
    }
}
