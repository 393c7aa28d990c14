//! The choice of a congestion controller for each path of a connection, and the signals between the
//! controllers and the connection.

mod cubic;

use std::{
    any::Any,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Instant,
};

use quinn_proto::{
    RttEstimator,
    congestion::{BbrConfig, Controller, ControllerFactory, ControllerMetrics, NewRenoConfig},
};

use self::cubic::Cubic;
use crate::qlog::{LatestLog, LoggedController};

/// Which algorithm decides how fast to send.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CongestionControl {
    /// BBR: follows measured bandwidth and round-trip time.
    Bbr,
    /// CUBIC (RFC 9438) that competes as two flows do, like go-libp2p's.
    #[default]
    Cubic,
    /// NewReno (RFC 9002).
    NewReno,
}

/// Signals between a connection and the controllers of its paths.
///
/// The connection signals that only its close is left to send. quinn-proto 0.11.19 applies the
/// congestion window to CONNECTION_CLOSE. In the middle of a transfer the window would block it for
/// ever, since a closed connection processes no acknowledgments, and the peer would learn of the
/// close only by its idle timeout.
///
/// The controllers count the ACK frames that acknowledged a packet for the first time. quinn-proto's
/// statistics count every ACK frame, and a peer that receives nothing from us repeats its last one.
#[derive(Clone, Debug, Default)]
pub(crate) struct CongestionSignals(Arc<Signals>);

#[derive(Debug, Default)]
struct Signals {
    is_close_allowed: AtomicBool,
    acknowledgments: AtomicU64,
    is_any_in_flight: AtomicBool,
}

impl CongestionSignals {
    pub(crate) fn allow_close(&self) {
        self.0.is_close_allowed.store(true, Ordering::Relaxed);
    }

    pub(crate) fn is_close_allowed(&self) -> bool {
        self.0.is_close_allowed.load(Ordering::Relaxed)
    }

    /// The number of ACK frames, on any path, that acknowledged a packet for the first time.
    pub(crate) fn acknowledgments(&self) -> u64 {
        self.0.acknowledgments.load(Ordering::Relaxed)
    }

    /// Whether packets were still in flight after the last of them.
    pub(crate) fn is_any_in_flight(&self) -> bool {
        self.0.is_any_in_flight.load(Ordering::Relaxed)
    }

    fn acknowledged(&self, in_flight: u64) {
        self.0.acknowledgments.fetch_add(1, Ordering::Relaxed);
        self.0
            .is_any_in_flight
            .store(in_flight > 0, Ordering::Relaxed);
    }
}

/// Makes a controller for every path of one connection.
pub(crate) struct Congestion {
    pub(crate) algorithm: CongestionControl,
    pub(crate) congestion_signals: CongestionSignals,
    /// The connection's log, if it has one.
    pub(crate) log: Option<LatestLog>,
}

impl ControllerFactory for Congestion {
    fn build(self: Arc<Self>, now: Instant, current_mtu: u16) -> Box<dyn Controller> {
        let algorithm = match self.algorithm {
            CongestionControl::Bbr => Arc::new(BbrConfig::default()).build(now, current_mtu),
            CongestionControl::Cubic => Box::new(Cubic::new(now, current_mtu)),
            CongestionControl::NewReno => {
                Arc::new(NewRenoConfig::default()).build(now, current_mtu)
            }
        };
        let algorithm = match self.log.as_ref().and_then(LatestLog::get) {
            Some(log) => Box::new(LoggedController::new(algorithm, log)),
            None => algorithm,
        };
        let congestion_signals = self.congestion_signals.clone();
        Box::new(WithCloseBypass {
            algorithm,
            congestion_signals,
        })
    }
}

/// The window for a close: never exceeded, and so large that pacing does not delay it.
const OPEN: u64 = u64::MAX / 2;

/// A controller whose window does not block CONNECTION_CLOSE once `allow_close` was called.
struct WithCloseBypass {
    algorithm: Box<dyn Controller>,
    congestion_signals: CongestionSignals,
}

impl Controller for WithCloseBypass {
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
    }

    fn on_end_acks(
        &mut self,
        now: Instant,
        in_flight: u64,
        app_limited: bool,
        largest_packet_num_acked: Option<u64>,
    ) {
        self.congestion_signals.acknowledged(in_flight);
        self.algorithm
            .on_end_acks(now, in_flight, app_limited, largest_packet_num_acked);
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
    }

    fn on_mtu_update(&mut self, new_mtu: u16) {
        self.algorithm.on_mtu_update(new_mtu);
    }

    fn window(&self) -> u64 {
        if self.congestion_signals.is_close_allowed() {
            OPEN
        } else {
            self.algorithm.window()
        }
    }

    fn metrics(&self) -> ControllerMetrics {
        self.algorithm.metrics()
    }

    fn clone_box(&self) -> Box<dyn Controller> {
        Box::new(Self {
            algorithm: self.algorithm.clone_box(),
            congestion_signals: self.congestion_signals.clone(),
        })
    }

    fn initial_window(&self) -> u64 {
        self.algorithm.initial_window()
    }

    fn into_any(self: Box<Self>) -> Box<dyn Any> {
        self.algorithm.into_any()
    }
}
