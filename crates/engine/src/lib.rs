//! libp2p's QUIC transport: streams and proven peers over UDP, with no async runtime.
//!
//! The law of this room: no Python, no libp2p addresses, no runtime. Its verbs speak
//! `SocketAddr`, bytes and peer ids, never block unless their name says so, and are safe
//! to call from any thread.
//!
//! An [`Endpoint`] is one identity with its UDP sockets. It listens, dials, and owns its
//! connections; a [`Connection`] opens and accepts streams; a [`Stream`] moves bytes both
//! ways. Every verb exists in the poll form of the standard library (`poll_read`), which
//! takes a [`std::task::Context`] and remembers its waker, and most exist in a blocking
//! form (`read`) for programs made of threads.
//!
//! ```
//! use libp2p_quic_engine::{Config, Endpoint, Identity};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let server = Endpoint::new(&Identity::generate(), Config::default())?;
//! let listener = server.listen("127.0.0.1:0".parse()?)?;
//! let client = Endpoint::new(&Identity::generate(), Config::default())?;
//! let ours = client.connect(listener.local_addr(), Some(server.peer_id()))?;
//! let stream = ours.open()?;
//! stream.write_all(b"hello")?;
//! stream.finish();
//!
//! let theirs = listener.accept()?;
//! assert_eq!(theirs.peer_id(), Some(client.peer_id()));
//! let stream = theirs.accept()?;
//! assert_eq!(stream.read_to_end(100)?, b"hello");
//! # Ok(())
//! # }
//! ```
//!
//! Where things live: `driver` turns quinn-proto's state machines and is the only room
//! that knows quinn; `queue` is where an application thread and the I/O thread meet;
//! `ready` is the bell that carries wake-ups to an event loop; `tls` proves peers.
#![forbid(unsafe_code)]

mod blocking;
mod budget;
mod config;
mod congestion;
mod connection;
mod der;
mod destination;
mod dial_socket;
mod driver;
mod endpoint;
mod error;
mod gate;
mod host_key;
mod identity;
mod listener;
mod queue;
mod ready;
mod receive_credit;
mod send_buffers;
#[cfg(not(models))]
mod signal;
#[cfg(models)]
#[path = "../../models/src/signal.rs"]
mod signal;
mod statistics;
mod stream;
#[cfg(not(models))]
mod sync;
#[cfg(models)]
#[path = "../../models/src/sync.rs"]
mod sync;
pub mod tls;

#[cfg(models)]
#[path = "../../models/src/models/mod.rs"]
pub mod models;
#[cfg(feature = "simulation")]
pub mod simulation;

pub use config::{Config, CongestionControl, Flush};
pub use connection::Connection;
pub use driver::{Census, forget_the_thread};
pub use endpoint::Endpoint;
pub use error::{
    CloseKind, Closed, ConfigError, ConnectionError, EndpointError, Party, ReadError, WriteError,
};
pub use gate::{Prefix, PrefixError};
pub use host_key::PublicKey;
pub use identity::{Identity, IdentityError, PeerId};
pub use listener::{Listener, ListenerStatistics};
pub use ready::ReadyQueue;
pub use statistics::Statistics;
pub use stream::Stream;
