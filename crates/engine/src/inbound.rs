//! Waits for the next inbound connection of one peer, and asks the core to punch a hole for it.
//!
//! In libp2p's DCUtR one side is the QUIC server: it sends datagrams to the peer's addresses, so
//! that the NATs and firewalls on its own side let the peer's handshake in, and waits for that.

use std::{
    fmt,
    net::SocketAddr,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use crate::{
    blocking,
    destination::{canonical, objection},
    dial_socket::socket_for,
    driver::{Command, Commands, SocketProvider},
    error::Closed,
    identity::PeerId,
    multiaddr::Multiaddr,
    shared::{EndpointState, InboundShared, SocketInfo},
    sync::Mutex,
};

/// The most addresses that one waiter punches to. The list is the peer's, and may name victims:
/// go-libp2p and rust-libp2p send what identify reports of them, which are some four addresses.
pub const MAX_PUNCHED_ADDRESSES: usize = 8;

/// The longest that one address is punched to: go-libp2p's limit for one attempt.
pub const LONGEST_PUNCH: Duration = Duration::from_secs(5);

/// Ports below this are those of services (RFC 6335 section 6); a NAT maps to others.
const FIRST_USER_PORT: u16 = 1024;

/// Why an address is not punched to.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PunchError {
    /// The endpoint was closed by this program.
    #[error(transparent)]
    Closed(#[from] Closed),
    /// No listening socket can reach the address, and only a listening one can accept.
    #[error("no socket listens that can reach {}: listen on an address of its family", Multiaddr(*.0))]
    NotListening(SocketAddr),
    /// The address must not be punched to.
    #[error("{0}")]
    Address(String),
}

/// Waits for the next inbound connection of one peer. Dropping it ends the wait and its punches.
///
/// The listener accepts the connection and alone keeps it open; the waiter learns of it.
pub struct Inbound {
    shared: Arc<InboundShared>,
    commands: Arc<Commands>,
    endpoint: Arc<Mutex<EndpointState>>,
    sockets: Arc<dyn SocketProvider>,
}

impl Inbound {
    pub(crate) fn new(
        peer: PeerId,
        commands: Arc<Commands>,
        endpoint: Arc<Mutex<EndpointState>>,
        sockets: Arc<dyn SocketProvider>,
    ) -> Self {
        let shared = Arc::new(InboundShared {
            peer,
            state: Mutex::default(),
        });
        let waiters = endpoint.lock().inbound.clone();
        waiters.add(&shared);
        Self {
            shared,
            commands,
            endpoint,
            sockets,
        }
    }

    /// The remote address of the peer's first connection whose handshake completed since the waiter
    /// was made, and that a listener queued to be accepted.
    ///
    /// # Errors
    /// [`Closed`] when the endpoint is closed.
    pub fn poll_arrived(&self, cx: &mut Context<'_>) -> Poll<Result<SocketAddr, Closed>> {
        let mut state = self.shared.state.lock();
        if let Some(outcome) = &state.outcome {
            return Poll::Ready(*outcome);
        }
        state.ended.add(cx.waker());
        Poll::Pending
    }

    /// [`poll_arrived`](Self::poll_arrived), blocking.
    pub fn arrived(&self) -> Result<SocketAddr, Closed> {
        blocking::wait(|cx| self.poll_arrived(cx))
    }

    /// The listening socket that a dial to `remote` would use.
    fn listening_socket(&self, remote: SocketAddr) -> Result<Option<SocketInfo>, Closed> {
        let source = self.sockets.source(remote).ok();
        let mut state = self.endpoint.lock();
        if state.is_closing {
            return Err(Closed);
        }
        let found = socket_for(&*self.sockets, &mut state.sockets, remote, source);
        Ok(found.filter(|socket| socket.is_listening))
    }

    /// Send datagrams to `remote` from the socket that listens in its family, until the peer's
    /// connection is proven, the waiter is dropped, or `lasting` (at most [`LONGEST_PUNCH`]) is
    /// over. They are 64 bytes long and 10 to 200 ms apart at random, as go-libp2p's (libp2p's
    /// DCUtR specification, "The Protocol"), and at most 200 a second for the whole endpoint. Their
    /// first byte and version make other QUIC endpoints drop them. Punching to an address twice is
    /// punching once.
    ///
    /// # Errors
    /// [`PunchError::Address`] for an address that cannot answer, a port below 1024, or more than
    /// [`MAX_PUNCHED_ADDRESSES`] addresses. Whether private addresses are allowed is up to the
    /// caller, who knows its own address.
    pub fn punch(&self, remote: SocketAddr, lasting: Duration) -> Result<(), PunchError> {
        let remote = canonical(remote);
        if let Some(why) = objection(remote) {
            return Err(PunchError::Address(format!("{}: {why}", Multiaddr(remote))));
        }
        if remote.port() < FIRST_USER_PORT {
            let why = format!("ports below {FIRST_USER_PORT} are not punched to");
            return Err(PunchError::Address(format!("{}: {why}", Multiaddr(remote))));
        }
        let socket = self
            .listening_socket(remote)?
            .ok_or(PunchError::NotListening(remote))?;
        {
            let mut state = self.shared.state.lock();
            if state.punched.contains(&remote) {
                return Ok(());
            }
            if state.punched.len() >= MAX_PUNCHED_ADDRESSES {
                let why = format!(
                    "{remote}: {MAX_PUNCHED_ADDRESSES} addresses of this peer are punched to already"
                );
                return Err(PunchError::Address(why));
            }
            state.punched.push(remote);
        }
        self.commands.push(Command::Punch {
            socket: socket.key,
            remote,
            lasting: lasting.min(LONGEST_PUNCH),
            inbound: Arc::downgrade(&self.shared),
        });
        Ok(())
    }
}

impl fmt::Debug for Inbound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Inbound").field(&self.shared.peer).finish()
    }
}
