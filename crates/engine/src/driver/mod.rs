//! Drives quinn-proto's state machines.
//!
//! `core` drives one endpoint; time and the network are its parameters, so that it runs
//! the same over sockets and in the simulation. `connection` and `streams` are its parts, and most
//! other files are one rule each that a connection or an endpoint follows. `thread` runs cores over
//! real `socket`s, and may lend one to an event loop by a `lease`. Application threads push to a
//! core's `command` queue, and drive the core by `handover` while the I/O thread sleeps.

mod address_watch;
mod admission;
mod close_reason;
mod closing;
mod codes;
mod command;
mod connection;
mod connection_ids;
mod core;
mod dial_report;
mod ecn;
pub(crate) mod fill;
mod final_flight;
pub(crate) mod handover;
mod id_supply;
mod keep_alive;
mod lease;
mod limit_log;
mod marking;
mod migration;
mod network;
mod offload;
mod open_sockets;
mod punching;
mod receive;
mod receive_window;
mod recv_buffers;
mod reset_limit;
mod routing;
mod send_window;
mod settings;
mod socket;
mod sockets;
mod stream_allowance;
mod streams;
mod thread;
mod timers;
mod token_bucket;
pub(crate) mod webtransport;

#[cfg(any(feature = "simulation", models))]
pub(crate) use self::network::{Network, Sending};
pub use self::thread::{ProcessStatistics, forget_the_thread, process_statistics};
#[cfg(feature = "simulation")]
pub(crate) use self::{
    command::IoWaker,
    connection_ids::CONNECTION_ID_LENGTH,
    core::ACCEPTED,
    network::ReceivedDatagram,
    settings::{CryptoOverride, endpoint_config},
};
pub(crate) use self::{
    command::{Command, Commands},
    core::Core,
    limit_log::{Excess, Limit, LimitLog},
    network::{BoundSocket, SocketKey, SocketProvider},
    send_window::FIRST_SEND_WINDOW,
    settings::{Settings, Wanted},
    thread::on_the_io_thread,
};
