//! Limits the stateless resets of an endpoint (RFC 9000 section 10.3.3): enough for all peers of a
//! restarted node, yet bounding the cost of a flood of packets with ids of closed connections.
//!
//! quinn-proto keeps each reset smaller than the datagram that caused it. Its own limit, one reset
//! in 20 ms for the whole endpoint, was too low: of forty peers, the last got its reset after 14 s.

use std::time::{Duration, Instant};

use crate::driver::token_bucket::TokenBucket;

/// After a restart all peers may send at once.
const BURST: u32 = 1_000;

/// A thousand a second, so that the second thousand peers wait for at most a second. Each reset
/// costs some 5 µs, mostly the system call: half a percent of a CPU core.
const INTERVAL: Duration = Duration::from_millis(1);

pub(super) struct ResetLimit(TokenBucket);

/// The kind of a datagram that quinn-proto's endpoint answers with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// Not a stateless reset: it has a long header.
    Other,
    Reset,
    /// A stateless reset beyond the limit, which must not be sent.
    Suppressed,
}

impl ResetLimit {
    pub(super) fn new() -> Self {
        Self(TokenBucket::new(BURST, INTERVAL))
    }

    pub(super) fn decide(&mut self, now: Instant, datagram: &[u8]) -> Answer {
        // A stateless reset looks like a packet with a short header (RFC 9000 section 10.3).
        let is_reset = datagram.first().is_some_and(|first| first & 0x80 == 0);
        if !is_reset {
            Answer::Other
        } else if self.0.try_take(now) {
            Answer::Reset
        } else {
            Answer::Suppressed
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resets_are_limited_and_nothing_else_is() {
        let now = Instant::now();
        let mut limit = ResetLimit::new();
        let mut decide = |at, first| limit.decide(at, &[first, 1, 2, 3]);
        for _ in 0..BURST {
            assert_eq!(decide(now, 0x40), Answer::Reset);
        }
        assert_eq!(decide(now, 0x7f), Answer::Suppressed);
        assert_eq!(decide(now, 0x80), Answer::Other);
        assert_eq!(decide(now + INTERVAL, 0x40), Answer::Reset);
        assert_eq!(decide(now + INTERVAL, 0x40), Answer::Suppressed);
    }
}
