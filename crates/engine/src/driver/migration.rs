//! Limits how often a peer may migrate (RFC 9000 section 9): as often as a NAT rebinds, and no
//! more. Each migration resets the path's estimates and costs padded PATH_CHALLENGE datagrams to
//! both addresses.
//!
//! Only migrations that quinn-proto has made count, so forged packets do not use up the peer's.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use quinn_proto::{Connection, ConnectionEvent};

use crate::{driver::token_bucket::TokenBucket, multiaddr::Multiaddr};

/// Migrations that may come at once.
const BURST: u32 = 64;

/// After the burst, one migration is allowed in this time. A NAT rebinds after it dropped an idle
/// mapping, which takes seconds; congestion control cannot use a path that alternates by packet.
const INTERVAL: Duration = Duration::from_millis(50);

pub(super) struct MigrationLimit {
    bucket: TokenBucket,
    /// Migrations that were made.
    made: u64,
}

impl MigrationLimit {
    pub(super) fn new() -> Self {
        Self {
            bucket: TokenBucket::new(BURST, INTERVAL),
            made: 0,
        }
    }

    pub(super) fn made(&self) -> u64 {
        self.made
    }

    /// Deliver a datagram from `remote` to the connection. A datagram that might cause a migration
    /// beyond the limit is dropped, as the network may lose any. True if it was delivered.
    pub(super) fn deliver(
        &mut self,
        now: Instant,
        remote: SocketAddr,
        datagram: ConnectionEvent,
        conn: &mut Connection,
    ) -> bool {
        let before = conn.remote_address();
        if remote != before && self.bucket.is_empty(now) {
            return false;
        }
        conn.handle_event(datagram);
        if conn.remote_address() != before {
            self.made += 1;
            self.bucket.take(now);
            let (from, to) = (Multiaddr(before), Multiaddr(remote));
            tracing::debug!("a peer has moved from {from} to {to}");
            if self.bucket.is_empty(now) {
                let remote = Multiaddr(remote);
                tracing::debug!("{remote} changes its address too often to be followed");
            }
        }
        true
    }
}
