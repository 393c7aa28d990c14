//! Defects, provoked: a panic ends one connection, and what is stale reaches nobody.

use libp2p_quic_engine::{CloseKind, Party, ReadError, WriteError, simulation::operations};

use crate::kit::{Pair, a_byte_crosses, each_seed, essence, ms, secs};

#[test]
fn a_panic_ends_its_connection_and_spares_the_others() {
    each_seed(
        "defects::a_panic_ends_its_connection_and_spares_the_others",
        10,
        |seed| {
            let mut pair = Pair::new(seed);
            let doomed = pair.connect();
            let spared = pair.connect();
            let stream = pair
                .world
                .block_on(operations::open(&doomed.1))
                .expect("a stream");
            let waiter = pair.world.spawn({
                let doomed = doomed.1.clone();
                async move {
                    operations::accept_stream(&doomed)
                        .await
                        .expect_err("it ends")
                }
            });
            pair.world.run_for(ms(50));
            pair.world.poison(&pair.server, &doomed.1);
            // Everyone who waits, or asks later, hears that it was a defect.
            let error = pair.world.block_on(waiter);
            assert_eq!(essence(&error), (Party::Local, CloseKind::Internal, None));
            assert!(
                error.reason.contains("a panic provoked by a test"),
                "{error}"
            );
            assert_eq!(doomed.1.error(), Some(error.clone()));
            pair.world.block_on(async {
                let lost = operations::read(&stream, 1).await;
                assert_eq!(lost, Err(ReadError::Lost(error.clone())));
                let lost = operations::write_all(&stream, b"x").await;
                assert_eq!(lost, Err(WriteError::Lost(error)));
            });
            let census = pair.world.census(&pair.server).expect("running");
            assert_eq!((census.connections, census.quic_connections), (1, 1));
            // The peer, asking on, is told that nobody knows the connection.
            let error = pair.world.block_on(async {
                let a = operations::open(&doomed.0).await.expect("a stream");
                operations::write_all(&a, &[0; 100]).await.expect("written");
                operations::closed(&doomed.0).await
            });
            assert_eq!(error.kind, CloseKind::StatelessReset);
            // The others work on, and new ones come.
            for (ours, theirs) in [spared, pair.connect()] {
                pair.world.block_on(a_byte_crosses(&ours, &theirs));
            }
            drop((doomed, stream));
            pair.leave_nothing();
        },
    );
}

#[test]
fn a_panic_in_an_inbound_handshake_is_counted_once() {
    let mut pair = Pair::new(1);
    let to = pair.listener.local_addr();
    let doomed = pair.client.connect(to, None).expect("a dial");
    let has_begun = pair.world.run_until(secs(1), |_| {
        pair.listener.statistics().handshakes_started == 1
    });
    assert!(has_begun);
    let other = pair.client.connect(to, None).expect("a dial");
    pair.world.poison_inbound(&pair.server, 1);
    pair.world
        .block_on(operations::connected(&other))
        .expect("a connection");
    pair.world.run_for(ms(100));
    let census = pair.world.census(&pair.server).expect("running");
    assert_eq!((census.inbound_handshakes, census.connections), (0, 1));
    assert_eq!(pair.listener.statistics().handshakes_failed, 1);
    drop((doomed, other));
    pair.leave_nothing();
}

#[test]
fn a_stale_command_does_not_reach_the_next_connection() {
    let mut pair = Pair::new(1);
    let (old, old_theirs) = pair.connect();
    let old_stream = pair
        .world
        .block_on(operations::open(&old))
        .expect("a stream");
    old_theirs.close(1, b"");
    pair.world.block_on(operations::closed(&old));
    pair.world.run_for(secs(5));
    let (new, new_theirs) = pair.connect();
    let (a, b) = pair.world.block_on(async {
        let a = operations::open(&new).await.expect("a stream");
        assert_eq!(a.id(), old_stream.id(), "the same stream of the same slot");
        operations::write_all(&a, b"x").await.expect("written");
        (
            a,
            operations::accept_stream(&new_theirs)
                .await
                .expect("a stream"),
        )
    });
    old_stream.finish();
    old_stream.reset(9);
    old_stream.stop(9);
    old.close(9, b"stale");
    old_theirs.close(9, b"stale");
    drop((old_stream, old, old_theirs));
    pair.world.run_for(secs(1));
    assert_eq!((new.error(), new_theirs.error()), (None, None));
    pair.world.block_on(async {
        operations::write_all(&a, b"y").await.expect("written");
        let (first, second) = (operations::read(&b, 1).await, operations::read(&b, 1).await);
        assert_eq!((first, second), (Ok("x".into()), Ok("y".into())));
    });
    drop((a, b, new, new_theirs));
    pair.leave_nothing();
}
