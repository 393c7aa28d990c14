//! Replaces the frames RESET_STREAM_AT (draft-ietf-quic-reliable-stream-reset) of opened packets by RESET_STREAM and
//! padding of the same length, as quinn-proto knows only the latter.
//!
//! What is lost is the promise that the bytes up to the reliable size are still delivered. WebTransport makes it for the
//! header of a stream, which a reset may overtake without it. Then it cannot be known whose stream that was, and
//! `driver/webtransport.rs` takes it for the application's. A qlog file has the frames that replace it.

use bytes::Buf;
use quinn_proto::{
    VarInt,
    coding::{Codec, UnexpectedEnd},
};

const PADDING: u8 = 0x00;
const RESET_STREAM: u8 = 0x04;
const RESET_STREAM_AT: u8 = 0x24;

/// Replace the frames of a payload. From the first frame on that cannot be read nothing is replaced: quinn-proto then
/// closes the connection because of it.
pub(super) fn rewrite(payload: &mut [u8]) {
    let mut at = 0;
    while let Some(frame) = payload.get_mut(at..).filter(|rest| !rest.is_empty()) {
        let Ok(length) = frame_length(frame) else {
            return;
        };
        if frame[0] == RESET_STREAM_AT {
            let Ok(reset) = reset_length(frame) else {
                return;
            };
            frame[0] = RESET_STREAM;
            frame[reset..length].fill(PADDING);
        }
        at += length;
    }
}

/// The length of the RESET_STREAM that the RESET_STREAM_AT at the start of `bytes` becomes. It cannot be read if the
/// reliable size is more than the final size.
fn reset_length(bytes: &[u8]) -> Result<usize, UnexpectedEnd> {
    let mut rest = Rest(&bytes[1..]);
    rest.varints(2)?;
    let final_size = rest.varint()?;
    let length = bytes.len() - rest.0.len();
    if rest.varint()? > final_size {
        return Err(UnexpectedEnd);
    }
    Ok(length)
}

/// The length of the frame at the start of `bytes` (RFC 9000 section 19).
fn frame_length(bytes: &[u8]) -> Result<usize, UnexpectedEnd> {
    let mut rest = Rest(bytes);
    match rest.varint()? {
        // PADDING, PING, HANDSHAKE_DONE, and IMMEDIATE_ACK of draft-ietf-quic-ack-frequency.
        0x00 | 0x01 | 0x1e | 0x1f => {}
        // ACK, and ACK with counts of ECN.
        kind @ (0x02 | 0x03) => {
            rest.varints(2)?;
            let ranges = rest.varint()?;
            rest.varint()?;
            for _ in 0..ranges {
                rest.varints(2)?;
            }
            rest.varints(if kind == 0x03 { 3 } else { 0 })?;
        }
        // RESET_STREAM.
        0x04 => rest.varints(3)?,
        // RESET_STREAM_AT, and ACK_FREQUENCY of draft-ietf-quic-ack-frequency.
        0x24 | 0xaf => rest.varints(4)?,
        // STOP_SENDING, MAX_STREAM_DATA, STREAM_DATA_BLOCKED.
        0x05 | 0x11 | 0x15 => rest.varints(2)?,
        // CRYPTO.
        0x06 => {
            rest.varint()?;
            rest.counted()?;
        }
        // NEW_TOKEN, and DATAGRAM with a length (RFC 9221 section 4).
        0x07 | 0x31 => rest.counted()?,
        // STREAM: the bits tell of an offset and of a length.
        kind @ 0x08..=0x0f => {
            rest.varint()?;
            if kind & 0x04 != 0 {
                rest.varint()?;
            }
            if kind & 0x02 != 0 {
                rest.counted()?;
            } else {
                rest = Rest(&[]);
            }
        }
        // MAX_DATA, MAX_STREAMS, DATA_BLOCKED, STREAMS_BLOCKED, RETIRE_CONNECTION_ID.
        0x10 | 0x12..=0x14 | 0x16 | 0x17 | 0x19 => rest.varints(1)?,
        // NEW_CONNECTION_ID, with the token for stateless resets.
        0x18 => {
            rest.varints(2)?;
            let id = u8::decode(&mut rest.0)?;
            rest.skip(u64::from(id) + 16)?;
        }
        // PATH_CHALLENGE, PATH_RESPONSE.
        0x1a | 0x1b => rest.skip(8)?,
        // CONNECTION_CLOSE of QUIC and of the application.
        0x1c => {
            rest.varints(2)?;
            rest.counted()?;
        }
        0x1d => {
            rest.varint()?;
            rest.counted()?;
        }
        // DATAGRAM without a length.
        0x30 => rest = Rest(&[]),
        _ => return Err(UnexpectedEnd),
    }
    Ok(bytes.len() - rest.0.len())
}

/// The unread part of a packet.
struct Rest<'a>(&'a [u8]);

impl Rest<'_> {
    fn varint(&mut self) -> Result<u64, UnexpectedEnd> {
        VarInt::decode(&mut self.0).map(VarInt::into_inner)
    }

    fn varints(&mut self, count: usize) -> Result<(), UnexpectedEnd> {
        for _ in 0..count {
            self.varint()?;
        }
        Ok(())
    }

    fn skip(&mut self, length: u64) -> Result<(), UnexpectedEnd> {
        let length = usize::try_from(length).map_err(|_| UnexpectedEnd)?;
        if length > self.0.len() {
            return Err(UnexpectedEnd);
        }
        self.0.advance(length);
        Ok(())
    }

    /// A length and as many bytes.
    fn counted(&mut self) -> Result<(), UnexpectedEnd> {
        let length = self.varint()?;
        self.skip(length)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Whatever is replaced, quinn-proto sees the same frames at the same places.
        #[test]
        fn any_payload_keeps_its_layout(before: Vec<u8>) {
            let mut after = before.clone();
            rewrite(&mut after);
            prop_assert_eq!(after.len(), before.len());
            let mut at = 0;
            while at < before.len()
                && let Ok(length) = frame_length(&before[at..])
            {
                match (before[at], after[at]) {
                    (RESET_STREAM_AT, RESET_STREAM) => {
                        let reset = frame_length(&after[at..]).expect("a whole frame");
                        prop_assert_eq!(&after[at + 1..at + reset], &before[at + 1..at + reset]);
                        prop_assert!(after[at + reset..at + length].iter().all(|&byte| byte == PADDING));
                    }
                    _ => prop_assert_eq!(&after[at..at + length], &before[at..at + length]),
                }
                at += length;
            }
            prop_assert_eq!(&after[at..], &before[at..]);
        }
    }

    /// One of each kind, every number of it in two bytes; the last has no end of its own.
    fn every_kind() -> Vec<Vec<u8>> {
        let n = |count: usize| [0x40, 0x25].repeat(count);
        let frame = |kind: &[u8], body: &[&[u8]]| [kind, &body.concat()].concat();
        let seven = &[0x40, 7, 0x24, 0x24, 0x24, 0x24, 0x24, 0x24, 0x24];
        vec![
            vec![0x00],
            vec![0x01],
            vec![0x1e],
            vec![0x1f],
            frame(&[0x02], &[&n(2), &[2], &n(1), &n(4)]),
            frame(&[0x03], &[&n(2), &[1], &n(1), &n(2), &n(3)]),
            frame(&[0x04], &[&n(3)]),
            frame(&[0x05], &[&n(2)]),
            frame(&[0x06], &[&n(1), seven]),
            frame(&[0x07], &[seven]),
            frame(&[0x0a], &[&n(1), seven]),
            frame(&[0x0f], &[&n(2), seven]),
            frame(&[0x10], &[&n(1)]),
            frame(&[0x11], &[&n(2)]),
            frame(&[0x12], &[&n(1)]),
            frame(&[0x13], &[&n(1)]),
            frame(&[0x14], &[&n(1)]),
            frame(&[0x15], &[&n(2)]),
            frame(&[0x16], &[&n(1)]),
            frame(&[0x17], &[&n(1)]),
            frame(&[0x18], &[&n(2), &[4], &[0x24; 4 + 16]]),
            frame(&[0x19], &[&n(1)]),
            frame(&[0x1a], &[&[0x24; 8]]),
            frame(&[0x1b], &[&[0x24; 8]]),
            frame(&[0x1c], &[&n(2), seven]),
            frame(&[0x1d], &[&n(1), seven]),
            frame(&[0x31], &[seven]),
            frame(&[0x40, 0xaf], &[&n(4)]),
        ]
    }

    /// Stream 5, code 0x1234, 9 bytes, of which 3 are reliable.
    const AT: [u8; 7] = [0x24, 5, 0x52, 0x34, 9, 0x40, 3];
    const REPLACED: [u8; 7] = [0x04, 5, 0x52, 0x34, 9, 0, 0];

    #[track_caller]
    fn check(before: &[u8], after: &[u8]) {
        let mut payload = before.to_vec();
        rewrite(&mut payload);
        assert_eq!(payload, after, "{before:02x?}");
    }

    #[test]
    fn the_frame_is_found_among_all_others_and_only_as_a_frame() {
        let kinds = every_kind();
        for frame in &kinds {
            assert_eq!(frame_length(frame), Ok(frame.len()), "{frame:02x?}");
            check(
                &[&AT, &frame[..], &AT, &AT].concat(),
                &[&REPLACED, &frame[..], &REPLACED, &REPLACED].concat(),
            );
        }
        // A frame that extends to the end of the packet.
        for kind in [0x08, 0x0d, 0x30] {
            check(
                &[&AT[..], &[kind, 1, 1], &AT].concat(),
                &[&REPLACED[..], &[kind, 1, 1], &AT].concat(),
            );
        }
        check(
            &[kinds.concat(), AT.to_vec()].concat(),
            &[kinds.concat(), REPLACED.to_vec()].concat(),
        );
    }

    #[test]
    fn what_cannot_be_read_is_left_for_quinn_proto() {
        for end in 1..AT.len() {
            check(&AT[..end], &AT[..end]);
        }
        // More is reliable than there is; a type that is not in its shortest form; an unknown frame.
        check(&[0x24, 5, 1, 9, 10], &[0x24, 5, 1, 9, 10]);
        let long = [&[0x40][..], &AT].concat();
        check(&long, &long);
        let unknown = [&[0x25][..], &AT].concat();
        check(&unknown, &unknown);
        for frame in every_kind() {
            for end in 0..frame.len() {
                check(&frame[..end], &frame[..end]);
            }
        }
    }
}
