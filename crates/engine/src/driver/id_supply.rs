//! Limits how fast a peer gets new connection ids for those that it retires (RFC 9000 section
//! 5.1.1): as fast as a peer may need them. quinn-proto would issue 13 000 a second.
//!
//! `connection_ids` generates the ids.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use quinn_proto::ConnectionEvent;

use crate::driver::token_bucket::TokenBucket;

/// One event with all ids that follow the handshake, and one event for each id that a peer may
/// hold, in case it retires them all at once.
const BURST: u32 = 9;

/// A peer uses a new id when it migrates or, like go-libp2p, after some ten thousand packets. It
/// continues with the old id while it has no other.
const INTERVAL: Duration = Duration::from_millis(100);

pub(super) struct IdSupply {
    bucket: TokenBucket,
    /// At most one more than a peer may hold: each replaces an id that the peer had, and
    /// quinn-proto rejects the retirement of ids that were not sent, except the next (RFC 9000
    /// section 19.16).
    waiting: VecDeque<ConnectionEvent>,
}

impl IdSupply {
    pub(super) fn new() -> Self {
        Self {
            bucket: TokenBucket::new(BURST, INTERVAL),
            waiting: VecDeque::new(),
        }
    }

    /// Queue new ids for the peer.
    pub(super) fn push(&mut self, ids: ConnectionEvent) {
        self.waiting.push_back(ids);
    }

    /// Ids that the peer gets now; call again until there are none.
    pub(super) fn pop(&mut self, now: Instant) -> Option<ConnectionEvent> {
        if self.waiting.is_empty() || !self.bucket.try_take(now) {
            return None;
        }
        let ids = self.waiting.pop_front();
        if self.waiting.is_empty() {
            // Few peers ever need more, and a queue of four events takes 0.8 KiB.
            self.waiting = VecDeque::new();
        }
        ids
    }

    /// When `pop` next returns ids.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.waiting.front().and_then(|_| self.bucket.next())
    }

    /// The connection is over: drop the queued ids.
    pub(super) fn clear(&mut self) {
        self.waiting.clear();
    }
}
