//! Engines on real sockets, through the public methods, with the real I/O thread.
//!
//! What needs no socket is tested in `simulation`; what counts descriptors and threads of the
//! whole process, in `resources`.

mod addresses;
mod endings;
mod kit;
mod transfers;
mod unreachable;
