//! How often a peer may change its address: as often as any NAT makes it, and no more. Each move
//! resets what is known of the path and is answered by padded challenges, to both addresses.
//!
//! Counted are moves that quinn-proto has made, so packets that only pretend to be the peer's take
//! nothing from it.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use quinn_proto::{Connection, ConnectionEvent};

use super::limit_log::Multiaddr;

/// So many moves may come at once.
const AT_ONCE: u32 = 64;

/// After them there is one in this time. A NAT rebinds when it has forgotten a mapping, which takes
/// it seconds; a path that alternates packet by packet is of no use to congestion control.
const EVERY: Duration = Duration::from_millis(50);

pub(super) struct Moves {
    /// When as many as may come at once may come again.
    rested: Instant,
}

impl Moves {
    pub(super) fn new(now: Instant) -> Self {
        Self { rested: now }
    }

    /// Give the connection a datagram from `remote`, unless that would move it (RFC 9000 section
    /// 9.3) and it has moved enough: then it is as if the network had lost it. Whether it was given.
    pub(super) fn deliver(
        &mut self,
        now: Instant,
        remote: SocketAddr,
        datagram: ConnectionEvent,
        conn: &mut Connection,
    ) -> bool {
        let before = conn.remote_address();
        if remote != before && self.is_spent(now) {
            return false;
        }
        conn.handle_event(datagram);
        if conn.remote_address() != before {
            self.rested = self.rested.max(now) + EVERY;
            if self.is_spent(now) {
                let remote = Multiaddr(remote);
                tracing::debug!("{remote} changes its address too often to be followed");
            }
        }
        true
    }

    fn is_spent(&self, now: Instant) -> bool {
        self.rested.saturating_duration_since(now) > EVERY * (AT_ONCE - 1)
    }
}
