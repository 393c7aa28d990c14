//! Sends the datagrams of a connection with ECN marks, without, or both ways, as `ecn` decides, within
//! the anti-amplification limit (RFC 9000 section 8.1).

use std::time::{Duration, Instant};

use quinn_proto::{Connection, Transmit};

use crate::{
    congestion::CongestionSignals,
    driver::{
        ecn::{Departure, EcnValidation, Path, Sent, ack_eliciting},
        network::{Network, Sending, SocketKey, borrow},
    },
    statistics::EcnState,
};

/// The smallest size of the datagram that begins a handshake (RFC 9000 section 14.1), which
/// quinn-proto's statistics do not count.
const FIRST_DATAGRAM: u64 = 1200;

/// If the dialer's first datagram came unmarked, its answer is awaited this long before our flight is
/// sent again, unmarked. Either the dialer does not mark, like go-libp2p in the handshake, or the path
/// dropped its marked datagram and will drop ours, which would cost probe timeouts of two seconds. RFC
/// 9002 section 6.2.3 permits one early retransmission.
const ANSWER_WAIT: Duration = Duration::from_millis(100);

/// More than our certificate needs; further datagrams are left to quinn-proto.
const MAX_DATAGRAMS: usize = 8;

pub(super) struct Marking {
    validation: EcnValidation,
    congestion_signals: CongestionSignals,
    is_dialer: bool,
    is_connected: bool,
    is_over: bool,
    /// Bytes of copies in the handshake, which quinn-proto does not count.
    copied: u64,
    /// Boxed, as it is for the handshake alone.
    answer: Option<Box<Answer>>,
}

/// Our flight of the handshake, kept for a dialer whose first datagram came unmarked.
struct Answer {
    datagrams: Vec<Vec<u8>>,
    /// How many datagrams had come from the dialer when the last one was sent.
    received: u64,
    repeat_at: Instant,
    is_due: bool,
}

impl Marking {
    pub(super) fn new(
        conn: &Connection,
        is_dialer: bool,
        congestion_signals: CongestionSignals,
    ) -> Self {
        Self {
            validation: EcnValidation::new(conn.remote_address()),
            congestion_signals,
            is_dialer,
            is_connected: false,
            is_over: false,
            copied: 0,
            answer: None,
        }
    }

    /// The dialer's first datagram came unmarked.
    pub(super) fn dialer_is_unmarked(&mut self, now: Instant) {
        self.answer = Some(Box::new(Answer {
            datagrams: Vec::new(),
            received: 0,
            repeat_at: now + ANSWER_WAIT,
            is_due: false,
        }));
    }

    /// Whether datagrams are marked on the current path.
    pub(super) fn ecn(&self) -> EcnState {
        self.validation.state()
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        let waiting = self.answer.as_ref().filter(|answer| !answer.is_due);
        waiting.map(|answer| answer.repeat_at)
    }

    /// Note whether the repetition is due.
    pub(super) fn expire(&mut self, now: Instant) {
        if let Some(answer) = &mut self.answer {
            answer.is_due |= answer.repeat_at <= now;
        }
    }

    /// Update the validation before the connection sends, and repeat our flight if that is due.
    pub(super) fn begin_turn(
        &mut self,
        now: Instant,
        conn: &mut Connection,
        (is_connected, is_over): (bool, bool),
        socket: SocketKey,
        network: &mut dyn Network,
    ) {
        (self.is_connected, self.is_over) = (is_connected, is_over);
        let path = Path {
            remote: conn.remote_address(),
            rtt: conn.rtt(),
            acknowledgments: self.congestion_signals.acknowledgments(),
            is_any_in_flight: self.congestion_signals.is_any_in_flight(),
        };
        self.validation.update(now, path);
        if is_connected && !is_over && self.validation.wants_ping(now) {
            conn.ping();
        }
        let is_handshake = !is_connected && !is_over;
        let done = self.answer.take_if(|it| it.is_due || !is_handshake);
        if let Some(answer) = done.filter(|_| is_handshake)
            && answer.received == conn.stats().udp_rx.datagrams
        {
            for datagram in &answer.datagrams {
                self.repeat(conn, datagram, socket, network);
            }
        }
    }

    fn repeat(
        &mut self,
        conn: &Connection,
        datagram: &[u8],
        socket: SocketKey,
        network: &mut dyn Network,
    ) {
        if self.has_credit(conn, datagram.len()) {
            self.copied += datagram.len() as u64;
            let transmit = quinn_udp::Transmit {
                destination: conn.remote_address(),
                ecn: None,
                contents: datagram,
                segment_size: None,
                src_ip: conn.local_ip(),
            };
            // If the socket refuses it, loss recovery repairs that.
            let _ = network.send(socket, &transmit);
        }
    }

    /// Send a transmit of quinn-proto. Clears its mark if it must be sent unmarked, so that this holds
    /// too if the socket blocks and it is sent later.
    pub(super) fn send(
        &mut self,
        now: Instant,
        conn: &Connection,
        transmit: &mut Transmit,
        contents: &[u8],
        socket: SocketKey,
        network: &mut dyn Network,
    ) -> Sending {
        // quinn-proto keeps the anti-amplification limit, but does not count the copies.
        if self.copied > 0 && !self.is_connected && !self.has_credit(conn, 0) {
            return Sending::Sent;
        }
        let departure = self.departure(now, conn, transmit);
        if departure == Departure::Unmarked {
            transmit.ecn = None;
        }
        self.record(now, conn, transmit, contents);
        let mut borrowed = borrow(transmit, contents);
        let sending = network.send(socket, &borrowed);
        if departure == Departure::Twice && matches!(sending, Sending::Sent | Sending::SentSingly) {
            if !self.is_connected {
                self.copied += transmit.size as u64;
            }
            borrowed.ecn = None;
            // If the socket refuses the copy, the marked one may still arrive.
            let _ = network.send(socket, &borrowed);
        }
        sending
    }

    fn departure(&mut self, now: Instant, conn: &Connection, transmit: &Transmit) -> Departure {
        if transmit.destination != conn.remote_address() {
            // On another path, where quinn-proto does not mark.
            return Departure::AsIs;
        }
        if self.is_over {
            // CONNECTION_CLOSE is not acknowledged: the loss of a marked one would not be noticed.
            return Departure::Unmarked;
        }
        let size = transmit.segment_size.unwrap_or(transmit.size).max(1);
        let datagrams = u32::try_from(transmit.size.div_ceil(size));
        let sent = Sent {
            is_marked: transmit.ecn.is_some(),
            datagrams: datagrams.unwrap_or(u32::MAX),
            ack_eliciting: ack_eliciting(&conn.stats().frame_tx),
            may_copy: self.may_copy(conn, transmit.size),
        };
        self.validation.depart(now, sent)
    }

    /// Whether copies may be sent to the peer's address, as far as it is validated. After a migration
    /// the new address is validated once a packet sent to it is acknowledged.
    fn may_copy(&self, conn: &Connection, size: usize) -> bool {
        if self.is_dialer || !self.is_connected {
            self.has_credit(conn, size)
        } else {
            self.validation.is_acknowledged()
        }
    }

    /// Whether `more` bytes, which quinn-proto does not count, may be sent in the handshake: at most
    /// three times what the dialer sent, in all.
    fn has_credit(&self, conn: &Connection, more: usize) -> bool {
        if self.is_dialer {
            return true;
        }
        let stats = conn.stats();
        let sent = stats.udp_tx.bytes + self.copied + more as u64;
        sent <= (FIRST_DATAGRAM + stats.udp_rx.bytes) * 3
    }

    /// Record our flight to the dialer. Handshake packets have a long header (RFC 9000 section 17.2).
    fn record(&mut self, now: Instant, conn: &Connection, transmit: &Transmit, contents: &[u8]) {
        let Some(answer) = &mut self.answer else {
            return;
        };
        answer.received = conn.stats().udp_rx.datagrams;
        answer.repeat_at = now + ANSWER_WAIT;
        let size = transmit.segment_size.unwrap_or(transmit.size).max(1);
        for datagram in contents[..transmit.size].chunks(size) {
            if datagram[0] & 0x80 != 0 && answer.datagrams.len() < MAX_DATAGRAMS {
                answer.datagrams.push(datagram.to_vec());
            }
        }
    }
}
