//! Endpoints and listeners: closing them, and listening again.

use std::task::{Context, Poll, Waker};

use libp2p_quic_engine::{
    CloseKind, Closed, EndpointError, Party,
    simulation::{Conditions, operations},
};

use crate::kit::{Pair, each_seed, essence, join, ms, secs};

#[test]
fn closing_an_endpoint_closes_all_and_delivers() {
    each_seed(
        "endpoints::closing_an_endpoint_closes_all_and_delivers",
        30,
        |seed| {
            let mut pair = Pair::new(seed);
            let mut theirs = Vec::new();
            for _ in 0..5 {
                let (ours, other) = pair.connect();
                let stream = pair.world.block_on(async {
                    let stream = operations::open(&ours).await.expect("a stream");
                    operations::write_all(&stream, &[9; 50_000])
                        .await
                        .expect("written");
                    stream.finish();
                    stream
                });
                theirs.push((other, ours, stream));
            }
            pair.client.close(21, b"all of you");
            let is_refused = pair.client.connect(pair.listener.local_addr(), None);
            assert!(matches!(is_refused, Err(EndpointError::Closed(Closed))));
            let is_refused = pair.client.listen(pair.client.v4(0));
            assert!(matches!(is_refused, Err(EndpointError::Closed(Closed))));
            pair.world.block_on(async {
                for (theirs, _, _) in &theirs {
                    let stream = operations::accept_stream(theirs).await.expect("a stream");
                    let got = operations::read_to_end(&stream).await.expect("all bytes");
                    assert_eq!(got.len(), 50_000);
                    let error = operations::closed(theirs).await;
                    assert_eq!(essence(&error), (Party::Peer, CloseKind::Closed, Some(21)));
                }
                operations::endpoint_closed(&pair.client).await;
            });
            assert!(!pair.world.is_running(&pair.client));
            assert_eq!(pair.world.sockets(&pair.client), 0);
            drop(theirs);
            pair.leave_nothing();
        },
    );
}

#[test]
fn closing_takes_bounded_time_when_nobody_answers() {
    let mut pair = Pair::new(1);
    let (ours, theirs) = pair.connect();
    pair.world.crash(&pair.server);
    pair.world.block_on(async {
        let a = operations::open(&ours).await.expect("a stream");
        operations::write_all(&a, &[1; 1000])
            .await
            .expect("written");
        a.finish();
        let began = pair.client.endpoint();
        began.close(0, b"");
    });
    let began = pair.world.now();
    pair.world
        .block_on(operations::endpoint_closed(&pair.client));
    assert!(pair.world.now() - began <= secs(3));
    drop((ours, theirs));
    pair.leave_nothing();
}

#[test]
fn a_closed_listener_keeps_its_connections_and_can_listen_again() {
    let mut pair = Pair::new(1);
    let (ours, theirs) = pair.connect();
    let waiting = pair
        .client
        .connect(pair.listener.local_addr(), None)
        .expect("a dial");
    pair.world
        .block_on(operations::connected(&waiting))
        .expect("a connection");
    pair.world.run_for(ms(100));
    pair.listener.close();
    // Who had not been accepted is closed; who had lives on.
    let error = pair.world.block_on(operations::closed(&waiting));
    assert_eq!(essence(&error), (Party::Peer, CloseKind::Closed, Some(0)));
    let mut cx = Context::from_waker(Waker::noop());
    assert_eq!(
        pair.listener.poll_accept(&mut cx).map(|r| r.is_err()),
        Poll::Ready(true)
    );
    pair.world.block_on(async {
        let a = operations::open(&ours).await.expect("a stream");
        operations::write_all(&a, b"alive").await.expect("written");
        let b = operations::accept_stream(&theirs).await.expect("a stream");
        assert_eq!(
            operations::read(&b, 10).await.expect("bytes"),
            &b"alive"[..]
        );
    });
    assert_eq!(pair.world.sockets(&pair.server), 1);
    let again = pair
        .server
        .listen(pair.server.v4(4001))
        .expect("our own socket");
    let (more, other) = join(&mut pair.world, &pair.client, &pair.server, &again);
    assert_eq!(pair.world.sockets(&pair.server), 1);
    // When the last user is gone, so is the socket.
    drop((again, more, other, ours, theirs, waiting));
    pair.world.run_for(secs(10));
    assert_eq!(pair.world.sockets(&pair.server), 0);
    let again = pair
        .server
        .listen(pair.server.v4(4001))
        .expect("a free port");
    let (more, other) = join(&mut pair.world, &pair.client, &pair.server, &again);
    drop((more, other, again));
    pair.leave_nothing();
}

#[test]
fn who_dials_after_listen_has_returned_gets_that_listener() {
    let name = "endpoints::who_dials_after_listen_has_returned_gets_that_listener";
    each_seed(name, 50, |seed| {
        let mut pair = Pair::new(seed);
        let (ours, theirs) = pair.connect();
        pair.world.link(Conditions {
            latency: ms(1),
            stall: ms(20),
            ..Conditions::default()
        });
        // The server's thread comes late, and the first packet before it.
        pair.listener.close();
        let again = pair
            .server
            .listen(pair.server.v4(4001))
            .expect("our own socket");
        let (more, other) = join(&mut pair.world, &pair.client, &pair.server, &again);
        pair.world.run_for(secs(1));
        assert_eq!((more.error(), other.error()), (None, None));
        drop((ours, theirs, again, more, other));
        pair.leave_nothing();
    });
}
