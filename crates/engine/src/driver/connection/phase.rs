//! The phases of a connection, with what each of them holds. `transitions` goes from one to another.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use crate::driver::{dial_report::DialReport, final_flight::FinalFlight, keep_alive::KeepAlive};

pub(super) enum Phase {
    Handshake {
        deadline: Instant,
        /// The report of its dial; `None` for an accepted connection.
        report: Option<Arc<DialReport>>,
    },
    Connected(Established),
    /// Closed by the application; finished streams still have bytes to deliver.
    Lingering {
        established: Established,
        deadline: Instant,
        code: u64,
        reason: Vec<u8>,
    },
    /// Over. quinn-proto still answers late packets until it is drained.
    Over {
        was_connected: bool,
    },
}

/// What a connection holds from the end of its handshake until it is over.
pub(super) struct Established {
    /// `None` if keep-alives are not configured.
    pub(super) keep_alive: Option<KeepAlive>,
    /// For a dialed connection, until the listener has confirmed the handshake: boxed, as that is soon.
    pub(super) final_flight: Option<Box<FinalFlight>>,
}

impl Established {
    fn deadline(&self, rtt: Duration) -> Option<Instant> {
        let keep_alive = self.keep_alive.as_ref().map(|it| it.deadline(rtt));
        let final_flight = self.final_flight.as_deref().map(FinalFlight::deadline);
        [keep_alive, final_flight].into_iter().flatten().min()
    }

    /// Note the deadlines that have passed. True if a PING is due.
    fn expire(&mut self, now: Instant, rtt: Duration) -> bool {
        if let Some(final_flight) = &mut self.final_flight {
            final_flight.expire(now);
        }
        let keep_alive = self.keep_alive.as_mut();
        keep_alive.is_some_and(|it| it.expire(now, rtt))
    }
}

impl Phase {
    pub(super) fn is_handshake(&self) -> bool {
        matches!(self, Self::Handshake { .. })
    }

    pub(super) fn is_connected(&self) -> bool {
        matches!(self, Self::Connected(_))
    }

    pub(super) fn is_over(&self) -> bool {
        matches!(self, Self::Over { .. })
    }

    /// Whether the handshake completed, which authenticates the peer.
    pub(super) fn was_connected(&self) -> bool {
        match self {
            Self::Handshake { .. } => false,
            Self::Connected(_) | Self::Lingering { .. } => true,
            Self::Over { was_connected } => *was_connected,
        }
    }

    pub(super) fn report(&self) -> Option<&Arc<DialReport>> {
        match self {
            Self::Handshake { report, .. } => report.as_ref(),
            _ => None,
        }
    }

    fn established(&self) -> Option<&Established> {
        match self {
            Self::Connected(established) | Self::Lingering { established, .. } => Some(established),
            Self::Handshake { .. } | Self::Over { .. } => None,
        }
    }

    pub(super) fn established_mut(&mut self) -> Option<&mut Established> {
        match self {
            Self::Connected(established) | Self::Lingering { established, .. } => Some(established),
            Self::Handshake { .. } | Self::Over { .. } => None,
        }
    }

    /// When something that the phase holds has something to do, or the phase ends.
    pub(super) fn deadline(&self, rtt: Duration) -> Option<Instant> {
        let end = match self {
            Self::Handshake { deadline, .. } | Self::Lingering { deadline, .. } => Some(*deadline),
            Self::Connected(_) | Self::Over { .. } => None,
        };
        let report = self.report().and_then(|report| report.deadline());
        let established = self.established().and_then(|it| it.deadline(rtt));
        [end, report, established].into_iter().flatten().min()
    }

    /// True if a PING is due, or so soon that it may leave with that of another connection.
    pub(super) fn expire_early(&mut self, now: Instant, rtt: Duration) -> bool {
        let keep_alive = self.established_mut().and_then(|it| it.keep_alive.as_mut());
        keep_alive.is_some_and(|it| it.expire_early(now, rtt))
    }

    /// Note the deadlines that have passed. True if a PING is due.
    pub(super) fn expire(&mut self, now: Instant, rtt: Duration) -> bool {
        if let Some(report) = self.report() {
            report.expire(now);
        }
        self.established_mut().is_some_and(|it| it.expire(now, rtt))
    }
}
