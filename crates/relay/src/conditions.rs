//! What the relay does to datagrams, named as in the engine's simulation, and the times at which
//! conditions change. Data only.

use std::time::Duration;

/// The directions that a condition applies to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Directions {
    /// From dialers to the target.
    pub to_target: bool,
    /// From the target to dialers.
    pub to_client: bool,
}

impl Directions {
    /// `to-target`, `to-client`, `both` or `none`.
    pub fn parse(text: &str) -> Result<Self, String> {
        let (to_target, to_client) = match text {
            "to-target" => (true, false),
            "to-client" => (false, true),
            "both" => (true, true),
            "none" => (false, false),
            _ => {
                return Err(format!(
                    "{text:?} is not understood: write to-target, to-client, both or none"
                ));
            }
        };
        Ok(Self {
            to_target,
            to_client,
        })
    }
}

/// What happens to datagrams, independently in each direction. Shares are probabilities from 0 to
/// 1; times count from the first datagram.
#[derive(Clone, Debug, Default)]
pub struct Conditions {
    /// One-way delay.
    pub latency: Duration,
    /// Up to this is added to the latency of each datagram. Later ones may overtake.
    pub jitter: Duration,
    /// Share of datagrams that never arrive.
    pub loss: f64,
    /// Share of datagrams that arrive twice.
    pub duplication: f64,
    /// Share of datagrams with one bit flipped.
    pub corruption: f64,
    /// Share of datagrams that are delayed so that later ones overtake them.
    pub reordering: f64,
    /// Bytes per second; `None`: no limit.
    pub rate: Option<u64>,
    /// With a rate: bytes that may wait for it; more are dropped. `None`: the bytes of 100 ms at
    /// that rate.
    pub queue: Option<usize>,
    /// Largest datagram that arrives, in bytes of UDP payload; `None`: any.
    pub mtu: Option<usize>,
    /// Before this time, datagrams of every size arrive.
    pub mtu_after: Duration,
    /// Directions in which datagrams with an ECN mark are dropped. In others, marks are preserved.
    pub drop_marked: Directions,
    /// Before this time, marked datagrams arrive.
    pub drop_marked_after: Duration,
    /// When all datagrams are dropped, and for how long.
    pub blackouts: Vec<(Duration, Duration)>,
    /// How often every dialer gets a new port towards the target.
    pub rebind: Option<Duration>,
}

impl Conditions {
    /// Bytes that may wait for the rate.
    pub fn room(&self, rate: u64) -> usize {
        self.queue
            .unwrap_or_else(|| usize::try_from(rate / 10).unwrap_or(usize::MAX))
    }

    /// Whether the datagrams of a batch may have different fates.
    pub fn decides_each(&self) -> bool {
        let shares = self.loss + self.duplication + self.corruption + self.reordering;
        shares > 0.0 || !self.jitter.is_zero() || self.rate.is_some() || self.mtu.is_some()
    }
}
