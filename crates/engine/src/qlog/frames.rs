//! Reads the frames of a packet's payload (RFC 9000 section 19) and writes them as qlog's frames. The
//! contents of streams, handshake messages and tokens are counted, never written.

use std::time::Duration;

use super::json::{Elements, Members};

/// What the frames of a packet mean for loss detection.
#[derive(Debug, Default)]
pub(super) struct Contents {
    /// RFC 9002 section 2: it has a frame other than ACK, PADDING and CONNECTION_CLOSE.
    pub(super) is_ack_eliciting: bool,
    pub(super) has_padding: bool,
    /// It has only PING, PADDING and IMMEDIATE_ACK, as probes of the path MTU have.
    pub(super) is_probe: bool,
    /// The packet numbers that its ACK frames acknowledge, first and last.
    pub(super) acknowledged: Vec<(u64, u64)>,
}

/// Frame types (RFC 9000 section 19), and those of the extensions that peers of libp2p use.
mod kind {
    pub(super) const PADDING: u64 = 0x00;
    pub(super) const PING: u64 = 0x01;
    pub(super) const ACK: u64 = 0x02;
    pub(super) const ACK_ECN: u64 = 0x03;
    pub(super) const RESET_STREAM: u64 = 0x04;
    pub(super) const STOP_SENDING: u64 = 0x05;
    pub(super) const CRYPTO: u64 = 0x06;
    pub(super) const NEW_TOKEN: u64 = 0x07;
    pub(super) const STREAM: u64 = 0x08;
    pub(super) const STREAM_LAST: u64 = 0x0f;
    pub(super) const MAX_DATA: u64 = 0x10;
    pub(super) const MAX_STREAM_DATA: u64 = 0x11;
    pub(super) const MAX_STREAMS_BIDI: u64 = 0x12;
    pub(super) const MAX_STREAMS_UNI: u64 = 0x13;
    pub(super) const DATA_BLOCKED: u64 = 0x14;
    pub(super) const STREAM_DATA_BLOCKED: u64 = 0x15;
    pub(super) const STREAMS_BLOCKED_BIDI: u64 = 0x16;
    pub(super) const STREAMS_BLOCKED_UNI: u64 = 0x17;
    pub(super) const NEW_CONNECTION_ID: u64 = 0x18;
    pub(super) const RETIRE_CONNECTION_ID: u64 = 0x19;
    pub(super) const PATH_CHALLENGE: u64 = 0x1a;
    pub(super) const PATH_RESPONSE: u64 = 0x1b;
    pub(super) const CLOSE_TRANSPORT: u64 = 0x1c;
    pub(super) const CLOSE_APPLICATION: u64 = 0x1d;
    pub(super) const HANDSHAKE_DONE: u64 = 0x1e;
    /// draft-ietf-quic-ack-frequency.
    pub(super) const IMMEDIATE_ACK: u64 = 0x1f;
    /// RFC 9221 section 4.
    pub(super) const DATAGRAM: u64 = 0x30;
    pub(super) const DATAGRAM_WITH_LENGTH: u64 = 0x31;
    /// draft-ietf-quic-ack-frequency.
    pub(super) const ACK_FREQUENCY: u64 = 0xaf;
}

/// The exponent of ACK Delay while a peer's transport parameter is not read here: the default
/// (RFC 9000 section 18.2), which quinn, quic-go and ours keep.
const ACK_DELAY_EXPONENT: u32 = 3;

/// The bytes of a payload that are not read yet.
pub(super) struct Reader<'a>(pub(super) &'a [u8]);

impl<'a> Reader<'a> {
    pub(super) fn bytes(&mut self, count: u64) -> Option<&'a [u8]> {
        let count = usize::try_from(count).ok()?;
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    pub(super) fn byte(&mut self) -> Option<u8> {
        self.bytes(1).map(|taken| taken[0])
    }

    /// RFC 9000 section 16.
    pub(super) fn varint(&mut self) -> Option<u64> {
        let first = *self.0.first()?;
        let taken = self.bytes(1 << (first >> 6))?;
        let value = taken
            .iter()
            .fold(0, |value, byte| value << 8 | u64::from(*byte));
        Some(value & (u64::MAX >> (66 - 8 * taken.len())))
    }
}

/// Write the frames of `payload`. A frame that cannot be read is the last.
pub(super) fn write(payload: &[u8], elements: &mut Elements<'_>) -> Contents {
    let mut reader = Reader(payload);
    let mut contents = Contents {
        is_probe: true,
        ..Contents::default()
    };
    while !reader.0.is_empty() {
        let before = reader.0.len();
        let Some(kind) = reader.varint() else {
            break;
        };
        match kind {
            kind::PADDING => contents.has_padding = true,
            kind::ACK | kind::ACK_ECN | kind::CLOSE_TRANSPORT | kind::CLOSE_APPLICATION => {
                contents.is_probe = false;
            }
            kind::PING | kind::IMMEDIATE_ACK => contents.is_ack_eliciting = true,
            _ => {
                contents.is_ack_eliciting = true;
                contents.is_probe = false;
            }
        }
        let mut is_read = false;
        elements.object(|members| {
            is_read = frame(kind, before, &mut reader, members, &mut contents).is_some();
        });
        if !is_read {
            break;
        }
    }
    contents.is_probe &= contents.has_padding && contents.is_ack_eliciting;
    contents
}

/// Write one frame, whose type has been read. `before` bytes were left with the type.
fn frame(
    kind: u64,
    before: usize,
    reader: &mut Reader<'_>,
    members: &mut Members<'_>,
    contents: &mut Contents,
) -> Option<()> {
    let name = |members: &mut Members<'_>, name| members.text("frame_type", name);
    match kind {
        kind::PADDING => {
            name(members, "padding");
            let rest = reader.0.iter().position(|byte| *byte != 0);
            let more = rest.unwrap_or(reader.0.len());
            reader.0 = &reader.0[more..];
            raw(members, 1 + more as u64);
        }
        kind::PING => name(members, "ping"),
        kind::ACK | kind::ACK_ECN => {
            name(members, "ack");
            ack(kind, reader, members, contents)?;
        }
        kind::RESET_STREAM => {
            name(members, "reset_stream");
            members.number("stream_id", reader.varint()?);
            application_error(members, reader.varint()?);
            members.number("final_size", reader.varint()?);
        }
        kind::STOP_SENDING => {
            name(members, "stop_sending");
            members.number("stream_id", reader.varint()?);
            application_error(members, reader.varint()?);
        }
        kind::CRYPTO => {
            name(members, "crypto");
            members.number("offset", reader.varint()?);
            let length = reader.varint()?;
            raw(members, length);
            reader.bytes(length)?;
        }
        kind::NEW_TOKEN => {
            name(members, "new_token");
            let length = reader.varint()?;
            members.object("token", |members| raw(members, length));
            reader.bytes(length)?;
        }
        kind::STREAM..=kind::STREAM_LAST => {
            name(members, "stream");
            stream(kind, reader, members)?;
        }
        kind::MAX_DATA => {
            name(members, "max_data");
            members.number("maximum", reader.varint()?);
        }
        kind::MAX_STREAM_DATA => {
            name(members, "max_stream_data");
            members.number("stream_id", reader.varint()?);
            members.number("maximum", reader.varint()?);
        }
        kind::MAX_STREAMS_BIDI | kind::MAX_STREAMS_UNI => {
            name(members, "max_streams");
            stream_type(members, kind == kind::MAX_STREAMS_BIDI);
            members.number("maximum", reader.varint()?);
        }
        kind::DATA_BLOCKED => {
            name(members, "data_blocked");
            members.number("limit", reader.varint()?);
        }
        kind::STREAM_DATA_BLOCKED => {
            name(members, "stream_data_blocked");
            members.number("stream_id", reader.varint()?);
            members.number("limit", reader.varint()?);
        }
        kind::STREAMS_BLOCKED_BIDI | kind::STREAMS_BLOCKED_UNI => {
            name(members, "streams_blocked");
            stream_type(members, kind == kind::STREAMS_BLOCKED_BIDI);
            members.number("limit", reader.varint()?);
        }
        kind::NEW_CONNECTION_ID => {
            name(members, "new_connection_id");
            members.number("sequence_number", reader.varint()?);
            members.number("retire_prior_to", reader.varint()?);
            let length = reader.byte()?;
            members.hex("connection_id", reader.bytes(u64::from(length))?);
            // The stateless reset token would let a reader of the file end the connection.
            reader.bytes(16)?;
        }
        kind::RETIRE_CONNECTION_ID => {
            name(members, "retire_connection_id");
            members.number("sequence_number", reader.varint()?);
        }
        kind::PATH_CHALLENGE | kind::PATH_RESPONSE => {
            let is_challenge = kind == kind::PATH_CHALLENGE;
            name(
                members,
                if is_challenge {
                    "path_challenge"
                } else {
                    "path_response"
                },
            );
            members.hex("data", reader.bytes(8)?);
        }
        kind::CLOSE_TRANSPORT | kind::CLOSE_APPLICATION => {
            name(members, "connection_close");
            close(kind == kind::CLOSE_TRANSPORT, reader, members)?;
        }
        kind::HANDSHAKE_DONE => name(members, "handshake_done"),
        kind::DATAGRAM | kind::DATAGRAM_WITH_LENGTH => {
            name(members, "datagram");
            let length = match kind {
                kind::DATAGRAM => reader.0.len() as u64,
                _ => reader.varint()?,
            };
            raw(members, length);
            reader.bytes(length)?;
        }
        other => {
            name(members, "unknown");
            members.number("frame_type_bytes", other);
            match other {
                kind::IMMEDIATE_ACK => {}
                kind::ACK_FREQUENCY => {
                    for _ in 0..4 {
                        reader.varint()?;
                    }
                }
                // Its length is unknown, and with it where the next frame begins.
                _ => reader.0 = &[],
            }
            members.object("raw", |members| {
                members.number("length", (before - reader.0.len()) as u64);
            });
        }
    }
    Some(())
}

/// The length of a frame's data: qlog's drafts name both members for it.
fn raw(members: &mut Members<'_>, length: u64) {
    members.object("raw", |members| {
        members.number("length", length);
        members.number("payload_length", length);
    });
}

fn application_error(members: &mut Members<'_>, code: u64) {
    members.text("error", "unknown");
    members.number("error_code", code);
}

fn stream_type(members: &mut Members<'_>, is_bidirectional: bool) {
    let name = match is_bidirectional {
        true => "bidirectional",
        false => "unidirectional",
    };
    members.text("stream_type", name);
}

fn ack(
    kind: u64,
    reader: &mut Reader<'_>,
    members: &mut Members<'_>,
    contents: &mut Contents,
) -> Option<()> {
    let largest = reader.varint()?;
    let delay = reader.varint()?.checked_shl(ACK_DELAY_EXPONENT)?;
    let more = reader.varint()?;
    members.milliseconds("ack_delay", Duration::from_micros(delay));
    let from = contents.acknowledged.len();
    let mut first = largest.checked_sub(reader.varint()?)?;
    contents.acknowledged.push((first, largest));
    for _ in 0..more {
        // RFC 9000 section 19.3.1.
        let last = first.checked_sub(reader.varint()?.checked_add(2)?)?;
        first = last.checked_sub(reader.varint()?)?;
        contents.acknowledged.push((first, last));
    }
    members.array("acked_ranges", |elements| {
        for (first, last) in &contents.acknowledged[from..] {
            elements.range(*first, *last);
        }
    });
    if kind == kind::ACK_ECN {
        for name in ["ect0", "ect1", "ce"] {
            members.number(name, reader.varint()?);
        }
    }
    Some(())
}

fn stream(kind: u64, reader: &mut Reader<'_>, members: &mut Members<'_>) -> Option<()> {
    // RFC 9000 section 19.8: the OFF, LEN and FIN bits.
    members.number("stream_id", reader.varint()?);
    if kind & 4 != 0 {
        members.number("offset", reader.varint()?);
    }
    let length = match kind & 2 {
        0 => reader.0.len() as u64,
        _ => reader.varint()?,
    };
    if kind & 1 != 0 {
        members.flag("fin", true);
    }
    raw(members, length);
    reader.bytes(length).map(|_| ())
}

fn close(is_transport: bool, reader: &mut Reader<'_>, members: &mut Members<'_>) -> Option<()> {
    let code = reader.varint()?;
    if is_transport {
        members.text("error_space", "transport");
        transport_error(members, "error", code);
        members.number("trigger_frame_type", reader.varint()?);
    } else {
        members.text("error_space", "application");
        application_error(members, code);
    }
    let length = reader.varint()?;
    let reason = reader.bytes(length)?;
    members.text("reason", &String::from_utf8_lossy(reason));
    Some(())
}

/// The names of RFC 9000 section 20.1, by code.
const TRANSPORT_ERRORS: [&str; 17] = [
    "no_error",
    "internal_error",
    "connection_refused",
    "flow_control_error",
    "stream_limit_error",
    "stream_state_error",
    "final_size_error",
    "frame_encoding_error",
    "transport_parameter_error",
    "connection_id_limit_error",
    "protocol_violation",
    "invalid_token",
    "application_error",
    "crypto_buffer_exceeded",
    "key_update_error",
    "aead_limit_reached",
    "no_viable_path",
];

/// Write a QUIC error code as `member`, and as `error_code` if it has no name.
pub(super) fn transport_error(members: &mut Members<'_>, member: &str, code: u64) {
    let known = usize::try_from(code)
        .ok()
        .and_then(|code| TRANSPORT_ERRORS.get(code));
    match (known, code) {
        (Some(name), _) => members.text(member, name),
        (None, 0x100..=0x1ff) => members.text(member, &format!("crypto_error_{code:#x}")),
        (None, _) => {
            members.text(member, "unknown");
            members.number("error_code", code);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::qlog::json;

    fn written(payload: &[u8]) -> (String, Contents) {
        let mut out = String::new();
        let mut contents = Contents::default();
        json::object(&mut out, |members| {
            members.array("f", |elements| contents = write(payload, elements));
        });
        (out, contents)
    }

    #[test]
    fn data_is_counted_and_not_written() {
        // STREAM of stream 4 at offset 5 with its end, then STREAM to the end of the packet.
        let (out, contents) = written(b"\x0f\x04\x05\x06secret\x08\x00more");
        assert_eq!(
            out,
            "{\"f\":[{\"frame_type\":\"stream\",\"stream_id\":4,\"offset\":5,\"fin\":true,\
             \"raw\":{\"length\":6,\"payload_length\":6}},\
             {\"frame_type\":\"stream\",\"stream_id\":0,\"raw\":{\"length\":4,\"payload_length\":4}}]}"
        );
        assert!(contents.is_ack_eliciting && !contents.is_probe);
    }

    #[test]
    fn acknowledged_ranges_follow_from_gaps() {
        // Largest 20, delay 2 * 8 us, one more range: 18 to 20; gap 1; 14 to 15.
        let (out, contents) = written(&[0x02, 20, 2, 1, 2, 1, 1]);
        assert!(
            out.contains("\"ack_delay\":0.016,\"acked_ranges\":[[18,20],[14,15]]"),
            "{out}"
        );
        assert_eq!(contents.acknowledged, [(18, 20), (14, 15)]);
        assert!(!contents.is_ack_eliciting);
    }

    #[test]
    fn padding_is_one_frame_and_a_probe_is_recognized() {
        let (out, contents) = written(&[0x01, 0, 0, 0]);
        assert!(out.contains(
            "{\"frame_type\":\"ping\"},{\"frame_type\":\"padding\",\"raw\":{\"length\":3,"
        ));
        assert!(contents.is_probe && contents.has_padding);
        assert!(!written(&[0x01]).1.is_probe);
        assert!(!written(&[0, 0]).1.is_probe);
    }

    #[test]
    fn a_close_has_its_code_by_name() {
        let (out, _) = written(b"\x1c\x41\x28\x06\x02no");
        assert!(
            out.contains(
                "\"error\":\"crypto_error_0x128\",\"trigger_frame_type\":6,\"reason\":\"no\""
            ),
            "{out}"
        );
        let (out, _) = written(b"\x1d\x50\x01\x00");
        assert!(
            out.contains("\"error\":\"unknown\",\"error_code\":4097"),
            "{out}"
        );
    }

    #[test]
    fn what_cannot_be_read_ends_the_list() {
        for payload in [
            &[0x06, 0x00, 0x40][..],
            &[0x02, 1, 0, 0, 2],
            &[0x3f],
            &[0xc0],
            &[0x18, 1, 0, 20],
        ] {
            // A PING behind it is no frame of the list.
            let mut followed: Vec<u8> = payload.to_vec();
            followed.push(0x01);
            let (out, _) = written(&followed);
            assert!(out.starts_with("{\"f\":[") && out.ends_with("]}"), "{out}");
            assert!(!out.contains("ping"), "{out}");
        }
    }

    proptest! {
        #[test]
        fn a_peer_may_send_anything(payload in proptest::collection::vec(any::<u8>(), 0..400)) {
            let (out, contents) = written(&payload);
            let is_whole = out.starts_with("{\"f\":[") && out.ends_with("]}");
            prop_assert!(is_whole);
            prop_assert!(!out.contains(|it: char| it < ' '));
            for (first, last) in contents.acknowledged {
                prop_assert!(first <= last);
            }
        }
    }

    #[test]
    fn variable_length_integers() {
        // RFC 9000 appendix A.1.
        for (bytes, value) in [
            (
                &[0xc2, 0x19, 0x7c, 0x5e, 0xff, 0x14, 0xe8, 0x8c][..],
                151_288_809_941_952_652,
            ),
            (&[0x9d, 0x7f, 0x3e, 0x7d], 494_878_333),
            (&[0x7b, 0xbd], 15_293),
            (&[0x25], 37),
        ] {
            assert_eq!(Reader(bytes).varint(), Some(value));
        }
    }
}
