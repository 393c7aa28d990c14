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
    #[pyo3(signature = (receives = false))]
    fn new(receives: bool) -> PyResult<Self> {
        let ready_queue = match receives {
            true => engine::ReadyQueue::receiving()?,
            false => engine::ReadyQueue::new()?,
        };
        Ok(Self(ForkGuard::new(ready_queue)))
    }

    #[cfg(unix)]
    fn fileno(&self) -> Result<RawFd, Error> {
        Ok(self.0.endpoint()?.as_fd().as_raw_fd())
    }

    #[cfg(windows)]
    fn fileno(&self) -> Result<RawSocket, Error> {
        Ok(self.0.endpoint()?.as_socket().as_raw_socket())
    }

    #[getter]
    fn is_receiver(&self) -> bool {
        self.0
            .get()
            .is_some_and(|ready_queue| ready_queue.is_receiver())
    }

    #[pyo3(signature = (in_pass = false))]
    fn drain(&self, py: Python<'_>, in_pass: bool) -> Vec<u64> {
        let mut taken = Vec::new();
        // A forked child shares the parent's descriptors: draining would cost the parent a wake-up
        // or a datagram.
        if let Some(ready_queue) = self.0.get() {
            let drain = |taken: &mut Vec<u64>| match in_pass {
                true => ready_queue.drain_in_pass(taken),
                false => ready_queue.drain(taken),
            };
            match ready_queue.is_receiver() {
                true => py.detach(|| drain(&mut taken)),
                false => drain(&mut taken),
            }
        }
        taken
    }

    fn before_wait(&self) {
        // The child of a fork would wake the parent's loop.
        if let Some(ready_queue) = self.0.get() {
            ready_queue.before_wait();
        }
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
