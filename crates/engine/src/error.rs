//! The public errors. A connection's error names its cause: this program, the peer, or the
//! network.
//!
//! Each operation has its own small type. Codes are fields, not only text, and no error
//! replaces another by its text: the party and the code reach the caller.

use std::{error, fmt, io};

/// Who ended a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Party {
    /// This program.
    Local,
    /// The peer.
    Peer,
    /// Neither: no packets arrived any more.
    Network,
}

impl Party {
    /// Every party, in the order of [`EndpointStatistics::connections_closed`](crate::EndpointStatistics).
    pub const ALL: [Self; 3] = [Self::Local, Self::Peer, Self::Network];
}

/// How a connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum CloseKind {
    /// An application closed it; the code is the application's (RFC 9000 section 20.2).
    Closed,
    /// The handshake did not complete within
    /// [`Config::handshake_timeout`](crate::Config::handshake_timeout).
    HandshakeTimeout,
    /// No packet arrived within the idle timeout (RFC 9000 section 10.1).
    IdleTimeout,
    /// A defect in this engine ended this connection; other connections go on.
    Internal,
    /// The peer that answered is not the one that was dialed.
    PeerIdMismatch,
    /// One side refused the other's handshake; the code is a QUIC crypto error.
    Refused,
    /// The peer lost its state, usually by restarting (RFC 9000 section 10.3).
    StatelessReset,
    /// A QUIC transport error (RFC 9000 section 20.1).
    Transport,
    /// The dialed address cannot answer, or the system or the network reported that it is
    /// unreachable.
    Unreachable,
    /// No QUIC version in common.
    Version,
}

impl CloseKind {
    /// Every kind, in the order of [`EndpointStatistics::connections_closed`](crate::EndpointStatistics).
    pub const ALL: [Self; 10] = [
        Self::Closed,
        Self::HandshakeTimeout,
        Self::IdleTimeout,
        Self::Internal,
        Self::PeerIdMismatch,
        Self::Refused,
        Self::StatelessReset,
        Self::Transport,
        Self::Unreachable,
        Self::Version,
    ];
}

/// Why a connection ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConnectionError {
    /// Who ended it.
    pub by: Party,
    /// How it ended.
    pub kind: CloseKind,
    /// The error code on the wire; `None` when no frame carried one.
    pub code: Option<u64>,
    /// The reason phrase of the side that ended it, or a description of what happened.
    pub reason: String,
}

impl ConnectionError {
    pub(crate) fn new(
        by: Party,
        kind: CloseKind,
        code: Option<u64>,
        reason: impl Into<String>,
    ) -> Self {
        Self {
            by,
            kind,
            code,
            reason: reason.into(),
        }
    }

    pub(crate) fn closed_here(code: u64, reason: &[u8]) -> Self {
        Self::new(
            Party::Local,
            CloseKind::Closed,
            Some(code),
            String::from_utf8_lossy(reason),
        )
    }

    /// A dial that ended before its first packet.
    pub(crate) fn not_dialed(why: impl Into<String>) -> Self {
        Self::new(Party::Local, CloseKind::Refused, None, why)
    }

    /// A dial to an address that cannot answer; `why` names it.
    pub(crate) fn unreachable(why: impl Into<String>) -> Self {
        Self::new(Party::Local, CloseKind::Unreachable, None, why)
    }

    pub(crate) fn internal(what: impl Into<String>) -> Self {
        Self::new(Party::Local, CloseKind::Internal, None, what)
    }
}

impl fmt::Display for ConnectionError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let who = match self.by {
            Party::Local => "by us",
            Party::Peer => "by the peer",
            Party::Network => "by the network",
        };
        match self.kind {
            CloseKind::Closed => write!(f, "connection closed {who}"),
            CloseKind::HandshakeTimeout => f.write_str("no handshake in time"),
            CloseKind::IdleTimeout => f.write_str("connection timed out"),
            CloseKind::Internal => f.write_str("connection ended by a defect in the engine"),
            CloseKind::PeerIdMismatch => f.write_str("Peer ID mismatch"),
            CloseKind::Refused => write!(f, "handshake refused {who}"),
            CloseKind::StatelessReset => {
                f.write_str("connection lost: the peer no longer knows it")
            }
            CloseKind::Transport => write!(f, "connection ended {who} by a QUIC transport error"),
            CloseKind::Unreachable => f.write_str("address not reachable"),
            CloseKind::Version => f.write_str("no QUIC version in common"),
        }?;
        if let Some(code) = self.code {
            write!(f, " (code {code:#x})")?;
        }
        if !self.reason.is_empty() {
            write!(f, ": {}", self.reason)?;
        }
        Ok(())
    }
}

impl error::Error for ConnectionError {}

/// Why a stream gives no more bytes. The end of the stream is not an error.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    /// The peer reset its side (RESET_STREAM) with this application code.
    #[error("stream reset by the peer with code {0:#x}")]
    Reset(u64),
    /// This program stopped reading.
    #[error("reading was stopped by this program")]
    Closed,
    /// The connection ended.
    #[error(transparent)]
    Lost(ConnectionError),
}

/// Why a stream takes no more bytes.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WriteError {
    /// The peer stopped reading (STOP_SENDING) with this application code.
    #[error("the peer stopped reading with code {0:#x}")]
    Stopped(u64),
    /// This program finished or reset the stream.
    #[error("the stream was finished or reset by this program")]
    Closed,
    /// The connection ended.
    #[error(transparent)]
    Lost(ConnectionError),
}

/// The endpoint or listener was closed by this program.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("closed by this program")]
pub struct Closed;

/// A configuration value is out of range, or contradicts another.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {reason}")]
pub struct ConfigError {
    /// The field of [`Config`](crate::Config).
    pub field: &'static str,
    /// What is wrong with its value.
    pub reason: String,
}

/// Why an [`Identity`](crate::Identity) could not be created: the private key cannot be read, or no certificate can
/// be made for it.
#[derive(Debug, thiserror::Error)]
#[error("{what}: {source}")]
pub struct IdentityError {
    what: &'static str,
    source: Box<dyn error::Error + Send + Sync>,
}

impl IdentityError {
    pub(crate) fn new(
        what: &'static str,
        source: impl Into<Box<dyn error::Error + Send + Sync>>,
    ) -> Self {
        Self {
            what,
            source: source.into(),
        }
    }
}

/// Why an endpoint could not be created, listen or dial.
#[derive(Debug, thiserror::Error)]
pub enum EndpointError {
    /// A configuration value is out of range, or contradicts another.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The key cannot be used.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// The system refused a socket or the I/O thread.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// The endpoint was closed by this program.
    #[error(transparent)]
    Closed(#[from] Closed),
}
