//! Admission control: handshakes in flight, connections of one address, denied addresses, and
//! Retry tokens that outlive the process that issued them.

use std::time::Duration;

use libp2p_quic_engine::{
    CloseKind, Config, Party, Prefix,
    simulation::{Conditions, Node, World, operations},
};

use crate::{
    initial::Forge,
    kit::{
        Pair, config, each_seed, essence, is_empty, join, leave_nothing, ms, pattern, secs, stream,
    },
};

/// The first byte of a Retry packet of version 1, as far as it is fixed (RFC 9000 section 17.2.5).
fn is_retry(data: &[u8]) -> bool {
    data[0] & 0xf0 == 0xf0 && data[1..5] == [0, 0, 0, 1]
}

/// Whether it begins with an Initial packet that carries a token.
fn has_token(data: &[u8]) -> bool {
    let destination = usize::from(data[5]);
    let source = usize::from(data[6 + destination]);
    data[0] & 0xf0 == 0xc0 && data[7 + destination + source] != 0
}

#[test]
fn handshakes_beyond_the_limit_wait_and_arrive_in_the_end() {
    let test = "admission::handshakes_beyond_the_limit_wait_and_arrive_in_the_end";
    each_seed(test, 20, |seed| {
        let few = config(|c| {
            c.max_handshakes = 4;
            c.retry_above = Some(1);
        });
        let mut pair = Pair::with(seed, few, config(|c| c.handshake_timeout = secs(60)));
        let to = pair.listener.local_addr();
        let dials: Vec<_> = (0..12)
            .map(|_| pair.client.connect(to, None).expect("a dial"))
            .collect();
        let server = &pair.server;
        let mut most = 0;
        let is_done = pair.world.run_until(secs(60), |world| {
            most = most.max(world.census(server).expect("running").inbound_handshakes);
            dials.iter().all(|dial| dial.peer_id().is_some())
        });
        assert!(is_done);
        assert_eq!(most, 4, "as many as allowed, and no more");
        pair.world.run_for(ms(100));
        assert_eq!(pair.listener.statistics().connections_accepted, 12);
        assert_eq!(pair.listener.statistics().connections_refused, 0);
        drop(dials);
        pair.leave_nothing();
    });
}

#[test]
fn one_address_has_its_share_of_handshakes() {
    let few = config(|c| c.max_handshakes_per_address = 2);
    let mut pair = Pair::with(1, few, config(|c| c.handshake_timeout = secs(60)));
    let other = pair.world.node(Config::default());
    let to = pair.listener.local_addr();
    let dials: Vec<_> = (0..9)
        .map(|_| pair.client.connect(to, None).expect("a dial"))
        .collect();
    // A peer at another address need not validate it and does not wait.
    let began = pair.world.now();
    let (ours, theirs) = join(&mut pair.world, &other, &pair.server, &pair.listener);
    assert_eq!(pair.world.now() - began, ms(15));
    let is_done = pair.world.run_until(secs(60), |_| {
        dials.iter().all(|dial| dial.peer_id().is_some())
    });
    assert!(is_done);
    // All but the first two of that address had to validate it.
    assert!(pair.listener.statistics().retries_sent >= 7);
    drop((dials, ours, theirs, other));
    pair.leave_nothing();
}

#[test]
fn one_address_has_its_share_of_connections() {
    let few = config(|c| c.max_connections_per_address = Some(2));
    let mut pair = Pair::with(1, few, Config::default());
    let other = pair.world.node(Config::default());
    let (a, b) = (pair.connect(), pair.connect());
    let to = pair.listener.local_addr();
    let error = pair
        .world
        .block_on(operations::connect(&pair.client, to, None))
        .expect_err("a refusal");
    // RFC 9000 section 20.1, CONNECTION_REFUSED: before the handshake QUIC has no other code.
    assert_eq!(
        essence(&error),
        (Party::Peer, CloseKind::Refused, Some(0x2))
    );
    let c = join(&mut pair.world, &other, &pair.server, &pair.listener);
    assert_eq!(
        pair.world.census(&pair.server).expect("running").addresses,
        2
    );
    // Both families of one machine are two addresses.
    let six = pair.server.listen(pair.server.v6(4001)).expect("a port");
    let d = join(&mut pair.world, &pair.client, &pair.server, &six);
    drop(a);
    pair.world.run_for(secs(5));
    let e = pair.connect();
    drop((b, c, d, e, six, other));
    pair.leave_nothing();
}

/// Dial and see the refusal, or connect.
fn connects(world: &mut World, client: &Node, to: std::net::SocketAddr) -> bool {
    match world.block_on(operations::connect(client, to, None)) {
        Ok(_) => true,
        Err(error) => {
            assert_eq!(
                essence(&error),
                (Party::Peer, CloseKind::Refused, Some(0x2))
            );
            false
        }
    }
}

#[test]
fn a_denied_address_begins_no_handshake() {
    let mut pair = Pair::new(1);
    let other = pair.world.node(Config::default());
    let to = pair.listener.local_addr();
    let (ours, theirs) = pair.connect();
    let denied = Prefix::containing(pair.client.v4(0).ip(), 32);
    pair.server.deny([denied]);
    assert!(!connects(&mut pair.world, &pair.client, to));
    assert!(connects(&mut pair.world, &other, to));
    assert_eq!(pair.listener.statistics().handshakes_started, 2);
    // A first flight is two datagrams: each is refused, and the dial counts once.
    assert_eq!(pair.listener.statistics().connections_refused, 1);
    // Who is here stays, and we may dial whom we deny.
    assert_eq!((ours.error(), theirs.error()), (None, None));
    let listener = pair.client.listen(pair.client.v4(4001)).expect("a port");
    assert!(connects(
        &mut pair.world,
        &pair.server,
        listener.local_addr()
    ));
    pair.server.deny([]);
    assert!(connects(&mut pair.world, &pair.client, to));
    drop((ours, theirs, listener, other));
    pair.leave_nothing();
}

#[test]
fn a_validated_address_stays_valid_when_the_server_restarts() {
    let test = "admission::a_validated_address_stays_valid_when_the_server_restarts";
    each_seed(test, 10, |seed| {
        let mut world = World::new(seed);
        let wary = config(|c| c.retry_above = Some(0));
        let server = world.node(wary.clone());
        let client = world.node(Config::default());
        let listener = server.listen(server.v4(4001)).expect("a free port");
        world.record();
        let to = listener.local_addr();
        let dial = client.connect(to, Some(server.peer_id())).expect("a dial");
        let is_sent = world.run_until(secs(5), |world| {
            world.recorded().iter().any(|sent| is_retry(&sent.data))
        });
        assert!(is_sent);
        // The token is on its way; who wrote it is gone when it comes back.
        drop(listener);
        let successor = world.restart(&server, wary);
        drop(server);
        let listener = successor.listen(to).expect("a free port");
        world
            .block_on(operations::connected(&dial))
            .expect("a connection");
        // The successor believed it.
        let statistics = listener.statistics();
        assert_eq!(
            (statistics.retries_sent, statistics.handshakes_started),
            (0, 1)
        );
        drop((dial, listener));
        leave_nothing(world, vec![successor, client]);
    });
}

#[test]
fn a_retry_token_expires() {
    let mut world = World::new(1);
    let server = world.node(config(|c| c.retry_above = Some(0)));
    let client = world.node(Config::default());
    let listener = server.listen(server.v4(4001)).expect("a free port");
    world.record();
    let to = listener.local_addr();
    let dial = client.connect(to, None).expect("a dial");
    world
        .block_on(operations::connected(&dial))
        .expect("a connection");
    let sent = world.recorded();
    let with_token = sent
        .iter()
        .find(|sent| sent.to == to && has_token(&sent.data))
        .expect("an answer to the Retry");
    let (from, data) = (with_token.from, with_token.data.clone());
    drop(dial);
    assert!(world.run_until(secs(60), |world| is_empty(world, &server)));
    // From another address: RFC 9000 section 8.1.3, INVALID_TOKEN. It comes first, as the server looks
    // at no token of a packet that belongs to a connection by its id.
    let elsewhere = world.raw_address();
    world.inject(elsewhere, to, &data);
    world.run_for(ms(20));
    assert_eq!(world.received(elsewhere).len(), 1);
    assert_eq!(listener.statistics().handshakes_started, 1);
    // Repeated in time, from the same address: a handshake begins, though it leads nowhere.
    world.inject(from, to, &data);
    world.run_for(ms(100));
    let before = listener.statistics();
    assert_eq!(before.handshakes_started, 2);
    // Too late, when that handshake is over as well.
    world.run_for(secs(16));
    assert!(world.run_until(secs(60), |world| is_empty(world, &server)));
    world.inject(from, to, &data);
    world.run_for(secs(1));
    let after = listener.statistics();
    assert_eq!(after.handshakes_started, before.handshakes_started);
    assert_eq!(after.retries_sent, before.retries_sent);
    drop(listener);
    leave_nothing(world, vec![server, client]);
}

/// Retry tokens are dated by the wall clock, which somebody may set.
#[test]
fn a_shift_of_the_wall_clock_refuses_no_peer() {
    for hours in [-24_i64, 24] {
        let mut world = World::new(1);
        let server = world.node(config(|c| c.retry_above = Some(0)));
        let client = world.node(Config::default());
        let listener = server.listen(server.v4(4001)).expect("a free port");
        let to = listener.local_addr();
        let before = client.connect(to, None).expect("a dial");
        world
            .block_on(operations::connected(&before))
            .expect("a connection");
        world.shift_wall_clock(hours * 3600);
        let after = client.connect(to, None).expect("a dial");
        world
            .block_on(operations::connected(&after))
            .expect("a connection");
        // Live connections do not depend on the wall clock.
        world.run_for(secs(60));
        assert!(before.error().is_none() && after.error().is_none());
        // While a Retry token is in flight: from the future it is valid, and too old it is refused,
        // with a reason that names the party that decided.
        world.record();
        let dial = client.connect(to, None).expect("a dial");
        let is_sent = world.run_until(secs(5), |world| {
            world.recorded().iter().any(|sent| is_retry(&sent.data))
        });
        assert!(is_sent);
        world.shift_wall_clock(hours * 3600);
        match world.block_on(operations::connected(&dial)) {
            Ok(()) => assert!(hours < 0),
            Err(error) => {
                assert!(hours > 0);
                // INVALID_TOKEN (RFC 9000 section 20.1).
                assert_eq!((error.by, error.code), (Party::Peer, Some(0x0b)));
            }
        }
        drop((before, after, dial, listener));
        leave_nothing(world, vec![server, client]);
    }
}

#[test]
fn a_transfer_goes_on_while_garbage_is_followed_by_handshakes() {
    const LEN: usize = 3_000_000;
    let test = "admission::a_transfer_goes_on_while_garbage_is_followed_by_handshakes";
    each_seed(test, 10, |seed| {
        let mut pair = Pair::new(seed);
        let (ours, theirs) = pair.connect();
        let (a, b) = pair.world.block_on(stream(&ours, &theirs));
        let mut dice = pair.world.dice();
        pair.world.link(Conditions {
            latency: Duration::from_micros(20 + dice.below(1_000)),
            rate: Some(LEN as u64),
            queue: Duration::from_micros(500 + dice.below(20_000)),
            stall: Duration::from_micros(dice.below(2_000)),
            ..Conditions::default()
        });
        let (sent, wanted) = (pattern(seed, LEN), pattern(seed, LEN));
        let write = pair.world.spawn(async move {
            operations::write_all(&a, &sent).await.expect("written");
            a.finish();
            operations::finished(&a).await.expect("delivered");
        });
        let read = pair
            .world
            .spawn(async move { operations::read_to_end(&b).await.expect("all bytes") });
        let (forge, to) = (Forge::sound(), pair.listener.local_addr());
        let source = |n: u16| ([10, 7, 0, (n % 250) as u8], 1_000 + n).into();
        for _ in 0..3 {
            for n in 0..100 {
                let noise: [u8; 1_200] = dice.bytes();
                let len = 1 + dice.below(1_200) as usize;
                pair.world.inject(source(n), to, &noise[..len]);
                pair.world.run_for(Duration::from_micros(200));
            }
            // A process that computes handshakes reads nothing meanwhile.
            pair.world
                .blackout(Duration::from_micros(dice.below(400_000)));
            pair.world.leap(Duration::from_micros(dice.below(100_000)));
            for n in 0..300 {
                let packet = forge.whole(&dice.bytes::<8>(), b"");
                pair.world.inject(source(n), to, &packet);
            }
            pair.world.run_for(ms(300));
        }
        assert!(pair.world.run_until(secs(10), |_| read.is_done()));
        assert!(pair.world.block_on(read) == wanted, "wrong bytes");
        pair.world.block_on(write);
        drop((ours, theirs));
        pair.leave_nothing();
    });
}
