//! libp2p's QUIC transport: authenticated connections and streams over UDP, without an async
//! runtime.
//!
//! This crate knows no Python, and parses no multiaddrs. Its methods take `SocketAddr`, bytes and peer
//! ids, and may be called from any thread.
//!
//! An [`Endpoint`] is one identity with its UDP sockets. It listens, dials, and owns its
//! connections; a [`Connection`] opens and accepts streams; a [`Stream`] carries bytes both
//! ways. Each method that may have to wait has a poll form (`poll_read`), which never blocks,
//! takes a [`std::task::Context`] and registers its waker. Most have a blocking form (`read`)
//! too, for programs that use threads.
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
//! Modules: `driver` drives quinn-proto's state machines; `congestion`, `tls` and `qlog` implement
//! its traits, `config` builds its transport configuration, and `simulation` replaces its sources of
//! randomness. No other module names it. `shared` has the state that handles and the I/O thread
//! share, `queue` the byte queues in it; `ready` carries wake-ups to an event loop.
#![forbid(unsafe_code)]

mod blocking;
mod budget;
mod census;
mod config;
mod congestion;
mod connection;
mod der;
mod destination;
mod dial_mode;
mod dial_socket;
mod driver;
mod endpoint;
mod errno;
mod error;
mod gate;
mod handle;
mod host_key;
mod identity;
mod inbound;
mod listener;
mod multiaddr;
mod poll_set;
mod qlog;
mod queue;
mod ready;
mod receive_credit;
mod send_buffers;
mod shared;
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
mod totals;

#[cfg(models)]
#[path = "../../models/src/models/mod.rs"]
pub mod models;
#[cfg(feature = "simulation")]
pub mod simulation;

pub use census::Census;
pub use config::{Config, Flush};
pub use congestion::CongestionControl;
pub use connection::Connection;
pub use dial_mode::DialMode;
pub use driver::{ProcessStatistics, forget_the_thread, process_statistics};
pub use endpoint::Endpoint;
pub use error::{
    CloseKind, Closed, ConfigError, ConnectionError, EndpointError, IdentityError, Party,
    ReadError, WriteError,
};
pub use gate::{Prefix, PrefixError};
pub use host_key::{NewKeyType, PublicKey, ed25519_private_key, generate_private_key};
pub use identity::{Identity, PeerId};
pub use inbound::{Inbound, LONGEST_PUNCH, MAX_PUNCHED_ADDRESSES, PunchError};
pub use listener::Listener;
pub use ready::ReadyQueue;
pub use shared::ListenerStatistics;
pub use statistics::{EcnState, Statistics};
pub use stream::Stream;
pub use tls::{CertificateHash, TlsParameters};
pub use totals::{Distribution, EndpointStatistics};
