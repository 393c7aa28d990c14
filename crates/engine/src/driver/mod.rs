//! The driver: what turns quinn-proto's state machines, and the only room that names quinn.
//!
//! `core` drives one endpoint; time and the network are its parameters, so that it runs
//! the same over sockets and in the simulation. `connection` and `streams` are its parts,
//! `crowd`, `ecn`, `fill`, `flight`, `growth`, `keep_alive`, `marking`, `moves`, `send_window`,
//! `stream_allowance`, `timers` and `loss` its small tools. `thread` runs cores over real `socket`s.
//! Application threads reach a core only through the `command` queue, which never blocks them, and
//! drive it by `handover` while it sleeps.

mod closing;
mod command;
mod connection;
mod core;
mod crowd;
mod ecn;
pub(crate) mod fill;
mod flight;
mod growth;
pub(crate) mod handover;
mod keep_alive;
mod limit_log;
mod loss;
mod marking;
mod moves;
mod network;
mod pieces;
mod routing;
mod send_window;
mod settings;
mod socket;
mod sockets;
mod stream_allowance;
mod streams;
mod thread;
mod timers;

#[cfg(feature = "simulation")]
pub(crate) use self::{
    command::Doorbell,
    core::ACCEPTED,
    network::{Network, Sending},
    settings::Cover,
};
pub(crate) use self::{
    command::{Command, Commands},
    core::Core,
    limit_log::{Limit, LimitLog, Multiaddr},
    network::{Ground, SocketKey},
    send_window::FIRST_SEND_WINDOW,
    settings::Settings,
    sockets::{EndpointState, SocketInfo},
    thread::on_the_io_thread,
};
pub use self::{core::Census, thread::forget_the_thread};
