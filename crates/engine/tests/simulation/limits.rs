//! Limits: what is beyond them is refused or waits, and nothing is kept for it.

use std::{
    collections::VecDeque,
    task::{Context, Poll, Waker},
    time::Duration,
};

use libp2p_quic_engine::{
    CloseKind, Config, Connection, Party, Stream,
    simulation::{Conditions, operations},
};

use crate::kit::{Pair, config, each_seed, essence, ms, secs, stream};

#[test]
fn a_full_backlog_refuses_with_the_code_for_a_limit() {
    let mut pair = Pair::with(1, config(|c| c.max_accept_backlog = 3), Config::default());
    let to = pair.listener.local_addr();
    let mut held = Vec::new();
    for _ in 0..3 {
        let ours = pair
            .world
            .block_on(operations::connect(&pair.client, to, None));
        held.push(ours.expect("a connection"));
        pair.world.run_for(ms(100));
    }
    assert_eq!(pair.listener.statistics().backlog, 3);
    // Our side is done with the handshake before the listener judges.
    let beyond = pair
        .world
        .block_on(operations::connect(&pair.client, to, None))
        .expect("for now");
    let error = pair.world.block_on(operations::closed(&beyond));
    assert_eq!(
        essence(&error),
        (Party::Peer, CloseKind::Closed, Some(0x1001))
    );
    assert_eq!(pair.listener.statistics().connections_refused, 1);
    // Waiting connections are unharmed, and accepting one lets another wait.
    let theirs = pair
        .world
        .block_on(operations::accept(&pair.listener))
        .expect("a connection");
    let next = pair
        .world
        .block_on(operations::connect(&pair.client, to, None))
        .expect("accepted again");
    pair.world.run_for(secs(1));
    assert_eq!(next.error(), None);
    assert!(held.iter().all(|connection| connection.error().is_none()));
    drop((held, beyond, next, theirs));
    pair.leave_nothing();
}

#[test]
fn connections_beyond_the_limit_are_refused() {
    let mut pair = Pair::with(
        1,
        config(|c| c.max_connections = Some(2)),
        Config::default(),
    );
    let (a, b) = (pair.connect(), pair.connect());
    let to = pair.listener.local_addr();
    let error = pair
        .world
        .block_on(operations::connect(&pair.client, to, None))
        .expect_err("a refusal");
    // RFC 9000 section 20.1, CONNECTION_REFUSED.
    assert_eq!(
        essence(&error),
        (Party::Peer, CloseKind::Refused, Some(0x2))
    );
    assert!(pair.listener.statistics().connections_refused >= 1);
    let census = pair.world.census(&pair.server).expect("running");
    assert_eq!(
        (census.quic_connections, census.waiting_datagram_bytes),
        (2, 0)
    );
    drop(a);
    pair.world.run_for(secs(5));
    let c = pair.connect();
    drop((b, c));
    pair.leave_nothing();
}

#[test]
fn unknown_senders_at_a_socket_that_does_not_listen_are_ignored() {
    let mut pair = Pair::with(
        1,
        Config::default(),
        config(|c| c.handshake_timeout = secs(2)),
    );
    let (ours, theirs) = pair.connect();
    // The client's socket was made for dials; someone dials it.
    let error = pair
        .world
        .block_on(async {
            let to = theirs.remote_addr();
            let dial = pair.server.connect(to, None).expect("a dial");
            operations::connected(&dial).await
        })
        .expect_err("no answer");
    assert_eq!(error.kind, CloseKind::HandshakeTimeout);
    let census = pair.world.census(&pair.client).expect("running");
    assert_eq!(
        (census.quic_connections, census.waiting_datagram_bytes),
        (1, 0)
    );
    assert_eq!(ours.error(), None);
    drop((ours, theirs));
    pair.leave_nothing();
}

#[test]
fn many_dialers_must_validate_their_addresses() {
    each_seed(
        "limits::many_dialers_must_validate_their_addresses",
        10,
        |seed| {
            let mut pair = Pair::with(seed, config(|c| c.retry_above = Some(2)), Config::default());
            pair.world.record();
            let to = pair.listener.local_addr();
            let dials: Vec<_> = (0..8)
                .map(|_| pair.client.connect(to, None).expect("a dial"))
                .collect();
            let mut theirs = Vec::new();
            pair.world.block_on(async {
                for dial in &dials {
                    operations::connected(dial).await.expect("a connection");
                    theirs.push(
                        operations::accept(&pair.listener)
                            .await
                            .expect("a connection"),
                    );
                }
            });
            let sent = pair.world.recorded();
            let retries = sent
                .iter()
                .filter(|d| d.from == to && d.data[0] & 0xf0 == 0xf0);
            assert!(retries.count() >= 1);
            assert_eq!(pair.listener.statistics().handshakes_started, 8);
            // The count of handshakes in flight comes back to zero, or every new peer would
            // have to validate its address.
            let census = pair.world.census(&pair.server).expect("running");
            assert_eq!(census.inbound_handshakes, 0);
            drop((dials, theirs));
            pair.leave_nothing();
        },
    );
}

#[test]
fn a_hundred_dials_at_once_all_arrive() {
    let mut pair = Pair::new(1);
    let to = pair.listener.local_addr();
    let dials: Vec<_> = (0..100)
        .map(|_| pair.client.connect(to, None).expect("a dial"))
        .collect();
    let mut theirs = Vec::new();
    pair.world.block_on(async {
        for dial in &dials {
            operations::connected(dial).await.expect("a connection");
            theirs.push(
                operations::accept(&pair.listener)
                    .await
                    .expect("a connection"),
            );
        }
    });
    assert_eq!(pair.world.sockets(&pair.client), 1, "dials share a socket");
    drop((dials, theirs));
    pair.leave_nothing();
}

#[test]
fn a_stream_that_was_given_up_counts_until_it_is_accepted() {
    const ALLOWED: usize = 20;
    const OPENED: usize = 200;
    let mut pair = Pair::with(
        1,
        config(|c| c.max_incoming_streams = ALLOWED as u32),
        Config::default(),
    );
    let (ours, theirs) = pair.connect();
    let opener = pair.world.spawn({
        let ours = ours.clone();
        async move {
            for number in 0..OPENED {
                let stream = operations::open(&ours).await.expect("a stream");
                operations::write_all(&stream, &[number as u8])
                    .await
                    .expect("written");
                if number % 2 == 0 {
                    stream.finish();
                    operations::finished(&stream).await.expect("delivered");
                }
                // Reset, where it was not finished, and stopped.
            }
        }
    });
    pair.world.run_for(secs(5));
    // Nobody accepts: the peer may open no more, and what it opened waits, none refused.
    let mut cx = Context::from_waker(Waker::noop());
    let mut waiting = VecDeque::new();
    while let Poll::Ready(stream) = theirs.poll_accept(&mut cx) {
        waiting.push_back(stream.expect("a stream"));
    }
    assert_eq!(waiting.len(), ALLOWED);
    // All of them are accepted, in order, and finished ones are complete.
    pair.world.block_on(async {
        for number in 0..OPENED {
            let stream = match waiting.pop_front() {
                Some(stream) => stream,
                None => operations::accept_stream(&theirs).await.expect("a stream"),
            };
            assert_eq!(stream.id(), 4 * number as u64);
            if number % 2 == 0 {
                let all = operations::read_to_end(&stream).await.expect("all");
                assert_eq!(all, [number as u8]);
            }
        }
        opener.await;
    });
    drop((ours, theirs));
    pair.leave_nothing();
}

/// A connection on which one side may open `limit` streams at once, and has all of them open, with a
/// byte on each: the two connections, opener's first, and the two ends of each stream.
type Full = (Connection, Connection, VecDeque<(Stream, Stream)>);

fn with_all_streams_open(streams: usize, dialer_opens: bool) -> (Pair, Full) {
    let limited = config(|c| c.max_incoming_streams = streams as u32);
    let mut pair = if dialer_opens {
        Pair::with(1, limited, Config::default())
    } else {
        Pair::with(1, Config::default(), limited)
    };
    pair.world.link(Conditions {
        latency: ONE_WAY,
        ..Conditions::default()
    });
    let (dialed, accepted) = pair.connect();
    let (opener, other) = if dialer_opens {
        (dialed, accepted)
    } else {
        (accepted, dialed)
    };
    let mut open = VecDeque::new();
    pair.world.block_on(async {
        for _ in 0..streams {
            open.push_back(stream(&opener, &other).await);
        }
    });
    pair.world.run_for(secs(1));
    (pair, (opener, other, open))
}

const ONE_WAY: Duration = ms(50);

/// How long the opener has to wait for a stream.
fn wait_for_a_stream(pair: &mut Pair, opener: &Connection) -> (Duration, Stream) {
    let began = pair.world.now();
    let stream = pair
        .world
        .block_on(operations::open(opener))
        .expect("a stream");
    (pair.world.now() - began, stream)
}

fn is_at_its_limit(opener: &Connection) -> bool {
    let mut cx = Context::from_waker(Waker::noop());
    opener.poll_open(&mut cx).is_pending()
}

#[test]
fn a_stream_that_ends_at_the_limit_makes_room_for_one() {
    for (streams, dialer_opens) in [
        (1, true),
        (16, true),
        (16, false),
        (100, true),
        (100, false),
        (1024, true),
        (1024, false),
    ] {
        let (mut pair, (opener, other, mut open)) = with_all_streams_open(streams, dialer_opens);
        for round in 0..20 {
            assert!(is_at_its_limit(&opener), "{streams} are open");
            let (a, b) = open.pop_front().expect("a stream");
            pair.world.block_on(async {
                a.finish();
                operations::read_to_end(&b).await.expect("an end");
                b.finish();
                operations::read_to_end(&a).await.expect("an end");
            });
            drop((a, b));
            let (waited, a) = wait_for_a_stream(&mut pair, &opener);
            assert!(
                waited <= 4 * ONE_WAY,
                "{streams}, round {round}: {waited:?}"
            );
            let b = pair.world.block_on(async {
                operations::write_all(&a, b"x").await.expect("written");
                operations::accept_stream(&other).await.expect("a stream")
            });
            open.push_back((a, b));
        }
        drop((opener, other, open));
        pair.leave_nothing();
    }
}

#[test]
fn a_stream_that_is_given_up_at_the_limit_makes_room_for_one() {
    for (streams, dialer_opens) in [(16, true), (100, false), (1024, true), (1024, false)] {
        let (mut pair, (opener, other, mut open)) = with_all_streams_open(streams, dialer_opens);
        for given_up in [1, 1, 2, 3, 1] {
            assert!(is_at_its_limit(&opener), "{streams} are open");
            // Reset and stopped, by both sides.
            open.drain(..given_up);
            for _ in 0..given_up {
                let (waited, a) = wait_for_a_stream(&mut pair, &opener);
                assert!(waited <= 4 * ONE_WAY, "{streams}, {given_up}: {waited:?}");
                let b = pair.world.block_on(async {
                    operations::write_all(&a, b"x").await.expect("written");
                    operations::accept_stream(&other).await.expect("a stream")
                });
                open.push_back((a, b));
            }
        }
        drop((opener, other, open));
        pair.leave_nothing();
    }
}

#[test]
fn a_stream_that_is_accepted_after_it_was_given_up_makes_room_for_one() {
    for streams in [16, 100, 1024] {
        let limited = config(|c| c.max_incoming_streams = streams);
        let mut pair = Pair::with(1, limited, Config::default());
        let (opener, other) = pair.connect();
        pair.world.block_on(async {
            for _ in 0..streams {
                let stream = operations::open(&opener).await.expect("a stream");
                operations::write_all(&stream, b"x").await.expect("written");
            }
        });
        pair.world.run_for(secs(1));
        for _ in 0..20 {
            assert!(is_at_its_limit(&opener), "{streams} wait");
            drop(pair.world.block_on(operations::accept_stream(&other)));
            let (waited, stream) = wait_for_a_stream(&mut pair, &opener);
            assert!(waited <= ms(50), "{streams}: {waited:?}");
            let written = pair.world.block_on(operations::write_all(&stream, b"x"));
            written.expect("written");
            pair.world.run_for(ms(50));
        }
        drop((opener, other));
        pair.leave_nothing();
    }
}

#[test]
fn streams_without_a_byte_count_for_the_limit_of_who_opened_them() {
    let limited = config(|c| c.max_incoming_streams = 16);
    let mut pair = Pair::with(1, limited, Config::default());
    let (opener, other) = pair.connect();
    let mut silent = Vec::new();
    let (a, b) = pair.world.block_on(async {
        let pair = stream(&opener, &other).await;
        for _ in 0..15 {
            silent.push(operations::open(&opener).await.expect("a stream"));
        }
        pair
    });
    pair.world.run_for(secs(1));
    assert!(is_at_its_limit(&opener));
    // One of sixteen ends that the listener knows only one of.
    drop((a, b));
    let (waited, stream) = wait_for_a_stream(&mut pair, &opener);
    assert!(waited <= ms(100), "{waited:?}");
    drop((opener, other, silent, stream));
    pair.leave_nothing();
}

#[test]
fn streams_far_from_the_limit_are_announced_together() {
    let mut pair = Pair::new(1);
    let (opener, other) = pair.connect();
    let mut open = VecDeque::new();
    pair.world.block_on(async {
        for _ in 0..60 {
            open.push_back(stream(&opener, &other).await);
        }
    });
    pair.world.run_for(secs(1));
    let before = pair.world.datagrams();
    for (a, b) in open.drain(..20) {
        drop((a, b));
        pair.world.run_for(ms(1));
    }
    pair.world.run_for(secs(1));
    // The ends themselves, what acknowledges them, and one announcement in each 25 ms.
    let sent = pair.world.datagrams() - before;
    assert!(sent <= 75, "{sent}");
    drop((opener, other, open));
    pair.leave_nothing();
}
