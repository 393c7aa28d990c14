//! The engine's errors as Python exceptions. Python defines the classes; the party, kind and code
//! become attributes.

use libp2p_quic_engine as engine;
use pyo3::{
    PyErr, PyTypeInfo,
    exceptions::{PyOSError, PyValueError},
    prelude::*,
    types::PyType,
};

pyo3::import_exception!(libp2p_quic._engine_errors, ConfigError);
pyo3::import_exception!(libp2p_quic._engine_errors, ConnectionLostError);
pyo3::import_exception!(libp2p_quic._engine_errors, EndpointClosedError);
pyo3::import_exception!(libp2p_quic._engine_errors, IdentityError);
pyo3::import_exception!(libp2p_quic._engine_errors, StreamClosedError);
pyo3::import_exception!(libp2p_quic._engine_errors, StreamResetError);
pyo3::import_exception!(libp2p_quic._engine_errors, StreamStoppedError);

/// The error type of all methods of this module; each engine error converts into it.
pub(crate) struct Error(PyErr);

impl From<Error> for PyErr {
    fn from(error: Error) -> Self {
        error.0
    }
}

impl From<PyErr> for Error {
    fn from(error: PyErr) -> Self {
        Self(error)
    }
}

pub(crate) fn party(by: engine::Party) -> &'static str {
    match by {
        engine::Party::Local => "local",
        engine::Party::Peer => "peer",
        engine::Party::Network => "network",
    }
}

pub(crate) fn kind(kind: engine::CloseKind) -> &'static str {
    use engine::CloseKind;
    match kind {
        CloseKind::Closed => "closed",
        CloseKind::HandshakeTimeout => "handshake_timeout",
        CloseKind::IdleTimeout => "idle_timeout",
        CloseKind::PeerIdMismatch => "peer_id_mismatch",
        CloseKind::Refused => "refused",
        CloseKind::StatelessReset => "stateless_reset",
        CloseKind::Transport => "transport",
        CloseKind::Unreachable => "unreachable",
        CloseKind::Version => "version",
        // Internal, and kinds that a later engine adds.
        _ => "internal",
    }
}

impl From<engine::ConnectionError> for Error {
    fn from(error: engine::ConnectionError) -> Self {
        let message = error.to_string();
        Self(ConnectionLostError::new_err((
            message,
            party(error.by),
            kind(error.kind),
            error.code,
            error.reason,
        )))
    }
}

impl From<engine::ReadError> for Error {
    fn from(error: engine::ReadError) -> Self {
        let message = error.to_string();
        match error {
            engine::ReadError::Reset(code) => Self(StreamResetError::new_err((message, code))),
            engine::ReadError::Closed => Self(StreamClosedError::new_err(message)),
            engine::ReadError::Lost(error) => error.into(),
        }
    }
}

impl From<engine::WriteError> for Error {
    fn from(error: engine::WriteError) -> Self {
        let message = error.to_string();
        match error {
            engine::WriteError::Stopped(code) => Self(StreamStoppedError::new_err((message, code))),
            engine::WriteError::Closed => Self(StreamClosedError::new_err(message)),
            engine::WriteError::Lost(error) => error.into(),
        }
    }
}

impl From<engine::Closed> for Error {
    fn from(error: engine::Closed) -> Self {
        Self(EndpointClosedError::new_err(error.to_string()))
    }
}

impl From<engine::PunchError> for Error {
    fn from(error: engine::PunchError) -> Self {
        match error {
            engine::PunchError::Closed(error) => error.into(),
            error => Self(PyValueError::new_err(error.to_string())),
        }
    }
}

impl From<engine::IdentityError> for Error {
    fn from(error: engine::IdentityError) -> Self {
        Self(IdentityError::new_err(error.to_string()))
    }
}

impl From<engine::EndpointError> for Error {
    fn from(error: engine::EndpointError) -> Self {
        match error {
            engine::EndpointError::Config(error) => {
                Self(ConfigError::new_err((error.to_string(), error.field)))
            }
            engine::EndpointError::Identity(error) => error.into(),
            // With its number, so that Python chooses the subclass and sets `errno`.
            engine::EndpointError::Io(error) => Self(match error.raw_os_error() {
                Some(number) => {
                    let text = error.to_string();
                    // Python adds the number itself.
                    let suffix = format!(" (os error {number})");
                    let text = text.strip_suffix(&suffix).unwrap_or(&text);
                    PyOSError::new_err((number, text.to_owned()))
                }
                None => error.into(),
            }),
            engine::EndpointError::Closed(error) => error.into(),
        }
    }
}

/// The exception for a configuration value that cannot be converted for the engine.
pub(crate) fn config(py: Python<'_>, field: &str, message: &str) -> PyErr {
    let class: Bound<'_, PyType> = ConfigError::type_object(py);
    PyErr::from_type(class, (message.to_owned(), field.to_owned()))
}
