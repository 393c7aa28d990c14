//! Time: idle timeout, keep-alive, blackouts, retransmission, and peers that come back.

use libp2p_quic_engine::{
    Config, LossKind, Party, ReadError,
    simulation::{Conditions, verbs},
};

use crate::kit::{Pair, a_byte_crosses, each_seed, essence, join, ms, pattern, quiet, secs};

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
    let a = pair.world.block_on(verbs::open(&ours)).expect("a stream");
    let error = pair.world.block_on(verbs::closed(&ours));
    assert_eq!(
        essence(&error),
        (Party::Network, LossKind::IdleTimeout, None)
    );
    assert!(
        (secs(12)..secs(13)).contains(&pair.world.now()),
        "{:?}",
        pair.world.now()
    );
    let read = pair.world.block_on(verbs::read(&a, 1));
    assert_eq!(read, Err(ReadError::Lost(error)));
    let error = pair.world.block_on(verbs::closed(&theirs));
    assert_eq!(error.kind, LossKind::IdleTimeout);
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
                let b = verbs::accept_stream(&theirs).await.expect("a stream");
                (verbs::read_to_end(&b).await, theirs)
            });
            let writer = pair.world.spawn({
                let (ours, sent) = (ours.clone(), sent.clone());
                async move {
                    let a = verbs::open(&ours).await.expect("a stream");
                    verbs::write_all(&a, &sent).await.expect("room");
                    a.finish();
                    verbs::finished(&a).await
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
                let b = verbs::accept_stream(&theirs).await.expect("a stream");
                verbs::read_to_end(&b).await
            });
            let a = pair.world.block_on(async {
                let a = verbs::open(&ours).await.expect("a stream");
                verbs::write_all(&a, b"so far").await.expect("room");
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
                (Party::Network, LossKind::IdleTimeout, None)
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
            let a = verbs::open(&ours).await.expect("a stream");
            verbs::write_all(&a, &[0; 1000]).await.expect("room");
            verbs::closed(&ours).await
        });
        assert_eq!(
            essence(&error),
            (Party::Peer, LossKind::StatelessReset, None)
        );
        assert_eq!(pair.world.now() - began, ms(10));
        assert_eq!(theirs.error().map(|e| e.kind), Some(LossKind::Internal));
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
        let a = verbs::open(&ours).await.expect("a stream");
        verbs::write_all(&a, b"x").await.expect("room");
        (a, verbs::accept_stream(&theirs).await.expect("a stream"))
    });
    pair.world.crash(&pair.server);
    let end = pair
        .world
        .block_on(verbs::read_to_end(&a))
        .expect_err("no clean end");
    assert!(matches!(end, ReadError::Lost(e) if e.kind == LossKind::IdleTimeout));
    drop((a, b, ours, theirs));
    pair.leave_nothing();
}

#[test]
fn a_blocked_socket_does_not_stop_the_clock() {
    // A system that takes no datagram for longer than the idle timeout: whoever waits must
    // still hear of it, and what arrives must still be read.
    let mut pair = Pair::with(1, quiet(|_| ()), quiet(|c| c.idle_timeout = secs(10)));
    let (ours, theirs) = pair.connect();
    pair.world.run_for(secs(1));
    pair.world.link(Conditions {
        blocked: 1.0,
        ..Conditions::default()
    });
    let began = pair.world.now();
    let a = pair.world.block_on(async {
        let a = verbs::open(&ours).await.expect("a stream");
        verbs::write_all(&a, b"x").await.expect("room");
        a
    });
    let error = pair.world.block_on(verbs::closed(&ours));
    assert_eq!(error.kind, LossKind::IdleTimeout);
    let took = pair.world.now() - began;
    assert!((secs(9)..secs(12)).contains(&took), "{took:?}");
    pair.world.link(Conditions::default());
    drop((a, ours, theirs));
    pair.leave_nothing();
}
