//! The queue of ready tokens of an event loop, and the token of each waiting method.

#[cfg(unix)]
use std::os::fd::{AsFd, AsRawFd, RawFd};
#[cfg(windows)]
use std::os::windows::io::{AsRawSocket, AsSocket, RawSocket};
use std::{
    sync::{Arc, OnceLock},
    task::{Context, Waker},
};

use libp2p_quic_engine as engine;
use pyo3::prelude::*;

use crate::{error::Error, fork::ForkGuard};

/// Collects the tokens of methods that became ready.
#[pyclass(frozen, module = "libp2p_quic._engine")]
pub(crate) struct ReadyQueue(pub(crate) ForkGuard<Arc<engine::ReadyQueue>>);

#[pymethods]
impl ReadyQueue {
    #[new]
    fn new() -> PyResult<Self> {
        Ok(Self(ForkGuard::new(engine::ReadyQueue::new()?)))
    }

    #[cfg(unix)]
    fn fileno(&self) -> Result<RawFd, Error> {
        Ok(self.0.endpoint()?.as_fd().as_raw_fd())
    }

    #[cfg(windows)]
    fn fileno(&self) -> Result<RawSocket, Error> {
        Ok(self.0.endpoint()?.as_socket().as_raw_socket())
    }

    fn drain(&self) -> Vec<u64> {
        let mut taken = Vec::new();
        // A forked child shares the parent's descriptor: draining would cost the parent a wake-up.
        if let Some(ready_queue) = self.0.get() {
            ready_queue.drain(&mut taken);
        }
        taken
    }
}

/// The token of one method, with its waker once the method has to wait.
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
