//! How many streams the peer may have open at once, and when it is told that others have made room.
//!
//! quinn-proto reserves memory for each stream allowed, so the allowance starts small and grows with
//! use, up to `max_incoming_streams`. And it announces room only when that is more than an eighth of
//! the allowance: a peer at a limit of 1024 got no new stream before 129 had ended, and none ever if
//! it waits for one before it ends the next.

use std::time::Instant;

use quinn_proto::{Connection, Dir, VarInt};

use crate::{
    config::{Config, INITIAL_STREAM_ALLOWANCE},
    driver::final_flight::ACK_DELAY,
};

/// Room that quinn-proto does not announce by itself: this part of the allowance, or less.
const UNANNOUNCED: u64 = 8;

#[derive(Default)]
pub(super) struct StreamAllowance {
    /// STREAMS_BLOCKED frames that were acted on.
    blocked: u64,
    /// Streams that the peer has opened, and those of them that are over, as far as was looked.
    opened: u64,
    ended: u64,
    /// When to announce room that the peer may need though it seems to have some left.
    announce_at: Option<Instant>,
}

impl StreamAllowance {
    /// The peer opened streams: the allowance doubles while more than half of it is in use.
    pub(super) fn opened(&mut self, streams: u64, conn: &mut Connection, config: &Config) {
        self.opened += streams;
        let allowed = conn.max_concurrent_streams(Dir::Bi);
        if conn.streams().remote_open_streams(Dir::Bi) * 2 > allowed {
            widen(conn, config);
        }
    }

    /// Look what became of the streams that the peer has, and what it says, once in each turn.
    pub(super) fn look(&mut self, now: Instant, conn: &mut Connection, config: &Config) {
        let blocked = conn.stats().frame_rx.streams_blocked_bidi;
        if blocked > self.blocked {
            // RFC 9000 section 19.14. Streams that it opened and wrote nothing on, as go-libp2p does,
            // count for it and are unknown here.
            self.blocked = blocked;
            widen(conn, config);
            announce(conn);
        }
        let allowed = conn.max_concurrent_streams(Dir::Bi);
        let open = conn.streams().remote_open_streams(Dir::Bi);
        let ended = self.opened.saturating_sub(open);
        let just_ended = ended - self.ended;
        if just_ended == 0 {
            return;
        }
        self.ended = ended;
        if open + just_ended + allowed / UNANNOUNCED >= allowed {
            announce(conn);
        } else if self.announce_at.is_none() {
            // It has room left, unless it has filled that with streams that it wrote nothing on; few
            // peers say so. Streams that end meanwhile share the packet, which mostly leaves anyhow.
            self.announce_at = Some(now + conn.rtt().max(ACK_DELAY));
        }
    }

    /// When `expire` next has something to do.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.announce_at
    }

    /// Time has passed.
    pub(super) fn expire(&mut self, now: Instant, conn: &mut Connection) {
        if self.announce_at.take_if(|at| *at <= now).is_some() {
            announce(conn);
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
        set(conn, wider);
        announce(conn);
    }
}

/// Have MAX_STREAMS sent, if there is room that the peer does not know of: quinn-proto compares it
/// with the allowance when that is set. Streams that exist do not notice.
fn announce(conn: &mut Connection) {
    let allowed = conn.max_concurrent_streams(Dir::Bi);
    set(conn, 0);
    set(conn, allowed);
}

fn set(conn: &mut Connection, streams: u64) {
    let streams = VarInt::from_u64(streams).unwrap_or(VarInt::MAX);
    conn.set_max_concurrent_streams(Dir::Bi, streams);
}
