//! What a contender has to offer, and nothing of how it does it: nodes, connections, streams.
//! The streams are the futures crate's reader and writer in one, since all contenders have that.

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

/// One that listens, or one that dials.
pub trait Node: Send + Sync + 'static {
    type Connection: Connection;

    fn address(&self) -> SocketAddr;
    /// The next dial that comes in; its own future is the handshake, where that is not done.
    fn accept(&self) -> impl Future<Output = Outcome<Handshake<Self::Connection>>> + Send;
    /// Resolves when the handshake is done.
    fn dial(&self, to: SocketAddr) -> impl Future<Output = Outcome<Self::Connection>> + Send;
}

pub type Handshake<C> = BoxFuture<'static, Outcome<C>>;
