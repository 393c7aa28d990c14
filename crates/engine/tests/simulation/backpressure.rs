//! What holds a writer or an opener back, and what lets it go on.

use std::{
    cell::RefCell,
    rc::Rc,
    task::{Context, Poll, Waker},
};

use libp2p_quic_engine::{
    Config, ReadError, Stream,
    simulation::{World, operations},
};

use crate::kit::{Pair, config, each_seed, pattern, quiet, secs, stream};

/// Write until the writer is held back, and how much that was.
fn fill(world: &mut World, stream: &Stream) -> usize {
    let mut cx = Context::from_waker(Waker::noop());
    let mut written = 0;
    loop {
        match stream.poll_write(&mut cx, &[7; 10_000]) {
            Poll::Ready(n) => written += n.expect("a writable stream"),
            Poll::Pending => {
                let mut is_moving = false;
                world.run_for(secs(2));
                if let Poll::Ready(n) = stream.poll_write(&mut cx, &[7; 10_000]) {
                    written += n.expect("a writable stream");
                    is_moving = true;
                }
                if !is_moving {
                    return written;
                }
            }
        }
    }
}

#[test]
fn a_slow_reader_holds_the_writer_back_and_gets_every_byte() {
    each_seed(
        "backpressure::a_slow_reader_holds_the_writer_back_and_gets_every_byte",
        8,
        |seed| {
            let small = || {
                quiet(|c| {
                    c.stream_receive_window = 200_000;
                    c.read_buffer = 50_000;
                    c.write_buffer = 30_000;
                })
            };
            let mut pair = Pair::with(seed, small(), small());
            let (ours, theirs) = pair.connect();
            let (a, b) = pair.world.block_on(stream(&ours, &theirs));
            let written = fill(&mut pair.world, &a);
            // Window, both buffers, and what the sender may have in flight beyond: nothing.
            assert!((200_000..=290_000).contains(&written), "{written}");
            a.finish();
            let got = pair
                .world
                .block_on(operations::read_to_end(&b))
                .expect("all bytes");
            assert_eq!(got.len(), written);
            assert!(got.iter().all(|byte| *byte == 7));
        },
    );
}

#[test]
fn a_blocked_writer_is_resumed_by_credit() {
    let narrow = || quiet(|c| c.stream_receive_window = 5_000);
    let mut pair = Pair::with(1, narrow(), narrow());
    let (ours, theirs) = pair.connect();
    let sent = pattern(1, 400_000);
    let reader = pair.world.spawn(async move {
        let b = operations::accept_stream(&theirs).await.expect("a stream");
        (
            operations::read_to_end(&b).await.expect("all bytes"),
            theirs,
        )
    });
    let (got, _theirs) = pair.world.block_on(async {
        let a = operations::open(&ours).await.expect("a stream");
        operations::write_all(&a, &sent).await.expect("written");
        a.finish();
        reader.await
    });
    assert!(got == sent);
}

#[test]
fn a_writer_that_was_blocked_once_is_heard_again() {
    let narrow = || {
        quiet(|c| {
            c.stream_receive_window = 5_000;
            c.read_buffer = 1_000;
        })
    };
    let mut pair = Pair::with(1, narrow(), narrow());
    let (ours, theirs) = pair.connect();
    let (a, b) = pair.world.block_on(stream(&ours, &theirs));
    for _ in 0..3 {
        pair.world
            .block_on(operations::write_all(&a, &[1; 30_000]))
            .expect("written");
        pair.world.block_on(async {
            let mut got = 0;
            while got < 30_000 {
                got += operations::read(&b, 10_000).await.expect("bytes").len();
            }
        });
        // Nothing is held back any more: a new write has to tell of itself.
        pair.world.run_for(secs(2));
        pair.world.block_on(async {
            operations::write_all(&a, b"and").await.expect("written");
            assert_eq!(operations::read(&b, 10).await.expect("bytes"), &b"and"[..]);
        });
    }
    drop((a, b, ours, theirs));
    pair.leave_nothing();
}

#[test]
fn connection_credit_resumes_every_stream() {
    let narrow = || {
        quiet(|c| {
            c.stream_receive_window = 20_000;
            c.connection_receive_window = 20_000;
            c.send_window = 10_000;
        })
    };
    let mut pair = Pair::with(1, narrow(), narrow());
    let (ours, theirs) = pair.connect();
    const STREAMS: usize = 10;
    let reader = pair.world.spawn(async move {
        let mut total = 0;
        for _ in 0..STREAMS {
            let b = operations::accept_stream(&theirs).await.expect("a stream");
            total += operations::read_to_end(&b).await.expect("all bytes").len();
        }
        (total, theirs)
    });
    let (total, _theirs) = pair.world.block_on(async {
        let mut open = Vec::new();
        for _ in 0..STREAMS {
            let a = operations::open(&ours).await.expect("a stream");
            operations::write_all(&a, &[1; 60_000])
                .await
                .expect("written");
            a.finish();
            open.push(a);
        }
        reader.await
    });
    assert_eq!(total, STREAMS * 60_000);
}

#[test]
fn a_reader_that_pauses_revives_the_writer() {
    let narrow = || {
        quiet(|c| {
            c.stream_receive_window = 60_000;
            c.read_buffer = 20_000;
        })
    };
    let mut pair = Pair::with(1, narrow(), narrow());
    let (ours, theirs) = pair.connect();
    let (a, b) = pair.world.block_on(stream(&ours, &theirs));
    let sent = pattern(1, 1_000_000);
    let writer = pair.world.spawn({
        let sent = sent.clone();
        async move {
            operations::write_all(&a, &sent).await.expect("written");
            a.finish();
            operations::finished(&a).await.expect("delivered");
        }
    });
    let clock = pair.world.clock();
    let got = pair.world.block_on(async {
        let mut got = Vec::new();
        loop {
            // Long enough that nothing is in flight any more: only the read can say "go on".
            if got.len() % 7 == 0 {
                clock.sleep(secs(3)).await;
            }
            let some = operations::read(&b, 25_000).await.expect("bytes");
            if some.is_empty() {
                writer.await;
                return got;
            }
            got.extend_from_slice(&some);
        }
    });
    assert!(got == sent);
}

#[test]
fn a_reset_overtakes_bytes_that_nobody_reads() {
    let small = || quiet(|c| c.stream_receive_window = 50_000);
    let mut pair = Pair::with(1, small(), small());
    let (ours, theirs) = pair.connect();
    let (a, b) = pair.world.block_on(stream(&ours, &theirs));
    let written = fill(&mut pair.world, &a);
    a.reset(77);
    pair.world.run_for(secs(1));
    let (got, error) = pair.world.block_on(async {
        let mut got = 0;
        loop {
            match operations::read(&b, 1_000_000).await {
                Ok(bytes) => got += bytes.len(),
                Err(error) => break (got, error),
            }
        }
    });
    assert_eq!(error, ReadError::Reset(77));
    assert!(got < written, "the reset waited for all {written} bytes");
    drop((a, b, ours, theirs));
    pair.leave_nothing();
}

#[test]
fn the_allowance_grows_with_use_up_to_its_limit() {
    let server = config(|c| c.max_incoming_streams = 100);
    let mut pair = Pair::with(1, server, Config::default());
    let (ours, theirs) = pair.connect();
    let held: Rc<RefCell<Vec<Stream>>> = Rc::default();
    // Sixteen at first; holding all of them makes room for more, in some round trips.
    let _opener = pair.world.spawn({
        let (ours, held) = (ours.clone(), held.clone());
        async move {
            for _ in 0..100 {
                let stream = operations::open(&ours).await.expect("a stream");
                operations::write_all(&stream, b"!").await.expect("written");
                held.borrow_mut().push(stream);
            }
        }
    });
    pair.world.run_for(secs(2));
    assert_eq!(held.borrow().len(), 100);
    // An open beyond the limit waits until other streams have ended.
    let next = pair.world.spawn({
        let ours = ours.clone();
        async move { operations::open(&ours).await.expect("a stream").id() }
    });
    pair.world.run_for(secs(2));
    assert!(!next.is_done());
    // quinn-proto tells of new room when it is more than an eighth of the limit.
    let first: Vec<_> = held.borrow_mut().drain(..20).collect();
    drop(first);
    pair.world.run_for(secs(2));
    assert!(!next.is_done(), "the other side does not have them yet");
    let theirs_of_first = pair.world.block_on(async {
        let mut accepted = Vec::new();
        for _ in 0..20 {
            accepted.push(operations::accept_stream(&theirs).await.expect("a stream"));
        }
        accepted
    });
    assert_eq!(pair.world.block_on(next), 400);
    drop(theirs_of_first);
    drop((held, ours, theirs));
    pair.leave_nothing();
}
