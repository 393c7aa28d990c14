//! How wake-ups reach an event loop: a queue of ready tokens with a wakeup fd, and [`Waiters`].
//!
//! A waker made here holds a token. Waking appends the token to the queue and, if the queue was
//! empty, makes its descriptor readable. The event loop waits for the descriptor, drains the
//! queue and wakes the tasks of those tokens. The caller chooses what a token means.
//!
//! A queue that receives lets the same descriptor wait for sockets too: a drain then receives from
//! those that the I/O thread has lent to the loop.

#[cfg(unix)]
use std::os::fd::{AsFd, BorrowedFd};
#[cfg(windows)]
use std::os::windows::io::{AsSocket, BorrowedSocket};
use std::{
    fmt, io,
    sync::Arc,
    task::{Wake, Waker},
};

use crate::{
    poll_set::PollSet,
    signal::Signal,
    sync::{
        Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

/// A core from one of whose sockets an event loop receives.
pub(crate) trait LeasedCore: Send + Sync {
    /// Receive what has arrived, and drive the core. The caller holds no lock of the engine.
    fn receive(&self);
}

/// Collects the tokens of woken wakers for one event loop. Its descriptor (a socket on Windows) is readable
/// while there are any.
pub struct ReadyQueue {
    ready: Mutex<Ready>,
    pub(crate) signal: Signal,
    /// The signal was raised since the last drain that cleared it.
    is_raised: AtomicBool,
    next_token: AtomicU64,
    /// The number of drains: whether the loop passes.
    drains: AtomicU64,
    /// A leaf: no other lock is taken under it.
    leased: Mutex<Vec<Arc<dyn LeasedCore>>>,
    has_leased: AtomicBool,
    /// `None` if the loop receives nothing itself.
    poll_set: Option<PollSet>,
}

#[derive(Default)]
struct Ready {
    tokens: Vec<u64>,
    /// A drain receives, and will take the tokens of that: they need no signal.
    is_receiving: bool,
    /// The signal was raised, or will be: the next drain clears it.
    is_signaled: bool,
    /// The loop drains again before it waits, or calls `before_wait`: tokens need no signal.
    is_in_pass: bool,
}

impl ReadyQueue {
    /// Create an empty queue.
    ///
    /// # Errors
    /// The system's error when no descriptor is available.
    pub fn new() -> io::Result<Arc<Self>> {
        Self::with(Signal::new()?, None)
    }

    /// Create an empty queue whose event loop may receive datagrams itself. The same as `new` where
    /// the system has no descriptor for several others.
    ///
    /// # Errors
    /// The system's error when no descriptor is available.
    #[doc(hidden)]
    pub fn receiving() -> io::Result<Arc<Self>> {
        let signal = Signal::new()?;
        let poll_set = PollSet::new(&signal)?;
        Self::with(signal, poll_set)
    }

    fn with(signal: Signal, poll_set: Option<PollSet>) -> io::Result<Arc<Self>> {
        Ok(Arc::new(Self {
            ready: Mutex::default(),
            signal,
            is_raised: AtomicBool::new(false),
            next_token: AtomicU64::new(1),
            drains: AtomicU64::new(0),
            leased: Mutex::default(),
            has_leased: AtomicBool::new(false),
            poll_set,
        }))
    }

    /// A token that this queue has not given before.
    pub fn token(&self) -> u64 {
        self.next_token.fetch_add(1, Ordering::Relaxed)
    }

    /// A waker that appends `token` to this queue.
    pub fn waker(self: &Arc<Self>, token: u64) -> Waker {
        Waker::from(Arc::new(TokenWaker {
            queue: self.clone(),
            token,
        }))
    }

    /// Clear `taken`, swap the ready tokens into it, and make the descriptor unreadable. A token
    /// occurs once for each wake. Receives from lent sockets first. The caller must hold no lock of
    /// the engine.
    pub fn drain(&self, taken: &mut Vec<u64>) {
        self.take(taken, false);
    }

    /// [`drain`](Self::drain) for a loop that drains in each pass, and calls
    /// [`before_wait`](Self::before_wait) before it waits for the descriptor. Until then tokens do not
    /// make it readable: a busy loop needs no system call for them, neither here nor where they come
    /// from.
    pub fn drain_in_pass(&self, taken: &mut Vec<u64>) {
        self.take(taken, true);
    }

    /// The loop is about to wait for the descriptor: tokens make it readable from now on, and at once if
    /// some have come since the last drain.
    pub fn before_wait(&self) {
        let must_raise = {
            let mut ready = self.ready.lock();
            ready.is_in_pass = false;
            let must_raise = !ready.tokens.is_empty() && !ready.is_signaled;
            ready.is_signaled |= must_raise;
            must_raise
        };
        if must_raise {
            self.raise();
        }
    }

    fn take(&self, taken: &mut Vec<u64>, is_in_pass: bool) {
        taken.clear();
        self.drains.fetch_add(1, Ordering::SeqCst);
        if self.is_receiver() {
            self.receive();
        }
        let mut ready = self.ready.lock();
        ready.is_receiving = false;
        ready.is_in_pass = is_in_pass;
        let is_signaled = std::mem::take(&mut ready.is_signaled);
        // Cleared under the lock: the next token finds an empty queue and raises the signal again.
        if self.is_raised.swap(false, Ordering::SeqCst) || is_signaled {
            self.signal.clear();
        }
        std::mem::swap(&mut ready.tokens, taken);
    }

    /// Whether a drain receives: a socket is lent to this loop. That takes longer than to take tokens.
    pub fn is_receiver(&self) -> bool {
        self.has_leased.load(Ordering::SeqCst)
    }

    /// How often the queue was drained.
    pub(crate) fn drains(&self) -> u64 {
        self.drains.load(Ordering::SeqCst)
    }

    pub(crate) fn poll_set(&self) -> Option<&PollSet> {
        self.poll_set.as_ref()
    }

    /// Have drains receive for `core`.
    pub(crate) fn lend(&self, core: Arc<dyn LeasedCore>) {
        self.leased.lock().push(core);
        self.has_leased.store(true, Ordering::SeqCst);
    }

    /// Undo `lend`.
    pub(crate) fn take_back(&self, core: &Arc<dyn LeasedCore>) {
        let mut leased = self.leased.lock();
        leased.retain(|other| !std::ptr::addr_eq(Arc::as_ptr(other), Arc::as_ptr(core)));
        self.has_leased.store(!leased.is_empty(), Ordering::SeqCst);
    }

    fn receive(&self) {
        self.ready.lock().is_receiving = true;
        // Without the lock: the I/O thread takes it while it holds a core's.
        let leased = self.leased.lock().clone();
        for core in leased {
            core.receive();
        }
    }

    fn push(&self, token: u64) {
        let must_raise = {
            let mut ready = self.ready.lock();
            ready.tokens.push(token);
            let is_drained_next = ready.is_receiving || ready.is_in_pass;
            let must_raise = ready.tokens.len() == 1 && !is_drained_next;
            ready.is_signaled |= must_raise;
            must_raise
        };
        if must_raise {
            self.raise();
        }
    }

    /// Without the lock, on which the woken thread would block at once. If `drain` took the token
    /// meanwhile, the signal is stale; the note, which comes later, has it cleared.
    fn raise(&self) {
        self.signal.raise();
        self.is_raised.store(true, Ordering::SeqCst);
    }
}

#[cfg(unix)]
impl AsFd for ReadyQueue {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match &self.poll_set {
            Some(poll_set) => poll_set.as_fd(),
            None => self.signal.as_fd(),
        }
    }
}

#[cfg(windows)]
impl AsSocket for ReadyQueue {
    fn as_socket(&self) -> BorrowedSocket<'_> {
        self.signal.as_socket()
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

/// The wakers of the tasks that wait for one condition. There may be several, for example two
/// tasks in `poll_open`.
#[derive(Default)]
pub(crate) struct Waiters {
    /// Nearly always the only one, so that nothing is allocated.
    first: Option<Waker>,
    /// Boxed, as an idle connection has nearly thirty `Waiters`, and a `Vec` takes as much as three boxes.
    more: Option<Box<More>>,
}

/// The wakers beyond the first.
#[derive(Default)]
struct More {
    wakers: Vec<Waker>,
}

impl Waiters {
    pub(crate) fn add(&mut self, waker: &Waker) {
        let more = self.more.iter().flat_map(|more| &more.wakers);
        let mut known = self.first.iter().chain(more);
        if known.any(|known| known.will_wake(waker)) {
            return;
        }
        if self.first.is_none() {
            self.first = Some(waker.clone());
        } else {
            let more = self.more.get_or_insert_default();
            more.wakers.push(waker.clone());
        }
    }

    /// How many tasks wait.
    pub(crate) fn len(&self) -> usize {
        let more = self.more.as_ref().map_or(0, |more| more.wakers.len());
        usize::from(self.first.is_some()) + more
    }

    pub(crate) fn wake(&mut self) {
        if let Some(waker) = self.first.take() {
            waker.wake();
        }
        if let Some(more) = self.more.take() {
            more.wakers.into_iter().for_each(Waker::wake);
        }
    }

    /// Take all wakers, to wake them after releasing a lock. Waking is a system call, and woken
    /// threads that need the lock would block on it at once.
    #[must_use]
    pub(crate) fn take(&mut self) -> Self {
        std::mem::take(self)
    }
}

#[cfg(test)]
mod tests {
    use rustix::event::{PollFd, PollFlags, Timespec, poll};

    use super::*;

    fn is_readable(queue: &ReadyQueue) -> bool {
        let mut fds = [PollFd::new(queue, PollFlags::IN)];
        poll(&mut fds, Some(&Timespec::default())).is_ok_and(|n| n > 0)
    }

    #[test]
    fn is_readable_until_drained_and_again_after_the_next_wake() {
        let queue = ReadyQueue::new().expect("a descriptor");
        let (one, two) = (queue.waker(1), queue.waker(2));
        assert!(!is_readable(&queue));
        one.wake_by_ref();
        two.wake_by_ref();
        assert!(is_readable(&queue));
        let mut taken = Vec::new();
        queue.drain(&mut taken);
        assert_eq!(taken, [1, 2]);
        assert!(!is_readable(&queue));
        one.wake();
        assert!(is_readable(&queue));
        queue.drain(&mut taken);
        assert_eq!(taken, [1]);
        queue.drain(&mut taken);
        assert!(taken.is_empty());
    }

    #[test]
    fn tokens_of_a_pass_raise_the_signal_only_before_a_wait() {
        let queue = ReadyQueue::new().expect("a descriptor");
        let (one, two) = (queue.waker(1), queue.waker(2));
        let mut taken = Vec::new();
        queue.drain_in_pass(&mut taken);
        one.wake_by_ref();
        assert!(!is_readable(&queue));
        queue.drain_in_pass(&mut taken);
        assert_eq!(taken, [1]);
        // One that comes in the pass is not lost when the loop waits.
        two.wake_by_ref();
        assert!(!is_readable(&queue));
        queue.before_wait();
        assert!(is_readable(&queue));
        queue.drain_in_pass(&mut taken);
        assert_eq!(taken, [2]);
        assert!(!is_readable(&queue));
        // One that comes while it waits.
        queue.before_wait();
        assert!(!is_readable(&queue));
        one.wake_by_ref();
        assert!(is_readable(&queue));
        queue.drain(&mut taken);
        assert_eq!(taken, [1]);
        // A loop that only drains is woken by every token.
        two.wake_by_ref();
        assert!(is_readable(&queue));
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
