//! Grows a connection's send window as the peer acknowledges, as far as the endpoint's budget allows.
//! Sent data is kept until it is acknowledged, and a peer may never do that.

use std::sync::Arc;

use crate::budget::{Budget, Share};

/// The initial window of every connection, unless a smaller one is configured. Slow start begins with
/// some 14 KiB (RFC 9002 section 7.2), and this window stays ahead of it as both grow.
pub(crate) const FIRST_SEND_WINDOW: u64 = 64 * 1024;

pub(super) struct SendWindow {
    window: u64,
    widest: u64,
    /// It grows once this many bytes have been written in all.
    due: u64,
    budget: Arc<Budget>,
}

impl SendWindow {
    /// Every connection gets its first window, even beyond the budget: the number of connections is
    /// limited instead.
    pub(super) fn new(budget: Arc<Budget>, widest: u64) -> Self {
        let window = FIRST_SEND_WINDOW.min(widest);
        budget.reserve(window);
        Self {
            window,
            widest,
            due: window + window / 4,
            budget,
        }
    }

    /// Double the window and return it, if a quarter of it was acknowledged since it last grew, and
    /// the budget and the configuration allow it. `written`: all bytes that quinn-proto took so far.
    ///
    /// At most one window of `written` is unacknowledged; the rest is acknowledged. A window that was
    /// not full when it grew may thus count one acknowledgment too many, but not two.
    pub(super) fn grow(&mut self, written: u64) -> Option<u64> {
        if written < self.due || self.window >= self.widest {
            return None;
        }
        let wider = self.window.saturating_mul(2).min(self.widest);
        let more = wider - self.window;
        if !self.budget.try_reserve(more, Share::Whole) {
            // Retry after another quarter of the window.
            self.due = written + self.window / 4;
            return None;
        }
        self.window = wider;
        self.due = written + more + wider / 4;
        Some(wider)
    }

    /// Nothing was sent and nothing will be: release the window's reservation.
    pub(super) fn close(&mut self) {
        self.budget.release(std::mem::take(&mut self.window));
        self.widest = 0;
    }
}

impl Drop for SendWindow {
    fn drop(&mut self) {
        self.budget.release(self.window);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIRST: u64 = FIRST_SEND_WINDOW;

    #[test]
    fn it_grows_with_acknowledgments_and_releases_its_reservation() {
        let budget = Budget::new(1 << 30);
        let mut window = SendWindow::new(budget.clone(), 5 * FIRST);
        assert_eq!(window.grow(FIRST), None, "nothing is acknowledged");
        assert_eq!(window.grow(FIRST + FIRST / 4), Some(2 * FIRST));
        let full = 2 * FIRST + FIRST / 4;
        assert_eq!(window.grow(full), None, "nothing more is acknowledged");
        assert_eq!(window.grow(full + FIRST / 2), Some(4 * FIRST));
        assert_eq!(window.grow(1 << 40), Some(5 * FIRST));
        assert_eq!(window.grow(1 << 50), None, "as wide as configured");
        assert_eq!(budget.charged(), 5 * FIRST);
        let mut canceled = SendWindow::new(budget.clone(), 5 * FIRST);
        canceled.close();
        assert_eq!(budget.charged(), 5 * FIRST);
        assert_eq!(canceled.grow(1 << 50), None);
        drop(canceled);
        assert_eq!(budget.charged(), 5 * FIRST);
        drop(window);
        assert_eq!(budget.charged(), 0);
    }

    #[test]
    fn a_refused_reservation_is_retried() {
        let budget = Budget::new(8 * FIRST);
        let mut window = SendWindow::new(budget.clone(), 1 << 40);
        budget.reserve(6 * FIRST);
        assert_eq!(window.grow(10 * FIRST), None);
        budget.release(6 * FIRST);
        assert_eq!(window.grow(10 * FIRST), None, "not yet");
        assert_eq!(window.grow(11 * FIRST), Some(2 * FIRST));
    }

    #[test]
    fn without_acknowledgments_the_window_does_not_grow() {
        let budget = Budget::new(1 << 40);
        let mut window = SendWindow::new(budget, 1 << 40);
        // Write everything that may be written.
        let mut written = FIRST;
        while let Some(wider) = window.grow(written) {
            written = wider;
        }
        assert_eq!(written, FIRST);
    }
}
