//! The counters of one direction, and their JSON form.

use std::fmt;

/// Datagrams of one direction.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Received.
    pub came: u64,
    /// Sent, including copies.
    pub went: u64,
    /// Dropped by `--loss`.
    pub lost: u64,
    /// Duplicated.
    pub duplicated: u64,
    /// With one bit flipped.
    pub corrupted: u64,
    /// Delayed so that later ones overtake them.
    pub reordered: u64,
    /// Dropped because the queue of the rate limit was full.
    pub queue_full: u64,
    /// Dropped because they exceeded the MTU.
    pub too_large: u64,
    /// Dropped because of their ECN mark.
    pub marked: u64,
    /// Dropped in a blackout.
    pub in_the_dark: u64,
}

impl fmt::Display for Totals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let named = [
            ("came", self.came),
            ("went", self.went),
            ("lost", self.lost),
            ("duplicated", self.duplicated),
            ("corrupted", self.corrupted),
            ("reordered", self.reordered),
            ("queue_full", self.queue_full),
            ("too_large", self.too_large),
            ("marked", self.marked),
            ("in_the_dark", self.in_the_dark),
        ];
        let named: Vec<_> = named
            .iter()
            .map(|(name, count)| format!(r#""{name}": {count}"#))
            .collect();
        write!(f, "{{{}}}", named.join(", "))
    }
}
