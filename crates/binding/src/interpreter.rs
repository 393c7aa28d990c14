//! Refuses subinterpreters: the Python classes and the I/O thread of a process serve one interpreter.

use pyo3::{exceptions::PyImportError, ffi, prelude::*};

/// An ImportError, unless this is the main interpreter. CPython 3.12 and newer refuse by themselves where a
/// subinterpreter has a GIL of its own; older ones import the module into each.
pub(crate) fn require_main(py: Python<'_>) -> PyResult<()> {
    // SAFETY: `py` says that this thread is attached to an interpreter, whose state therefore exists.
    let id = unsafe { ffi::PyInterpreterState_GetID(ffi::PyInterpreterState_Get()) };
    match id {
        0 => Ok(()),
        -1 => Err(PyErr::fetch(py)),
        _ => Err(PyImportError::new_err(
            "libp2p_quic does not support subinterpreters: its I/O thread serves the main interpreter of a \
             process. Import it there, or in a process of its own",
        )),
    }
}
