//! Limits and timeouts of an endpoint, each default with its reason.
//!
//! A [`Config`] holds plain values. [`Endpoint::new`](crate::Endpoint::new) checks it once;
//! `driver::settings` builds quinn-proto's endpoint, server and client configurations from it.

use std::{path::PathBuf, sync::Arc, time::Duration};

use quinn_proto::{IdleTimeout, MtuDiscoveryConfig, TransportConfig, VarInt};

use crate::{
    congestion::{Congestion, CongestionControl, CongestionSignals},
    driver::FIRST_SEND_WINDOW,
    error::ConfigError,
    qlog::{LatestLog, SMALLEST_FILE},
    receive_credit::FIRST_WINDOW,
};

/// When methods hand their work to the I/O thread.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Flush {
    /// In each call.
    #[default]
    Immediate,
    /// In [`Endpoint::flush`](crate::Endpoint::flush), which an event loop calls once per pass:
    /// the writes of many tasks then cost one wake-up. Dropping a stream flushes by itself what the
    /// drop does, a reset or a stop, as it may happen outside of the loop.
    OnRequest,
}

/// Limits and timeouts of an endpoint.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Config {
    /// How long an outbound or inbound handshake may take. 10 s, as in rust-libp2p's swarm.
    pub handshake_timeout: Duration,
    /// How long a connection lives without a packet from the peer; the smaller of both sides'
    /// values counts (RFC 9000 section 10.1). 30 s, as in go-libp2p.
    pub idle_timeout: Duration,
    /// Silence after which a PING is sent. 5 s, as in rust- and js-libp2p: some peers give up
    /// after 10 s and send no keep-alive. A third of the negotiated idle timeout is used where
    /// that is shorter, so that one lost PING does not end the connection (RFC 9000 section
    /// 10.1.2). `None`: never.
    pub keep_alive_interval: Option<Duration>,
    /// How long a closed connection goes on delivering the unacknowledged bytes of finished
    /// streams. 1 s: enough for a retransmission on any common path, and short for a shutdown.
    pub linger: Duration,
    /// Bytes that the peer may send on one stream before the application has read them (RFC 9000
    /// section 4.1). 10 MB, as in the other libp2p implementations.
    pub stream_receive_window: u64,
    /// Bytes that the peer may send on all streams of a connection before the application has
    /// read them. 15 MB, as in the other libp2p implementations. The window starts at 32 KiB. It
    /// doubles up to this while half of it is read within few round trips, and when readers have
    /// stopped, as far as `receive_budget` allows.
    pub connection_receive_window: u64,
    /// Bytes not yet read that all connections together may hold. A connection is charged its
    /// window, for the bytes inside QUIC, and as much or more for the bytes in its queues. When
    /// the budget is used up no window grows, and new connections stay at 32 KiB each. 256 MiB:
    /// eight full windows, or 4096 initial ones.
    pub receive_budget: u64,
    /// Bytes that QUIC holds per connection until they are acknowledged. 10 MB: one stream
    /// window. It starts at 64 KiB and doubles up to this as the peer acknowledges, as far as
    /// `send_budget` allows.
    pub send_window: u64,
    /// Bytes that all connections together may hold for their peers. A connection is charged its
    /// send window and the bytes in the queues of its streams. When half of the budget is used, a
    /// stream queues at most as many bytes as its peer has taken so far, and 4 KiB in any case;
    /// when all of it is used, a stream queues at most 4 KiB and no window grows. 256 MiB, as
    /// `receive_budget`.
    pub send_budget: u64,
    /// Received bytes per stream that wait outside of QUIC for the reader. 4 MiB: what a fast
    /// peer sends while a reader pauses. quinn-proto copies the bytes that it holds itself when
    /// they exceed 2 048 datagrams, which costs a fast receiver a tenth of its time.
    pub read_buffer: usize,
    /// Written bytes per stream that wait for the I/O thread; writes beyond it wait. 256 KiB.
    pub write_buffer: usize,
    /// Streams that the peer may have open at once. A stream counts until it is accepted, even
    /// when the peer has reset it; none is refused. 1024. The allowance starts at 16 and doubles
    /// up to this while more than half is in use, as quinn-proto reserves memory for each.
    pub max_incoming_streams: u32,
    /// Connections whose handshake has completed and that wait for
    /// [`Listener::poll_accept`](crate::Listener::poll_accept). Beyond it, peers are refused. 256.
    pub max_accept_backlog: usize,
    /// Inbound handshakes in flight, including failed ones whose state is still held. Beyond
    /// it, Initial packets are dropped before any cryptography; honest clients retransmit.
    /// 1024: some 50 MB.
    pub max_handshakes: usize,
    /// Inbound handshakes in flight from one address; handshakes with a validated address have a
    /// second allowance of this size. Beyond the first, the address must be validated by a Retry;
    /// beyond the second, Initial packets are dropped. Loopback addresses have no such limit. 64.
    pub max_handshakes_per_address: usize,
    /// Inbound handshakes in flight above which an address must be validated by a Retry
    /// (RFC 9000 section 8.1.2), which costs an honest client a round trip. `Some(0)`: always.
    /// `None`: only for an address with too many handshakes. 256: more than honest load causes,
    /// and a quarter of `max_handshakes`, so that forged addresses never take all places.
    pub retry_above: Option<usize>,
    /// Connections in both directions; inbound ones beyond it are refused. `None`: no limit.
    /// 4096: idle ones take some 200 MB.
    pub max_connections: Option<usize>,
    /// Inbound connections from one address; those beyond it are refused. `None`: no limit.
    /// 256: many users behind one NAT, and a sixteenth of all. Loopback addresses have no such
    /// limit.
    pub max_connections_per_address: Option<usize>,
    /// IPv4 prefix length, in bits, that counts as one address for the limits above. 32.
    pub ipv4_prefix: u8,
    /// IPv6 prefix length, in bits, that counts as one address for the limits above. 64, as one
    /// subscriber has at least that many.
    pub ipv6_prefix: u8,
    /// The congestion control algorithm. CUBIC.
    pub congestion_control: CongestionControl,
    /// Round-trip time assumed before the first measurement. 333 ms (RFC 9002 section 6.2.2).
    pub initial_rtt: Duration,
    /// Largest UDP payload, in bytes, that path MTU discovery tries. 1452: Ethernet's 1500 less the
    /// headers of IPv6 and UDP.
    pub max_datagram_size: u16,
    /// Send many datagrams in one system call (GSO) where the kernel supports it.
    pub segmentation_offload: bool,
    /// Accept connections with draft 29's version number and version 1's keys, as py-libp2p's
    /// own QUIC transport sends them to `/quic` addresses. Outbound connections use version 1.
    pub accept_draft_29: bool,
    /// Let peers that dialed us migrate to another address (RFC 9000 section 9). Without it
    /// `disable_active_migration` is sent, and packets from another address are dropped.
    pub migration: bool,
    /// The folder for a qlog file of each connection. It is created if need be, and the files can be
    /// read by this user only. `None`: the one that the environment variable `QLOGDIR` names; without
    /// either nothing is written.
    pub qlog_dir: Option<PathBuf>,
    /// Largest qlog file, in bytes; later events of its connection are left out. 64 MiB: some 250 000
    /// packets, or 350 MB of data. All files of an endpoint have at most 1 GiB, and there are at most 4096.
    pub qlog_file_limit: u64,
    /// When methods hand their work to the I/O thread.
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
            qlog_dir: None,
            qlog_file_limit: 64 * 1024 * 1024,
            flush: Flush::default(),
        }
    }
}

/// Streams allowed to the peer at first: quinn-proto reserves about 0.1 KiB for each, which an
/// idle connection does not need.
pub(crate) const INITIAL_STREAM_ALLOWANCE: u32 = 16;

/// Streams allowed to a browser once it is proven. Chrome 156 fails to open a stream beyond the allowance and does not
/// wait for MAX_STREAMS, so an allowance that grows with use breaks a page that opens many at once. go-libp2p
/// allows as many.
pub(crate) const BROWSER_STREAM_ALLOWANCE: u32 = 256;

/// Unidirectional streams allowed to a peer that may speak HTTP/3: its control stream, two of QPACK (RFC 9114 section
/// 6.2 asks for three at least), and some that mean nothing.
const HTTP3_STREAMS: u32 = 8;

/// Bidirectional streams of a session beside the application's: that of its request, and for a while that of Noise.
const SESSION_STREAMS: u32 = 2;

/// The largest QUIC datagram that is accepted, and as much memory for those that wait, which are dropped at once.
const LARGEST_DATAGRAM: usize = 65_535;

/// Smallest UDP payload, in bytes, that every QUIC path must carry (RFC 9000 section 14).
const MIN_DATAGRAM_SIZE: u16 = 1200;

/// Longest duration, 34 years. QUIC can express more, but adding it to an `Instant`, or a
/// multiple of it as for the probe timeout, would overflow.
const LONGEST: Duration = Duration::from_secs(1 << 30);

impl Config {
    /// Check every field, and that the fields agree with each other.
    ///
    /// # Errors
    /// [`ConfigError`] names the first field that is out of range.
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
        if self.idle_timeout < Duration::from_millis(1) {
            // RFC 9000 section 18.2 has it in milliseconds, where 0 means none.
            return refuse("idle_timeout", "must be at least 1 ms");
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
        if self.qlog_file_limit < SMALLEST_FILE {
            return refuse("qlog_file_limit", "must be at least 4096 bytes");
        }
        Ok(())
    }

    /// quinn-proto's configuration of one connection. The caller has called [`check`](Self::check).
    pub(crate) fn transport(
        &self,
        congestion_signals: CongestionSignals,
        log: Option<LatestLog>,
        has_http3: bool,
    ) -> Arc<TransportConfig> {
        // `check` has bounded the values, so that these conversions do not fail.
        let varint = |value: u64| VarInt::from_u64(value).unwrap_or(VarInt::MAX);
        let mut transport = TransportConfig::default();
        transport
            .max_concurrent_bidi_streams(VarInt::from_u32(
                self.max_incoming_streams
                    .saturating_add(if has_http3 { SESSION_STREAMS } else { 0 })
                    .min(INITIAL_STREAM_ALLOWANCE),
            ))
            // libp2p's streams are bidirectional (libp2p connections spec). HTTP/3 needs others, too, and its
            // clients insist on datagrams.
            .max_concurrent_uni_streams(VarInt::from_u32(if has_http3 { HTTP3_STREAMS } else { 0 }))
            .max_idle_timeout(IdleTimeout::try_from(self.idle_timeout).ok())
            // The interval depends on the peer's idle timeout: see `driver/keep_alive.rs`.
            .keep_alive_interval(None)
            .stream_receive_window(varint(self.stream_receive_window))
            .receive_window(varint(self.connection_receive_window.min(FIRST_WINDOW)))
            .send_window(self.send_window.min(FIRST_SEND_WINDOW))
            .initial_rtt(self.initial_rtt)
            .datagram_receive_buffer_size(has_http3.then_some(LARGEST_DATAGRAM))
            .enable_segmentation_offload(self.segmentation_offload);
        let mut discovery = MtuDiscoveryConfig::default();
        discovery.upper_bound(self.max_datagram_size);
        transport.mtu_discovery_config(
            (self.max_datagram_size > MIN_DATAGRAM_SIZE).then_some(discovery),
        );
        transport.congestion_controller_factory(Arc::new(Congestion {
            algorithm: self.congestion_control,
            congestion_signals,
            log,
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
            refused(|c| c.idle_timeout = Duration::from_micros(999)),
            Err("idle_timeout")
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
        assert_eq!(
            refused(|c| c.qlog_file_limit = 4095),
            Err("qlog_file_limit")
        );
    }
}
