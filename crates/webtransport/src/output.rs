//! What a connection asks of the engine, and what it reports.

use crate::stream_id::{SessionId, StreamId};

/// A stream that the connection needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Opening {
    /// The unidirectional control stream, on both sides.
    Control,
    /// The bidirectional stream of the client's request.
    Connect,
}

/// What the engine has to do, in this order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Output {
    /// Open a stream, as soon as the peer allows it, and call
    /// [`Connection::opened`](crate::Connection::opened).
    Open(Opening),
    /// Append these bytes to a stream, after everything that was written before. They are few, and
    /// the engine keeps them until flow control has room.
    Write {
        /// The stream.
        stream: StreamId,
        /// What to send; may be empty if `fin` is set.
        bytes: Vec<u8>,
        /// Nothing follows.
        fin: bool,
    },
    /// Reset our part of a stream.
    Reset {
        /// The stream.
        stream: StreamId,
        /// The error code of QUIC's RESET_STREAM.
        code: u64,
    },
    /// Ask the peer to stop sending. Nothing of the stream may be passed to the connection any more.
    Stop {
        /// The stream.
        stream: StreamId,
        /// The error code of QUIC's STOP_SENDING.
        code: u64,
    },
    /// Close the connection. Nothing follows.
    Close {
        /// The error code of QUIC's CONNECTION_CLOSE.
        code: u64,
        /// What the peer did wrong.
        reason: &'static str,
    },
    /// Something for the program.
    Event(Event),
}

/// What happened to sessions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// Both sides may open streams of this session and send datagrams.
    Established {
        /// The session.
        session: SessionId,
    },
    /// The server gives us no session.
    Refused(Refusal),
    /// The session of a stream that [waits](crate::Received::Waiting) is there: pass on the stream's payload.
    StreamReady {
        /// The stream.
        stream: StreamId,
        /// The session.
        session: SessionId,
    },
    /// The peer wants the session to end soon.
    Draining {
        /// The session.
        session: SessionId,
    },
    /// The session is over. Reset and stop its streams with
    /// [`WT_SESSION_GONE`](crate::error_code::WT_SESSION_GONE).
    Ended {
        /// The session.
        session: SessionId,
        /// How it ended.
        end: SessionEnd,
    },
}

/// Why there is no session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// The status of the response.
    Status(u16),
    /// The request was reset with this code: by the server, or by us, as the response violates the protocol.
    Reset(u64),
    /// The server takes no more requests on this connection.
    GoingAway,
}

/// How a session ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SessionEnd {
    /// The peer closed it, with its code and reason: 0 and nothing, if it said none.
    Closed {
        /// The application's code.
        code: u32,
        /// The application's reason.
        reason: String,
    },
    /// The stream of the session was reset or stopped with this code of QUIC, by the peer or because of a
    /// violation.
    Aborted {
        /// The code.
        code: u64,
    },
}
