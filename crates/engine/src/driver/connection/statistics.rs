//! Publishes a connection's statistics to its shared state, where the application reads them, and adds
//! them to the totals of the endpoint.

use std::{
    mem,
    time::{Duration, Instant},
};

use super::{ConnectionDriver, stage::Stage};
use crate::{error::ConnectionError, shared::DialProgress, statistics::Statistics};

/// How old published statistics may be while a connection is busy; at the end of a burst they are
/// published at once.
const STATISTICS_INTERVAL: Duration = Duration::from_millis(10);

impl ConnectionDriver {
    pub(super) fn publish(&mut self, now: Instant, is_urgent: bool) {
        if is_urgent || now.saturating_duration_since(self.published) >= STATISTICS_INTERVAL {
            self.published = now;
            self.report();
        }
    }

    /// Publish what came after the end, before the connection is dropped.
    pub(in crate::driver) fn publish_last(&mut self) {
        self.report();
        // A panic, or the end of the endpoint, may have come before the end of the streams.
        let last = Statistics {
            streams_open: 0,
            ..self.reported
        };
        self.shared.totals.add_difference(&self.reported, &last);
        self.reported = last;
    }

    fn report(&mut self) {
        let stats = self.conn.stats();
        let mut state = self.shared.state.lock();
        let current = Statistics {
            rtt: stats.path.rtt,
            min_rtt: stats.path.min_rtt,
            initial_sent: self.reported.initial_sent,
            first_answer: self.reported.first_answer,
            server_hello: self.reported.server_hello,
            handshake: self.reported.handshake,
            confirmed: self.reported.confirmed,
            congestion_window: if self.shared.congestion_signals.is_close_allowed() {
                // It is unbounded now, so that the window does not delay CONNECTION_CLOSE.
                self.reported.congestion_window
            } else {
                stats.path.cwnd
            },
            mtu: stats.path.current_mtu,
            ecn: self.marking.ecn(),
            bytes_sent: stats.udp_tx.bytes,
            bytes_received: stats.udp_rx.bytes,
            datagrams_sent: stats.udp_tx.datagrams,
            datagrams_received: stats.udp_rx.datagrams,
            sends: stats.udp_tx.ios,
            packets_sent: stats.path.sent_packets,
            packets_lost: stats.path.lost_packets,
            bytes_lost: stats.path.lost_bytes,
            congestion_events: stats.path.congestion_events,
            black_holes: stats.path.black_holes_detected,
            keep_alives_sent: self.keep_alives_sent,
            migrations: self.migration.made(),
            streams_open: match self.phase.is_over() {
                true => 0,
                false => self.streams.len().saturating_sub(state.opened_ahead.len()),
            },
            ..Statistics::default()
        };
        // Another attempt of the same dial publishes to the state.
        if !self.is_detached {
            // The previous address again, if the new path was not validated (RFC 9000 9.3.2).
            state.set_remote(self.conn.remote_address());
            state.statistics = current;
            // quinn-proto counts one attempt, and not what the system refused at first. The error of the
            // dial tells what left in all, and both must agree.
            if let Some(dial) = &self.dial {
                state.statistics.datagrams_sent = dial.sent();
            }
        }
        drop(state);
        let before = mem::replace(&mut self.reported, current);
        let totals = &self.shared.totals;
        totals.add_difference(&before, &current);
        if self.stage == Stage::Open {
            totals.round_trip_time_changed(Some(before.rtt), Some(current.rtt));
        }
    }

    /// The handshake begins, has completed, or the connection is over.
    pub(super) fn enter(&mut self, stage: Stage) {
        let before = mem::replace(&mut self.stage, stage);
        if before == stage {
            return;
        }
        let totals = &self.shared.totals;
        let is_inbound = self.listener.is_some();
        if let Some(gauge) = before.gauge(is_inbound) {
            totals.take(gauge, 1);
        }
        if let Some(gauge) = stage.gauge(is_inbound) {
            totals.add(gauge, 1);
        }
        if before == Stage::Open {
            totals.round_trip_time_changed(Some(self.reported.rtt), None);
        }
        if stage == Stage::Open {
            totals.round_trip_time_changed(None, Some(self.reported.rtt));
            let is_webtransport = self.webtransport.is_some();
            totals.handshake_completed(self.reported.handshake, is_webtransport);
            totals.opened(is_inbound, is_webtransport, self.conn.remote_address());
        }
    }

    /// The connection is over, or the application has closed it.
    pub(super) fn leave(&mut self, error: &ConnectionError) {
        if self.stage == Stage::Open {
            let (is_inbound, remote) = (self.listener.is_some(), self.conn.remote_address());
            let is_webtransport = self.webtransport.is_some();
            let totals = &self.shared.totals;
            totals.closed(error, is_inbound, is_webtransport, remote);
        }
        self.enter(Stage::Over);
    }
}
