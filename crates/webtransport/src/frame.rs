//! The types of HTTP/3's frames (RFC 9114 section 7.2), and how a frame is written.

use crate::{error::Error, error_code, varint};

pub(crate) const DATA: u64 = 0x00;
pub(crate) const HEADERS: u64 = 0x01;
pub(crate) const CANCEL_PUSH: u64 = 0x03;
pub(crate) const SETTINGS: u64 = 0x04;
pub(crate) const PUSH_PROMISE: u64 = 0x05;
pub(crate) const GOAWAY: u64 = 0x07;
pub(crate) const MAX_PUSH_ID: u64 = 0x0d;
/// The signal of a session's bidirectional stream, which has no length (draft-ietf-webtrans-http3 section
/// 4.3).
pub(crate) const WT_STREAM: u64 = 0x41;

/// Refuse the types that no stream may carry: those of HTTP/2 (RFC 9114 section 7.2.8), and the stream signal
/// of WebTransport anywhere but at the start of a stream.
pub(crate) fn check(kind: u64) -> Result<(), Error> {
    match kind {
        0x02 | 0x06 | 0x08 | 0x09 => Err(Error::Connection(
            error_code::H3_FRAME_UNEXPECTED,
            "a frame has a type of HTTP/2",
        )),
        WT_STREAM => Err(Error::Connection(
            error_code::H3_FRAME_ERROR,
            "a WebTransport stream is signaled inside another stream",
        )),
        _ => Ok(()),
    }
}

/// Append a frame.
pub(crate) fn write(out: &mut Vec<u8>, kind: u64, payload: &[u8]) {
    varint::write(out, kind);
    varint::write(out, payload.len() as u64);
    out.extend_from_slice(payload);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_is_type_length_payload() {
        let mut out = Vec::new();
        write(&mut out, HEADERS, b"abc");
        write(&mut out, SETTINGS, &[7; 64]);
        assert_eq!(out[..7], [1, 3, b'a', b'b', b'c', 4, 0x40]);
        assert_eq!(out[7..], [&[0x40][..], &[7; 64]].concat());
    }

    #[test]
    fn types_of_http2_are_refused() {
        let refused: Vec<u64> = (0..0x40).filter(|kind| check(*kind).is_err()).collect();
        assert_eq!(refused, [2, 6, 8, 9]);
        assert_eq!(
            check(2).expect_err("a type of HTTP/2").code(),
            error_code::H3_FRAME_UNEXPECTED
        );
        assert_eq!(
            check(WT_STREAM).expect_err("a signal").code(),
            error_code::H3_FRAME_ERROR
        );
        // RFC 9114 section 7.2.8: reserved to be ignored.
        assert_eq!(check(0x1f * 5 + 0x21), Ok(()));
    }
}
