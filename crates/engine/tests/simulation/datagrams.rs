//! Single datagrams that no engine of ours would send.

use std::net::SocketAddr;

use libp2p_quic_engine::{
    CloseKind, Config,
    simulation::{Conditions, Dice, World, operations},
};
use ring::aead;

use crate::{
    initial::Forge,
    kit::{Pair, a_byte_crosses, each_seed, leave_nothing, ms, pattern, secs},
};

/// A first packet of a version that nobody speaks.
fn unknown_version(len: usize) -> Vec<u8> {
    let mut packet = vec![0xc0, 0x0a, 0x0a, 0x0a, 0x1a, 8];
    packet.extend_from_slice(b"destinat");
    packet.push(4);
    packet.extend_from_slice(b"from");
    packet.resize(len, 0);
    packet
}

#[test]
fn an_unknown_version_is_answered_with_ours() {
    let mut pair = Pair::new(1);
    let sender = pair.world.raw_address();
    let to = pair.listener.local_addr();
    pair.world.inject(sender, to, &unknown_version(1200));
    pair.world.run_for(secs(1));
    let answers = pair.world.received(sender);
    let [(from, answer)] = &answers[..] else {
        panic!("{} answers", answers.len());
    };
    // RFC 9000 section 17.2.1: version 0, the ids exchanged, then the versions.
    assert_eq!(*from, to);
    assert_eq!(answer[0] & 0x80, 0x80);
    assert_eq!(answer[1..5], [0; 4]);
    assert_eq!(&answer[5..10], b"\x04from");
    assert_eq!(&answer[10..19], b"\x08destinat");
    let versions: Vec<_> = answer[19..].chunks(4).collect();
    assert!(versions.contains(&&[0, 0, 0, 1][..]));
    // One that is too small for a first packet is not answered (section 6.1).
    pair.world.inject(sender, to, &unknown_version(1199));
    pair.world.run_for(secs(1));
    assert!(pair.world.received(sender).is_empty());
    pair.leave_nothing();
}

#[test]
fn what_cannot_be_answered_is_dropped_and_counted() {
    let mut pair = Pair::new(1);
    let to = pair.listener.local_addr();
    let sources = [
        "10.9.9.9:0",
        "0.0.0.0:7",
        "0.1.2.3:7",
        "224.0.0.1:7",
        "255.255.255.255:7",
    ];
    let before = pair.world.datagrams();
    let forge = Forge::sound();
    for (n, source) in sources.into_iter().enumerate() {
        let source = source.parse().expect("an address");
        // Answered by Version Negotiation, and by a handshake.
        pair.world.inject(source, to, &unknown_version(1200));
        pair.world
            .inject(source, to, &forge.whole(&[n as u8; 8], b""));
    }
    pair.world.run_for(secs(1));
    assert_eq!(pair.world.datagrams(), before, "nothing was sent");
    let counted = pair.listener.statistics();
    assert_eq!(counted.datagrams_unanswerable, 2 * sources.len() as u64);
    assert_eq!(counted.handshakes_started, 0);
    pair.leave_nothing();
}

/// A dial to a raw address, and the ids of its first packet: destination and source.
fn first_packet(world: &mut World, at: SocketAddr) -> (SocketAddr, Vec<u8>, Vec<u8>) {
    world.run_for(ms(10));
    let received = world.received(at);
    let (from, packet) = received.first().expect("a first packet");
    let (len, rest) = packet[5..].split_first().expect("an id");
    let (destination, rest) = rest.split_at(usize::from(*len));
    let (len, rest) = rest.split_first().expect("an id");
    (
        *from,
        destination.to_vec(),
        rest[..usize::from(*len)].to_vec(),
    )
}

#[test]
fn a_peer_without_our_version_ends_the_dial() {
    let mut world = World::new(1);
    let client = world.node(Config::default());
    let peer = world.raw_address();
    let ours = client.connect(peer, None).expect("a dial");
    let (from, destination, source) = first_packet(&mut world, peer);
    let mut answer = vec![0x80, 0, 0, 0, 0, source.len() as u8];
    answer.extend_from_slice(&source);
    answer.push(destination.len() as u8);
    answer.extend_from_slice(&destination);
    answer.extend_from_slice(&[0x0a, 0x0a, 0x0a, 0x1a]);
    world.inject(peer, from, &answer);
    let error = world.block_on(operations::closed(&ours));
    assert_eq!(error.kind, CloseKind::Version);
    drop(ours);
    leave_nothing(world, vec![client]);
}

/// A Retry packet (RFC 9000 section 17.2.5) with its tag (RFC 9001 section 5.8).
fn retry(original: &[u8], to: &[u8], token: &[u8]) -> Vec<u8> {
    const KEY: [u8; 16] = [
        0xbe, 0x0c, 0x69, 0x0b, 0x9f, 0x66, 0x57, 0x5a, 0x1d, 0x76, 0x6b, 0x54, 0xe3, 0x68, 0xc8,
        0x4e,
    ];
    const NONCE: [u8; 12] = [
        0x46, 0x15, 0x99, 0xd3, 0x5d, 0x63, 0x2b, 0xf2, 0x23, 0x98, 0x25, 0xbb,
    ];
    let mut packet = vec![0xf0, 0, 0, 0, 1, to.len() as u8];
    packet.extend_from_slice(to);
    packet.extend_from_slice(b"\x08newplace");
    packet.extend_from_slice(token);
    let mut pseudo = vec![original.len() as u8];
    pseudo.extend_from_slice(original);
    pseudo.extend_from_slice(&packet);
    let key = aead::UnboundKey::new(&aead::AES_128_GCM, &KEY).expect("a key");
    let tag = aead::LessSafeKey::new(key)
        .seal_in_place_separate_tag(
            aead::Nonce::assume_unique_for_key(NONCE),
            aead::Aad::from(&pseudo),
            &mut [],
        )
        .expect("a tag");
    packet.extend_from_slice(tag.as_ref());
    packet
}

#[test]
fn a_retry_with_a_usable_token_is_followed() {
    let mut world = World::new(1);
    let client = world.node(Config::default());
    let peer = world.raw_address();
    let ours = client.connect(peer, None).expect("a dial");
    let (from, destination, source) = first_packet(&mut world, peer);
    world.inject(peer, from, &retry(&destination, &source, b"a token"));
    let (_, next, _) = first_packet(&mut world, peer);
    assert_eq!(next, b"newplace");
    drop(ours);
    leave_nothing(world, vec![client]);
}

#[test]
fn a_retry_token_too_large_for_a_packet_ends_the_dial() {
    // quinn-proto kills the connection while it makes the packet, and says so only then.
    for len in [1100, 1160, 1180, 1200, 1400, 1450] {
        let mut world = World::new(1);
        let client = world.node(Config::default());
        let peer = world.raw_address();
        let ours = client.connect(peer, None).expect("a dial");
        let (from, destination, source) = first_packet(&mut world, peer);
        let token = vec![7; len];
        world.inject(peer, from, &retry(&destination, &source, &token));
        let error = world.block_on(operations::closed(&ours));
        assert!(world.now() <= secs(11), "{len}: {error}");
        if len >= 1200 {
            // At once: no timer may have to come and look.
            assert_eq!(world.now(), ms(15), "{len}: {error}");
        }
        drop(ours);
        leave_nothing(world, vec![client]);
    }
}

#[test]
fn nonsense_is_ignored() {
    each_seed("datagrams::nonsense_is_ignored", 40, |seed| {
        let mut pair = Pair::new(seed);
        let (ours, theirs) = pair.connect();
        let to = pair.listener.local_addr();
        let sender = pair.world.raw_address();
        let mut dice = Dice::new(seed);
        // From the peer's own address: what a neighbor on the path could write.
        for sender in [sender, theirs.remote_addr()] {
            for len in [0, 1, 2, 5, 7, 20, 21, 22, 50, 1200, 1500, 65_000] {
                for first in [0x00, 0x40, 0x80, 0xc0, 0xd0, 0xe0, 0xf0, 0xff] {
                    let mut data = pattern(dice.roll(), len);
                    if let Some(byte) = data.first_mut() {
                        *byte = first;
                    }
                    if len >= 5 && dice.chance(0.7) {
                        data[1..5].copy_from_slice(&[0, 0, 0, 1]);
                    }
                    pair.world.inject(sender, to, &data);
                }
            }
        }
        pair.world.run_for(secs(15));
        pair.world.block_on(a_byte_crosses(&ours, &theirs));
        drop((ours, theirs));
        pair.leave_nothing();
    });
}

#[test]
fn a_replayed_conversation_changes_nothing() {
    let mut pair = Pair::new(1);
    pair.world.record();
    let (ours, theirs) = pair.connect();
    let sent = pair.world.recorded();
    pair.world.run_for(secs(1));
    for datagram in &sent {
        pair.world
            .inject(datagram.from, datagram.to, &datagram.data);
    }
    pair.world.run_for(secs(1));
    assert_eq!((ours.error(), theirs.error()), (None, None));
    pair.world.block_on(a_byte_crosses(&ours, &theirs));
    drop((ours, theirs));
    pair.leave_nothing();
}

#[test]
fn answers_to_senders_do_not_disturb_a_transfer() {
    each_seed(
        "datagrams::answers_to_senders_do_not_disturb_a_transfer",
        20,
        |seed| {
            let mut pair = Pair::new(seed);
            let (ours, theirs) = pair.connect();
            let sender = pair.world.raw_address();
            let to = pair.listener.local_addr();
            pair.world.link(Conditions {
                blocked: 0.4,
                ..Conditions::default()
            });
            let clock = pair.world.clock();
            let sent = pattern(seed, 400_000);
            // The server sends, so that its answers meet datagrams that its socket refused.
            let writer = pair.world.spawn({
                let (theirs, sent) = (theirs.clone(), sent.clone());
                async move {
                    let b = operations::open(&theirs).await.expect("a stream");
                    operations::write_all(&b, &sent).await.expect("written");
                    b.finish();
                    operations::finished(&b).await.expect("delivered");
                }
            });
            let reader = pair.world.spawn({
                let ours = ours.clone();
                async move {
                    let a = operations::accept_stream(&ours).await.expect("a stream");
                    operations::read_to_end(&a).await.expect("all bytes")
                }
            });
            for _ in 0..200 {
                pair.world.inject(sender, to, &unknown_version(1200));
                pair.world.block_on(clock.sleep(ms(1)));
            }
            assert!(pair.world.block_on(reader) == sent);
            pair.world.block_on(writer);
            assert_eq!(theirs.statistics().packets_lost, 0);
            assert!(!pair.world.received(sender).is_empty());
            drop((ours, theirs));
            pair.leave_nothing();
        },
    );
}
