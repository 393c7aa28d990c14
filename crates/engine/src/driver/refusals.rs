//! Says in the log that connections are refused, and which limit it was. The first of a second
//! is told at once and the others are counted: whoever is refused chooses how often.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use super::crowd::Limit;

const INTERVAL: Duration = Duration::from_secs(1);

#[derive(Debug, Default)]
pub(super) struct Refusals {
    told: Option<Instant>,
    /// Refused since, and not told.
    untold: u64,
}

impl Refusals {
    /// A connection from `remote` is refused. Whether that was told.
    pub(super) fn note(&mut self, now: Instant, remote: SocketAddr, limit: Limit) -> bool {
        if self.told.is_some_and(|told| now < told + INTERVAL) {
            self.untold += 1;
            return false;
        }
        self.told = Some(now);
        let others = std::mem::take(&mut self.untold);
        tracing::warn!(%remote, others, "refused a connection: {limit}");
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_a_second_is_told_and_the_others_are_counted() {
        let (mut refusals, began) = (Refusals::default(), Instant::now());
        let remote = SocketAddr::from(([192, 0, 2, 1], 1));
        let mut note = |millis| {
            let at = began + Duration::from_millis(millis);
            refusals.note(at, remote, Limit::OfOneAddress(256))
        };
        assert!(note(0) && !note(1) && !note(999));
        assert!(note(1000) && !note(1999) && note(5000));
    }

    #[test]
    fn a_limit_is_told_by_its_name_and_value() {
        let text = Limit::OfOneAddress(256).to_string();
        let says = "too many connections from this address: max_connections_per_address is 256";
        assert_eq!(text, says);
        let text = Limit::InAll(4096).to_string();
        assert_eq!(text, "too many connections: max_connections is 4096");
    }
}
