//! Identities, endpoints and listeners as Python classes, with a token for each method that waits.

use std::{sync::Arc, task::Poll};

use libp2p_quic_engine as engine;
use pyo3::{
    exceptions::PyValueError,
    prelude::*,
    types::{PyBytes, PyDict},
};

use crate::{
    address::{duration, host_and_port, socket_addr},
    config::Config,
    connection::Connection,
    error::Error,
    fork::ForkGuard,
    inbound::Inbound,
    ready_queue::{ReadyQueue, Token},
    statistics,
};

/// A libp2p host key and the TLS certificate made for it.
#[pyclass(frozen, module = "libp2p_quic._engine")]
pub(crate) struct Identity(engine::Identity);

#[pymethods]
impl Identity {
    #[new]
    fn new(private_key: &[u8]) -> Result<Self, Error> {
        Ok(Self(engine::Identity::from_protobuf(private_key)?))
    }

    #[getter]
    fn peer_id<'py>(&self, py: Python<'py>) -> Bound<'py, PyBytes> {
        PyBytes::new(py, &self.0.peer_id().to_bytes())
    }

    #[getter]
    fn public_key<'py>(&self, py: Python<'py>) -> Bound<'py, PyBytes> {
        PyBytes::new(py, &self.0.public_key().encode_protobuf())
    }
}

/// One identity with its sockets.
#[pyclass(frozen, module = "libp2p_quic._engine")]
pub(crate) struct Endpoint {
    endpoint: ForkGuard<engine::Endpoint>,
    ready_queue: Arc<engine::ReadyQueue>,
    closed: Token,
}

fn peer_id_of(bytes: &[u8]) -> PyResult<engine::PeerId> {
    engine::PeerId::from_bytes(bytes)
        .map_err(|e| PyValueError::new_err(format!("not a peer id: {e}")))
}

fn certificate_hashes_of(hashes: &[Vec<u8>]) -> PyResult<Vec<engine::CertificateHash>> {
    let hash = |bytes: &Vec<u8>| {
        bytes[..].try_into().map_err(|_| {
            PyValueError::new_err("a certificate hash is a SHA-256 multihash of 34 bytes")
        })
    };
    hashes.iter().map(hash).collect()
}

#[pymethods]
impl Endpoint {
    #[new]
    fn new(identity: &Identity, config: &Config, ready_queue: &ReadyQueue) -> Result<Self, Error> {
        let ready_queue = ready_queue.0.endpoint()?;
        let endpoint =
            engine::Endpoint::with_ready_queue(&identity.0, config.0.clone(), ready_queue)?;
        Ok(Self {
            endpoint: ForkGuard::new(endpoint),
            closed: Token::new(ready_queue),
            ready_queue: ready_queue.clone(),
        })
    }

    fn listen(&self, host: &str, port: u16) -> Result<Listener, Error> {
        let listener = self.endpoint.endpoint()?.listen(socket_addr(host, port)?)?;
        Ok(Listener {
            local_address: host_and_port(listener.local_addr()),
            listener: ForkGuard::new(listener),
            acceptable: Token::new(&self.ready_queue),
            ready_queue: self.ready_queue.clone(),
        })
    }

    #[pyo3(signature = (host, port, peer_id, fresh_port = false, punched_rtt = None, certificate_hashes = None))]
    fn connect(
        &self,
        host: &str,
        port: u16,
        peer_id: Option<&[u8]>,
        fresh_port: bool,
        punched_rtt: Option<f64>,
        certificate_hashes: Option<Vec<Vec<u8>>>,
    ) -> Result<Connection, Error> {
        let mode = match (fresh_port, punched_rtt) {
            (false, None) => engine::DialMode::Plain,
            (true, None) => engine::DialMode::FreshPort,
            (false, Some(rtt)) => engine::DialMode::Punched {
                rtt: duration(rtt)?,
            },
            (true, Some(_)) => {
                let why = "a hole is punched for the listening port, not for a fresh one";
                return Err(PyValueError::new_err(why).into());
            }
        };
        let (remote, peer) = (
            socket_addr(host, port)?,
            peer_id.map(peer_id_of).transpose()?,
        );
        let endpoint = self.endpoint.endpoint()?;
        let connection = match (certificate_hashes, mode) {
            (None, mode) => endpoint.connect_as(remote, peer, mode)?,
            (Some(hashes), engine::DialMode::Plain) => {
                endpoint.connect_webtransport(remote, peer, certificate_hashes_of(&hashes)?)?
            }
            (Some(_), _) => {
                let why =
                    "a dial over WebTransport leaves from the listening port, without a hole punch";
                return Err(PyValueError::new_err(why).into());
            }
        };
        Ok(Connection::new(connection, &self.ready_queue))
    }

    fn certificate_hashes<'py>(
        &self,
        py: Python<'py>,
    ) -> Result<(Bound<'py, PyBytes>, Bound<'py, PyBytes>), Error> {
        let [current, next] = self.endpoint.endpoint()?.certificate_hashes()?;
        Ok((PyBytes::new(py, &current), PyBytes::new(py, &next)))
    }

    fn next_inbound(&self, peer_id: &[u8]) -> Result<Inbound, Error> {
        let inbound = self.endpoint.endpoint()?.next_inbound(peer_id_of(peer_id)?);
        Ok(Inbound::new(inbound, &self.ready_queue))
    }

    fn deny(&self, addresses: Vec<String>) -> Result<(), Error> {
        let prefixes: Result<Vec<engine::Prefix>, _> =
            addresses.iter().map(|text| text.parse()).collect();
        let prefixes = prefixes.map_err(|e| PyValueError::new_err(e.to_string()))?;
        self.endpoint.endpoint()?.deny(prefixes);
        Ok(())
    }

    fn flush(&self, py: Python<'_>) {
        if let Some(endpoint) = self.endpoint.get() {
            py.detach(|| endpoint.flush());
        }
    }

    fn close(&self, py: Python<'_>, code: u64, reason: &[u8]) {
        if let Some(endpoint) = self.endpoint.get() {
            py.detach(|| endpoint.close(code, reason));
        }
    }

    fn census<'py>(&self, py: Python<'py>) -> Result<Bound<'py, PyDict>, Error> {
        let endpoint = self.endpoint.endpoint()?;
        let census = py.detach(|| endpoint.census());
        let dict = PyDict::new(py);
        for (name, value) in [
            ("connections", census.quic_connections as u64),
            ("handshakes", census.inbound_handshakes as u64),
            ("streams", census.streams as u64),
            ("promised", census.promised),
            ("unacked", census.unacked),
            ("kept", census.kept as u64),
        ] {
            dict.set_item(name, value)?;
        }
        Ok(dict)
    }

    fn statistics<'py>(&self, py: Python<'py>) -> Result<Bound<'py, PyDict>, Error> {
        let counted = self.endpoint.endpoint()?.statistics();
        Ok(statistics::of_endpoint(py, &counted)?)
    }

    #[getter]
    fn closed(&self) -> u64 {
        self.closed.number
    }

    fn closed_nowait(&self) -> Option<bool> {
        // In a forked child nothing of it is open.
        let Some(endpoint) = self.endpoint.get() else {
            return Some(true);
        };
        match endpoint.poll_closed(&mut self.closed.context()) {
            Poll::Ready(()) => Some(true),
            Poll::Pending => None,
        }
    }
}

/// A socket that accepts connections.
#[pyclass(frozen, module = "libp2p_quic._engine")]
pub(crate) struct Listener {
    listener: ForkGuard<engine::Listener>,
    local_address: (String, u16),
    ready_queue: Arc<engine::ReadyQueue>,
    acceptable: Token,
}

#[pymethods]
impl Listener {
    #[getter]
    fn acceptable(&self) -> u64 {
        self.acceptable.number
    }

    #[getter]
    fn local_address(&self) -> (String, u16) {
        self.local_address.clone()
    }

    #[getter]
    fn limitation(&self) -> Result<Option<String>, Error> {
        Ok(self.listener.endpoint()?.limitation())
    }

    fn serve_webtransport(&self, is_served: bool) -> Result<(), Error> {
        self.listener.endpoint()?.serve_webtransport(is_served);
        Ok(())
    }

    fn accept_nowait(&self) -> Result<Option<Connection>, Error> {
        match self
            .listener
            .endpoint()?
            .poll_accept(&mut self.acceptable.context())
        {
            Poll::Ready(connection) => Ok(Some(Connection::new(connection?, &self.ready_queue))),
            Poll::Pending => Ok(None),
        }
    }

    fn close(&self) {
        if let Some(listener) = self.listener.get() {
            listener.close();
        }
    }

    fn statistics<'py>(&self, py: Python<'py>) -> Result<Bound<'py, PyDict>, Error> {
        let statistics = self.listener.endpoint()?.statistics();
        let dict = PyDict::new(py);
        for (name, value) in [
            ("handshakes_started", statistics.handshakes_started),
            ("handshakes_failed", statistics.handshakes_failed),
            ("handshakes_refused", statistics.handshakes_refused),
            ("connections_accepted", statistics.connections_accepted),
            ("connections_refused", statistics.connections_refused),
            ("retries_sent", statistics.retries_sent),
            ("resets_sent", statistics.resets_sent),
            ("resets_suppressed", statistics.resets_suppressed),
            ("datagrams_received", statistics.datagrams_received),
            ("bytes_received", statistics.bytes_received),
            ("datagrams_unanswerable", statistics.datagrams_unanswerable),
            ("backlog", statistics.backlog as u64),
        ] {
            dict.set_item(name, value)?;
        }
        Ok(dict)
    }
}
