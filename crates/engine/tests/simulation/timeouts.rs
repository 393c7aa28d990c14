//! Time: idle timeout, keep-alive, blackouts, retransmission, and peers that come back.

use std::{collections::HashMap, time::Duration};

use libp2p_quic_engine::{
    CloseKind, Config, Party, ReadError,
    simulation::{Conditions, operations},
};

use crate::kit::{
    Pair, a_byte_crosses, config, each_seed, essence, join, ms, pattern, quiet, secs, stream,
};

#[test]
fn silence_ends_a_connection_at_the_idle_timeout() {
    // The smaller of both sides' values counts.
    let mut pair = Pair::with(
        1,
        quiet(|c| c.idle_timeout = secs(40)),
        quiet(|c| c.idle_timeout = secs(12)),
    );
    let (ours, theirs) = pair.connect();
    pair.world.run_for(secs(1));
    let a = pair
        .world
        .block_on(operations::open(&ours))
        .expect("a stream");
    let error = pair.world.block_on(operations::closed(&ours));
    assert_eq!(
        essence(&error),
        (Party::Network, CloseKind::IdleTimeout, None)
    );
    assert!(
        (secs(12)..secs(13)).contains(&pair.world.now()),
        "{:?}",
        pair.world.now()
    );
    let read = pair.world.block_on(operations::read(&a, 1));
    assert_eq!(read, Err(ReadError::Lost(error)));
    let error = pair.world.block_on(operations::closed(&theirs));
    assert_eq!(error.kind, CloseKind::IdleTimeout);
    drop((a, ours, theirs));
    pair.leave_nothing();
}

#[test]
fn keep_alive_keeps_a_silent_connection() {
    for only_one_side in [false, true] {
        let server = if only_one_side {
            quiet(|_| ())
        } else {
            Config::default()
        };
        let mut pair = Pair::with(1, server, Config::default());
        let (ours, theirs) = pair.connect();
        pair.world.run_for(secs(300));
        assert_eq!((ours.error(), theirs.error()), (None, None));
        pair.world.block_on(a_byte_crosses(&ours, &theirs));
        drop((ours, theirs));
        pair.leave_nothing();
    }
}

/// A peer that sends nothing by itself and gives up after `idle_timeout` of silence, as the
/// listener or as the dialer, beside one with the default configuration; and which side keeps
/// the connection alive.
fn with_a_short_peer(seed: u64, idle_timeout: Duration, peer_listens: bool) -> Pair {
    let short = quiet(|c| c.idle_timeout = idle_timeout);
    if peer_listens {
        Pair::with(seed, short, Config::default())
    } else {
        Pair::with(seed, Config::default(), short)
    }
}

#[test]
fn keep_alive_stays_below_half_of_the_agreed_timeout() {
    for (idle_timeout, peer_listens) in [
        (ms(400), true),
        (ms(400), false),
        (secs(2), true),
        (secs(2), false),
        (secs(4), true),
        (secs(4), false),
        (secs(9), true),
        (secs(9), false),
    ] {
        let mut pair = with_a_short_peer(1, idle_timeout, peer_listens);
        let (ours, theirs) = pair.connect();
        pair.world.run_for(secs(3));
        pair.world.record();
        let began = pair.world.now();
        pair.world.run_for(secs(60));
        assert_eq!((ours.error(), theirs.error()), (None, None));
        let peer = if peer_listens {
            pair.listener.local_addr()
        } else {
            theirs.remote_addr()
        };
        let mut last = began;
        let mut sent = 0;
        for datagram in pair.world.recorded().iter().filter(|it| it.to == peer) {
            assert!(datagram.at - last <= idle_timeout / 2, "{idle_timeout:?}");
            last = datagram.at;
            sent += 1;
        }
        // One PING in each third of the timeout and no more.
        let most = secs(60).as_millis() / (idle_timeout / 3).min(secs(5)).as_millis();
        assert!(sent >= 10 && sent <= most + 1, "{idle_timeout:?}: {sent}");
        pair.world.block_on(a_byte_crosses(&ours, &theirs));
        drop((ours, theirs));
        pair.leave_nothing();
    }
}

#[test]
fn a_lost_keep_alive_ends_nothing() {
    each_seed("timeouts::a_lost_keep_alive_ends_nothing", 10, |seed| {
        for peer_listens in [true, false] {
            let idle_timeout = secs(2);
            let mut pair = with_a_short_peer(seed, idle_timeout, peer_listens);
            let (ours, theirs) = pair.connect();
            let mut dice = pair.world.dice();
            for _ in 0..20 {
                pair.world.run_for(ms(500 + dice.below(700)));
                // The PING after the next one is lost, with its first probes.
                let before = pair.world.datagrams();
                let is_sent = pair
                    .world
                    .run_until(idle_timeout, |world| world.datagrams() > before);
                assert!(is_sent);
                pair.world.run_for(ms(100));
                pair.world.blackout(ms(700));
                pair.world.run_for(ms(700));
            }
            assert_eq!((ours.error(), theirs.error()), (None, None));
            pair.world.block_on(a_byte_crosses(&ours, &theirs));
            drop((ours, theirs));
            pair.leave_nothing();
        }
    });
}

#[test]
fn keep_alives_of_idle_connections_leave_together_and_never_late() {
    const CONNECTIONS: usize = 100;
    let mut pair = Pair::with(1, quiet(|_| ()), Config::default());
    let mut held = Vec::new();
    for _ in 0..CONNECTIONS {
        held.push(pair.connect());
        // Spread over one interval.
        pair.world.run_for(ms(50));
    }
    pair.world.run_for(secs(20));
    pair.world.record();
    let (began, wakeups) = (pair.world.now(), pair.world.wakeups(&pair.client));
    pair.world.run_for(secs(60));
    let wakeups = pair.world.wakeups(&pair.client) - wakeups;

    let mut sent: HashMap<Vec<u8>, Vec<Duration>> = HashMap::new();
    let server = pair.listener.local_addr();
    for datagram in pair.world.recorded() {
        if datagram.to == server {
            // The connection id of a packet with a short header.
            let id = datagram.data[1..9].to_vec();
            sent.entry(id).or_default().push(datagram.at - began);
        }
    }
    assert_eq!(sent.len(), CONNECTIONS);
    let mut early = 0;
    for times in sent.values() {
        // In a minute, one in each interval.
        assert!(times.len() >= 11, "{times:?}");
        for gap in times.windows(2).map(|pair| pair[1] - pair[0]) {
            assert!((ms(4_500)..=ms(5_000)).contains(&gap), "{gap:?}");
            early += usize::from(gap < ms(5_000));
        }
    }
    // Once they leave together, they leave after the whole interval.
    assert!(early <= CONNECTIONS * 4, "{early}");
    // At most eleven groups in each interval, and each is acknowledged.
    assert!(wakeups < 12 * 11 * 8, "{wakeups}");
    drop(held);
    pair.leave_nothing();
}

#[test]
fn a_timeout_shorter_than_a_round_trip_draws_one_ping_in_each() {
    for peer_listens in [true, false] {
        let mut pair = with_a_short_peer(1, ms(30), peer_listens);
        pair.world.link(Conditions {
            latency: ms(150),
            ..Conditions::default()
        });
        let (ours, theirs) = pair.connect();
        pair.world.run_for(secs(5));
        let before = pair.world.datagrams();
        pair.world.run_for(secs(60));
        assert_eq!((ours.error(), theirs.error()), (None, None));
        // Each PING has its acknowledgment.
        let pings = (pair.world.datagrams() - before) / 2;
        assert!((120..=200).contains(&pings), "{pings}");
        drop((ours, theirs));
        pair.leave_nothing();
    }
}

#[test]
fn keep_alive_goes_on_while_a_closed_connection_delivers() {
    for peer_listens in [true, false] {
        let short = quiet(|c| {
            c.idle_timeout = secs(2);
            c.stream_receive_window = 100;
            c.read_buffer = 1;
        });
        let patient = config(|c| c.linger = secs(60));
        let mut pair = if peer_listens {
            Pair::with(1, short, patient)
        } else {
            Pair::with(1, patient, short)
        };
        let (dialed, accepted) = pair.connect();
        let (ours, theirs) = if peer_listens {
            (dialed, accepted)
        } else {
            (accepted, dialed)
        };
        let end = pair.world.block_on(async {
            let (a, b) = stream(&ours, &theirs).await;
            operations::write_all(&a, &[7; 1_000])
                .await
                .expect("written");
            a.finish();
            b
        });
        ours.close(0, b"");
        // scenario: the reader pauses for longer than the idle timeout.
        pair.world.run_for(secs(10));
        let all = pair.world.block_on(operations::read_to_end(&end));
        assert_eq!(all.expect("all of it"), vec![7; 1_000]);
        drop((ours, theirs, end));
        pair.leave_nothing();
    }
}

#[test]
fn without_a_keep_alive_interval_silence_is_silence() {
    for peer_listens in [true, false] {
        let (short, silent) = (quiet(|c| c.idle_timeout = secs(2)), quiet(|_| ()));
        let mut pair = if peer_listens {
            Pair::with(1, short, silent)
        } else {
            Pair::with(1, silent, short)
        };
        let (ours, theirs) = pair.connect();
        let error = pair.world.block_on(operations::closed(&ours));
        assert_eq!(error.kind, CloseKind::IdleTimeout);
        assert!(pair.world.now() < secs(4), "{:?}", pair.world.now());
        drop((ours, theirs));
        pair.leave_nothing();
    }
}

#[test]
fn a_blackout_shorter_than_the_idle_timeout_only_delays() {
    each_seed(
        "timeouts::a_blackout_shorter_than_the_idle_timeout_only_delays",
        30,
        |seed| {
            let mut pair = Pair::new(seed);
            let (ours, theirs) = pair.connect();
            let sent = pattern(seed, 500_000);
            let reader = pair.world.spawn(async move {
                let b = operations::accept_stream(&theirs).await.expect("a stream");
                (operations::read_to_end(&b).await, theirs)
            });
            let writer = pair.world.spawn({
                let (ours, sent) = (ours.clone(), sent.clone());
                async move {
                    let a = operations::open(&ours).await.expect("a stream");
                    operations::write_all(&a, &sent).await.expect("written");
                    a.finish();
                    operations::finished(&a).await
                }
            });
            pair.world.run_for(ms(1 + seed));
            // Probes come at doubling intervals, so one falls into any nine of the thirty seconds
            // that follow nine seconds of silence.
            pair.world.blackout(secs(9));
            assert!(!writer.is_done());
            let (got, theirs) = pair.world.block_on(reader);
            assert!(got.expect("all bytes") == sent);
            assert!(pair.world.now() > secs(9));
            pair.world.block_on(writer).expect("delivered");
            drop((ours, theirs));
            pair.leave_nothing();
        },
    );
}

#[test]
fn a_longer_blackout_is_a_lost_connection_and_never_a_clean_end() {
    each_seed(
        "timeouts::a_longer_blackout_is_a_lost_connection_and_never_a_clean_end",
        10,
        |seed| {
            let mut pair = Pair::new(seed);
            let (ours, theirs) = pair.connect();
            let reader = pair.world.spawn(async move {
                let b = operations::accept_stream(&theirs).await.expect("a stream");
                operations::read_to_end(&b).await
            });
            let a = pair.world.block_on(async {
                let a = operations::open(&ours).await.expect("a stream");
                operations::write_all(&a, b"so far").await.expect("written");
                a
            });
            pair.world.run_for(ms(100));
            pair.world.blackout(secs(100));
            let end = pair.world.block_on(reader).expect_err("no clean end");
            let ReadError::Lost(error) = end else {
                panic!("{end}");
            };
            assert_eq!(
                essence(&error),
                (Party::Network, CloseKind::IdleTimeout, None)
            );
            let now = pair.world.now();
            assert!((secs(30)..secs(36)).contains(&now), "{now:?}");
            drop((a, ours));
            pair.leave_nothing();
        },
    );
}

#[test]
fn a_lost_packet_is_sent_again_long_before_the_idle_timeout() {
    let mut pair = Pair::with(1, quiet(|_| ()), quiet(|_| ()));
    let (ours, theirs) = pair.connect();
    // The idle timer stands at 30 s; the first write must move the deadline to a probe's.
    pair.world.run_for(secs(2));
    pair.world.blackout(ms(20));
    let began = pair.world.now();
    pair.world.block_on(a_byte_crosses(&ours, &theirs));
    let took = pair.world.now() - began;
    assert!(took < ms(300), "{took:?}");
}

#[test]
fn a_restarted_peer_resets_at_once() {
    each_seed("timeouts::a_restarted_peer_resets_at_once", 20, |seed| {
        let mut pair = Pair::new(seed);
        let (ours, theirs) = pair.connect();
        pair.world.run_for(secs(1));
        let reborn = pair.world.restart(&pair.server, Config::default());
        let listener = reborn.listen(reborn.v4(4001)).expect("a free port");
        let began = pair.world.now();
        let error = pair.world.block_on(async {
            let a = operations::open(&ours).await.expect("a stream");
            operations::write_all(&a, &[0; 1000])
                .await
                .expect("written");
            operations::closed(&ours).await
        });
        assert_eq!(
            essence(&error),
            (Party::Peer, CloseKind::StatelessReset, None)
        );
        assert_eq!(pair.world.now() - began, ms(10));
        assert_eq!(theirs.error().map(|e| e.kind), Some(CloseKind::Internal));
        let (again, other) = join(&mut pair.world, &pair.client, &reborn, &listener);
        drop((ours, theirs, again, other, listener, reborn));
        pair.world.run_for(secs(5));
        pair.leave_nothing();
    });
}

#[test]
fn a_killed_peer_is_a_lost_connection() {
    let mut pair = Pair::new(1);
    let (ours, theirs) = pair.connect();
    let (a, b) = pair.world.block_on(async {
        let a = operations::open(&ours).await.expect("a stream");
        operations::write_all(&a, b"x").await.expect("written");
        (
            a,
            operations::accept_stream(&theirs).await.expect("a stream"),
        )
    });
    pair.world.crash(&pair.server);
    let end = pair
        .world
        .block_on(operations::read_to_end(&a))
        .expect_err("no clean end");
    assert!(matches!(end, ReadError::Lost(e) if e.kind == CloseKind::IdleTimeout));
    drop((a, b, ours, theirs));
    pair.leave_nothing();
}

#[test]
fn a_blocked_socket_does_not_stop_the_clock() {
    // A system that takes no datagram for longer than the idle timeout: waiting tasks must
    // still learn of the timeout, and datagrams that arrive must still be read.
    let mut pair = Pair::with(1, quiet(|_| ()), quiet(|c| c.idle_timeout = secs(10)));
    let (ours, theirs) = pair.connect();
    pair.world.run_for(secs(1));
    pair.world.link(Conditions {
        blocked: 1.0,
        ..Conditions::default()
    });
    let began = pair.world.now();
    let a = pair.world.block_on(async {
        let a = operations::open(&ours).await.expect("a stream");
        operations::write_all(&a, b"x").await.expect("written");
        a
    });
    let error = pair.world.block_on(operations::closed(&ours));
    assert_eq!(error.kind, CloseKind::IdleTimeout);
    let took = pair.world.now() - began;
    assert!((secs(9)..secs(12)).contains(&took), "{took:?}");
    pair.world.link(Conditions::default());
    drop((a, ours, theirs));
    pair.leave_nothing();
}
