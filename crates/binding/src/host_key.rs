//! New private host keys as bytes.

use libp2p_quic_engine::{self as engine, NewKeyType};
use pyo3::{exceptions::PyValueError, prelude::*, types::PyBytes};

#[pyfunction]
#[pyo3(signature = (key_type, /))]
pub(crate) fn generate_private_key<'py>(
    py: Python<'py>,
    key_type: &str,
) -> PyResult<Bound<'py, PyBytes>> {
    let key_type = match key_type {
        "ed25519" => NewKeyType::Ed25519,
        "secp256k1" => NewKeyType::Secp256k1,
        "ecdsa" => NewKeyType::Ecdsa,
        other => {
            return Err(PyValueError::new_err(format!(
                "key type must be \"ed25519\", \"secp256k1\" or \"ecdsa\", got {other:?}"
            )));
        }
    };
    Ok(PyBytes::new(py, &engine::generate_private_key(key_type)))
}

#[pyfunction]
#[pyo3(signature = (seed, /))]
pub(crate) fn ed25519_private_key<'py>(
    py: Python<'py>,
    seed: &[u8],
) -> PyResult<Bound<'py, PyBytes>> {
    let seed = seed.try_into().map_err(|_| {
        PyValueError::new_err(format!("an Ed25519 seed has 32 bytes, got {}", seed.len()))
    })?;
    Ok(PyBytes::new(py, &engine::ed25519_private_key(seed)))
}
