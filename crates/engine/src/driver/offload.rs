//! Decides by the results of sends whether an offload works: segmentation for one connection, ECN
//! marks for one socket. Makes no system calls; its user reports the results.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use crate::multiaddr::Multiaddr;

/// Consecutive refusals after which an offload is disabled. A single send may fail for another
/// reason, and each refusal costs two more system calls.
const MAX_REFUSALS: u32 = 8;

/// How long an offload stays disabled; routes and interfaces change.
const RETRY_AFTER: Duration = Duration::from_secs(60);

/// A feature of sends that the system may not support.
pub(super) struct Offload {
    name: &'static str,
    /// Consecutive refusals, with no successful use in between.
    refusals: u32,
    off_until: Option<Instant>,
}

impl Offload {
    /// An offload that is used until it is refused.
    pub(super) fn new(name: &'static str) -> Self {
        Self {
            name,
            refusals: 0,
            off_until: None,
        }
    }

    /// Whether the next send may use it. Enables it again once its time is over. `now` is called
    /// only while it is disabled.
    pub(super) fn check_usable(&mut self, now: impl FnOnce() -> Instant) -> bool {
        if let Some(until) = self.off_until {
            if now() < until {
                return false;
            }
            self.off_until = None;
        }
        true
    }

    /// The system took datagrams with it.
    pub(super) fn worked(&mut self) {
        self.refusals = 0;
    }

    /// The system took datagrams to `remote` without it that it had just refused with it.
    pub(super) fn refused(&mut self, now: Instant, remote: SocketAddr) {
        // Not reset when it is tried again: one more refusal is enough then.
        self.refusals = self.refusals.saturating_add(1);
        if self.refusals >= MAX_REFUSALS {
            let (name, remote) = (self.name, Multiaddr(remote));
            tracing::info!(
                "{name} given up for a minute: the system refused to send with it {MAX_REFUSALS} times, \
                 the last time to {remote}"
            );
            self.off_until = Some(now + RETRY_AFTER);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refuse(offload: &mut Offload, times: u32, now: Instant) {
        for _ in 0..times {
            assert!(offload.check_usable(|| now));
            offload.refused(now, SocketAddr::from(([192, 0, 2, 1], 4001)));
        }
    }

    #[test]
    fn only_consecutive_refusals_disable_it() {
        let (mut offload, now) = (Offload::new("test"), Instant::now());
        for _ in 0..3 {
            refuse(&mut offload, MAX_REFUSALS - 1, now);
            offload.worked();
        }
        refuse(&mut offload, MAX_REFUSALS, now);
        assert!(!offload.check_usable(|| now));
    }

    #[test]
    fn it_is_tried_again_later_and_one_more_refusal_is_enough_then() {
        let (mut offload, mut now) = (Offload::new("test"), Instant::now());
        refuse(&mut offload, MAX_REFUSALS, now);
        now += RETRY_AFTER;
        refuse(&mut offload, 1, now);
        assert!(!offload.check_usable(|| now));
        now += RETRY_AFTER;
        assert!(offload.check_usable(|| now));
        offload.worked();
        refuse(&mut offload, MAX_REFUSALS - 1, now);
        assert!(offload.check_usable(|| now));
    }
}
