//! A listener that serves WebTransport beside QUIC: libp2p's dialers notice nothing of it, and a dialer without a
//! certificate of libp2p is proven by Noise.

use libp2p_quic_engine::{
    CloseKind, Config, Connection, ConnectionError, Party, ReadError, WriteError,
    simulation::{Conditions, World, operations},
    tls::CertificateHash,
};

use crate::kit::{Pair, a_byte_crosses, both, config, each_seed, essence, ms, secs, stream};

/// RFC 9001 section 4.8, and RFC 7301's `no_application_protocol`.
const NO_APPLICATION_PROTOCOL: u64 = 0x178;

#[test]
fn libp2p_takes_as_many_round_trips_as_without() {
    each_seed(
        "browsers::libp2p_takes_as_many_round_trips_as_without",
        50,
        |seed| {
            let mut pair = Pair::new(seed);
            pair.listener.serve_webtransport(true);
            let (ours, theirs) = pair.connect();
            assert_eq!(ours.peer_id(), Some(pair.server.peer_id()));
            assert_eq!(theirs.peer_id(), Some(pair.client.peer_id()));
            assert!(!ours.is_webtransport() && !theirs.is_webtransport());
            assert_eq!(pair.world.now(), ms(15));
            pair.world.block_on(a_byte_crosses(&ours, &theirs));
            drop((ours, theirs));
            pair.leave_nothing();
        },
    );
}

/// The two packets of a ClientHello are lost, repeated and reordered.
#[test]
fn bad_networks_only_delay_libp2p() {
    each_seed("browsers::bad_networks_only_delay_libp2p", 300, |seed| {
        let patient = || config(|c| c.handshake_timeout = secs(60));
        let mut pair = Pair::with(seed, patient(), patient());
        pair.listener.serve_webtransport(true);
        let conditions = Conditions::bad(&mut pair.world.dice());
        pair.world.link(conditions);
        let (ours, theirs) = pair.connect();
        assert_eq!(ours.peer_id(), Some(pair.server.peer_id()));
        assert_eq!(theirs.peer_id(), Some(pair.client.peer_id()));
        drop((ours, theirs));
        pair.leave_nothing();
    });
}

#[test]
fn a_retry_precedes_the_choice() {
    each_seed("browsers::a_retry_precedes_the_choice", 50, |seed| {
        let server = config(|c| c.retry_above = Some(0));
        let mut pair = Pair::with(seed, server, Config::default());
        pair.listener.serve_webtransport(true);
        let (ours, theirs) = pair.connect();
        assert_eq!(pair.world.now(), ms(25));
        // One for each packet of the first flight, or one.
        assert!((1..=2).contains(&pair.listener.statistics().retries_sent));
        drop((ours, theirs));
        pair.leave_nothing();
    });
}

/// The hashes of the listener's address.
fn hashes(pair: &Pair) -> Vec<CertificateHash> {
    let hashes = pair.server.certificate_hashes();
    hashes.expect("certificates").to_vec()
}

/// Dial over WebTransport and accept.
pub(crate) fn session(pair: &mut Pair) -> (Connection, Connection) {
    pair.listener.serve_webtransport(true);
    let (hashes, to, who) = (
        hashes(pair),
        pair.listener.local_addr(),
        pair.server.peer_id(),
    );
    let Pair {
        world,
        client,
        listener,
        ..
    } = pair;
    world.block_on(async {
        let ours = operations::connect_webtransport(client, to, Some(who), hashes)
            .await
            .expect("a session");
        let theirs = operations::accept(listener).await.expect("a session");
        (ours, theirs)
    })
}

/// What a dial that must fail comes to.
fn refusal(
    pair: &mut Pair,
    who: Option<libp2p_quic_engine::PeerId>,
    hashes: Vec<CertificateHash>,
) -> ConnectionError {
    let to = pair.listener.local_addr();
    let Pair { world, client, .. } = pair;
    let error = world.block_on(async {
        operations::connect_webtransport(client, to, who, hashes)
            .await
            .expect_err("a refusal")
    });
    assert_eq!(pair.listener.statistics().connections_accepted, 0);
    error
}

#[test]
fn a_session_proves_both_peers_and_carries_streams_both_ways() {
    each_seed(
        "browsers::a_session_proves_both_peers_and_carries_streams_both_ways",
        100,
        |seed| {
            let mut pair = Pair::new(seed);
            let (ours, theirs) = session(&mut pair);
            assert_eq!(ours.peer_id(), Some(pair.server.peer_id()));
            assert_eq!(theirs.peer_id(), Some(pair.client.peer_id()));
            assert!(ours.is_webtransport() && theirs.is_webtransport());
            assert_eq!(ours.tls().expect("parameters").alpn, b"h3");
            pair.world.block_on(async {
                a_byte_crosses(&ours, &theirs).await;
                a_byte_crosses(&theirs, &ours).await;
                let data: Vec<u8> = (0..1_000_000_u32).map(|n| (n % 251) as u8).collect();
                let (a, b) = stream(&ours, &theirs).await;
                let (sent, received) = both(
                    async {
                        operations::write_all(&a, &data).await.expect("written");
                        a.finish();
                    },
                    operations::read_to_end(&b),
                )
                .await;
                let () = sent;
                assert_eq!(received.expect("read"), data);
            });
            drop((ours, theirs));
            pair.leave_nothing();
        },
    );
}

/// Chrome fails to open a stream beyond the allowance instead of waiting for a larger one.
#[test]
fn a_page_opens_many_streams_without_waiting() {
    let mut pair = Pair::new(1);
    let (ours, theirs) = session(&mut pair);
    pair.world.block_on(a_byte_crosses(&ours, &theirs));
    let began = pair.world.now();
    let opened: Vec<_> = pair.world.block_on(async {
        let mut opened = Vec::new();
        for _ in 0..200 {
            opened.push(operations::open(&ours).await.expect("a stream"));
        }
        opened
    });
    assert_eq!(pair.world.now(), began);
    drop((opened, ours, theirs));
    pair.leave_nothing();
}

#[test]
fn bad_networks_only_delay_a_session() {
    each_seed("browsers::bad_networks_only_delay_a_session", 300, |seed| {
        let patient = || config(|c| c.handshake_timeout = secs(60));
        let mut pair = Pair::with(seed, patient(), patient());
        let conditions = Conditions::bad(&mut pair.world.dice());
        pair.world.link(conditions);
        let (ours, theirs) = session(&mut pair);
        pair.world.block_on(async {
            a_byte_crosses(&ours, &theirs).await;
            a_byte_crosses(&theirs, &ours).await;
        });
        drop((ours, theirs));
        pair.leave_nothing();
    });
}

/// The unmarked copies that are sent on such a path count against the anti-amplification limit, which ends with the
/// TLS handshake and not with the proof of the peer.
#[test]
fn a_path_that_drops_marked_datagrams_only_delays_a_session() {
    each_seed(
        "browsers::a_path_that_drops_marked_datagrams_only_delays_a_session",
        100,
        |seed| {
            // The server probes for larger datagrams, and the client sends little.
            let server = config(|c| c.max_datagram_size = 9_000);
            let client = config(|c| c.max_datagram_size = 1_200);
            let mut pair = Pair::with(seed, server, client);
            let (server, client) = (&pair.server, &pair.client);
            pair.world.drop_marked(server, true);
            pair.world.drop_marked(client, seed % 2 == 0);
            let (ours, theirs) = session(&mut pair);
            assert!(pair.world.now() < secs(3), "{:?}", pair.world.now());
            pair.world.block_on(a_byte_crosses(&theirs, &ours));
            drop((ours, theirs));
            pair.leave_nothing();
        },
    );
}

#[test]
fn resets_and_stops_carry_the_codes_of_the_application() {
    each_seed(
        "browsers::resets_and_stops_carry_the_codes_of_the_application",
        50,
        |seed| {
            let mut pair = Pair::new(seed);
            let (ours, theirs) = session(&mut pair);
            pair.world.block_on(async {
                for code in [0, 0x1e, 0x1001, u64::from(u32::MAX)] {
                    let (a, b) = stream(&ours, &theirs).await;
                    a.reset(code);
                    let read = operations::read(&b, 1).await;
                    assert_eq!(read, Err(ReadError::Reset(code)));
                    b.stop(0);
                    let (a, b) = stream(&theirs, &ours).await;
                    b.stop(code);
                    let error = loop {
                        if let Err(error) = operations::write_all(&a, &[0; 1000]).await {
                            break error;
                        }
                    };
                    assert_eq!(error, WriteError::Stopped(code));
                }
            });
            drop((ours, theirs));
            pair.leave_nothing();
        },
    );
}

/// Run a test of a session for each seed: first with the dialer's connection before the listener's, then with the
/// listener's before the dialer's. Both sides have the same configuration.
pub(crate) fn each_direction(
    test: &str,
    seeds: u64,
    config: impl Fn() -> Config,
    run: impl Fn(&mut World, &Connection, &Connection),
) {
    each_seed(test, seeds, |seed| {
        for is_dialer_first in [true, false] {
            let mut pair = Pair::with(seed, config(), config());
            let (ours, theirs) = session(&mut pair);
            let (first, second) = match is_dialer_first {
                true => (&ours, &theirs),
                false => (&theirs, &ours),
            };
            run(&mut pair.world, first, second);
            drop((ours, theirs));
            pair.leave_nothing();
        }
    });
}

/// Of a side that takes little of a stream before its application reads.
fn narrow() -> Config {
    config(|c| {
        c.stream_receive_window = 10_000;
        c.read_buffer = 1;
    })
}

#[test]
fn a_close_tells_its_code_and_reason_and_delivers_what_was_finished() {
    each_direction(
        "browsers::a_close_tells_its_code_and_reason_and_delivers_what_was_finished",
        100,
        Config::default,
        |world, closing, other| {
            world.block_on(async {
                let (a, b) = stream(closing, other).await;
                operations::write_all(&a, &[7; 20_000])
                    .await
                    .expect("written");
                a.finish();
                closing.close(0x1007, b"gated");
                let read = operations::read_to_end(&b).await;
                assert_eq!(read.expect("all of it").len(), 20_000);
                let error = operations::closed(other).await;
                assert_eq!((error.by, error.kind), (Party::Peer, CloseKind::Closed));
                assert_eq!((error.code, &error.reason[..]), (Some(0x1007), "gated"));
            });
        },
    );
}

/// An application drops its streams when it has closed the connection. The session's close takes a round trip, in which
/// the peer must not see their resets.
#[test]
fn a_close_is_what_the_peers_streams_learn() {
    each_direction(
        "browsers::a_close_is_what_the_peers_streams_learn",
        100,
        Config::default,
        |world, closing, other| {
            world.block_on(async {
                let (a, b) = stream(closing, other).await;
                let (c, d) = stream(other, closing).await;
                // Both streams are already queued for the engine when it is told of the close.
                operations::write_all(&a, b"more").await.expect("written");
                operations::write_all(&d, b"more").await.expect("written");
                closing.close(0x1007, b"gated");
                drop((a, d));
                for stream in [&b, &c] {
                    match operations::read_to_end(stream).await {
                        Err(ReadError::Lost(error)) => assert_eq!(error.code, Some(0x1007)),
                        other => panic!("{other:?}"),
                    }
                    match operations::write_all(stream, &[0; 10]).await {
                        Err(WriteError::Lost(error)) => assert_eq!(error.code, Some(0x1007)),
                        other => panic!("{other:?}"),
                    }
                }
            });
        },
    );
}

/// A finished stream that the peer does not read delays the close, but not for ever.
fn close_while_the_peer_does_not_read(
    world: &mut World,
    closing: &Connection,
    other: &Connection,
    size: usize,
) {
    world.block_on(async {
        let (a, b) = stream(closing, other).await;
        operations::write_all(&a, &vec![7; size])
            .await
            .expect("written");
        a.finish();
        closing.close(0x1007, b"gated");
        let error = operations::closed(other).await;
        assert_eq!(
            essence(&error),
            (Party::Peer, CloseKind::Closed, Some(0x1007))
        );
        assert_eq!(&error.reason[..], "gated");
        drop((a, b));
    });
}

#[test]
fn a_close_tells_its_code_although_a_finished_stream_is_not_read() {
    let test = "browsers::a_close_tells_its_code_although_a_finished_stream_is_not_read";
    each_direction(test, 50, narrow, |world, closing, other| {
        close_while_the_peer_does_not_read(world, closing, other, 200_000);
    });
    // Without time for lingering, too.
    let hasty = || config(|c| c.linger = ms(0));
    each_direction(test, 5, hasty, |world, closing, other| {
        close_while_the_peer_does_not_read(world, closing, other, 200_000);
    });
    // The unread stream has the whole of the connection's first windows.
    let large = || {
        config(|c| {
            c.read_buffer = 1;
            c.write_buffer = 10_000_000;
        })
    };
    each_direction(test, 1, large, |world, closing, other| {
        close_while_the_peer_does_not_read(world, closing, other, 10_000_000);
    });
}

#[test]
fn a_side_that_has_closed_takes_no_more_streams() {
    each_direction(
        "browsers::a_side_that_has_closed_takes_no_more_streams",
        20,
        narrow,
        |world, closing, other| {
            let (a, b) = world.block_on(stream(closing, other));
            let written = world.block_on(operations::write_all(&a, &[7; 200_000]));
            written.expect("written");
            a.finish();
            closing.close(7, b"");
            let late = world.block_on(async {
                let mut late = Vec::new();
                for _ in 0..5 {
                    let stream = operations::open(other).await.expect("a stream");
                    operations::write_all(&stream, b"late")
                        .await
                        .expect("written");
                    late.push(stream);
                }
                late
            });
            world.run_for(ms(100));
            assert_eq!(other.error(), None, "the unread stream delays the close");
            assert_eq!(closing.statistics().streams_waiting, 0);
            drop((a, b, late));
        },
    );
}

#[test]
fn a_full_backlog_refuses_a_session_with_the_code_for_a_limit() {
    let few = config(|c| c.max_accept_backlog = 1);
    let mut pair = Pair::with(1, few, Config::default());
    pair.listener.serve_webtransport(true);
    let (known, to) = (hashes(&pair), pair.listener.local_addr());
    let Pair { world, client, .. } = &mut pair;
    let dialed = operations::connect_webtransport(client, to, None, known.clone());
    let waiting = world.block_on(dialed).expect("a session");
    let dialed = operations::connect_webtransport(client, to, None, known);
    let beyond = world.block_on(dialed).expect("a session, for now");
    let error = world.block_on(operations::closed(&beyond));
    assert_eq!(
        essence(&error),
        (Party::Peer, CloseKind::Closed, Some(0x1001))
    );
    assert_eq!(&error.reason[..], "accept backlog is full");
    assert_eq!(waiting.error(), None);
    drop((waiting, beyond));
    pair.leave_nothing();
}

#[test]
fn a_restarted_listener_has_the_same_hashes_and_an_old_address_stays_true() {
    let mut pair = Pair::new(1);
    let before = hashes(&pair);
    let until = pair.server.certificates_renewed();
    pair.server = pair.world.restart(&pair.server, Config::default());
    pair.listener = pair.server.listen(pair.server.v4(4001)).expect("a port");
    assert_eq!(hashes(&pair), before);
    assert_eq!(pair.server.certificates_renewed(), until);
    let (ours, theirs) = session(&mut pair);
    // Connections outlive their certificate, and the next one was in the address before.
    pair.world.shift_wall_clock(14 * 24 * 60 * 60 - 2 * 60 * 60);
    let after = hashes(&pair);
    assert_eq!(after[0], before[1]);
    pair.world.block_on(a_byte_crosses(&ours, &theirs));
    let to = pair.listener.local_addr();
    let Pair { world, client, .. } = &mut pair;
    let dialed = world.block_on(operations::connect_webtransport(client, to, None, before));
    drop((ours, theirs, dialed.expect("the address is one period old")));
    pair.leave_nothing();
}

#[test]
fn a_wrong_hash_or_peer_id_is_refused_and_says_so() {
    let mut pair = Pair::new(1);
    pair.listener.serve_webtransport(true);
    let error = refusal(&mut pair, None, vec![[7; 34]]);
    assert_eq!((error.by, error.kind), (Party::Local, CloseKind::Refused));
    assert!(error.reason.contains("hash"), "{error}");
    // TLS proves one of them, and Noise does not confirm the other.
    let mut some_wrong = hashes(&pair);
    some_wrong[1] = [7; 34];
    let error = refusal(&mut pair, None, some_wrong);
    assert_eq!((error.by, error.kind), (Party::Local, CloseKind::Refused));
    assert!(error.reason.contains("0707"), "{error}");
    let other = pair.client.peer_id();
    let known = hashes(&pair);
    let error = refusal(&mut pair, Some(other), known);
    assert_eq!(
        (error.by, error.kind),
        (Party::Local, CloseKind::PeerIdMismatch)
    );
    pair.leave_nothing();
}

#[test]
fn a_listener_without_webtransport_refuses_it() {
    let mut pair = Pair::new(1);
    let known = hashes(&pair);
    let error = refusal(&mut pair, None, known);
    assert_eq!((error.by, error.kind), (Party::Peer, CloseKind::Refused));
    assert_eq!(error.code, Some(NO_APPLICATION_PROTOCOL), "{error}");
    pair.leave_nothing();
}

/// A write buffer smaller than the header of a stream, and a peer that allows one stream.
#[test]
fn the_smallest_settings_work() {
    let smallest = || {
        config(|c| {
            c.write_buffer = 1;
            c.read_buffer = 1;
            c.max_incoming_streams = 1;
        })
    };
    let mut pair = Pair::with(1, smallest(), smallest());
    let (ours, theirs) = session(&mut pair);
    pair.world.block_on(async {
        for _ in 0..5 {
            let (a, b) = stream(&ours, &theirs).await;
            a.finish();
            b.finish();
            assert_eq!(operations::read_to_end(&a).await, Ok(Vec::new()));
            assert_eq!(operations::read_to_end(&b).await, Ok(Vec::new()));
        }
    });
    drop((ours, theirs));
    pair.leave_nothing();
}
