//! The locks, atomics and threads of what application threads and the I/O thread share: commands,
//! queues, the states in `shared`, the handover. `crates/models` replaces this file by types whose
//! scheduler explores interleavings.
//!
//! Others use parking_lot directly: leaf locks under which nobody is woken (`dial_report`,
//! `send_buffers`, `tls::verified`), the static of `driver::thread`, which no model runs, and
//! `simulation`, which has one thread.

pub(crate) use std::{sync::atomic, thread};

pub(crate) use parking_lot::Mutex;
