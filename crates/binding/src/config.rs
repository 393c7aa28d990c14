//! An endpoint's configuration: converts seconds to durations and strings to enums.

use std::time::Duration;

use libp2p_quic_engine as engine;
use pyo3::prelude::*;

use crate::error;

/// Limits and timeouts of an endpoint.
#[pyclass(frozen, module = "libp2p_quic._engine")]
pub(crate) struct Config(pub(crate) engine::Config);

fn seconds(py: Python<'_>, field: &str, value: f64) -> PyResult<Duration> {
    Duration::try_from_secs_f64(value)
        .map_err(|e| error::config(py, field, &format!("{field}: {value} seconds: {e}")))
}

#[pymethods]
impl Config {
    #[new]
    #[pyo3(signature = (
        *,
        handshake_timeout = 10.0,
        idle_timeout = 30.0,
        keep_alive_interval = Some(5.0),
        linger = 1.0,
        stream_receive_window = 10_000_000,
        connection_receive_window = 15_000_000,
        receive_budget = 268_435_456,
        send_window = 10_000_000,
        send_budget = 268_435_456,
        read_buffer = 4_194_304,
        write_buffer = 262_144,
        max_incoming_streams = 1024,
        max_accept_backlog = 256,
        congestion_control = "cubic",
        initial_rtt = 0.333,
        max_datagram_size = 1452,
        segmentation_offload = true,
        max_handshakes = 1024,
        max_handshakes_per_address = 64,
        retry_above = Some(256),
        max_connections = Some(4096),
        max_connections_per_address = Some(256),
        ipv4_prefix = 32,
        ipv6_prefix = 64,
        accept_draft_29 = false,
        migration = true,
    ))]
    #[allow(clippy::too_many_arguments)]
    fn new(
        py: Python<'_>,
        handshake_timeout: f64,
        idle_timeout: f64,
        keep_alive_interval: Option<f64>,
        linger: f64,
        stream_receive_window: u64,
        connection_receive_window: u64,
        receive_budget: u64,
        send_window: u64,
        send_budget: u64,
        read_buffer: usize,
        write_buffer: usize,
        max_incoming_streams: u32,
        max_accept_backlog: usize,
        congestion_control: &str,
        initial_rtt: f64,
        max_datagram_size: u16,
        segmentation_offload: bool,
        max_handshakes: usize,
        max_handshakes_per_address: usize,
        retry_above: Option<usize>,
        max_connections: Option<usize>,
        max_connections_per_address: Option<usize>,
        ipv4_prefix: u8,
        ipv6_prefix: u8,
        accept_draft_29: bool,
        migration: bool,
    ) -> PyResult<Self> {
        let mut config = engine::Config::default();
        config.handshake_timeout = seconds(py, "handshake_timeout", handshake_timeout)?;
        config.idle_timeout = seconds(py, "idle_timeout", idle_timeout)?;
        config.keep_alive_interval = keep_alive_interval
            .map(|value| seconds(py, "keep_alive_interval", value))
            .transpose()?;
        config.linger = seconds(py, "linger", linger)?;
        config.stream_receive_window = stream_receive_window;
        config.connection_receive_window = connection_receive_window;
        config.receive_budget = receive_budget;
        config.send_window = send_window;
        config.send_budget = send_budget;
        config.read_buffer = read_buffer;
        config.write_buffer = write_buffer;
        config.max_incoming_streams = max_incoming_streams;
        config.max_accept_backlog = max_accept_backlog;
        config.congestion_control = match congestion_control {
            "bbr" => engine::CongestionControl::Bbr,
            "cubic" => engine::CongestionControl::Cubic,
            "newreno" => engine::CongestionControl::NewReno,
            other => {
                let message =
                    format!("congestion_control: {other:?} is none of bbr, cubic, newreno");
                return Err(error::config(py, "congestion_control", &message));
            }
        };
        config.initial_rtt = seconds(py, "initial_rtt", initial_rtt)?;
        config.max_datagram_size = max_datagram_size;
        config.segmentation_offload = segmentation_offload;
        config.max_handshakes = max_handshakes;
        config.max_handshakes_per_address = max_handshakes_per_address;
        config.retry_above = retry_above;
        config.max_connections = max_connections;
        config.max_connections_per_address = max_connections_per_address;
        config.ipv4_prefix = ipv4_prefix;
        config.ipv6_prefix = ipv6_prefix;
        config.accept_draft_29 = accept_draft_29;
        config.migration = migration;
        // An event loop flushes once per pass.
        config.flush = engine::Flush::OnRequest;
        config
            .check()
            .map_err(|e| error::config(py, e.field, &e.to_string()))?;
        Ok(Self(config))
    }
}
