//! How application threads and the I/O thread share the cores. Commands are the thread's to do;
//! while it sleeps, an application thread with something to send drives the core itself, for one
//! turn, and wakes the thread for what that leaves. No wake-up is lost: whoever pushes looks
//! whether the thread sleeps afterwards, and the thread says that it sleeps before it looks once
//! more. No system calls here; `crates/models` tries the interleavings.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, OnceLock, Weak},
    time::Instant,
};

use crate::{
    driver::{command::IoWaker, core::TURNS_PER_DRIVE},
    signal::Signal,
    sync::{
        Mutex,
        atomic::{AtomicBool, Ordering},
    },
};

/// So many times an endpoint that closes is driven at most by who closes it: some thirty
/// thousand turns, three for each connection of ten thousand.
const MOST_DRIVES: usize = 1000;

/// Something to drive, with what only its I/O thread gives it: a core and its sockets.
pub(crate) trait CoreTask: Send {
    /// Take commands, and then what they may name.
    fn take_commands(&mut self);

    /// Do what is due; true when there is more to do at once.
    fn advance(&mut self) -> bool;

    /// So many turns of it in the place of the I/O thread: nothing that would close a socket.
    fn advance_here(&mut self, turns: usize) -> bool;

    /// When there is something to do, if nothing happens before.
    fn deadline(&self) -> Option<Instant>;

    fn has_commands(&self) -> bool;

    /// The I/O thread has to see to something that it did not know of when it went to sleep.
    fn needs_the_thread(&self) -> bool;

    /// It may be dropped, and says so to whoever waits for it.
    fn is_closed(&self) -> bool;
}

/// How others reach the I/O thread.
pub(crate) struct Shared<W> {
    /// What is new.
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

/// How an endpoint reaches its core, and who is woken for it.
pub(crate) struct IoHandle<W> {
    shared: Arc<Shared<W>>,
    /// Set as soon as there is one, and gone when the core has ended.
    driver: OnceLock<Weak<Mutex<TaskSlot<W>>>>,
}

impl<W> IoHandle<W> {
    pub(crate) fn new(shared: Arc<Shared<W>>) -> Self {
        Self {
            shared,
            driver: OnceLock::new(),
        }
    }

    pub(crate) fn driver(&self) -> Option<Arc<Mutex<TaskSlot<W>>>> {
        self.driver.get().and_then(Weak::upgrade)
    }

    /// Have the I/O thread drive this from now on.
    pub(crate) fn send(&self, work: W) {
        let driver = Arc::new(Mutex::new(TaskSlot {
            work: Some(Box::new(work)),
            announced: None,
        }));
        let _ = self.driver.set(Arc::downgrade(&driver));
        self.shared.inbox.lock().push(driver);
        self.shared.has_new_tasks.store(true, Ordering::SeqCst);
        self.shared.wake();
    }
}

impl<W: CoreTask> IoWaker for IoHandle<W> {
    fn wake(&self) {
        self.shared.wake();
    }

    /// A thread that sleeps costs two switches and their time before the first datagram
    /// leaves, so whoever has little to send sends it, if the core is free.
    fn drive(&self) {
        if !self.shared.is_asleep.load(Ordering::SeqCst) {
            // It looks at the commands before it sleeps.
            return;
        }
        let driver = self.driver();
        let Some(mut driver) = driver.as_ref().and_then(|driver| driver.try_lock()) else {
            return self.wake();
        };
        if driver.drive_once() {
            drop(driver);
            self.wake();
        }
    }

    /// The thread dies with the process, whatever it was about to send: peers would learn from
    /// silence what a datagram could have told them.
    fn drive_all(&self) {
        if let Some(driver) = self.driver() {
            driver.lock().drive_all();
        }
        self.wake();
    }
}

/// What is driven. The I/O thread holds its lock while it drives it, and so does an application
/// thread that finds it free.
pub(crate) struct TaskSlot<W> {
    /// Gone when it has ended, or panicked outside of any one connection. Dropping it fails
    /// whoever waits for it, and the other endpoints live on.
    work: Option<Box<W>>,
    /// When the I/O thread will drive it next by itself.
    announced: Option<Instant>,
}

impl<W: CoreTask> TaskSlot<W> {
    pub(crate) fn work(&self) -> Option<&W> {
        self.work.as_deref()
    }

    /// Let `job` have it; `None` when there is none any more.
    pub(crate) fn with<T>(&mut self, job: impl FnOnce(&mut W) -> T) -> Option<T> {
        let work = self.work.as_mut()?;
        // Nothing of a core that panicked is used again.
        let outcome = catch_unwind(AssertUnwindSafe(|| job(work)));
        if outcome.is_err() {
            tracing::error!("a panic ended an endpoint");
            self.work = None;
        }
        outcome.ok()
    }

    /// Do what is due; true when there is more to do at once.
    fn drive(&mut self) -> bool {
        let has_more = self.with(|work| {
            work.take_commands();
            work.advance()
        });
        if self.work.as_ref().is_some_and(|work| work.is_closed()) {
            // One that is closed and dropped says so to whoever waits for it.
            self.work = None;
        }
        has_more.unwrap_or(false)
    }

    /// Take commands and a turn of every connection that has something to do, for as long as
    /// there is more to do at once, within reason.
    fn drive_all(&mut self) {
        for _ in 0..MOST_DRIVES {
            let has_more = self.with(|work| {
                work.take_commands();
                work.advance_here(TURNS_PER_DRIVE)
            });
            if has_more != Some(true) {
                return;
            }
        }
    }

    /// Take commands and one turn in the place of the I/O thread, which sleeps; true when it
    /// has to be woken after all.
    fn drive_once(&mut self) -> bool {
        let has_more = self.with(|work| {
            work.take_commands();
            work.advance_here(1)
        });
        let (Some(false), Some(work)) = (has_more, &self.work) else {
            return true;
        };
        let is_earlier = work
            .deadline()
            .is_some_and(|at| self.announced.is_none_or(|announced| at < announced));
        is_earlier || work.needs_the_thread()
    }
}

/// All that the I/O thread drives.
pub(crate) struct TaskSlots<W> {
    shared: Arc<Shared<W>>,
    all: Vec<Arc<Mutex<TaskSlot<W>>>>,
}

/// How long the I/O thread may wait, as everybody has been told.
pub(crate) struct Pause {
    is_asleep: bool,
    /// There is something to do already.
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

    /// Drive each once; true when one has more to do at once.
    pub(crate) fn drive(&mut self) -> bool {
        let mut has_more = false;
        self.all.retain(|driver| {
            let mut driver = driver.lock();
            has_more |= driver.drive();
            driver.work.is_some()
        });
        has_more
    }

    /// Say how long the thread is going to sleep; `watch` learns what it is to wait for. It
    /// must wait no longer, and `wake` it when it has waited.
    pub(crate) fn announce<'a>(
        &'a self,
        has_more: bool,
        mut watch: impl FnMut(&'a Arc<Mutex<TaskSlot<W>>>, &W),
    ) -> Pause {
        // First say that we sleep, then look once more: whoever comes later rings, or drives
        // and compares with what is announced here.
        let is_asleep = !has_more;
        self.shared.is_asleep.store(is_asleep, Ordering::SeqCst);
        let mut pause = Pause {
            is_asleep,
            is_due: has_more || self.shared.has_new_tasks(),
            until: None,
        };
        for driver in &self.all {
            let mut locked = driver.lock();
            let TaskSlot {
                work: Some(work),
                announced,
            } = &mut *locked
            else {
                pause.is_due = true;
                continue;
            };
            *announced = work.deadline();
            pause.until = [pause.until, *announced].into_iter().flatten().min();
            pause.is_due |= work.has_commands();
            watch(driver, work);
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
