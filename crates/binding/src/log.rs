//! The bounded queue that carries the engine's `tracing` events to Python's `logging`.
//!
//! Events come from the I/O thread, and from application threads that hold engine locks. These
//! must not wait for the interpreter: they format the event, queue it and wake an event loop,
//! which drains the queue when it runs. Python decides about levels, names and handlers.

use std::{
    collections::VecDeque,
    fmt::{self, Write},
    mem,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicI32, Ordering},
    },
    task::{Poll, Waker},
    time::{Duration, SystemTime},
};

use libp2p_quic_engine as engine;
use parking_lot::Mutex;
use pyo3::prelude::*;
use tracing::{
    Event, Level, Metadata, Subscriber,
    field::{Field, Visit},
    level_filters::LevelFilter,
    span,
    subscriber::Interest,
};

use crate::ready_queue::{ReadyQueue, Token};

/// Most events in the queue: several screens of lines, and less than a megabyte.
const CAPACITY: usize = 1024;

/// How long to wait for the lock. It is held only to move a few pointers, except in the child of a
/// fork, where it may be held for ever: events are lost there.
const PATIENCE: Duration = Duration::from_millis(1);

/// The Python level from which events are queued.
static LEVEL: AtomicI32 = AtomicI32::new(WARNING);

static QUEUE: Mutex<Queue> = Mutex::new(Queue {
    entries: VecDeque::new(),
    lost: 0,
    waiting: Vec::new(),
});

/// In the child of a fork whose parent held the queue then.
static IS_OUT_OF_REACH: AtomicBool = AtomicBool::new(false);

/// Python's `logging` levels. TRACE has none, and lies below DEBUG.
const WARNING: i32 = 30;

fn python_level(level: &Level) -> i32 {
    match *level {
        Level::ERROR => 40,
        Level::WARN => WARNING,
        Level::INFO => 20,
        Level::DEBUG => 10,
        Level::TRACE => 5,
    }
}

/// Time in seconds since the epoch, level, message, file and line.
type Entry = (f64, i32, String, &'static str, u32);

struct Queue {
    entries: VecDeque<Entry>,
    /// Events dropped because the queue was full.
    lost: u64,
    /// Event loops to wake at the next event.
    waiting: Vec<Waker>,
}

struct Bridge;

impl Bridge {
    fn is_ours(metadata: &Metadata<'_>) -> bool {
        metadata.is_event() && metadata.target().starts_with("libp2p_quic_engine")
    }
}

impl Subscriber for Bridge {
    fn register_callsite(&self, metadata: &'static Metadata<'static>) -> Interest {
        // `tracing` asks again when the level changes.
        if self.enabled(metadata) {
            Interest::always()
        } else {
            Interest::never()
        }
    }

    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        Self::is_ours(metadata) && python_level(metadata.level()) >= LEVEL.load(Ordering::Relaxed)
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        Some(match LEVEL.load(Ordering::Relaxed) {
            ..=5 => LevelFilter::TRACE,
            6..=10 => LevelFilter::DEBUG,
            11..=20 => LevelFilter::INFO,
            21..=30 => LevelFilter::WARN,
            31..=40 => LevelFilter::ERROR,
            _ => LevelFilter::OFF,
        })
    }

    fn event(&self, event: &Event<'_>) {
        let metadata = event.metadata();
        let mut text = Text::default();
        event.record(&mut text);
        let time = SystemTime::now()
            .duration_since(SystemTime::UNIX_EPOCH)
            .unwrap_or_default();
        push((
            time.as_secs_f64(),
            python_level(metadata.level()),
            text.0,
            metadata.file().unwrap_or_default(),
            metadata.line().unwrap_or_default(),
        ));
    }

    // The engine has no spans.

    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }

    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}

    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}

    fn enter(&self, _: &span::Id) {}

    fn exit(&self, _: &span::Id) {}
}

/// The message, and then every other field as `name=value`.
#[derive(Default)]
struct Text(String);

impl Visit for Text {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        // Writing to a string does not fail.
        let _ = if field.name() == "message" {
            let others = mem::take(&mut self.0);
            write!(self.0, "{value:?}{others}")
        } else {
            write!(self.0, " {}={value:?}", field.name())
        };
    }
}

fn push(entry: Entry) {
    let Some(mut queue) = QUEUE.try_lock_for(PATIENCE) else {
        return;
    };
    if queue.entries.len() < CAPACITY {
        queue.entries.push_back(entry);
    } else {
        queue.lost += 1;
    }
    let waiting = mem::take(&mut queue.waiting);
    drop(queue);
    waiting.iter().for_each(Waker::wake_by_ref);
}

/// Install the queue as the subscriber of the engine's events.
pub(crate) fn install() {
    // It fails when a subscriber is already installed, which then stays.
    let _ = tracing::subscriber::set_global_default(Bridge);
}

/// In the child of a fork: discard the events and event loops of the parent.
pub(crate) fn forget() {
    let Some(mut queue) = QUEUE.try_lock() else {
        // The thread that holds it is in the parent.
        IS_OUT_OF_REACH.store(true, Ordering::Relaxed);
        return;
    };
    queue.entries.clear();
    queue.lost = 0;
    // Dropping a waker could close descriptors that are shared with the parent.
    mem::forget(mem::take(&mut queue.waiting));
}

/// Events of the engine that wait to be logged.
#[pyclass(frozen, module = "libp2p_quic._engine")]
pub(crate) struct LogQueue {
    arrived: Token,
}

#[pymethods]
impl LogQueue {
    #[new]
    fn new(ready_queue: &ReadyQueue) -> PyResult<Self> {
        let ready_queue: &Arc<engine::ReadyQueue> = ready_queue.0.endpoint()?;
        Ok(Self {
            arrived: Token::new(ready_queue),
        })
    }

    #[staticmethod]
    fn set_level(level: i32) {
        if LEVEL.swap(level, Ordering::Relaxed) != level {
            tracing::callsite::rebuild_interest_cache();
        }
    }

    #[getter]
    fn arrived(&self) -> u64 {
        self.arrived.number
    }

    fn drain_nowait(&self) -> Option<(Vec<Entry>, u64)> {
        let waker = self.arrived.context().waker().clone();
        match drain(waker) {
            Poll::Ready(drained) => Some(drained),
            Poll::Pending => None,
        }
    }

    fn close(&self) {
        if let Some(mut queue) = QUEUE.try_lock_for(PATIENCE) {
            let context = self.arrived.context();
            queue
                .waiting
                .retain(|each| !each.will_wake(context.waker()));
        }
    }
}

/// An event loop that ended without notice no longer waits.
impl Drop for LogQueue {
    fn drop(&mut self) {
        self.close();
    }
}

fn drain(waker: Waker) -> Poll<(Vec<Entry>, u64)> {
    let Some(mut queue) = QUEUE.try_lock_for(PATIENCE) else {
        if !IS_OUT_OF_REACH.load(Ordering::Relaxed) {
            // It is not registered: try again in the next pass.
            waker.wake();
        }
        return Poll::Pending;
    };
    if queue.entries.is_empty() && queue.lost == 0 {
        if !queue.waiting.iter().any(|each| each.will_wake(&waker)) {
            queue.waiting.push(waker);
        }
        return Poll::Pending;
    }
    let entries = mem::take(&mut queue.entries).into();
    Poll::Ready((entries, mem::take(&mut queue.lost)))
}
