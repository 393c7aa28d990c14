//! The delay line of one direction: it applies the conditions to batches of datagrams. No I/O: time
//! is a parameter, and decisions are drawn from the seed in the order of arrival.
//!
//! Datagrams that the kernel received together stay together unless their fates differ: a relay
//! that splits batches is slower than the peers on its two sides.

use std::{
    cmp::Reverse,
    collections::{BinaryHeap, VecDeque},
    time::{Duration, Instant},
};

use quinn_udp::EcnCodepoint;

use crate::{conditions::Conditions, dice::Dice, totals::Totals};

/// Most bytes in flight in one direction; more are dropped and counted.
const MOST_HELD: usize = 512 * 1024 * 1024;

/// A reordered datagram is delayed by at least this, so that others overtake it.
const LEAST_REORDERING: Duration = Duration::from_millis(1);

/// Datagrams that arrived together. All have one size, except that the last may be shorter.
#[derive(Debug, PartialEq, Eq)]
pub struct Batch {
    /// The dialer that sent or receives them.
    pub client: u64,
    /// Its first `len` bytes are the datagrams; the rest is spare.
    pub buffer: Vec<u8>,
    /// Bytes of datagrams.
    pub len: usize,
    /// Bytes of each datagram but the last, which may be shorter.
    pub stride: usize,
    /// The ECN mark of all of them.
    pub ecn: Option<EcnCodepoint>,
}

impl Batch {
    /// The datagrams, one after another.
    pub fn contents(&self) -> &[u8] {
        &self.buffer[..self.len]
    }

    /// How many datagrams.
    pub fn count(&self) -> u64 {
        // An empty datagram is one too.
        (self.len.div_ceil(self.stride.max(1))).max(1) as u64
    }

    /// One of its datagrams as a batch of its own.
    fn alone(&self, from: usize, to: usize) -> Self {
        Self {
            client: self.client,
            buffer: self.buffer[from..to].to_vec(),
            len: to - from,
            stride: to - from,
            ecn: self.ecn,
        }
    }
}

/// A batch in flight, ordered by arrival and then by departure.
struct Flight {
    at: Instant,
    number: u64,
    batch: Batch,
}

impl Flight {
    fn key(&self) -> (Instant, u64) {
        (self.at, self.number)
    }
}

impl PartialEq for Flight {
    fn eq(&self, other: &Self) -> bool {
        self.key() == other.key()
    }
}

impl Eq for Flight {}

impl PartialOrd for Flight {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Flight {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.key().cmp(&other.key())
    }
}

/// One direction.
pub struct Line {
    conditions: Conditions,
    decides_each: bool,
    /// Datagrams with an ECN mark are dropped, from `Conditions::drop_marked_after` on.
    drops_marked: bool,
    dice: Dice,
    /// When the first datagram came, in either direction: time zero of the conditions.
    began: Option<Instant>,
    /// Datagrams that would arrive before this are lost.
    dark_until: Option<Instant>,
    /// When the rate allows the next datagram.
    free: Option<Instant>,
    /// Batches that arrive in the order of sending, and the others.
    in_order: VecDeque<Flight>,
    strays: BinaryHeap<Reverse<Flight>>,
    next_number: u64,
    held: usize,
    totals: Totals,
}

impl Line {
    /// An empty line. Equal seeds give equal decisions.
    pub fn new(conditions: Conditions, seed: u64) -> Self {
        Self {
            decides_each: conditions.decides_each(),
            conditions,
            drops_marked: false,
            dice: Dice::new(seed),
            began: None,
            dark_until: None,
            free: None,
            in_order: VecDeque::new(),
            strays: BinaryHeap::new(),
            next_number: 0,
            held: 0,
            totals: Totals::default(),
        }
    }

    /// Count the times of the conditions from `now`; later calls change nothing.
    pub fn begin(&mut self, now: Instant) {
        self.began.get_or_insert(now);
    }

    /// Drop all datagrams that would arrive before this time.
    pub fn darken(&mut self, until: Instant) {
        self.dark_until = self.dark_until.max(Some(until));
    }

    /// Drop larger datagrams from now on.
    pub fn shrink(&mut self, mtu: usize) {
        self.conditions.mtu = Some(mtu);
        self.conditions.mtu_after = Duration::ZERO;
        self.decides_each = true;
    }

    /// Drop this share of datagrams from now on.
    pub fn lose(&mut self, share: f64) {
        self.conditions.loss = share;
        self.decides_each = self.conditions.decides_each();
    }

    /// Whether to drop datagrams with an ECN mark, from `Conditions::drop_marked_after` on.
    pub fn drop_marked(&mut self, drops: bool) {
        self.drops_marked = drops;
    }

    /// The counters of this direction.
    pub fn totals(&self) -> &Totals {
        &self.totals
    }

    /// When the next batch is due.
    pub fn deadline(&self) -> Option<Instant> {
        let stray = self.strays.peek().map(|Reverse(flight)| flight.at);
        self.in_order
            .front()
            .map(|flight| flight.at)
            .into_iter()
            .chain(stray)
            .min()
    }

    /// Datagrams enter.
    pub fn push(&mut self, now: Instant, mut batch: Batch) {
        self.begin(now);
        self.totals.came += batch.count();
        if batch.ecn.is_some() && self.drops_marked && self.has_passed(now) {
            self.totals.marked += batch.count();
            return;
        }
        let together = now + self.conditions.latency;
        if self.decides_each {
            self.decide(now, together, &mut batch);
        }
        if batch.len > 0 || batch.stride == 0 {
            self.fly(together, batch);
        }
    }

    /// Whether the time has come to drop marked datagrams.
    fn has_passed(&self, now: Instant) -> bool {
        let after = self.conditions.drop_marked_after;
        self.began.is_some_and(|at| now >= at + after)
    }

    /// Decide about each datagram. Those that arrive at `together` stay in the batch, and are moved
    /// up to close the gaps.
    fn decide(&mut self, now: Instant, together: Instant, batch: &mut Batch) {
        let (len, stride) = (batch.len, batch.stride.max(1));
        let mut retained = 0;
        for from in (0..len).step_by(stride) {
            let to = (from + stride).min(len);
            let Some(leaves) = self.leave(now, to - from) else {
                continue;
            };
            if self.dice.chance(self.conditions.corruption) {
                let bit = self.dice.below((to - from) as u64 * 8) as usize;
                batch.buffer[from + bit / 8] ^= 1 << (bit % 8);
                self.totals.corrupted += 1;
            }
            let at = self.arrival(leaves);
            if self.dice.chance(self.conditions.duplication) {
                let again = at + self.dice.up_to(self.conditions.latency * 2);
                self.fly(again, batch.alone(from, to));
                self.totals.duplicated += 1;
            }
            if at == together {
                batch.buffer.copy_within(from..to, retained);
                retained += to - from;
            } else {
                self.fly(at, batch.alone(from, to));
            }
        }
        if len > 0 {
            batch.len = retained;
        }
    }

    /// When a datagram of that size has passed the rate limit; `None` when it is dropped.
    fn leave(&mut self, now: Instant, size: usize) -> Option<Instant> {
        let mut leaves = now;
        if let Some(rate) = self.conditions.rate {
            let begins = self.free.map_or(now, |free| free.max(now));
            let waiting = (begins - now).as_secs_f64() * rate as f64;
            if waiting as usize > self.conditions.room(rate) {
                self.totals.queue_full += 1;
                return None;
            }
            leaves = begins + Duration::from_secs_f64(size as f64 / rate as f64);
            self.free = Some(leaves);
        }
        let is_small = self
            .began
            .is_some_and(|at| now < at + self.conditions.mtu_after);
        if self.conditions.mtu.is_some_and(|mtu| size > mtu) && !is_small {
            self.totals.too_large += 1;
            return None;
        }
        if self.dice.chance(self.conditions.loss) {
            self.totals.lost += 1;
            return None;
        }
        Some(leaves)
    }

    fn arrival(&mut self, leaves: Instant) -> Instant {
        let (latency, jitter) = (self.conditions.latency, self.conditions.jitter);
        let mut at = leaves + latency + self.dice.up_to(jitter);
        if self.dice.chance(self.conditions.reordering) {
            let most = (latency * 2 + jitter).max(LEAST_REORDERING);
            at += LEAST_REORDERING + self.dice.up_to(most);
            self.totals.reordered += 1;
        }
        at
    }

    fn fly(&mut self, at: Instant, batch: Batch) {
        if self.held + batch.len > MOST_HELD {
            self.totals.queue_full += batch.count();
            return;
        }
        self.held += batch.len;
        self.next_number += 1;
        let number = self.next_number;
        let flight = Flight { at, number, batch };
        if self.in_order.back().is_none_or(|last| last.at <= at) {
            self.in_order.push_back(flight);
        } else {
            self.strays.push(Reverse(flight));
        }
    }

    /// The next batch that is due, with its due time.
    pub fn pop(&mut self, now: Instant) -> Option<(Instant, Batch)> {
        while self.deadline().is_some_and(|at| at <= now) {
            let first = self.in_order.front().map(Flight::key);
            let stray = self.strays.peek().map(|Reverse(flight)| flight.key());
            let is_stray = first.is_none_or(|first| stray.is_some_and(|stray| stray < first));
            let flight = if is_stray {
                self.strays.pop().map(|Reverse(flight)| flight)
            } else {
                self.in_order.pop_front()
            }?;
            self.held -= flight.batch.len;
            if self.is_dark(flight.at) {
                self.totals.in_the_dark += flight.batch.count();
                continue;
            }
            self.totals.went += flight.batch.count();
            return Some((flight.at, flight.batch));
        }
        None
    }

    fn is_dark(&self, at: Instant) -> bool {
        let began = self.began.unwrap_or(at);
        self.dark_until.is_some_and(|until| at < until)
            || self.conditions.blackouts.iter().any(|(from, lasts)| {
                let from = began + *from;
                from <= at && at < from + *lasts
            })
    }
}
