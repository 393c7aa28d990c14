//! How fast a peer gets new connection ids: one for each that it retires (RFC 9000 section 5.1.1),
//! as fast as any peer needs them, and no faster. quinn-proto would give 13 000 a second.
//!
//! Which ids they are is `connection_ids`'s.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use quinn_proto::ConnectionEvent;

use crate::driver::token_bucket::TokenBucket;

/// The ids that follow the handshake, all in one event, and one for each of those that a peer may
/// hold, should it retire them all at once.
const BURST: u32 = 9;

/// A peer takes a new id when it changes its address, or, as go-libp2p does, after some ten thousand
/// packets, and stays with the old one while there is no other.
const INTERVAL: Duration = Duration::from_millis(100);

pub(super) struct IdSupply {
    bucket: TokenBucket,
    /// Never more than a peer may hold, and one: each is for one that the peer had, and quinn-proto
    /// refuses the retirement of any that was not sent but the next (RFC 9000 section 19.16).
    waiting: VecDeque<ConnectionEvent>,
}

impl IdSupply {
    pub(super) fn new() -> Self {
        Self {
            bucket: TokenBucket::new(BURST, INTERVAL),
            waiting: VecDeque::new(),
        }
    }

    /// The endpoint has new ids for the peer.
    pub(super) fn push(&mut self, ids: ConnectionEvent) {
        self.waiting.push_back(ids);
    }

    /// Those that the peer gets now; ask again until there are none.
    pub(super) fn pop(&mut self, now: Instant) -> Option<ConnectionEvent> {
        if self.waiting.is_empty() || !self.bucket.try_take(now) {
            return None;
        }
        self.waiting.pop_front()
    }

    /// When to ask again.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.waiting.front().and_then(|_| self.bucket.next())
    }

    /// The connection is over and the peer needs none.
    pub(super) fn clear(&mut self) {
        self.waiting.clear();
    }
}
