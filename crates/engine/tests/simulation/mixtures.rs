//! Everything at once: a random workload under random conditions ends with every byte right
//! or with the right error, in bounded time, and leaves nothing.

use libp2p_quic_engine::{
    CloseKind, Connection, ReadError, Stream, WriteError,
    simulation::{Conditions, Dice, operations},
};

use crate::kit::{Pair, both, config, each_seed, pattern, secs};

/// What the two sides of a stream agreed on: its first 16 bytes say the rest.
#[derive(Clone, Copy, Debug)]
struct Plan {
    seed: u64,
    up: usize,
    down: usize,
    ending: Ending,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Ending {
    /// Both sides finish.
    Whole,
    /// The opener resets after its bytes.
    Reset,
    /// The acceptor stops reading at once.
    Stopped,
    /// The opener drops the stream after its bytes.
    Dropped,
}

const RESET: u64 = 0x51;
const STOP: u64 = 0x52;
const CLOSE: u64 = 0x53;

impl Plan {
    fn new(dice: &mut Dice) -> Self {
        let ending = match dice.below(8) {
            0 => Ending::Reset,
            1 => Ending::Stopped,
            2 => Ending::Dropped,
            _ => Ending::Whole,
        };
        let most = [1, 3_000, 60_000][dice.below(3) as usize];
        Self {
            seed: dice.roll() >> 8,
            up: dice.below(most) as usize,
            down: dice.below(most) as usize,
            ending,
        }
    }

    fn encode(self) -> Vec<u8> {
        let head = (self.seed << 8) | self.ending as u64;
        let mut bytes = head.to_le_bytes().to_vec();
        bytes.extend_from_slice(&(self.up as u32).to_le_bytes());
        bytes.extend_from_slice(&(self.down as u32).to_le_bytes());
        bytes
    }

    fn decode(bytes: [u8; 16]) -> Self {
        let mut parts = bytes
            .chunks(4)
            .map(|part| u32::from_le_bytes(part.try_into().expect("four bytes")));
        let mut part = || u64::from(parts.next().expect("four parts"));
        let head = part() | (part() << 32);
        let ending = [
            Ending::Whole,
            Ending::Reset,
            Ending::Stopped,
            Ending::Dropped,
        ];
        Self {
            seed: head >> 8,
            up: part() as usize,
            down: part() as usize,
            ending: ending[(head & 0xff) as usize],
        }
    }
}

/// Whether this end is one that the plan, or a closed connection, allows.
fn check_read(plan: Plan, got: Result<Vec<u8>, ReadError>, expected: &[u8], may_end: bool) {
    match got {
        Ok(bytes) => assert!(bytes == expected, "{plan:?}: wrong bytes"),
        Err(ReadError::Reset(RESET)) => assert_eq!(plan.ending, Ending::Reset),
        Err(ReadError::Reset(STOP)) => assert_eq!(plan.ending, Ending::Stopped),
        // Who finds the other side abandoned, drops the stream.
        Err(ReadError::Reset(0)) => {
            assert!(matches!(plan.ending, Ending::Reset | Ending::Dropped) || may_end);
        }
        Err(ReadError::Lost(error)) => assert!(may_end, "{plan:?}: {error}"),
        Err(other) => panic!("{plan:?}: {other}"),
    }
}

fn check_write(plan: Plan, wrote: Result<(), WriteError>, may_end: bool) {
    match wrote {
        Ok(()) => {}
        Err(WriteError::Stopped(STOP)) => assert_eq!(plan.ending, Ending::Stopped),
        Err(WriteError::Stopped(0)) => {
            assert!(matches!(plan.ending, Ending::Reset | Ending::Dropped) || may_end);
        }
        Err(WriteError::Lost(error)) => assert!(may_end, "{plan:?}: {error}"),
        Err(other) => panic!("{plan:?}: {other}"),
    }
}

async fn opener(connection: Connection, plan: Plan, may_end: bool) {
    let Ok(stream) = operations::open(&connection).await else {
        assert!(may_end);
        return;
    };
    let write = async {
        let mut wrote = operations::write_all(&stream, &plan.encode()).await;
        if wrote.is_ok() {
            wrote = operations::write_all(&stream, &pattern(plan.seed, plan.up)).await;
        }
        check_write(plan, wrote, may_end);
        match plan.ending {
            Ending::Reset => stream.reset(RESET),
            Ending::Dropped => {}
            Ending::Whole | Ending::Stopped => stream.finish(),
        }
    };
    if plan.ending == Ending::Dropped {
        write.await;
        return;
    }
    let (got, ()) = both(operations::read_to_end(&stream), write).await;
    check_read(plan, got, &pattern(!plan.seed, plan.down), may_end);
    if plan.ending == Ending::Whole {
        let delivered = operations::finished(&stream).await;
        check_write(plan, delivered, may_end);
    }
}

async fn acceptor(stream: Stream, may_end: bool) {
    let mut head = Vec::new();
    while head.len() < 16 {
        match operations::read(&stream, 16 - head.len()).await {
            Ok(bytes) if !bytes.is_empty() => head.extend_from_slice(&bytes),
            // A reset may overtake the bytes before it.
            Err(ReadError::Reset(RESET | 0)) => return,
            end => {
                assert!(may_end, "{end:?}");
                return;
            }
        }
    }
    let plan = Plan::decode(head.try_into().expect("16 bytes"));
    if plan.ending == Ending::Stopped {
        stream.stop(STOP);
    }
    let write = async {
        let wrote = operations::write_all(&stream, &pattern(!plan.seed, plan.down)).await;
        check_write(plan, wrote, may_end);
        stream.finish();
    };
    let (got, ()) = both(operations::read_to_end(&stream), write).await;
    if plan.ending == Ending::Stopped {
        assert_eq!(got, Err(ReadError::Closed));
        return;
    }
    check_read(plan, got, &pattern(plan.seed, plan.up), may_end);
    if plan.ending == Ending::Whole && !may_end {
        operations::finished(&stream).await.expect("delivered");
    }
}

/// Accept streams for as long as the connection lives.
fn serve(pair: &mut Pair, connection: Connection, may_end: bool) {
    // A task may not spawn: each worker takes the next stream.
    for _ in 0..30 {
        let connection = connection.clone();
        let _worker = pair.world.spawn(async move {
            while let Ok(stream) = operations::accept_stream(&connection).await {
                acceptor(stream, may_end).await;
            }
        });
    }
}

fn mixture(seed: u64, streams: u64, may_end: bool) {
    let mut dice = Dice::new(!seed);
    let mut random = || {
        config(|c| {
            c.handshake_timeout = secs(60);
            c.idle_timeout = secs(60);
            c.keep_alive_interval = dice.chance(0.5).then_some(secs(5));
            c.stream_receive_window = 2_000 + dice.below(100_000);
            c.connection_receive_window = c.stream_receive_window * (1 + dice.below(4));
            c.send_window = 3_000 + dice.below(100_000);
            c.read_buffer = 1 + dice.below(50_000) as usize;
            c.write_buffer = 1 + dice.below(50_000) as usize;
            c.max_incoming_streams = 1 + dice.below(40) as u32;
            c.retry_above = dice.chance(0.3).then_some(0);
            c.max_datagram_size = 1200 + dice.below(1000) as u16;
            c.segmentation_offload = dice.chance(0.8);
        })
    };
    let mut pair = Pair::with(seed, random(), random());
    let conditions = Conditions::bad(&mut pair.world.dice());
    // A dial that got one damaged Retry takes no other (quinn-proto counts its address as validated).
    pair.world.link(Conditions {
        corruption: 0.0,
        truncation: 0.0,
        ..conditions.clone()
    });
    let (ours, theirs) = pair.connect();
    pair.world.link(conditions);
    serve(&mut pair, ours.clone(), may_end);
    serve(&mut pair, theirs.clone(), may_end);
    let mut work = Vec::new();
    for _ in 0..streams {
        let who = if dice.chance(0.5) { &ours } else { &theirs };
        let plan = Plan::new(&mut dice);
        work.push(pair.world.spawn(opener(who.clone(), plan, may_end)));
    }
    if may_end {
        pair.world
            .run_for(std::time::Duration::from_micros(dice.below(2_000_000)));
        match dice.below(5) {
            0 => ours.close(CLOSE, b""),
            1 => theirs.close(CLOSE, b""),
            2 => pair.client.close(CLOSE, b""),
            3 => pair.world.crash(&pair.server),
            _ => pair.world.blackout(secs(200)),
        }
        for connection in [&ours, &theirs] {
            let error = pair.world.block_on(operations::closed(connection));
            match error.kind {
                CloseKind::Closed => assert_eq!(error.code, Some(CLOSE)),
                CloseKind::IdleTimeout | CloseKind::Internal | CloseKind::StatelessReset => {}
                _ => panic!("seed {seed}: {error}"),
            }
        }
    }
    for task in work {
        pair.world.block_on(task);
    }
    drop((ours, theirs));
    pair.world.abandon_tasks();
    pair.world.link(Conditions::default());
    pair.leave_nothing();
}

#[test]
fn every_byte_is_right_under_bad_conditions() {
    each_seed(
        "mixtures::every_byte_is_right_under_bad_conditions",
        400,
        |seed| {
            mixture(seed, 12, false);
        },
    );
}

#[test]
fn small_mixtures_in_great_number() {
    each_seed("mixtures::small_mixtures_in_great_number", 1000, |seed| {
        mixture(seed + 1_000_000, 2, false);
    });
}

#[test]
fn an_end_in_the_middle_is_the_right_error() {
    each_seed(
        "mixtures::an_end_in_the_middle_is_the_right_error",
        500,
        |seed| {
            mixture(seed + 2_000_000, 10, true);
        },
    );
}
