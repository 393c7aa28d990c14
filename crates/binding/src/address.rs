//! Converts between Python's and Rust's forms of socket addresses (a literal IP address and a port)
//! and durations (seconds).

use std::{
    net::{IpAddr, SocketAddr, SocketAddrV6},
    time::Duration,
};

use pyo3::{PyResult, exceptions::PyValueError};

/// Parse a literal IP address, optionally with its zone index, as in fe80::1%2. Names are not
/// resolved.
pub(crate) fn socket_addr(host: &str, port: u16) -> PyResult<SocketAddr> {
    let (ip, zone) = match host.split_once('%') {
        Some((ip, zone)) => (ip, Some(zone)),
        None => (host, None),
    };
    let ip: Option<IpAddr> = ip.parse().ok();
    let scope: Option<u32> = zone.map_or(Some(0), |zone| zone.parse().ok());
    match (ip, scope) {
        (Some(IpAddr::V6(ip)), Some(scope)) => Ok(SocketAddrV6::new(ip, port, 0, scope).into()),
        (Some(ip), Some(0)) => Ok(SocketAddr::new(ip, port)),
        _ => Err(PyValueError::new_err(format!(
            "{host:?} is not an IP address"
        ))),
    }
}

/// An address in Python's form.
pub(crate) fn host_and_port(addr: SocketAddr) -> (String, u16) {
    (addr.ip().to_canonical().to_string(), addr.port())
}

pub(crate) fn duration(seconds: f64) -> PyResult<Duration> {
    Duration::try_from_secs_f64(seconds)
        .map_err(|e| PyValueError::new_err(format!("{seconds} seconds: {e}")))
}
