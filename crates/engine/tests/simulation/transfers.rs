//! Transfers through a network that misbehaves: each condition alone, and mixtures drawn by
//! seed in which the network changes in the middle. Every byte arrives, or the error says that
//! the network is to blame, in bounded virtual time, and nothing is left.

use std::time::Duration;

use libp2p_quic_engine::{
    CloseKind, Connection, ConnectionError, Party, ReadError, WriteError,
    simulation::{Conditions, Dice, Task, operations},
};

use crate::kit::{Pair, both, config, each_seed, essence, ms, pattern, secs};

/// What happens to the network at a moment of the transfer.
#[derive(Clone, Debug)]
enum Change {
    Link(Conditions),
    Blackout(Duration),
    /// The NAT before the dialer, or before the listener, forgets it.
    DialerMoves,
    ListenerMoves,
    /// Time leaps: nothing runs meanwhile, as in a machine that sleeps.
    Leap(Duration),
}

/// The network of a transfer: at first, and what changes when, in order of time.
#[derive(Clone, Debug)]
struct Weather {
    first: Conditions,
    changes: Vec<(Duration, Change)>,
}

impl Weather {
    fn steady(first: Conditions) -> Self {
        let changes = Vec::new();
        Self { first, changes }
    }

    /// A slow line, so that the change is in the middle.
    fn changing(changes: impl IntoIterator<Item = (Duration, Change)>) -> Self {
        Self {
            first: slow(),
            changes: changes.into_iter().collect(),
        }
    }
}

/// A good line that takes two seconds for what is transferred here.
fn slow() -> Conditions {
    Conditions {
        rate: Some(100_000),
        ..Conditions::default()
    }
}

/// How one side's half of the transfer ended.
type Half = Result<(), ConnectionError>;

/// Send `out` and meanwhile receive what must be `wanted`.
async fn exchange(
    connection: Connection,
    opens: bool,
    out: Vec<u8>,
    wanted: Vec<u8>,
) -> (Half, Half) {
    let stream = if opens {
        operations::open(&connection).await
    } else {
        operations::accept_stream(&connection).await
    };
    let stream = match stream {
        Ok(stream) => stream,
        Err(error) => return (Err(error.clone()), Err(error)),
    };
    let write = async {
        operations::write_all(&stream, &out).await?;
        stream.finish();
        operations::finished(&stream).await
    };
    let (got, wrote) = both(operations::read_to_end(&stream), write).await;
    let got = match got {
        Ok(bytes) => {
            assert!(bytes == wanted, "wrong bytes");
            Ok(())
        }
        Err(ReadError::Lost(error)) => Err(error),
        Err(other) => panic!("{other}"),
    };
    let wrote = match wrote {
        Ok(()) => Ok(()),
        Err(WriteError::Lost(error)) => Err(error),
        Err(other) => panic!("{other}"),
    };
    (got, wrote)
}

/// What became of a transfer.
struct Outcome {
    halves: Vec<Half>,
    took: Duration,
}

impl Outcome {
    fn is_whole(&self) -> bool {
        self.halves.iter().all(Result::is_ok)
    }

    /// Every reported end is blamed on the network, or, after a later packet, is a stateless reset
    /// of the other side, for which the connection had already ended.
    fn blames_the_network(&self) -> bool {
        let mut errors = self.halves.iter().filter_map(|half| half.as_ref().err());
        errors.all(|error| {
            let timeout = (Party::Network, CloseKind::IdleTimeout, None);
            let reset = (Party::Peer, CloseKind::StatelessReset, None);
            [timeout, reset].contains(&essence(error))
        })
    }
}

/// `len` bytes each way on one stream, in that weather.
fn transfer(mut pair: Pair, seed: u64, len: usize, weather: Weather) -> Outcome {
    // Handshakes are tested elsewhere. The size is the path's from the beginning, so that only
    // what is meant to shrink it does.
    pair.world.link(Conditions {
        mtu: weather.first.mtu,
        ..Conditions::default()
    });
    let (ours, theirs) = pair.connect();
    let (up, down) = (pattern(seed, len), pattern(!seed, len));
    pair.world.link(weather.first);
    let began = pair.world.now();
    let leaps: Duration = weather
        .changes
        .iter()
        .filter_map(|(_, change)| match change {
            Change::Leap(time) => Some(*time),
            _ => None,
        })
        .sum();
    let tasks: Vec<Task<(Half, Half)>> = vec![
        pair.world
            .spawn(exchange(ours.clone(), true, up.clone(), down.clone())),
        pair.world.spawn(exchange(theirs.clone(), false, down, up)),
    ];
    for (at, change) in weather.changes {
        let rest = (began + at).saturating_sub(pair.world.now());
        pair.world.run_for(rest);
        match change {
            Change::Link(conditions) => pair.world.link(conditions),
            Change::Blackout(time) => pair.world.blackout(time),
            Change::DialerMoves => pair.world.rebind(&pair.client),
            Change::ListenerMoves => pair.world.rebind(&pair.server),
            Change::Leap(time) => pair.world.leap(time),
        }
    }
    let mut halves = Vec::new();
    for task in tasks {
        let (got, wrote) = pair.world.block_on(task);
        halves.extend([got, wrote]);
    }
    let took = pair.world.now() - began;
    drop((ours, theirs));
    pair.world.link(Conditions::default());
    // What was late looks like a slow path, and a closed connection is remembered for three
    // probe timeouts of its path (RFC 9000 section 10.2).
    pair.world.run_for(took.max(leaps * 10));
    pair.leave_nothing();
    Outcome { halves, took }
}

const LEN: usize = 200_000;

/// It arrives as a whole within this time, with every seed.
fn arrives(name: &str, seeds: u64, within: Duration, weather: impl Fn() -> Weather) {
    each_seed(&format!("transfers::{name}"), seeds, |seed| {
        let outcome = transfer(Pair::new(seed), seed, LEN, weather());
        assert!(outcome.is_whole(), "{:?}", outcome.halves);
        assert!(outcome.took < within, "{:?}", outcome.took);
    });
}

/// It arrives, in a network that never changes.
fn arrives_in(name: &str, within: Duration, change: impl Fn(&mut Conditions)) {
    arrives(name, 20, within, || {
        let mut conditions = Conditions::default();
        change(&mut conditions);
        Weather::steady(conditions)
    });
}

#[test]
fn delay() {
    arrives_in("delay", secs(5), |c| c.latency = ms(250));
}

#[test]
fn jitter() {
    arrives_in("jitter", secs(3), |c| c.jitter = ms(60));
}

#[test]
fn loss() {
    arrives_in("loss", secs(30), |c| c.loss = 0.1);
}

#[test]
fn duplication() {
    arrives_in("duplication", secs(1), |c| c.duplication = 0.5);
}

#[test]
fn corruption() {
    arrives_in("corruption", secs(30), |c| c.corruption = 0.1);
}

#[test]
fn truncation() {
    arrives_in("truncation", secs(30), |c| c.truncation = 0.1);
}

#[test]
fn reordering() {
    arrives_in("reordering", secs(5), |c| c.reordering = 0.3);
}

#[test]
fn marking() {
    arrives_in("marking", secs(10), |c| c.marking = 0.3);
}

#[test]
fn a_rate_limit() {
    arrives_in("a_rate_limit", secs(6), |c| c.rate = Some(100_000));
}

#[test]
fn a_queue_that_fills() {
    arrives_in("a_queue_that_fills", secs(10), |c| {
        c.rate = Some(100_000);
        c.queue = ms(30);
    });
}

#[test]
fn sends_that_the_system_refuses_for_now() {
    let name = "sends_that_the_system_refuses_for_now";
    arrives_in(name, secs(5), |c| c.blocked = 0.5);
}

#[test]
fn sends_that_fail_as_with_enobufs() {
    let name = "sends_that_fail_as_with_enobufs";
    arrives_in(name, secs(30), |c| c.failing = 0.1);
}

#[test]
fn a_thread_that_runs_late() {
    arrives_in("a_thread_that_runs_late", secs(10), |c| c.stall = ms(30));
}

#[test]
fn an_mtu_that_shrinks() {
    // What is too large vanishes, or is refused by the system as with EMSGSIZE: it is the same
    // to a connection, as nobody tells it.
    let name = "an_mtu_that_shrinks";
    arrives(name, 50, secs(20), || {
        let shrunk = |mtu| Change::Link(Conditions { mtu, ..slow() });
        Weather::changing([(ms(300), shrunk(1350)), (ms(900), shrunk(1200))])
    });
}

#[test]
fn a_blackout() {
    arrives("a_blackout", 50, secs(25), || {
        Weather::changing([(ms(400), Change::Blackout(secs(8)))])
    });
}

#[test]
fn a_nat_that_rebinds() {
    arrives("a_nat_that_rebinds", 50, secs(10), || {
        Weather::changing((1..=8).map(|n| (ms(200 * n), Change::DialerMoves)))
    });
}

#[test]
fn a_nat_that_rebinds_in_a_bad_network() {
    let name = "a_nat_that_rebinds_in_a_bad_network";
    arrives(name, 100, secs(60), || Weather {
        first: Conditions {
            loss: 0.1,
            reordering: 0.2,
            ..slow()
        },
        changes: (1..=8)
            .map(|n| (ms(300 * n), Change::DialerMoves))
            .collect(),
    });
}

#[test]
fn a_clock_that_leaps_less_than_the_idle_timeout() {
    let name = "a_clock_that_leaps_less_than_the_idle_timeout";
    arrives(name, 50, secs(60), || {
        Weather::changing([
            (ms(300), Change::Leap(secs(20))),
            (secs(21), Change::Leap(secs(20))),
        ])
    });
}

/// It never can arrive, and the network is blamed within this time, with every seed.
fn is_lost(name: &str, within: Duration, weather: impl Fn() -> Weather) {
    each_seed(&format!("transfers::{name}"), 20, |seed| {
        let outcome = transfer(Pair::new(seed), seed, LEN, weather());
        assert!(!outcome.is_whole());
        assert!(outcome.blames_the_network(), "{:?}", outcome.halves);
        assert!(outcome.took < within, "{:?}", outcome.took);
    });
}

#[test]
fn an_mtu_below_what_quic_needs() {
    // RFC 9000 section 14: QUIC needs 1200 bytes. No mixture has this: where acknowledgments
    // still fit through, quinn-proto keeps such a connection alive and the rest never arrives.
    // Three idle timeouts: what is smaller, credit for instance, passes for a while and starts
    // it anew on one side and then on the other.
    is_lost("an_mtu_below_what_quic_needs", secs(90), || {
        let conditions = Conditions {
            mtu: 1199,
            ..slow()
        };
        Weather::changing([(ms(300), Change::Link(conditions))])
    });
}

#[test]
fn a_listener_that_moves() {
    // A dialer takes no other address of the listener (RFC 9000 section 9).
    is_lost("a_listener_that_moves", secs(40), || {
        Weather::changing([(ms(300), Change::ListenerMoves)])
    });
}

#[test]
fn a_clock_that_leaps_over_the_idle_timeout() {
    is_lost(
        "a_clock_that_leaps_over_the_idle_timeout",
        secs(100),
        || Weather::changing([(ms(300), Change::Leap(secs(90)))]),
    );
}

/// What is on its way meanwhile must not bring it back to life: its round-trip time would be
/// that of the leap, and so rare the probes of whatever is lost afterwards.
#[test]
fn a_clock_that_leaps_over_the_idle_timeout_in_a_bad_network() {
    is_lost(
        "a_clock_that_leaps_over_the_idle_timeout_in_a_bad_network",
        secs(95),
        || Weather {
            first: Conditions {
                latency: ms(30),
                jitter: ms(10),
                loss: 0.1,
                stall: ms(3),
                ..slow()
            },
            changes: vec![(ms(300), Change::Leap(secs(90)))],
        },
    );
}

/// A path that shrinks in an outage is one that quinn-proto may not survive. It finds out by
/// losses that are acknowledged to be losses, and each round of that costs a probe timeout,
/// which doubles in a blackout. And it asks whether a new address is true in datagrams of the
/// old size, so that none is answered.
fn shrinks_in_an_outage(weather: &Weather) -> bool {
    let is_outage = |(_, change): &(Duration, Change)| {
        matches!(change, Change::DialerMoves | Change::Blackout(_))
    };
    let mut mtu = weather.first.mtu;
    let mut shrinks = false;
    for (_, change) in &weather.changes {
        if let Change::Link(conditions) = change {
            shrinks |= conditions.mtu < mtu;
            mtu = conditions.mtu;
        }
    }
    shrinks && weather.changes.iter().any(is_outage)
}

/// Bad conditions and up to four changes; sometimes one that nothing survives.
fn mixed(dice: &mut Dice) -> (Weather, bool) {
    let first = Conditions::bad(dice);
    let mut changes = Vec::new();
    let mut at = Duration::ZERO;
    for _ in 0..dice.below(5) {
        at += Duration::from_micros(dice.below(1_500_000));
        // No leaps: an acknowledgment that slept on the way looks like a path of seconds, and
        // where an outage follows, probes come too rarely for any idle timeout.
        let change = match dice.below(6) {
            0 => Change::Link(Conditions::bad(dice)),
            1 => Change::Link(Conditions {
                mtu: 1200 + dice.below(250) as usize,
                ..first.clone()
            }),
            2 => Change::Blackout(Duration::from_micros(dice.below(6_000_000))),
            _ => Change::DialerMoves,
        };
        changes.push((at, change));
    }
    let may_end = dice.chance(0.15);
    if may_end {
        at += Duration::from_micros(dice.below(1_000_000));
        let change = match dice.below(3) {
            0 => Change::ListenerMoves,
            1 => Change::Leap(secs(200)),
            _ => Change::Blackout(secs(200)),
        };
        changes.push((at, change));
    }
    let weather = Weather { first, changes };
    let may_end = may_end || shrinks_in_an_outage(&weather);
    (weather, may_end)
}

#[test]
fn mixtures_that_change_in_the_middle() {
    let name = "transfers::mixtures_that_change_in_the_middle";
    each_seed(name, 300, |seed| {
        let mut dice = Dice::new(!seed);
        let (weather, may_end) = mixed(&mut dice);
        let patient = || {
            config(|c| {
                c.handshake_timeout = secs(60);
                c.idle_timeout = secs(60);
            })
        };
        let pair = Pair::with(seed, patient(), patient());
        let len = 1 + dice.below(LEN as u64) as usize;
        let told = format!("{weather:?}");
        let outcome = transfer(pair, seed, len, weather);
        assert!(
            outcome.is_whole() || may_end,
            "{:?}\n{told}",
            outcome.halves
        );
        assert!(outcome.blames_the_network(), "{:?}\n{told}", outcome.halves);
        assert!(
            may_end || outcome.took < secs(300),
            "{:?}\n{told}",
            outcome.took
        );
    });
}
