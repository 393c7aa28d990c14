//! Dials that are canceled, and connections that are over while packets still arrive: no other
//! peer waits because of them, and few of the packets are answered. That a canceled dial and a
//! listener do not go on answering each other needs real threads: tests/test_long_runs.py.

use libp2p_quic_engine::simulation::{Conditions, operations};

use crate::kit::{Pair, config, each_seed, ms, pattern, secs};

#[test]
fn canceled_dials_keep_no_other_of_their_address_out() {
    let test = "canceled_dials::canceled_dials_keep_no_other_of_their_address_out";
    each_seed(test, 20, |seed| {
        let few = config(|c| c.max_handshakes_per_address = 4);
        let mut pair = Pair::with(seed, few, config(|_| ()));
        let (to, mut dice) = (pair.listener.local_addr(), pair.world.dice());
        for _ in 0..60 {
            let dial = pair.client.connect(to, None).expect("a dial");
            let (clock, moment) = (pair.world.clock(), dice.up_to(ms(25)));
            pair.world.spawn(async move {
                clock.sleep(moment).await;
                drop(dial);
            });
        }
        pair.world.run_for(ms(300));
        assert!(pair.listener.statistics().handshakes_failed > 0);
        let began = pair.world.now();
        let connected = pair.connect();
        // A round trip for the Retry and one for the handshake; nothing is sent again, which
        // would be after a second.
        assert!(
            pair.world.now() - began <= ms(50),
            "{:?}",
            pair.world.now() - began
        );
        drop(connected);
        pair.leave_nothing();
    });
}

#[test]
fn canceled_dials_take_no_budget_from_connections() {
    let wary = config(|c| c.retry_above = Some(0));
    let mut pair = Pair::with(1, wary, config(|_| ()));
    let to = pair.listener.local_addr();
    let dials: Vec<_> = (0..100)
        .map(|_| pair.client.connect(to, None).expect("a dial"))
        .collect();
    // Each has a Retry for an answer, so that it is kept to repeat its close.
    pair.world.run_for(ms(12));
    drop(dials);
    pair.world.run_for(ms(1));
    let left = pair.world.census(&pair.client).expect("running");
    assert!(left.quic_connections > 0, "{left:?}");
    assert_eq!((left.promised, left.unacked), (0, 0), "{left:?}");
    pair.leave_nothing();
}

#[test]
fn what_arrives_after_a_close_is_not_all_answered() {
    let mut pair = Pair::new(1);
    pair.world.link(Conditions {
        latency: ms(20),
        ..Conditions::default()
    });
    let (ours, theirs) = pair.connect();
    let writer = ours.clone();
    pair.world.spawn(async move {
        let stream = operations::open(&writer).await.expect("a stream");
        // Ends with the connection.
        let _ = operations::write_all(&stream, &pattern(1, 8_000_000)).await;
    });
    let reader = theirs.clone();
    pair.world.spawn(async move {
        let stream = operations::accept_stream(&reader).await.expect("a stream");
        while operations::read(&stream, 1 << 16)
            .await
            .is_ok_and(|it| !it.is_empty())
        {}
    });
    let (server, client) = (pair.listener.local_addr(), ours.local_addr());
    pair.world.run_for(ms(300));
    pair.world.record();
    theirs.close(0, b"");
    pair.world.run_for(secs(1));
    let sent = pair.world.recorded();
    let late = sent.iter().filter(|it| it.to == server).count();
    let answers = sent.iter().filter(|it| it.from == server).count();
    assert!(
        late > 100,
        "only {late} datagrams were on their way to {server} from {client}"
    );
    assert!(answers <= 12, "{answers} closes for {late} datagrams");
    drop((ours, theirs));
    pair.leave_nothing();
}
