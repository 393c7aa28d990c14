//! A token bucket: limits an event to a burst, and then to once in an interval.

use std::time::{Duration, Instant};

pub(super) struct TokenBucket {
    burst: u32,
    interval: Duration,
    /// When the bucket is full again; `None` before the first event.
    full_at: Option<Instant>,
}

impl TokenBucket {
    /// A full bucket. `burst` must not be zero.
    pub(super) fn new(burst: u32, interval: Duration) -> Self {
        Self {
            burst,
            interval,
            full_at: None,
        }
    }

    pub(super) fn is_empty(&self, now: Instant) -> bool {
        self.next().is_some_and(|at| now < at)
    }

    /// When the next token is or was available; `None` if one always was.
    pub(super) fn next(&self) -> Option<Instant> {
        // `None` also for an instant that the clock cannot represent, which is in the past.
        self.full_at?.checked_sub(self.interval * (self.burst - 1))
    }

    /// Take a token, even from an empty bucket.
    pub(super) fn take(&mut self, now: Instant) {
        let full_at = self.full_at.map_or(now, |at| at.max(now));
        self.full_at = Some(full_at + self.interval);
    }

    /// Take a token if the bucket is not empty. True if one was taken.
    pub(super) fn try_take(&mut self, now: Instant) -> bool {
        let is_allowed = !self.is_empty(now);
        if is_allowed {
            self.take(now);
        }
        is_allowed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_at_once_and_then_one_in_each_interval() {
        let began = Instant::now() + Duration::from_secs(1_000);
        let interval = Duration::from_millis(100);
        let mut bucket = TokenBucket::new(5, interval);
        assert_eq!((0..20).filter(|_| bucket.try_take(began)).count(), 5);
        assert!(bucket.is_empty(began));
        assert_eq!(bucket.next(), Some(began + interval));
        assert!(bucket.is_empty(began + interval - Duration::from_nanos(1)));
        for n in 1..=30 {
            let now = began + interval * n;
            assert_eq!((0..3).filter(|_| bucket.try_take(now)).count(), 1);
        }
        // It holds at most the burst.
        let later = began + Duration::from_secs(60);
        assert_eq!((0..20).filter(|_| bucket.try_take(later)).count(), 5);
    }
}
