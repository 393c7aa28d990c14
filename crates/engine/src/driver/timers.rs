//! A heap of the deadlines of many connections.
//!
//! If a deadline moves later, its entry stays and is found stale when it fires; if it moves
//! earlier, a new entry is added. So the common case, a timer that every packet pushes back, costs
//! nothing. When stale entries prevail they are removed, as a peer controls how often a deadline
//! moves.

use std::{cmp::Reverse, collections::BinaryHeap, time::Instant};

#[derive(Default)]
pub(super) struct Timers(BinaryHeap<Reverse<(Instant, usize)>>);

impl Timers {
    /// Wake `slot` at `deadline`. `armed` is the slot's own record of its earliest entry here.
    pub(super) fn arm(
        &mut self,
        slot: usize,
        deadline: Option<Instant>,
        armed: &mut Option<Instant>,
    ) {
        if let Some(deadline) = deadline
            && armed.is_none_or(|armed| deadline < armed)
        {
            self.0.push(Reverse((deadline, slot)));
            *armed = Some(deadline);
        }
    }

    /// Whether most entries are stale, if each of `slots` has at most one that is not.
    pub(super) fn is_bloated(&self, slots: usize) -> bool {
        self.0.len() > 8 * slots + 64
    }

    /// Replace all entries by those that the slots have on record.
    pub(super) fn rebuild(&mut self, armed: impl Iterator<Item = (Instant, usize)>) {
        self.0 = armed.map(Reverse).collect();
    }

    /// The earliest entry.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.0.peek().map(|Reverse((at, _))| *at)
    }

    /// Add entries that were removed before their time and are still valid.
    pub(super) fn put_back(&mut self, entries: impl IntoIterator<Item = (Instant, usize)>) {
        self.0.extend(entries.into_iter().map(Reverse));
    }

    /// Remove an entry that is due, and return it with its time.
    pub(super) fn pop_due(&mut self, now: Instant) -> Option<(Instant, usize)> {
        let Reverse((at, _)) = self.0.peek()?;
        if *at > now {
            return None;
        }
        self.0.pop().map(|Reverse(entry)| entry)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn stale_entries_do_not_pile_up() {
        let (mut timers, mut armed) = (Timers::default(), None);
        let began = Instant::now();
        let mut most = 0;
        // A far deadline and then a near one, repeatedly, as acknowledgments cause them.
        for n in 0..10_000 {
            let now = began + Duration::from_millis(n);
            timers.arm(0, Some(now + Duration::from_secs(30)), &mut armed);
            timers.arm(0, Some(now + Duration::from_millis(1)), &mut armed);
            while let Some((at, slot)) = timers.pop_due(now + Duration::from_millis(1)) {
                assert_eq!((Some(at), slot), (armed, 0));
                armed = None;
            }
            if timers.is_bloated(1) {
                timers.rebuild(armed.map(|at| (at, 0)).into_iter());
            }
            most = most.max(timers.0.len());
        }
        assert!(most <= 73, "{most}");
        timers.arm(0, Some(began), &mut armed);
        assert_eq!(timers.deadline(), Some(began));
    }
}
