//! Decides when a connection's receive window grows: only if the window is what limits the peer.
//!
//! With a reader that is always slow, a wider window only buffers more, and quinn-proto copies
//! its buffer when that has many chunks.

use std::time::{Duration, Instant};

use crate::{
    driver::streams::Streams,
    receive_credit::{GrowthReason, ReceiveCredit},
};

/// If half of the window is read within this many round trips, the window may limit the peer: the
/// other half was in flight meanwhile, and the credit takes one round trip to arrive.
const FEW_ROUND_TRIPS: u32 = 4;

/// Readers that left bytes unread for this long are stuck, and block the connection's others.
const STUCK: Duration = Duration::from_millis(50);

/// How long to wait before retrying a refused reservation.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// The bytes read until a time.
#[derive(Clone, Copy, Debug)]
struct Sample {
    at: Instant,
    read: u64,
}

pub(super) struct ReceiveWindow {
    /// When half of a window had last been read, and the bytes read until then.
    half_read: Sample,
    /// Readers lag: when to check again, and the bytes read before.
    lagging: Option<Sample>,
    /// The check is due: the bytes read before.
    due: Option<u64>,
}

impl ReceiveWindow {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            half_read: Sample { at: now, read: 0 },
            lagging: None,
            due: None,
        }
    }

    /// When to check lagging readers again.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.lagging.map(|lagging| lagging.at)
    }

    /// Note whether the check is due; the connection's next turn makes it.
    pub(super) fn expire(&mut self, now: Instant) {
        if let Some(lagging) = self.lagging.take_if(|lagging| lagging.at <= now) {
            self.due = Some(lagging.read);
        }
    }

    /// Why to grow now, if there is a reason.
    pub(super) fn poll_growth(
        &mut self,
        now: Instant,
        rtt: Duration,
        receive_credit: &ReceiveCredit,
        streams: &mut Streams,
    ) -> Option<GrowthReason> {
        let read = streams
            .handed()
            .saturating_sub(receive_credit.held() as u64);
        if !receive_credit.is_widest()
            && read.saturating_sub(self.half_read.read) >= receive_credit.window() / 2
        {
            let last = std::mem::replace(&mut self.half_read, Sample { at: now, read });
            if now.saturating_duration_since(last.at) < rtt * FEW_ROUND_TRIPS {
                return Some(GrowthReason::ReaderKeepsUp);
            }
        }
        let is_stuck = self.poll_stuck(now, read, receive_credit, streams);
        (is_stuck || streams.is_any_waiting_for_credit()).then_some(GrowthReason::PeerBlocked)
    }

    /// The budget refused the growth.
    pub(super) fn refused(&mut self, now: Instant) {
        if let Some(lagging) = &mut self.lagging {
            lagging.at = now + RETRY_AFTER;
        }
    }

    /// Whether nothing was read for [`STUCK`] though there are bytes to read.
    fn poll_stuck(
        &mut self,
        now: Instant,
        read: u64,
        receive_credit: &ReceiveCredit,
        streams: &mut Streams,
    ) -> bool {
        let due = self.due.take();
        if due.is_some() {
            streams.check_lagging();
        }
        if self.lagging.is_none() && streams.is_lagging() && !receive_credit.is_widest() {
            self.lagging = Some(Sample {
                at: now + STUCK,
                read,
            });
        }
        due == Some(read) && streams.is_lagging()
    }
}
