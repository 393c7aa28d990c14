//! What happens in the child of a fork before other Python code runs there.

use libp2p_quic_engine as engine;
use pyo3::{prelude::*, types::PyDict};

use crate::{fork, log};

/// Called by Python in every child of a fork, before other Python code runs there.
#[pyfunction]
fn forked() {
    fork::note_fork();
    engine::forget_the_thread();
    log::forget();
}

/// Register `forked` with `os.register_at_fork`.
pub(crate) fn watch_forks(module: &Bound<'_, PyModule>) -> PyResult<()> {
    let py = module.py();
    let arguments = PyDict::new(py);
    arguments.set_item("after_in_child", wrap_pyfunction!(forked, module)?)?;
    let os = py.import("os")?;
    os.call_method("register_at_fork", (), Some(&arguments))?;
    Ok(())
}
