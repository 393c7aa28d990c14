//! The engine's poll methods as futures, for the tasks of a world.

use std::{future::poll_fn, net::SocketAddr};

use bytes::Bytes;

use crate::{
    Closed, Connection, ConnectionError, Endpoint, Inbound, Listener, PeerId, ReadError, Stream,
    WriteError, tls::CertificateHash,
};

/// Dial and wait until the handshake has completed. Panics when [`Endpoint::connect`] fails, which
/// in a world only a closed endpoint does.
pub async fn connect(
    from: &Endpoint,
    to: SocketAddr,
    peer: Option<PeerId>,
) -> Result<Connection, ConnectionError> {
    let connection = from
        .connect(to, peer)
        .unwrap_or_else(|error| panic!("dialing {to}: {error}"));
    connected(&connection).await?;
    Ok(connection)
}

/// The same over WebTransport.
pub async fn connect_webtransport(
    from: &Endpoint,
    to: SocketAddr,
    peer: Option<PeerId>,
    hashes: Vec<CertificateHash>,
) -> Result<Connection, ConnectionError> {
    let connection = from
        .connect_webtransport(to, peer, hashes)
        .unwrap_or_else(|error| panic!("dialing {to}: {error}"));
    connected(&connection).await?;
    Ok(connection)
}

/// [`Connection::poll_connected`].
pub async fn connected(connection: &Connection) -> Result<(), ConnectionError> {
    poll_fn(|cx| connection.poll_connected(cx)).await
}

/// [`Listener::poll_accept`].
pub async fn accept(listener: &Listener) -> Result<Connection, Closed> {
    poll_fn(|cx| listener.poll_accept(cx)).await
}

/// [`Inbound::poll_arrived`].
pub async fn inbound(waiter: &Inbound) -> Result<SocketAddr, Closed> {
    poll_fn(|cx| waiter.poll_arrived(cx)).await
}

/// [`Connection::poll_open`].
pub async fn open(connection: &Connection) -> Result<Stream, ConnectionError> {
    poll_fn(|cx| connection.poll_open(cx)).await
}

/// [`Connection::poll_accept`].
pub async fn accept_stream(connection: &Connection) -> Result<Stream, ConnectionError> {
    poll_fn(|cx| connection.poll_accept(cx)).await
}

/// [`Connection::poll_closed`].
pub async fn closed(connection: &Connection) -> ConnectionError {
    poll_fn(|cx| connection.poll_closed(cx)).await
}

/// [`Endpoint::poll_closed`].
pub async fn endpoint_closed(endpoint: &Endpoint) {
    poll_fn(|cx| endpoint.poll_closed(cx)).await;
}

/// [`Stream::poll_read_chunks`].
pub async fn read(stream: &Stream, max: usize) -> Result<Bytes, ReadError> {
    let mut chunks = Vec::new();
    poll_fn(|cx| stream.poll_read_chunks(cx, max, &mut chunks)).await?;
    Ok(chunks.concat().into())
}

/// All bytes up to the end of the stream.
pub async fn read_to_end(stream: &Stream) -> Result<Vec<u8>, ReadError> {
    let mut all = Vec::new();
    loop {
        let some = read(stream, usize::MAX).await?;
        if some.is_empty() {
            return Ok(all);
        }
        all.extend_from_slice(&some);
    }
}

/// Write all of `data`.
pub async fn write_all(stream: &Stream, mut data: &[u8]) -> Result<(), WriteError> {
    while !data.is_empty() {
        let n = poll_fn(|cx| stream.poll_write(cx, data)).await?;
        data = &data[n..];
    }
    Ok(())
}

/// [`Stream::poll_finished`].
pub async fn finished(stream: &Stream) -> Result<(), WriteError> {
    poll_fn(|cx| stream.poll_finished(cx)).await
}
