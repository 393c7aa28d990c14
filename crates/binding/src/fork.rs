//! What belongs to one process only. A fork copies handles into the child, but not the thread
//! behind them, and whatever that thread had locked stays locked there. So in a child no
//! handle of the parent is touched, not even to drop it: verbs fail at once or do nothing.

use std::{
    mem,
    sync::atomic::{AtomicU64, Ordering},
};

use libp2p_quic_engine as engine;
use pyo3::{prelude::*, types::PyDict};

use crate::{
    error::{ConnectionLostError, EndpointClosedError, Error},
    log,
};

/// How often this process, or one that it comes from, was the child of a fork.
static FORKS: AtomicU64 = AtomicU64::new(0);

const WHY: &str = "it belongs to the process that this one was forked from";

/// A handle of the engine, and which process made it.
pub(crate) struct ForkGuard<T> {
    /// Absent only while it is dropped.
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

    /// `None` in a child of the process that made it.
    pub(crate) fn get(&self) -> Option<&T> {
        let is_here = self.forks == FORKS.load(Ordering::Relaxed);
        self.value.as_ref().filter(|_| is_here)
    }

    /// A connection or a stream, for a verb that fails where it is not.
    pub(crate) fn connection(&self) -> Result<&T, Error> {
        self.get().ok_or_else(lost)
    }

    /// An endpoint or a listener, for a verb that fails where it is not.
    pub(crate) fn endpoint(&self) -> Result<&T, Error> {
        self.get()
            .ok_or_else(|| EndpointClosedError::new_err(WHY).into())
    }
}

impl<T> Drop for ForkGuard<T> {
    fn drop(&mut self) {
        if self.get().is_none() {
            // Its memory goes with the process.
            mem::forget(self.value.take());
        }
    }
}

/// How a connection ended in a child.
pub(crate) fn lost() -> Error {
    let words = format!("connection lost: {WHY}");
    ConnectionLostError::new_err((words, "local", "forked", None::<u64>, WHY)).into()
}

/// Python calls this in every child of a fork, before anything else runs there.
#[pyfunction]
fn forked() {
    FORKS.fetch_add(1, Ordering::Relaxed);
    engine::forget_the_thread();
    log::forget();
}

/// Have Python tell of forks.
pub(crate) fn watch_forks(module: &Bound<'_, PyModule>) -> PyResult<()> {
    let py = module.py();
    let arguments = PyDict::new(py);
    arguments.set_item("after_in_child", wrap_pyfunction!(forked, module)?)?;
    let os = py.import("os")?;
    os.call_method("register_at_fork", (), Some(&arguments))?;
    Ok(())
}
