//! Bytes of one kind that all connections of an endpoint together may hold: counting only. Who is
//! charged what, and when it is given back, its users say.

use std::sync::Arc;

use crate::sync::atomic::{AtomicU64, Ordering};

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
    pub(crate) fn add(&self, bytes: u64) {
        self.charged.fetch_add(bytes, Ordering::Relaxed);
    }

    pub(crate) fn give_back(&self, bytes: u64) {
        self.charged.fetch_sub(bytes, Ordering::Relaxed);
    }

    pub(crate) fn charged(&self) -> u64 {
        self.charged.load(Ordering::Relaxed)
    }

    /// Charge `bytes` more, if they are at most a quarter of what is left: a few who want much
    /// leave something for many who want little. Whoever does not read, has half of the
    /// budget to share with its like.
    pub(crate) fn take(&self, bytes: u64, is_read: bool) -> bool {
        let limit = if is_read { self.limit } else { self.limit / 2 };
        let charge = |charged: u64| {
            let left = limit.saturating_sub(charged);
            (bytes <= left / 4).then_some(charged + bytes)
        };
        let (set, get) = (Ordering::Relaxed, Ordering::Relaxed);
        self.charged.fetch_update(set, get, charge).is_ok()
    }
}
