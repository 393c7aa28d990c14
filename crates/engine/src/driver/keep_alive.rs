//! When a silent connection sends a PING, so that no idle timeout ends it (RFC 9000 section 10.1).
//! The PING and its retransmission are quinn-proto's.
//!
//! quinn-proto has a keep-alive of its own, whose interval is fixed before the peer has said what
//! its idle timeout is.

use std::time::{Duration, Instant};

use bytes::Buf;
use quinn_proto::{
    VarInt,
    coding::{Codec, UnexpectedEnd},
    crypto::Session,
    transport_parameters::TransportParameters,
};

use crate::driver::final_flight::ACK_DELAY;

/// The interval is at most this part of the agreed idle timeout. A PING that is lost at a third of
/// it leaves another third until the next PING, if no probe comes before, and one for its way.
const PART: u32 = 3;

/// The transport parameter max_idle_timeout (RFC 9000 section 18.2).
const MAX_IDLE_TIMEOUT: u64 = 0x01;

pub(super) struct KeepAlive {
    /// As configured, and shortened for the agreed idle timeout.
    interval: Duration,
    /// As configured.
    longest: Duration,
    last_sent: Instant,
}

impl KeepAlive {
    /// For a connection whose handshake completed now, with the idle timeout of this side.
    pub(super) fn new(
        now: Instant,
        longest: Duration,
        idle_timeout: Duration,
        session: &dyn Session,
    ) -> Self {
        let agreed = agreed(idle_timeout, peer_idle_timeout(session));
        Self {
            interval: agreed.map_or(longest, |agreed| longest.min(agreed / PART)),
            longest,
            last_sent: now,
        }
    }

    /// A datagram was sent. What arrives does not count: it restarts our idle timer and not the
    /// peer's, and whatever deserves an answer gets one.
    pub(super) fn sent(&mut self, now: Instant) {
        self.last_sent = now;
    }

    pub(super) fn deadline(&self, rtt: Duration) -> Instant {
        self.last_sent + self.interval(rtt)
    }

    /// Whether to send a PING now; the next one is due an interval later.
    pub(super) fn expire(&mut self, now: Instant, rtt: Duration) -> bool {
        let is_due = self.deadline(rtt) <= now;
        if is_due {
            self.last_sent = now;
        }
        is_due
    }

    /// A timeout that is short beside the round-trip time must not draw several PINGs in the time
    /// that the answer to one takes. Both sides wait for at least three probe timeouts (RFC 9000
    /// section 10.1), each of them longer than that.
    fn interval(&self, rtt: Duration) -> Duration {
        self.interval.max((rtt + ACK_DELAY).min(self.longest))
    }
}

/// The smaller idle timeout of both sides; zero and absent are none (RFC 9000 section 10.1).
fn agreed(ours: Duration, theirs: Option<Duration>) -> Option<Duration> {
    // On the wire it is in whole milliseconds.
    let ours = Duration::from_millis(u64::try_from(ours.as_millis()).unwrap_or(u64::MAX));
    let timeouts = [Some(ours), theirs].into_iter().flatten();
    timeouts.filter(|timeout| !timeout.is_zero()).min()
}

/// The peer's max_idle_timeout, once its transport parameters are known.
fn peer_idle_timeout(session: &dyn Session) -> Option<Duration> {
    let parameters = session.transport_parameters().ok().flatten()?;
    read_idle_timeout(&parameters).ok().flatten()
}

/// quinn-proto keeps the fields of transport parameters to itself, and encodes them for everybody.
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
    fn it_is_read_from_whatever_stands_before_it() {
        let read = |encoded: &[u8]| {
            let read = TransportParameters::read(Side::Client, &mut &encoded[..]);
            read_idle_timeout(&read.expect("transport parameters")).expect("well encoded")
        };
        // initial_max_data, one that nobody knows, and max_idle_timeout of 2 and of 4 bytes.
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
    fn the_interval_is_a_third_and_no_shorter_than_an_answer_takes() {
        let interval = |longest, agreed, rtt| {
            let keep_alive = KeepAlive {
                interval: Duration::min(longest, agreed / PART),
                longest,
                last_sent: Instant::now(),
            };
            keep_alive.interval(rtt)
        };
        assert_eq!(interval(ms(5_000), ms(30_000), ms(50)), ms(5_000));
        assert_eq!(interval(ms(5_000), ms(3_000), ms(50)), ms(1_000));
        assert_eq!(interval(ms(5_000), ms(30), ms(100)), ms(125));
        // Who asks for more gets it.
        assert_eq!(interval(ms(20), ms(30_000), ms(100)), ms(20));
    }
}
