//! A congestion controller that tells a connection's log what it hears and decides. The algorithm is
//! the wrapped controller's.

use std::{
    any::Any,
    sync::Arc,
    time::{Duration, Instant},
};

use quinn_proto::{
    RttEstimator,
    congestion::{Controller, ControllerMetrics},
};

use super::connection_log::{ConnectionLog, Metrics};

pub(crate) struct LoggedController {
    algorithm: Box<dyn Controller>,
    log: Arc<ConnectionLog>,
    smoothed_rtt: Option<Duration>,
    min_rtt: Option<Duration>,
    in_flight: Option<u64>,
    /// There was an acknowledgment before.
    is_measured: bool,
}

impl LoggedController {
    /// It logs the initial window.
    pub(crate) fn new(algorithm: Box<dyn Controller>, log: Arc<ConnectionLog>) -> Self {
        let controller = Self {
            algorithm,
            log,
            smoothed_rtt: None,
            min_rtt: None,
            in_flight: None,
            is_measured: false,
        };
        controller.log_metrics();
        controller
    }

    fn log_metrics(&self) {
        self.log.metrics(Metrics {
            smoothed_rtt: self.smoothed_rtt,
            min_rtt: self.min_rtt,
            latest_rtt: None,
            congestion_window: Some(self.algorithm.window()),
            bytes_in_flight: self.in_flight,
            ssthresh: self.algorithm.metrics().ssthresh,
        });
    }
}

impl Controller for LoggedController {
    fn on_sent(&mut self, now: Instant, bytes: u64, last_packet_number: u64) {
        self.algorithm.on_sent(now, bytes, last_packet_number);
    }

    fn on_ack(
        &mut self,
        now: Instant,
        sent: Instant,
        bytes: u64,
        app_limited: bool,
        rtt: &RttEstimator,
    ) {
        self.algorithm.on_ack(now, sent, bytes, app_limited, rtt);
        // quinn-proto updates the estimate after this, so that the first one is the assumed time.
        if self.is_measured {
            self.smoothed_rtt = Some(rtt.get());
            self.min_rtt = Some(rtt.min());
        }
    }

    fn on_end_acks(
        &mut self,
        now: Instant,
        in_flight: u64,
        app_limited: bool,
        largest_packet_num_acked: Option<u64>,
    ) {
        self.algorithm
            .on_end_acks(now, in_flight, app_limited, largest_packet_num_acked);
        self.in_flight = Some(in_flight);
        self.is_measured = true;
        self.log_metrics();
    }

    fn on_congestion_event(
        &mut self,
        now: Instant,
        sent: Instant,
        is_persistent_congestion: bool,
        lost_bytes: u64,
    ) {
        self.algorithm
            .on_congestion_event(now, sent, is_persistent_congestion, lost_bytes);
        match lost_bytes {
            0 => self.log.congestion("ecn"),
            _ => self.log.lost(lost_bytes),
        }
        if is_persistent_congestion {
            self.log.congestion("persistent_congestion");
        }
        self.log_metrics();
    }

    fn on_mtu_update(&mut self, new_mtu: u16) {
        self.algorithm.on_mtu_update(new_mtu);
        self.log.mtu(new_mtu);
        self.log_metrics();
    }

    fn window(&self) -> u64 {
        self.algorithm.window()
    }

    fn metrics(&self) -> ControllerMetrics {
        self.algorithm.metrics()
    }

    fn clone_box(&self) -> Box<dyn Controller> {
        Box::new(Self {
            algorithm: self.algorithm.clone_box(),
            log: self.log.clone(),
            ..*self
        })
    }

    fn initial_window(&self) -> u64 {
        self.algorithm.initial_window()
    }

    fn into_any(self: Box<Self>) -> Box<dyn Any> {
        self.algorithm.into_any()
    }
}
