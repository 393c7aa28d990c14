//! A handle that another thread can make readable, to wake a thread that polls it.
//!
//! Raising twice before clearing is one wake-up. An eventfd on Linux, a pipe on other Unix systems, and a socket on
//! Windows, whose event loops wait for sockets alone.

#[cfg_attr(unix, path = "signal/descriptor.rs")]
#[cfg_attr(windows, path = "signal/socket.rs")]
mod system;

pub(crate) use system::Signal;
