//! The engine's counters as dicts, whose keys are the names of the engine's fields.

use libp2p_quic_engine as engine;
use pyo3::{intern, prelude::*, types::PyDict};

use crate::error::{kind, party};

/// Set items of a dict from fields of the same name. The names are made once in a process, as a node
/// asks for thousands of connections each second.
macro_rules! set {
    ($dict:ident, $from:ident: $($name:ident),*) => {
        $($dict.set_item(intern!($dict.py(), stringify!($name)), $from.$name)?;)*
    };
}

/// The counters of a connection.
pub(crate) fn of_connection<'py>(
    py: Python<'py>,
    counted: &engine::Statistics,
) -> PyResult<Bound<'py, PyDict>> {
    let dict = PyDict::new(py);
    for (name, time) in [
        (intern!(py, "rtt"), counted.rtt),
        (intern!(py, "min_rtt"), counted.min_rtt),
        (intern!(py, "handshake"), counted.handshake),
    ] {
        dict.set_item(name, time.as_secs_f64())?;
    }
    for (name, time) in [
        (intern!(py, "initial_sent"), counted.initial_sent),
        (intern!(py, "first_answer"), counted.first_answer),
        (intern!(py, "server_hello"), counted.server_hello),
        (intern!(py, "confirmed"), counted.confirmed),
    ] {
        dict.set_item(name, time.map(|time| time.as_secs_f64()))?;
    }
    let ecn = match counted.ecn {
        engine::EcnState::Testing => intern!(py, "testing"),
        engine::EcnState::Unknown => intern!(py, "unknown"),
        engine::EcnState::Capable => intern!(py, "capable"),
        engine::EcnState::Failed => intern!(py, "failed"),
    };
    dict.set_item(intern!(py, "ecn"), ecn)?;
    set!(dict, counted: congestion_window, mtu, bytes_sent, bytes_received, datagrams_sent,
        datagrams_received, sends, packets_sent, packets_lost, bytes_lost, congestion_events,
        black_holes, keep_alives_sent, migrations, streams_open, streams_waiting, streams_opened,
        streams_accepted, receive_window, receive_held);
    Ok(dict)
}

/// The counters of an endpoint.
pub(crate) fn of_endpoint<'py>(
    py: Python<'py>,
    counted: &engine::EndpointStatistics,
) -> PyResult<Bound<'py, PyDict>> {
    let dict = PyDict::new(py);
    for (name, value) in counted.counters() {
        dict.set_item(name, value)?;
    }
    set!(dict, counted: receive_budget, receive_reserved, send_budget, send_reserved);
    for (name, times) in [
        ("handshake_times", &counted.handshake_times),
        (
            "webtransport_handshake_times",
            &counted.webtransport_handshake_times,
        ),
        ("round_trip_times", &counted.round_trip_times),
    ] {
        dict.set_item(name, (times.buckets.to_vec(), times.sum.as_secs_f64()))?;
    }
    let closed = PyDict::new(py);
    for (by, kinds) in engine::Party::ALL.iter().zip(counted.connections_closed) {
        for (how, count) in engine::CloseKind::ALL.iter().zip(kinds) {
            closed.set_item((party(*by), kind(*how)), count)?;
        }
    }
    dict.set_item("connections_closed", closed)?;
    Ok(dict)
}

/// The upper bounds of the buckets of times, in seconds; the last bucket has none.
#[pyfunction]
pub(crate) fn time_bounds() -> Vec<f64> {
    let bounds = engine::Distribution::BOUNDS.iter();
    bounds.map(std::time::Duration::as_secs_f64).collect()
}

/// The counters of the process: the sums of its endpoints, and what they share.
#[pyfunction]
pub(crate) fn process_statistics(py: Python<'_>) -> PyResult<Bound<'_, PyDict>> {
    let counted = engine::process_statistics();
    let dict = of_endpoint(py, &counted.endpoints)?;
    set!(dict, counted: buffers_kept, waits);
    Ok(dict)
}
