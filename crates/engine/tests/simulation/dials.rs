//! Dials: into an outage, over slow paths, and to addresses that nobody answers from.

use std::{net::SocketAddr, time::Duration};

use libp2p_quic_engine::{
    CloseKind, Config, Connection, Party,
    simulation::{Conditions, operations},
};

use crate::kit::{Pair, each_seed, essence, is_empty, ms, secs};

/// Run until the dial is connected or has failed; how long that took.
fn settle(pair: &mut Pair, dial: &Connection) -> Duration {
    let began = pair.world.now();
    let is_settled = |dial: &Connection| dial.peer_id().is_some() || dial.error().is_some();
    let is_done = pair.world.run_until(secs(60), |_| is_settled(dial));
    assert!(is_done, "a dial that never ends");
    pair.world.now() - began
}

#[test]
fn a_dial_into_an_outage_connects_within_a_second_of_its_end() {
    each_seed(
        "dials::a_dial_into_an_outage_connects_within_a_second_of_its_end",
        95,
        |seed| {
            let outage = ms(seed * 100 + 7);
            let mut pair = Pair::new(seed);
            pair.world.blackout(outage);
            let to = pair.listener.local_addr();
            let ours = pair.client.connect(to, Some(pair.server.peer_id()));
            let ours = ours.expect("a dial");
            let took = settle(&mut pair, &ours);
            assert_eq!(ours.error(), None, "an outage of {outage:?}");
            assert!(took <= outage + secs(1), "{took:?} for {outage:?}");
            let theirs = pair.world.block_on(operations::accept(&pair.listener));
            let theirs = theirs.expect("a connection");
            pair.world
                .block_on(crate::kit::a_byte_crosses(&ours, &theirs));
            assert_eq!(pair.listener.statistics().connections_accepted, 1);
            // What was learned of the path is of the attempt that was answered.
            assert!(ours.statistics().rtt < ms(100));
            drop((ours, theirs));
            pair.leave_nothing();
        },
    );
}

#[test]
fn a_dial_to_a_peer_that_starts_late_connects_within_a_second() {
    for late in [500, 2500, 5000] {
        let mut pair = Pair::new(late);
        pair.world.crash(&pair.server);
        let ours = pair.client.connect(pair.server.v4(4001), None);
        let ours = ours.expect("a dial");
        pair.world.run_for(ms(late));
        pair.server = pair.world.restart(&pair.server, Config::default());
        pair.listener = pair.server.listen(pair.server.v4(4001)).expect("a port");
        let took = settle(&mut pair, &ours);
        assert_eq!(ours.error(), None);
        assert!(took <= secs(1), "{took:?} after {late} ms");
        drop(ours);
        pair.leave_nothing();
    }
}

#[test]
fn a_slow_path_costs_the_listener_little_and_connects_once() {
    for (round_trip, most_begun) in [(700, 1), (1000, 2), (2500, 4), (6000, 8)] {
        let mut pair = Pair::new(round_trip);
        pair.world.link(Conditions {
            latency: ms(round_trip / 2),
            ..Conditions::default()
        });
        let (ours, theirs) = pair.connect();
        let begun = pair.listener.statistics().handshakes_started;
        assert!(begun <= most_begun, "{begun} at {round_trip} ms");
        assert_eq!(pair.listener.statistics().connections_accepted, 1);
        pair.world
            .block_on(crate::kit::a_byte_crosses(&ours, &theirs));
        // The last attempt was told to go; the others end with their time.
        pair.world
            .run_for(Config::default().handshake_timeout + secs(12));
        let census = pair.world.census(&pair.server).expect("it runs");
        assert_eq!(census.connections, 1, "{census:?}");
        drop((ours, theirs));
        pair.leave_nothing();
    }
}

#[test]
fn a_dial_that_nobody_answers_sends_four_datagrams_a_second_at_most() {
    let mut pair = Pair::new(1);
    pair.world.crash(&pair.server);
    let ours = pair.client.connect(pair.server.v4(4001), None);
    let ours = ours.expect("a dial");
    let mut most = 0;
    pair.world.run_until(secs(9), |world| {
        most = most.max(world.census(&pair.client).expect("it runs").connections);
        false
    });
    assert_eq!(most, 2, "the first attempt and the latest");
    // Two for each attempt, as the key exchange fills more than one, and three probes of the first,
    // which leave unmarked too, as nothing is acknowledged.
    assert_eq!(pair.world.datagrams(), 2 * 12 + 3 * 2 * 2);
    let took = secs(9) + settle(&mut pair, &ours);
    assert_eq!(took, Config::default().handshake_timeout);
    let error = ours.error().expect("a timeout");
    assert_eq!(
        essence(&error),
        (Party::Network, CloseKind::HandshakeTimeout, None)
    );
    // Those of all attempts, less their closes, which leave after the error.
    let sent = pair.world.datagrams() - 2;
    assert_eq!(
        error.reason,
        format!("the peer did not answer within 10.0 s ({sent} datagrams sent, 0 received)")
    );
    let is_gone = pair
        .world
        .run_until(ms(1), |world| is_empty(world, &pair.client));
    assert!(is_gone, "{:?}", pair.world.census(&pair.client));
    drop(ours);
    pair.leave_nothing();
}

#[test]
fn a_dial_that_is_given_up_leaves_no_attempt() {
    for after in [0, 100, 790, 801, 1700, 5000] {
        let mut pair = Pair::new(after);
        pair.world.crash(&pair.server);
        let ours = pair.client.connect(pair.server.v4(4001), None);
        pair.world.run_for(ms(after));
        drop(ours.expect("a dial"));
        let is_gone = pair
            .world
            .run_until(ms(1), |world| is_empty(world, &pair.client));
        assert!(is_gone, "{:?}", pair.world.census(&pair.client));
        let sent = pair.world.datagrams();
        pair.world.run_for(secs(20));
        assert_eq!(pair.world.datagrams(), sent);
        pair.leave_nothing();
    }
}

#[test]
fn a_defect_in_an_attempt_ends_the_dial_and_leaves_nothing() {
    for after in [100, 900] {
        let mut pair = Pair::new(after);
        pair.world.crash(&pair.server);
        let ours = pair.client.connect(pair.server.v4(4001), None);
        let ours = ours.expect("a dial");
        pair.world.run_for(ms(after));
        pair.world.poison(&pair.client, &ours);
        settle(&mut pair, &ours);
        let error = ours.error().expect("a defect");
        assert_eq!((error.by, error.kind), (Party::Local, CloseKind::Internal));
        pair.world.run_for(ms(1));
        assert!(is_empty(&pair.world, &pair.client));
        drop(ours);
        pair.leave_nothing();
    }
}

#[test]
fn addresses_that_nobody_answers_from_fail_at_once_and_cost_no_packet() {
    let mut pair = Pair::new(1);
    for text in [
        "255.255.255.255:1",
        "224.0.0.1:1",
        "240.0.0.1:1",
        "0.0.0.0:1",
        "10.0.0.1:0",
        "[::]:1",
        "[ff02::1]:1",
        "[fe80::1]:1",
        "[::ffff:255.255.255.255]:1",
    ] {
        let to: SocketAddr = text.parse().expect("an address");
        let began = pair.world.now();
        let error = pair
            .world
            .block_on(operations::connect(&pair.client, to, None))
            .expect_err("nobody");
        assert_eq!(
            essence(&error),
            (Party::Local, CloseKind::Unreachable, None),
            "{text}"
        );
        assert_eq!(pair.world.now(), began);
    }
    assert_eq!(pair.world.datagrams(), 0);
    pair.leave_nothing();
}
