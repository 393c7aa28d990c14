//! When a connection's send window grows: as the peer acknowledges, and as far as the endpoint's
//! budget allows. What QUIC has sent it keeps until it is acknowledged, and a peer may choose never
//! to do that.

use std::sync::Arc;

use crate::budget::Budget;

/// The window that every connection begins with, where the configured one is not smaller. A slow
/// start begins with some 14 KiB (RFC 9002 section 7.2), and a window that grows by acknowledgements
/// stays ahead of it.
pub(crate) const FIRST_SEND_WINDOW: u64 = 64 * 1024;

pub(super) struct SendWindow {
    window: u64,
    widest: u64,
    /// It grows when so many bytes have been written in all.
    due: u64,
    budget: Arc<Budget>,
}

impl SendWindow {
    /// Every connection gets its first window: how many there are is limited, not this.
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

    /// The wider window, if a quarter of this one was acknowledged since it is so wide, the budget
    /// allows it, and the configuration. `written`: all bytes that QUIC has taken so far.
    ///
    /// They tell what was acknowledged, as what was not is no more than a window. That a window
    /// was not full when it grew may count as one acknowledgement too many, but not as two.
    pub(super) fn grow(&mut self, written: u64) -> Option<u64> {
        if written < self.due || self.window >= self.widest {
            return None;
        }
        let wider = self.window.saturating_mul(2).min(self.widest);
        let more = wider - self.window;
        if !self.budget.try_reserve(more, true) {
            // Again when as much has been acknowledged.
            self.due = written + self.window / 4;
            return None;
        }
        self.window = wider;
        self.due = written + more + wider / 4;
        Some(wider)
    }

    /// Nothing was sent and nothing will be: give back what backs the window.
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
    fn it_grows_with_acknowledgements_and_gives_back_what_it_took() {
        let budget = Budget::new(1 << 30);
        let mut window = SendWindow::new(budget.clone(), 5 * FIRST);
        assert_eq!(window.grow(FIRST), None, "nothing is acknowledged");
        assert_eq!(window.grow(FIRST + FIRST / 4), Some(2 * FIRST));
        let full = 2 * FIRST + FIRST / 4;
        assert_eq!(window.grow(full), None, "nothing more is");
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
    fn a_budget_that_is_used_up_is_asked_again() {
        let budget = Budget::new(8 * FIRST);
        let mut window = SendWindow::new(budget.clone(), 1 << 40);
        budget.reserve(6 * FIRST);
        assert_eq!(window.grow(10 * FIRST), None);
        budget.release(6 * FIRST);
        assert_eq!(window.grow(10 * FIRST), None, "not yet");
        assert_eq!(window.grow(11 * FIRST), Some(2 * FIRST));
    }

    #[test]
    fn whoever_acknowledges_nothing_gets_no_wider_window_whatever_is_written() {
        let budget = Budget::new(1 << 40);
        let mut window = SendWindow::new(budget, 1 << 40);
        // Everything that may be written is.
        let mut written = FIRST;
        while let Some(wider) = window.grow(written) {
            written = wider;
        }
        assert_eq!(written, FIRST);
    }
}
