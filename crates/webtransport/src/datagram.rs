//! HTTP datagrams (RFC 9297 section 2.1): which session a QUIC datagram belongs to.

use crate::{error::Error, error_code, stream_id::SessionId, varint};

/// The bytes before the payload of a session's datagram: a quarter of the session's id.
#[must_use]
pub fn header(session: SessionId) -> Vec<u8> {
    let mut out = Vec::with_capacity(varint::MAX_LEN);
    varint::write(&mut out, session.get() / 4);
    out
}

/// The session that a datagram names, and its payload.
pub(crate) fn read(datagram: &[u8]) -> Result<(SessionId, &[u8]), Error> {
    varint::read(datagram)
        .and_then(|(quarter, payload)| {
            let session = SessionId::new(quarter.checked_mul(4)?)?;
            Some((session, payload))
        })
        .ok_or(Error::Connection(
            error_code::H3_DATAGRAM_ERROR,
            "a datagram has no valid Quarter Stream ID",
        ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn datagrams_name_a_quarter_of_their_session() {
        let session = SessionId::new(400).expect("a session");
        assert_eq!(header(session), [0x40, 100]);
        assert_eq!(read(&[0x40, 100, 7, 8]), Ok((session, &[7, 8][..])));
        let largest = SessionId::new((1 << 62) - 4).expect("a session");
        assert_eq!(read(&header(largest)), Ok((largest, &[][..])));
        for wrong in [&[][..], &[0x40], &[0xff; 8], &[0xd0, 0, 0, 0, 0, 0, 0, 0]] {
            let error = read(wrong).expect_err("no session");
            assert_eq!(error.code(), error_code::H3_DATAGRAM_ERROR);
        }
    }
}
