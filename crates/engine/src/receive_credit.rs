//! The received bytes that a connection may hold for its readers: its window and the allowance
//! of its queues, charged to the endpoint's budget.
//!
//! A connection holds bytes in QUIC, up to the flow control window that the peer was granted, and
//! in the queues of its streams, up to an allowance. Both are charged before they are used, since
//! credit cannot be withdrawn (RFC 9000 section 4.1), and released when the last handle, and with
//! it the last byte, is dropped. They start small and double on demand while the budget allows.

use std::sync::Arc;

use crate::{
    budget::{Budget, Share},
    sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
};

/// Initial window of every connection, in bytes, unless the configured one is smaller. It stays
/// ahead of a sender's slow start, which begins with some 14 KiB (RFC 9002 section 7.2).
pub(crate) const FIRST_WINDOW: u64 = 32 * 1024;

/// Bytes that a queued chunk costs beside its contents: a peer may send single bytes.
pub(crate) const CHUNK_COST: usize = 64;

/// Why a connection's receive window should grow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum GrowthReason {
    /// The readers read as fast as the window lets the peer send.
    ReaderKeepsUp,
    /// A stuck reader holds credit that the other streams need.
    PeerBlocked,
}

/// The account of one connection. The I/O thread adds to it, readers release.
pub(crate) struct ReceiveCredit {
    /// Bytes in the queues of its streams, including `CHUNK_COST` per chunk.
    held: AtomicUsize,
    /// Streams wait until bytes of any stream are read.
    is_waiting_for_credit: AtomicBool,
    /// Bytes that its queues may hold. The window is as large, up to `widest`.
    allowance: AtomicU64,
    widest: u64,
    budget: Arc<Budget>,
}

impl ReceiveCredit {
    /// Every connection gets its initial window: the number of connections is limited elsewhere.
    pub(crate) fn new(budget: Arc<Budget>, widest: u64) -> Arc<Self> {
        let allowance = FIRST_WINDOW.min(widest);
        budget.reserve(2 * allowance);
        Arc::new(Self {
            held: AtomicUsize::new(0),
            is_waiting_for_credit: AtomicBool::new(false),
            allowance: AtomicU64::new(allowance),
            widest,
            budget,
        })
    }

    fn allowance(&self) -> u64 {
        self.allowance.load(Ordering::Relaxed)
    }

    /// Bytes that the peer may send beyond those already in queues.
    pub(crate) fn window(&self) -> u64 {
        self.allowance().min(self.widest)
    }

    pub(crate) fn is_widest(&self) -> bool {
        self.allowance() >= self.widest
    }

    pub(crate) fn held(&self) -> usize {
        self.held.load(Ordering::SeqCst)
    }

    fn charge(&self, allowance: u64) -> u64 {
        allowance + allowance.min(self.widest)
    }

    /// Double the allowance, and with it the window, if the budget allows.
    pub(crate) fn grow(&self, reason: GrowthReason) -> bool {
        let allowance = self.allowance();
        let wider = allowance.saturating_mul(2);
        let more = self.charge(wider) - self.charge(allowance);
        // Growth caused by blocked readers leaves half of the budget to the others.
        let share = match reason {
            GrowthReason::ReaderKeepsUp => Share::Whole,
            GrowthReason::PeerBlocked => Share::Half,
        };
        let is_granted = self.budget.try_reserve(more, share);
        if is_granted {
            self.allowance.store(wider, Ordering::Relaxed);
        }
        is_granted
    }

    /// The connection is over: return the credit that backs no held bytes.
    pub(crate) fn return_unused(&self) {
        let allowance = self.allowance();
        let used = allowance.min(self.held() as u64);
        self.allowance.store(used, Ordering::Relaxed);
        let freed = self.charge(allowance) - self.charge(used);
        self.budget.release(freed);
    }

    /// Bytes that the queues may hold in addition.
    pub(crate) fn room(&self) -> usize {
        let allowance = usize::try_from(self.allowance()).unwrap_or(usize::MAX);
        allowance.saturating_sub(self.held())
    }

    pub(crate) fn add(&self, cost: usize) {
        self.held.fetch_add(cost, Ordering::SeqCst);
    }

    /// A stream waits for room. The caller checks `room` again after this call, as a reader may
    /// have released some before it.
    pub(crate) fn note_waiting(&self) {
        self.is_waiting_for_credit.store(true, Ordering::SeqCst);
    }

    /// `cost` was read or dropped. True when streams that wait should resume: half of the
    /// allowance is free, so that one wake-up serves many bytes.
    pub(crate) fn release(&self, cost: usize) -> bool {
        if cost == 0 {
            return false;
        }
        let held = self.held.fetch_sub(cost, Ordering::SeqCst) - cost;
        self.is_waiting_for_credit.load(Ordering::SeqCst)
            && (held as u64) <= self.allowance() / 2
            && self.is_waiting_for_credit.swap(false, Ordering::SeqCst)
    }
}

impl Drop for ReceiveCredit {
    fn drop(&mut self) {
        self.budget.release(self.charge(self.allowance()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_double_while_the_budget_lasts_and_give_it_back() {
        let budget = Budget::new(2 * 1024 * 1024);
        let most = 300_000;
        let first = ReceiveCredit::new(budget.clone(), most);
        assert_eq!(first.window(), FIRST_WINDOW);
        let mut windows = Vec::new();
        while !first.is_widest() && first.grow(GrowthReason::ReaderKeepsUp) {
            windows.push(first.window());
        }
        assert_eq!(windows, [65_536, 131_072, 262_144, 300_000]);
        // Later connections get less, but never less than the initial window.
        let others: Vec<_> = (0..10)
            .map(|_| ReceiveCredit::new(budget.clone(), most))
            .collect();
        for other in &others {
            while other.grow(GrowthReason::ReaderKeepsUp) {}
        }
        assert!(budget.charged() <= 2 * 1024 * 1024);
        assert!(others[0].window() > others[9].window());
        assert_eq!(others[9].window(), FIRST_WINDOW);
        first.add(100);
        first.return_unused();
        assert_eq!(
            first.window(),
            100,
            "an ended connection is charged for held bytes only"
        );
        drop((first, others));
        assert_eq!(budget.charged(), 0);
    }

    #[test]
    fn blocked_readers_get_half_of_the_budget() {
        let budget = Budget::new(4 * 1024 * 1024);
        let idle: Vec<_> = (0..30)
            .map(|_| ReceiveCredit::new(budget.clone(), 1 << 40))
            .collect();
        for connection in &idle {
            while connection.grow(GrowthReason::PeerBlocked) {}
        }
        assert!(budget.charged() <= 2 * 1024 * 1024);
        assert!(
            idle[29].grow(GrowthReason::ReaderKeepsUp),
            "readers have the other half"
        );
    }

    #[test]
    fn free_room_is_reported_once_and_only_when_a_stream_waits() {
        let receive_credit = ReceiveCredit::new(Budget::new(1 << 20), 1000);
        receive_credit.add(1000);
        assert_eq!(receive_credit.room(), 0);
        assert!(!receive_credit.release(600), "nobody waits");
        receive_credit.add(600);
        receive_credit.note_waiting();
        assert!(!receive_credit.release(400), "too little");
        assert!(receive_credit.release(200));
        assert!(!receive_credit.release(100), "reported already");
        assert_eq!((receive_credit.held(), receive_credit.room()), (300, 700));
    }
}
