//! A listening socket: accept connections, close, read the counters.

use std::{
    fmt,
    net::SocketAddr,
    sync::Arc,
    task::{Context, Poll},
};

use crate::{
    blocking,
    connection::Connection,
    driver::{Command, Commands},
    error::Closed,
    shared::{EndpointState, ListenerShared, ListenerStatistics},
    sync::Mutex,
};

/// A listening socket. It accepts connections until it is closed or dropped.
pub struct Listener {
    shared: Arc<ListenerShared>,
    commands: Arc<Commands>,
    endpoint: Arc<Mutex<EndpointState>>,
}

impl Listener {
    pub(crate) fn new(
        shared: Arc<ListenerShared>,
        commands: Arc<Commands>,
        endpoint: Arc<Mutex<EndpointState>>,
    ) -> Self {
        Self {
            shared,
            commands,
            endpoint,
        }
    }

    /// The address that it listens on, with the port that the system chose.
    pub fn local_addr(&self) -> SocketAddr {
        self.shared.local
    }

    /// What does not work on this socket because the system refused its options, as some
    /// sandboxes do, and what to do about it. `None`: no limitation.
    pub fn limitation(&self) -> Option<String> {
        let error = self.shared.refusal?;
        let mut text = format!(
            "the system refuses socket options ({error:?}): one datagram a call, no ECN marks received"
        );
        if self.shared.local.ip().is_unspecified() {
            text += "; on a host with several addresses peers that dial one may be answered from another: \
                     listen on each address instead of the wildcard";
        }
        Some(text)
    }

    /// From now on accept WebTransport too, as browsers dial, or no longer. Connections that exist are not affected.
    pub fn serve_webtransport(&self, is_served: bool) {
        self.shared.state.lock().serves_webtransport = is_served;
    }

    /// The next connection whose handshake has completed, over QUIC or WebTransport. Its peer id is verified.
    ///
    /// # Errors
    /// [`Closed`] after [`close`](Self::close).
    ///
    /// # Cancellation
    /// A connection is taken only when this returns `Ready`.
    pub fn poll_accept(&self, cx: &mut Context<'_>) -> Poll<Result<Connection, Closed>> {
        let mut state = self.shared.state.lock();
        if let Some(connection) = state.backlog.pop_front() {
            return Poll::Ready(Ok(Connection::new(connection, self.commands.clone())));
        }
        if state.is_closed {
            return Poll::Ready(Err(Closed));
        }
        state.acceptable.add(cx.waker());
        Poll::Pending
    }

    /// [`poll_accept`](Self::poll_accept), blocking.
    pub fn accept(&self) -> Result<Connection, Closed> {
        blocking::wait(|cx| self.poll_accept(cx))
    }

    /// Stop accepting, and close connections that were not accepted. Accepted ones live on, and
    /// the socket with them.
    pub fn close(&self) {
        if self.commands.close_listener(&self.shared) {
            let socket = self.shared.socket;
            let mut endpoint = self.endpoint.lock();
            endpoint.stop_listening(socket);
            // Under the lock: before the command of a `listen` that uses the socket again.
            self.commands.push(Command::StopListening(socket));
        }
    }

    /// A snapshot of the counters.
    pub fn statistics(&self) -> ListenerStatistics {
        let state = self.shared.state.lock();
        ListenerStatistics {
            backlog: state.backlog.len(),
            ..state.statistics
        }
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.close();
    }
}

impl fmt::Debug for Listener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Listener").field(&self.shared.local).finish()
    }
}
