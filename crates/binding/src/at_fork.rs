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

/// Register `forked` with `os.register_at_fork`, where there are forks.
pub(crate) fn watch_forks(module: &Bound<'_, PyModule>) -> PyResult<()> {
    let py = module.py();
    let Some(register) = py.import("os")?.getattr_opt("register_at_fork")? else {
        return Ok(());
    };
    let arguments = PyDict::new(py);
    arguments.set_item("after_in_child", wrap_pyfunction!(forked, module)?)?;
    register.call((), Some(&arguments))?;
    Ok(())
}
