//! What each side does when its peer violates HTTP/3, QPACK or WebTransport.

use libp2p_quic_webtransport::{Event, Received, SessionEnd, error_code, stream_header};
use proptest::prelude::*;

use crate::peer::{Peer, session, stream};

/// The code with which a side closes the connection for these bytes of one stream.
fn code_of(mut peer: Peer, id: u64, bytes: &[u8], fin: bool) -> Option<u64> {
    peer.receive(stream(id), bytes, fin);
    assert_eq!(peer.connection.is_closed(), peer.closed.is_some());
    peer.closed
}

/// The streams that a server reset and stopped for these bytes of stream 0, and the response.
fn answer(bytes: &[u8], fin: bool) -> (Option<Vec<u8>>, Vec<u64>, Vec<u64>) {
    let mut server = Peer::server();
    server.sent.clear();
    server.receive_all(2, &[0, 4, 0]);
    server.receive(stream(0), bytes, fin);
    assert_eq!(server.closed, None);
    let codes = |of: &[(_, u64)]| of.iter().map(|each| each.1).collect();
    let response = server.sent.pop().map(|(_, response, _)| response);
    (response, codes(&server.resets), codes(&server.stops))
}

#[test]
fn critical_streams_stay_open() {
    let closed = Some(error_code::H3_CLOSED_CRITICAL_STREAM);
    for kind in [&[0, 4, 0][..], &[2], &[3]] {
        assert_eq!(code_of(Peer::server(), 2, kind, true), closed);
        assert_eq!(code_of(Peer::server(), 2, kind, false), None);
        let mut client = Peer::client();
        if kind[0] != 0 {
            client.receive_all(3, kind);
            client.connection.receive_reset(stream(3), 0);
            client.run();
            assert_eq!(client.closed, closed);
        }
    }
    let mut server = Peer::server();
    server.connection.receive_stop(stream(3), 0);
    server.run();
    assert_eq!(server.closed, closed);
}

#[test]
fn critical_streams_are_opened_once() {
    for kind in [&[0, 4, 0][..], &[2], &[3]] {
        let mut server = Peer::server();
        server.receive_all(2, kind);
        server.receive_all(6, kind);
        assert_eq!(server.closed, Some(error_code::H3_STREAM_CREATION_ERROR));
    }
}

#[test]
fn streams_that_may_not_be_opened_close_the_connection() {
    let creation = Some(error_code::H3_STREAM_CREATION_ERROR);
    assert_eq!(code_of(Peer::server(), 2, &[1], false), creation);
    assert_eq!(
        code_of(Peer::client(), 3, &[1], false),
        Some(error_code::H3_ID_ERROR)
    );
    assert_eq!(code_of(Peer::client(), 1, &[1, 0], false), creation);
    assert_eq!(
        code_of(Peer::server(), 2, &[0x40, 0x54, 3], false),
        Some(error_code::H3_ID_ERROR)
    );
}

#[test]
fn other_violations_close_the_connection() {
    for (id, bytes, code) in [
        (2, &[0, 7, 1, 0][..], error_code::H3_MISSING_SETTINGS),
        (
            2,
            &[0, 4, 4, 0x21, 0, 0x21, 0],
            error_code::H3_SETTINGS_ERROR,
        ),
        (2, &[0, 4, 0, 4, 0], error_code::H3_FRAME_UNEXPECTED),
        (
            2,
            &[2, 0x3f, 0xbd, 1],
            error_code::QPACK_ENCODER_STREAM_ERROR,
        ),
        (2, &[3, 0x80], error_code::QPACK_DECODER_STREAM_ERROR),
        (0, &[0, 0], error_code::H3_FRAME_UNEXPECTED),
        (0, &[8, 0], error_code::H3_FRAME_UNEXPECTED),
        (
            0,
            &[1, 3, 0x02, 0, 0x80],
            error_code::QPACK_DECOMPRESSION_FAILED,
        ),
        (0, &[0x21, 0, 0x40, 0x41, 0], error_code::H3_FRAME_ERROR),
    ] {
        assert_eq!(
            code_of(Peer::server(), id, bytes, false),
            Some(code),
            "{bytes:x?}"
        );
    }
    for bytes in [
        &[1][..],
        &[1, 5, 0],
        &[0x40],
        &[0x40, 0x41],
        &[0x40, 0x41, 0x40],
    ] {
        let code = code_of(Peer::server(), 0, bytes, true);
        assert_eq!(code, Some(error_code::H3_FRAME_ERROR), "{bytes:x?}");
    }
}

#[test]
fn unknown_streams_are_stopped_and_grease_is_ignored() {
    let mut server = Peer::server();
    assert_eq!(server.receive_all(2, &[0x21, 1, 2, 3]), Received::Ended);
    assert_eq!(
        server.stops,
        [(stream(2), error_code::H3_STREAM_CREATION_ERROR)]
    );
    assert_eq!(server.receive(stream(6), &[], true), Received::Ended);
    assert_eq!(server.receive(stream(10), &[0x40], true), Received::Ended);
    server.receive_all(14, &[0, 4, 0, 0x21, 2, 7, 7]);
    assert_eq!(server.receive_all(18, &[0x40]), Received::Taken);
    server.connection.receive_reset(stream(18), 0);
    server.run();
    assert_eq!((server.closed, server.resets.len()), (None, 0));
}

#[test]
fn requests_that_are_no_sessions_are_answered() {
    use error_code::{H3_MESSAGE_ERROR, H3_NO_ERROR, H3_REQUEST_INCOMPLETE};
    let status = |line: &[u8]| {
        let mut bytes = vec![1, 2 + line.len() as u8, 0, 0];
        bytes.extend_from_slice(line);
        Some(bytes)
    };
    // GET / of the authority "a", after a frame to ignore.
    let get = b"\x21\0\x01\x08\0\0\xd1\xd7\x50\x01a\xc1";
    assert_eq!(
        answer(get, true),
        (status(b"\xdb"), vec![], vec![H3_NO_ERROR])
    );
    // CONNECT to the authority "a".
    let connect = b"\x01\x06\0\0\xcf\x50\x01a";
    assert_eq!(
        answer(connect, false),
        (status(b"\x5f\x09\x03501"), vec![], vec![H3_NO_ERROR])
    );
    // GET of libp2p's path.
    let path = b"/.well-known/libp2p-webtransport?type=noise";
    let get = [&b"\x01\x34\0\0\xd1\xd7\x50\x01a\x51\x2b"[..], path].concat();
    let allow = b"\x5f\x09\x03405\x25allow\x07CONNECT";
    assert_eq!(
        answer(&get, true),
        (status(allow), vec![], vec![H3_NO_ERROR])
    );
    // GET alone.
    let malformed = b"\x01\x03\0\0\xd1";
    assert_eq!(
        answer(malformed, false),
        (status(b"\xff\x04"), vec![], vec![H3_MESSAGE_ERROR])
    );
    let large = b"\x01\x80\0\x40\x01";
    assert_eq!(
        answer(large, false),
        (status(b"\x5f\x09\x03431"), vec![], vec![H3_NO_ERROR])
    );
    let none = b"\x21\0";
    assert_eq!(
        answer(none, true),
        (
            None,
            vec![H3_REQUEST_INCOMPLETE],
            vec![H3_REQUEST_INCOMPLETE]
        )
    );
    assert_eq!(
        answer(b"", true),
        (
            None,
            vec![H3_REQUEST_INCOMPLETE],
            vec![H3_REQUEST_INCOMPLETE]
        )
    );
}

#[test]
fn unfinished_requests_are_limited() {
    let mut server = Peer::server();
    for n in 0..17 {
        server.receive_all(4 * n, &[1]);
    }
    let rejected = [(stream(64), error_code::H3_REQUEST_REJECTED)];
    assert_eq!(
        (&server.resets[..], &server.stops[..]),
        (&rejected[..], &rejected[..])
    );
    server.connection.receive_reset(stream(0), 0);
    assert_eq!(server.receive_all(68, &[1]), Received::Taken);
    assert_eq!(server.closed, None);
}

#[test]
fn partial_headers_are_limited() {
    let mut server = Peer::server();
    for n in 0..64 {
        assert_eq!(server.receive_all(4 * n + 2, &[0x40]), Received::Taken);
    }
    server.receive_all(258, &[0x40]);
    assert_eq!(server.closed, Some(error_code::H3_EXCESSIVE_LOAD));
}

#[test]
fn a_session_with_a_wrong_capsule_is_aborted() {
    let end = SessionEnd::Aborted {
        code: error_code::H3_MESSAGE_ERROR,
    };
    let ended = Event::Ended {
        session: session(0),
        end,
    };
    let reset = [(stream(0), error_code::H3_MESSAGE_ERROR)];
    // A close of three bytes; a capsule that is cut off by the end of the stream.
    for (bytes, fin) in [(&[0, 3, 0x68, 0x43, 3][..], false), (&[0, 1, 0x68], true)] {
        let mut server = Peer::serving();
        server.receive(stream(0), bytes, fin);
        assert_eq!(server.events, std::slice::from_ref(&ended));
        assert_eq!(
            (&server.resets[..], &server.stops[..]),
            (&reset[..], &reset[..])
        );
        assert_eq!(server.closed, None);
    }
}

#[test]
fn data_after_a_close_resets_the_stream() {
    let mut server = Peer::serving();
    let close = [0, 7, 0x68, 0x43, 4, 0, 0, 0, 5];
    server.receive_all(0, &close);
    let end = SessionEnd::Closed {
        code: 5,
        reason: String::new(),
    };
    assert_eq!(
        server.events,
        [Event::Ended {
            session: session(0),
            end
        }]
    );
    assert_eq!(server.sent, [(stream(0), Vec::new(), true)]);
    server.receive_all(0, &[0x21, 0]);
    assert_eq!(server.resets, []);
    server.receive_all(0, &[0, 1, 0]);
    assert_eq!(server.resets, [(stream(0), error_code::H3_MESSAGE_ERROR)]);
    assert_eq!((server.events.len(), server.closed), (1, None));
    let late = server.receive_all(6, &stream_header(session(0), false));
    assert_eq!(late, Received::Ended);
}

proptest! {
    /// Whatever arrives: no panic, and the same end if it arrives in single bytes.
    #[test]
    fn any_bytes_are_survived(
        is_serving: bool,
        pieces in prop::collection::vec((0..24_u64, prop::collection::vec(any::<u8>(), 0..40), any::<bool>()), 0..30),
    ) {
        let new = || if is_serving { Peer::serving() } else { Peer::client() };
        let (mut whole, mut single) = (new(), new());
        for (id, bytes, fin) in pieces.iter().filter(|piece| !piece.1.is_empty()) {
            whole.receive(stream(*id), bytes, *fin);
            for (index, byte) in bytes.iter().enumerate() {
                single.receive(stream(*id), &[*byte], *fin && index + 1 == bytes.len());
            }
        }
        prop_assert_eq!(whole.record(), single.record());
        prop_assert_eq!(whole.connection.is_closed(), whole.closed.is_some());
    }
}
