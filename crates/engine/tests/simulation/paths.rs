//! What paths and systems do to datagrams: addresses that move, marks, sizes, refused sends.

use std::{cell::RefCell, collections::BTreeSet, future::poll_fn, rc::Rc};

use libp2p_quic_engine::{
    Config, Connection,
    simulation::{CONNECTION_ID_LENGTH, Conditions, World, operations},
};

use crate::kit::{Pair, config, each_seed, ms, pattern, quiet, secs};

/// One transfer over a connection, checked.
fn transfer(world: &mut World, ours: &Connection, theirs: &Connection, seed: u64, len: usize) {
    let sent = pattern(seed, len);
    let writer = world.spawn({
        let (ours, sent) = (ours.clone(), sent.clone());
        async move {
            let a = operations::open(&ours).await.expect("a stream");
            operations::write_all(&a, &sent).await.expect("written");
            a.finish();
            operations::finished(&a).await.expect("delivered");
        }
    });
    world.block_on(async {
        let b = operations::accept_stream(theirs).await.expect("a stream");
        let got = operations::read_to_end(&b).await.expect("all bytes");
        assert!(got == sent);
        writer.await;
    });
}

#[test]
fn a_peer_that_moves_often_keeps_its_connection() {
    each_seed(
        "paths::a_peer_that_moves_often_keeps_its_connection",
        10,
        |seed| {
            let mut pair = Pair::new(seed);
            let (ours, theirs) = pair.connect();
            let before = theirs.remote_addr();
            pair.world.record();
            for round in 0..20 {
                pair.world.rebind(&pair.client);
                transfer(&mut pair.world, &ours, &theirs, seed + round, 20_000);
                transfer(&mut pair.world, &theirs, &ours, seed + round, 20_000);
                pair.world.run_for(ms(500));
            }
            assert_ne!(theirs.remote_addr(), before);
            // A new path takes a new id (RFC 9000 section 9.5); the first five would run out.
            let client = pair.client.v4(0).ip();
            let ids: BTreeSet<_> = pair
                .world
                .recorded()
                .into_iter()
                .filter(|d| d.to.ip() == client && d.data[0] & 0x80 == 0)
                .map(|d| d.data[1..1 + CONNECTION_ID_LENGTH].to_vec())
                .collect();
            assert!(ids.len() > 15, "{} ids", ids.len());
            drop((ours, theirs));
            pair.leave_nothing();
        },
    );
}

#[test]
fn a_task_that_waits_for_the_end_is_woken_when_the_peer_moves() {
    let mut pair = Pair::new(1);
    let (ours, theirs) = pair.connect();
    pair.world.run_for(secs(1));
    let seen = Rc::new(RefCell::new(Vec::new()));
    let waiting = pair.world.spawn({
        let (theirs, seen) = (theirs.clone(), seen.clone());
        poll_fn(move |cx| {
            // Before the address is read, so that no change is missed.
            let end = theirs.poll_closed(cx);
            seen.borrow_mut().push(theirs.remote_addr());
            end
        })
    });
    pair.world.run_for(ms(1));
    let first = theirs.remote_addr();
    pair.world.rebind(&pair.client);
    transfer(&mut pair.world, &ours, &theirs, 1, 10_000);
    pair.world.run_for(secs(1));
    let second = theirs.remote_addr();
    assert_ne!(second, first);
    // Once for the move, and not for what was received and sent.
    assert_eq!(*seen.borrow(), [first, second]);

    // One datagram comes from a third address, where then nobody answers.
    pair.world.rebind(&pair.client);
    let a = pair.world.block_on(async {
        let a = operations::open(&ours).await.expect("a stream");
        operations::write_all(&a, b"x").await.expect("written");
        a
    });
    let has_moved = pair
        .world
        .run_until(secs(1), |_| theirs.remote_addr() != second);
    assert!(has_moved);
    let third = theirs.remote_addr();
    pair.world.blackout(secs(5));
    let is_back = pair
        .world
        .run_until(secs(4), |_| theirs.remote_addr() == second);
    assert!(is_back, "the path was not validated");
    pair.world.run_for(ms(1));
    assert_eq!(*seen.borrow(), [first, second, third, second]);

    pair.world.run_for(secs(10));
    assert_eq!(theirs.remote_addr(), third);
    drop((a, ours));
    pair.world.block_on(waiting);
    drop(theirs);
    pair.leave_nothing();
}

/// A peer that only receives has nothing to send from its new address until its keep-alive.
#[test]
fn a_dialer_that_learns_of_its_new_address_is_sent_to_again_at_once() {
    let latency = ms(50);
    for is_told in [true, false] {
        let mut pair = Pair::new(1);
        pair.world.link(Conditions {
            latency,
            ..Conditions::default()
        });
        let (ours, theirs) = pair.connect();
        pair.world.run_for(secs(1));
        pair.world.rebind(&pair.client);
        if is_told {
            pair.world.report_addresses(&pair.client);
        }
        let began = pair.world.now();
        transfer(&mut pair.world, &theirs, &ours, 1, 10_000);
        let took = pair.world.now() - began;
        if is_told {
            // Three round trips: the PING, the challenge and its answer, and the data.
            assert!(took <= 6 * latency, "{took:?}");
        } else {
            assert!(took > secs(3), "{took:?}");
        }
        drop((ours, theirs));
        pair.leave_nothing();
    }
}

#[test]
fn a_refused_datagram_is_kept_and_its_connection_resumed() {
    each_seed(
        "paths::a_refused_datagram_is_kept_and_its_connection_resumed",
        50,
        |seed| {
            // Nothing else would ever make this connection dirty: no keep-alive, no other one.
            let mut pair = Pair::with(seed, quiet(|_| ()), quiet(|_| ()));
            let (ours, theirs) = pair.connect();
            pair.world.run_for(secs(2));
            let before = ours.statistics().packets_lost + theirs.statistics().packets_lost;
            pair.world.record();
            pair.world.link(Conditions {
                blocked: 1.0,
                ..Conditions::default()
            });
            let a = pair.world.block_on(async {
                let a = operations::open(&ours).await.expect("a stream");
                operations::write_all(&a, b"once").await.expect("written");
                a
            });
            pair.world.run_for(ms(1));
            assert!(pair.world.recorded().is_empty());
            pair.world.link(Conditions::default());
            pair.world.block_on(async {
                let b = operations::accept_stream(&theirs).await.expect("a stream");
                assert_eq!(
                    operations::read(&b, 100).await.expect("bytes"),
                    &b"once"[..]
                );
            });
            // Sent once although refused at first, before any probe timeout.
            let from = pair.client.v4(0).ip();
            let sent = pair.world.recorded();
            assert_eq!(sent.iter().filter(|d| d.from.ip() == from).count(), 1);
            drop(a);
            transfer(&mut pair.world, &ours, &theirs, seed, 10_000);
            let after = ours.statistics().packets_lost + theirs.statistics().packets_lost;
            assert_eq!(after, before, "something was sent twice");
        },
    );
}

#[test]
fn what_stands_behind_a_refused_datagram_follows_it_at_once() {
    let mut pair = Pair::with(1, quiet(|_| ()), quiet(|_| ()));
    let (ours, theirs) = pair.connect();
    pair.world.run_for(secs(2));
    pair.world.record();
    let conditions = |blocked| Conditions {
        blocked,
        segments: 1,
        ..Conditions::default()
    };
    pair.world.link(conditions(1.0));
    let a = pair.world.block_on(async {
        let a = operations::open(&ours).await.expect("a stream");
        operations::write_all(&a, &[1; 7_000])
            .await
            .expect("written");
        a
    });
    pair.world.run_for(ms(1));
    pair.world.link(conditions(0.0));
    pair.world.run_for(ms(8));
    // All of it, before an acknowledgment could have woken the connection.
    let from = pair.client.v4(0).ip();
    let sent = pair.world.recorded();
    let sent: Vec<_> = sent.iter().filter(|d| d.from.ip() == from).collect();
    assert!(sent.iter().map(|d| d.data.len()).sum::<usize>() > 7_000);
    assert!(sent.iter().all(|d| d.at - sent[0].at < ms(4)));
    drop((a, theirs));
}

#[test]
fn refused_sends_lose_nothing_among_many_connections() {
    each_seed(
        "paths::refused_sends_lose_nothing_among_many_connections",
        10,
        |seed| {
            let mut pair = Pair::new(seed);
            let held: Vec<_> = (0..6).map(|_| pair.connect()).collect();
            pair.world.link(Conditions {
                blocked: 0.5,
                ..Conditions::default()
            });
            let (mut writers, mut tasks) = (Vec::new(), Vec::new());
            for (i, (ours, theirs)) in held.iter().enumerate() {
                let (ours, theirs, name) = (ours.clone(), theirs.clone(), i as u64);
                writers.push(pair.world.spawn(async move {
                    let a = operations::open(&ours).await.expect("a stream");
                    operations::write_all(&a, &pattern(name, 200_000))
                        .await
                        .expect("written");
                    a.finish();
                    operations::finished(&a).await.expect("delivered");
                }));
                tasks.push(pair.world.spawn(async move {
                    let b = operations::accept_stream(&theirs).await.expect("a stream");
                    operations::read_to_end(&b).await.expect("all bytes") == pattern(name, 200_000)
                }));
            }
            for task in tasks {
                assert!(pair.world.block_on(task));
            }
            for (ours, _) in &held {
                assert_eq!(ours.statistics().packets_lost, 0);
            }
            for writer in writers {
                pair.world.block_on(writer);
            }
            drop(held);
            pair.leave_nothing();
        },
    );
}

#[test]
fn the_loss_of_segmentation_offload_costs_one_batch() {
    let mut pair = Pair::new(1);
    let (ours, theirs) = pair.connect();
    transfer(&mut pair.world, &ours, &theirs, 1, 300_000);
    pair.world.record();
    // What EIO means to quinn-udp: this batch is gone, and from now on one at a time.
    pair.world.link(Conditions {
        failing: 1.0,
        segments: 1,
        ..Conditions::default()
    });
    let task = pair.world.spawn({
        let ours = ours.clone();
        async move {
            let a = operations::open(&ours).await.expect("a stream");
            operations::write_all(&a, &[1; 50_000])
                .await
                .expect("written");
            a.finish();
            operations::finished(&a).await.expect("delivered");
        }
    });
    pair.world.run_for(ms(1));
    pair.world.link(Conditions {
        segments: 1,
        ..Conditions::default()
    });
    pair.world.block_on(async {
        let b = operations::accept_stream(&theirs).await.expect("a stream");
        assert_eq!(
            operations::read_to_end(&b).await.expect("all bytes").len(),
            50_000
        );
        task.await;
    });
    let sent = pair.world.recorded();
    assert!(
        sent.iter()
            .all(|datagram| datagram.batch == datagram.data.len())
    );
    assert!(ours.statistics().packets_lost > 0);
    assert_eq!((ours.error(), theirs.error()), (None, None));
}

#[test]
fn large_datagrams_stay_below_the_limit_of_udp() {
    for size in [1452, 1500, 9000, 16_000, 65_000] {
        let large = || {
            config(|c| {
                c.max_datagram_size = size;
                // Its own limit must not be what keeps batches small.
                c.send_window = 20_000_000;
            })
        };
        let mut pair = Pair::with(1, large(), large());
        pair.world.link(Conditions {
            mtu: usize::from(size),
            ..Conditions::default()
        });
        let (ours, theirs) = pair.connect();
        pair.world.run_for(secs(1));
        for round in 0..6 {
            transfer(&mut pair.world, &ours, &theirs, round, 500_000);
        }
        pair.world.record();
        transfer(&mut pair.world, &ours, &theirs, 9, 4_000_000);
        let sent = pair.world.recorded();
        let largest = sent
            .iter()
            .map(|datagram| datagram.batch)
            .max()
            .unwrap_or(0);
        assert!(largest <= 65_507, "{size}: {largest}");
        // quinn-proto's search ends a little below the bound.
        let mtu = ours.statistics().mtu;
        assert!(mtu >= size / 20 * 19, "{size}: {mtu}");
        if size == 1452 {
            assert!(largest > 20 * 1452, "batches stay small: {largest}");
        }
    }
}

#[test]
fn a_path_that_carries_less_than_configured_works() {
    let mut pair = Pair::with(1, Config::default(), Config::default());
    pair.world.link(Conditions {
        mtu: 1200,
        ..Conditions::default()
    });
    let (ours, theirs) = pair.connect();
    transfer(&mut pair.world, &ours, &theirs, 1, 300_000);
    assert_eq!(ours.statistics().mtu, 1200);
    // And one that shrinks under a connection that knew it larger.
    pair.world.link(Conditions::default());
    let (ours, theirs) = pair.connect();
    transfer(&mut pair.world, &ours, &theirs, 2, 300_000);
    assert!(ours.statistics().mtu > 1400);
    pair.world.link(Conditions {
        mtu: 1300,
        ..Conditions::default()
    });
    transfer(&mut pair.world, &ours, &theirs, 3, 300_000);
    assert!(ours.statistics().mtu <= 1300);
}

#[test]
fn marks_and_local_addresses_are_passed_through() {
    let mut pair = Pair::new(1);
    pair.world.record();
    let (ours, theirs) = pair.connect();
    pair.world.link(Conditions {
        marking: 0.3,
        ..Conditions::default()
    });
    transfer(&mut pair.world, &ours, &theirs, 1, 1_000_000);
    let sent = pair.world.recorded();
    let data = || {
        sent.iter()
            .filter(|d| d.from.ip() == pair.client.v4(0).ip())
    };
    assert!(data().filter(|d| d.ecn == 2).count() > 100, "ECT(0) is set");
    // Marked, nothing lost: the echo of the marks must have reached the sender.
    let statistics = ours.statistics();
    assert!(statistics.congestion_events > 0);
    // A server with several addresses answers from the one that was called.
    let server = pair.server.v4(0).ip();
    let answers: Vec<_> = sent.iter().filter(|d| d.from.ip() == server).collect();
    assert!(answers.iter().all(|d| d.source == Some(server)));
    assert_eq!(ours.local_addr().ip(), pair.client.v4(0).ip());
}

#[test]
fn a_slow_line_is_filled() {
    let mut pair = Pair::new(1);
    let (ours, theirs) = pair.connect();
    pair.world.link(Conditions {
        rate: Some(1_000_000),
        queue: ms(100),
        ..Conditions::default()
    });
    let began = pair.world.now();
    transfer(&mut pair.world, &ours, &theirs, 1, 5_000_000);
    let took = pair.world.now() - began;
    assert!((secs(5)..secs(8)).contains(&took), "{took:?}");
}

#[test]
fn an_outage_at_the_end_of_the_handshake_costs_no_more_than_the_next_probe() {
    let latency = ms(34);
    // Before our last flight arrives, and while its confirmation is on its way; and then with
    // another port of ours after it, to which the listener's own probes do not lead.
    for (begins, moves) in [(70, false), (100, false), (110, false), (110, true)] {
        let mut pair = Pair::new(1);
        pair.world.link(Conditions {
            latency,
            ..Conditions::default()
        });
        let to = pair.listener.local_addr();
        let ours = pair.client.connect(to, None).expect("a dial");
        pair.world.run_for(ms(begins));
        pair.world.blackout(ms(2_350));
        if moves {
            pair.world.rebind(&pair.client);
        }
        pair.world.block_on(async {
            let theirs = operations::accept(&pair.listener)
                .await
                .expect("a connection");
            let a = operations::open(&ours).await.expect("a stream");
            operations::write_all(&a, b"x").await.expect("written");
            let b = operations::accept_stream(&theirs).await.expect("a stream");
            assert_eq!(operations::read(&b, 1).await.expect("a byte"), &b"x"[..]);
        });
        // Probes come after 0.2, 0.4, 0.8 and 1.6 seconds more; every other one was lost, and
        // these took up to nine seconds.
        let took = pair.world.now();
        assert!(took < ms(4_000), "{begins} ms, {moves}: {took:?}");
        drop(ours);
        pair.leave_nothing();
    }
}
