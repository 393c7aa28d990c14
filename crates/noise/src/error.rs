//! Why a handshake failed: on which side, and at which message.

/// Any error, in a box.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// Why a handshake failed. Peer ids and hashes are in the texts.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NoiseError {
    /// The peer announced a message that is too long.
    #[error("the peer's Noise message {message} has {length} bytes, and at most 4096 are read")]
    TooLong {
        /// Which of the three messages.
        message: u8,
        /// Its length by the peer.
        length: usize,
    },
    /// The peer's message does not continue the handshake: it was altered, or is no Noise.
    #[error("the peer's Noise message {message} is refused: {source}")]
    Refused {
        /// Which of the three messages.
        message: u8,
        /// Noise's reason.
        source: snow::Error,
    },
    /// The stream ended before the handshake.
    #[error("the peer ended the stream before the end of its Noise message {message}")]
    Ended {
        /// Which of the three messages.
        message: u8,
    },
    /// The payload is not libp2p's.
    #[error("the peer's Noise payload is malformed at {0}")]
    Malformed(&'static str),
    /// The payload has more entries than are read.
    #[error("the peer's Noise payload has more than {most} {what}")]
    TooMany {
        /// The name of the list.
        what: &'static str,
        /// Its limit.
        most: usize,
    },
    /// The peer's host key cannot be read.
    #[error("the peer's host key cannot be read: {0}")]
    HostKey(BoxError),
    /// The peer does not have the host key that it names, or another party stands between.
    #[error("the Noise key of peer {peer} is not signed by its host key")]
    Signature {
        /// The peer id that it claims.
        peer: String,
    },
    /// The peer's id is not the dialed one.
    #[error("Peer ID mismatch: expected {expected}, but {actual} answered")]
    PeerIdMismatch {
        /// The dialed peer id.
        expected: String,
        /// The verified peer id that answered.
        actual: String,
    },
    /// The TLS certificate may be another party's.
    #[error(
        "peer {peer} does not confirm the certificate hash {hash} of the dialed address: the address is old, or \
         another party ends the TLS connection"
    )]
    CertificateNotConfirmed {
        /// The peer id of the server.
        peer: String,
        /// The multihash in hexadecimal digits.
        hash: String,
    },
    /// Our own host key failed, or our payload is too long.
    #[error("cannot make our Noise message: {0}")]
    Local(BoxError),
    /// The handshake has failed before.
    #[error("the Noise handshake has failed before")]
    Over,
}
