//! This project from Rust: the engine's poll methods in tasks of a runtime that only runs tasks. As in
//! the Python drivers, what the tasks wrote leaves when none of them can run.

use std::{
    future::{poll_fn, ready},
    io,
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use futures::{AsyncRead, AsyncWrite};
use libp2p_quic_engine::{Config, Connection, Endpoint, Flush, Identity, Listener, Stream};
use tokio::runtime::{Builder, Runtime};

use crate::net::{self, Handshake, Outcome};

pub struct Node {
    endpoint: Arc<Endpoint>,
    listener: Listener,
}

impl Node {
    pub fn new() -> Outcome<Self> {
        let mut config = Config::default();
        // All connections of a measure have one source address.
        config.max_connections = None;
        config.max_connections_per_address = None;
        config.max_incoming_streams = 256;
        config.flush = Flush::OnRequest;
        let endpoint = Arc::new(Endpoint::new(&Identity::generate(), config)?);
        let listener = endpoint.listen("127.0.0.1:0".parse()?)?;
        Ok(Self { endpoint, listener })
    }

    /// A runtime without sockets and timers, which the engine has, that flushes before it waits.
    pub fn runtime(&self) -> Outcome<Runtime> {
        let endpoint = self.endpoint.clone();
        let mut builder = Builder::new_current_thread();
        Ok(builder.on_thread_park(move || endpoint.flush()).build()?)
    }
}

impl net::Node for Node {
    type Connection = Arc<Connection>;

    fn address(&self) -> SocketAddr {
        self.listener.local_addr()
    }

    async fn accept(&self) -> Outcome<Handshake<Arc<Connection>>> {
        let connection = poll_fn(|cx| self.listener.poll_accept(cx)).await?;
        Ok(Box::pin(ready(Ok(Arc::new(connection)))))
    }

    async fn dial(&self, to: SocketAddr) -> Outcome<Self::Connection> {
        let connection = self.endpoint.connect(to, None)?;
        poll_fn(|cx| connection.poll_connected(cx)).await?;
        Ok(Arc::new(connection))
    }
}

impl net::Connection for Arc<Connection> {
    type Stream = Io;

    async fn open(&self) -> Outcome<Io> {
        Ok(Io(poll_fn(|cx| self.poll_open(cx)).await?))
    }

    async fn accept(&self) -> Outcome<Io> {
        Ok(Io(poll_fn(|cx| self.poll_accept(cx)).await?))
    }
}

pub struct Io(Stream);

impl AsyncRead for Io {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        self.0.poll_read(cx, buf).map_err(io::Error::other)
    }
}

impl AsyncWrite for Io {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        data: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.0.poll_write(cx, data).map_err(io::Error::other)
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.0.finish();
        Poll::Ready(Ok(()))
    }
}
