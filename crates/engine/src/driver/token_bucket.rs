//! A limit on how often something may happen: so many times at once, and then once in an interval.

use std::time::{Duration, Instant};

pub(super) struct TokenBucket {
    burst: u32,
    interval: Duration,
    /// When the whole burst may happen again.
    full_at: Instant,
}

impl TokenBucket {
    /// A full one. `burst` must not be zero.
    pub(super) fn new(now: Instant, burst: u32, interval: Duration) -> Self {
        Self {
            burst,
            interval,
            full_at: now,
        }
    }

    pub(super) fn is_empty(&self, now: Instant) -> bool {
        self.full_at.saturating_duration_since(now) > self.interval * (self.burst - 1)
    }

    /// When it is not empty any more.
    pub(super) fn next(&self) -> Instant {
        let burst = self.interval * (self.burst - 1);
        // An instant before the clock began is as good as any that has passed.
        self.full_at.checked_sub(burst).unwrap_or(self.full_at)
    }

    /// It happens now, allowed or not.
    pub(super) fn take(&mut self, now: Instant) {
        self.full_at = self.full_at.max(now) + self.interval;
    }

    /// Whether it may happen now; if so, it does.
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
        let mut bucket = TokenBucket::new(began, 5, interval);
        assert_eq!((0..20).filter(|_| bucket.try_take(began)).count(), 5);
        assert!(bucket.is_empty(began));
        assert_eq!(bucket.next(), began + interval);
        assert!(!bucket.try_take(bucket.next() - Duration::from_nanos(1)));
        for n in 1..=30 {
            let now = began + interval * n;
            assert_eq!((0..3).filter(|_| bucket.try_take(now)).count(), 1);
        }
        // It fills up, and no further.
        let later = began + Duration::from_secs(60);
        assert_eq!((0..20).filter(|_| bucket.try_take(later)).count(), 5);
    }
}
