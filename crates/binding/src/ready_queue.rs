//! The ready_queue of an event loop, and the tokens that verbs leave in it.

use std::{
    os::fd::{AsFd, AsRawFd},
    sync::{Arc, OnceLock},
    task::{Context, Waker},
};

use libp2p_quic_engine as engine;
use pyo3::prelude::*;

use crate::{error::Error, fork::ForkGuard};

/// Where tokens of things that became ready are collected.
#[pyclass(frozen, module = "libp2p_quic._engine")]
pub(crate) struct ReadyQueue(pub(crate) ForkGuard<Arc<engine::ReadyQueue>>);

#[pymethods]
impl ReadyQueue {
    #[new]
    fn new() -> PyResult<Self> {
        Ok(Self(ForkGuard::new(engine::ReadyQueue::new()?)))
    }

    fn fileno(&self) -> Result<i32, Error> {
        Ok(self.0.endpoint()?.as_fd().as_raw_fd())
    }

    fn drain(&self) -> Vec<u64> {
        let mut taken = Vec::new();
        // In a child it is the parent's, and silencing it would cost the parent a wake-up.
        if let Some(ready_queue) = self.0.get() {
            ready_queue.drain(&mut taken);
        }
        taken
    }
}

/// What one verb waits for: a token, and its waker once someone waits.
pub(crate) struct Token {
    pub(crate) number: u64,
    ready_queue: Arc<engine::ReadyQueue>,
    waker: OnceLock<Waker>,
}

impl Token {
    pub(crate) fn new(ready_queue: &Arc<engine::ReadyQueue>) -> Self {
        Self {
            number: ready_queue.token(),
            ready_queue: ready_queue.clone(),
            waker: OnceLock::new(),
        }
    }

    pub(crate) fn context(&self) -> Context<'_> {
        Context::from_waker(
            self.waker
                .get_or_init(|| self.ready_queue.waker(self.number)),
        )
    }
}
