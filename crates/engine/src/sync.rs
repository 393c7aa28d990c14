//! The locks, atomics and threads with which application threads and the I/O thread meet. Here
//! they are the system's; `crates/models` puts others in this place, whose scheduler tries
//! interleavings. A lock under which nothing is locked and nobody is woken need not come from here.

pub(crate) use std::{sync::atomic, thread};

pub(crate) use parking_lot::Mutex;
