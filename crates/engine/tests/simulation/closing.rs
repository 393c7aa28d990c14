//! Closing, from either side and by dropping: what is delivered, who hears what, and that
//! nothing is left.

use std::rc::Rc;

use libp2p_quic_engine::{
    CloseKind, Config, CongestionControl, ConnectionError, Party, ReadError, WriteError,
    simulation::{Conditions, operations},
};

use crate::kit::{Pair, config, each_seed, essence, leave_nothing, ms, pattern, secs};

#[test]
fn both_sides_hear_who_closed_and_with_which_code() {
    each_seed(
        "closing::both_sides_hear_who_closed_and_with_which_code",
        20,
        |seed| {
            let mut pair = Pair::new(seed);
            let code = seed << 40;
            let (ours, theirs) = pair.connect();
            let (closer, other) = if seed % 2 == 0 {
                (&ours, &theirs)
            } else {
                (&theirs, &ours)
            };
            closer.close(code, b"good night");
            let here = closer.error().expect("at once");
            assert_eq!(
                essence(&here),
                (Party::Local, CloseKind::Closed, Some(code))
            );
            let there = pair.world.block_on(operations::closed(other));
            assert_eq!(
                essence(&there),
                (Party::Peer, CloseKind::Closed, Some(code))
            );
            assert_eq!(there.reason, "good night");
            drop((ours, theirs));
            pair.leave_nothing();
        },
    );
}

/// quinn-proto holds a close back while the window has no room for what else there is to send.
#[test]
fn a_close_in_the_middle_of_a_transfer_is_heard_at_once() {
    for algorithm in [
        CongestionControl::Bbr,
        CongestionControl::Cubic,
        CongestionControl::NewReno,
    ] {
        let name = "closing::a_close_in_the_middle_of_a_transfer_is_heard_at_once";
        each_seed(name, 30, |seed| {
            let sender = || config(|c| c.congestion_control = algorithm);
            let mut pair = Pair::with(seed, sender(), sender());
            pair.world.link(Conditions {
                latency: ms(20),
                rate: Some(1_000_000),
                ..Conditions::default()
            });
            let (ours, theirs) = pair.connect();
            let (closer, other) = if seed % 2 == 0 {
                (&ours, &theirs)
            } else {
                (&theirs, &ours)
            };
            let writer = closer.clone();
            let _writing = pair.world.spawn(async move {
                let stream = operations::open(&writer).await.expect("a stream");
                // More than the test waits for.
                let _ = operations::write_all(&stream, &pattern(seed, 10_000_000)).await;
            });
            let reader = other.clone();
            let _reading = pair.world.spawn(async move {
                let stream = operations::accept_stream(&reader).await.expect("a stream");
                let _ = operations::read_to_end(&stream).await;
            });
            pair.world.run_for(ms(200 + seed));
            closer.close(7, b"enough");
            let heard = pair.world.run_until(ms(500), |_| other.error().is_some());
            assert!(heard, "{algorithm:?}");
            let there = other.error().expect("heard");
            assert_eq!(essence(&there), (Party::Peer, CloseKind::Closed, Some(7)));
            drop((ours, theirs));
            pair.leave_nothing();
        });
    }
}

#[test]
fn a_slow_peer_cannot_have_what_is_over_kept() {
    let patient = || {
        config(|c| {
            c.handshake_timeout = secs(100);
            // Or the dial would begin again, as no answer comes within the usual time.
            c.initial_rtt = secs(10);
        })
    };
    let mut pair = Pair::with(1, patient(), patient());
    // A round trip as long as a peer can pretend by withholding acknowledgments: three
    // probe timeouts of it are minutes.
    pair.world.link(Conditions {
        latency: secs(5),
        ..Conditions::default()
    });
    let (ours, theirs) = pair.connect();
    pair.world.crash(&pair.client);
    theirs.close(0, b"");
    let was_freed = pair.world.run_until(secs(12), |world| {
        world.census(&pair.server) == Some(Default::default())
    });
    assert!(was_freed, "{:?}", pair.world.census(&pair.server));
    drop((ours, theirs));
    pair.leave_nothing();
}

#[test]
fn who_waits_hears_of_a_local_close() {
    let mut pair = Pair::new(1);
    let (ours, theirs) = pair.connect();
    let opened = pair.world.block_on(operations::open(&ours));
    let a = Rc::new(opened.expect("a stream"));
    // A task for each: one after the other, only the first would wait.
    let accept = pair.world.spawn({
        let ours = ours.clone();
        async move { operations::accept_stream(&ours).await.map(drop) }
    });
    let closed = pair.world.spawn({
        let ours = ours.clone();
        async move { operations::closed(&ours).await }
    });
    let read = pair.world.spawn({
        let a = a.clone();
        async move { operations::read(&a, 1).await }
    });
    let write = pair.world.spawn({
        let a = a.clone();
        async move { operations::finished(&a).await }
    });
    pair.world.run_for(ms(1));
    let done = [
        accept.is_done(),
        closed.is_done(),
        read.is_done(),
        write.is_done(),
    ];
    assert_eq!(done, [false; 4]);
    ours.close(5, b"enough");
    let error: ConnectionError = ours.error().expect("closed");
    assert_eq!(pair.world.block_on(accept), Err(error.clone()));
    assert_eq!(pair.world.block_on(closed), error);
    let lost = ReadError::Lost(error.clone());
    assert_eq!(pair.world.block_on(read), Err(lost));
    assert_eq!(pair.world.block_on(write), Err(WriteError::Lost(error)));
    drop((a, ours, theirs));
    pair.leave_nothing();
}

#[test]
fn what_was_finished_arrives_before_the_close() {
    each_seed(
        "closing::what_was_finished_arrives_before_the_close",
        200,
        |seed| {
            let long = || config(|c| c.linger = secs(30));
            let mut pair = Pair::with(seed, long(), long());
            let (ours, theirs) = pair.connect();
            let mut conditions = Conditions::bad(&mut pair.world.dice());
            conditions.failing = 0.0;
            pair.world.link(conditions);
            let sent = pattern(seed, 150_000);
            let reader = pair.world.spawn(async move {
                let b = operations::accept_stream(&theirs).await.expect("a stream");
                let got = operations::read_to_end(&b).await;
                (got, operations::closed(&theirs).await)
            });
            let (got, error) = pair.world.block_on(async {
                let a = operations::open(&ours).await.expect("a stream");
                operations::write_all(&a, &sent).await.expect("written");
                a.finish();
                if seed % 3 == 0 {
                    ours.close(4, b"");
                }
                drop((a, ours));
                reader.await
            });
            assert!(got.expect("all bytes") == sent);
            // The last datagram may get lost; then the peer learns by a reset or by silence.
            if error.kind == CloseKind::Closed {
                let code = if seed % 3 == 0 { 4 } else { 0 };
                assert_eq!(
                    essence(&error),
                    (Party::Peer, CloseKind::Closed, Some(code))
                );
            }
            pair.leave_nothing();
        },
    );
}

#[test]
fn lingering_ends_when_the_peer_does_not_read() {
    let small = || {
        config(|c| {
            c.stream_receive_window = 10_000;
            c.read_buffer = 10_000;
        })
    };
    let mut pair = Pair::with(1, small(), small());
    let (ours, theirs) = pair.connect();
    let a = pair.world.block_on(async {
        let a = operations::open(&ours).await.expect("a stream");
        operations::write_all(&a, &[1; 200_000])
            .await
            .expect("written");
        a.finish();
        a
    });
    pair.world.run_for(ms(500));
    let began = pair.world.now();
    ours.close(2, b"");
    let error = pair.world.block_on(operations::closed(&theirs));
    assert_eq!(essence(&error), (Party::Peer, CloseKind::Closed, Some(2)));
    assert_eq!(pair.world.now() - began, secs(1) + ms(5));
    drop((a, ours, theirs));
    pair.leave_nothing();
}

#[test]
fn what_arrived_stays_readable_after_the_connection_ended() {
    let mut pair = Pair::new(1);
    let (ours, theirs) = pair.connect();
    pair.world.block_on(async {
        let whole = operations::open(&ours).await.expect("a stream");
        operations::write_all(&whole, b"whole")
            .await
            .expect("written");
        whole.finish();
        let part = operations::open(&ours).await.expect("a stream");
        operations::write_all(&part, b"part")
            .await
            .expect("written");
        operations::finished(&whole).await.expect("delivered");
    });
    pair.world.run_for(ms(100));
    ours.close(1, b"");
    pair.world.block_on(async {
        let error = operations::closed(&theirs).await;
        let whole = operations::accept_stream(&theirs)
            .await
            .expect("it came before the end");
        assert_eq!(
            operations::read_to_end(&whole).await.expect("all bytes"),
            b"whole"
        );
        // A part is never taken for the whole.
        let part = operations::accept_stream(&theirs)
            .await
            .expect("it came before the end");
        match operations::read(&part, 100).await {
            Ok(bytes) => assert_eq!(bytes, &b"part"[..]),
            Err(other) => panic!("{other}"),
        }
        let end = operations::read(&part, 100)
            .await
            .expect_err("no clean end");
        assert!(
            matches!(end, ReadError::Lost(_) | ReadError::Reset(0)),
            "{end}"
        );
        assert_eq!(
            operations::accept_stream(&theirs)
                .await
                .expect_err("no more"),
            error
        );
    });
    drop((ours, theirs));
    pair.leave_nothing();
}

#[test]
fn dropping_handles_resets_stops_and_closes() {
    let mut pair = Pair::new(1);
    let (ours, theirs) = pair.connect();
    pair.world.block_on(async {
        let a = operations::open(&ours).await.expect("a stream");
        operations::write_all(&a, b"half of it")
            .await
            .expect("written");
        let b = operations::accept_stream(&theirs).await.expect("a stream");
        assert_eq!(
            operations::read(&b, 100).await.expect("bytes"),
            &b"half of it"[..]
        );
        drop(a);
        assert_eq!(operations::read(&b, 100).await, Err(ReadError::Reset(0)));
        let error = loop {
            if let Err(error) = operations::write_all(&b, &[0; 1000]).await {
                break error;
            }
        };
        assert_eq!(error, WriteError::Stopped(0));
        // The connection lives as long as a stream of it.
        let c = operations::open(&ours).await.expect("a stream");
        drop(ours);
        operations::write_all(&c, b"alive").await.expect("written");
        let d = operations::accept_stream(&theirs).await.expect("a stream");
        assert_eq!(
            operations::read(&d, 100).await.expect("bytes"),
            &b"alive"[..]
        );
        drop(c);
        let error = operations::closed(&theirs).await;
        assert_eq!(essence(&error), (Party::Peer, CloseKind::Closed, Some(0)));
    });
    drop(theirs);
    pair.leave_nothing();
}

#[test]
fn methods_after_the_end_answer_with_the_reason() {
    let mut pair = Pair::new(1);
    let (ours, theirs) = pair.connect();
    let a = pair
        .world
        .block_on(operations::open(&ours))
        .expect("a stream");
    theirs.close(6, b"");
    let error = pair.world.block_on(operations::closed(&ours));
    pair.world.run_for(secs(5));
    // All of these come after the core has forgotten the connection.
    assert_eq!(pair.world.census(&pair.client), Some(Default::default()));
    ours.close(9, b"too late");
    a.finish();
    a.reset(3);
    a.stop(3);
    pair.world.block_on(async {
        assert_eq!(operations::open(&ours).await.expect_err("over"), error);
        assert_eq!(
            operations::accept_stream(&ours).await.expect_err("over"),
            error
        );
        assert_eq!(operations::connected(&ours).await, Err(error.clone()));
        let lost = WriteError::Lost(error.clone());
        assert_eq!(operations::write_all(&a, b"x").await, Err(lost));
    });
    assert_eq!(ours.error(), Some(error));
    drop((a, ours, theirs));
    pair.leave_nothing();
}

#[test]
fn a_thousand_connections_leave_nothing() {
    let mut pair = Pair::new(1);
    for round in 0..20 {
        let mut held = Vec::new();
        for _ in 0..50 {
            held.push(pair.connect());
        }
        for (i, (ours, theirs)) in held.into_iter().enumerate() {
            match (i + round) % 4 {
                0 => ours.close(1, b""),
                1 => theirs.close(1, b""),
                2 => {
                    ours.close(1, b"");
                    theirs.close(1, b"");
                }
                _ => {}
            }
        }
        pair.world.run_for(ms(u64::from(round as u32) * 7));
    }
    pair.leave_nothing();
}

#[test]
fn a_crash_leaves_no_memory_behind() {
    let mut pair = Pair::with(1, Config::default(), Config::default());
    let (ours, theirs) = pair.connect();
    let a = pair
        .world
        .block_on(operations::open(&ours))
        .expect("a stream");
    pair.world.crash(&pair.client);
    // Commands that nobody will ever take must not keep alive what they name.
    drop((a, ours));
    drop(theirs);
    let Pair {
        world,
        server,
        client,
        listener,
    } = pair;
    drop(listener);
    leave_nothing(world, vec![server, client]);
}
