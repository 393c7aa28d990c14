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

use crate::driver::{limit_log::Multiaddr, token_bucket::TokenBucket};

/// So many moves may come at once.
const BURST: u32 = 64;

/// After them there is one in this time. A NAT rebinds when it has forgotten a mapping, which takes
/// it seconds; a path that alternates packet by packet is of no use to congestion control.
const INTERVAL: Duration = Duration::from_millis(50);

pub(super) struct MigrationLimit(TokenBucket);

impl MigrationLimit {
    pub(super) fn new() -> Self {
        Self(TokenBucket::new(BURST, INTERVAL))
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
        if remote != before && self.0.is_empty(now) {
            return false;
        }
        conn.handle_event(datagram);
        if conn.remote_address() != before {
            self.0.take(now);
            if self.0.is_empty(now) {
                let remote = Multiaddr(remote);
                tracing::debug!("{remote} changes its address too often to be followed");
            }
        }
        true
    }
}
