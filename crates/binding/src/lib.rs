//! `libp2p_quic._engine`: the engine's nouns as Python classes.
//!
//! The law of this room: translation only. Bytes, integers, addresses and errors cross here
//! and nothing is decided. No loops, no waiting, no libp2p words; "not yet" is `None`.
//! The contract, with its docstrings, is the stub `_engine.pyi`.

mod config;
mod connection;
mod endpoint;
mod error;
mod fork;
mod log;
mod ready_queue;
mod stream;

use pyo3::prelude::*;

/// The Rust engine, in verbs that never block.
#[pymodule(gil_used = false)]
mod _engine {
    #[pymodule_export]
    use super::{
        config::Config,
        connection::Connection,
        endpoint::{Endpoint, Identity, Listener},
        log::LogQueue,
        ready_queue::ReadyQueue,
        stream::Stream,
    };

    use super::*;

    #[pymodule_init]
    fn init(module: &Bound<'_, PyModule>) -> PyResult<()> {
        super::fork::watch_forks(module)?;
        super::log::install();
        module.add("__version__", env!("CARGO_PKG_VERSION"))
    }
}
