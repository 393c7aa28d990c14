//! The clients of today, with the settings and fields that they send. ls-qpack (pylsqpack 1.0.0) encoded the fields.

use libp2p_quic_webtransport::{Event, varint};
use proptest::prelude::*;

use crate::peer::{Peer, hex, session, stream};

struct Client {
    name: &'static str,
    settings: &'static [(u64, u64)],
    request: &'static str,
    /// The client wants a response of draft 02.
    is_draft_02: bool,
}

const CLIENTS: [Client; 4] = [
    Client {
        name: "Chrome: drafts 02 and 07",
        settings: &[
            (0x01, 65_536),
            (0x06, 262_144),
            (0x07, 100),
            (0x33, 1),
            (0x2b60_3742, 1),
            (0xc671_706a, 1),
            (0x1f * 1000 + 0x21, 77),
        ],
        request: "0140700000d7cf508a089d5c0b8170dc68000f51a0617f05a285bad47f153141a3ac55ade0b1a6c1d48acf627fc4faac
            b0547320bf2f00b95d8749c87a3f89f058d360ea4567b13f2f0e4148b782c69b07522b3d895a74a6b65692c1ca900b01
            315f4b8f9d29aee30c50720e89ce84dc780007",
        is_draft_02: true,
    },
    Client {
        name: "Firefox: draft 02",
        settings: &[(0x01, 65_536), (0x07, 100), (0x08, 1), (0x33, 1), (0x2b60_3742, 1)],
        request: "0140a80000cfd7508a089d5c0b8170dc68000f51a0617f05a285bad47f153141a3ac55ade0b1a6c1d48acf627fc4faac
            b0547320bf2f00b95d8749c87a3f89f058d360ea4567b13f2f0e4148b782c69b07522b3d895a74a6b65692c1ca900b01
            315f4b8f9d29aee30c50720e89ce84dc7800075f50b5d07f66a281b0dae053fafc087ed4ce6aadf2a7979c89c6bed4b3
            bdc0b6cae0fed4c452753b02004000802a61358594fe580b6cae0f",
        is_draft_02: true,
    },
    Client {
        name: "Safari: draft 13",
        settings: &[(0x01, 16_383), (0x07, 100), (0x08, 1), (0x33, 1), (0x14e9_cd29, 1)],
        request: "0140570000cfd7508a089d5c0b8170dc68000f51a0617f05a285bad47f153141a3ac55ade0b1a6c1d48acf627fc4faac
            b0547320bf2f00b95d8749c87a3f89f058d360ea4567b13f5f4b8f9d29aee30c50720e89ce84dc780007",
        is_draft_02: false,
    },
    Client {
        name: "webtransport-go: draft 15",
        settings: &[(0x08, 1), (0x33, 1), (0x2b60_3742, 1), (0x2c7c_f000, 1)],
        request: "0140550000508a089d5c0b8170dc68000fcf51a0617f05a285bad47f153141a3ac55ade0b1a6c1d48acf627fc4faacb0
            547320bfd72f00b95d8749c87a3f8bf058d360ea4567b12b4ecf5f508bed6988b4c7531efdfad867",
        is_draft_02: false,
    },
];

impl Client {
    /// The control stream.
    fn control(&self) -> Vec<u8> {
        let mut payload = Vec::new();
        for (id, value) in self.settings {
            varint::write(&mut payload, *id);
            varint::write(&mut payload, *value);
        }
        let mut bytes = vec![0, 4, u8::try_from(payload.len()).expect("short")];
        assert!(bytes[2] < 64);
        bytes.extend_from_slice(&payload);
        bytes
    }
}

#[test]
fn every_client_gets_its_session() {
    for client in &CLIENTS {
        let mut server = Peer::server();
        server.sent.clear();
        server.receive_all(2, &client.control());
        // The encoder may say that it uses no table, and Chrome sends PRIORITY_UPDATE.
        server.receive_all(6, &[2, 0x20]);
        server.receive_all(10, &[3]);
        server.receive_all(2, &[0x80, 0x0f, 0x07, 0x00, 4, 0, b'u', b'=', b'3']);
        server.receive_all(0, &hex(client.request));
        assert_eq!(server.closed, None, "{}", client.name);
        let established = Event::Established {
            session: session(0),
        };
        assert_eq!(server.events, [established], "{}", client.name);
        let [(to, response, false)] = &server.sent[..] else {
            panic!("{}: {:?}", client.name, server.sent);
        };
        let has_draft = response.ends_with(b"sec-webtransport-http3-draft\x07draft02");
        assert_eq!(
            (*to, has_draft),
            (stream(0), client.is_draft_02),
            "{}",
            client.name
        );
        assert_eq!(response[2..5], [0, 0, 0xd9], "{}: 200", client.name);
    }
}

/// The streams of aioquic 1.7.2, which py-libp2p's WebTransport uses, in the order in which it sends them.
#[test]
fn recorded_streams_of_aioquic_make_a_session() {
    let sent = [
        (2, "00 0410 0150 0007 1008 0121 0133 01ab 6037 4201"),
        (2, "0d 01 08"),
        (6, "02"),
        (10, "03"),
        (
            0,
            "01405e0000cfd7508a089d5c0b8170dc68000f51a0617f05a285bad47f153141a3ac55ade0b1a6c1d48acf627fc4faac
            b0547320bf2f00b95d8749c87a3f89f058d360ea4567b13f2f0e4148b782c69b07522b3d895a74a6b65692c1ca900b01
            31",
        ),
    ];
    for size in [1, 7, usize::MAX] {
        let mut server = Peer::server();
        for (id, bytes) in &sent {
            for piece in hex(bytes).chunks(size) {
                server.receive(stream(*id), piece, false);
            }
        }
        let established = Event::Established {
            session: session(0),
        };
        assert_eq!(
            (&server.events[..], server.closed),
            (&[established][..], None)
        );
    }
}

proptest! {
    #[test]
    fn pieces_of_any_size_make_no_difference(index in 0..4_usize, size in 1..60_usize) {
        let client = &CLIENTS[index];
        let mut server = Peer::server();
        for (id, bytes) in [(0, hex(client.request)), (2, client.control())] {
            for piece in bytes.chunks(size) {
                server.receive(stream(id), piece, false);
            }
        }
        prop_assert_eq!(&server.events, &[Event::Established { session: session(0) }]);
    }
}
