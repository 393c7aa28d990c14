//! What a dialer said last in its handshake, until the listener confirms that it came.
//!
//! quinn-proto probes one packet number space at a time and waits twice as long after each. A listener
//! that has not had the flight cannot read the probes behind it, and one that has had it reads no
//! handshake packet any more: every other probe is in vain, and an outage of two seconds cost ten.
//! RFC 9002 section 6.2.4 wants both spaces probed. So the flight is sent again as it was, which is
//! what a network may do to any datagram, and a ping goes with it. What was marked leaves twice, for
//! the reason that `ecn` tells.

use std::time::{Duration, Instant};

use quinn_proto::{Connection, Transmit};
use quinn_udp::EcnCodepoint;

use crate::driver::network::{Network, SocketKey, ecn};

/// How late an acknowledgement may come (RFC 9000 section 18.2, max_ack_delay).
pub(super) const ACK_DELAY: Duration = Duration::from_millis(25);

/// More than any dialer's certificate needs; what is beyond is left to quinn-proto.
const MAX_DATAGRAMS: usize = 8;

pub(super) struct FinalFlight {
    /// Each with its ECN mark.
    datagrams: Vec<(Option<EcnCodepoint>, Vec<u8>)>,
    /// It is not all out yet.
    is_leaving: bool,
    repeat_at: Instant,
    wait: Duration,
    is_due: bool,
}

impl FinalFlight {
    /// Its handshake is done as far as we know, with this round-trip time.
    pub(super) fn new(now: Instant, rtt: Duration) -> Self {
        // The first probe timeout of RFC 9002 section 6.2.1: the variation is half of the first sample.
        let wait = rtt * 3 + ACK_DELAY;
        Self {
            datagrams: Vec::new(),
            is_leaving: true,
            repeat_at: now + wait,
            wait,
            is_due: false,
        }
    }

    /// One datagram leaves, or several of one size. Those of the handshake have a long
    /// header (RFC 9000 section 17.2).
    pub(super) fn sent(&mut self, contents: &[u8], transmit: &Transmit) {
        if !self.is_leaving {
            return;
        }
        let size = transmit.segment_size.unwrap_or(contents.len()).max(1);
        for datagram in contents.chunks(size) {
            if datagram[0] & 0x80 != 0 && self.datagrams.len() < MAX_DATAGRAMS {
                self.datagrams.push((ecn(transmit), datagram.to_vec()));
            }
        }
    }

    /// All of it is out.
    pub(super) fn left(&mut self) {
        self.is_leaving = false;
    }

    pub(super) fn deadline(&self) -> Instant {
        self.repeat_at
    }

    /// Time has passed.
    pub(super) fn expire(&mut self, now: Instant) {
        if self.repeat_at <= now {
            self.wait *= 2;
            self.repeat_at = now + self.wait;
            self.is_due = true;
        }
    }

    /// Whether the listener has confirmed it; where not, and where it is time, it is sent again.
    pub(super) fn is_done(
        &mut self,
        conn: &mut Connection,
        socket: SocketKey,
        network: &mut dyn Network,
    ) -> bool {
        if conn.stats().frame_rx.handshake_done > 0 {
            return true;
        }
        if std::mem::take(&mut self.is_due) {
            for (ecn, datagram) in &self.datagrams {
                let mut transmit = quinn_udp::Transmit {
                    destination: conn.remote_address(),
                    ecn: *ecn,
                    contents: datagram,
                    segment_size: None,
                    src_ip: None,
                };
                // One that the socket does not take now is lost, like any other.
                let _ = network.send(socket, &transmit);
                if transmit.ecn.take().is_some() {
                    let _ = network.send(socket, &transmit);
                }
            }
            conn.ping();
        }
        false
    }
}
