//! Streams. Bytes are copied once each way: from the datagrams' buffers into a new `bytes`
//! object, and from the caller's `bytes` into the write buffer. No Python object is retained.

use std::{
    sync::Arc,
    task::{Context, Poll, Waker},
};

use libp2p_quic_engine as engine;
use pyo3::{exceptions::PyValueError, prelude::*, types::PyBytes};

use crate::{error::Error, fork::ForkGuard, ready_queue::Token};

/// One bidirectional stream.
#[pyclass(frozen, module = "libp2p_quic._engine")]
pub(crate) struct Stream {
    stream: ForkGuard<engine::Stream>,
    /// Known in a forked child too.
    id: u64,
    readable: Token,
    writable: Token,
    finished: Token,
}

impl Stream {
    pub(crate) fn new(stream: engine::Stream, ready_queue: &Arc<engine::ReadyQueue>) -> Self {
        Self {
            id: stream.id(),
            stream: ForkGuard::new(stream),
            readable: Token::new(ready_queue),
            writable: Token::new(ready_queue),
            finished: Token::new(ready_queue),
        }
    }
}

#[pymethods]
impl Stream {
    #[getter]
    fn readable(&self) -> u64 {
        self.readable.number
    }

    #[getter]
    fn writable(&self) -> u64 {
        self.writable.number
    }

    #[getter]
    fn finished(&self) -> u64 {
        self.finished.number
    }

    #[getter]
    fn id(&self) -> u64 {
        self.id
    }

    #[pyo3(signature = (max_bytes, registers = true))]
    fn read_nowait<'py>(
        &self,
        py: Python<'py>,
        max_bytes: usize,
        registers: bool,
    ) -> Result<Option<Bound<'py, PyBytes>>, Error> {
        if max_bytes == 0 {
            // An empty result would look like the end of the stream.
            return Err(PyValueError::new_err("max_bytes must be at least 1").into());
        }
        let mut chunks = Vec::new();
        let mut context = match registers {
            true => self.readable.context(),
            false => Context::from_waker(Waker::noop()),
        };
        let read = self
            .stream
            .connection()?
            .poll_read_chunks(&mut context, max_bytes, &mut chunks);
        let len = match read {
            Poll::Ready(len) => len?,
            Poll::Pending => return Ok(None),
        };
        let bytes = PyBytes::new_with(py, len, |mut rest| {
            for chunk in &chunks {
                let (head, tail) = rest.split_at_mut(chunk.len());
                head.copy_from_slice(chunk);
                rest = tail;
            }
            Ok(())
        })?;
        Ok(Some(bytes))
    }

    #[pyo3(signature = (data, start = 0))]
    fn write_nowait(&self, data: &[u8], start: usize) -> Result<Option<usize>, Error> {
        let data = data.get(start..).unwrap_or_default();
        match self
            .stream
            .connection()?
            .poll_write(&mut self.writable.context(), data)
        {
            Poll::Ready(written) => Ok(Some(written?)),
            Poll::Pending => Ok(None),
        }
    }

    fn finish(&self) {
        if let Some(stream) = self.stream.get() {
            stream.finish();
        }
    }

    fn reset(&self, code: u64) {
        if let Some(stream) = self.stream.get() {
            stream.reset(code);
        }
    }

    fn stop(&self, code: u64) {
        if let Some(stream) = self.stream.get() {
            stream.stop(code);
        }
    }

    fn finished_nowait(&self) -> Result<Option<bool>, Error> {
        match self
            .stream
            .connection()?
            .poll_finished(&mut self.finished.context())
        {
            Poll::Ready(outcome) => Ok(Some(outcome.map(|()| true)?)),
            Poll::Pending => Ok(None),
        }
    }
}
