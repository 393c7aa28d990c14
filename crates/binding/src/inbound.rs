//! The wait for a peer's inbound connection, and the punches that let it in.

use std::{sync::Arc, task::Poll};

use libp2p_quic_engine as engine;
use parking_lot::Mutex;
use pyo3::prelude::*;

use crate::{
    address::{duration, host_and_port, socket_addr},
    error::{EndpointClosedError, Error},
    fork::ForkGuard,
    ready_queue::Token,
};

/// Waits for the next inbound connection of one peer.
#[pyclass(frozen, module = "libp2p_quic._engine")]
pub(crate) struct Inbound {
    /// `None` once Python closed it: its end must not wait for the garbage collector.
    inbound: Mutex<Option<ForkGuard<engine::Inbound>>>,
    arrived: Token,
}

impl Inbound {
    pub(crate) fn new(inbound: engine::Inbound, ready_queue: &Arc<engine::ReadyQueue>) -> Self {
        Self {
            inbound: Mutex::new(Some(ForkGuard::new(inbound))),
            arrived: Token::new(ready_queue),
        }
    }

    fn with<T>(&self, call: impl FnOnce(&engine::Inbound) -> Result<T, Error>) -> Result<T, Error> {
        match &*self.inbound.lock() {
            Some(inbound) => call(inbound.endpoint()?),
            None => Err(EndpointClosedError::new_err("the wait was closed").into()),
        }
    }
}

#[pymethods]
impl Inbound {
    #[getter]
    fn arrived(&self) -> u64 {
        self.arrived.number
    }

    fn arrived_nowait(&self) -> Result<Option<(String, u16)>, Error> {
        self.with(
            |inbound| match inbound.poll_arrived(&mut self.arrived.context()) {
                Poll::Ready(remote) => Ok(Some(host_and_port(remote?))),
                Poll::Pending => Ok(None),
            },
        )
    }

    fn punch(&self, host: &str, port: u16, seconds: f64) -> Result<(), Error> {
        let remote = socket_addr(host, port)?;
        let lasting = duration(seconds)?;
        self.with(|inbound| Ok(inbound.punch(remote, lasting)?))
    }

    fn close(&self) {
        self.inbound.lock().take();
    }
}
