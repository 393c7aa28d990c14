//! Bytes of one kind that all connections of an endpoint together may hold: counting only. Who is
//! charged what, and when it is given back, its users say.

use std::sync::Arc;

use crate::sync::atomic::{AtomicU64, Ordering};

/// What a queue may hold in any case: all go on, if in small steps. It takes more than any
/// greeting of a libp2p protocol.
pub(crate) const MIN_QUEUE_BOUND: usize = 4096;

/// Bytes that all connections of an endpoint may hold.
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

    /// Charge what cannot be refused.
    pub(crate) fn reserve(&self, bytes: u64) {
        self.charged.fetch_add(bytes, Ordering::Relaxed);
    }

    pub(crate) fn release(&self, bytes: u64) {
        self.charged.fetch_sub(bytes, Ordering::Relaxed);
    }

    pub(crate) fn charged(&self) -> u64 {
        self.charged.load(Ordering::Relaxed)
    }

    /// What a queue may hold that may hold `bound` at most and from which `moved` bytes have gone
    /// on so far. Where half of the budget is charged already, no more than has moved before: who
    /// takes nothing is owed little. Beyond the budget, no more than `MIN_QUEUE_BOUND`.
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

    /// Charge `bytes` more, if they are at most a quarter of what is left: a few who want much
    /// leave something for many who want little. Whoever does not read, has half of the
    /// budget to share with its like.
    pub(crate) fn try_reserve(&self, bytes: u64, is_read: bool) -> bool {
        let limit = if is_read { self.limit } else { self.limit / 2 };
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
