//! How many streams the peer may have open at once. quinn-proto reserves memory for each of them, so
//! the allowance starts small and grows with use, up to `max_incoming_streams`.

use quinn_proto::{Connection, Dir, VarInt};

use crate::config::{Config, INITIAL_STREAM_ALLOWANCE};

#[derive(Default)]
pub(super) struct StreamAllowance {
    /// STREAMS_BLOCKED frames that were acted on.
    blocked: u64,
}

impl StreamAllowance {
    /// The peer opened streams: the allowance doubles while more than half of it is in use.
    pub(super) fn widen_if_used(&self, conn: &mut Connection, config: &Config) {
        let allowed = conn.max_concurrent_streams(Dir::Bi);
        if conn.streams().remote_open_streams(Dir::Bi) * 2 > allowed {
            widen(conn, config);
        }
    }

    /// It doubles too when the peer says that it wants more (RFC 9000 section 19.14): streams
    /// that it opened and wrote nothing on, as go-libp2p does, count for it and are unknown here.
    pub(super) fn widen_if_blocked(&mut self, conn: &mut Connection, config: &Config) {
        if conn.max_concurrent_streams(Dir::Bi) >= u64::from(config.max_incoming_streams) {
            return;
        }
        let blocked = conn.stats().frame_rx.streams_blocked_bidi;
        if blocked > self.blocked {
            self.blocked = blocked;
            widen(conn, config);
        }
    }
}

fn widen(conn: &mut Connection, config: &Config) {
    let allowed = conn.max_concurrent_streams(Dir::Bi);
    let limit = u64::from(config.max_incoming_streams);
    if allowed < limit {
        let wider = (allowed * 2)
            .max(u64::from(INITIAL_STREAM_ALLOWANCE))
            .min(limit);
        let wider = VarInt::from_u64(wider).unwrap_or(VarInt::MAX);
        conn.set_max_concurrent_streams(Dir::Bi, wider);
    }
}
