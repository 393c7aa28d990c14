//! The interface of a contender: nodes, connections, streams. A stream is the futures crate's reader and
//! writer, which all contenders have.

use std::{error::Error, net::SocketAddr};

use futures::{AsyncRead, AsyncWrite, future::BoxFuture};

pub type Failure = Box<dyn Error + Send + Sync>;
pub type Outcome<T> = Result<T, Failure>;

pub trait Stream: AsyncRead + AsyncWrite + Unpin + Send + 'static {}

impl<T: AsyncRead + AsyncWrite + Unpin + Send + 'static> Stream for T {}

/// Dropping the last clone closes it.
pub trait Connection: Clone + Send + Sync + 'static {
    type Stream: Stream;

    fn open(&self) -> impl Future<Output = Outcome<Self::Stream>> + Send;
    fn accept(&self) -> impl Future<Output = Outcome<Self::Stream>> + Send;
}

/// A node that listens, or one that dials.
pub trait Node: Send + Sync + 'static {
    type Connection: Connection;

    fn address(&self) -> SocketAddr;
    /// The next inbound connection; its own future is the rest of the handshake.
    fn accept(&self) -> impl Future<Output = Outcome<Handshake<Self::Connection>>> + Send;
    /// Resolves when the handshake is complete.
    fn dial(&self, to: SocketAddr) -> impl Future<Output = Outcome<Self::Connection>> + Send;
}

pub type Handshake<C> = BoxFuture<'static, Outcome<C>>;
