//! The delay line by itself, in made-up time: what each condition does, and that a seed
//! repeats it.

use std::time::{Duration, Instant};

use libp2p_quic_relay::{
    Conditions,
    line::{Batch, Line},
};
use quinn_udp::EcnCodepoint;

const SIZE: usize = 1000;

fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

/// `count` datagrams that arrived together; the n-th is full of the byte n.
fn batch(first: u8, count: usize) -> Batch {
    let bytes = (0..count * SIZE).map(|at| first + (at / SIZE) as u8);
    Batch {
        client: 1,
        buffer: bytes.collect(),
        len: count * SIZE,
        stride: SIZE,
        ecn: None,
    }
}

/// What came out, batch by batch: when, counted from the beginning, and the datagrams.
type Arrivals = Vec<(Duration, Vec<Vec<u8>>)>;

/// Everything that ever comes out: when, counted from `began`, and the datagrams.
fn all(line: &mut Line, began: Instant) -> Arrivals {
    let mut found = Vec::new();
    while let Some(at) = line.deadline() {
        let before = at.checked_sub(Duration::from_nanos(1)).expect("a time");
        assert!(line.pop(before).is_none(), "before its time");
        while let Some((due, batch)) = line.pop(at) {
            assert_eq!(due, at);
            let parts = batch.contents().chunks(batch.stride.max(1));
            found.push((due - began, parts.map(<[u8]>::to_vec).collect()));
        }
    }
    found
}

/// The bytes that name the datagrams, in the order in which they came out.
fn names(found: &[(Duration, Vec<Vec<u8>>)]) -> Vec<u8> {
    let datagrams = found.iter().flat_map(|(_, datagrams)| datagrams);
    datagrams.map(|datagram| datagram[0]).collect()
}

/// 40 batches of 5, a millisecond apart, under some conditions.
fn run(conditions: Conditions, seed: u64) -> (Line, Arrivals) {
    let began = Instant::now();
    let mut line = Line::new(conditions, seed);
    for n in 0..40 {
        line.push(began + ms(n), batch(n as u8 * 5, 5));
    }
    let found = all(&mut line, began);
    (line, found)
}

#[test]
fn marked_datagrams_vanish_from_a_time_on() {
    let began = Instant::now();
    let conditions = Conditions {
        drop_marked_after: ms(20),
        ..Conditions::default()
    };
    for drops in [false, true] {
        let mut line = Line::new(conditions.clone(), 1);
        line.drop_marked(drops);
        for n in 0..40 {
            let ecn = (n % 2 == 0).then_some(EcnCodepoint::Ect0);
            let batch = batch(n as u8 * 5, 5);
            line.push(began + ms(n), Batch { ecn, ..batch });
        }
        let vanished = if drops { 10 * 5 } else { 0 };
        assert_eq!(line.totals().marked, vanished);
        assert_eq!(names(&all(&mut line, began)).len() as u64, 200 - vanished);
    }
}

#[test]
fn a_good_line_only_delays_and_keeps_batches_together() {
    let (line, found) = run(
        Conditions {
            latency: ms(25),
            ..Conditions::default()
        },
        1,
    );
    assert_eq!(found.len(), 40);
    for (n, (at, datagrams)) in found.iter().enumerate() {
        assert_eq!((*at, datagrams.len()), (ms(25 + n as u64), 5));
    }
    assert_eq!(names(&found), (0..200).collect::<Vec<u8>>());
    assert_eq!((line.totals().came, line.totals().went), (200, 200));
}

#[test]
fn what_is_lost_is_missing_and_the_rest_stays_together() {
    let conditions = Conditions {
        latency: ms(5),
        loss: 0.2,
        ..Conditions::default()
    };
    let (line, found) = run(conditions, 1);
    let lost = line.totals().lost;
    assert!((20..60).contains(&lost), "{lost}");
    assert_eq!(line.totals().went + lost, 200);
    assert!(found.len() <= 40);
    let names = names(&found);
    assert_eq!(names.len() as u64, line.totals().went);
    assert!(names.is_sorted());
    for (_, datagrams) in &found {
        for datagram in datagrams {
            assert!(datagram.len() == SIZE && datagram.iter().all(|b| *b == datagram[0]));
        }
    }
}

#[test]
fn the_last_of_a_batch_may_be_shorter() {
    let began = Instant::now();
    let conditions = Conditions {
        loss: 0.5,
        ..Conditions::default()
    };
    for seed in 0..50 {
        let mut line = Line::new(conditions.clone(), seed);
        let mut short = batch(0, 3);
        short.len = 2 * SIZE + 7;
        line.push(began, short);
        for (_, datagrams) in all(&mut line, began) {
            for datagram in datagrams {
                assert_eq!(datagram.len(), if datagram[0] == 2 { 7 } else { SIZE });
            }
        }
    }
}

#[test]
fn copies_arrive_beside_the_first() {
    let conditions = Conditions {
        latency: ms(5),
        duplication: 0.3,
        ..Conditions::default()
    };
    let (line, found) = run(conditions, 1);
    let copies = line.totals().duplicated;
    assert!((30..90).contains(&copies), "{copies}");
    let mut names = names(&found);
    assert_eq!(names.len() as u64, 200 + copies);
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), 200);
}

#[test]
fn corruption_flips_one_bit() {
    let conditions = Conditions {
        corruption: 0.3,
        ..Conditions::default()
    };
    let (line, found) = run(conditions, 1);
    let datagrams: Vec<_> = found.iter().flat_map(|(_, d)| d).collect();
    assert_eq!(datagrams.len(), 200);
    let flipped = |(n, datagram): (usize, &&Vec<u8>)| {
        let bits = datagram.iter().map(|b| (b ^ n as u8).count_ones());
        bits.sum::<u32>()
    };
    let flips: Vec<_> = datagrams.iter().enumerate().map(flipped).collect();
    assert!(flips.iter().all(|count| *count <= 1));
    let sum = u64::from(flips.iter().sum::<u32>());
    assert_eq!(sum, line.totals().corrupted);
    assert!((30..90).contains(&sum), "{sum}");
}

#[test]
fn reordering_and_jitter_let_later_ones_overtake() {
    let reordering = Conditions {
        latency: ms(5),
        reordering: 0.1,
        ..Conditions::default()
    };
    let jitter = Conditions {
        latency: ms(5),
        jitter: ms(4),
        ..Conditions::default()
    };
    for conditions in [reordering, jitter] {
        let (_, found) = run(conditions, 1);
        let mut names = names(&found);
        assert!(!names.is_sorted());
        names.sort_unstable();
        assert_eq!(names, (0..200).collect::<Vec<u8>>());
        assert!(found.iter().all(|(at, _)| *at >= ms(5)));
    }
}

#[test]
fn a_rate_spaces_and_its_queue_drops_the_tail() {
    let began = Instant::now();
    let conditions = Conditions {
        latency: ms(10),
        // A datagram of 1000 bytes is on the line after 1 ms.
        rate: Some(1_000_000),
        queue: Some(9_000),
        ..Conditions::default()
    };
    let mut line = Line::new(conditions, 1);
    line.push(began, batch(0, 50));
    let found = all(&mut line, began);
    // One on the line and nine that wait.
    assert_eq!(names(&found), (0..10).collect::<Vec<u8>>());
    assert_eq!(line.totals().queue_full, 40);
    for (n, (at, _)) in (1..).zip(&found) {
        let wanted = ms(10 + n);
        assert!(
            at.abs_diff(wanted) < Duration::from_micros(1),
            "{at:?} {wanted:?}"
        );
    }
    // Later it takes as many again.
    line.push(began + ms(500), batch(100, 5));
    assert_eq!(all(&mut line, began).len(), 5);
}

#[test]
fn an_mtu_shrinks_at_its_time_and_by_command() {
    let began = Instant::now();
    let mut line = Line::new(
        Conditions {
            mtu: Some(SIZE - 1),
            mtu_after: ms(50),
            ..Conditions::default()
        },
        1,
    );
    line.push(began, batch(0, 2));
    line.push(began + ms(49), batch(2, 2));
    line.push(began + ms(50), batch(4, 2));
    let mut last = batch(6, 2);
    last.len = SIZE + 3;
    line.push(began + ms(51), last);
    assert_eq!(names(&all(&mut line, began)), [0, 1, 2, 3, 7]);
    assert_eq!(line.totals().too_large, 3);
    line.shrink(2);
    let mut small = batch(8, 1);
    small.len = 3;
    small.stride = 3;
    line.push(began + ms(52), small);
    assert!(all(&mut line, began).is_empty());
}

#[test]
fn nothing_arrives_in_the_dark() {
    let (mut line, found) = run(
        Conditions {
            latency: ms(5),
            blackouts: vec![(ms(10), ms(10)), (ms(30), ms(5))],
            ..Conditions::default()
        },
        1,
    );
    for (at, _) in &found {
        let is_dark = (ms(10)..ms(20)).contains(at) || (ms(30)..ms(35)).contains(at);
        assert!(!is_dark, "{at:?}");
    }
    assert_eq!((found.len(), line.totals().in_the_dark), (25, 75));
    let now = Instant::now();
    line.darken(now + ms(50));
    line.push(now, batch(0, 1));
    line.push(now + ms(45), batch(1, 1));
    assert_eq!(names(&all(&mut line, now)), [1]);
}

#[test]
fn an_empty_datagram_is_a_datagram() {
    for loss in [0.0, 1e-12] {
        let now = Instant::now();
        let mut line = Line::new(
            Conditions {
                loss,
                ..Conditions::default()
            },
            1,
        );
        line.push(
            now,
            Batch {
                client: 1,
                buffer: Vec::new(),
                len: 0,
                stride: 0,
                ecn: None,
            },
        );
        assert!(
            line.pop(now)
                .is_some_and(|(_, batch)| batch.contents().is_empty())
        );
        assert_eq!(line.totals().went, 1);
    }
}

#[test]
fn a_seed_repeats_and_another_differs() {
    let conditions = Conditions {
        latency: ms(5),
        jitter: ms(2),
        loss: 0.1,
        duplication: 0.1,
        corruption: 0.1,
        reordering: 0.1,
        rate: Some(2_000_000),
        ..Conditions::default()
    };
    let (_, first) = run(conditions.clone(), 1);
    let (_, again) = run(conditions.clone(), 1);
    let (_, other) = run(conditions, 2);
    assert!(first == again);
    assert!(first != other);
}
