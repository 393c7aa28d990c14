//! Ids of QUIC streams (RFC 9000 section 2.1), and of sessions, which are ids of CONNECT streams.

use std::fmt;

use crate::varint;

/// The side of a connection, which decides what each stream may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// The side that dialed.
    Client,
    /// The side that was dialed.
    Server,
}

/// The id of a stream, as QUIC encodes it: the two lowest bits say who opened it and whether it is
/// unidirectional.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StreamId(u64);

impl StreamId {
    /// `None` if the id is too large for QUIC.
    #[must_use]
    pub fn new(id: u64) -> Option<Self> {
        (id <= varint::MAX).then_some(Self(id))
    }

    /// The number.
    #[must_use]
    pub fn get(self) -> u64 {
        self.0
    }

    /// Which side opened the stream.
    #[must_use]
    pub fn initiator(self) -> Side {
        if self.0 & 1 == 0 {
            Side::Client
        } else {
            Side::Server
        }
    }

    /// Whether both sides send on the stream.
    #[must_use]
    pub fn is_bidirectional(self) -> bool {
        self.0 & 2 == 0
    }
}

impl fmt::Display for StreamId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A session: the id of the stream with its CONNECT request (draft-ietf-webtrans-http3 section 2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionId(StreamId);

impl SessionId {
    /// `None` if no request can have this id: it must be of a bidirectional stream that the client opened.
    #[must_use]
    pub fn new(id: u64) -> Option<Self> {
        StreamId::new(id).filter(|_| id & 3 == 0).map(Self)
    }

    /// The stream of the CONNECT request.
    #[must_use]
    pub fn stream(self) -> StreamId {
        self.0
    }

    /// The number.
    #[must_use]
    pub fn get(self) -> u64 {
        self.0.get()
    }
}

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 9000 table 1.
    #[test]
    fn the_lowest_bits_are_the_type() {
        for (id, initiator, is_bidirectional) in [
            (0, Side::Client, true),
            (1, Side::Server, true),
            (2, Side::Client, false),
            (3, Side::Server, false),
            (44, Side::Client, true),
        ] {
            let stream = StreamId::new(id).expect("an id");
            assert_eq!(
                (stream.initiator(), stream.is_bidirectional()),
                (initiator, is_bidirectional)
            );
            assert_eq!(SessionId::new(id).is_some(), id % 4 == 0);
        }
        assert_eq!(StreamId::new(1 << 62), None);
        assert_eq!(SessionId::new(1 << 62), None);
    }
}
