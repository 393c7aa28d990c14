//! Whether a path carries ECN marks: the states of RFC 9000 appendix A.4, for paths that drop marked
//! datagrams. The counts in ACK frames are quinn-proto's to compare (section 13.4.2.1).
//!
//! quinn-proto marks every datagram of a path until a comparison fails. Where marked datagrams are
//! dropped nothing is acknowledged and nothing is ever compared. So when an acknowledgement is overdue,
//! each datagram leaves twice: marked, and unmarked after it. The receiver takes the first that arrives
//! and discards the other as a duplicate (section 12.3). Where marks pass, the counts show it and marks
//! go on, however long the outage was; where they do not, the unmarked one is acknowledged without a
//! count, and quinn-proto stops marking. It has no way back but a new path.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use quinn_proto::FrameStats;

/// How late an acknowledgement may come (RFC 9000 section 18.2, max_ack_delay).
const ACK_DELAY: Duration = Duration::from_millis(25);

/// Copies within one round trip and acknowledgement delay: the ten packets of RFC 9000 section
/// 13.4.2. A probe timeout sends two; more is new data, which need not arrive in time.
const MAX_COPIES: u32 = 10;

/// Marked datagrams that elicit no acknowledgement and have none, after which a PING goes along (RFC
/// 9000 section 13.2.4). A peer that misses our ACKs repeats itself, so the third comes soon; one that
/// sends now and then gets one PING for three ACKs.
const MAX_SILENT: u32 = 2;

/// The states of RFC 9000 appendix A.4.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Marked, and nothing has been acknowledged on this path.
    Testing,
    /// Marked, and an acknowledgement is overdue.
    Unknown,
    /// Marked; what is sent is acknowledged.
    Capable,
    /// Not marked.
    Failed,
}

/// How a datagram leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Departure {
    /// With the mark that it has, or without one.
    AsIs,
    /// Marked, and unmarked after it.
    Twice,
    /// Without its mark.
    Unmarked,
}

/// What is known of the path as a connection takes its turn.
#[derive(Clone, Copy, Debug)]
pub(super) struct Path {
    pub(super) remote: SocketAddr,
    pub(super) rtt: Duration,
    /// How many ACK frames acknowledged a packet for the first time.
    pub(super) acknowledgements: u64,
    /// Whether packets were still in flight after the last of them.
    pub(super) is_any_in_flight: bool,
}

/// Datagrams that leave together.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sent {
    pub(super) is_marked: bool,
    pub(super) datagrams: u32,
    /// How many ack-eliciting frames were sent on the connection, with theirs.
    pub(super) ack_eliciting: u64,
    /// Whether as many bytes more may go to the peer's address.
    pub(super) may_copy: bool,
}

pub(super) struct EcnValidation {
    state: State,
    remote: SocketAddr,
    /// How long an acknowledgement may take.
    patience: Duration,
    acknowledgements: u64,
    ack_eliciting: u64,
    /// Since when an acknowledgement is awaited.
    awaited_since: Option<Instant>,
    /// Marked datagrams that elicit none, since the last acknowledgement, and when the first left.
    silent: Option<(Instant, u32)>,
    /// When the peer moved to this path; not for the first one.
    changed: Option<Instant>,
    is_acknowledged: bool,
    copies: u32,
    copies_since: Option<Instant>,
    /// The path before this one, if nothing sent to it was acknowledged.
    unanswered: Option<SocketAddr>,
}

impl EcnValidation {
    pub(super) fn new(remote: SocketAddr) -> Self {
        Self {
            state: State::Testing,
            remote,
            patience: ACK_DELAY,
            acknowledgements: 0,
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

    /// A turn begins: note acknowledgements, and that they are overdue.
    pub(super) fn update(&mut self, now: Instant, path: Path) {
        if path.remote != self.remote {
            self.change_path(now, path);
        }
        self.patience = path.rtt + ACK_DELAY;
        if path.acknowledgements != self.acknowledgements {
            self.acknowledgements = path.acknowledgements;
            self.awaited_since = path.is_any_in_flight.then_some(now);
            self.silent = None;
            // What comes earlier acknowledges what was sent on the path before.
            self.is_acknowledged |= self
                .changed
                .is_none_or(|at| now.saturating_duration_since(at) >= self.patience);
            if self.state != State::Failed {
                self.state = State::Capable;
            }
        }
        let is_overdue = self
            .awaited_since
            .is_some_and(|since| now.saturating_duration_since(since) >= self.patience);
        if is_overdue && self.state != State::Failed {
            self.state = State::Unknown;
        }
    }

    /// Each path is validated by itself. quinn-proto returns to the old path when the new one does
    /// not answer its one challenge, and begins anew when the peer goes on from there: the second
    /// challenge must not be marked as the lost one was.
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
            acknowledgements: path.acknowledgements,
            ack_eliciting: self.ack_eliciting,
            changed: Some(now),
            unanswered: self.unanswered,
            ..Self::new(path.remote)
        };
    }

    /// Whether anything that was sent on this path has been acknowledged.
    pub(super) fn is_acknowledged(&self) -> bool {
        self.is_acknowledged
    }

    /// Whether marked datagrams may be lost unseen because none of them elicits an acknowledgement.
    pub(super) fn wants_ping(&self, now: Instant) -> bool {
        let is_long = |(since, count)| {
            count >= MAX_SILENT && now.saturating_duration_since(since) >= self.patience
        };
        self.awaited_since.is_none() && self.silent.is_some_and(is_long)
    }

    /// Datagrams leave together on this path.
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
        let is_over = |since| now.saturating_duration_since(since) >= self.patience;
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

/// How many frames were sent that elicit an acknowledgement: all but ACK, PADDING and
/// CONNECTION_CLOSE (RFC 9002 section 2).
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
    const PATIENCE: Duration = Duration::from_millis(75);

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
                acknowledgements: 0,
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

        /// A marked datagram that elicits an acknowledgement.
        fn send(&mut self) -> Departure {
            self.ack_eliciting += 1;
            self.leave(true, 1)
        }

        fn acknowledge(&mut self, is_any_in_flight: bool) {
            self.path.acknowledgements += 1;
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
    fn datagrams_leave_twice_from_when_an_acknowledgement_is_overdue_until_one_comes() {
        let mut sender = Sender::new();
        assert_eq!(sender.send(), Departure::AsIs);
        sender.wait(PATIENCE - Duration::from_nanos(1));
        assert_eq!(sender.send(), Departure::AsIs);
        sender.wait(Duration::from_nanos(1));
        assert_eq!(sender.send(), Departure::Twice);
        // However long that lasts.
        sender.wait(PATIENCE * 100);
        assert_eq!(sender.send(), Departure::Twice);
        sender.acknowledge(false);
        assert_eq!(sender.send(), Departure::AsIs);
    }

    #[test]
    fn what_is_in_flight_after_an_acknowledgement_awaits_the_next() {
        for is_any_in_flight in [false, true] {
            let mut sender = Sender::new();
            sender.send();
            sender.acknowledge(is_any_in_flight);
            sender.wait(PATIENCE);
            let expected = if is_any_in_flight {
                Departure::Twice
            } else {
                Departure::AsIs
            };
            assert_eq!(sender.send(), expected);
        }
    }

    #[test]
    fn ten_copies_leave_in_a_round_trip_and_the_rest_once() {
        let mut sender = Sender::new();
        sender.send();
        sender.wait(PATIENCE);
        for _ in 0..2 {
            let departures: Vec<_> = (0..20).map(|_| sender.send()).collect();
            assert_eq!(departures[..10], [Departure::Twice; 10]);
            assert_eq!(departures[10..], [Departure::AsIs; 10]);
            sender.wait(PATIENCE);
        }
        // A batch has one mark, and counts as many.
        assert_eq!(sender.leave(true, 10), Departure::Twice);
        assert_eq!(sender.leave(true, 10), Departure::AsIs);
    }

    #[test]
    fn where_no_copy_may_go_the_mark_does_not_either() {
        let mut sender = Sender::new();
        sender.may_copy = false;
        assert_eq!(sender.send(), Departure::AsIs);
        sender.wait(PATIENCE);
        let departures: Vec<_> = (0..20).map(|_| sender.send()).collect();
        assert_eq!(departures, [Departure::Unmarked; 20]);
    }

    #[test]
    fn failed_validation_ends_with_the_path() {
        let mut sender = Sender::new();
        sender.send();
        assert_eq!(sender.leave(false, 1), Departure::AsIs);
        // quinn-proto forgets it when it tries a new path and returns.
        assert_eq!(sender.send(), Departure::Unmarked);
        sender.path.remote = remote(2);
        assert_eq!(sender.send(), Departure::AsIs);
    }

    #[test]
    fn unacknowledged_acks_ask_for_a_ping() {
        let mut sender = Sender::new();
        sender.leave(true, 1);
        sender.wait(PATIENCE);
        assert!(!sender.validation.wants_ping(sender.now), "one may be lost");
        sender.leave(true, 1);
        assert!(sender.validation.wants_ping(sender.now));
        sender.acknowledge(false);
        assert!(!sender.validation.wants_ping(sender.now));
        sender.leave(true, 2);
        assert!(!sender.validation.wants_ping(sender.now), "it is early");
        sender.wait(PATIENCE);
        assert!(sender.validation.wants_ping(sender.now));
        // The ping is that question.
        sender.send();
        assert!(!sender.validation.wants_ping(sender.now));
        sender.leave(false, 1);
        assert!(!sender.validation.wants_ping(sender.now));
    }

    #[test]
    fn a_path_that_did_not_answer_is_not_marked_when_the_peer_insists() {
        for (answers, expected) in [(false, Departure::Unmarked), (true, Departure::AsIs)] {
            let mut sender = Sender::new();
            sender.send();
            sender.acknowledge(false);
            sender.path.remote = remote(2);
            // This comes with the move, and is of what was sent before.
            sender.acknowledge(false);
            assert_eq!(sender.send(), Departure::AsIs);
            assert!(!sender.validation.is_acknowledged());
            if answers {
                sender.wait(PATIENCE);
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
