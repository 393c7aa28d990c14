//! Reads encoded transport parameters (RFC 9000 section 18) and writes them as the data of qlog's
//! `parameters_set`. Stateless reset tokens are left out: with one a reader could end the connection.

use super::{frames::Reader, json::Members};

/// How a parameter is encoded.
enum Kind {
    Number,
    ConnectionId,
    /// Its presence is its value.
    Flag,
    /// It has a secret, or no form in qlog without one.
    Hidden,
}

/// Identifier, qlog's name and encoding.
const PARAMETERS: [(u64, &str, Kind); 19] = [
    (
        0x00,
        "original_destination_connection_id",
        Kind::ConnectionId,
    ),
    (0x01, "max_idle_timeout", Kind::Number),
    (0x02, "stateless_reset_token", Kind::Hidden),
    (0x03, "max_udp_payload_size", Kind::Number),
    (0x04, "initial_max_data", Kind::Number),
    (0x05, "initial_max_stream_data_bidi_local", Kind::Number),
    (0x06, "initial_max_stream_data_bidi_remote", Kind::Number),
    (0x07, "initial_max_stream_data_uni", Kind::Number),
    (0x08, "initial_max_streams_bidi", Kind::Number),
    (0x09, "initial_max_streams_uni", Kind::Number),
    (0x0a, "ack_delay_exponent", Kind::Number),
    (0x0b, "max_ack_delay", Kind::Number),
    (0x0c, "disable_active_migration", Kind::Flag),
    (0x0d, "preferred_address", Kind::Hidden),
    (0x0e, "active_connection_id_limit", Kind::Number),
    (0x0f, "initial_source_connection_id", Kind::ConnectionId),
    (0x10, "retry_source_connection_id", Kind::ConnectionId),
    // RFC 9221 section 3 and RFC 9287 section 3.
    (0x20, "max_datagram_frame_size", Kind::Number),
    (0x2ab2, "grease_quic_bit", Kind::Flag),
];

/// Write the parameters; those that qlog has no name for are the last member.
pub(super) fn write(encoded: &[u8], members: &mut Members<'_>) {
    let mut reader = Reader(encoded);
    let mut unknown = Vec::new();
    while let Some((id, value)) = next(&mut reader) {
        let known = PARAMETERS.iter().find(|(known, ..)| *known == id);
        match known {
            Some((_, name, Kind::Number)) => {
                if let Some(number) = Reader(value).varint() {
                    members.number(name, number);
                }
            }
            Some((_, name, Kind::ConnectionId)) => members.hex(name, value),
            Some((_, name, Kind::Flag)) => members.flag(name, true),
            Some((_, _, Kind::Hidden)) => {}
            None => unknown.push((id, value)),
        }
    }
    if !unknown.is_empty() {
        members.array("unknown_parameters", |elements| {
            for (id, value) in unknown {
                elements.object(|members| {
                    members.number("id", id);
                    members.hex("value", value);
                });
            }
        });
    }
}

fn next<'a>(reader: &mut Reader<'a>) -> Option<(u64, &'a [u8])> {
    let id = reader.varint()?;
    let length = reader.varint()?;
    Some((id, reader.bytes(length)?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::qlog::json;

    #[test]
    fn numbers_ids_and_flags_have_names_and_tokens_are_left_out() {
        let mut encoded = vec![0x01, 2, 0x75, 0x30, 0x0f, 2, 0xab, 0xcd, 0x0c, 0, 0x02, 16];
        encoded.extend_from_slice(&[7; 16]);
        // An unknown one, then one that is cut off.
        encoded.extend_from_slice(&[0x1b, 1, 9, 0x04, 8, 1]);
        let mut out = String::new();
        json::object(&mut out, |members| write(&encoded, members));
        assert_eq!(
            out,
            "{\"max_idle_timeout\":13616,\"initial_source_connection_id\":\"abcd\",\
             \"disable_active_migration\":true,\"unknown_parameters\":[{\"id\":27,\"value\":\"09\"}]}"
        );
    }
}
