//! The first bytes of a stream, which say what it is (RFC 9114 section 6.2, draft-ietf-webtrans-http3 sections
//! 4.2 and 4.3).

use crate::{
    error::Error,
    error_code, frame,
    stream_id::SessionId,
    varint::{self, Partial},
};

const CONTROL: u64 = 0x00;
const PUSH: u64 = 0x01;
const QPACK_ENCODER: u64 = 0x02;
const QPACK_DECODER: u64 = 0x03;
/// A session's unidirectional stream.
const WT_STREAM: u64 = 0x54;

/// What a stream is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum StreamKind {
    Control,
    Push,
    QpackEncoder,
    QpackDecoder,
    /// The payload of this session follows.
    Session(SessionId),
    /// A request, whose first frame has this type.
    Request(u64),
    /// A unidirectional stream of a type that we do not know.
    Unknown,
}

/// Append the header of a unidirectional control stream.
pub(crate) fn write_control(out: &mut Vec<u8>) {
    varint::write(out, CONTROL);
}

/// The header of a session's stream.
#[must_use]
pub fn of_session(session: SessionId, is_bidirectional: bool) -> Vec<u8> {
    let mut out = Vec::with_capacity(2 * varint::MAX_LEN);
    varint::write(
        &mut out,
        if is_bidirectional {
            frame::WT_STREAM
        } else {
            WT_STREAM
        },
    );
    varint::write(&mut out, session.get());
    out
}

/// A header that arrives in pieces.
#[derive(Debug, Default)]
pub(crate) struct StreamHeader {
    partial: Partial,
    /// The type was that of a session's stream, so the session's id follows.
    is_session: bool,
}

impl StreamHeader {
    /// Whether no byte has arrived.
    pub(crate) fn is_empty(&self) -> bool {
        self.partial.is_empty() && !self.is_session
    }

    /// Take the header from the front of `input`. `None` if it is not complete.
    pub(crate) fn read(
        &mut self,
        input: &mut &[u8],
        is_bidirectional: bool,
    ) -> Result<Option<StreamKind>, Error> {
        while let Some(number) = self.partial.read(input) {
            if self.is_session {
                let session = SessionId::new(number).ok_or(Error::Connection(
                    error_code::H3_ID_ERROR,
                    "a stream names a session with an id that no session can have",
                ))?;
                return Ok(Some(StreamKind::Session(session)));
            }
            let kind = match (is_bidirectional, number) {
                (true, frame::WT_STREAM) | (false, WT_STREAM) => {
                    self.is_session = true;
                    continue;
                }
                (true, _) => StreamKind::Request(number),
                (false, CONTROL) => StreamKind::Control,
                (false, PUSH) => StreamKind::Push,
                (false, QPACK_ENCODER) => StreamKind::QpackEncoder,
                (false, QPACK_DECODER) => StreamKind::QpackDecoder,
                (false, _) => StreamKind::Unknown,
            };
            return Ok(Some(kind));
        }
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(
        mut bytes: &[u8],
        is_bidirectional: bool,
    ) -> (Result<Option<StreamKind>, Error>, usize) {
        let len = bytes.len();
        let kind = StreamHeader::default().read(&mut bytes, is_bidirectional);
        (kind, len - bytes.len())
    }

    #[test]
    fn types_are_the_rfcs_and_the_drafts() {
        let session = SessionId::new(4).expect("a session");
        for (bytes, is_bidirectional, kind, len) in [
            (&[0x00, 0x04][..], false, StreamKind::Control, 1),
            (&[0x01], false, StreamKind::Push, 1),
            (&[0x02], false, StreamKind::QpackEncoder, 1),
            (&[0x03], false, StreamKind::QpackDecoder, 1),
            (&[0x21], false, StreamKind::Unknown, 1),
            (&[0x40, 0x41], false, StreamKind::Unknown, 2),
            (
                &[0x40, 0x54, 0x04, b'x'],
                false,
                StreamKind::Session(session),
                3,
            ),
            (
                &[0x40, 0x41, 0x04, b'x'],
                true,
                StreamKind::Session(session),
                3,
            ),
            (&[0x01, 0x05], true, StreamKind::Request(1), 1),
            (&[0x40, 0x54, 0x04], true, StreamKind::Request(0x54), 2),
        ] {
            assert_eq!(
                read(bytes, is_bidirectional),
                (Ok(Some(kind)), len),
                "{bytes:x?}"
            );
        }
    }

    #[test]
    fn sessions_have_the_ids_of_requests() {
        for id in [1, 2, 3, 7] {
            let (error, _) = read(&[0x40, 0x54, id], false);
            assert_eq!(error.map_err(Error::code), Err(error_code::H3_ID_ERROR));
        }
    }

    proptest! {
        #[test]
        fn headers_come_back_from_pieces(
            id in 0..1_u64 << 60,
            is_bidirectional: bool,
            payload: Vec<u8>,
            size in 1..12_usize,
        ) {
            let session = SessionId::new(id * 4).expect("a session");
            let mut bytes = of_session(session, is_bidirectional);
            let len = bytes.len();
            bytes.extend_from_slice(&payload);
            let mut header = StreamHeader::default();
            let mut taken = 0;
            for mut piece in bytes.chunks(size) {
                let before = piece.len();
                let kind = header.read(&mut piece, is_bidirectional).expect("valid");
                taken += before - piece.len();
                if let Some(kind) = kind {
                    prop_assert_eq!(kind, StreamKind::Session(session));
                    break;
                }
            }
            prop_assert_eq!(taken, len);
        }
    }
}
