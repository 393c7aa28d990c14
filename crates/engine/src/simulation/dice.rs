//! Seeded random numbers: SplitMix64, which needs no dependency and suffices to decide which
//! datagram is lost.

use std::time::Duration;

/// A stream of random numbers that one seed always repeats.
#[derive(Clone, Debug)]
pub struct Dice(u64);

impl Dice {
    /// The dice of `seed`.
    pub fn new(seed: u64) -> Self {
        Self(seed ^ 0x9e37_79b9_7f4a_7c15)
    }

    /// 64 random bits.
    pub fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `bound`, which must not be zero.
    pub fn below(&mut self, bound: u64) -> u64 {
        // The bias is below 2^-32 for every bound that is used here.
        self.roll() % bound
    }

    /// True with this probability. Certain outcomes cost no roll, so that a condition that is
    /// off does not change the rest of a run.
    pub fn chance(&mut self, probability: f64) -> bool {
        if probability <= 0.0 {
            return false;
        }
        ((self.roll() >> 11) as f64 / (1u64 << 53) as f64) < probability
    }

    /// A time from zero to `most`.
    pub fn up_to(&mut self, most: Duration) -> Duration {
        if most.is_zero() {
            return most;
        }
        let nanos = u64::try_from(most.as_nanos()).unwrap_or(u64::MAX - 1);
        Duration::from_nanos(self.below(nanos + 1))
    }

    /// Random bytes.
    pub fn bytes<const N: usize>(&mut self) -> [u8; N] {
        let mut bytes = [0; N];
        for part in bytes.chunks_mut(8) {
            let roll = self.roll().to_le_bytes();
            part.copy_from_slice(&roll[..part.len()]);
        }
        bytes
    }

    /// Independent dice, so that one user does not depend on another's number of rolls.
    pub fn fork(&mut self) -> Self {
        Self::new(self.roll())
    }
}
