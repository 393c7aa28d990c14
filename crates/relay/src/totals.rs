//! What became of the datagrams, counted, and its line of JSON.

use std::fmt;

/// Datagrams of one direction.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// They came in.
    pub came: u64,
    /// They went out, copies among them.
    pub went: u64,
    /// They were lost by `--loss`.
    pub lost: u64,
    /// A copy of them was made.
    pub duplicated: u64,
    /// One bit of them was flipped.
    pub corrupted: u64,
    /// They were held back.
    pub reordered: u64,
    /// The queue before the rate had no room for them.
    pub queue_full: u64,
    /// They exceeded the MTU.
    pub too_large: u64,
    /// They had an ECN mark.
    pub marked: u64,
    /// They would have arrived in a blackout.
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
