//! What a violation of the protocol ends: one stream, or the connection (RFC 9114 section 8).

/// A violation by the peer, with the error code to report.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Error {
    /// The connection must be closed.
    Connection(u64, &'static str),
    /// The stream must be reset; the connection continues.
    Stream(u64, &'static str),
}

impl Error {
    /// The code that the peer gets.
    #[cfg(test)]
    pub(crate) fn code(self) -> u64 {
        match self {
            Self::Connection(code, _) | Self::Stream(code, _) => code,
        }
    }
}
