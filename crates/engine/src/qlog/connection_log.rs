//! The log of one connection: writes an event for each packet, acknowledgment, loss and change of
//! state. It hears of packets from the `keys` that protect them, of the window and losses from the
//! `controller`, and of the rest from the connection's driver.
//!
//! quinn-proto tells a congestion controller how many bytes were lost, not in which packets. It
//! declares packets lost in the order of their numbers (RFC 9002 section 6.1), so the lost ones are
//! the first that are unacknowledged.

use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::{Duration, Instant},
};

use parking_lot::Mutex;

use super::{
    frames::{self, Contents},
    json::{self, Members},
    output::{Gap, Output, Writer},
    packet::{self, Packet, Space},
    parameters, wall_clock,
};
use crate::{
    error::{CloseKind, ConnectionError, Party},
    tls::TlsParameters,
};

/// RFC 9002 section 6.1.1, as quinn-proto has it.
const PACKET_THRESHOLD: u64 = 3;

/// Packets in flight that are remembered for each space: more than any window holds.
const MAX_IN_FLIGHT: usize = 65_536;

/// RFC 7464 section 2.2.
const RECORD_SEPARATOR: char = '\u{1e}';

/// Which side of a connection wrote a file.
#[derive(Clone, Copy, Debug)]
pub(super) enum Role {
    Client,
    Server,
}

impl Role {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Client => "client",
            Self::Server => "server",
        }
    }
}

pub(crate) struct ConnectionLog {
    writer: Arc<Writer>,
    output: Arc<Output>,
    began: Instant,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    spaces: [InFlight; Space::COUNT],
    latest_rtt: Option<Duration>,
    logged: Metrics,
    /// The event that it was closed is written.
    is_closed: bool,
    /// The last record, to reuse its memory.
    record: String,
}

/// The packets of one space that are in flight.
#[derive(Default)]
struct InFlight {
    sent: BTreeMap<u64, Sent>,
    largest_acknowledged: Option<u64>,
}

struct Sent {
    at: Instant,
    length: usize,
}

/// What the congestion controller knows after an acknowledgment or a loss.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Metrics {
    pub(super) smoothed_rtt: Option<Duration>,
    pub(super) min_rtt: Option<Duration>,
    pub(super) latest_rtt: Option<Duration>,
    pub(super) congestion_window: Option<u64>,
    pub(super) bytes_in_flight: Option<u64>,
    pub(super) ssthresh: Option<u64>,
}

impl ConnectionLog {
    /// Begin a file with its header.
    pub(super) fn new(writer: Arc<Writer>, output: Arc<Output>, role: Role, id: &[u8]) -> Self {
        let log = Self {
            writer,
            output,
            began: Instant::now(),
            state: Mutex::default(),
        };
        let mut header = String::from(RECORD_SEPARATOR);
        json::object(&mut header, |members| {
            members.text("file_schema", "urn:ietf:params:qlog:file:sequential");
            members.text("serialization_format", "application/qlog+json-seq");
            members.text("title", concat!("libp2p-quic ", env!("CARGO_PKG_VERSION")));
            members.object("trace", |members| trace(members, role, id));
        });
        header.push('\n');
        log.append(&header, Duration::ZERO);
        log
    }

    /// A packet is about to be protected, which happens when it is sent.
    pub(super) fn sent(&self, packet: &Packet<'_>) {
        let mut state = self.state.lock();
        let mut is_in_flight = false;
        self.event(&mut state.record, "quic:packet_sent", |members| {
            let contents = packet.write(members);
            if is_mtu_probe(packet, &contents) {
                members.flag("is_mtu_probe_packet", true);
            } else {
                // RFC 9002 section 2, "in flight".
                is_in_flight = contents.is_ack_eliciting || contents.has_padding;
            }
        });
        if is_in_flight {
            let in_flight = &mut state.spaces[packet.space() as usize].sent;
            if in_flight.len() == MAX_IN_FLIGHT {
                in_flight.pop_first();
            }
            let (at, length) = (Instant::now(), packet.length);
            in_flight.insert(packet.number, Sent { at, length });
        }
    }

    /// A packet was authenticated.
    pub(super) fn received(&self, packet: &Packet<'_>) {
        let mut state = self.state.lock();
        let state = &mut *state;
        let mut contents = Contents::default();
        self.event(&mut state.record, "quic:packet_received", |members| {
            contents = packet.write(members);
        });
        let space = &mut state.spaces[packet.space() as usize];
        for (first, last) in contents.acknowledged {
            if let Some(rtt) = space.acknowledge(first, last) {
                state.latest_rtt = Some(rtt);
            }
        }
    }

    /// A Retry packet was authenticated (RFC 9001 section 5.8).
    pub(super) fn received_retry(&self, header: &[u8], length: usize) {
        let mut state = self.state.lock();
        self.event(&mut state.record, "quic:packet_received", |members| {
            members.object("header", |members| packet::header(header, members));
            members.object("raw", |members| members.number("length", length as u64));
        });
    }

    /// A packet could not be authenticated, such as a forged one or a stateless reset.
    pub(super) fn dropped(&self, header: &[u8], length: usize) {
        let mut state = self.state.lock();
        self.event(&mut state.record, "quic:packet_dropped", |members| {
            members.object("header", |members| packet::header(header, members));
            members.object("raw", |members| members.number("length", length as u64));
            members.text("trigger", "decryption_failure");
        });
    }

    /// An acknowledgment or a loss changed what the controller knows.
    pub(super) fn metrics(&self, mut metrics: Metrics) {
        let mut state = self.state.lock();
        let state = &mut *state;
        metrics.latest_rtt = state.latest_rtt;
        let logged = std::mem::replace(&mut state.logged, metrics);
        if logged == metrics {
            return;
        }
        let name = "quic:recovery_metrics_updated";
        self.event(&mut state.record, name, |members| {
            for (key, value, before) in [
                ("smoothed_rtt", metrics.smoothed_rtt, logged.smoothed_rtt),
                ("min_rtt", metrics.min_rtt, logged.min_rtt),
                ("latest_rtt", metrics.latest_rtt, logged.latest_rtt),
            ] {
                if let Some(value) = value.filter(|_| value != before) {
                    members.milliseconds(key, value);
                }
            }
            for (key, value, before) in [
                (
                    "congestion_window",
                    metrics.congestion_window,
                    logged.congestion_window,
                ),
                (
                    "bytes_in_flight",
                    metrics.bytes_in_flight,
                    logged.bytes_in_flight,
                ),
                ("ssthresh", metrics.ssthresh, logged.ssthresh),
            ] {
                if let Some(value) = value.filter(|_| value != before) {
                    members.number(key, value);
                }
            }
        });
    }

    /// quinn-proto has declared packets with `bytes` lost.
    pub(super) fn lost(&self, bytes: u64) {
        let mut state = self.state.lock();
        let state = &mut *state;
        // Losses of other spaces are rare, and end with the handshake.
        let spaces = [Space::Data, Space::Handshake, Space::Initial];
        let of = spaces
            .into_iter()
            .find(|space| state.spaces[*space as usize].lost_at_most() >= bytes);
        let Some(space) = of else {
            // The packets were sent before this file began.
            self.event(&mut state.record, "quic:packet_lost", |_| {});
            return;
        };
        let name = match space {
            Space::Initial => "initial",
            Space::Handshake => "handshake",
            Space::Data => "1RTT",
        };
        let in_flight = &mut state.spaces[space as usize];
        let largest = in_flight.largest_acknowledged.unwrap_or_default();
        let mut left = bytes;
        while left > 0
            && let Some((number, sent)) = in_flight.sent.pop_first()
        {
            left = left.saturating_sub(sent.length as u64);
            self.event(&mut state.record, "quic:packet_lost", |members| {
                members.object("header", |members| {
                    members.text("packet_type", name);
                    members.number("packet_number", number);
                });
                let is_overtaken = largest >= number + PACKET_THRESHOLD;
                let trigger = match is_overtaken {
                    true => "reordering_threshold",
                    false => "time_threshold",
                };
                members.text("trigger", trigger);
            });
        }
    }

    /// The transport parameters of one side, as they are encoded.
    pub(super) fn parameters(&self, is_ours: bool, encoded: &[u8]) {
        let mut state = self.state.lock();
        self.event(&mut state.record, "quic:parameters_set", |members| {
            members.text("initiator", if is_ours { "local" } else { "remote" });
            parameters::write(encoded, members);
        });
    }

    /// The window shrinks for another reason than a lost packet.
    pub(super) fn congestion(&self, trigger: &str) {
        let mut state = self.state.lock();
        let name = "quic:congestion_state_updated";
        self.event(&mut state.record, name, |members| {
            members.text("new", "recovery");
            members.text("trigger", trigger);
        });
    }

    /// Path MTU discovery found another size.
    pub(super) fn mtu(&self, size: u16) {
        let mut state = self.state.lock();
        self.event(&mut state.record, "quic:mtu_updated", |members| {
            members.number("new", u64::from(size));
        });
    }

    pub(crate) fn started(&self, local: SocketAddr, remote: SocketAddr) {
        let mut state = self.state.lock();
        self.event(&mut state.record, "quic:connection_started", |members| {
            members.object("local", |members| endpoint(members, local));
            members.object("remote", |members| endpoint(members, remote));
        });
    }

    pub(crate) fn handshake_completed(&self, tls: Option<&TlsParameters>) {
        let mut state = self.state.lock();
        if let Some(tls) = tls {
            self.event(&mut state.record, "quic:parameters_set", |members| {
                // The draft's example has no prefix: "AES_128_GCM_SHA256".
                let suite = tls.cipher_suite;
                let name = suite.strip_prefix("TLS_").unwrap_or(suite);
                members.text("tls_cipher", name);
            });
            self.event(&mut state.record, "quic:alpn_information", |members| {
                members.object("chosen_alpn", |members| match str::from_utf8(&tls.alpn) {
                    Ok(text) => members.text("string_value", text),
                    Err(_) => members.hex("byte_value", &tls.alpn),
                });
            });
        }
        let name = "quic:connection_state_updated";
        self.event(&mut state.record, name, |members| {
            members.text("new", "handshake_complete");
        });
    }

    pub(crate) fn closed(&self, error: &ConnectionError) {
        self.close(|members| closed(members, error));
    }

    /// It was an attempt of a dial, and another one is kept.
    pub(crate) fn abandoned(&self) {
        self.close(|members| {
            members.text("initiator", "local");
            members.text("reason", "another attempt of the dial is kept");
            members.text("trigger", "aborted");
        });
    }

    /// What ended it first counts.
    fn close(&self, data: impl FnOnce(&mut Members<'_>)) {
        let mut state = self.state.lock();
        if !std::mem::replace(&mut state.is_closed, true) {
            self.event(&mut state.record, "quic:connection_closed", data);
        }
    }

    /// Append one event, written in `record`.
    fn event(&self, record: &mut String, name: &str, data: impl FnOnce(&mut Members<'_>)) {
        record.clear();
        let time = self.began.elapsed();
        event(record, time, name, data);
        self.append(record, time);
    }

    /// Append a record of this time. The record about a gap before it has the same time, as times in
    /// a file never go back.
    fn append(&self, record: &str, time: Duration) {
        self.writer.append(&self.output, record.as_bytes(), |gap| {
            let mut record = String::new();
            event(&mut record, time, "loglevel:warning", |members| {
                members.text("message", &explain(gap));
            });
            record
        });
    }
}

impl Drop for ConnectionLog {
    /// The connection is over: the file is closed when its last records are written.
    fn drop(&mut self) {
        self.writer.urge();
    }
}

impl InFlight {
    /// Packets were acknowledged. The round-trip time if the largest of all is new (RFC 9002
    /// section 5.1).
    fn acknowledge(&mut self, first: u64, last: u64) -> Option<Duration> {
        if first > last {
            return None;
        }
        let is_largest = self
            .largest_acknowledged
            .is_none_or(|largest| last > largest);
        let rtt = self
            .sent
            .get(&last)
            .filter(|_| is_largest)
            .map(|sent| sent.at.elapsed());
        if is_largest {
            self.largest_acknowledged = Some(last);
        }
        let numbers: Vec<u64> = self.sent.range(first..=last).map(|(it, _)| *it).collect();
        for number in numbers {
            self.sent.remove(&number);
        }
        rtt
    }

    /// Bytes of the packets that may have been declared lost: an acknowledged one was sent later.
    fn lost_at_most(&self) -> u64 {
        let largest = self.largest_acknowledged.unwrap_or_default();
        let lost = self.sent.range(..largest);
        lost.map(|(_, sent)| sent.length as u64).sum()
    }
}

/// RFC 8899 section 4.1: a probe packet has no data whose loss would matter.
fn is_mtu_probe(packet: &Packet<'_>, contents: &Contents) -> bool {
    packet.space() == Space::Data && contents.is_probe && packet.length > 1200
}

fn event(record: &mut String, time: Duration, name: &str, data: impl FnOnce(&mut Members<'_>)) {
    record.push(RECORD_SEPARATOR);
    json::object(record, |members| {
        members.milliseconds("time", time);
        members.text("name", name);
        members.object("data", data);
    });
    record.push('\n');
}

fn explain(gap: Gap) -> String {
    match gap {
        Gap::Dropped(count) => format!("{count} events are missing: the disk was too slow"),
        Gap::FileIsFull => "the file has reached qlog_file_limit: later events are missing".into(),
        Gap::TotalIsReached => {
            "the files of this endpoint have reached their limit: later events are missing".into()
        }
    }
}

fn trace(members: &mut Members<'_>, role: Role, id: &[u8]) {
    members.object("common_fields", |members| {
        members.hex("group_id", id);
        members.array("protocol_types", |elements| elements.text("QUIC"));
        members.text("time_format", "relative_to_epoch");
        members.object("reference_time", |members| {
            members.text("clock_type", "monotonic");
            members.text("epoch", "unknown");
            members.text("wall_clock_time", &wall_clock::now());
        });
    });
    members.object("vantage_point", |members| {
        members.text("name", "libp2p-quic");
        members.text("type", role.name());
    });
    members.array("event_schemas", |elements| {
        elements.text("urn:ietf:params:qlog:events:quic-13");
        elements.text("urn:ietf:params:qlog:events:loglevel-14");
    });
}

fn endpoint(members: &mut Members<'_>, address: SocketAddr) {
    let port = u64::from(address.port());
    match address.ip().to_canonical() {
        IpAddr::V4(ip) => {
            members.text("ip_v4", &ip.to_string());
            members.number("port_v4", port);
        }
        IpAddr::V6(ip) => {
            members.text("ip_v6", &ip.to_string());
            members.number("port_v6", port);
        }
    }
}

fn closed(members: &mut Members<'_>, error: &ConnectionError) {
    match error.by {
        Party::Local => members.text("initiator", "local"),
        Party::Peer => members.text("initiator", "remote"),
        Party::Network => {}
    }
    match (error.code, error.kind) {
        (None, _) => {}
        (Some(code), CloseKind::Closed) => {
            members.text("application_error", "unknown");
            members.number("error_code", code);
        }
        (Some(code), _) => frames::transport_error(members, "connection_error", code),
    }
    if !error.reason.is_empty() {
        members.text("reason", &error.reason);
    }
    let trigger = match error.kind {
        CloseKind::Closed => "application",
        CloseKind::IdleTimeout => "idle_timeout",
        CloseKind::StatelessReset => "stateless_reset",
        CloseKind::Version => "version_mismatch",
        CloseKind::HandshakeTimeout | CloseKind::Unreachable => "aborted",
        CloseKind::Internal
        | CloseKind::PeerIdMismatch
        | CloseKind::Refused
        | CloseKind::Transport => "error",
    };
    members.text("trigger", trigger);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn in_flight(numbers: impl IntoIterator<Item = u64>) -> InFlight {
        let at = Instant::now();
        let length = 1000;
        InFlight {
            sent: numbers
                .into_iter()
                .map(|number| (number, Sent { at, length }))
                .collect(),
            largest_acknowledged: None,
        }
    }

    #[test]
    fn only_packets_below_an_acknowledged_one_may_be_lost() {
        let mut space = in_flight(0..10);
        assert_eq!(space.lost_at_most(), 0);
        assert!(space.acknowledge(4, 5).is_some());
        assert_eq!(space.lost_at_most(), 4000);
        assert!(space.acknowledge(1, 2).is_none(), "it is not the largest");
        assert_eq!(space.lost_at_most(), 2000);
    }

    /// The time of a record, as it is written.
    fn time(record: &str) -> &str {
        let (_, rest) = record.split_once("\"time\":").expect("a time");
        rest.split(',').next().expect("a number")
    }

    #[test]
    fn the_record_about_missing_events_is_not_later_than_the_next_event() {
        let writer = Arc::new(Writer::stuck());
        let output = writer.output("unused".into(), u64::MAX).expect("a file");
        let log = ConnectionLog::new(writer, output.clone(), Role::Client, &[1]);
        // More than may wait in memory: a record has some 60 bytes.
        for _ in 0..80_000 {
            log.mtu(1452);
        }
        output.take_waiting();
        log.mtu(1200);
        let text = output.take_waiting();
        let records: Vec<&str> = text.lines().collect();
        assert_eq!(records.len(), 2, "{text}");
        assert!(records[0].contains("events are missing"), "{text}");
        assert!(records[1].contains("quic:mtu_updated"), "{text}");
        assert_eq!(time(records[0]), time(records[1]));
    }

    #[test]
    fn a_range_of_a_hostile_peer_costs_nothing() {
        let mut space = in_flight(0..3);
        assert!(space.acknowledge(0, u64::MAX).is_none());
        assert!(space.sent.is_empty());
        assert!(space.acknowledge(7, 3).is_none());
    }
}
