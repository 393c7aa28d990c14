//! Connections as a Python class, with a token for each method that waits.

use std::{sync::Arc, task::Poll};

use libp2p_quic_engine as engine;
use pyo3::{
    prelude::*,
    types::{PyBytes, PyDict},
};

use crate::{
    address::host_and_port,
    error::Error,
    fork::{self, ForkGuard},
    ready_queue::Token,
    statistics,
    stream::Stream,
};

/// Not before, not after, serial number, and type of the key of a certificate.
type Certificate<'py> = (i64, i64, Bound<'py, PyBytes>, String);

/// A QUIC connection.
#[pyclass(frozen, module = "libp2p_quic._engine")]
pub(crate) struct Connection {
    connection: ForkGuard<engine::Connection>,
    ready_queue: Arc<engine::ReadyQueue>,
    connected: Token,
    openable: Token,
    acceptable: Token,
    closed: Token,
}

impl Connection {
    pub(crate) fn new(
        connection: engine::Connection,
        ready_queue: &Arc<engine::ReadyQueue>,
    ) -> Self {
        Self {
            connection: ForkGuard::new(connection),
            ready_queue: ready_queue.clone(),
            connected: Token::new(ready_queue),
            openable: Token::new(ready_queue),
            acceptable: Token::new(ready_queue),
            closed: Token::new(ready_queue),
        }
    }
}

#[pymethods]
impl Connection {
    #[getter]
    fn connected(&self) -> u64 {
        self.connected.number
    }

    #[getter]
    fn openable(&self) -> u64 {
        self.openable.number
    }

    #[getter]
    fn acceptable(&self) -> u64 {
        self.acceptable.number
    }

    #[getter]
    fn closed(&self) -> u64 {
        self.closed.number
    }

    #[getter]
    fn peer_id<'py>(&self, py: Python<'py>) -> Result<Option<Bound<'py, PyBytes>>, Error> {
        let id = self.connection.connection()?.peer_id();
        Ok(id.map(|id| PyBytes::new(py, &id.to_bytes())))
    }

    #[getter]
    fn public_key<'py>(&self, py: Python<'py>) -> Result<Option<Bound<'py, PyBytes>>, Error> {
        let key = self.connection.connection()?.public_key();
        Ok(key.map(|key| PyBytes::new(py, &key.encode_protobuf())))
    }

    #[getter]
    fn tls(&self) -> Result<Option<(&'static str, &'static str, String)>, Error> {
        let tls = self.connection.connection()?.tls();
        Ok(tls.map(|it| {
            let alpn = String::from_utf8_lossy(&it.alpn).into_owned();
            (it.cipher_suite, it.key_exchange, alpn)
        }))
    }

    #[getter]
    fn certificate<'py>(&self, py: Python<'py>) -> Result<Option<Certificate<'py>>, Error> {
        let tls = self.connection.connection()?.tls();
        Ok(tls.and_then(|it| it.certificate).map(|it| {
            let serial = PyBytes::new(py, &it.serial);
            (it.not_before, it.not_after, serial, it.key.to_string())
        }))
    }

    #[getter]
    fn is_webtransport(&self) -> Result<bool, Error> {
        Ok(self.connection.connection()?.is_webtransport())
    }

    #[getter]
    fn is_initiator(&self) -> Result<bool, Error> {
        Ok(self.connection.connection()?.is_initiator())
    }

    #[getter]
    fn is_port_unreachable(&self) -> Result<bool, Error> {
        Ok(self.connection.connection()?.is_port_unreachable())
    }

    #[getter]
    fn remote_address(&self) -> Result<(String, u16), Error> {
        Ok(host_and_port(self.connection.connection()?.remote_addr()))
    }

    #[getter]
    fn local_address(&self) -> Result<(String, u16), Error> {
        Ok(host_and_port(self.connection.connection()?.local_addr()))
    }

    fn connected_nowait(&self) -> Result<Option<bool>, Error> {
        match self
            .connection
            .connection()?
            .poll_connected(&mut self.connected.context())
        {
            Poll::Ready(outcome) => Ok(Some(outcome.map(|()| true)?)),
            Poll::Pending => Ok(None),
        }
    }

    fn open_stream_nowait(&self) -> Result<Option<Stream>, Error> {
        match self
            .connection
            .connection()?
            .poll_open(&mut self.openable.context())
        {
            Poll::Ready(stream) => Ok(Some(Stream::new(stream?, &self.ready_queue))),
            Poll::Pending => Ok(None),
        }
    }

    fn want_streams(&self, tasks: usize) -> Result<(), Error> {
        self.connection.connection()?.want_streams(tasks);
        Ok(())
    }

    fn accept_stream_nowait(&self) -> Result<Option<Stream>, Error> {
        match self
            .connection
            .connection()?
            .poll_accept(&mut self.acceptable.context())
        {
            Poll::Ready(stream) => Ok(Some(Stream::new(stream?, &self.ready_queue))),
            Poll::Pending => Ok(None),
        }
    }

    fn closed_nowait(&self) -> Option<PyErr> {
        let Some(connection) = self.connection.get() else {
            return Some(fork::lost().into());
        };
        match connection.poll_closed(&mut self.closed.context()) {
            Poll::Ready(error) => Some(Error::from(error).into()),
            Poll::Pending => None,
        }
    }

    fn unconnected(&self) -> Result<Option<PyErr>, Error> {
        let error = self.connection.connection()?.unconnected();
        Ok(error.map(|error| Error::from(error).into()))
    }

    fn close(&self, code: u64, reason: &[u8]) {
        if let Some(connection) = self.connection.get() {
            connection.close(code, reason);
        }
    }

    fn statistics<'py>(&self, py: Python<'py>) -> Result<Bound<'py, PyDict>, Error> {
        let counted = self.connection.connection()?.statistics();
        Ok(statistics::of_connection(py, &counted)?)
    }
}
