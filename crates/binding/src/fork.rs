//! Handles that belong to one process. A fork copies them into the child, but not the I/O thread,
//! and locks that the thread held stay locked there. A child therefore does not use the parent's
//! handles, not even to drop them: methods fail at once or do nothing.

use std::{
    mem,
    sync::atomic::{AtomicU64, Ordering},
};

use crate::error::{ConnectionLostError, EndpointClosedError, Error};

/// The number of forks between the first process and this one.
static FORKS: AtomicU64 = AtomicU64::new(0);

const WHY: &str = "it belongs to the process that this one was forked from";

/// A handle of the engine that only the process that created it can use.
pub(crate) struct ForkGuard<T> {
    /// `None` only while the guard is dropped.
    value: Option<T>,
    forks: u64,
}

impl<T> ForkGuard<T> {
    pub(crate) fn new(value: T) -> Self {
        Self {
            value: Some(value),
            forks: FORKS.load(Ordering::Relaxed),
        }
    }

    /// The handle; `None` in a child of the process that created it.
    pub(crate) fn get(&self) -> Option<&T> {
        let is_here = self.forks == FORKS.load(Ordering::Relaxed);
        self.value.as_ref().filter(|_| is_here)
    }

    /// The handle of a connection or stream, or [`ConnectionLostError`] in a child.
    pub(crate) fn connection(&self) -> Result<&T, Error> {
        self.get().ok_or_else(lost)
    }

    /// The handle of an endpoint, listener or queue, or [`EndpointClosedError`] in a child.
    pub(crate) fn endpoint(&self) -> Result<&T, Error> {
        self.get()
            .ok_or_else(|| EndpointClosedError::new_err(WHY).into())
    }
}

impl<T> Drop for ForkGuard<T> {
    fn drop(&mut self) {
        if self.get().is_none() {
            // The memory is freed when the process ends.
            mem::forget(self.value.take());
        }
    }
}

/// The error of connections and streams in a child.
pub(crate) fn lost() -> Error {
    let message = format!("connection lost: {WHY}");
    ConnectionLostError::new_err((message, "local", "forked", None::<u64>, WHY)).into()
}

/// This process is the child of a fork: the handles of its parent are not its own.
pub(crate) fn note_fork() {
    FORKS.fetch_add(1, Ordering::Relaxed);
}
