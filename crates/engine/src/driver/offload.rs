//! Whether an offload works, judged by evidence: segmentation for one connection, ECN marks for
//! one socket. Knows no system calls; who uses it says what happened.

use std::time::{Duration, Instant};

/// Refusals in a row after which an offload is given up. One send may fail for a reason of its
/// own, and each refusal costs two system calls more.
const MAX_REFUSALS: u32 = 8;

/// How long an offload that was given up is not tried: routes and interfaces change.
const RETRY_AFTER: Duration = Duration::from_secs(60);

/// A feature of sends that the system may not have.
pub(super) struct Offload {
    name: &'static str,
    /// In a row, with nothing that went out with it in between.
    refusals: u32,
    off_until: Option<Instant>,
}

impl Offload {
    /// One that is used until evidence speaks against it.
    pub(super) fn new(name: &'static str) -> Self {
        Self {
            name,
            refusals: 0,
            off_until: None,
        }
    }

    /// Whether the next send may ask for it. `now` is called only while it is given up.
    pub(super) fn is_usable(&mut self, now: impl FnOnce() -> Instant) -> bool {
        if let Some(until) = self.off_until {
            if now() < until {
                return false;
            }
            self.off_until = None;
        }
        true
    }

    /// Datagrams went out with it.
    pub(super) fn worked(&mut self) {
        self.refusals = 0;
    }

    /// Datagrams went out without it just after they had not with it.
    pub(super) fn refused(&mut self, now: Instant) {
        // Not counted from zero when it is tried again: one refusal is enough then.
        self.refusals = self.refusals.saturating_add(1);
        if self.refusals >= MAX_REFUSALS {
            tracing::info!(offload = self.name, "given up for a minute");
            self.off_until = Some(now + RETRY_AFTER);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refuse(offload: &mut Offload, times: u32, now: Instant) {
        for _ in 0..times {
            assert!(offload.is_usable(|| now));
            offload.refused(now);
        }
    }

    #[test]
    fn it_is_given_up_only_when_nothing_works_in_between() {
        let (mut offload, now) = (Offload::new("test"), Instant::now());
        for _ in 0..3 {
            refuse(&mut offload, MAX_REFUSALS - 1, now);
            offload.worked();
        }
        refuse(&mut offload, MAX_REFUSALS, now);
        assert!(!offload.is_usable(|| now));
    }

    #[test]
    fn it_is_tried_again_later_and_one_more_refusal_is_enough_then() {
        let (mut offload, mut now) = (Offload::new("test"), Instant::now());
        refuse(&mut offload, MAX_REFUSALS, now);
        now += RETRY_AFTER;
        refuse(&mut offload, 1, now);
        assert!(!offload.is_usable(|| now));
        now += RETRY_AFTER;
        assert!(offload.is_usable(|| now));
        offload.worked();
        refuse(&mut offload, MAX_REFUSALS - 1, now);
        assert!(offload.is_usable(|| now));
    }
}
