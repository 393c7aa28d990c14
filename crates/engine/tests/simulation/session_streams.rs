//! Streams of WebTransport sessions that are stopped or reset before their header, and how many streams there may be.

use std::{
    collections::VecDeque,
    task::{Context, Poll, Waker},
};

use libp2p_quic_engine::{
    Config, Connection, ReadError, Stream, WriteError,
    simulation::{World, operations},
};

use crate::{
    browsers::each_direction,
    kit::{a_byte_crosses, config, ms},
};

/// The header is sent with the first byte.
#[test]
fn a_stop_before_the_header_reaches_the_application() {
    each_direction(
        "session_streams::a_stop_before_the_header_reaches_the_application",
        100,
        Config::default,
        |world, opener, other| {
            for is_stop_alone in [true, false] {
                let a = world.block_on(operations::open(opener)).expect("a stream");
                a.stop(5);
                if is_stop_alone {
                    world.run_for(ms(50));
                }
                world.block_on(async {
                    operations::write_all(&a, b"!").await.expect("written");
                    let b = operations::accept_stream(other).await.expect("a stream");
                    a.finish();
                    assert_eq!(operations::read_to_end(&b).await, Ok(b"!".to_vec()));
                    b.finish();
                    let finished = operations::finished(&b).await;
                    assert_eq!(finished, Err(WriteError::Stopped(5)));
                });
            }
        },
    );
}

#[test]
fn a_reset_before_the_header_reaches_the_application() {
    each_direction(
        "session_streams::a_reset_before_the_header_reaches_the_application",
        2,
        Config::default,
        |world, opener, other| {
            world.block_on(async {
                // More than the peer allows at once.
                for _ in 0..600 {
                    let a = operations::open(opener).await.expect("a stream");
                    a.reset(7);
                    let b = operations::accept_stream(other).await.expect("a stream");
                    assert_eq!(operations::read(&b, 1).await, Err(ReadError::Reset(7)));
                    operations::write_all(&b, b"still").await.expect("written");
                    b.finish();
                    assert_eq!(operations::read_to_end(&a).await, Ok(b"still".to_vec()));
                }
            });
        },
    );
}

/// The streams that can be opened without waiting.
fn openable(opener: &Connection) -> Vec<Stream> {
    let mut cx = Context::from_waker(Waker::noop());
    let mut opened = Vec::new();
    while let Poll::Ready(stream) = opener.poll_open(&mut cx) {
        opened.push(stream.expect("a stream"));
    }
    opened
}

#[test]
fn streams_stopped_before_their_header_count_until_accepted() {
    const ALLOWED: usize = 20;
    each_direction(
        "session_streams::streams_stopped_before_their_header_count_until_accepted",
        2,
        || config(|c| c.max_incoming_streams = ALLOWED as u32),
        |world, opener, other| {
            for _ in 0..100 {
                let streams = openable(opener);
                for stream in &streams {
                    stream.stop(5);
                }
                world.run_for(ms(50));
                for stream in &streams {
                    let written = world.block_on(operations::write_all(stream, b"!"));
                    written.expect("written");
                    stream.finish();
                }
                world.run_for(ms(50));
                assert!(other.statistics().streams_waiting <= ALLOWED);
            }
            assert!(other.statistics().streams_waiting >= ALLOWED - 1);
        },
    );
}

#[test]
fn streams_without_a_header_are_counted() {
    each_direction(
        "session_streams::streams_without_a_header_are_counted",
        20,
        Config::default,
        |world, opener, other| {
            for _ in 0..3 {
                world.block_on(a_byte_crosses(opener, other));
                world.run_for(ms(100));
            }
            let stopped = world.block_on(operations::open(opener)).expect("a stream");
            stopped.stop(1);
            world.run_for(ms(100));
            world.block_on(async {
                a_byte_crosses(opener, other).await;
                a_byte_crosses(other, opener).await;
                // The peer knows nothing more of it than its end.
                stopped.reset(1);
                let given_up = operations::accept_stream(other).await.expect("a stream");
                assert_eq!(
                    operations::read(&given_up, 1).await,
                    Err(ReadError::Reset(1))
                );
                drop(given_up);
                a_byte_crosses(opener, other).await;
            });
        },
    );
}

/// A stream with a byte on it.
fn open_one(world: &mut World, opener: &Connection, other: &Connection) -> (Stream, Stream) {
    world.block_on(async {
        let a = operations::open(opener).await.expect("a stream");
        operations::write_all(&a, b"!").await.expect("written");
        let b = operations::accept_stream(other).await.expect("a stream");
        (a, b)
    })
}

/// The stream of the session's request counts for the limit, too.
#[test]
fn a_stream_that_ends_at_the_limit_makes_room_for_one() {
    const ALLOWED: usize = 16;
    each_direction(
        "session_streams::a_stream_that_ends_at_the_limit_makes_room_for_one",
        5,
        || config(|c| c.max_incoming_streams = ALLOWED as u32),
        |world, opener, other| {
            let mut open: VecDeque<_> = (0..ALLOWED - 1)
                .map(|_| open_one(world, opener, other))
                .collect();
            // The listener's own streams are one more.
            world.run_for(ms(100));
            for a in openable(opener) {
                open.push_back(world.block_on(async {
                    operations::write_all(&a, b"!").await.expect("written");
                    let b = operations::accept_stream(other).await.expect("a stream");
                    (a, b)
                }));
            }
            for _ in 0..20 {
                world.run_for(ms(100));
                assert!(openable(opener).is_empty());
                drop(open.pop_front());
                let began = world.now();
                open.push_back(open_one(world, opener, other));
                let waited = world.now() - began;
                assert!(waited <= ms(150), "{waited:?}");
            }
            drop(open);
        },
    );
}
