//! Stateless resets (RFC 9000 section 10.3) of a node that restarted with the same key: how soon its
//! peers know, and what a flood can draw.

use std::net::SocketAddr;

use libp2p_quic_engine::{
    CloseKind, Config, Connection, Listener,
    simulation::{CONNECTION_ID_LENGTH, Conditions, Node, World, operations},
};

use crate::kit::{Pair, config, ms, secs};

/// The same node and listener, without a memory.
fn reborn(world: &mut World, server: Node, config: Config) -> (Node, Listener) {
    let server = world.restart(&server, config);
    let listener = server.listen(server.v4(4001)).expect("a free port");
    (server, listener)
}

#[test]
fn a_thousand_peers_know_of_a_restart_within_two_seconds() {
    for loss in [0.0, 0.05] {
        let crowded = config(|c| {
            c.max_connections_per_address = None;
            c.max_handshakes_per_address = 1_000;
        });
        let mut world = World::new(1);
        let server = world.node(crowded.clone());
        let listener = server.listen(server.v4(4001)).expect("a free port");
        let clients: Vec<_> = (0..10).map(|_| world.node(Config::default())).collect();
        let mut connections = Vec::new();
        for client in clients.iter().cycle().take(1_000) {
            connections.push(crate::kit::join(&mut world, client, &server, &listener));
        }
        drop(listener);
        let (server, listener) = reborn(&mut world, server, crowded);
        world.link(Conditions {
            loss,
            ..Conditions::default()
        });
        let began = world.now();
        let mut streams = Vec::new();
        world.block_on(async {
            for (ours, _) in &connections {
                let stream = operations::open(ours).await.expect("a stream");
                operations::write_all(&stream, b"x").await.expect("written");
                streams.push(stream);
            }
        });
        let all_know = world.run_until(secs(2), |_| {
            connections.iter().all(|(ours, _)| ours.error().is_some())
        });
        let left = connections
            .iter()
            .filter(|(ours, _)| ours.error().is_none());
        assert!(all_know, "{} do not know, loss {loss}", left.count());
        assert!(world.now() - began < secs(2));
        for (ours, _) in &connections {
            let kind = ours.error().map(|error| error.kind);
            assert_eq!(kind, Some(CloseKind::StatelessReset));
        }
        assert!(listener.statistics().resets_sent >= 1_000);
        drop((streams, connections, listener));
        let mut nodes = clients;
        nodes.push(server);
        crate::kit::leave_nothing(world, nodes);
    }
}

/// A server that restarted, the dialer's connection to its predecessor, and the address and an id that
/// the predecessor had for it.
fn restarted() -> (Pair, Connection, SocketAddr, Vec<u8>) {
    let mut pair = Pair::new(1);
    pair.world.record();
    let (ours, theirs) = pair.connect();
    pair.world.run_for(secs(1));
    let to = pair.listener.local_addr();
    let sent = pair.world.recorded();
    let short = sent.iter().find(|d| d.to == to && d.data[0] & 0x80 == 0);
    let id = short.expect("a short header").data[1..1 + CONNECTION_ID_LENGTH].to_vec();
    drop((theirs, pair.listener));
    (pair.server, pair.listener) = reborn(&mut pair.world, pair.server, Config::default());
    (pair, ours, to, id)
}

#[test]
fn a_flood_with_ids_of_a_predecessor_draws_no_more_than_the_limit() {
    let (mut pair, ours, to, id) = restarted();
    let mut dice = pair.world.dice();
    let from: Vec<_> = (0..50).map(|_| pair.world.raw_address()).collect();
    let (mut asked, mut answered) = (0, 0);
    for n in 0..3_000 {
        for m in 0..5 {
            let mut packet = dice.bytes::<1200>().to_vec();
            packet.truncate(22 + dice.below(1_100) as usize);
            packet[0] = packet[0] & 0x3f | 0x40;
            packet[1..1 + CONNECTION_ID_LENGTH].copy_from_slice(&id);
            let from = from[(5 * n + m) % from.len()];
            pair.world.inject(from, to, &packet);
            asked += 1;
        }
        pair.world.run_for(ms(1));
    }
    pair.world.run_for(ms(20));
    for address in from {
        answered += pair.world.received(address).len() as u64;
    }
    assert!((3_900..=4_010).contains(&answered), "{answered}");
    let statistics = pair.listener.statistics();
    assert_eq!(statistics.resets_sent, answered);
    assert_eq!(statistics.resets_suppressed, asked - answered);
    // A peer of before is told as soon as there is room again.
    let error = pair.world.block_on(async {
        let stream = operations::open(&ours).await.expect("a stream");
        operations::write_all(&stream, b"x").await.expect("written");
        operations::closed(&ours).await
    });
    assert_eq!(error.kind, CloseKind::StatelessReset);
    drop(ours);
    pair.leave_nothing();
}

#[test]
fn a_reset_is_smaller_than_what_asked_for_it() {
    let (mut pair, ours, to, id) = restarted();
    let from = pair.world.raw_address();
    let mut answers = 0;
    for length in 1 + CONNECTION_ID_LENGTH..1_400 {
        let mut packet = vec![0x55; length];
        packet[1..1 + CONNECTION_ID_LENGTH].copy_from_slice(&id);
        pair.world.inject(from, to, &packet);
        pair.world.run_for(ms(11));
        for (_, answer) in pair.world.received(from) {
            assert!(answer.len() < length, "{} of {length}", answer.len());
            answers += 1;
        }
    }
    assert!(answers > 1_300, "{answers}");
    drop(ours);
    pair.leave_nothing();
}
