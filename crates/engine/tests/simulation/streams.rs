//! Streams: bytes both ways, their ends, and how many there may be.

use std::{
    future::poll_fn,
    task::{Context, Waker},
};

use libp2p_quic_engine::{Config, ReadError, WriteError, simulation::operations};

use crate::kit::{Pair, config, each_seed, ms, pattern, quiet, secs, stream};

#[test]
fn every_byte_arrives_both_ways() {
    each_seed("streams::every_byte_arrives_both_ways", 30, |seed| {
        let mut pair = Pair::new(seed);
        let (ours, theirs) = pair.connect();
        let up = pattern(seed, 300_000);
        let down = pattern(!seed, 200_000);
        let echo = pair.world.spawn({
            let down = down.clone();
            async move {
                let stream = operations::accept_stream(&theirs).await.expect("a stream");
                operations::write_all(&stream, &down)
                    .await
                    .expect("written");
                stream.finish();
                let got = operations::read_to_end(&stream).await.expect("all bytes");
                operations::finished(&stream).await.expect("delivered");
                (got, theirs)
            }
        });
        let (got, _theirs) = pair.world.block_on(async {
            let stream = operations::open(&ours).await.expect("a stream");
            operations::write_all(&stream, &up).await.expect("written");
            stream.finish();
            assert!(operations::read_to_end(&stream).await.expect("all bytes") == down);
            operations::finished(&stream).await.expect("delivered");
            echo.await
        });
        assert!(got == up);
    });
}

#[test]
fn half_closed_streams_still_answer() {
    let mut pair = Pair::new(1);
    let (ours, theirs) = pair.connect();
    pair.world.block_on(async {
        let (a, b) = stream(&ours, &theirs).await;
        a.finish();
        assert_eq!(operations::read(&b, 10).await.expect("the end"), &b""[..]);
        assert_eq!(
            operations::write_all(&a, b"x").await,
            Err(WriteError::Closed)
        );
        operations::write_all(&b, b"still here")
            .await
            .expect("written");
        b.finish();
        assert_eq!(
            operations::read_to_end(&a).await.expect("all bytes"),
            b"still here"
        );
        // The end stays the end.
        assert_eq!(operations::read(&a, 10).await.expect("the end"), &b""[..]);
    });
    drop((ours, theirs));
    pair.leave_nothing();
}

#[test]
fn codes_of_reset_and_stop_arrive() {
    let mut pair = Pair::new(1);
    let (ours, theirs) = pair.connect();
    pair.world.block_on(async {
        let largest = (1 << 62) - 1;
        for code in [0, 1, 0x1001, largest] {
            let (a, b) = stream(&ours, &theirs).await;
            operations::write_all(&a, b"before").await.expect("written");
            a.reset(code);
            // What arrived before the reset may be lost, as the peer does not resend it.
            let error = loop {
                match operations::read(&b, 100).await {
                    Ok(bytes) => assert_eq!(bytes, &b"before"[..]),
                    Err(error) => break error,
                }
            };
            assert_eq!(error, ReadError::Reset(code));
            assert_eq!(operations::finished(&a).await, Err(WriteError::Closed));

            let (a, b) = stream(&ours, &theirs).await;
            b.stop(code);
            assert_eq!(operations::read(&b, 1).await, Err(ReadError::Closed));
            let error = loop {
                if let Err(error) = operations::write_all(&a, &[0; 1000]).await {
                    break error;
                }
            };
            assert_eq!(error, WriteError::Stopped(code));
            assert_eq!(
                operations::finished(&a).await,
                Err(WriteError::Stopped(code))
            );
        }
    });
    drop((ours, theirs));
    pair.leave_nothing();
}

#[test]
fn the_first_frame_is_readable_without_another_event() {
    let mut pair = Pair::with(1, quiet(|_| ()), quiet(|_| ()));
    let (ours, theirs) = pair.connect();
    let began = pair.world.now();
    pair.world.block_on(async {
        // Byte and end in one frame: QUIC makes no further event for this stream.
        let a = operations::open(&ours).await.expect("a stream");
        operations::write_all(&a, b"all there is")
            .await
            .expect("written");
        a.finish();
        let b = operations::accept_stream(&theirs).await.expect("a stream");
        assert_eq!(
            operations::read_to_end(&b).await.expect("all bytes"),
            b"all there is"
        );
    });
    assert_eq!(pair.world.now() - began, ms(5));
}

#[test]
fn a_stopped_stream_is_freed() {
    let mut pair = Pair::new(1);
    let (ours, theirs) = pair.connect();
    let (a, b) = pair.world.block_on(stream(&ours, &theirs));
    let before = pair.world.census(&pair.client).expect("running").streams;
    b.stop(3);
    pair.world.run_for(ms(20));
    // Nobody writes: the stop alone has to end our side.
    b.finish();
    let is_freed = pair.world.run_until(secs(1), |world| {
        let streams = |node| world.census(node).expect("running").streams;
        streams(&pair.client) < before && streams(&pair.server) == 8
    });
    assert!(is_freed, "{:?}", pair.world.census(&pair.server));
    assert_eq!(
        pair.world.block_on(operations::write_all(&a, b"x")),
        Err(WriteError::Stopped(3))
    );
    drop((a, b, ours, theirs));
    pair.leave_nothing();
}

#[test]
fn stopped_streams_give_their_place_back() {
    let mut pair = Pair::with(
        1,
        config(|c| c.max_incoming_streams = 16),
        Config::default(),
    );
    let (ours, theirs) = pair.connect();
    pair.world.block_on(async {
        // Far more than the allowance: QUIC must be done with each of them, on both sides.
        for _ in 0..60 {
            let (a, b) = stream(&ours, &theirs).await;
            b.stop(3);
            let error = loop {
                if let Err(error) = operations::write_all(&a, &[0; 100_000]).await {
                    break error;
                }
            };
            assert_eq!(error, WriteError::Stopped(3));
        }
    });
    drop((ours, theirs));
    pair.leave_nothing();
}

#[test]
fn stopping_waits_until_the_finish_is_acknowledged() {
    // Less than what is written: the finish is acknowledged only when the peer reads.
    let small = || {
        quiet(|c| {
            c.stream_receive_window = 50_000;
            c.read_buffer = 20_000;
        })
    };
    let mut pair = Pair::with(1, small(), small());
    let (ours, theirs) = pair.connect();
    let (a, b) = pair.world.block_on(stream(&ours, &theirs));
    pair.world
        .block_on(operations::write_all(&a, &[5; 100_000]))
        .expect("written");
    a.finish();
    a.stop(9);
    // A stop waits for a second in any case.
    pair.world.run_for(secs(3));
    pair.world.block_on(async {
        assert_eq!(operations::write_all(&b, b"x").await, Ok(()));
        assert_eq!(
            operations::read_to_end(&b).await.expect("all bytes").len(),
            100_000
        );
        let error = loop {
            if let Err(error) = operations::write_all(&b, &[0; 10_000]).await {
                break error;
            }
        };
        assert_eq!(error, WriteError::Stopped(9));
    });
}

#[test]
fn a_stop_that_waits_for_the_peer_does_not_wait_for_ever() {
    // The peer writes far more than the window before it reads: our stop must make room.
    let small = || {
        quiet(|c| {
            c.stream_receive_window = 100_000;
            c.read_buffer = 20_000;
        })
    };
    let mut pair = Pair::with(1, small(), small());
    let (ours, theirs) = pair.connect();
    let peer = pair.world.spawn(async move {
        let b = operations::accept_stream(&theirs).await.expect("a stream");
        let written = operations::write_all(&b, &[1; 2_000_000]).await;
        (written, operations::read_to_end(&b).await, theirs)
    });
    let (_written, got, _theirs) = pair.world.block_on(async {
        let a = operations::open(&ours).await.expect("a stream");
        operations::write_all(&a, &[2; 120_000])
            .await
            .expect("written");
        a.finish();
        drop(a);
        peer.await
    });
    assert_eq!(got.expect("all bytes").len(), 120_000);
}

#[test]
fn a_hundred_streams_at_once() {
    each_seed("streams::a_hundred_streams_at_once", 4, |seed| {
        let mut pair = Pair::new(seed);
        let (ours, theirs) = pair.connect();
        let mut tasks = Vec::new();
        for i in 0..100u64 {
            let (ours, theirs) = (ours.clone(), theirs.clone());
            tasks.push(pair.world.spawn(async move {
                let stream = operations::open(&ours).await.expect("a stream");
                operations::write_all(&stream, &i.to_le_bytes())
                    .await
                    .expect("written");
                operations::write_all(&stream, &pattern(i, 20_000))
                    .await
                    .expect("written");
                stream.finish();
                let back = operations::read_to_end(&stream).await.expect("all bytes");
                assert!(back == pattern(!i, 10_000));
            }));
            tasks.push(pair.world.spawn(async move {
                let stream = operations::accept_stream(&theirs).await.expect("a stream");
                let got = operations::read_to_end(&stream).await.expect("all bytes");
                let (name, rest) = got.split_first_chunk().expect("a name");
                let i = u64::from_le_bytes(*name);
                assert!(rest == pattern(i, 20_000));
                operations::write_all(&stream, &pattern(!i, 10_000))
                    .await
                    .expect("written");
                stream.finish();
                operations::finished(&stream).await.expect("delivered");
            }));
        }
        for task in tasks {
            pair.world.block_on(task);
        }
        // Eight are kept in stock by each side.
        let is_done = pair.world.run_until(secs(30), |world| {
            let streams = |node| world.census(node).expect("running").streams;
            streams(&pair.client) == 8 && streams(&pair.server) == 8
        });
        assert!(is_done, "{:?}", pair.world.census(&pair.client));
        drop((ours, theirs));
        pair.leave_nothing();
    });
}

#[test]
fn unused_streams_of_the_stock_tell_the_peer_nothing() {
    let mut pair = Pair::new(1);
    let (ours, theirs) = pair.connect();
    pair.world.run_for(secs(1));
    let mut cx = Context::from_waker(Waker::noop());
    assert!(theirs.poll_accept(&mut cx).is_pending());
    let ids: Vec<_> = pair.world.block_on(async {
        let mut ids = Vec::new();
        for _ in 0..3 {
            ids.push(operations::open(&ours).await.expect("a stream").id());
        }
        ids
    });
    assert_eq!(ids, [0, 4, 8]);
}

#[test]
fn a_write_of_nothing_and_a_read_of_nothing_do_nothing() {
    let mut pair = Pair::new(1);
    let (ours, theirs) = pair.connect();
    pair.world.block_on(async {
        let (a, b) = stream(&ours, &theirs).await;
        assert_eq!(poll_fn(|cx| a.poll_write(cx, b"")).await, Ok(0));
        operations::write_all(&a, b"xy").await.expect("written");
        assert_eq!(operations::read(&b, 1).await.expect("a byte"), &b"x"[..]);
        assert_eq!(operations::read(&b, 0).await.expect("nothing"), &b""[..]);
        assert_eq!(operations::read(&b, 1).await.expect("a byte"), &b"y"[..]);
    });
}
