//! The state that the application's handles and the I/O thread share, one file for each handle.
//!
//! A handle changes the state and pushes a command. The I/O thread changes the state and wakes the
//! waiters in it. Nothing in these files pushes commands.

mod connection;
mod endpoint;
mod inbound;
mod listener;
mod stream;

pub use self::listener::ListenerStatistics;
pub(crate) use self::{
    connection::{ConnectionMemory, ConnectionShared, DialProgress, STREAMS_OPENED_AHEAD},
    endpoint::{EndpointState, SocketInfo},
    inbound::InboundShared,
    listener::ListenerShared,
    stream::StreamShared,
};
