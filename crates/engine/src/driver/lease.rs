//! A socket that the I/O thread lends to an event loop, and when that is worth it.
//!
//! A loop that receives itself saves a wake-up of the I/O thread for each message. It is worth it for
//! single messages that follow one another closely, while the loop passes between them.
//! `handover` decides when a lease ends.

use std::{
    io,
    net::UdpSocket,
    sync::{Arc, Weak},
    time::Instant,
};

use crate::{
    driver::{handover::LEASE, network::SocketKey, receive::Received},
    ready::{LeasedCore, ReadyQueue},
};

/// Small receives in succession before a lease: its beginning and its end cost system calls.
const SMALL_RECEIVES: u32 = 4;

/// Decides which socket of a core is worth lending.
#[derive(Default)]
pub(super) struct Cadence {
    last: Option<(SocketKey, Instant)>,
    /// The loop's drains at the last receive.
    drains: u64,
    /// Small receives in succession.
    small: u32,
}

impl Cadence {
    /// The I/O thread received from a socket while the loop had drained `drains` times.
    pub(super) fn note(&mut self, now: Instant, key: SocketKey, received: Received, drains: u64) {
        let is_close = self
            .last
            .is_some_and(|(last, at)| last == key && now < at + LEASE);
        let has_passed = self.drains != drains;
        self.small = match is_close && has_passed && received.is_small() {
            true => self.small.saturating_add(1),
            false => 0,
        };
        self.last = Some((key, now));
        self.drains = drains;
    }

    /// The socket to lend, if any. The count begins anew with each lease.
    pub(super) fn take(&mut self) -> Option<SocketKey> {
        if self.small < SMALL_RECEIVES {
            return None;
        }
        self.small = 0;
        self.last.map(|(key, _)| key)
    }
}

/// The event loop that a core's tokens go to, if it can receive.
pub(super) struct Home {
    ready_queue: Weak<ReadyQueue>,
    /// What the loop calls to receive.
    core: Arc<dyn LeasedCore>,
}

impl Home {
    /// `None` if the loop of that queue does not receive.
    pub(super) fn new(ready_queue: &Arc<ReadyQueue>, core: Arc<dyn LeasedCore>) -> Option<Self> {
        ready_queue.poll_set()?;
        let ready_queue = Arc::downgrade(ready_queue);
        Some(Self { ready_queue, core })
    }

    /// How often the loop has passed; `None` if it has ended.
    pub(super) fn drains(&self) -> Option<u64> {
        Some(self.ready_queue.upgrade()?.drains())
    }

    /// Add a socket to those that the loop waits for.
    pub(super) fn lend(&self, key: SocketKey, socket: Arc<UdpSocket>) -> io::Result<Option<Lease>> {
        let Some(ready_queue) = self.ready_queue.upgrade() else {
            return Ok(None);
        };
        let Some(poll_set) = ready_queue.poll_set() else {
            return Ok(None);
        };
        poll_set.add(&*socket)?;
        ready_queue.lend(self.core.clone());
        Ok(Some(Lease {
            key,
            socket,
            core: self.core.clone(),
            ready_queue,
        }))
    }
}

/// A lent socket. Dropping it removes the socket from those that the loop waits for.
pub(super) struct Lease {
    pub(super) key: SocketKey,
    socket: Arc<UdpSocket>,
    core: Arc<dyn LeasedCore>,
    ready_queue: Arc<ReadyQueue>,
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.ready_queue.take_back(&self.core);
        if let Some(poll_set) = self.ready_queue.poll_set() {
            poll_set.remove(&*self.socket);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const SMALL: Received = Received {
        messages: 1,
        bytes: 50,
        bytes_sent: 50,
    };

    /// Whether a socket is lent after many receives `gap` apart, with `passes` of the loop for each.
    fn is_lent_after(gap: Duration, passes: u64, received: Received) -> bool {
        let mut cadence = Cadence::default();
        let began = Instant::now();
        for n in 0..=SMALL_RECEIVES {
            assert_eq!(cadence.take(), None);
            cadence.note(began + gap * n, 7, received, u64::from(n) * passes);
        }
        cadence.take() == Some(7)
    }

    #[test]
    fn single_messages_in_close_succession_are_worth_a_lease() {
        assert!(is_lent_after(LEASE / 2, 1, SMALL));
        assert!(is_lent_after(LEASE / 2, 3, SMALL));
    }

    #[test]
    fn rare_messages_are_not() {
        assert!(!is_lent_after(LEASE, 1, SMALL));
    }

    #[test]
    fn messages_for_a_loop_that_does_not_pass_are_not() {
        assert!(!is_lent_after(LEASE / 2, 0, SMALL));
    }

    #[test]
    fn bulk_is_not() {
        let bulk = Received {
            bytes: 60_000,
            ..SMALL
        };
        assert!(!is_lent_after(LEASE / 2, 1, bulk));
        let batch = Received {
            messages: 2,
            ..SMALL
        };
        assert!(!is_lent_after(LEASE / 2, 1, batch));
        let acknowledgment = Received {
            bytes_sent: 60_000,
            ..SMALL
        };
        assert!(!is_lent_after(LEASE / 2, 1, acknowledgment));
    }
}
