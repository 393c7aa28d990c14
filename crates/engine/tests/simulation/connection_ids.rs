//! Connection ids (RFC 9000 section 5.1): what a peer can collect of them, and that invented ones
//! draw nothing. That a predecessor's draw a stateless reset is in `timeouts`.

use std::{
    collections::{BTreeMap, HashSet},
    net::SocketAddr,
};

use libp2p_quic_engine::{
    Config, Connection,
    simulation::{CONNECTION_ID_LENGTH, Datagram, Node, World},
};

use crate::kit::{Pair, ms, secs};

/// A peer with all keys, in the place of a client that was real until its handshake was done: its
/// packets lie open, so that it can read the server's and write its own.
struct Peer {
    server: SocketAddr,
    address: SocketAddr,
    /// The id that its packets go to, the server's first.
    id: Vec<u8>,
    number: u32,
    /// What it got, by sequence number: id and token.
    collected: BTreeMap<u64, (Vec<u8>, Vec<u8>)>,
}

/// A world with that peer, and the server's end of its connection.
fn with_an_open_peer(seed: u64) -> (World, [Node; 2], Connection, Peer) {
    let mut world = World::new(seed);
    world.leave_packets_open();
    let server = world.node(Config::default());
    let client = world.node(Config::default());
    let listener = server.listen(server.v4(4001)).expect("a free port");
    world.record();
    let (theirs, ours) = crate::kit::join(&mut world, &client, &server, &listener);
    world.run_for(ms(200));
    let address = ours.remote_addr();
    let sent = world.recorded();
    let is_short = |d: &&Datagram| d.from == address && d.data[0] & 0x80 == 0;
    let short = sent.iter().find(is_short).expect("a short header");
    let peer = Peer {
        server: listener.local_addr(),
        address,
        id: short.data[1..1 + CONNECTION_ID_LENGTH].to_vec(),
        number: 1_000,
        collected: BTreeMap::new(),
    };
    world.crash(&client);
    drop((theirs, listener));
    (world, [server, client], ours, peer)
}

impl Peer {
    /// Retire these ids (RFC 9000 section 19.16), in one packet.
    fn retire(&mut self, world: &mut World, sequences: &[u64]) {
        self.number += 1;
        // RFC 9000 section 17.3.1: the fixed bit and four bytes of number.
        let mut packet = vec![0x43];
        packet.extend_from_slice(&self.id);
        packet.extend_from_slice(&self.number.to_be_bytes());
        for sequence in sequences {
            packet.push(0x19);
            packet.extend_from_slice(&(0x4000 | *sequence as u16).to_be_bytes());
        }
        packet.extend_from_slice(&[0; 20]);
        world.inject(self.address, self.server, &packet);
    }

    /// Read what the server has sent. The sequence numbers of the ids that are new.
    fn read(&mut self, world: &mut World) -> Vec<u64> {
        let mut new = Vec::new();
        for datagram in world.recorded() {
            if datagram.to == self.address && datagram.data[0] & 0x80 == 0 {
                let number = usize::from(datagram.data[0] & 3) + 1;
                let frames = &datagram.data[1 + CONNECTION_ID_LENGTH + number..];
                for (sequence, id, token) in new_connection_ids(frames) {
                    let pair = (id, token);
                    // A frame that was lost comes again as it was.
                    match self.collected.insert(sequence, pair.clone()) {
                        None => new.push(sequence),
                        Some(before) => assert_eq!(before, pair),
                    }
                }
            }
        }
        new
    }
}

fn varint(rest: &mut &[u8]) -> u64 {
    let length = 1 << (rest[0] >> 6);
    let (bytes, next) = rest.split_at(length);
    *rest = next;
    let value = bytes
        .iter()
        .fold(0, |value, byte| value << 8 | u64::from(*byte));
    value & (u64::MAX >> (66 - 8 * length))
}

fn take(rest: &mut &[u8], length: usize) -> Vec<u8> {
    let (bytes, next) = rest.split_at(length);
    *rest = next;
    bytes.to_vec()
}

/// The NEW_CONNECTION_ID frames (RFC 9000 section 19.15) among those that a server sends which has
/// no data to send.
fn new_connection_ids(mut rest: &[u8]) -> Vec<(u64, Vec<u8>, Vec<u8>)> {
    let mut found = Vec::new();
    while !rest.is_empty() {
        match varint(&mut rest) {
            // PADDING, PING, HANDSHAKE_DONE, IMMEDIATE_ACK.
            0x00 | 0x01 | 0x1e | 0x1f => {}
            // ACK, without and with counts of ECN.
            kind @ (0x02 | 0x03) => {
                let (_, _) = (varint(&mut rest), varint(&mut rest));
                let ranges = 1 + 2 * varint(&mut rest);
                for _ in 0..ranges + if kind == 0x03 { 3 } else { 0 } {
                    varint(&mut rest);
                }
            }
            // MAX_DATA, MAX_STREAMS, RETIRE_CONNECTION_ID.
            0x10 | 0x12 | 0x19 => {
                varint(&mut rest);
            }
            0x18 => {
                let sequence = varint(&mut rest);
                assert_eq!(varint(&mut rest), 0, "nothing is to be retired");
                assert_eq!(usize::from(rest[0]), CONNECTION_ID_LENGTH);
                let id = take(&mut &rest[1..], CONNECTION_ID_LENGTH);
                rest = &rest[1 + CONNECTION_ID_LENGTH..];
                found.push((sequence, id, take(&mut rest, 16)));
            }
            other => panic!("frame {other:#x}"),
        }
    }
    found
}

#[test]
fn a_peer_that_retires_each_id_at_once_gets_ten_a_second() {
    let (mut world, nodes, ours, mut peer) = with_an_open_peer(1);
    peer.retire(&mut world, &[1, 2, 3, 4]);
    for _ in 0..5_000 {
        world.run_for(ms(1));
        let new = peer.read(&mut world);
        if !new.is_empty() {
            peer.retire(&mut world, &new);
        }
    }
    // Those of a burst, and ten a second; without a limit there were as many as the congestion
    // window could carry.
    let collected = peer.collected.len();
    assert!((50..=60).contains(&collected), "{collected}");
    let (ids, tokens): (HashSet<_>, HashSet<_>) = peer.collected.values().cloned().unzip();
    assert_eq!((ids.len(), tokens.len()), (collected, collected));
    assert_eq!(ours.error(), None);
    drop(ours);
    crate::kit::leave_nothing(world, nodes.into());
}

#[test]
fn ids_that_wait_reach_a_peer_that_is_silent_meanwhile() {
    let (mut world, nodes, ours, mut peer) = with_an_open_peer(1);
    let mut held = vec![1, 2, 3, 4];
    // All that it has, thrice, at once: the third time there are none for it yet.
    for _ in 0..3 {
        peer.retire(&mut world, &held);
        world.run_for(ms(20));
        held = peer.read(&mut world);
    }
    assert!(held.len() < 4, "{held:?}");
    world.run_for(secs(1));
    held.extend(peer.read(&mut world));
    assert_eq!(held.len(), 4);
    drop(ours);
    crate::kit::leave_nothing(world, nodes.into());
}

#[test]
fn a_peer_that_retires_an_id_before_it_has_it_gains_nothing() {
    let (mut world, nodes, ours, mut peer) = with_an_open_peer(1);
    peer.retire(&mut world, &[1, 2, 3, 4]);
    for _ in 0..5_000 {
        world.run_for(ms(1));
        if let Some(newest) = peer.read(&mut world).last() {
            // quinn-proto takes that of the next one, though it was not sent yet.
            peer.retire(&mut world, &[newest - 1, *newest, newest + 1]);
        }
    }
    let collected = peer.collected.len();
    assert!((40..=60).contains(&collected), "{collected}");
    let sequences = peer.collected.keys().copied();
    assert!(sequences.eq(5..5 + collected as u64));
    assert_eq!(ours.error(), None);
    drop(ours);
    crate::kit::leave_nothing(world, nodes.into());
}

#[test]
fn invented_ids_draw_no_stateless_reset() {
    let mut pair = Pair::new(1);
    let (ours, theirs) = pair.connect();
    let mut dice = pair.world.dice();
    let from = pair.world.raw_address();
    for _ in 0..2_000 {
        let mut packet = dice.bytes::<60>();
        packet[0] = packet[0] & 0x3f | 0x40;
        pair.world.inject(from, pair.listener.local_addr(), &packet);
        pair.world.run_for(ms(30));
    }
    assert!(pair.world.received(from).is_empty());
    pair.world
        .block_on(crate::kit::a_byte_crosses(&ours, &theirs));
    drop((ours, theirs));
    pair.leave_nothing();
}
