//! The bell: how wake-ups reach an event loop without taking its lock or its time.
//!
//! A waker made here is a token and the bell. Waking puts the token into the ready set and,
//! if the set was empty, rings once. The loop waits for the bell's descriptor, takes the
//! set, and wakes whoever waits for those tokens. What a token means is the caller's affair.

use std::{
    fmt, io,
    os::fd::{AsFd, BorrowedFd},
    sync::Arc,
    task::{Wake, Waker},
};

use crate::{
    signal::Signal,
    sync::{
        Mutex,
        atomic::{AtomicU64, Ordering},
    },
};

/// Collects the tokens of what became ready, for one event loop.
pub struct ReadyQueue {
    ready: Mutex<Vec<u64>>,
    pub(crate) signal: Signal,
    next_token: AtomicU64,
}

impl ReadyQueue {
    /// A silent bell. Fails when the system is out of descriptors.
    pub fn new() -> io::Result<Arc<Self>> {
        Ok(Arc::new(Self {
            ready: Mutex::new(Vec::new()),
            signal: Signal::new()?,
            next_token: AtomicU64::new(1),
        }))
    }

    /// A token that this bell has not given before.
    pub fn token(&self) -> u64 {
        self.next_token.fetch_add(1, Ordering::Relaxed)
    }

    /// A waker that leaves `token` here.
    pub fn waker(self: &Arc<Self>, token: u64) -> Waker {
        Waker::from(Arc::new(TokenWaker {
            queue: self.clone(),
            token,
        }))
    }

    /// Swap the ready tokens into `taken`, which is emptied first, and silence the bell.
    pub fn drain(&self, taken: &mut Vec<u64>) {
        taken.clear();
        let mut ready = self.ready.lock();
        if ready.is_empty() {
            return;
        }
        // Under the lock: a token that comes later finds an empty set and a silent bell.
        self.signal.clear();
        std::mem::swap(&mut *ready, taken);
    }

    fn push(&self, token: u64) {
        let mut ready = self.ready.lock();
        if ready.is_empty() {
            self.signal.raise();
        }
        ready.push(token);
    }
}

impl AsFd for ReadyQueue {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.signal.as_fd()
    }
}

impl fmt::Debug for ReadyQueue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReadyQueue").finish_non_exhaustive()
    }
}

struct TokenWaker {
    queue: Arc<ReadyQueue>,
    token: u64,
}

impl Wake for TokenWaker {
    fn wake(self: Arc<Self>) {
        self.queue.push(self.token);
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.queue.push(self.token);
    }
}

/// The wakers of those who wait for one condition. More than one may: two tasks in `open`.
#[derive(Default)]
pub(crate) struct Waiters {
    /// Nearly always the only one, and then nothing is allocated.
    first: Option<Waker>,
    more: Vec<Waker>,
}

impl Waiters {
    pub(crate) fn add(&mut self, waker: &Waker) {
        let mut known = self.first.iter().chain(&self.more);
        if known.any(|known| known.will_wake(waker)) {
            return;
        }
        if self.first.is_none() {
            self.first = Some(waker.clone());
        } else {
            self.more.push(waker.clone());
        }
    }

    pub(crate) fn wake(&mut self) {
        if let Some(waker) = self.first.take() {
            waker.wake();
        }
        self.more.drain(..).for_each(Waker::wake);
    }

    /// All of them, for whoever holds a lock that those who wake up want at once: waking is a
    /// system call, and they would only go to sleep again at the lock.
    #[must_use]
    pub(crate) fn take(&mut self) -> Self {
        std::mem::take(self)
    }
}

#[cfg(test)]
mod tests {
    use rustix::event::{PollFd, PollFlags, Timespec, poll};

    use super::*;

    fn is_ringing(queue: &ReadyQueue) -> bool {
        let mut fds = [PollFd::new(queue, PollFlags::IN)];
        poll(&mut fds, Some(&Timespec::default())).is_ok_and(|n| n > 0)
    }

    #[test]
    fn rings_once_for_many_and_again_after_a_drain() {
        let queue = ReadyQueue::new().expect("a descriptor");
        let (one, two) = (queue.waker(1), queue.waker(2));
        assert!(!is_ringing(&queue));
        one.wake_by_ref();
        two.wake_by_ref();
        assert!(is_ringing(&queue));
        let mut taken = Vec::new();
        queue.drain(&mut taken);
        assert_eq!(taken, [1, 2]);
        assert!(!is_ringing(&queue));
        one.wake();
        assert!(is_ringing(&queue));
        queue.drain(&mut taken);
        assert_eq!(taken, [1]);
        queue.drain(&mut taken);
        assert!(taken.is_empty());
    }

    #[test]
    fn no_wake_is_lost_between_threads() {
        let queue = ReadyQueue::new().expect("a descriptor");
        const ROUNDS: u64 = 20_000;
        let sender = {
            let waker_of = queue.clone();
            std::thread::spawn(move || (0..ROUNDS).for_each(|i| waker_of.waker(i).wake()))
        };
        let (mut taken, mut seen) = (Vec::new(), 0);
        while seen < ROUNDS {
            let mut fds = [PollFd::new(&*queue, PollFlags::IN)];
            poll(&mut fds, None).expect("poll");
            queue.drain(&mut taken);
            for token in &taken {
                assert_eq!(*token, seen);
                seen += 1;
            }
        }
        sender.join().expect("sender");
    }
}
