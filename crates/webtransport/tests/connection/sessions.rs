//! Sessions between our two sides, from their request to their end.

use libp2p_quic_webtransport::{
    Event, Received, Refusal, SessionEnd, datagram_header, error_code, stream_header,
};
use proptest::prelude::*;

use crate::peer::{Peer, exchange, session, stream};

/// The two sides of session 0.
fn connected() -> (Peer, Peer) {
    let (mut client, mut server) = (Peer::client(), Peer::server());
    exchange(&mut client, &mut server, &[usize::MAX]);
    for peer in [&mut client, &mut server] {
        let events = std::mem::take(&mut peer.events);
        assert_eq!(
            events,
            [Event::Established {
                session: session(0)
            }]
        );
        assert_eq!(
            (peer.resets.len(), peer.stops.len(), peer.closed),
            (0, 0, None)
        );
    }
    (client, server)
}

fn closed(code: u32, reason: &str) -> Event {
    let end = SessionEnd::Closed {
        code,
        reason: reason.to_owned(),
    };
    Event::Ended {
        session: session(0),
        end,
    }
}

#[test]
fn a_client_waits_for_settings() {
    let mut client = Peer::client();
    assert_eq!(client.sent.len(), 1, "its own SETTINGS");
    let mut server = Peer::server();
    let (control, settings, _) = server.sent.remove(0);
    client.receive(control, &settings[..settings.len() - 1], false);
    assert_eq!(client.sent.len(), 1);
    client.receive(control, &settings[settings.len() - 1..], false);
    assert_eq!(client.sent.len(), 2, "and then its request");
}

#[test]
fn a_server_waits_for_settings() {
    let (mut client, mut server) = (Peer::client(), Peer::server());
    let (control, settings, _) = server.sent.remove(0);
    client.receive(control, &settings, false);
    let (connect, request, _) = client.sent.remove(1);
    server.receive(connect, &request, false);
    assert_eq!((server.events.len(), server.sent.len()), (0, 0));
    exchange(&mut client, &mut server, &[usize::MAX]);
    assert_eq!(
        server.events,
        [Event::Established {
            session: session(0)
        }]
    );
    assert_eq!(client.events, server.events);
}

#[test]
fn either_side_closes_with_a_code_and_a_reason() {
    for is_client in [false, true] {
        let (mut client, mut server) = connected();
        let closer = if is_client { &mut client } else { &mut server };
        closer.connection.close_session(session(0), 7, "enough");
        // A second close, and what follows, changes nothing.
        closer.connection.close_session(session(0), 8, "again");
        closer.connection.drain_session(session(0));
        closer.run();
        exchange(&mut client, &mut server, &[1, 5]);
        let (closer, other) = if is_client {
            (&client, &server)
        } else {
            (&server, &client)
        };
        assert_eq!(closer.events, []);
        assert_eq!(other.events, [closed(7, "enough")]);
        assert_eq!((client.closed, server.closed), (None, None));
        assert_eq!(client.resets.len() + server.resets.len(), 0);
    }
}

#[test]
fn the_end_of_the_connect_stream_closes_the_session() {
    let (mut client, mut server) = connected();
    server.receive(stream(0), &[], true);
    assert_eq!(server.events, [closed(0, "")]);
    assert_eq!(server.sent, [(stream(0), Vec::new(), true)]);
    exchange(&mut client, &mut server, &[1]);
    assert_eq!(client.events, [closed(0, "")]);
}

#[test]
fn a_reset_or_a_stop_of_the_connect_stream_ends_the_session() {
    let (mut client, mut server) = connected();
    let end = |code| Event::Ended {
        session: session(0),
        end: SessionEnd::Aborted { code },
    };
    server.connection.receive_reset(stream(0), 0x10c);
    client.connection.receive_stop(stream(0), 0x10b);
    server.run();
    client.run();
    assert_eq!(server.events, [end(0x10c)]);
    assert_eq!(client.events, [end(0x10b)]);
    for peer in [&client, &server] {
        assert_eq!(peer.resets, [(stream(0), error_code::H3_REQUEST_CANCELLED)]);
        assert_eq!(peer.closed, None);
    }
}

#[test]
fn nothing_that_the_peer_ends_discards_the_close_of_a_session() {
    // It resets its part of the stream, or ends it within a capsule.
    let ends: [fn(&mut Peer); 2] = [
        |peer| peer.receive_reset(stream(0), 1),
        |peer| {
            peer.receive(stream(0), &[0, 1, 0x68], true);
        },
    ];
    for end in ends {
        for mut peer in <[Peer; 2]>::from(connected()) {
            peer.connection.close_session(session(0), 7, "enough");
            peer.run();
            end(&mut peer);
            assert_eq!(peer.resets, []);
            assert_eq!((peer.events.len(), peer.closed), (0, None));
        }
    }
}

#[test]
fn a_reset_or_a_stop_before_the_header_of_a_stream_is_told() {
    let mut server = Peer::serving();
    for (id, part) in [(4, &[][..]), (8, &[0x40]), (12, &[0x40, 0x41])] {
        assert_eq!(server.receive_all(id, part), Received::Taken);
        assert!(server.connection.receive_stop(stream(id), 1));
        assert!(server.connection.receive_reset(stream(id), 1));
    }
    // Streams that can be no session's, or that are known to be one's.
    assert_eq!(server.receive_all(6, &[0x40]), Received::Taken);
    assert!(!server.connection.receive_reset(stream(6), 1));
    assert!(!server.connection.receive_stop(stream(1), 1));
    server.run();
    assert_eq!((server.resets.len(), server.stops.len()), (0, 0));
    assert_eq!(server.receive_all(16, &[1]), Received::Taken);
    assert!(!server.connection.receive_stop(stream(16), 1));
    server.run();
    let canceled = [(stream(16), error_code::H3_REQUEST_CANCELLED)];
    assert_eq!(server.resets, canceled);
    assert_eq!(server.closed, None);

    let mut server = Peer::server();
    server.receive_all(4, &stream_header(session(0), true));
    assert!(!server.connection.receive_stop(stream(4), 1));
    assert!(!server.connection.receive_reset(stream(4), 1));
}

#[test]
fn draining_is_reported_once() {
    let (mut client, mut server) = connected();
    server.connection.drain_session(session(0));
    server.connection.drain_session(session(0));
    server.run();
    exchange(&mut client, &mut server, &[2]);
    assert_eq!(
        client.events,
        [Event::Draining {
            session: session(0)
        }]
    );
}

#[test]
fn go_away_drains_the_session_and_refuses_a_request() {
    let (mut client, mut server) = connected();
    let control = stream(3);
    client.receive(control, &[7, 1, 0], false);
    assert_eq!(
        client.events,
        [Event::Draining {
            session: session(0)
        }]
    );
    server.receive(stream(2), &[7, 1, 0], false);
    assert_eq!(
        server.events,
        [Event::Draining {
            session: session(0)
        }]
    );

    // A session that is over is none to drain, and its request none to refuse.
    client.connection.close_session(session(0), 0, "");
    client.run();
    client.receive(control, &[7, 1, 0], false);
    assert_eq!((client.events.len(), client.resets.len()), (1, 0));

    let (mut client, mut server) = (Peer::client(), Peer::server());
    let (control, settings, _) = server.sent.remove(0);
    client.receive(control, &settings, false);
    client.receive(control, &[7, 1, 0], false);
    assert_eq!(client.events, [Event::Refused(Refusal::GoingAway)]);
    assert_eq!(
        client.resets,
        [(stream(0), error_code::H3_REQUEST_CANCELLED)]
    );

    let mut client = Peer::client();
    client.receive(control, &[&settings[..], &[7, 1, 0]].concat(), false);
    assert_eq!(client.events, [Event::Refused(Refusal::GoingAway)]);
    assert_eq!(client.sent.len(), 1, "no request");
}

#[test]
fn datagrams_reach_their_session_only() {
    let (_, mut server) = connected();
    let mut datagram = datagram_header(session(0));
    datagram.extend_from_slice(b"hi");
    assert_eq!(
        server.connection.receive_datagram(&datagram),
        Some((session(0), &b"hi"[..]))
    );
    let other = datagram_header(session(4));
    assert_eq!(server.connection.receive_datagram(&other), None);
    server.run();
    assert_eq!(server.closed, None);
    assert_eq!(server.connection.receive_datagram(&[]), None);
    server.run();
    assert_eq!(server.closed, Some(error_code::H3_DATAGRAM_ERROR));
}

#[test]
fn streams_before_their_session_wait() {
    let (mut client, mut server) = (Peer::client(), Peer::server());
    let early =
        |is_bidirectional| [&stream_header(session(0), is_bidirectional)[..], b"early"].concat();
    let waiting = |header| Received::Waiting {
        session: session(0),
        header,
    };
    assert_eq!(server.receive_all(6, &early(false)), waiting(3));
    assert_eq!(server.receive_all(4, &early(true)), waiting(3));
    assert_eq!(server.receive_all(10, &early(false)), waiting(3));
    server.receive_reset(stream(10), 0);
    exchange(&mut client, &mut server, &[usize::MAX]);
    let ready = |id| Event::StreamReady {
        stream: stream(id),
        session: session(0),
    };
    assert_eq!(
        server.events,
        [
            Event::Established {
                session: session(0)
            },
            ready(6),
            ready(4)
        ]
    );
    assert_eq!(server.payload[&stream(6)], b"early");
}

#[test]
fn the_streams_of_a_refused_request_are_rejected() {
    let mut server = Peer::server();
    server.receive_all(6, &stream_header(session(0), false));
    server.receive_all(8, &stream_header(session(0), true));
    // GET / with the authority "a".
    server.receive_all(0, b"\x01\x08\0\0\xd1\xd7\x50\x01a\xc1");
    let gone = error_code::WT_SESSION_GONE;
    assert_eq!(server.resets, [(stream(8), gone)]);
    assert_eq!(
        server.stops,
        [
            (stream(0), error_code::H3_NO_ERROR),
            (stream(6), gone),
            (stream(8), gone)
        ]
    );
    assert_eq!(
        server.receive_all(10, &stream_header(session(0), false)),
        Received::Ended
    );
    assert_eq!(server.stops[3..], [(stream(10), gone)]);
    assert_eq!(server.closed, None);
}

#[test]
fn too_many_waiting_streams_are_rejected() {
    let mut server = Peer::server();
    for n in 0..20 {
        server.receive_all(4 * n + 6, &stream_header(session(0), false));
    }
    let rejected: Vec<_> = (16..20)
        .map(|n| (stream(4 * n + 6), error_code::WT_BUFFERED_STREAM_REJECTED))
        .collect();
    assert_eq!(server.stops, rejected);
    assert_eq!(server.closed, None);
}

#[test]
fn a_second_session_is_rejected_until_the_first_is_over() {
    let (mut client, mut server) = (Peer::client(), Peer::server());
    let settings = server.sent.remove(0).1;
    client.receive(stream(3), &settings, false);
    let request = client.sent[1].1.clone();
    exchange(&mut client, &mut server, &[usize::MAX]);
    assert_eq!(server.receive(stream(4), &request, false), Received::Ended);
    let rejected = [(stream(4), error_code::H3_REQUEST_REJECTED)];
    assert_eq!(
        (&server.resets[..], &server.stops[..]),
        (&rejected[..], &rejected[..])
    );
    server.receive(stream(0), &[], true);
    server.receive(stream(8), &request, false);
    assert_eq!(
        server.events[2..],
        [Event::Established {
            session: session(8)
        }]
    );
}

#[test]
fn refusals_reach_the_client() {
    let mut offering = Peer::server();
    let settings = offering.sent.remove(0).1;
    let asking = || {
        let mut client = Peer::client();
        client.receive(stream(3), &settings, false);
        client
    };
    let mut client = asking();
    // 103, then 404.
    client.receive(stream(0), b"\x01\x03\0\0\xd8\x01\x03\0\0\xdb", true);
    assert_eq!(client.events, [Event::Refused(Refusal::Status(404))]);
    let mut client = asking();
    client.connection.receive_reset(stream(0), 0x10b);
    client.run();
    assert_eq!(client.events, [Event::Refused(Refusal::Reset(0x10b))]);
    let mut client = asking();
    client.receive(stream(0), b"\x01\x02\0\0", false);
    assert_eq!(
        client.events,
        [Event::Refused(Refusal::Reset(error_code::H3_MESSAGE_ERROR))]
    );
    let mut client = asking();
    client.receive(stream(0), &[], true);
    assert_eq!(
        client.events,
        [Event::Refused(Refusal::Reset(error_code::H3_MESSAGE_ERROR))]
    );
    assert_eq!(client.closed, None);
}

#[test]
fn a_response_with_too_many_fields_is_reset() {
    let settings = Peer::server().sent.remove(0).1;
    let mut client = Peer::client();
    client.receive(stream(3), &settings, false);
    client.receive(stream(0), b"\x01\x80\0\x40\x01", false);
    let reset = Refusal::Reset(error_code::H3_EXCESSIVE_LOAD);
    assert_eq!(client.events, [Event::Refused(reset)]);
    assert_eq!(client.stops, [(stream(0), error_code::H3_EXCESSIVE_LOAD)]);
    assert_eq!(client.closed, None);
}

#[test]
fn a_request_that_ends_before_settings_is_no_session() {
    // With the end of the stream, or with the close of its session in a DATA frame.
    for (after, fin) in [(&[][..], true), (&[0, 7, 0x68, 0x43, 4, 0, 0, 0, 5], false)] {
        let (mut client, mut server) = (Peer::client(), Peer::server());
        client.receive(stream(3), &server.sent[0].1, false);
        let request = client.sent[1].1.clone();
        server.receive(stream(0), &[&request[..], after].concat(), fin);
        server.receive_all(2, &[0, 4, 0]);
        assert_eq!(server.events, []);
        assert_eq!(
            server.resets,
            [(stream(0), error_code::H3_REQUEST_CANCELLED)]
        );
        let late = server.receive_all(6, &stream_header(session(0), false));
        assert_eq!((late, server.closed), (Received::Ended, None));
    }
}

#[test]
fn a_client_takes_streams_of_its_own_session_only() {
    let (mut client, _) = connected();
    for id in [1, 7] {
        let header = stream_header(session(4), id == 1);
        assert_eq!(client.receive_all(id, &header), Received::Ended);
    }
    let gone = error_code::WT_SESSION_GONE;
    assert_eq!(client.resets, [(stream(1), gone)]);
    assert_eq!(client.stops, [(stream(1), gone), (stream(7), gone)]);
    assert_eq!(client.closed, None);
}

#[test]
fn no_stream_waits_for_a_session_that_this_side_closed() {
    for mut peer in <[Peer; 2]>::from(connected()) {
        peer.connection.close_session(session(0), 0, "");
        peer.run();
        let late = peer.receive_all(
            if peer.is_client() { 7 } else { 6 },
            &stream_header(session(0), false),
        );
        assert_eq!(late, Received::Ended);
        assert_eq!(peer.stops.len(), 1);
        assert_eq!(peer.stops[0].1, error_code::WT_SESSION_GONE);
    }
}

#[test]
fn a_server_without_webtransport_is_left() {
    let mut client = Peer::client();
    client.receive_all(3, &[0, 4, 2, 0x08, 1]);
    assert_eq!(client.closed, Some(error_code::WT_REQUIREMENTS_NOT_MET));
    assert!(client.connection.is_closed());
    assert_eq!(client.receive_all(3, &[0xff]), Received::Ended);
}

proptest! {
    #[test]
    fn sessions_carry_streams_in_pieces_of_any_size(
        sizes in prop::collection::vec(1..40_usize, 1..20),
        streams in prop::collection::vec((any::<bool>(), any::<bool>(), any::<Vec<u8>>()), 0..6),
        code: u32,
        reason in "[ -~]{0,40}",
    ) {
        let (mut client, mut server) = (Peer::client(), Peer::server());
        exchange(&mut client, &mut server, &sizes);
        let sent: Vec<_> = streams
            .iter()
            .map(|(is_client, is_bidirectional, payload)| {
                let sender = if *is_client { &mut client } else { &mut server };
                (is_client, sender.send(session(0), *is_bidirectional, payload), payload)
            })
            .collect();
        exchange(&mut client, &mut server, &sizes);
        for (is_client, stream, payload) in sent {
            let receiver = if *is_client { &server } else { &client };
            prop_assert_eq!(receiver.payload.get(&stream), Some(payload));
        }
        client.connection.close_session(session(0), code, &reason);
        client.run();
        exchange(&mut client, &mut server, &sizes);
        let established = Event::Established { session: session(0) };
        prop_assert_eq!(&client.events, std::slice::from_ref(&established));
        prop_assert_eq!(&server.events, &[established, closed(code, &reason)]);
        prop_assert_eq!((client.closed, server.closed), (None, None));
    }
}
