//! CUBIC (RFC 9438) that competes as two flows do, like go-libp2p's.
//!
//! Two flows that share a window of `w` lose three tenths of half of it when one of them backs
//! off, and grow by two segments per round trip where CUBIC must not be slower than Reno.
//! go-libp2p's QUIC does that by default, and most libp2p nodes run it: a single flow beside them
//! gets the smaller part of the path (decision 0005).

use std::{
    any::Any,
    time::{Duration, Instant},
};

use quinn_proto::{
    RttEstimator,
    congestion::{Controller, ControllerMetrics},
};

/// The number of emulated flows.
const FLOWS: f64 = 2.0;
/// Multiplicative decrease of one flow at a loss (RFC 9438 section 4.6).
const BETA_OF_ONE: f64 = 0.7;
/// Multiplicative decrease of the whole window when one of the flows loses.
const BETA: f64 = (FLOWS - 1.0 + BETA_OF_ONE) / FLOWS;
/// CUBIC's constant C, in segments per cubic second (RFC 9438 section 5.1), for each flow.
const C: f64 = 0.4 * FLOWS;
/// 10 segments of the smallest size (RFC 9002 section 7.2), less what TCP's bound takes off.
const INITIAL_WINDOW: u64 = 12_000;
/// Minimum window in segments (RFC 9002 section 7.2).
const MIN_WINDOW: f64 = 2.0;
/// Largest growth in a round trip (RFC 9438 section 4.4).
const STEEPEST: f64 = 1.5;

/// Windows are in bytes, round-trip times those of `RttEstimator`.
#[derive(Clone, Debug)]
pub(super) struct Cubic {
    mtu: f64,
    window: f64,
    /// Slow start threshold.
    threshold: f64,
    /// Start of the recovery period: packets sent before it neither shrink nor grow the window.
    recovery_start: Option<Instant>,
    /// The current growth curve; `None` in slow start.
    curve: Option<Curve>,
    /// The window at the last loss, lowered when it was below the one before.
    last_maximum: f64,
    last_ack: Instant,
}

/// RFC 9438 section 4.2: from the window at `start` to a plateau at `maximum` and beyond.
#[derive(Clone, Debug)]
struct Curve {
    /// Postponed by the time in which the application had nothing to send.
    start: Instant,
    maximum: f64,
    /// Seconds from `start` to the plateau.
    k: f64,
    /// The window that Reno's flows would have now.
    reno: f64,
}

impl Curve {
    fn new(now: Instant, window: f64, maximum: f64, mtu: f64) -> Self {
        Self {
            start: now,
            maximum,
            k: ((maximum - window).max(0.0) / mtu / C).cbrt(),
            reno: window,
        }
    }

    /// The window when `elapsed` has passed since the start.
    fn at(&self, elapsed: Duration, mtu: f64) -> f64 {
        self.maximum + C * (elapsed.as_secs_f64() - self.k).powi(3) * mtu
    }
}

impl Cubic {
    pub(super) fn new(now: Instant, mtu: u16) -> Self {
        Self {
            mtu: f64::from(mtu),
            window: INITIAL_WINDOW as f64,
            threshold: f64::INFINITY,
            recovery_start: None,
            curve: None,
            last_maximum: 0.0,
            last_ack: now,
        }
    }

    fn least(&self) -> f64 {
        MIN_WINDOW * self.mtu
    }

    fn is_of_last_loss(&self, sent: Instant) -> bool {
        self.recovery_start.is_some_and(|start| sent <= start)
    }

    fn acknowledged(
        &mut self,
        now: Instant,
        sent: Instant,
        bytes: u64,
        app_limited: bool,
        rtt: Duration,
    ) {
        let silence = now.saturating_duration_since(self.last_ack);
        self.last_ack = now;
        if app_limited {
            // The window does not grow for application-limited time (RFC 9438 section 5.8).
            if let Some(curve) = &mut self.curve {
                curve.start += silence;
            }
        } else if !self.is_of_last_loss(sent) {
            self.grow(now, bytes as f64, rtt);
        }
    }

    fn grow(&mut self, now: Instant, acked: f64, rtt: Duration) {
        if self.window < self.threshold {
            self.window += acked;
            return;
        }
        let maximum = self.last_maximum.max(self.window);
        let (window, mtu) = (self.window, self.mtu);
        let curve = self
            .curve
            .get_or_insert_with(|| Curve::new(now, window, maximum, mtu));
        // One segment a round trip for each flow.
        curve.reno += FLOWS * mtu * acked / window;
        let target = curve
            .at(now.saturating_duration_since(curve.start) + rtt, mtu)
            .clamp(window, STEEPEST * window);
        self.window = (window + (target - window) * acked / window).max(curve.reno);
    }
}

impl Controller for Cubic {
    fn on_ack(
        &mut self,
        now: Instant,
        sent: Instant,
        bytes: u64,
        app_limited: bool,
        rtt: &RttEstimator,
    ) {
        self.acknowledged(now, sent, bytes, app_limited, rtt.get());
    }

    fn on_congestion_event(
        &mut self,
        now: Instant,
        sent: Instant,
        is_persistent_congestion: bool,
        _lost_bytes: u64,
    ) {
        if self.is_of_last_loss(sent) {
            return;
        }
        self.recovery_start = Some(now);
        // Fast convergence: below the last maximum, leave room for other flows (RFC 9438 section 4.7).
        self.last_maximum = if self.window < self.last_maximum {
            self.window * (1.0 + BETA) / 2.0
        } else {
            self.window
        };
        self.threshold = (self.window * BETA).max(self.least());
        self.window = self.threshold;
        self.curve = None;
        if is_persistent_congestion {
            // Persistent congestion: start again (RFC 9002 section 7.6.2).
            self.recovery_start = None;
            self.window = self.least();
        }
    }

    fn on_mtu_update(&mut self, new_mtu: u16) {
        self.mtu = f64::from(new_mtu);
        self.window = self.window.max(self.least());
    }

    fn window(&self) -> u64 {
        // A cast of a float saturates.
        self.window as u64
    }

    fn metrics(&self) -> ControllerMetrics {
        let mut metrics = ControllerMetrics::default();
        metrics.congestion_window = self.window();
        metrics.ssthresh = self.threshold.is_finite().then_some(self.threshold as u64);
        metrics
    }

    fn clone_box(&self) -> Box<dyn Controller> {
        Box::new(self.clone())
    }

    fn initial_window(&self) -> u64 {
        INITIAL_WINDOW
    }

    fn into_any(self: Box<Self>) -> Box<dyn Any> {
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MTU: u16 = 1_000;
    const RTT: Duration = Duration::from_millis(100);

    /// A controller and its clock; each round trip acknowledges the whole window.
    struct Path {
        cubic: Cubic,
        now: Instant,
    }

    impl Path {
        fn new() -> Self {
            let now = Instant::now();
            Self {
                cubic: Cubic::new(now, MTU),
                now,
            }
        }

        /// In congestion avoidance, just after a loss at a window of `segments`.
        fn after_a_loss_at(segments: f64) -> Self {
            let mut path = Self::new();
            path.cubic.window = segments * f64::from(MTU);
            path.lose();
            path
        }

        fn segments(&self) -> f64 {
            self.cubic.window / self.cubic.mtu
        }

        fn lose(&mut self) {
            let sent = self.now + Duration::from_micros(1);
            self.now += RTT;
            self.cubic.on_congestion_event(self.now, sent, false, 1_000);
        }

        fn round_trip(&mut self, is_app_limited: bool) {
            let sent = self.now + Duration::from_micros(1);
            self.now += RTT;
            for _ in 0..self.segments() as u64 {
                self.cubic
                    .acknowledged(self.now, sent, MTU.into(), is_app_limited, RTT);
            }
        }
    }

    #[test]
    fn a_loss_costs_one_flow_of_two_its_three_tenths_and_only_once() {
        let mut path = Path::after_a_loss_at(100.0);
        assert!((path.segments() - 85.0).abs() < 0.01);
        // Another packet of the same flight.
        let sent = path.now - RTT / 2;
        path.cubic.on_congestion_event(path.now, sent, false, 1_000);
        assert!((path.segments() - 85.0).abs() < 0.01);
    }

    #[test]
    fn slow_start_doubles_in_a_round_trip() {
        let mut path = Path::new();
        path.round_trip(false);
        assert!((path.segments() - 24.0).abs() < 0.01);
    }

    #[test]
    fn a_small_window_grows_by_two_segments_in_a_round_trip() {
        let mut path = Path::after_a_loss_at(20.0);
        for _ in 0..3 {
            let before = path.segments();
            path.round_trip(false);
            let grown = path.segments() - before;
            // Not the whole of it, as the window grows while it is acknowledged.
            assert!((1.8..2.0).contains(&grown), "{grown}");
        }
    }

    #[test]
    fn a_large_window_is_back_at_its_maximum_after_the_time_k() {
        let mut path = Path::after_a_loss_at(5_000.0);
        // The cube root of 750 / 0.8.
        for _ in 0..98 {
            path.round_trip(false);
        }
        assert!(
            (path.segments() / 5_000.0 - 1.0).abs() < 0.01,
            "{}",
            path.segments()
        );
        let plateau = path.segments();
        for _ in 0..50 {
            path.round_trip(false);
        }
        assert!(path.segments() > plateau + 50.0, "it probes beyond");
    }

    #[test]
    fn nothing_grows_while_the_application_has_nothing_to_send() {
        let mut path = Path::after_a_loss_at(1_000.0);
        path.round_trip(false);
        let before = path.segments();
        for _ in 0..1_000 {
            path.round_trip(true);
        }
        assert!((path.segments() - before).abs() < 0.01);
        path.round_trip(false);
        assert!(path.segments() < before * 1.05, "it leaps after a pause");
    }

    #[test]
    fn a_window_below_the_last_maximum_gives_way() {
        let mut path = Path::after_a_loss_at(100.0);
        path.lose();
        assert!(path.cubic.last_maximum < 85.0 * f64::from(MTU));
    }

    #[test]
    fn persistent_congestion_begins_again_from_two_segments() {
        let mut path = Path::after_a_loss_at(100.0);
        let sent = path.now + Duration::from_micros(1);
        path.now += 10 * RTT;
        path.cubic.on_congestion_event(path.now, sent, true, 1_000);
        assert!((path.segments() - 2.0).abs() < 0.01);
        path.round_trip(false);
        assert!((path.segments() - 4.0).abs() < 0.01);
    }

    #[test]
    fn the_window_never_falls_below_two_segments() {
        let mut path = Path::new();
        for _ in 0..100 {
            path.lose();
        }
        path.cubic.on_mtu_update(1_452);
        assert!(path.cubic.window() >= 2 * 1_452);
    }
}
