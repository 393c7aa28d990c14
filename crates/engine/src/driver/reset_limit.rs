//! How many stateless resets an endpoint sends in a second (RFC 9000 section 10.3.3): enough for all
//! peers of a node that restarted, and no more than a flood of packets with ids of connections that
//! are over may cost.
//!
//! That each is smaller than the datagram that asked for it is quinn-proto's, which would send one in
//! 20 ms for the whole endpoint: of forty peers, the last knew after 14 s.

use std::time::{Duration, Instant};

use crate::driver::token_bucket::TokenBucket;

/// After a restart peers send at once, each what it has to send.
const BURST: u32 = 1_000;

/// A thousand a second, so that a second thousand has waited for one. Each costs some 5 µs, most of
/// it the system call: half of a percent of a core.
const INTERVAL: Duration = Duration::from_millis(1);

pub(super) struct ResetLimit(TokenBucket);

/// What becomes of a datagram that quinn-proto's endpoint itself answers with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// No stateless reset: it has a long header.
    Other,
    Reset,
    /// A stateless reset that must not be sent.
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
        let mut judge = |at, first| limit.decide(at, &[first, 1, 2, 3]);
        for _ in 0..BURST {
            assert_eq!(judge(now, 0x40), Answer::Reset);
        }
        assert_eq!(judge(now, 0x7f), Answer::Suppressed);
        assert_eq!(judge(now, 0x80), Answer::Other);
        assert_eq!(judge(now + INTERVAL, 0x40), Answer::Reset);
        assert_eq!(judge(now + INTERVAL, 0x40), Answer::Suppressed);
    }
}
