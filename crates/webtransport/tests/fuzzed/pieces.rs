//! One stream with random bytes, whole and in pieces: SETTINGS, field sections and capsules. Pieces must make no
//! difference, and what is refused must be refused with a code that its specification has.

use libp2p_quic_webtransport::{Event, Received, SessionEnd, varint};

use crate::{
    bytes::Bytes,
    peer::{Peer, stream},
};

/// A type, a length, and a value.
fn item(kind: u64, value: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    varint::write(&mut out, kind);
    varint::write(&mut out, value.len() as u64);
    out.extend_from_slice(value);
    out
}

/// Pass bytes of a stream to two equal peers, whole and in pieces, and return the first one.
fn compared(new: impl Fn() -> Peer, id: u64, bytes: &[u8], size: usize, fin: bool) -> Peer {
    let (mut whole, mut pieces) = (new(), new());
    whole.receive(stream(id), bytes, fin);
    let mut chunks = bytes.chunks(size.max(1)).peekable();
    while let Some(piece) = chunks.next() {
        pieces.receive(stream(id), piece, fin && chunks.peek().is_none());
    }
    if bytes.is_empty() {
        pieces.receive(stream(id), bytes, fin);
    }
    assert_eq!(whole.record(), pieces.record());
    if let Some(code) = whole.closed {
        let is_known = matches!(code, 0x100..=0x110 | 0x200..=0x202 | 0x33 | 0x212c_0d48);
        assert!(is_known && whole.connection.is_closed(), "{code:#x}");
    }
    whole
}

pub(crate) fn settings(data: &[u8]) {
    let mut data = Bytes(data);
    let (is_client, size) = (data.bool(), usize::from(data.u8()));
    let mut bytes = vec![0];
    bytes.extend_from_slice(&item(4, data.rest()));
    if is_client {
        compared(Peer::client, 3, &bytes, size, false);
    } else {
        let mut server = compared(Peer::server, 2, &bytes, size, false);
        // A server takes every client, whatever its settings are.
        if server.closed.is_none() {
            assert_eq!(server.receive_all(2, &[0x21, 0]), Received::Taken);
        }
    }
}

pub(crate) fn field_section(data: &[u8]) {
    let mut data = Bytes(data);
    let (is_client, size, fin) = (data.bool(), usize::from(data.u8()), data.bool());
    let bytes = item(1, data.rest());
    let asking = || {
        let (mut client, mut server) = (Peer::client(), Peer::server());
        let settings = server.sent.remove(0).1;
        client.receive_all(3, &settings);
        client
    };
    let with_settings = || {
        let mut server = Peer::server();
        server.sent.clear();
        server.receive_all(2, &[0, 4, 0]);
        server
    };
    if is_client {
        compared(asking, 0, &bytes, size, fin);
        return;
    }
    let server = compared(with_settings, 0, &bytes, size, fin);
    // Each complete request gets one answer: a response, a reset or the end of the connection.
    let responses = server.sent.iter().filter(|sent| !sent.1.is_empty()).count();
    let answers = responses + server.resets.len() + usize::from(server.closed.is_some());
    assert_eq!(answers, 1);
}

pub(crate) fn capsules(data: &[u8]) {
    let mut data = Bytes(data);
    let (size, fin, is_framed) = (usize::from(data.u8()), data.bool(), data.bool());
    let bytes = if is_framed {
        // The capsules in DATA frames of one length.
        let len = usize::from(data.u8()).max(1);
        data.rest()
            .chunks(len)
            .flat_map(|part| item(0, part))
            .collect()
    } else {
        data.rest().to_vec()
    };
    let server = compared(Peer::serving, 0, &bytes, size, fin);
    let ends: Vec<_> = server
        .events
        .iter()
        .filter_map(|event| match event {
            Event::Ended { end, .. } => Some(end),
            _ => None,
        })
        .collect();
    assert!(ends.len() <= 1 && server.events.len() <= 2);
    if let [SessionEnd::Closed { reason, .. }] = ends[..] {
        // A byte that is no text becomes a character of three.
        assert!(reason.len() <= 3 * 1024);
    }
}
