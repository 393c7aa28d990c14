//! Capsules (RFC 9297 section 3.2) on a session's CONNECT stream: those that end it are read, all others are
//! skipped without being stored.

use crate::{
    error::Error,
    error_code,
    type_length::{Step, TypeLength},
    varint,
};

/// draft-ietf-webtrans-http3 section 6.
const CLOSE_SESSION: u64 = 0x2843;
/// draft-ietf-webtrans-http3 section 4.7.
const DRAIN_SESSION: u64 = 0x78ae;

/// The longest reason of a close.
pub(crate) const MAX_REASON: usize = 1024;
const CODE_LEN: usize = 4;

/// A capsule that means something to us.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Capsule {
    /// The peer closes the session. Nothing may follow.
    Close { code: u32, reason: String },
    /// The peer wants the session to end soon. Reported once.
    Drain,
}

/// Append a capsule that closes the session, with as much of the reason as may be sent.
pub(crate) fn write_close(out: &mut Vec<u8>, code: u32, reason: &str) {
    let reason = cut(reason);
    varint::write(out, CLOSE_SESSION);
    varint::write(out, (CODE_LEN + reason.len()) as u64);
    out.extend_from_slice(&code.to_be_bytes());
    out.extend_from_slice(reason.as_bytes());
}

/// The longest beginning of a reason that may be sent and does not end inside a character.
fn cut(reason: &str) -> &str {
    let mut len = reason.len().min(MAX_REASON);
    while !reason.is_char_boundary(len) {
        len -= 1;
    }
    &reason[..len]
}

/// Append a capsule that asks the peer to end the session.
pub(crate) fn write_drain(out: &mut Vec<u8>) {
    varint::write(out, DRAIN_SESSION);
    varint::write(out, 0);
}

/// Reads the capsules of one session.
#[derive(Debug, Default)]
pub(crate) struct Capsules {
    sequence: TypeLength,
    /// The type of the capsule that is being read.
    kind: u64,
    /// The value of a capsule that closes the session.
    value: Vec<u8>,
    is_closed: bool,
    is_draining: bool,
}

impl Capsules {
    /// The next capsule that means something to us. It takes bytes from the front of `input`; `None` if all
    /// are taken.
    pub(crate) fn next(&mut self, input: &mut &[u8]) -> Result<Option<Capsule>, Error> {
        if self.is_closed && !input.is_empty() {
            return Err(wrong("data follows the close of a session"));
        }
        while let Some(step) = self.sequence.next(input) {
            match step {
                Step::Start { kind, len } => {
                    self.kind = kind;
                    if kind == CLOSE_SESSION
                        && !(CODE_LEN as u64..=(CODE_LEN + MAX_REASON) as u64).contains(&len)
                    {
                        return Err(wrong("the close of a session has a wrong length"));
                    }
                }
                Step::Value(part) if self.kind == CLOSE_SESSION => {
                    self.value.extend_from_slice(part);
                }
                Step::Value(_) => {}
                Step::End if self.kind == CLOSE_SESSION => {
                    self.is_closed = true;
                    let value = std::mem::take(&mut self.value);
                    let (code, reason) = value
                        .split_first_chunk::<CODE_LEN>()
                        .ok_or_else(|| wrong("the close of a session is cut off"))?;
                    return Ok(Some(Capsule::Close {
                        code: u32::from_be_bytes(*code),
                        reason: String::from_utf8_lossy(reason).into_owned(),
                    }));
                }
                Step::End if self.kind == DRAIN_SESSION && !self.is_draining => {
                    self.is_draining = true;
                    return Ok(Some(Capsule::Drain));
                }
                Step::End => {}
            }
        }
        Ok(None)
    }

    /// The stream has ended: a capsule must not be cut off (RFC 9297 section 3.3).
    pub(crate) fn end(&self) -> Result<(), Error> {
        if self.sequence.is_between() {
            return Ok(());
        }
        Err(wrong("a capsule is cut off"))
    }
}

fn wrong(reason: &'static str) -> Error {
    Error::Stream(error_code::H3_MESSAGE_ERROR, reason)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The capsules in these bytes, which arrive in pieces of this size.
    fn collected(bytes: &[u8], size: usize) -> Result<Vec<Capsule>, Error> {
        let mut capsules = Capsules::default();
        let mut found = Vec::new();
        for mut piece in bytes.chunks(size) {
            while let Some(capsule) = capsules.next(&mut piece)? {
                found.push(capsule);
            }
        }
        capsules.end()?;
        Ok(found)
    }

    fn close(code: u32, reason: &str) -> Vec<u8> {
        let mut out = Vec::new();
        write_close(&mut out, code, reason);
        out
    }

    #[test]
    fn capsules_are_the_drafts() {
        assert_eq!(
            close(7, "bye"),
            [0x68, 0x43, 7, 0, 0, 0, 7, b'b', b'y', b'e']
        );
        let mut drain = Vec::new();
        write_drain(&mut drain);
        assert_eq!(drain, [0x80, 0, 0x78, 0xae, 0]);
        assert_eq!(collected(&drain, 1), Ok(vec![Capsule::Drain]));
    }

    #[test]
    fn a_close_is_limited() {
        let long = "x".repeat(MAX_REASON + 1);
        let found = collected(&close(1, &long), 100).expect("cut to the limit");
        let reason = long[1..].to_owned();
        assert_eq!(found, [Capsule::Close { code: 1, reason }]);
        // An odd number of bytes before characters of two bytes each: the limit falls into one.
        let found =
            collected(&close(1, &format!("x{}", "é".repeat(600))), 100).expect("valid text");
        assert!(
            matches!(&found[..], [Capsule::Close { reason, .. }] if reason.len() == MAX_REASON - 1)
        );
        for len in [0_u64, 3, 4 + 1025, varint::MAX] {
            let mut bytes = Vec::new();
            varint::write(&mut bytes, CLOSE_SESSION);
            varint::write(&mut bytes, len);
            let error = collected(&bytes, 1).expect_err("a wrong length");
            assert_eq!(error.code(), error_code::H3_MESSAGE_ERROR);
        }
    }

    #[test]
    fn nothing_follows_a_close() {
        let mut bytes = close(0, "");
        bytes.push(0);
        for size in [1, 100] {
            let error = collected(&bytes, size).expect_err("data after a close");
            assert_eq!(error, wrong("data follows the close of a session"));
        }
    }

    #[test]
    fn unknown_capsules_are_not_stored() {
        let mut bytes = Vec::new();
        varint::write(&mut bytes, 0x190b_4d3d);
        varint::write(&mut bytes, 1 << 40);
        let mut capsules = Capsules::default();
        let mut input = &bytes[..];
        assert_eq!(capsules.next(&mut input), Ok(None));
        for _ in 0..100 {
            assert_eq!(capsules.next(&mut &[0x28; 10_000][..]), Ok(None));
        }
        assert_eq!(capsules.value.capacity(), 0);
        assert_eq!(capsules.end(), Err(wrong("a capsule is cut off")));
    }

    proptest! {
        #[test]
        fn a_close_comes_back(code: u32, reason in "\\PC{0,300}", skipped: Vec<u8>, size in 1..50_usize) {
            let mut bytes = Vec::new();
            varint::write(&mut bytes, 0x21);
            varint::write(&mut bytes, skipped.len() as u64);
            bytes.extend_from_slice(&skipped);
            write_drain(&mut bytes);
            write_close(&mut bytes, code, &reason);
            prop_assert_eq!(
                collected(&bytes, size),
                Ok(vec![Capsule::Drain, Capsule::Close { code, reason: cut(&reason).to_owned() }])
            );
        }

        #[test]
        fn any_bytes_are_read_alike_in_pieces(bytes: Vec<u8>, size in 1..20_usize) {
            prop_assert_eq!(collected(&bytes, size), collected(&bytes, bytes.len().max(1)));
        }
    }
}
