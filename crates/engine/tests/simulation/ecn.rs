//! Paths and ECN marks: dropped, removed or rewritten, from the start and under a connection.

use std::time::Duration;

use libp2p_quic_engine::{
    Config, Connection, Party,
    simulation::{Conditions, Datagram, Node, World, operations},
};

use crate::kit::{Pair, config, each_seed, ms, pattern, quiet, secs};

/// Which side's marked datagrams are dropped: of the client, of the server.
const DIRECTIONS: [(bool, bool); 3] = [(true, false), (false, true), (true, true)];

fn in_each_direction(latency: Duration) -> [(Duration, (bool, bool)); 3] {
    DIRECTIONS.map(|direction| (latency, direction))
}

fn drop_marked(pair: &mut Pair, (of_client, of_server): (bool, bool)) {
    pair.world.drop_marked(&pair.client, of_client);
    pair.world.drop_marked(&pair.server, of_server);
}

fn with_latency(latency: Duration) -> Conditions {
    Conditions {
        latency,
        ..Conditions::default()
    }
}

/// Bytes one way, all of which arrive; how long that took.
fn transfer(world: &mut World, from: &Connection, to: &Connection, len: usize) -> Duration {
    let began = world.now();
    let writer = world.spawn(delivery(from.clone(), len));
    world.block_on(async {
        arrival(to.clone(), len).await;
        writer.await;
    });
    world.now() - began
}

async fn delivery(from: Connection, len: usize) {
    if len > 0 {
        let a = operations::open(&from).await.expect("a stream");
        operations::write_all(&a, &pattern(1, len))
            .await
            .expect("written");
        a.finish();
        operations::finished(&a).await.expect("delivered");
    }
}

async fn arrival(to: Connection, len: usize) {
    if len > 0 {
        let b = operations::accept_stream(&to).await.expect("a stream");
        assert!(operations::read_to_end(&b).await.expect("all bytes") == pattern(1, len));
    }
}

/// What a node sent.
fn sent_by<'a>(node: &Node, all: &'a [Datagram]) -> Vec<&'a Datagram> {
    let ip = node.v4(0).ip();
    all.iter().filter(|d| d.from.ip() == ip).collect()
}

fn marked(datagrams: &[&Datagram]) -> usize {
    datagrams.iter().filter(|d| d.ecn != 0).count()
}

/// Whether the server marks what it sends now.
fn server_marks(pair: &mut Pair, ours: &Connection, theirs: &Connection) -> bool {
    pair.world.record();
    pair.world.recorded();
    transfer(&mut pair.world, theirs, ours, 100_000);
    let all = pair.world.recorded();
    let sent = sent_by(&pair.server, &all);
    let marked = marked(&sent);
    assert!(
        marked == 0 || marked == sent.len(),
        "{marked} of {}",
        sent.len()
    );
    marked > 0
}

/// What a dial and then a transfer take on a clean path.
fn clean(latency: Duration) -> (Duration, Duration) {
    let mut pair = Pair::new(1);
    pair.world.link(with_latency(latency));
    let (ours, theirs) = pair.connect();
    let dial = pair.world.now();
    (dial, transfer(&mut pair.world, &ours, &theirs, 100_000))
}

#[test]
fn a_dial_through_a_path_that_drops_marks_takes_one_probe_more() {
    for (latency, direction) in [1, 5, 34, 80]
        .map(ms)
        .into_iter()
        .flat_map(in_each_direction)
    {
        let (clean_dial, clean_transfer) = clean(latency);
        each_seed(
            "ecn::a_dial_through_a_path_that_drops_marks_takes_one_probe_more",
            10,
            |seed| {
                let mut pair = Pair::new(seed);
                pair.world.link(with_latency(latency));
                drop_marked(&mut pair, direction);
                pair.world.record();
                let (ours, theirs) = pair.connect();
                let more = pair.world.now() - clean_dial;
                assert!(more < ms(1_200), "{latency:?} {direction:?}: {more:?}");
                let took = transfer(&mut pair.world, &ours, &theirs, 100_000);
                let most = clean_transfer + ms(200) + latency * 4;
                assert!(
                    took < most,
                    "{latency:?} {direction:?}: {took:?} of {most:?}"
                );
                transfer(&mut pair.world, &theirs, &ours, 100_000);
                let all = pair.world.recorded();
                for (node, is_dropped) in [(&pair.client, direction.0), (&pair.server, direction.1)]
                {
                    let marked = marked(&sent_by(node, &all));
                    assert!(!is_dropped || marked < 10, "{marked} marked");
                    assert!(is_dropped || marked > 50, "{marked} marked");
                }
                drop((ours, theirs));
                pair.leave_nothing();
            },
        );
    }
}

/// A path that works turns, under streams at work in both directions or one, or under an idle
/// connection on which one side then speaks.
#[test]
fn a_live_connection_outlives_a_path_that_begins_to_drop_marks() {
    for (latency, direction) in [1, 5, 50].map(ms).into_iter().flat_map(in_each_direction) {
        each_seed(
            "ecn::a_live_connection_outlives_a_path_that_begins_to_drop_marks",
            5,
            |seed| {
                for (of_client, of_server) in
                    [(3_000_000, 0), (0, 3_000_000), (3_000_000, 3_000_000)]
                {
                    let mut pair = Pair::new(seed);
                    pair.world.link(Conditions {
                        rate: Some(2_500_000),
                        ..with_latency(latency)
                    });
                    let (ours, theirs) = pair.connect();
                    let began = pair.world.now();
                    let tasks = [
                        pair.world.spawn(delivery(ours.clone(), of_client)),
                        pair.world.spawn(arrival(theirs.clone(), of_client)),
                        pair.world.spawn(delivery(theirs.clone(), of_server)),
                        pair.world.spawn(arrival(ours.clone(), of_server)),
                    ];
                    pair.world.run_for(ms(600));
                    drop_marked(&mut pair, direction);
                    for task in tasks {
                        pair.world.block_on(task);
                    }
                    let took = pair.world.now() - began;
                    assert!(took < secs(5), "{latency:?} {direction:?}: {took:?}");
                    drop((ours, theirs));
                    pair.leave_nothing();
                }
            },
        );
    }
}

#[test]
fn an_idle_connection_outlives_a_path_that_begins_to_drop_marks() {
    for (latency, direction) in [1, 5, 50].map(ms).into_iter().flat_map(in_each_direction) {
        for is_client_first in [true, false] {
            let mut pair = Pair::with(1, quiet(|_| ()), quiet(|_| ()));
            pair.world.link(with_latency(latency));
            let (ours, theirs) = pair.connect();
            transfer(&mut pair.world, &ours, &theirs, 100_000);
            pair.world.run_for(secs(2));
            drop_marked(&mut pair, direction);
            let (from, to) = if is_client_first {
                (&ours, &theirs)
            } else {
                (&theirs, &ours)
            };
            let took = transfer(&mut pair.world, from, to, 1_000);
            let most = ms(500) + latency * 30;
            assert!(
                took < most,
                "{latency:?} {direction:?} {is_client_first}: {took:?}"
            );
            let took = transfer(&mut pair.world, to, from, 1_000);
            assert!(
                took < most,
                "{latency:?} {direction:?} {is_client_first}: {took:?}"
            );
        }
    }
}

/// Each path is validated by itself: a peer that moves away from such a path is sent marks again, and
/// one that moves on it or to it is not lost.
#[test]
fn marks_return_on_a_path_that_carries_them() {
    each_seed(
        "ecn::marks_return_on_a_path_that_carries_them",
        10,
        |seed| {
            let mut pair = Pair::new(seed);
            let (ours, theirs) = pair.connect();
            assert!(server_marks(&mut pair, &ours, &theirs));
            drop_marked(&mut pair, (false, true));
            transfer(&mut pair.world, &theirs, &ours, 100_000);
            assert!(!server_marks(&mut pair, &ours, &theirs));
            // It moves, and the new path drops marks as well.
            pair.world.rebind(&pair.client);
            let took = transfer(&mut pair.world, &ours, &theirs, 10_000);
            assert!(took < secs(2), "{took:?}");
            transfer(&mut pair.world, &theirs, &ours, 100_000);
            assert!(!server_marks(&mut pair, &ours, &theirs));
            // It moves to a path that carries them.
            drop_marked(&mut pair, (false, false));
            pair.world.rebind(&pair.client);
            transfer(&mut pair.world, &ours, &theirs, 10_000);
            assert!(server_marks(&mut pair, &ours, &theirs));
            drop((ours, theirs));
            pair.leave_nothing();
        },
    );
}

/// The new path drops marks, and the client has little to say on it: what it is sent is limited.
#[test]
fn a_peer_that_moves_to_a_path_that_drops_marks_is_followed() {
    for (of_client, of_server) in [(10, 0), (10_000, 0), (0, 2_000_000), (1_000_000, 1_000_000)] {
        each_seed(
            "ecn::a_peer_that_moves_to_a_path_that_drops_marks_is_followed",
            10,
            |seed| {
                let mut pair = Pair::new(seed);
                pair.world.link(Conditions {
                    rate: Some(2_500_000),
                    ..Conditions::default()
                });
                let (ours, theirs) = pair.connect();
                let began = pair.world.now();
                let tasks = [
                    pair.world.spawn(delivery(theirs.clone(), of_server)),
                    pair.world.spawn(arrival(ours.clone(), of_server)),
                ];
                pair.world.run_for(ms(300));
                drop_marked(&mut pair, (false, true));
                pair.world.rebind(&pair.client);
                transfer(&mut pair.world, &ours, &theirs, of_client.max(1));
                for task in tasks {
                    pair.world.block_on(task);
                }
                let took = pair.world.now() - began;
                assert!(took < secs(9), "{of_client} {of_server}: {took:?}");
                drop((ours, theirs));
                pair.leave_nothing();
            },
        );
    }
}

/// Share of what both sides sent that was marked, in a transfer each way with pauses.
fn share_of_marks(pair: &mut Pair, ours: &Connection, theirs: &Connection) -> [f64; 2] {
    pair.world.record();
    pair.world.recorded();
    for _ in 0..10 {
        transfer(&mut pair.world, ours, theirs, 100_000);
        transfer(&mut pair.world, theirs, ours, 100_000);
        pair.world.run_for(secs(1));
    }
    let all = pair.world.recorded();
    [&pair.client, &pair.server].map(|node| {
        let sent = sent_by(node, &all);
        marked(&sent) as f64 / sent.len() as f64
    })
}

/// Loss, jitter, reordering and idle periods are no reason to stop.
#[test]
fn marks_go_on_where_they_work() {
    let lossy = |loss| Conditions {
        loss,
        jitter: ms(5),
        ..with_latency(ms(50))
    };
    let reordered = Conditions {
        reordering: 0.05,
        ..lossy(0.01)
    };
    for (conditions, most) in [
        (lossy(0.0), 0),
        (lossy(0.01), 1),
        (lossy(0.05), 4),
        (reordered, 4),
    ] {
        let mut unmarked = 0;
        for seed in 0..20 {
            let mut pair = Pair::new(seed);
            pair.world.link(conditions.clone());
            let (ours, theirs) = pair.connect();
            let shares = share_of_marks(&mut pair, &ours, &theirs);
            unmarked += shares.iter().filter(|share| **share < 0.9).count();
        }
        assert!(
            unmarked <= most,
            "{unmarked} of 40 without marks: {conditions:?}"
        );
    }
}

/// Nothing arrives, marked or not, or the peer's process stands still: that is no black hole.
#[test]
fn marks_go_on_after_an_outage() {
    for outage in [ms(500), secs(1), secs(4), secs(12)] {
        each_seed("ecn::marks_go_on_after_an_outage", 10, |seed| {
            let mut pair = Pair::new(seed);
            pair.world.link(Conditions {
                rate: Some(2_500_000),
                ..with_latency(ms(20))
            });
            let (ours, theirs) = pair.connect();
            let tasks = [
                pair.world.spawn(delivery(ours.clone(), 1_000_000)),
                pair.world.spawn(arrival(theirs.clone(), 1_000_000)),
                pair.world.spawn(delivery(theirs.clone(), 1_000_000)),
                pair.world.spawn(arrival(ours.clone(), 1_000_000)),
            ];
            pair.world.run_for(ms(300));
            pair.world.blackout(outage);
            for task in tasks {
                pair.world.block_on(task);
            }
            let shares = share_of_marks(&mut pair, &ours, &theirs);
            assert_eq!(shares, [1.0, 1.0], "{outage:?}");
        });
    }
}

/// A path that removes marks, and one that rewrites all of them to "congestion experienced", from the
/// start or later: a connection is at most slow.
#[test]
fn marks_that_are_removed_or_rewritten_do_no_harm() {
    let bleaching = Conditions {
        bleaching: 1.0,
        ..Conditions::default()
    };
    let marking = Conditions {
        marking: 1.0,
        ..Conditions::default()
    };
    for (conditions, most) in [(bleaching, secs(1)), (marking, secs(20))] {
        for is_early in [true, false] {
            each_seed(
                "ecn::marks_that_are_removed_or_rewritten_do_no_harm",
                5,
                |seed| {
                    let mut pair = Pair::new(seed);
                    if is_early {
                        pair.world.link(conditions.clone());
                    }
                    let (ours, theirs) = pair.connect();
                    assert!(pair.world.now() < ms(100));
                    pair.world.link(conditions.clone());
                    let there = transfer(&mut pair.world, &ours, &theirs, 1_000_000);
                    let back = transfer(&mut pair.world, &theirs, &ours, 1_000_000);
                    assert!(there < most && back < most, "{there:?} {back:?}");
                    drop((ours, theirs));
                    pair.leave_nothing();
                },
            );
        }
    }
}

/// A close is not acknowledged, so that its loss would not be noticed.
#[test]
fn a_close_arrives_on_a_path_that_drops_marks() {
    for direction in DIRECTIONS {
        let mut pair = Pair::with(1, quiet(|_| ()), quiet(|_| ()));
        let (ours, theirs) = pair.connect();
        transfer(&mut pair.world, &ours, &theirs, 1_000);
        pair.world.run_for(secs(2));
        drop_marked(&mut pair, direction);
        ours.close(7, b"enough");
        pair.world.run_for(ms(100));
        let error = theirs.error().expect("it is over");
        assert_eq!((error.by, error.code), (Party::Peer, Some(7)));
    }
}

/// A listener that validates the address answers twice, and is answered.
#[test]
fn a_retry_crosses_a_path_that_drops_marks() {
    for direction in DIRECTIONS {
        let server = config(|c| c.retry_above = Some(0));
        let mut pair = Pair::with(1, server, Config::default());
        drop_marked(&mut pair, direction);
        pair.connect();
        assert!(pair.listener.statistics().retries_sent > 0);
        let took = pair.world.now();
        assert!(took < ms(1_200), "{direction:?}: {took:?}");
    }
}

/// Copies count for what may be sent to an address that is not validated (RFC 9000 section 8.1).
#[test]
fn a_dialer_that_says_no_more_is_sent_three_times_its_bytes() {
    for bleaching in [0.0, 1.0] {
        each_seed(
            "ecn::a_dialer_that_says_no_more_is_sent_three_times_its_bytes",
            10,
            |seed| {
                let mut pair = Pair::new(seed);
                pair.world.link(Conditions {
                    bleaching,
                    ..Conditions::default()
                });
                pair.world.record();
                let to = pair.listener.local_addr();
                let _ours = pair.client.connect(to, None).expect("a dial");
                pair.world.run_for(ms(1));
                pair.world.crash(&pair.client);
                pair.world.run_for(secs(30));
                let all = pair.world.recorded();
                let bytes = |node| {
                    sent_by(node, &all)
                        .iter()
                        .map(|d| d.data.len())
                        .sum::<usize>()
                };
                let (asked, answered) = (bytes(&pair.client), bytes(&pair.server));
                assert!(answered <= asked * 3, "{answered} for {asked}");
                // Its flight, and that again.
                let unmarked = sent_by(&pair.server, &all)
                    .iter()
                    .filter(|d| d.ecn == 0)
                    .count();
                assert!(unmarked >= 2, "{unmarked}");
            },
        );
    }
}
