//! The conditions of the virtual network, and how to draw bad ones.

use std::time::Duration;

use super::dice::Dice;

/// What the network, and each system's sockets, do to datagrams. Shares are probabilities from 0
/// to 1.
#[derive(Clone, Debug)]
pub struct Conditions {
    /// One-way delay.
    pub latency: Duration,
    /// Up to this is added to the latency, without reordering.
    pub jitter: Duration,
    /// Share of datagrams that never arrive.
    pub loss: f64,
    /// Share of datagrams that arrive twice.
    pub duplication: f64,
    /// Share of datagrams with one bit flipped. UDP's checksum would catch most of these;
    /// here QUIC's own protection has to.
    pub corruption: f64,
    /// Share of datagrams that are truncated.
    pub truncation: f64,
    /// Share of datagrams that are delayed so that later ones overtake them.
    pub reordering: f64,
    /// Share of datagrams whose ECN mark becomes "congestion experienced".
    pub marking: f64,
    /// Share of datagrams whose ECN mark is removed.
    pub bleaching: f64,
    /// Share of sends that the system refuses for now, as with EAGAIN.
    pub blocked: f64,
    /// Share of sends that the system refuses for good, as with ENETUNREACH.
    pub refused: f64,
    /// Share of sends that fail in silence, as with ENOBUFS or EIO: a whole batch is lost.
    pub failing: f64,
    /// Largest datagram that arrives, in bytes of UDP payload.
    pub mtu: usize,
    /// Bytes per second in each direction; `None`: no limit.
    pub rate: Option<u64>,
    /// With a rate: a datagram that would wait longer than this is dropped.
    pub queue: Duration,
    /// Datagrams that one send may hold; 1 is a system without GSO.
    pub segments: usize,
    /// A node's thread runs up to this late.
    pub stall: Duration,
}

impl Default for Conditions {
    /// A good network: 5 ms, nothing lost.
    fn default() -> Self {
        Self {
            latency: Duration::from_millis(5),
            jitter: Duration::ZERO,
            loss: 0.0,
            duplication: 0.0,
            corruption: 0.0,
            truncation: 0.0,
            reordering: 0.0,
            marking: 0.0,
            bleaching: 0.0,
            blocked: 0.0,
            refused: 0.0,
            failing: 0.0,
            mtu: 1500,
            rate: None,
            queue: Duration::from_millis(200),
            segments: 64,
            stall: Duration::ZERO,
        }
    }
}

impl Conditions {
    /// A bad network: the dice decide about each condition and its strength. A handshake still
    /// completes within 10 s.
    pub fn bad(dice: &mut Dice) -> Self {
        let mut share = |most: f64| {
            let is_there = dice.chance(0.6);
            let strength = dice.below(1000) as f64 / 1000.0;
            if is_there { strength * most } else { 0.0 }
        };
        let (loss, duplication, corruption) = (share(0.12), share(0.1), share(0.04));
        let (truncation, reordering, marking) = (share(0.02), share(0.2), share(0.1));
        let (blocked, failing) = (share(0.3), share(0.04));
        Self {
            latency: Duration::from_micros(50 + dice.below(40_000)),
            jitter: Duration::from_micros(dice.below(10_000)),
            loss,
            duplication,
            corruption,
            truncation,
            reordering,
            marking,
            bleaching: 0.0,
            blocked,
            refused: 0.0,
            failing,
            mtu: 1200 + dice.below(400) as usize,
            rate: dice.chance(0.3).then(|| 300_000 + dice.below(3_000_000)),
            queue: Duration::from_millis(50 + dice.below(200)),
            segments: 1 + dice.below(64) as usize,
            stall: Duration::from_micros(dice.below(3_000)),
        }
    }
}
