//! The closing and draining periods of one connection (RFC 9000 section 10.2): how long it is
//! kept once it is over, and which late datagrams it sees. Why it ended is the connection's.

use std::time::{Duration, Instant};

/// How long a connection that is over repeats its close to late packets. RFC 9000 section
/// 10.2 says three probe timeouts, and these are the peer's to choose: one that withholds
/// acknowledgements would have us keep what is over for hours. Later packets are answered by
/// a stateless reset.
const MAX_CLOSING: Duration = Duration::from_secs(10);

/// How long a handshake that its peer gave up counts as one. A beginning costs the peer little and
/// us a signature, so that there must be a bound to how many an address has: with the 64 that it may
/// have at once these are 256 a second.
const CANCELED: Duration = Duration::from_millis(250);

#[derive(Debug)]
pub(super) struct Closing {
    /// Anything has come from the peer before it was over.
    is_answered: bool,
    /// Datagrams that came since it is over.
    late: u32,
    /// Once it is over: how long it is kept, drained or not.
    until: Option<Instant>,
    is_expired: bool,
}

impl Closing {
    /// Of a connection that lives. One that we accepted is answered from the start.
    pub(super) fn new(is_answered: bool) -> Self {
        Self {
            is_answered,
            late: 0,
            until: None,
            is_expired: false,
        }
    }

    /// Whether anything has come from the peer while the connection lived.
    pub(super) fn is_answered(&self) -> bool {
        self.is_answered
    }

    /// The connection is over.
    pub(super) fn begin(&mut self, now: Instant) {
        self.until = Some(now + MAX_CLOSING);
    }

    /// It is over because the peer gave the handshake up, from an address that a Retry has proven.
    /// Nothing is to be said to it any more. One whose address may be forged is kept as any other:
    /// the next of that address then has to prove it, which costs us less than a handshake.
    pub(super) fn cancel(&mut self, now: Instant) {
        self.until = Some(now + CANCELED);
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        self.until
    }

    /// Time has passed.
    pub(super) fn expire(&mut self, now: Instant) {
        self.is_expired = self.until.is_some_and(|at| at <= now);
    }

    /// Whether QUIC is to see a datagram that came just now.
    ///
    /// A connection that is over answers each with its close, and where the peer has forgotten
    /// it, or never began it, the peer answers that in turn, for seconds. So it sees the first,
    /// the second, the fourth, the eighth, and so on (RFC 9000 section 10.2.1).
    pub(super) fn admit_datagram(&mut self) -> bool {
        if self.until.is_none() {
            self.is_answered = true;
            return true;
        }
        self.late = self.late.saturating_add(1);
        self.late.is_power_of_two()
    }

    /// Over, and not worth keeping for three probe timeouts, which are seconds on a path that was
    /// hardly measured: nobody ever answered, or the endpoint is closing and there never was a
    /// connection, or it was kept long enough.
    pub(super) fn can_discard(&self, is_endpoint_closing: bool, was_connected: bool) -> bool {
        let is_pointless = !self.is_answered || (is_endpoint_closing && !was_connected);
        self.is_expired || (self.until.is_some() && is_pointless)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn late_datagrams_are_answered_ever_more_rarely() {
        let mut closing = Closing::new(true);
        assert!((0..100).all(|_| closing.admit_datagram()), "while it lives");
        closing.begin(Instant::now());
        let seen: Vec<_> = (1..=40).filter(|_| closing.admit_datagram()).collect();
        assert_eq!(seen, [1, 2, 4, 8, 16, 32]);
    }

    #[test]
    fn what_is_worth_nothing_is_discarded_at_once_and_all_else_in_time() {
        let now = Instant::now();
        let is_kept = |closing: &Closing| !closing.can_discard(false, false);
        let mut dial = Closing::new(false);
        assert!(is_kept(&dial));
        dial.begin(now);
        assert!(!is_kept(&dial), "nobody answered");
        // Not even when an answer comes in the same pass.
        dial.admit_datagram();
        assert!(!is_kept(&dial));
        let mut accepted = Closing::new(true);
        accepted.begin(now);
        assert!(is_kept(&accepted) && accepted.can_discard(true, false));
        accepted.expire(now + MAX_CLOSING - Duration::from_millis(1));
        assert!(is_kept(&accepted));
        accepted.expire(now + MAX_CLOSING);
        assert!(!is_kept(&accepted));
        let mut canceled = Closing::new(true);
        canceled.begin(now);
        canceled.cancel(now);
        assert!(is_kept(&canceled));
        assert_eq!(canceled.deadline(), Some(now + CANCELED));
        canceled.expire(now + CANCELED);
        assert!(!is_kept(&canceled));
    }
}
