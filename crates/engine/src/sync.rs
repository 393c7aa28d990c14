//! The locks, atomics and threads that application threads and the I/O thread share: the real
//! ones. `crates/models` replaces this file by types whose scheduler explores interleavings.
//! Leaf locks that wake nobody may use parking_lot directly.

pub(crate) use std::{sync::atomic, thread};

pub(crate) use parking_lot::Mutex;
