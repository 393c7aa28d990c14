//! Decides when a silent connection sends a PING, so that no idle timeout ends it (RFC 9000 section
//! 10.1). quinn-proto sends the PING and retransmits it.
//!
//! quinn-proto's own keep-alive has an interval that is fixed before the peer's idle timeout is
//! known.

use std::time::{Duration, Instant};

use bytes::Buf;
use quinn_proto::{
    VarInt,
    coding::{Codec, UnexpectedEnd},
    crypto::Session,
    transport_parameters::TransportParameters,
};

use crate::driver::final_flight::ACK_DELAY;

/// The interval is at most the agreed idle timeout divided by this. If the PING at one third is
/// lost, the next one at two thirds, or an earlier probe, still has a third of the time to arrive.
const DIVISOR: u32 = 3;

/// A PING may leave this part of the interval early, together with that of another connection:
/// what idle connections cost is the wake-ups.
const EARLY: u32 = 10;

/// The interval of a connection for which a hole was punched is at most this part of the configured
/// one. There are routers whose UDP mappings end after 5 s of silence, although RFC 4787 (requirement
/// 5) asks for two minutes: by default 2 s, so that a lost PING is followed by another one in time.
const PUNCHED: (u32, u32) = (2, 5);

/// The transport parameter max_idle_timeout (RFC 9000 section 18.2).
const MAX_IDLE_TIMEOUT: u64 = 0x01;

pub(super) struct KeepAlive {
    /// As configured, and shortened for the agreed idle timeout.
    interval: Duration,
    /// As configured, or less for a punched connection.
    longest: Duration,
    last_sent: Instant,
}

impl KeepAlive {
    /// For a connection whose handshake completed now, with the idle timeout of this side.
    /// `is_punched`: mappings of NATs on both sides have to last.
    pub(super) fn new(
        now: Instant,
        configured: Duration,
        is_punched: bool,
        idle_timeout: Duration,
        session: &dyn Session,
    ) -> Self {
        let longest = if is_punched {
            configured * PUNCHED.0 / PUNCHED.1
        } else {
            configured
        };
        let agreed = agreed(idle_timeout, peer_idle_timeout(session));
        Self {
            interval: agreed.map_or(longest, |agreed| longest.min(agreed / DIVISOR)),
            longest,
            last_sent: now,
        }
    }

    /// A datagram was sent. Received datagrams do not count: they restart our idle timer, not the
    /// peer's, and ack-eliciting ones are answered anyway.
    pub(super) fn sent(&mut self, now: Instant) {
        self.last_sent = now;
    }

    pub(super) fn deadline(&self, rtt: Duration) -> Instant {
        self.last_sent + self.interval(rtt)
    }

    /// The most that a PING may leave early, with this configured interval.
    pub(super) fn longest_lead(longest: Duration) -> Duration {
        longest / EARLY
    }

    /// True if a PING is due now; the next one is due an interval later.
    pub(super) fn expire(&mut self, now: Instant, rtt: Duration) -> bool {
        self.expire_before(now, now, rtt)
    }

    /// The same, if the thread is awake for the PING of another connection.
    pub(super) fn expire_early(&mut self, now: Instant, rtt: Duration) -> bool {
        self.expire_before(now + self.interval(rtt) / EARLY, now, rtt)
    }

    fn expire_before(&mut self, limit: Instant, now: Instant, rtt: Duration) -> bool {
        let is_due = self.deadline(rtt) <= limit;
        if is_due {
            self.last_sent = now;
        }
        is_due
    }

    /// At least the time of one answer: with an idle timeout that is short compared to the round-trip
    /// time, several PINGs would otherwise be sent before the first answer. This is safe, as both
    /// sides wait for at least three probe timeouts (RFC 9000 section 10.1), which are longer.
    fn interval(&self, rtt: Duration) -> Duration {
        self.interval.max((rtt + ACK_DELAY).min(self.longest))
    }
}

/// The smaller idle timeout of both sides; zero and absent mean none (RFC 9000 section 10.1).
fn agreed(ours: Duration, theirs: Option<Duration>) -> Option<Duration> {
    // The transport parameter has whole milliseconds.
    let ours = Duration::from_millis(u64::try_from(ours.as_millis()).unwrap_or(u64::MAX));
    let timeouts = [Some(ours), theirs].into_iter().flatten();
    timeouts.filter(|timeout| !timeout.is_zero()).min()
}

/// The peer's max_idle_timeout, once its transport parameters are known.
fn peer_idle_timeout(session: &dyn Session) -> Option<Duration> {
    let parameters = session.transport_parameters().ok().flatten()?;
    read_idle_timeout(&parameters).ok().flatten()
}

/// Decodes the encoded parameters, as quinn-proto's fields are private.
fn read_idle_timeout(parameters: &TransportParameters) -> Result<Option<Duration>, UnexpectedEnd> {
    let mut encoded = Vec::new();
    parameters.write(&mut encoded);
    let mut rest = &encoded[..];
    while rest.has_remaining() {
        let id = VarInt::decode(&mut rest)?.into_inner();
        let length = usize::try_from(VarInt::decode(&mut rest)?.into_inner());
        let (mut value, next) = length
            .ok()
            .and_then(|length| rest.split_at_checked(length))
            .ok_or(UnexpectedEnd)?;
        if id == MAX_IDLE_TIMEOUT {
            let millis = VarInt::decode(&mut value)?.into_inner();
            return Ok(Some(Duration::from_millis(millis)));
        }
        rest = next;
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use quinn_proto::Side;

    use super::*;

    const fn ms(n: u64) -> Duration {
        Duration::from_millis(n)
    }

    #[test]
    fn the_smaller_timeout_counts_and_zero_is_none() {
        assert_eq!(agreed(ms(30_000), Some(ms(2_000))), Some(ms(2_000)));
        assert_eq!(agreed(ms(2_000), Some(ms(30_000))), Some(ms(2_000)));
        assert_eq!(agreed(ms(30_000), Some(ms(0))), Some(ms(30_000)));
        assert_eq!(agreed(ms(30_000), None), Some(ms(30_000)));
        assert_eq!(agreed(Duration::from_micros(999), Some(ms(7))), Some(ms(7)));
        assert_eq!(agreed(Duration::from_micros(999), None), None);
    }

    #[test]
    fn the_idle_timeout_is_found_among_other_parameters() {
        let read = |encoded: &[u8]| {
            let read = TransportParameters::read(Side::Client, &mut &encoded[..]);
            read_idle_timeout(&read.expect("transport parameters")).expect("well encoded")
        };
        // initial_max_data, an unknown parameter, and max_idle_timeout of 2 and of 4 bytes.
        assert_eq!(
            read(&[0x04, 1, 9, 0x1b, 2, 7, 7, 0x01, 2, 0x47, 0xd0]),
            Some(ms(2_000))
        );
        assert_eq!(
            read(&[0x01, 4, 0x80, 0x00, 0x75, 0x30, 0x04, 1, 9]),
            Some(ms(30_000))
        );
        assert_eq!(read(&[0x04, 1, 9]), None);
    }

    #[test]
    fn a_ping_is_early_by_a_tenth_of_the_interval_at_most() {
        let began = Instant::now();
        let mut keep_alive = KeepAlive {
            interval: ms(1_000),
            longest: ms(5_000),
            last_sent: began,
        };
        assert!(!keep_alive.expire(began + ms(999), ms(50)));
        assert!(!keep_alive.expire_early(began + ms(899), ms(50)));
        assert!(keep_alive.expire_early(began + ms(900), ms(50)));
        assert_eq!(keep_alive.deadline(ms(50)), began + ms(1_900));
        assert!(keep_alive.expire(began + ms(1_900), ms(50)));
    }

    #[test]
    fn the_interval_is_a_third_and_at_least_the_time_of_an_answer() {
        let interval = |longest, agreed, rtt| {
            let keep_alive = KeepAlive {
                interval: Duration::min(longest, agreed / DIVISOR),
                longest,
                last_sent: Instant::now(),
            };
            keep_alive.interval(rtt)
        };
        assert_eq!(interval(ms(5_000), ms(30_000), ms(50)), ms(5_000));
        assert_eq!(interval(ms(5_000), ms(3_000), ms(50)), ms(1_000));
        assert_eq!(interval(ms(5_000), ms(30), ms(100)), ms(125));
        // A shorter configured interval is kept.
        assert_eq!(interval(ms(20), ms(30_000), ms(100)), ms(20));
    }
}
