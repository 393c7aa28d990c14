//! Writes one packet as the data of qlog's `packet_sent` and `packet_received`: its header, its frames
//! and its length. The packet is not protected (RFC 9001 section 5.4).

use super::{
    frames::{self, Contents, Reader},
    json::Members,
};

/// Packet number spaces (RFC 9000 section 12.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Space {
    Initial,
    Handshake,
    Data,
}

impl Space {
    pub(super) const COUNT: usize = 3;
}

/// One packet, as the keys see it.
pub(super) struct Packet<'a> {
    pub(super) number: u64,
    /// From the first byte through the packet number.
    pub(super) header: &'a [u8],
    /// The frames.
    pub(super) payload: &'a [u8],
    /// Bytes of the packet, with the authentication tag.
    pub(super) length: usize,
}

impl Packet<'_> {
    pub(super) fn space(&self) -> Space {
        match kind(self.header) {
            Kind::Initial => Space::Initial,
            Kind::Handshake => Space::Handshake,
            Kind::ZeroRtt | Kind::OneRtt | Kind::Retry => Space::Data,
        }
    }

    pub(super) fn write(&self, members: &mut Members<'_>) -> Contents {
        members.object("header", |members| {
            header(self.header, members);
            members.number("packet_number", self.number);
        });
        let mut contents = Contents::default();
        members.array("frames", |elements| {
            contents = frames::write(self.payload, elements);
        });
        members.object("raw", |members| {
            members.number("length", self.length as u64);
            members.number("payload_length", self.payload.len() as u64);
        });
        contents
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Initial,
    ZeroRtt,
    Handshake,
    Retry,
    OneRtt,
}

/// RFC 9000 section 17.2.
fn kind(header: &[u8]) -> Kind {
    match header.first() {
        Some(first) if first & 0x80 != 0 => match (first >> 4) & 3 {
            0 => Kind::Initial,
            1 => Kind::ZeroRtt,
            2 => Kind::Handshake,
            _ => Kind::Retry,
        },
        _ => Kind::OneRtt,
    }
}

/// Write the type of a packet, and what only long headers have.
pub(super) fn header(header: &[u8], members: &mut Members<'_>) {
    let kind = kind(header);
    let name = match kind {
        Kind::Initial => "initial",
        Kind::ZeroRtt => "0RTT",
        Kind::Handshake => "handshake",
        Kind::Retry => "retry",
        Kind::OneRtt => "1RTT",
    };
    members.text("packet_type", name);
    if kind != Kind::OneRtt {
        long(kind, header, members);
    }
}

fn long(kind: Kind, header: &[u8], members: &mut Members<'_>) -> Option<()> {
    let mut reader = Reader(header.get(1..)?);
    members.hex("version", reader.bytes(4)?);
    for (length, id) in [("dcil", "dcid"), ("scil", "scid")] {
        let count = reader.byte()?;
        members.number(length, u64::from(count));
        members.hex(id, reader.bytes(u64::from(count))?);
    }
    if kind == Kind::Initial {
        let length = reader.varint()?;
        if length > 0 {
            // Libp2p's listeners send no NEW_TOKEN, so it is of a Retry.
            members.object("token", |members| {
                members.text("type", "retry");
                members.object("raw", |members| members.number("length", length));
            });
        }
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::qlog::json;

    fn written(packet: &Packet<'_>) -> String {
        let mut out = String::new();
        json::object(&mut out, |members| {
            packet.write(members);
        });
        out
    }

    #[test]
    fn a_long_header_names_version_and_ids() {
        let packet = Packet {
            number: 2,
            header: &[0xc0, 0, 0, 0, 1, 2, 0xaa, 0xbb, 1, 0xcc, 0, 0x40, 0x10, 2],
            payload: &[1],
            length: 31,
        };
        assert_eq!(packet.space(), Space::Initial);
        assert_eq!(
            written(&packet),
            "{\"header\":{\"packet_type\":\"initial\",\"version\":\"00000001\",\"dcil\":2,\"dcid\":\"aabb\",\
             \"scil\":1,\"scid\":\"cc\",\"packet_number\":2},\"frames\":[{\"frame_type\":\"ping\"}],\
             \"raw\":{\"length\":31,\"payload_length\":1}}"
        );
    }

    #[test]
    fn a_short_header_has_its_number_only() {
        let packet = Packet {
            number: 9,
            header: &[0x40, 1, 2, 3, 9],
            payload: &[],
            length: 21,
        };
        assert_eq!(packet.space(), Space::Data);
        assert!(
            written(&packet)
                .starts_with("{\"header\":{\"packet_type\":\"1RTT\",\"packet_number\":9}")
        );
    }

    #[test]
    fn a_header_that_is_cut_off_is_no_panic() {
        for length in 0..12 {
            let whole = [0xc0, 0, 0, 0, 1, 2, 0xaa, 0xbb, 1, 0xcc, 0, 0x40];
            let packet = Packet {
                number: 0,
                header: &whole[..length],
                payload: &[],
                length,
            };
            assert!(written(&packet).ends_with('}'));
        }
    }
}
