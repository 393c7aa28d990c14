//! Decides how many streams the peer may have open at once, and when to send MAX_STREAMS.
//!
//! quinn-proto reserves memory for each allowed stream, so the allowance starts small and grows with
//! use, up to `max_incoming_streams`. quinn-proto sends MAX_STREAMS only for more than an eighth of
//! the allowance: at a limit of 1024 a peer got no new stream before 129 had ended, and never got one
//! if it waited for a new stream before it ended another.

use std::time::Instant;

use quinn_proto::{Connection, Dir, VarInt};

use crate::{
    config::{BROWSER_STREAM_ALLOWANCE, Config, INITIAL_STREAM_ALLOWANCE},
    driver::final_flight::ACK_DELAY,
};

/// quinn-proto does not announce an increase of up to this fraction (1/8) of the allowance.
const UNANNOUNCED: u64 = 8;

#[derive(Default)]
pub(super) struct StreamAllowance {
    /// STREAMS_BLOCKED frames that were handled.
    blocked: u64,
    /// Streams that the peer has opened, and how many of them had ended at the last check.
    opened: u64,
    ended: u64,
    /// When to announce room that the peer may need although it seems to have some left.
    announce_at: Option<Instant>,
}

impl StreamAllowance {
    /// The peer, which may be a browser, has proven its identity in a session of WebTransport.
    pub(super) fn session_proven(conn: &mut Connection, config: &Config) {
        let streams = config.max_incoming_streams.min(BROWSER_STREAM_ALLOWANCE);
        if conn.max_concurrent_streams(Dir::Bi) < u64::from(streams) {
            set(conn, u64::from(streams));
            announce(conn);
        }
    }

    /// A peer that has not proven its identity opened streams, which do not widen the allowance.
    pub(super) fn opened_unproven(&mut self, streams: u64) {
        self.opened += streams;
    }

    /// The peer opened streams: the allowance doubles while more than half of it is in use.
    pub(super) fn opened(&mut self, streams: u64, conn: &mut Connection, config: &Config) {
        self.opened += streams;
        let allowed = conn.max_concurrent_streams(Dir::Bi);
        if conn.streams().remote_open_streams(Dir::Bi) * 2 > allowed {
            widen(conn, config);
        }
    }

    /// Check, once in each turn, for ended streams and for STREAMS_BLOCKED frames.
    pub(super) fn check(&mut self, now: Instant, conn: &mut Connection, config: &Config) {
        let blocked = conn.stats().frame_rx.streams_blocked_bidi;
        if blocked > self.blocked {
            // RFC 9000 section 19.14. The peer counts streams that it opened without sending
            // anything, as go-libp2p does; they are unknown here.
            self.blocked = blocked;
            widen(conn, config);
            announce(conn);
        }
        let allowed = conn.max_concurrent_streams(Dir::Bi);
        let open = conn.streams().remote_open_streams(Dir::Bi);
        let ended = self.opened.saturating_sub(open);
        let just_ended = ended.saturating_sub(self.ended);
        if just_ended == 0 {
            return;
        }
        self.ended = ended;
        if open + just_ended + allowed / UNANNOUNCED >= allowed {
            announce(conn);
        } else if self.announce_at.is_none() {
            // The peer has room left, unless it used that for streams without data, which few peers
            // report. Streams that end meanwhile share the packet, which is mostly sent anyway.
            self.announce_at = Some(now + conn.rtt().max(ACK_DELAY));
        }
    }

    /// When `expire` next has something to do.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.announce_at
    }

    /// Announce room if that is due.
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

/// Have quinn-proto send MAX_STREAMS if there is unannounced room: it checks that when the allowance
/// is set. Existing streams are not affected.
fn announce(conn: &mut Connection) {
    let allowed = conn.max_concurrent_streams(Dir::Bi);
    set(conn, 0);
    set(conn, allowed);
}

fn set(conn: &mut Connection, streams: u64) {
    let streams = VarInt::from_u64(streams).unwrap_or(VarInt::MAX);
    conn.set_max_concurrent_streams(Dir::Bi, streams);
}
