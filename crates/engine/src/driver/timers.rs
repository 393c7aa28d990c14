//! Deadlines of many connections: the earliest one, cheaply.
//!
//! A deadline that moves later is left where it is and found stale when it fires; one that
//! moves earlier is added again. So the common case, a timer pushed back by every packet,
//! costs nothing.

use std::{cmp::Reverse, collections::BinaryHeap, time::Instant};

#[derive(Default)]
pub(super) struct Timers(BinaryHeap<Reverse<(Instant, usize)>>);

impl Timers {
    /// See that `slot` is woken at `deadline`. `armed` is the slot's own record of the
    /// earliest entry it has here.
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

    /// The earliest entry.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.0.peek().map(|Reverse((at, _))| *at)
    }

    /// An entry that is due, with its time.
    pub(super) fn pop_due(&mut self, now: Instant) -> Option<(Instant, usize)> {
        let Reverse((at, _)) = self.0.peek()?;
        if *at > now {
            return None;
        }
        self.0.pop().map(|Reverse(entry)| entry)
    }
}
