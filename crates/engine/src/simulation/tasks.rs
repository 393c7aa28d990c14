//! The tasks of a test in a world. They are polled only when woken, in the order of waking, so
//! that a task never ends after a lost wake-up.

use std::{
    collections::VecDeque,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Wake, Waker},
};

use parking_lot::Mutex;

/// The number of the future that [`super::World::block_on`] waits for.
pub(super) const MAIN: usize = 0;

/// The woken tasks, each once.
#[derive(Default)]
pub(super) struct Woken(Mutex<VecDeque<usize>>);

impl Woken {
    pub(super) fn is_empty(&self) -> bool {
        self.0.lock().is_empty()
    }

    fn add(&self, task: usize) {
        let mut woken = self.0.lock();
        if !woken.contains(&task) {
            woken.push_back(task);
        }
    }

    fn next(&self) -> Option<usize> {
        self.0.lock().pop_front()
    }
}

struct Alarm {
    task: usize,
    woken: Arc<Woken>,
}

impl Wake for Alarm {
    fn wake(self: Arc<Self>) {
        self.woken.add(self.task);
    }
}

type Work = Pin<Box<dyn Future<Output = ()>>>;

/// The tasks of one world. Numbers count from one and are not reused.
#[derive(Default)]
pub(super) struct Tasks {
    work: Vec<Option<Work>>,
    pub(super) woken: Arc<Woken>,
}

impl Tasks {
    pub(super) fn waker(&self, task: usize) -> Waker {
        Waker::from(Arc::new(Alarm {
            task,
            woken: self.woken.clone(),
        }))
    }

    pub(super) fn spawn<T: 'static>(&mut self, work: impl Future<Output = T> + 'static) -> Task<T> {
        let outcome = Arc::new(Mutex::new(Outcome {
            value: None,
            is_done: false,
            waiter: None,
        }));
        let theirs = outcome.clone();
        self.work.push(Some(Box::pin(async move {
            let value = work.await;
            let mut outcome = theirs.lock();
            outcome.value = Some(value);
            outcome.is_done = true;
            if let Some(waiter) = outcome.waiter.take() {
                waiter.wake();
            }
        })));
        self.woken.add(self.work.len());
        Task(outcome)
    }

    /// Poll the next woken task and return its number; `None` when no task was woken. The caller
    /// polls the future itself when the number is [`MAIN`].
    pub(super) fn run_one(&mut self) -> Option<usize> {
        let task = self.woken.next()?;
        if task != MAIN
            && let Some(slot) = self.work.get_mut(task - 1)
            && let Some(mut work) = slot.take()
        {
            let waker = self.waker(task);
            if work
                .as_mut()
                .poll(&mut Context::from_waker(&waker))
                .is_pending()
            {
                self.work[task - 1] = Some(work);
            }
        }
        Some(task)
    }

    /// Drop every task.
    pub(super) fn clear(&mut self) {
        self.work.clear();
    }
}

struct Outcome<T> {
    value: Option<T>,
    is_done: bool,
    waiter: Option<Waker>,
}

/// A task of a world; awaiting it gives its value. Dropping this does not stop it.
pub struct Task<T>(Arc<Mutex<Outcome<T>>>);

impl<T> Task<T> {
    /// Whether it has ended.
    pub fn is_done(&self) -> bool {
        self.0.lock().is_done
    }
}

impl<T> Future for Task<T> {
    type Output = T;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<T> {
        let mut outcome = self.0.lock();
        match outcome.value.take() {
            Some(value) => Poll::Ready(value),
            None => {
                outcome.waiter = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }
}
