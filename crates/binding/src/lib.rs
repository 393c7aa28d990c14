//! `libp2p_quic._engine`: the engine's types as Python classes.
//!
//! This crate only translates: bytes, integers, addresses and errors. It makes no decisions, never
//! waits for a peer, and returns `None` for "not ready yet". The contract, with its docstrings, is the stub
//! `_engine.pyi`.

mod address;
mod at_fork;
mod config;
mod connection;
mod endpoint;
mod error;
mod fork;
mod host_key;
mod inbound;
mod interpreter;
mod log;
mod ready_queue;
mod statistics;
mod stream;

use pyo3::prelude::*;

/// The Rust engine, in methods that never block.
#[pymodule(gil_used = false)]
mod _engine {
    #[pymodule_export]
    use super::{
        config::Config,
        connection::Connection,
        endpoint::{Endpoint, Identity, Listener},
        host_key::{ed25519_private_key, generate_private_key},
        inbound::Inbound,
        log::LogQueue,
        ready_queue::ReadyQueue,
        statistics::{process_statistics, time_bounds},
        stream::Stream,
    };

    use super::*;

    #[pymodule_init]
    fn init(module: &Bound<'_, PyModule>) -> PyResult<()> {
        super::interpreter::require_main(module.py())?;
        super::at_fork::watch_forks(module)?;
        super::log::install();
        module.add("__version__", env!("CARGO_PKG_VERSION"))
    }
}
