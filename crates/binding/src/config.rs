//! An endpoint's configuration: sets fields of the engine's by name, in Python's types. The defaults
//! are the engine's.

use std::time::Duration;

use libp2p_quic_engine as engine;
use pyo3::{exceptions::PyTypeError, prelude::*, types::PyDict};

use crate::error;

/// Limits and timeouts of an endpoint.
#[pyclass(frozen, module = "libp2p_quic._engine")]
pub(crate) struct Config(pub(crate) engine::Config);

/// The values of `congestion_control`.
const ALGORITHMS: [(&str, engine::CongestionControl); 3] = [
    ("bbr", engine::CongestionControl::Bbr),
    ("cubic", engine::CongestionControl::Cubic),
    ("newreno", engine::CongestionControl::NewReno),
];

fn seconds(field: &str, value: &Bound<'_, PyAny>) -> PyResult<Duration> {
    let number: f64 = value.extract()?;
    Duration::try_from_secs_f64(number).map_err(|e| {
        error::config(
            value.py(),
            field,
            &format!("{field}: {number} seconds: {e}"),
        )
    })
}

fn congestion_control(value: &Bound<'_, PyAny>) -> PyResult<engine::CongestionControl> {
    let name: String = value.extract()?;
    let known = ALGORITHMS.iter().find(|(known, _)| *known == name);
    known.map(|(_, algorithm)| *algorithm).ok_or_else(|| {
        let message = format!("congestion_control: {name:?} is none of bbr, cubic, newreno");
        error::config(value.py(), "congestion_control", &message)
    })
}

/// A TypeError that names the field.
fn named(py: Python<'_>, field: &str, error: PyErr) -> PyErr {
    if error.is_instance_of::<PyTypeError>(py) {
        PyTypeError::new_err(format!("{field}: {}", error.value(py)))
    } else {
        error
    }
}

fn set(config: &mut engine::Config, field: &str, value: &Bound<'_, PyAny>) -> PyResult<()> {
    match field {
        "handshake_timeout" => config.handshake_timeout = seconds(field, value)?,
        "idle_timeout" => config.idle_timeout = seconds(field, value)?,
        "keep_alive_interval" if value.is_none() => config.keep_alive_interval = None,
        "keep_alive_interval" => config.keep_alive_interval = Some(seconds(field, value)?),
        "linger" => config.linger = seconds(field, value)?,
        "stream_receive_window" => config.stream_receive_window = value.extract()?,
        "connection_receive_window" => config.connection_receive_window = value.extract()?,
        "receive_budget" => config.receive_budget = value.extract()?,
        "send_window" => config.send_window = value.extract()?,
        "send_budget" => config.send_budget = value.extract()?,
        "read_buffer" => config.read_buffer = value.extract()?,
        "write_buffer" => config.write_buffer = value.extract()?,
        "max_incoming_streams" => config.max_incoming_streams = value.extract()?,
        "max_accept_backlog" => config.max_accept_backlog = value.extract()?,
        "congestion_control" => config.congestion_control = congestion_control(value)?,
        "initial_rtt" => config.initial_rtt = seconds(field, value)?,
        "max_datagram_size" => config.max_datagram_size = value.extract()?,
        "segmentation_offload" => config.segmentation_offload = value.extract()?,
        "max_handshakes" => config.max_handshakes = value.extract()?,
        "max_handshakes_per_address" => config.max_handshakes_per_address = value.extract()?,
        "retry_above" => config.retry_above = value.extract()?,
        "max_connections" => config.max_connections = value.extract()?,
        "max_connections_per_address" => config.max_connections_per_address = value.extract()?,
        "ipv4_prefix" => config.ipv4_prefix = value.extract()?,
        "ipv6_prefix" => config.ipv6_prefix = value.extract()?,
        "accept_draft_29" => config.accept_draft_29 = value.extract()?,
        "migration" => config.migration = value.extract()?,
        "qlog_dir" => config.qlog_dir = value.extract()?,
        "qlog_file_limit" => config.qlog_file_limit = value.extract()?,
        _ => return Err(PyTypeError::new_err("Config has no such field")),
    }
    Ok(())
}

#[pymethods]
impl Config {
    #[new]
    #[pyo3(signature = (**fields))]
    fn new(py: Python<'_>, fields: Option<&Bound<'_, PyDict>>) -> PyResult<Self> {
        let mut config = engine::Config::default();
        for (field, value) in fields.into_iter().flatten() {
            let field: String = field.extract()?;
            set(&mut config, &field, &value).map_err(|error| named(py, &field, error))?;
        }
        // An event loop flushes once per pass.
        config.flush = engine::Flush::OnRequest;
        config
            .check()
            .map_err(|e| error::config(py, e.field, &e.to_string()))?;
        Ok(Self(config))
    }

    #[staticmethod]
    fn defaults(py: Python<'_>) -> PyResult<Bound<'_, PyDict>> {
        let config = engine::Config::default();
        let algorithm = ALGORITHMS
            .iter()
            .find(|(_, algorithm)| *algorithm == config.congestion_control);
        let interval = config.keep_alive_interval.map(|it| it.as_secs_f64());
        let fields = PyDict::new(py);
        fields.set_item("handshake_timeout", config.handshake_timeout.as_secs_f64())?;
        fields.set_item("idle_timeout", config.idle_timeout.as_secs_f64())?;
        fields.set_item("keep_alive_interval", interval)?;
        fields.set_item("linger", config.linger.as_secs_f64())?;
        fields.set_item("stream_receive_window", config.stream_receive_window)?;
        fields.set_item(
            "connection_receive_window",
            config.connection_receive_window,
        )?;
        fields.set_item("receive_budget", config.receive_budget)?;
        fields.set_item("send_window", config.send_window)?;
        fields.set_item("send_budget", config.send_budget)?;
        fields.set_item("read_buffer", config.read_buffer)?;
        fields.set_item("write_buffer", config.write_buffer)?;
        fields.set_item("max_incoming_streams", config.max_incoming_streams)?;
        fields.set_item("max_accept_backlog", config.max_accept_backlog)?;
        fields.set_item("congestion_control", algorithm.map(|(name, _)| *name))?;
        fields.set_item("initial_rtt", config.initial_rtt.as_secs_f64())?;
        fields.set_item("max_datagram_size", config.max_datagram_size)?;
        fields.set_item("segmentation_offload", config.segmentation_offload)?;
        fields.set_item("max_handshakes", config.max_handshakes)?;
        fields.set_item(
            "max_handshakes_per_address",
            config.max_handshakes_per_address,
        )?;
        fields.set_item("retry_above", config.retry_above)?;
        fields.set_item("max_connections", config.max_connections)?;
        fields.set_item(
            "max_connections_per_address",
            config.max_connections_per_address,
        )?;
        fields.set_item("ipv4_prefix", config.ipv4_prefix)?;
        fields.set_item("ipv6_prefix", config.ipv6_prefix)?;
        fields.set_item("accept_draft_29", config.accept_draft_29)?;
        fields.set_item("migration", config.migration)?;
        fields.set_item("qlog_dir", config.qlog_dir)?;
        fields.set_item("qlog_file_limit", config.qlog_file_limit)?;
        Ok(fields)
    }
}
