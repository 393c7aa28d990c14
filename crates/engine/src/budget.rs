//! The bytes of one direction that all connections of an endpoint together may hold. This file
//! only counts; its users decide what is charged and when it is released.

use std::sync::Arc;

use crate::sync::atomic::{AtomicU64, Ordering};

/// Bytes that a queue may hold in any case, so that every stream makes progress. It is more than
/// the opening message of any libp2p protocol.
pub(crate) const MIN_QUEUE_BOUND: usize = 4096;

/// How much of a budget a reservation may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Share {
    Whole,
    Half,
}

/// A counter of charged bytes with a limit.
pub(crate) struct Budget {
    limit: u64,
    charged: AtomicU64,
}

impl Budget {
    pub(crate) fn new(limit: u64) -> Arc<Self> {
        Arc::new(Self {
            limit,
            charged: AtomicU64::new(0),
        })
    }

    /// Charge bytes that cannot be refused, even beyond the limit.
    pub(crate) fn reserve(&self, bytes: u64) {
        self.charged.fetch_add(bytes, Ordering::Relaxed);
    }

    pub(crate) fn release(&self, bytes: u64) {
        self.charged.fetch_sub(bytes, Ordering::Relaxed);
    }

    pub(crate) fn charged(&self) -> u64 {
        self.charged.load(Ordering::Relaxed)
    }

    /// Bytes that a queue may hold now. `bound` is its configured limit, and `moved` the bytes that
    /// have left it so far. When half of the budget is charged, the queue may hold no more than
    /// has left it, since a peer that takes nothing needs little. When all of it is charged, no
    /// more than `MIN_QUEUE_BOUND`.
    pub(crate) fn bound(&self, bound: usize, moved: usize) -> usize {
        let charged = self.charged();
        if charged < self.limit / 2 {
            bound
        } else if charged < self.limit {
            bound.min(moved.max(MIN_QUEUE_BOUND))
        } else {
            bound.min(MIN_QUEUE_BOUND)
        }
    }

    /// Charge `bytes` if they are at most a quarter of the rest of the share, so that a few large connections
    /// leave room for many small ones.
    pub(crate) fn try_reserve(&self, bytes: u64, share: Share) -> bool {
        let limit = match share {
            Share::Whole => self.limit,
            Share::Half => self.limit / 2,
        };
        let charge = |charged: u64| {
            let left = limit.saturating_sub(charged);
            (bytes <= left / 4).then_some(charged + bytes)
        };
        let (set, get) = (Ordering::Relaxed, Ordering::Relaxed);
        self.charged.fetch_update(set, get, charge).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_queue_may_hold_less_as_the_budget_is_used_up_and_never_nothing() {
        let budget = Budget::new(1000);
        assert_eq!(budget.bound(262_144, 0), 262_144);
        budget.reserve(500);
        assert_eq!(budget.bound(262_144, 0), MIN_QUEUE_BOUND);
        assert_eq!(budget.bound(262_144, 10_000), 10_000);
        assert_eq!(budget.bound(262_144, 1 << 40), 262_144);
        budget.reserve(500);
        assert_eq!(budget.bound(262_144, 1 << 40), MIN_QUEUE_BOUND);
        assert_eq!(budget.bound(100, 1 << 40), 100);
        budget.release(501);
        assert_eq!(budget.bound(262_144, 0), 262_144);
    }
}
