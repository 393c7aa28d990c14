//! A clock that advances when the I/O thread waits for a time.

use std::time::{Duration, Instant};

use crate::sync::atomic::{AtomicU64, Ordering};

pub(super) struct Clock {
    began: Instant,
    nanoseconds: AtomicU64,
}

impl Default for Clock {
    fn default() -> Self {
        Self {
            began: Instant::now(),
            nanoseconds: AtomicU64::new(0),
        }
    }
}

impl Clock {
    pub(super) fn now(&self) -> Instant {
        self.began + Duration::from_nanos(self.nanoseconds.load(Ordering::SeqCst))
    }

    pub(super) fn advance_to(&self, at: Instant) {
        let passed = at.saturating_duration_since(self.began).as_nanos();
        let passed = u64::try_from(passed).expect("a model lasts less than centuries");
        self.nanoseconds.fetch_max(passed, Ordering::SeqCst);
    }
}
