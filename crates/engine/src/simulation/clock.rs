//! Virtual time: it advances only when the world moves it.

use std::{
    cmp::Reverse,
    collections::BTreeMap,
    future::poll_fn,
    sync::Arc,
    task::{Poll, Waker},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use parking_lot::Mutex;

/// The time of one world. Clones are the same clock.
#[derive(Clone)]
pub struct Clock(Arc<Inner>);

struct Inner {
    /// Only differences count, so a run does not depend on when it began.
    began: Instant,
    state: Mutex<State>,
}

struct State {
    now: Instant,
    /// The wall clock when the world began, in seconds since 1970.
    wall_clock: i64,
    /// Sleeping tasks by wake-up time; the number orders those of the same time.
    sleepers: BTreeMap<(Instant, Reverse<u64>), Waker>,
    next_sleeper: u64,
}

impl Clock {
    pub(super) fn new() -> Self {
        let began = Instant::now();
        Self(Arc::new(Inner {
            began,
            state: Mutex::new(State {
                now: began,
                wall_clock: 1_800_000_000,
                sleepers: BTreeMap::new(),
                next_sleeper: 0,
            }),
        }))
    }

    /// Time since the world began.
    pub fn now(&self) -> Duration {
        self.instant() - self.0.began
    }

    /// Wait for virtual time to pass.
    pub async fn sleep(&self, time: Duration) {
        let until = self.instant() + time;
        let number = {
            let mut state = self.0.state.lock();
            state.next_sleeper += 1;
            state.next_sleeper
        };
        poll_fn(|cx| {
            let mut state = self.0.state.lock();
            if state.now >= until {
                return Poll::Ready(());
            }
            state
                .sleepers
                .insert((until, Reverse(number)), cx.waker().clone());
            Poll::Pending
        })
        .await;
    }

    pub(super) fn instant(&self) -> Instant {
        self.0.state.lock().now
    }

    /// The wall clock: a fixed date, plus virtual time and the jumps so far.
    pub(super) fn wall_clock(&self) -> SystemTime {
        let began = u64::try_from(self.0.state.lock().wall_clock).unwrap_or(0);
        UNIX_EPOCH + Duration::from_secs(began) + self.now()
    }

    pub(super) fn jump_wall_clock(&self, seconds: i64) {
        self.0.state.lock().wall_clock += seconds;
    }

    pub(super) fn at(&self, time: Duration) -> Instant {
        self.0.began + time
    }

    /// When the next sleeper wakes.
    pub(super) fn deadline(&self) -> Option<Instant> {
        let state = self.0.state.lock();
        state.sleepers.first_key_value().map(|((at, _), _)| *at)
    }

    /// Move time, never backwards, and wake the tasks that are due.
    pub(super) fn advance(&self, to: Instant) {
        let mut due = Vec::new();
        {
            let mut state = self.0.state.lock();
            state.now = state.now.max(to);
            while let Some(first) = state.sleepers.first_entry()
                && first.key().0 <= to
            {
                due.push(first.remove());
            }
        }
        due.into_iter().for_each(Waker::wake);
    }
}
