//! Takes the PADDING frames out of opened packets that have nothing else to say but PING and IMMEDIATE_ACK, as a probe
//! of path MTU discovery does (RFC 9000 section 14.4, draft-ietf-quic-ack-frequency): quinn-proto reads each byte of
//! PADDING as a frame, and the probes of a new connection have thousands of them, which made a tenth of a handshake.
//!
//! Packets with other frames lose the PADDING before these, where quic-go writes it. The PADDING behind is left: where
//! it begins is known only to a reader of all frames.

use bytes::{Buf, BytesMut};

const PADDING: u8 = 0x00;
const PING: u8 = 0x01;
const IMMEDIATE_ACK: u8 = 0x1f;

/// Take the PADDING out. A payload that had frames keeps one: without any a packet is an error (RFC 9000 section 12.4).
pub(super) fn unpad(payload: &mut BytesMut) {
    let Some(&(PADDING | PING)) = payload.first() else {
        return;
    };
    let Some(first) = payload.iter().position(|&byte| byte != PADDING) else {
        payload.truncate(1);
        return;
    };
    payload.advance(first);
    let mut frames = payload.iter();
    if let Some(end) = frames.position(|byte| !matches!(*byte, PING | IMMEDIATE_ACK))
        && payload[end..].iter().all(|&byte| byte == PADDING)
    {
        payload.truncate(end);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(before: &[u8], after: &[u8]) {
        let mut payload = BytesMut::from(before);
        unpad(&mut payload);
        assert_eq!(payload, after, "{before:02x?}");
    }

    #[test]
    fn a_probe_is_one_ping() {
        check(&[PING], &[PING]);
        check(&[&[PING][..], &[PADDING; 1400]].concat(), &[PING]);
        check(&[&[PADDING; 1400][..], &[PING]].concat(), &[PING]);
        check(&[PADDING, PING, PADDING], &[PING]);
        let quinn = [PING, IMMEDIATE_ACK];
        check(&[&quinn[..], &[PADDING; 1400]].concat(), &quinn);
        check(&quinn, &quinn);
    }

    #[test]
    fn padding_alone_is_one_frame_and_nothing_stays_nothing() {
        check(&[PADDING; 1400], &[PADDING]);
        check(&[PADDING], &[PADDING]);
        check(&[], &[]);
    }

    #[test]
    fn other_frames_lose_only_the_padding_before_them() {
        // STREAM without a length, whose data are zeros, alone and behind other frames.
        let stream = [0x08, 4, 0, 0, 0];
        check(&stream, &stream);
        check(&[&[PADDING; 9][..], &stream].concat(), &stream);
        let ping = [&[PING][..], &stream].concat();
        check(&ping, &ping);
        check(&[&[PADDING; 9][..], &ping].concat(), &ping);
        let later = [&[PING, PADDING][..], &stream].concat();
        check(&later, &later);
    }
}
