//! Attackers: what hosts without keys and peers may send, what state it costs, and that a good
//! peer is served meanwhile. Invariants only; what it costs in time is measured by `make flood`.

use std::time::Duration;

use libp2p_quic_engine::{
    CloseKind, Config, Connection, Party, Stream,
    simulation::{Census, Conditions, Dice, World, operations},
};

use crate::{
    initial::Forge,
    kit::{Pair, a_byte_crosses, config, each_seed, is_empty, join, ms, quiet, secs},
};

fn census(pair: &Pair) -> Census {
    pair.world.census(&pair.server).expect("running")
}

/// Connection ids that nobody has used yet.
fn ids(seed: u64) -> impl FnMut() -> [u8; 8] {
    let mut dice = Dice::new(seed);
    move || dice.bytes()
}

#[test]
fn forged_dialers_take_a_part_of_the_places_and_a_good_peer_connects() {
    let test = "attackers::forged_dialers_take_a_part_of_the_places_and_a_good_peer_connects";
    each_seed(test, 10, |seed| {
        let few = config(|c| {
            c.max_handshakes = 40;
            c.retry_above = Some(10);
        });
        let mut pair = Pair::with(seed, few, Config::default());
        let (forge, mut id) = (Forge::sound(), ids(seed));
        let to = pair.listener.local_addr();
        let mut most = Census::default();
        for n in 0..400u16 {
            // A port for each, on a thousand addresses.
            let from = ([10, 7, (n % 4) as u8, (n % 250) as u8], 1000 + n).into();
            pair.world.inject(from, to, &forge.whole(&id(), b""));
            pair.world.run_for(ms(1));
            let now = census(&pair);
            most.inbound_handshakes = most.inbound_handshakes.max(now.inbound_handshakes);
            most.quic_connections = most.quic_connections.max(now.quic_connections);
        }
        pair.world.run_for(ms(10));
        assert_eq!(most.inbound_handshakes, 10);
        assert_eq!(most.quic_connections, 10);
        assert_eq!(pair.listener.statistics().retries_sent, 390);
        let began = pair.world.now();
        let (ours, theirs) = pair.connect();
        // A Retry is one round trip more than the handshake's three ways.
        assert_eq!(pair.world.now() - began, ms(25));
        pair.world.block_on(a_byte_crosses(&ours, &theirs));
        drop((ours, theirs));
        pair.leave_nothing();
    });
}

#[test]
fn dialers_that_fail_at_once_count_until_they_are_forgotten() {
    let few = config(|c| c.retry_above = Some(10));
    let mut pair = Pair::with(1, few, Config::default());
    // An application protocol that nobody serves, said in two packets: the first begins a
    // handshake, and the second makes it fail.
    let (forge, mut id) = (Forge::saying(b"h3", &[]), ids(1));
    let to = pair.listener.local_addr();
    let mut most = 0;
    for n in 0..300u16 {
        let (from, id) = (([10, 7, 0, (n % 250) as u8], 1000 + n).into(), id());
        pair.world
            .inject(from, to, &forge.initial(&id, b"", 0, 0..100));
        pair.world
            .inject(from, to, &forge.initial(&id, b"", 1, 100..forge.hello()));
        pair.world.run_for(ms(1));
        most = most.max(census(&pair).quic_connections);
    }
    assert_eq!(most, 10, "connections, dead or alive");
    assert_eq!(pair.listener.statistics().connections_accepted, 0);
    pair.leave_nothing();
}

#[test]
fn half_open_handshakes_are_over_in_time() {
    let mut pair = Pair::with(
        1,
        config(|c| c.handshake_timeout = secs(3)),
        Config::default(),
    );
    let (forge, mut id) = (Forge::sound(), ids(1));
    let to = pair.listener.local_addr();
    for n in 0..200u16 {
        let from = ([10, 7, 0, (n % 250) as u8], 1000 + n).into();
        let part = if n % 2 == 0 { 0..50 } else { 0..forge.hello() };
        pair.world
            .inject(from, to, &forge.initial(&id(), b"", 0, part));
    }
    pair.world.run_for(ms(100));
    assert_eq!(census(&pair).inbound_handshakes, 200);
    let server = &pair.server;
    assert!(
        pair.world
            .run_until(secs(10), |world| is_empty(world, server))
    );
    assert_eq!(pair.listener.statistics().handshakes_failed, 200);
    pair.leave_nothing();
}

#[test]
fn absurd_transport_parameters_end_a_handshake_and_nothing_else() {
    let mut pair = Pair::new(1);
    let (ours, theirs) = pair.connect();
    let to = pair.listener.local_addr();
    let mut id = ids(1);
    let largest = (1 << 62) - 1;
    let absurd: [&[(u64, u64)]; 8] = [
        // Beyond what RFC 9000 section 18.2 allows: ack_delay_exponent, max_ack_delay,
        // max_udp_payload_size, streams, active_connection_id_limit.
        &[(0x0a, 21)],
        &[(0x0b, 1 << 14)],
        &[(0x03, 1199)],
        &[(0x08, (1 << 60) + 1)],
        &[(0x0e, 1)],
        // The same one twice, and one that only a server may send.
        &[(0x04, 1), (0x04, 2)],
        &[(0x02, 5)],
        // All at their largest, which is allowed where they only say what the peer takes.
        &[
            (0x01, largest),
            (0x03, largest),
            (0x04, largest),
            (0x06, largest),
            (0x08, 1 << 60),
        ],
    ];
    for parameters in absurd {
        let packet = Forge::saying(b"libp2p", parameters).whole(&id(), b"");
        let from = pair.world.raw_address();
        pair.world.inject(from, to, &packet);
        pair.world.run_for(ms(50));
        // A close, or the server's flight: the packet was not dropped unread.
        assert!(!pair.world.received(from).is_empty(), "{parameters:?}");
    }
    assert!(census(&pair).quic_connections <= 2);
    pair.world.block_on(a_byte_crosses(&ours, &theirs));
    drop((ours, theirs));
    pair.leave_nothing();
}

#[test]
fn tokens_of_nobody_are_no_tokens() {
    let few = config(|c| c.retry_above = Some(0));
    let mut pair = Pair::with(1, few, Config::default());
    let (forge, mut id) = (Forge::sound(), ids(1));
    let to = pair.listener.local_addr();
    for length in [1, 15, 16, 17, 60, 100, 500] {
        let from = pair.world.raw_address();
        let packet = forge.whole(&id(), &vec![length as u8; length]);
        pair.world.inject(from, to, &packet);
        pair.world.run_for(ms(20));
        let answers = pair.world.received(from);
        let [(_, answer)] = &answers[..] else {
            panic!("one answer each: {}", answers.len());
        };
        assert_eq!(answer[0] & 0xf0, 0xf0, "a Retry");
        assert!(answer.len() < packet.len(), "no amplifier");
    }
    assert_eq!(census(&pair).quic_connections, 0);
    pair.leave_nothing();
}

/// Streams of a hostile peer, and what it wrote on each before it could write no more.
async fn fill(peer: &Connection, streams: usize, most: usize) -> Vec<(Stream, usize)> {
    let mut filled = Vec::new();
    let block = vec![1; 16 * 1024];
    for _ in 0..streams {
        let stream = operations::open(peer).await.expect("a stream");
        // QUIC tells of a stream with its first byte.
        operations::write_all(&stream, b"!").await.expect("written");
        filled.push((stream, 1));
    }
    for (stream, written) in &mut filled {
        let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
        while *written < most {
            let part = &block[..block.len().min(most - *written)];
            match stream.poll_write(&mut cx, part) {
                std::task::Poll::Ready(n) => *written += n.expect("written"),
                std::task::Poll::Pending => break,
            }
        }
    }
    filled
}

/// Bytes that a connection has taken from the wire for streams, about.
fn received(connection: &Connection) -> u64 {
    connection.statistics().bytes_received
}

#[test]
fn peers_that_fill_their_windows_share_a_budget() {
    const BUDGET: u64 = 4 * 1024 * 1024;
    const FIRST: u64 = 2 * 32 * 1024;
    let server = config(|c| c.receive_budget = BUDGET);
    let client = config(|c| c.write_buffer = 1 << 20);
    let mut pair = Pair::with(1, server, client);
    // A good peer that has shown that its bytes are read.
    let good = pair.connect();
    move_bytes(&mut pair, &good, 4_000_000);
    let before = census(&pair).promised;
    assert!(before > 900_000, "{before}");
    let mut hostile = Vec::new();
    for _ in 0..20 {
        let (theirs, ours) = pair.connect();
        let filled = pair.world.block_on(fill(&theirs, 8, 1 << 20));
        pair.world.run_for(secs(3));
        assert!(census(&pair).promised <= BUDGET + 21 * FIRST);
        hostile.push((theirs, ours, filled));
    }
    // What arrived is what was promised: the windows, and some overhead.
    let taken: u64 = hostile.iter().map(|(_, ours, _)| received(ours)).sum();
    assert!(taken < BUDGET + 20 * FIRST, "{taken}");
    // Nobody reads what they sent, and the good peer does not feel it.
    let began = pair.world.now();
    move_bytes(&mut pair, &good, 4_000_000);
    let time = pair.world.now() - began;
    assert!(time < secs(3), "{time:?}");
    // One that comes now is served, slowly.
    let late = pair.connect();
    move_bytes(&mut pair, &late, 500_000);
    drop((good, late, hostile));
    pair.leave_nothing();
}

#[test]
fn peers_that_take_nothing_share_a_budget() {
    const BUDGET: u64 = 4 * 1024 * 1024;
    const FIRST: u64 = 64 * 1024;
    const LEAST: u64 = 4096;
    let server = config(|c| c.send_budget = BUDGET);
    let mut pair = Pair::with(1, server, config(|c| c.receive_budget = 65_536));
    let good_node = pair.world.node(Config::default());
    let (theirs, ours) = join(&mut pair.world, &good_node, &pair.server, &pair.listener);
    let good = (ours, theirs);
    let mut hostile = Vec::new();
    for n in 1..=20 {
        let (theirs, ours) = pair.connect();
        // The program would give each of them a megabyte on each of ten streams.
        let given = pair.world.block_on(fill(&ours, 10, 1 << 20));
        pair.world.run_for(ms(100));
        hostile.push((theirs, ours, given));
        let held = census(&pair).unacked;
        assert!(held <= BUDGET + n * (FIRST + 10 * LEAST), "{n}: {held}");
    }
    let held = census(&pair).unacked;
    assert!(held > BUDGET / 2, "{held}: there was room for the first");
    // Nobody reads that, and the good peer does not feel it.
    let began = pair.world.now();
    move_bytes(&mut pair, &good, 4_000_000);
    let time = pair.world.now() - began;
    assert!(time < secs(3), "{time:?}");
    drop((good, hostile, good_node));
    pair.leave_nothing();
}

/// Move bytes over a new stream, to a reader who keeps up.
fn move_bytes(pair: &mut Pair, (from, to): &(Connection, Connection), len: usize) {
    let data = crate::kit::pattern(len as u64, len);
    let (from, to) = (from.clone(), to.clone());
    let expected = data.clone();
    let writer = pair.world.spawn(async move {
        let stream = operations::open(&from).await.expect("a stream");
        operations::write_all(&stream, &data)
            .await
            .expect("written");
        stream.finish();
        operations::finished(&stream).await.expect("an end");
    });
    let read = pair.world.block_on(async {
        let stream = operations::accept_stream(&to).await.expect("a stream");
        operations::read_to_end(&stream).await.expect("all")
    });
    pair.world.block_on(writer);
    assert!(read == expected, "bytes arrived wrong");
}

#[test]
fn streams_that_nobody_reads_do_not_hold_up_one_that_is_read() {
    let mut pair = Pair::with(1, quiet(|_| ()), quiet(|_| ()));
    let (theirs, ours) = pair.connect();
    // More than the first window, on streams that the program has not looked at yet.
    let filled = pair.world.block_on(fill(&theirs, 30, 30_000));
    assert!(filled.iter().all(|(_, written)| *written == 30_000));
    pair.world.run_for(secs(2));
    let reading = pair.world.block_on(async {
        let mut late = Vec::new();
        for _ in 0..30 {
            late.push(operations::accept_stream(&ours).await.expect("a stream"));
        }
        late
    });
    pair.world.block_on(async {
        for (stream, _) in &filled {
            stream.finish();
        }
        // The last first.
        for stream in reading.iter().rev() {
            let all = operations::read_to_end(stream).await.expect("all");
            assert_eq!(all.len(), 30_000);
        }
    });
    drop((ours, theirs, filled, reading));
    pair.leave_nothing();
}

#[test]
fn under_pressure_streams_wait_for_each_other_and_none_is_forgotten() {
    // No window ever grows: what is read on one stream makes room for another.
    let tight = quiet(|c| c.receive_budget = 65_536);
    each_seed(
        "attackers::under_pressure_streams_wait_for_each_other_and_none_is_forgotten",
        20,
        |seed| {
            let mut pair = Pair::with(seed, tight.clone(), quiet(|_| ()));
            let (theirs, ours) = pair.connect();
            let filled = pair.world.block_on(fill(&theirs, 12, 40_000));
            for (stream, _) in &filled {
                stream.finish();
            }
            pair.world.run_for(secs(1));
            assert_eq!(census(&pair).promised, 65_536);
            // Every reader at once: the order is the world's.
            let readers: Vec<_> = (0..12)
                .map(|_| {
                    let ours = ours.clone();
                    pair.world.spawn(async move {
                        let stream = operations::accept_stream(&ours).await.expect("a stream");
                        operations::read_to_end(&stream).await.expect("all").len()
                    })
                })
                .collect();
            for reader in readers {
                assert_eq!(pair.world.block_on(reader), 40_000);
            }
            drop((ours, theirs, filled));
            pair.leave_nothing();
        },
    );
}

#[test]
fn a_stream_that_waits_gets_the_room_that_the_reader_of_another_left() {
    let tight = quiet(|c| c.receive_budget = 65_536);
    each_seed(
        "attackers::a_stream_that_waits_gets_the_room_that_the_reader_of_another_left",
        20,
        |seed| {
            let mut pair = Pair::with(seed, tight.clone(), quiet(|_| ()));
            let (theirs, ours) = pair.connect();
            let large = pair.world.block_on(fill(&theirs, 1, 40_000));
            large[0].0.finish();
            pair.world.run_for(secs(1));
            let small = pair.world.block_on(fill(&theirs, 1, 1000));
            small[0].0.finish();
            pair.world.run_for(secs(1));
            pair.world.block_on(async {
                let first = operations::accept_stream(&ours).await.expect("a stream");
                let second = operations::accept_stream(&ours).await.expect("a stream");
                // Less than half of the allowance is free then.
                let mut left = 12_000;
                while left > 0 {
                    left -= operations::read(&first, left).await.expect("bytes").len();
                }
                // Before the rest of the first.
                let all = operations::read_to_end(&second).await.expect("all");
                assert_eq!(all.len(), 1000);
                let rest = operations::read_to_end(&first).await.expect("all");
                assert_eq!(rest.len(), 28_000);
            });
            drop((ours, theirs, large, small));
            pair.leave_nothing();
        },
    );
}

#[test]
fn bytes_sent_one_by_one_cost_what_keeping_them_costs() {
    let mut pair = Pair::with(1, quiet(|_| ()), quiet(|_| ()));
    let (theirs, ours) = pair.connect();
    let stream = pair.world.block_on(async {
        let stream = operations::open(&theirs).await.expect("a stream");
        operations::write_all(&stream, b"x").await.expect("written");
        stream
    });
    for _ in 0..3_000 {
        pair.world
            .block_on(operations::write_all(&stream, b"x"))
            .expect("written");
        pair.world.run_for(ms(1));
    }
    pair.world.run_for(secs(2));
    // 3001 bytes in as many packets stand for 195 KB in the account of the connection, whose
    // window had to grow for them, though the peer was promised far more bytes.
    assert!(census(&pair).promised >= 2 * 262_144);
    let got = pair.world.block_on(async {
        let end = operations::accept_stream(&ours).await.expect("a stream");
        stream.finish();
        operations::read_to_end(&end).await.expect("all")
    });
    assert_eq!(got.len(), 3_001);
    drop((ours, theirs, stream));
    pair.leave_nothing();
}

#[test]
fn a_storm_of_resets_leaves_nothing_and_serves_the_next() {
    let mut pair = Pair::with(
        1,
        config(|c| c.max_incoming_streams = 64),
        Config::default(),
    );
    let (theirs, ours) = pair.connect();
    let storm = pair.world.spawn({
        let theirs = theirs.clone();
        async move {
            for _ in 0..2_000 {
                let stream = operations::open(&theirs).await.expect("a stream");
                operations::write_all(&stream, b"x").await.expect("written");
                stream.reset(7);
                stream.stop(7);
            }
        }
    });
    let mut most = 0;
    for _ in 0..100 {
        pair.world.run_for(ms(10));
        most = most.max(census(&pair).streams);
    }
    // Those allowed, and our own that are opened ahead of need: nobody accepts, so that the
    // storm has to wait.
    assert!(most <= 64 + 8, "{most}");
    // The next connection is served; the earlier ones have ended with an error.
    pair.world.spawn({
        let theirs = theirs.clone();
        async move {
            storm.await;
            let stream = operations::open(&theirs).await.expect("a stream");
            operations::write_all(&stream, b"good")
                .await
                .expect("written");
            stream.finish();
            operations::finished(&stream).await.expect("delivered");
        }
    });
    let before = pair.world.block_on(async {
        let mut before = 0;
        loop {
            let next = operations::accept_stream(&ours).await.expect("a stream");
            if operations::read_to_end(&next)
                .await
                .is_ok_and(|all| all == b"good")
            {
                return before;
            }
            before += 1;
        }
    });
    assert_eq!(before, 2_000);
    drop((ours, theirs));
    pair.leave_nothing();
}

#[test]
fn a_peer_that_moves_all_the_time_costs_one_connection() {
    let mut pair = Pair::new(1);
    let good_node = pair.world.node(Config::default());
    let (theirs, ours) = pair.connect();
    let good = join(&mut pair.world, &good_node, &pair.server, &pair.listener);
    for _ in 0..200 {
        pair.world.rebind(&pair.client);
        pair.world.block_on(async {
            let stream = operations::open(&theirs).await.expect("a stream");
            let _ = operations::write_all(&stream, b"x").await;
        });
        pair.world.run_for(ms(10));
    }
    let now = census(&pair);
    assert!(
        now.connections <= 2 && now.names <= 2 && now.addresses <= 2,
        "{now:?}"
    );
    pair.world.block_on(a_byte_crosses(&good.0, &good.1));
    drop((theirs, ours, good, good_node));
    pair.leave_nothing();
}

#[test]
fn a_peer_that_moves_with_each_packet_is_followed_so_often() {
    let mut pair = Pair::new(1);
    pair.world.link(Conditions {
        latency: Duration::from_micros(100),
        ..Conditions::default()
    });
    let (theirs, ours) = pair.connect();
    let stream = pair
        .world
        .block_on(operations::open(&theirs))
        .expect("a stream");
    let before = ours.statistics().datagrams_sent;
    for _ in 0..2_000 {
        pair.world.rebind(&pair.client);
        let sent = pair.world.block_on(operations::write_all(&stream, b"x"));
        sent.expect("written");
        pair.world.run_for(ms(1));
    }
    // Those at once and those in two seconds, each with challenges and an acknowledgment; it was
    // six thousand.
    let sent = ours.statistics().datagrams_sent - before;
    assert!(sent < 4 * (64 + 40), "{sent}");
    // As soon as it stands still it is heard again, and nothing was lost.
    stream.finish();
    let all = pair.world.block_on(async {
        let stream = operations::accept_stream(&ours).await.expect("a stream");
        operations::read_to_end(&stream).await.expect("all of it")
    });
    assert_eq!(all, vec![b'x'; 2_000]);
    drop(stream);
    drop((theirs, ours));
    pair.leave_nothing();
}

#[test]
fn a_peer_that_asks_for_much_and_takes_nothing_is_lost_in_time() {
    let server = quiet(|c| c.idle_timeout = secs(5));
    let mut pair = Pair::with(1, server, Config::default());
    let (theirs, ours) = pair.connect();
    // It acknowledged the handshake and is silent from now on.
    let sent = pair.world.block_on(fill(&ours, 4, 1 << 20));
    let held: usize = sent.iter().map(|(_, written)| written).sum();
    // It would write a megabyte on each of four streams.
    assert!(held < 4 << 20, "the program is not held back: {held}");
    pair.world.crash(&pair.client);
    let error = pair.world.block_on(operations::closed(&ours));
    assert_eq!(
        (error.by, error.kind),
        (Party::Network, CloseKind::IdleTimeout)
    );
    drop((theirs, ours, sent));
    let Pair {
        world,
        server,
        client,
        listener,
    } = pair;
    drop(client);
    drop(listener);
    crate::kit::leave_nothing(world, vec![server]);
}

#[test]
fn nonsense_between_packets_of_a_handshake_is_ignored() {
    each_seed(
        "attackers::nonsense_between_packets_of_a_handshake_is_ignored",
        30,
        |seed| {
            let mut pair = Pair::new(seed);
            let mut dice = pair.world.dice();
            let to = pair.listener.local_addr();
            let dial = pair.client.connect(to, None).expect("a dial");
            let from = pair.client.v4(10_001);
            for _ in 0..200 {
                let mut junk = vec![0; 1 + dice.below(1400) as usize];
                for byte in &mut junk {
                    *byte = dice.roll() as u8;
                }
                pair.world.inject(from, to, &junk);
                step(&mut pair.world);
            }
            pair.world
                .block_on(operations::connected(&dial))
                .expect("a connection");
            assert!(census(&pair).quic_connections <= 2);
            drop(dial);
            pair.leave_nothing();
        },
    );
}

fn step(world: &mut World) {
    world.run_for(std::time::Duration::from_micros(100));
}
