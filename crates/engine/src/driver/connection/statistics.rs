//! Publishes a connection's statistics to its shared state, where the application reads them.

use std::time::{Duration, Instant};

use super::ConnectionDriver;
use crate::statistics::Statistics;

/// How old published statistics may be while a connection is active.
const STATISTICS_INTERVAL: Duration = Duration::from_millis(10);

impl ConnectionDriver {
    pub(super) fn publish(&mut self, now: Instant, is_urgent: bool) {
        if self.is_detached {
            return;
        }
        if !is_urgent && now.saturating_duration_since(self.published) < STATISTICS_INTERVAL {
            return;
        }
        self.published = now;
        let stats = self.conn.stats();
        let mut state = self.shared.state.lock();
        state.remote = self.conn.remote_address();
        state.statistics = Statistics {
            rtt: stats.path.rtt,
            congestion_window: if self.shared.congestion_signals.is_close_allowed() {
                // It is unbounded now, so that the window does not delay CONNECTION_CLOSE.
                state.statistics.congestion_window
            } else {
                stats.path.cwnd
            },
            mtu: stats.path.current_mtu,
            bytes_sent: stats.udp_tx.bytes,
            bytes_received: stats.udp_rx.bytes,
            datagrams_sent: stats.udp_tx.datagrams,
            sends: stats.udp_tx.ios,
            datagrams_received: stats.udp_rx.datagrams,
            packets_lost: stats.path.lost_packets,
            congestion_events: stats.path.congestion_events,
            streams_open: self.streams.len().saturating_sub(state.opened_ahead.len()),
            handshake: state.statistics.handshake,
        };
    }
}
