//! Repeats the client's final flight of the handshake until the listener confirms it with
//! HANDSHAKE_DONE.
//!
//! quinn-proto probes one packet number space at a time and doubles its timeout after each probe. A
//! listener that lacks the flight cannot read 1-RTT probes, and one that has it discards Handshake
//! packets: every other probe is useless, and an outage of two seconds cost ten. RFC 9002 section
//! 6.2.4 asks for probes in both spaces. So the same datagrams are sent again, as a network may
//! duplicate any datagram, together with a PING. A datagram with an ECN mark is sent a second time
//! without it, for the reason given in `ecn`.

use std::time::{Duration, Instant};

use quinn_proto::{Connection, Transmit};
use quinn_udp::EcnCodepoint;

use crate::driver::network::{Network, SocketKey, ecn};

/// The default max_ack_delay (RFC 9000 section 18.2).
pub(super) const ACK_DELAY: Duration = Duration::from_millis(25);

/// More than a dialer's certificate needs; further datagrams are left to quinn-proto.
const MAX_DATAGRAMS: usize = 8;

pub(super) struct FinalFlight {
    /// Each datagram with its ECN mark.
    datagrams: Vec<(Option<EcnCodepoint>, Vec<u8>)>,
    /// The flight is not sent completely yet.
    is_recording: bool,
    repeat_at: Instant,
    wait: Duration,
    is_due: bool,
}

impl FinalFlight {
    /// The handshake completed on our side, with this round-trip time.
    pub(super) fn new(now: Instant, rtt: Duration) -> Self {
        // The first probe timeout of RFC 9002 section 6.2.1: the variation is half of the first sample.
        let wait = rtt * 3 + ACK_DELAY;
        Self {
            datagrams: Vec::new(),
            is_recording: true,
            repeat_at: now + wait,
            wait,
            is_due: false,
        }
    }

    /// Record a sent datagram, or several of one size, if they belong to the handshake: these
    /// have a long header (RFC 9000 section 17.2).
    pub(super) fn sent(&mut self, contents: &[u8], transmit: &Transmit) {
        if !self.is_recording {
            return;
        }
        let size = transmit.segment_size.unwrap_or(contents.len()).max(1);
        for datagram in contents.chunks(size) {
            if datagram[0] & 0x80 != 0 && self.datagrams.len() < MAX_DATAGRAMS {
                self.datagrams.push((ecn(transmit), datagram.to_vec()));
            }
        }
    }

    /// The whole flight has been sent.
    pub(super) fn stop_recording(&mut self) {
        self.is_recording = false;
    }

    pub(super) fn deadline(&self) -> Instant {
        self.repeat_at
    }

    /// Note whether a repetition is due.
    pub(super) fn expire(&mut self, now: Instant) {
        if self.repeat_at <= now {
            self.wait *= 2;
            self.repeat_at = now + self.wait;
            self.is_due = true;
        }
    }

    /// Whether the listener has confirmed the handshake.
    pub(super) fn is_confirmed(conn: &Connection) -> bool {
        conn.stats().frame_rx.handshake_done > 0
    }

    /// Send the flight again if a repetition is due.
    pub(super) fn repeat_if_due(
        &mut self,
        conn: &mut Connection,
        socket: SocketKey,
        network: &mut dyn Network,
    ) {
        if !std::mem::take(&mut self.is_due) {
            return;
        }
        for (ecn, datagram) in &self.datagrams {
            let mut transmit = quinn_udp::Transmit {
                destination: conn.remote_address(),
                ecn: *ecn,
                contents: datagram,
                segment_size: None,
                src_ip: None,
            };
            // A datagram that the socket refuses counts as lost; the next repetition covers it.
            let _ = network.send(socket, &transmit);
            if transmit.ecn.take().is_some() {
                let _ = network.send(socket, &transmit);
            }
        }
        conn.ping();
    }
}
