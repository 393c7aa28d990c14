//! How application threads and the I/O thread share the cores. The I/O thread executes commands;
//! while it sleeps, an application thread with something to send drives the core itself for one
//! turn, and wakes the thread if work is left. No wake-up is lost: a push checks afterwards whether
//! the thread sleeps, and the thread announces its sleep before it checks for commands once more.
//!
//! An event loop may receive for a core, by a lease that each of its passes renews. No datagram is
//! left without a poller: the thread takes the socket back when the lease ends, and deadlines and
//! commands are always the thread's. No system calls here; `crates/models` explores the
//! interleavings.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, OnceLock, Weak},
    time::{Duration, Instant},
};

use crate::{
    driver::{
        command::IoWaker,
        core::{TURNS_PER_DRIVE, panic_message},
    },
    ready::LeasedCore,
    signal::Signal,
    sync::{
        Mutex,
        atomic::{AtomicBool, Ordering},
    },
};

/// At most this many drives by the thread that closes an endpoint: some thirty thousand turns,
/// three for each of ten thousand connections.
const MOST_DRIVES: usize = 1000;

/// How long a lease lasts after a pass of the event loop, and so the longest that a datagram waits for
/// a loop that runs other code: far less than the 25 ms of max_ack_delay (RFC 9000 section 18.2). Of a
/// loop that passes without a pause, the I/O thread's checks cost one wake-up for each of these times.
pub(crate) const LEASE: Duration = Duration::from_millis(2);

/// What the I/O thread drives: a core and its sockets.
pub(crate) trait CoreTask: Send {
    /// The time, for leases.
    fn now(&self) -> Instant {
        Instant::now()
    }

    /// Take commands, and then the sockets that they may refer to.
    fn take_commands(&mut self);

    /// Do what is due; true if there is more to do at once.
    fn advance(&mut self) -> bool;

    /// Do at most `turns` turns in an application thread: nothing that would close a socket.
    fn advance_here(&mut self, turns: usize) -> bool;

    /// When there is something to do next, unless something happens before.
    fn deadline(&self) -> Option<Instant>;

    fn has_commands(&self) -> bool;

    /// Whether the I/O thread must act on something that came after it went to sleep.
    fn needs_the_thread(&self) -> bool {
        self.is_releasable()
    }

    /// Whether it has ended, or holds sockets to close: the I/O thread alone drops both.
    fn is_releasable(&self) -> bool;

    /// Whether it may be dropped, which wakes those that wait for its end.
    fn is_closed(&self) -> bool;

    /// Have the event loop poll a socket, if that is worth it. Returns whether it does.
    fn lend(&mut self) -> bool {
        false
    }

    /// The event loop polls no socket any longer.
    fn take_back(&mut self) {}

    /// Receive from the lent socket in the event loop's thread. Returns whether the lease may go on:
    /// false if more arrives than the loop should receive, or the endpoint sends bulk.
    fn receive_here(&mut self) -> bool {
        false
    }
}

/// Who polls the sockets of a core. It changes only under the lock of the slot.
enum Owner {
    Thread,
    /// The event loop polls one of them. Each of its passes moves the end.
    Loop {
        until: Instant,
    },
}

/// What application threads share with the I/O thread.
pub(crate) struct Shared<W> {
    /// New tasks.
    inbox: Mutex<Vec<Arc<Mutex<TaskSlot<W>>>>>,
    has_new_tasks: AtomicBool,
    is_asleep: AtomicBool,
    pub(crate) signal: Signal,
}

impl<W> Shared<W> {
    pub(crate) fn new(signal: Signal) -> Arc<Self> {
        Arc::new(Self {
            inbox: Mutex::default(),
            has_new_tasks: AtomicBool::new(false),
            is_asleep: AtomicBool::new(false),
            signal,
        })
    }

    pub(crate) fn has_new_tasks(&self) -> bool {
        self.has_new_tasks.load(Ordering::SeqCst)
    }

    fn wake(&self) {
        if self.is_asleep.swap(false, Ordering::SeqCst) {
            self.signal.raise();
        }
    }
}

/// An endpoint's handle to its core and to the I/O thread.
pub(crate) struct IoHandle<W> {
    shared: Arc<Shared<W>>,
    /// Set by `send`; its target is gone once the core has ended.
    slot: OnceLock<Weak<Mutex<TaskSlot<W>>>>,
}

impl<W> IoHandle<W> {
    pub(crate) fn new(shared: Arc<Shared<W>>) -> Self {
        Self {
            shared,
            slot: OnceLock::new(),
        }
    }

    pub(crate) fn slot(&self) -> Option<Arc<Mutex<TaskSlot<W>>>> {
        self.slot.get().and_then(Weak::upgrade)
    }

    /// Have the I/O thread drive this task from now on.
    pub(crate) fn send(&self, task: W) {
        let slot = Arc::new(Mutex::new(TaskSlot {
            task: Some(Box::new(task)),
            announced: None,
            owner: Owner::Thread,
        }));
        let _ = self.slot.set(Arc::downgrade(&slot));
        self.shared.inbox.lock().push(slot);
        self.shared.has_new_tasks.store(true, Ordering::SeqCst);
        self.shared.wake();
    }
}

impl<W: CoreTask> IoWaker for IoHandle<W> {
    fn wake(&self) {
        self.shared.wake();
    }

    /// Waking the I/O thread costs two context switches before the first datagram is sent, so the
    /// calling thread drives the core itself if that is free.
    fn drive(&self) {
        if !self.shared.is_asleep.load(Ordering::SeqCst) {
            // It takes the commands before it sleeps.
            return;
        }
        let slot = self.slot();
        let Some(mut slot) = slot.as_ref().and_then(|slot| slot.try_lock()) else {
            return self.wake();
        };
        if slot.drive_here(1) {
            drop(slot);
            self.wake();
        }
    }

    /// Driven here, because the I/O thread ends with the process: peers would otherwise notice the
    /// close only by their idle timeout.
    fn drive_all(&self) {
        if let Some(slot) = self.slot() {
            slot.lock().drive_all();
        }
        self.wake();
    }
}

impl<W: CoreTask> LeasedCore for IoHandle<W> {
    fn receive(&self) {
        let Some(slot) = self.slot() else {
            return;
        };
        let mut slot = slot.lock();
        let Some(goes_on) = slot.receive_here() else {
            return;
        };
        let is_work_left = slot.drive_here(TURNS_PER_DRIVE);
        if is_work_left {
            // A connection sends bulk, whose acknowledgments are single messages, too.
            slot.take_back();
        }
        drop(slot);
        // After the end of the lease, the thread must add the socket to those that it polls.
        if is_work_left || !goes_on {
            self.wake();
        }
    }
}

/// Contains a task. The I/O thread or an application thread holds the slot's lock while it drives
/// the task.
pub(crate) struct TaskSlot<W> {
    /// `None` once it has ended, or panicked outside of any one connection. Dropping it fails
    /// those that wait for it; other endpoints are not affected.
    task: Option<Box<W>>,
    /// The deadline for which the I/O thread will wake by itself.
    announced: Option<Instant>,
    owner: Owner,
}

impl<W: CoreTask> TaskSlot<W> {
    pub(crate) fn task(&self) -> Option<&W> {
        self.task.as_deref()
    }

    /// Call `job` with the task; `None` if it has ended or panics.
    pub(crate) fn with<T>(&mut self, job: impl FnOnce(&mut W) -> T) -> Option<T> {
        let task = self.task.as_mut()?;
        // A core that panicked is dropped, so its state is not used again.
        catch_unwind(AssertUnwindSafe(|| job(task)))
            .inspect_err(|panic| {
                let cause = panic_message(&**panic);
                tracing::error!("a panic ended an endpoint with all its connections: {cause}");
                self.task = None;
            })
            .ok()
    }

    /// Do what is due; true if there is more to do at once.
    fn drive(&mut self) -> bool {
        let has_more = self.with(|task| {
            task.take_commands();
            task.advance()
        });
        if self.task.as_ref().is_some_and(|task| task.is_closed()) {
            // Dropping it wakes those that wait for its end.
            self.task = None;
        }
        has_more.unwrap_or(false)
    }

    /// Take commands and drive, while there is more to do at once, at most [`MOST_DRIVES`] times.
    fn drive_all(&mut self) {
        for _ in 0..MOST_DRIVES {
            let has_more = self.with(|task| {
                task.take_commands();
                task.advance_here(TURNS_PER_DRIVE)
            });
            if has_more != Some(true) {
                return;
            }
        }
    }

    /// Let the event loop receive, if that is worth it. The caller has received since `began`.
    pub(crate) fn lend(&mut self, began: Instant) {
        if matches!(self.owner, Owner::Thread) && self.with(W::lend) == Some(true) {
            self.renew(began);
        }
    }

    /// `began` is before the receive: a datagram that arrives after it waits for a lease from then.
    fn renew(&mut self, began: Instant) {
        let until = began + LEASE;
        self.owner = Owner::Loop { until };
    }

    fn take_back(&mut self) {
        self.owner = Owner::Thread;
        self.with(W::take_back);
    }

    fn take_back_if_due(&mut self) {
        if let (Owner::Loop { until }, Some(task)) = (&self.owner, &self.task)
            && *until <= task.now()
        {
            self.take_back();
        }
    }

    /// A pass of the event loop: receive and renew the lease, or end it. Returns whether it goes on;
    /// `None` if it has ended before.
    fn receive_here(&mut self) -> Option<bool> {
        let (Owner::Loop { .. }, Some(task)) = (&self.owner, &self.task) else {
            return None;
        };
        let began = task.now();
        let goes_on = self.with(W::receive_here) == Some(true);
        if goes_on {
            self.renew(began);
        } else {
            self.take_back();
        }
        Some(goes_on)
    }

    /// Take commands and do at most `turns` turns while the I/O thread sleeps; true if the thread
    /// must be woken after all.
    fn drive_here(&mut self, turns: usize) -> bool {
        let has_more = self.with(|task| {
            task.take_commands();
            task.advance_here(turns)
        });
        let (Some(false), Some(task)) = (has_more, &self.task) else {
            return true;
        };
        let is_earlier = task
            .deadline()
            .is_some_and(|at| self.announced.is_none_or(|announced| at < announced));
        is_earlier || task.needs_the_thread()
    }
}

/// All tasks that the I/O thread drives.
pub(crate) struct TaskSlots<W> {
    shared: Arc<Shared<W>>,
    all: Vec<Arc<Mutex<TaskSlot<W>>>>,
}

/// How long the I/O thread may wait, as announced to application threads.
pub(crate) struct Pause {
    is_asleep: bool,
    /// There is something to do already: do not wait.
    pub(crate) is_due: bool,
    pub(crate) until: Option<Instant>,
}

impl<W: CoreTask> TaskSlots<W> {
    pub(crate) fn new(shared: Arc<Shared<W>>) -> Self {
        Self {
            shared,
            all: Vec::new(),
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    pub(crate) fn take_new_tasks(&mut self) {
        if self.shared.has_new_tasks.swap(false, Ordering::SeqCst) {
            self.all.append(&mut self.shared.inbox.lock());
        }
    }

    /// Drive each task once, and end leases; true if a task has more to do at once.
    pub(crate) fn drive(&mut self) -> bool {
        let mut has_more = false;
        self.all.retain(|slot| {
            let mut slot = slot.lock();
            slot.take_back_if_due();
            has_more |= slot.drive();
            slot.task.is_some()
        });
        has_more
    }

    /// Call `job` with each task.
    pub(crate) fn each(&self, mut job: impl FnMut(&mut W)) {
        for slot in &self.all {
            slot.lock().with(&mut job);
        }
    }

    /// Announce how long the thread will sleep; `watch` is called with each task, to collect the
    /// sockets to wait for. The thread must wait no longer, and call `wake` afterwards.
    pub(crate) fn announce<'a>(
        &'a self,
        has_more: bool,
        mut watch: impl FnMut(&'a Arc<Mutex<TaskSlot<W>>>, &W),
    ) -> Pause {
        // Announce the sleep first, then check once more: a thread that pushes later wakes this
        // one, or drives and compares its deadline with the announced one.
        let is_asleep = !has_more;
        self.shared.is_asleep.store(is_asleep, Ordering::SeqCst);
        let mut pause = Pause {
            is_asleep,
            is_due: has_more || self.shared.has_new_tasks(),
            until: None,
        };
        for slot in &self.all {
            let mut locked = slot.lock();
            let TaskSlot {
                task: Some(task),
                announced,
                owner,
            } = &mut *locked
            else {
                pause.is_due = true;
                continue;
            };
            *announced = task.deadline();
            let lease_end = match owner {
                Owner::Thread => None,
                Owner::Loop { until } => Some(*until),
            };
            let times = [pause.until, *announced, lease_end];
            pause.until = times.into_iter().flatten().min();
            // A thread that found this one awake may have executed the last commands.
            pause.is_due |= task.has_commands() || task.is_releasable();
            watch(slot, task);
        }
        pause
    }

    /// The thread has waited.
    pub(crate) fn wake(&self, pause: &Pause) {
        if pause.is_asleep {
            self.shared.is_asleep.store(false, Ordering::SeqCst);
        }
    }
}
