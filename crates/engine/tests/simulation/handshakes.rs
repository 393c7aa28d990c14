//! Handshakes: who is authenticated to whom, in how many round trips, and how they fail.

use libp2p_quic_engine::{
    CloseKind, Config, Connection, Identity, Party,
    simulation::{Conditions, World, operations},
};

use crate::kit::{Pair, a_byte_crosses, config, each_seed, essence, leave_nothing, ms, secs};

#[test]
fn both_sides_know_each_other() {
    each_seed("handshakes::both_sides_know_each_other", 50, |seed| {
        let mut pair = Pair::new(seed);
        let (ours, theirs) = pair.connect();
        assert_eq!(ours.peer_id(), Some(pair.server.peer_id()));
        assert_eq!(theirs.peer_id(), Some(pair.client.peer_id()));
        assert!(ours.is_initiator() && !theirs.is_initiator());
        assert_eq!(ours.remote_addr(), pair.server.v4(4001));
        assert_eq!(theirs.local_addr(), pair.server.v4(4001));
        assert_eq!(theirs.remote_addr().ip(), pair.client.v4(0).ip());
        // One way for each of ClientHello, ServerHello and the client's Finished.
        assert_eq!(pair.world.now(), ms(15));
        drop((ours, theirs));
        pair.leave_nothing();
    });
}

#[test]
fn bad_networks_only_delay() {
    each_seed("handshakes::bad_networks_only_delay", 700, |seed| {
        let mut pair = Pair::with(
            seed,
            config(|c| c.handshake_timeout = secs(60)),
            config(|c| c.handshake_timeout = secs(60)),
        );
        let conditions = Conditions::bad(&mut pair.world.dice());
        pair.world.link(conditions);
        let (ours, theirs) = pair.connect();
        assert_eq!(ours.peer_id(), Some(pair.server.peer_id()));
        assert_eq!(theirs.peer_id(), Some(pair.client.peer_id()));
        drop((ours, theirs));
        pair.leave_nothing();
    });
}

#[test]
fn ipv6_and_ipv4_at_once() {
    let mut pair = Pair::new(1);
    let six = pair
        .server
        .listen(pair.server.v6(4001))
        .expect("a free port");
    let (to, who) = (six.local_addr(), pair.server.peer_id());
    let (ours, theirs) = pair.world.block_on(async {
        let ours = operations::connect(&pair.client, to, Some(who))
            .await
            .expect("a connection");
        (ours, operations::accept(&six).await.expect("a connection"))
    });
    assert_eq!(theirs.remote_addr().ip(), pair.client.v6(0).ip());
    let (ours4, theirs4) = pair.connect();
    drop((ours, theirs, ours4, theirs4, six));
    pair.leave_nothing();
}

#[test]
fn a_retry_validates_the_address_first() {
    each_seed(
        "handshakes::a_retry_validates_the_address_first",
        50,
        |seed| {
            let server = config(|c| c.retry_above = Some(0));
            let mut pair = Pair::with(seed, server, Config::default());
            pair.world.record();
            let (ours, theirs) = pair.connect();
            // One more round trip than without.
            assert_eq!(pair.world.now(), ms(25));
            let sent = pair.world.recorded();
            let retries = sent.iter().filter(|d| d.data[0] & 0xf0 == 0xf0);
            // The client's first flight is two datagrams, because of its post-quantum key.
            assert!((1..=2).contains(&retries.count()));
            assert_eq!(pair.listener.statistics().handshakes_started, 1);
            drop((ours, theirs));
            pair.leave_nothing();
        },
    );
}

#[test]
fn another_peer_than_the_expected_one_is_refused() {
    each_seed(
        "handshakes::another_peer_than_the_expected_one_is_refused",
        20,
        |seed| {
            let mut pair = Pair::new(seed);
            let wrong = Identity::deterministic(999_999).peer_id();
            let to = pair.listener.local_addr();
            let error = pair
                .world
                .block_on(operations::connect(&pair.client, to, Some(wrong)))
                .expect_err("a refusal");
            assert_eq!(
                (error.by, error.kind),
                (Party::Local, CloseKind::PeerIdMismatch)
            );
            assert!(error.to_string().contains("Peer ID mismatch"), "{error}");
            assert!(error.to_string().contains(&wrong.to_string()), "{error}");
            assert_eq!(pair.world.now(), ms(10));
            pair.world.run_for(secs(1));
            let statistics = pair.listener.statistics();
            assert_eq!(statistics.handshakes_failed, 1);
            assert_eq!(statistics.connections_accepted, 0);
            pair.leave_nothing();
        },
    );
}

/// Every send is refused.
fn refused() -> Conditions {
    Conditions {
        refused: 1.0,
        ..Conditions::default()
    }
}

#[test]
fn a_dial_ends_soon_when_all_sends_are_refused() {
    let mut world = World::new(1);
    let client = world.node(Config::default());
    let somewhere = world.raw_address();
    world.link(refused());
    let error = world
        .block_on(operations::connect(&client, somewhere, None))
        .expect_err("no route");
    assert_eq!(
        essence(&error),
        (Party::Network, CloseKind::Unreachable, None)
    );
    assert_eq!(error.reason, "network is unreachable (ENETUNREACH)");
    assert_eq!(world.now(), ms(200));
    leave_nothing(world, vec![client]);
}

#[test]
fn sends_that_are_refused_for_a_moment_only_delay_a_dial() {
    let mut pair = Pair::new(1);
    pair.world.link(refused());
    let to = pair.listener.local_addr();
    let dialed = pair.client.connect(to, None).expect("a dial");
    pair.world.run_for(ms(150));
    pair.world.link(Conditions::default());
    pair.world
        .block_on(operations::connected(&dialed))
        .expect("a handshake");
    // What was refused goes again after 200 ms, and takes the handshake's two ways.
    assert_eq!(pair.world.now(), ms(210));
    drop(dialed);
    pair.leave_nothing();
}

#[test]
fn sends_that_are_refused_end_no_connection() {
    let mut pair = Pair::new(1);
    let (ours, theirs) = pair.connect();
    pair.world.link(refused());
    pair.world.run_for(secs(3));
    pair.world.link(Conditions::default());
    pair.world.block_on(a_byte_crosses(&ours, &theirs));
    drop((ours, theirs));
    pair.leave_nothing();
}

#[test]
fn a_silent_address_times_out() {
    let mut world = World::new(1);
    let client = world.node(config(|c| c.handshake_timeout = secs(7)));
    let silent = world.raw_address();
    let error = world
        .block_on(operations::connect(&client, silent, None))
        .expect_err("a timeout");
    assert_eq!(
        essence(&error),
        (Party::Network, CloseKind::HandshakeTimeout, None)
    );
    assert_eq!(world.now(), secs(7));
    let received = world.received(silent).len();
    assert_eq!(
        error.reason,
        format!("the peer did not answer within 7.0 s ({received} datagrams sent, 0 received)")
    );
    leave_nothing(world, vec![client]);
}

#[test]
fn a_dialer_that_falls_silent_is_forgotten() {
    let mut pair = Pair::with(
        1,
        config(|c| c.handshake_timeout = secs(3)),
        Config::default(),
    );
    let ours = pair
        .client
        .connect(pair.listener.local_addr(), None)
        .expect("a dial");
    let has_begun = pair.world.run_until(secs(1), |_| {
        pair.listener.statistics().handshakes_started == 1
    });
    assert!(has_begun);
    pair.world.crash(&pair.client);
    assert_eq!(
        pair.world
            .census(&pair.server)
            .expect("running")
            .inbound_handshakes,
        1
    );
    pair.world.run_for(secs(3));
    assert_eq!(pair.listener.statistics().handshakes_failed, 1);
    let is_forgotten = pair.world.run_until(secs(4), |world| {
        world.census(&pair.server) == Some(Default::default())
    });
    assert!(is_forgotten);
    assert_eq!(ours.error().map(|e| e.kind), Some(CloseKind::Internal));
    drop(ours);
    pair.leave_nothing();
}

#[test]
fn a_dial_that_is_dropped_is_given_up() {
    let mut pair = Pair::new(1);
    let silent = pair.world.raw_address();
    let ours = pair.client.connect(silent, None).expect("a dial");
    pair.world.run_for(ms(100));
    drop(ours);
    // Closing takes three probe timeouts, of the first guess at the round-trip time.
    assert!(pair.world.run_until(secs(4), |world| {
        world.census(&pair.client) == Some(Default::default())
    }));
    pair.leave_nothing();
}

#[test]
fn both_dial_each_other_from_their_listening_sockets() {
    each_seed(
        "handshakes::both_dial_each_other_from_their_listening_sockets",
        30,
        |seed| {
            let mut pair = Pair::new(seed);
            let back = pair
                .client
                .listen(pair.client.v4(4002))
                .expect("a free port");
            let (there, here) = (pair.listener.local_addr(), back.local_addr());
            let held: Vec<Connection> = pair.world.block_on(async {
                let a = pair.client.connect(there, None).expect("a dial");
                let b = pair.server.connect(here, None).expect("a dial");
                operations::connected(&a).await.expect("a connection");
                operations::connected(&b).await.expect("a connection");
                let c = operations::accept(&pair.listener)
                    .await
                    .expect("a connection");
                let d = operations::accept(&back).await.expect("a connection");
                assert_eq!((c.remote_addr(), d.remote_addr()), (here, there));
                vec![a, b, c, d]
            });
            assert_eq!(pair.world.sockets(&pair.client), 1);
            drop((held, back));
            pair.leave_nothing();
        },
    );
}

#[test]
fn a_seed_repeats_every_datagram() {
    each_seed("handshakes::a_seed_repeats_every_datagram", 150, |seed| {
        let run = || {
            let patient = || config(|c| c.handshake_timeout = secs(60));
            let mut pair = Pair::with(seed, patient(), patient());
            let conditions = Conditions::bad(&mut pair.world.dice());
            pair.world.link(conditions);
            let (ours, theirs) = pair.connect();
            let sent = crate::kit::pattern(seed, 100_000);
            pair.world.block_on(async {
                let stream = operations::open(&ours).await.expect("a stream");
                operations::write_all(&stream, &sent)
                    .await
                    .expect("written");
                stream.finish();
                let stream = operations::accept_stream(&theirs).await.expect("a stream");
                let got = operations::read_to_end(&stream).await.expect("all bytes");
                assert!(got == sent);
            });
            drop((ours, theirs));
            pair.world.run_for(secs(20));
            (
                pair.world.trace_hash(),
                pair.world.datagrams(),
                pair.world.now(),
            )
        };
        assert_eq!(run(), run(), "seed {seed}");
    });
}
