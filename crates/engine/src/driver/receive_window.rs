//! When a connection's receive window grows: as far as it holds the peer back, and no further.
//!
//! For a reader who is slow all the time a wider window would only hold more, and quinn-proto
//! copies what it holds when that is many chunks.

use std::time::{Duration, Instant};

use crate::{driver::streams::Streams, receive_credit::ReceiveCredit};

/// A window half of which is read within so many round trips may be what the peer waits for: the
/// other half was on its way meanwhile, and credit takes one to arrive.
const FEW_ROUND_TRIPS: u32 = 4;

/// Readers who have left bytes lying for so long are stuck; others on the connection wait.
const STUCK: Duration = Duration::from_millis(50);

/// When the budget is asked again that could not be had.
const REFUSED: Duration = Duration::from_secs(1);

/// Why to grow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum GrowthReason {
    /// What comes is read as fast as the window lets it come.
    ReaderKeepsUp,
    /// Somebody does not read, and others must not have to wait for that.
    PeerBlocked,
}

pub(super) struct ReceiveWindow {
    /// When half of a window had last been read, and how much had been read by then.
    half_read: (Instant, u64),
    /// Readers lag: when that is looked at again, and what had been read before.
    stuck: Option<(Instant, u64)>,
    /// It is to be looked at now: what had been read before.
    looked: Option<u64>,
}

impl ReceiveWindow {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            half_read: (now, 0),
            stuck: None,
            looked: None,
        }
    }

    /// When to ask again, whatever happens.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.stuck.map(|(at, _)| at)
    }

    /// Time has passed. What it means is asked in the next turn, which may have to wait.
    pub(super) fn expire(&mut self, now: Instant) {
        if let Some((_, before)) = self.stuck.take_if(|(at, _)| *at <= now) {
            self.looked = Some(before);
        }
    }

    /// Whether to grow now.
    pub(super) fn growth_reason(
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
            && read.saturating_sub(self.half_read.1) >= receive_credit.window() / 2
        {
            let (since, _) = std::mem::replace(&mut self.half_read, (now, read));
            if now.saturating_duration_since(since) < rtt * FEW_ROUND_TRIPS {
                return Some(GrowthReason::ReaderKeepsUp);
            }
        }
        let is_stuck = self.is_stuck(now, read, receive_credit, streams);
        (is_stuck || streams.is_any_waiting_for_credit()).then_some(GrowthReason::PeerBlocked)
    }

    /// The budget has nothing to grow with.
    pub(super) fn refused(&mut self, now: Instant) {
        if let Some((until, _)) = &mut self.stuck {
            *until = now + REFUSED;
        }
    }

    /// Whether nobody has read anything for a while, though there is something to read.
    fn is_stuck(
        &mut self,
        now: Instant,
        read: u64,
        receive_credit: &ReceiveCredit,
        streams: &mut Streams,
    ) -> bool {
        let looked = self.looked.take();
        if looked.is_some() {
            streams.look_who_lags();
        }
        if self.stuck.is_none() && streams.is_lagging() && !receive_credit.is_widest() {
            self.stuck = Some((now + STUCK, read));
        }
        looked == Some(read) && streams.is_lagging()
    }
}
