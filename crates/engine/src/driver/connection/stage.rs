//! As what a connection counts among those of its endpoint now. `phase` has what it holds meanwhile: a
//! connection that lingers is over for the counters.

use std::sync::atomic::AtomicU64;

use crate::totals::Totals;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// Not counted yet.
    New,
    Handshake,
    Open,
    Over,
}

impl Stage {
    /// What counts the connections in this stage.
    pub(super) fn gauge(self, is_inbound: bool) -> Option<fn(&Totals) -> &AtomicU64> {
        match self {
            Self::Handshake if is_inbound => Some(|totals| &totals.handshakes_inbound),
            Self::Handshake => Some(|totals| &totals.handshakes_outbound),
            Self::Open => Some(|totals| &totals.connections_open),
            Self::New | Self::Over => None,
        }
    }
}
