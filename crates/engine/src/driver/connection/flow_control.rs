//! Flow control of one connection: its windows, its streams opened ahead of need, and the peer's
//! streams.

use std::{sync::Arc, time::Instant};

use super::ConnectionDriver;
use crate::{
    config::Config,
    driver::{codes::varint, streams::stream_of},
    shared::{STREAMS_OPENED_AHEAD, StreamShared},
};

impl ConnectionDriver {
    pub(super) fn accept_streams(&mut self, now: Instant, config: &Config) {
        if !self.phase.is_handshake() && !self.phase.is_connected() {
            return;
        }
        let shared = self.shared.clone();
        let share = |id| stream_of(&shared, id, config);
        let mut opened = Vec::new();
        while let Some(stream) = self.streams.accept(&mut self.conn, now, share) {
            opened.push(stream);
        }
        let count = opened.len() as u64;
        if count > 0 {
            self.arrived(opened);
        }
        self.allowance.opened(count, &mut self.conn, config);
    }

    /// The peer's streams wait for the application. At most `max_incoming_streams` do: quinn-proto
    /// counts each until it is accepted.
    pub(super) fn arrived(&self, streams: impl IntoIterator<Item = Arc<StreamShared>>) {
        let mut waiters = {
            let mut state = self.shared.state.lock();
            state.arrived.extend(streams);
            state.acceptable.take()
        };
        // Once for all of them and without the lock, on which the woken thread would block at once.
        waiters.wake();
    }

    /// Double the receive window if there is a reason and the endpoint's budget allows it.
    pub(super) fn grow_receive_window(&mut self, now: Instant) {
        let receive_credit = &self.shared.receive_credit;
        let reason = self.receive_window.poll_growth(
            now,
            self.conn.rtt(),
            receive_credit,
            &mut self.streams,
        );
        let Some(reason) = reason else {
            return;
        };
        if receive_credit.grow(reason) {
            self.conn
                .set_receive_window(varint(receive_credit.window()));
            self.streams.resume(&mut self.conn, now);
        } else {
            self.receive_window.refused(now);
            // A reader may have stopped before half of the allowance was free.
            if self.shared.receive_credit.room() > 0 && self.streams.is_any_waiting_for_credit() {
                self.streams.resume(&mut self.conn, now);
            }
        }
    }

    /// Open streams ahead of need, and one more for each task that waits, as all of them are woken.
    pub(in crate::driver) fn refill(&mut self, config: &Config) {
        if !self.phase.is_connected() {
            return;
        }
        let shared = self.shared.clone();
        let missing = {
            let mut state = shared.state.lock();
            let waiting = std::mem::take(&mut state.wanted).max(state.openable.len());
            let wanted = STREAMS_OPENED_AHEAD + waiting;
            wanted.saturating_sub(state.opened_ahead.len())
        };
        // Without the lock, for which the application's threads would wait.
        let mut opened = Vec::new();
        while opened.len() < missing {
            let share = |id| stream_of(&shared, id, config);
            let Some(stream) = self.streams.open(&mut self.conn, share) else {
                break;
            };
            opened.push(stream);
        }
        let mut waiters = {
            let mut state = shared.state.lock();
            state.is_refilling = false;
            if opened.is_empty() || state.error.is_some() {
                return;
            }
            state.opened_ahead.extend(opened);
            state.openable.take()
        };
        waiters.wake();
    }

    /// Readers released credit: streams that waited for it continue.
    pub(in crate::driver) fn resume(&mut self, now: Instant) {
        self.streams.resume(&mut self.conn, now);
    }

    /// Widen the send window as the peer acknowledges. True if it was widened.
    pub(super) fn grow_send_window(&mut self) -> bool {
        let wider = self.send_window.grow(self.streams.written());
        if let Some(wider) = wider {
            self.conn.set_send_window(wider);
        }
        wider.is_some()
    }
}
