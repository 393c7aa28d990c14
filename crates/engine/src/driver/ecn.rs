//! ECN validation (RFC 9000 appendix A.4) for paths that drop marked datagrams. quinn-proto compares
//! the counts in ACK frames (section 13.4.2.1).
//!
//! quinn-proto marks every datagram of a path until a comparison fails. On a path that drops marked
//! datagrams nothing is acknowledged, so nothing is ever compared. Therefore, while an acknowledgment
//! is overdue, each datagram is sent twice: marked, and then unmarked. The receiver discards the second
//! one as a duplicate (section 12.3). If the path carries marks, the counts confirm it and marking
//! continues, however long the outage was. If it does not, the unmarked datagram is acknowledged
//! without a count, and quinn-proto stops marking until the path changes.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use quinn_proto::FrameStats;

use crate::statistics::EcnState as State;

/// The default max_ack_delay (RFC 9000 section 18.2).
const ACK_DELAY: Duration = Duration::from_millis(25);

/// Copies within one round trip and acknowledgment delay: the ten packets of RFC 9000 section
/// 13.4.2. A probe timeout sends two datagrams; the others carry new data, which is less urgent.
const MAX_COPIES: u32 = 10;

/// After this many marked datagrams that are not ack-eliciting, without an acknowledgment, a PING is
/// added (RFC 9000 section 13.2.4). A peer that misses our ACKs retransmits, so the third datagram
/// follows soon; a peer that seldom sends gets one PING for three ACKs.
const MAX_SILENT: u32 = 2;

/// How to send a datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Departure {
    /// Marked or not, as quinn-proto made it.
    AsIs,
    /// Marked, and then unmarked.
    Twice,
    /// Without its mark.
    Unmarked,
}

/// The state of the path at the beginning of a connection's turn.
#[derive(Clone, Copy, Debug)]
pub(super) struct Path {
    pub(super) remote: SocketAddr,
    pub(super) rtt: Duration,
    /// How many ACK frames newly acknowledged a packet.
    pub(super) acknowledgments: u64,
    /// Whether packets were still in flight after the last such frame.
    pub(super) is_any_in_flight: bool,
}

/// Datagrams of one send.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sent {
    pub(super) is_marked: bool,
    pub(super) datagrams: u32,
    /// How many ack-eliciting frames were sent on the connection, including these datagrams'.
    pub(super) ack_eliciting: u64,
    /// Whether a copy may be sent to the peer's address.
    pub(super) may_copy: bool,
}

pub(super) struct EcnValidation {
    state: State,
    remote: SocketAddr,
    /// How long an acknowledgment may take.
    ack_timeout: Duration,
    acknowledgments: u64,
    ack_eliciting: u64,
    /// When the wait for the next acknowledgment began.
    awaited_since: Option<Instant>,
    /// Marked datagrams since the last acknowledgment that are not ack-eliciting: when the first was
    /// sent, and how many.
    silent: Option<(Instant, u32)>,
    /// When the peer migrated to this path; `None` for the first path.
    changed: Option<Instant>,
    is_acknowledged: bool,
    copies: u32,
    copies_since: Option<Instant>,
    /// The previous path, if nothing sent on it was acknowledged.
    unanswered: Option<SocketAddr>,
}

impl EcnValidation {
    pub(super) fn new(remote: SocketAddr) -> Self {
        Self {
            state: State::Testing,
            remote,
            ack_timeout: ACK_DELAY,
            acknowledgments: 0,
            ack_eliciting: 0,
            awaited_since: None,
            silent: None,
            changed: None,
            is_acknowledged: false,
            copies: 0,
            copies_since: None,
            unanswered: None,
        }
    }

    /// At the beginning of a turn, note acknowledgments and whether one is overdue.
    pub(super) fn update(&mut self, now: Instant, path: Path) {
        if path.remote != self.remote {
            self.change_path(now, path);
        }
        self.ack_timeout = path.rtt + ACK_DELAY;
        if path.acknowledgments != self.acknowledgments {
            self.acknowledgments = path.acknowledgments;
            self.awaited_since = path.is_any_in_flight.then_some(now);
            self.silent = None;
            // An earlier acknowledgment may be for packets sent on the previous path.
            self.is_acknowledged |= self
                .changed
                .is_none_or(|at| now.saturating_duration_since(at) >= self.ack_timeout);
            if self.state != State::Failed {
                self.state = State::Capable;
            }
        }
        let is_overdue = self
            .awaited_since
            .is_some_and(|since| now.saturating_duration_since(since) >= self.ack_timeout);
        if is_overdue && self.state != State::Failed {
            self.state = State::Unknown;
        }
    }

    /// Each path is validated by itself. quinn-proto returns to the old path if its one PATH_CHALLENGE
    /// on the new path is not answered, and starts again if the peer keeps using the new path: the
    /// second challenge must not be marked, as the first was and got lost.
    fn change_path(&mut self, now: Instant, path: Path) {
        let is_known = self.unanswered == Some(path.remote);
        if !is_known {
            self.unanswered = (!self.is_acknowledged).then_some(self.remote);
        }
        *self = Self {
            state: if is_known {
                State::Failed
            } else {
                State::Testing
            },
            acknowledgments: path.acknowledgments,
            ack_eliciting: self.ack_eliciting,
            changed: Some(now),
            unanswered: self.unanswered,
            ..Self::new(path.remote)
        };
    }

    pub(super) fn state(&self) -> State {
        self.state
    }

    /// Whether a packet sent on this path has been acknowledged.
    pub(super) fn is_acknowledged(&self) -> bool {
        self.is_acknowledged
    }

    /// Whether the loss of marked datagrams could go unnoticed because none is ack-eliciting.
    pub(super) fn wants_ping(&self, now: Instant) -> bool {
        let is_long = |(since, count)| {
            count >= MAX_SILENT && now.saturating_duration_since(since) >= self.ack_timeout
        };
        self.awaited_since.is_none() && self.silent.is_some_and(is_long)
    }

    /// Decide how to send datagrams on this path, and note that they are sent.
    pub(super) fn depart(&mut self, now: Instant, sent: Sent) -> Departure {
        let is_ack_eliciting = self.ack_eliciting != sent.ack_eliciting;
        self.ack_eliciting = sent.ack_eliciting;
        if !sent.is_marked {
            // quinn-proto's validation has failed.
            self.state = State::Failed;
            self.awaited_since = None;
            self.silent = None;
            return Departure::AsIs;
        }
        if self.state == State::Failed {
            return Departure::Unmarked;
        }
        if is_ack_eliciting {
            self.awaited_since.get_or_insert(now);
        } else {
            self.silent.get_or_insert((now, 0)).1 += sent.datagrams;
        }
        if self.state != State::Unknown {
            return Departure::AsIs;
        }
        if !sent.may_copy {
            return Departure::Unmarked;
        }
        let is_over = |since| now.saturating_duration_since(since) >= self.ack_timeout;
        if self.copies_since.is_none_or(is_over) {
            self.copies_since = Some(now);
            self.copies = 0;
        }
        if self.copies >= MAX_COPIES {
            return Departure::AsIs;
        }
        self.copies += sent.datagrams;
        Departure::Twice
    }
}

/// The number of ack-eliciting frames sent: all but ACK, PADDING and CONNECTION_CLOSE (RFC 9002
/// section 2).
pub(super) fn ack_eliciting(sent: &FrameStats) -> u64 {
    u64::from(sent.handshake_done)
        + sent.crypto
        + sent.data_blocked
        + sent.max_data
        + sent.max_stream_data
        + sent.max_streams_bidi
        + sent.max_streams_uni
        + sent.new_connection_id
        + sent.new_token
        + sent.path_challenge
        + sent.path_response
        + sent.ping
        + sent.reset_stream
        + sent.retire_connection_id
        + sent.stop_sending
        + sent.stream
        + sent.stream_data_blocked
        + sent.streams_blocked_bidi
        + sent.streams_blocked_uni
}

#[cfg(test)]
mod tests {
    use super::*;

    const RTT: Duration = Duration::from_millis(50);
    const ACK_TIMEOUT: Duration = Duration::from_millis(75);

    /// A path, the clock, and what the connection counts.
    struct Sender {
        validation: EcnValidation,
        now: Instant,
        path: Path,
        ack_eliciting: u64,
        may_copy: bool,
    }

    impl Sender {
        fn new() -> Self {
            let path = Path {
                remote: remote(1),
                rtt: RTT,
                acknowledgments: 0,
                is_any_in_flight: false,
            };
            Self {
                validation: EcnValidation::new(path.remote),
                now: Instant::now(),
                path,
                ack_eliciting: 0,
                may_copy: true,
            }
        }

        fn leave(&mut self, is_marked: bool, datagrams: u32) -> Departure {
            self.validation.update(self.now, self.path);
            let sent = Sent {
                is_marked,
                datagrams,
                ack_eliciting: self.ack_eliciting,
                may_copy: self.may_copy,
            };
            self.validation.depart(self.now, sent)
        }

        /// A marked datagram that elicits an acknowledgment.
        fn send(&mut self) -> Departure {
            self.ack_eliciting += 1;
            self.leave(true, 1)
        }

        fn acknowledge(&mut self, is_any_in_flight: bool) {
            self.path.acknowledgments += 1;
            self.path.is_any_in_flight = is_any_in_flight;
            self.validation.update(self.now, self.path);
        }

        fn wait(&mut self, time: Duration) {
            self.now += time;
        }
    }

    fn remote(port: u16) -> SocketAddr {
        ([192, 0, 2, 1], port).into()
    }

    #[test]
    fn datagrams_are_sent_twice_while_an_acknowledgment_is_overdue() {
        let mut sender = Sender::new();
        assert_eq!(sender.send(), Departure::AsIs);
        sender.wait(ACK_TIMEOUT - Duration::from_nanos(1));
        assert_eq!(sender.send(), Departure::AsIs);
        sender.wait(Duration::from_nanos(1));
        assert_eq!(sender.send(), Departure::Twice);
        // For any length of time.
        sender.wait(ACK_TIMEOUT * 100);
        assert_eq!(sender.send(), Departure::Twice);
        sender.acknowledge(false);
        assert_eq!(sender.send(), Departure::AsIs);
    }

    #[test]
    fn packets_in_flight_after_an_acknowledgment_await_the_next() {
        for is_any_in_flight in [false, true] {
            let mut sender = Sender::new();
            sender.send();
            sender.acknowledge(is_any_in_flight);
            sender.wait(ACK_TIMEOUT);
            let expected = if is_any_in_flight {
                Departure::Twice
            } else {
                Departure::AsIs
            };
            assert_eq!(sender.send(), expected);
        }
    }

    #[test]
    fn ten_copies_are_sent_in_a_round_trip_and_the_rest_once() {
        let mut sender = Sender::new();
        sender.send();
        sender.wait(ACK_TIMEOUT);
        for _ in 0..2 {
            let departures: Vec<_> = (0..20).map(|_| sender.send()).collect();
            assert_eq!(departures[..10], [Departure::Twice; 10]);
            assert_eq!(departures[10..], [Departure::AsIs; 10]);
            sender.wait(ACK_TIMEOUT);
        }
        // A batch shares one mark; each of its datagrams counts.
        assert_eq!(sender.leave(true, 10), Departure::Twice);
        assert_eq!(sender.leave(true, 10), Departure::AsIs);
    }

    #[test]
    fn without_permission_for_a_copy_the_datagram_is_unmarked() {
        let mut sender = Sender::new();
        sender.may_copy = false;
        assert_eq!(sender.send(), Departure::AsIs);
        sender.wait(ACK_TIMEOUT);
        let departures: Vec<_> = (0..20).map(|_| sender.send()).collect();
        assert_eq!(departures, [Departure::Unmarked; 20]);
    }

    #[test]
    fn failed_validation_ends_with_the_path() {
        let mut sender = Sender::new();
        sender.send();
        assert_eq!(sender.leave(false, 1), Departure::AsIs);
        // quinn-proto loses this state when it tries a new path and returns.
        assert_eq!(sender.send(), Departure::Unmarked);
        sender.path.remote = remote(2);
        assert_eq!(sender.send(), Departure::AsIs);
    }

    #[test]
    fn unacknowledged_acks_ask_for_a_ping() {
        let mut sender = Sender::new();
        sender.leave(true, 1);
        sender.wait(ACK_TIMEOUT);
        assert!(!sender.validation.wants_ping(sender.now), "one may be lost");
        sender.leave(true, 1);
        assert!(sender.validation.wants_ping(sender.now));
        sender.acknowledge(false);
        assert!(!sender.validation.wants_ping(sender.now));
        sender.leave(true, 2);
        assert!(!sender.validation.wants_ping(sender.now), "it is early");
        sender.wait(ACK_TIMEOUT);
        assert!(sender.validation.wants_ping(sender.now));
        // The PING is ack-eliciting.
        sender.send();
        assert!(!sender.validation.wants_ping(sender.now));
        sender.leave(false, 1);
        assert!(!sender.validation.wants_ping(sender.now));
    }

    #[test]
    fn a_path_that_did_not_answer_is_not_marked_when_the_peer_uses_it_again() {
        for (answers, expected) in [(false, Departure::Unmarked), (true, Departure::AsIs)] {
            let mut sender = Sender::new();
            sender.send();
            sender.acknowledge(false);
            sender.path.remote = remote(2);
            // It arrives with the migration, for a packet sent before.
            sender.acknowledge(false);
            assert_eq!(sender.send(), Departure::AsIs);
            assert!(!sender.validation.is_acknowledged());
            if answers {
                sender.wait(ACK_TIMEOUT);
                sender.acknowledge(false);
                assert!(sender.validation.is_acknowledged());
            }
            sender.path.remote = remote(1);
            assert_eq!(sender.send(), Departure::AsIs);
            sender.path.remote = remote(2);
            assert_eq!(sender.send(), expected);
        }
    }
}
