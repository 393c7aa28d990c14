//! The closing and draining periods of one connection (RFC 9000 section 10.2): how long its state
//! is kept after the end, and which late datagrams it handles. Why it ended is in `close_reason`.

use std::time::{Duration, Instant};

/// How long a closed connection repeats its CONNECTION_CLOSE to late packets. RFC 9000 section
/// 10.2 asks for three probe timeouts, which the peer controls: by withholding acknowledgments
/// it could make us keep the state for hours. Later packets draw a stateless reset.
const MAX_CLOSING: Duration = Duration::from_secs(10);

/// How long a handshake that the peer canceled still counts as one. Beginning a handshake costs
/// the peer little and us a signature, so the rate for each address must be bounded: with 64 at
/// once this allows 256 a second.
const CANCELED: Duration = Duration::from_millis(250);

#[derive(Debug)]
pub(super) struct Closing {
    /// A datagram came from the peer before the end.
    is_answered: bool,
    /// Datagrams that came after the end.
    late: u32,
    /// After the end: when the state is discarded, drained or not.
    until: Option<Instant>,
    is_expired: bool,
}

impl Closing {
    /// For a new connection. An accepted one is answered from the start.
    pub(super) fn new(is_answered: bool) -> Self {
        Self {
            is_answered,
            late: 0,
            until: None,
            is_expired: false,
        }
    }

    /// Whether a datagram came from the peer before the end.
    pub(super) fn is_answered(&self) -> bool {
        self.is_answered
    }

    /// The connection ended.
    pub(super) fn begin(&mut self, now: Instant) {
        self.until = Some(now + MAX_CLOSING);
    }

    /// The peer canceled the handshake from an address that a Retry has validated, so no more
    /// answers are needed. If the address may be forged, the state is kept as usual: the next
    /// handshake from it then draws a Retry, which costs less than a handshake.
    pub(super) fn cancel(&mut self, now: Instant) {
        self.until = Some(now + CANCELED);
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        self.until
    }

    /// Note whether the time to keep the state is over.
    pub(super) fn expire(&mut self, now: Instant) {
        self.is_expired = self.until.is_some_and(|at| at <= now);
    }

    /// Count an arrived datagram. True if quinn-proto is to handle it.
    ///
    /// A closed connection answers each datagram with its CONNECTION_CLOSE. A peer without state
    /// for the connection answers that in turn, for seconds. So only datagrams 1, 2, 4, 8 and so
    /// on are handled (RFC 9000 section 10.2.1).
    pub(super) fn admit_datagram(&mut self) -> bool {
        if self.until.is_none() {
            self.is_answered = true;
            return true;
        }
        self.late = self.late.saturating_add(1);
        self.late.is_power_of_two()
    }

    /// Whether the state need not be kept for three probe timeouts, which are seconds on a path
    /// without measurements: the peer never answered, or the endpoint is closing and the handshake
    /// never completed, or the time is over.
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
        assert!((0..100).all(|_| closing.admit_datagram()), "before the end");
        closing.begin(Instant::now());
        let seen: Vec<_> = (1..=40).filter(|_| closing.admit_datagram()).collect();
        assert_eq!(seen, [1, 2, 4, 8, 16, 32]);
    }

    #[test]
    fn useless_state_is_discarded_at_once_and_other_state_in_time() {
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
