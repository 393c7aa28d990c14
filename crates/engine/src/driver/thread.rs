//! The I/O thread: one for each process, started by the first endpoint and ended with the last. It
//! runs every core over real sockets and waits for sockets, the signal and deadlines.
//!
//! Only this thread waits for deadlines and closes sockets. It receives, but for the sockets that it
//! lends to event loops. `handover` shares the cores with application threads.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    io::Errno,
};

use crate::{
    census::Census,
    driver::{
        address_watch::AddressWatch,
        command::IoWaker,
        core::{Core, TURNS_PER_DRIVE},
        handover::{CoreTask, IoHandle, Shared, TaskSlot, TaskSlots},
        lease::{Cadence, Home, Lease},
        network::{BoundSocket, SocketKey, SocketProvider},
        open_sockets::OpenSockets,
        receive::{LOOP_BATCH, RECEIVE_BATCH, Receiver, take_undelivered},
        routing,
        socket::Socket,
    },
    ready::ReadyQueue,
    send_buffers,
    signal::Signal,
    sync::Mutex,
    totals::{self, EndpointStatistics, PROCESS},
};

/// After this long without an event, pooled buffers are freed.
const SILENCE: Duration = Duration::from_millis(100);

/// How long the thread pauses in place of a `poll` that the system refuses: far less than the 25 ms of
/// max_ack_delay (RFC 9000 section 18.2).
const REFUSED_PAUSE: Duration = Duration::from_millis(10);

/// A refused `poll` is logged again after this long.
const REFUSED_LOG_INTERVAL: Duration = Duration::from_secs(60);

/// The thread, while there is one. It ends under this lock, so that no task is sent to a thread
/// that has ended.
static THREAD: parking_lot::Mutex<Option<Arc<Shared<EndpointTask>>>> =
    parking_lot::Mutex::new(None);

/// Bytes of the thread's pooled receive buffers.
static RETAINED: AtomicUsize = AtomicUsize::new(0);

/// In the child of a fork: [`THREAD`] was locked when the parent forked.
static IS_OUT_OF_REACH: AtomicBool = AtomicBool::new(false);

/// Call this in the child of a fork, which has no copy of the I/O thread, before anything
/// else of this crate: the next endpoint starts a thread of the child's own. Whatever the
/// parent made must not be used in the child, not even dropped.
pub fn forget_the_thread() {
    totals::forget();
    WAITS.store(0, Ordering::Relaxed);
    match THREAD.try_lock() {
        // Not dropped: it shares state with the parent's endpoints.
        Some(mut thread) => std::mem::forget(thread.take()),
        None => IS_OUT_OF_REACH.store(true, Ordering::SeqCst),
    }
}

/// What the endpoints of this process have done, and what they have in use now.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ProcessStatistics {
    /// The sums of all endpoints, those that have ended included.
    pub endpoints: EndpointStatistics,
    /// Bytes of buffers that are kept for reuse until there was no traffic for 0.1 s.
    pub buffers_kept: u64,
    /// How often the I/O thread waited for something to do.
    pub waits: u64,
}

/// How often the I/O thread waited.
static WAITS: AtomicU64 = AtomicU64::new(0);

/// A snapshot of the counters of this process.
pub fn process_statistics() -> ProcessStatistics {
    let kept = RETAINED.load(Ordering::Relaxed) + send_buffers::retained();
    ProcessStatistics {
        endpoints: PROCESS.read(),
        buffers_kept: kept as u64,
        waits: WAITS.load(Ordering::Relaxed),
    }
}

/// Sockets that are bound but not yet taken by the core. Kept outside it: `bind` holds the
/// endpoint's lock, and the core takes that lock while holding its own, so locking the core here
/// would deadlock.
type NewSockets = Arc<Mutex<Vec<(SocketKey, Socket)>>>;

/// A core and its sockets.
struct EndpointTask {
    core: Core,
    /// Before the sockets: it is dropped first.
    lease: Option<Lease>,
    sockets: OpenSockets,
    bound: NewSockets,
    home: Option<Home>,
    cadence: Cadence,
    /// What the event loop receives into, during a lease.
    loop_receiver: Option<Box<Receiver<LOOP_BATCH>>>,
}

impl EndpointTask {
    /// Receive on the I/O thread.
    fn receive(&mut self, key: SocketKey, receiver: &mut Receiver<RECEIVE_BATCH>) {
        let received = receiver.receive(&mut self.core, &mut self.sockets, key);
        if let Some(drains) = self.home.as_ref().and_then(Home::drains) {
            self.cadence.note(Instant::now(), key, received, drains);
        }
    }

    /// Whether the event loop polls this socket.
    fn is_lent(&self, key: SocketKey) -> bool {
        self.lease.as_ref().is_some_and(|lease| lease.key == key)
    }
}

impl CoreTask for EndpointTask {
    fn take_commands(&mut self) {
        self.core.take_commands(Instant::now());
        // After the commands: each socket that a command refers to was bound before the command
        // was pushed, so it is among these.
        self.sockets.extend(self.bound.lock().drain(..));
    }

    fn advance(&mut self) -> bool {
        let (core, open) = (&mut self.core, &mut self.sockets);
        let has_more = core.advance(Instant::now(), TURNS_PER_DRIVE, open);
        core.release(open);
        if self
            .lease
            .as_ref()
            .is_some_and(|lease| open.get_mut(lease.key).is_none())
        {
            self.take_back();
        }
        has_more
    }

    /// Does not close sockets: while the I/O thread waits for one, closing it would not free its
    /// port.
    fn advance_here(&mut self, turns: usize) -> bool {
        self.core.advance(Instant::now(), turns, &mut self.sockets)
    }

    fn deadline(&self) -> Option<Instant> {
        self.core.deadline()
    }

    fn has_commands(&self) -> bool {
        self.core.commands().has_released()
    }

    fn needs_the_thread(&self) -> bool {
        // The thread waits for writability only of sockets that blocked before it went to sleep.
        let is_blocked = self.sockets.keys().any(|key| self.core.is_blocked(key));
        is_blocked || self.is_releasable()
    }

    fn is_releasable(&self) -> bool {
        self.core.is_closed() || self.core.has_releasable_sockets()
    }

    fn is_closed(&self) -> bool {
        self.core.is_closed()
    }

    fn lend(&mut self) -> bool {
        let (Some(home), Some(key)) = (&self.home, self.cadence.take()) else {
            return false;
        };
        let Some(socket) = self.sockets.get_mut(key) else {
            return false;
        };
        // An error means that the system has too many already: the I/O thread goes on receiving.
        self.lease = home.lend(key, socket.descriptor()).unwrap_or_default();
        if self.lease.is_some() {
            self.loop_receiver = Some(Box::new(Receiver::new()));
        }
        self.lease.is_some()
    }

    fn take_back(&mut self) {
        self.lease = None;
        self.loop_receiver = None;
    }

    fn receive_here(&mut self) -> bool {
        let (Some(lease), Some(receiver)) = (&self.lease, &mut self.loop_receiver) else {
            return false;
        };
        let (core, open, key) = (&mut self.core, &mut self.sockets, lease.key);
        take_undelivered(core, open, key);
        let received = receiver.receive(core, open, key);
        // The poll set reports a socket that cannot be read all the time.
        let is_readable = open
            .get_mut(key)
            .is_some_and(|socket| socket.paused_until(Instant::now()).is_none());
        received.is_small() && is_readable
    }
}

/// Binds real sockets for an endpoint's core on this thread.
struct ThreadSockets {
    io_handle: Arc<IoHandle<EndpointTask>>,
    bound: NewSockets,
}

impl SocketProvider for ThreadSockets {
    fn bind(&self, key: SocketKey, addr: SocketAddr) -> io::Result<BoundSocket> {
        let socket = Socket::bind(addr)?;
        let bound = socket.bound();
        self.bound.lock().push((key, socket));
        Ok(bound)
    }

    fn source(&self, remote: SocketAddr) -> io::Result<IpAddr> {
        routing::source(remote)
    }

    fn has_address(&self, local: SocketAddr) -> bool {
        routing::has_address(local)
    }

    fn share_network(&self, local: IpAddr, source: IpAddr) -> bool {
        routing::share_network(local, source)
    }

    fn census(&self) -> Option<Census> {
        let slot = self.io_handle.slot()?;
        let slot = slot.lock();
        slot.task().map(|task| Census {
            kept: RETAINED.load(Ordering::Relaxed) + send_buffers::retained(),
            ..task.core.census()
        })
    }
}

/// Run the core that `make` returns on the I/O thread; start the thread if there is none. The event
/// loop of `ready_queue` may receive for it.
pub(crate) fn on_the_io_thread<T>(
    ready_queue: Option<&Arc<ReadyQueue>>,
    make: impl FnOnce(Arc<dyn IoWaker>, Arc<dyn SocketProvider>) -> (Core, T),
) -> io::Result<T> {
    if IS_OUT_OF_REACH.load(Ordering::SeqCst) {
        return Err(io::Error::other(
            "this process was forked while its parent started or closed an endpoint",
        ));
    }
    let mut thread = THREAD.lock();
    let shared = match &*thread {
        Some(shared) => shared.clone(),
        None => {
            let shared = Shared::new(Signal::new()?);
            let io_loop = IoLoop::new(shared.clone());
            thread::Builder::new()
                .name("libp2p-quic-io".to_owned())
                .spawn(move || io_loop.run())?;
            *thread = Some(shared.clone());
            shared
        }
    };
    let io_handle = Arc::new(IoHandle::new(shared));
    let bound = NewSockets::default();
    let provider = Arc::new(ThreadSockets {
        io_handle: io_handle.clone(),
        bound: bound.clone(),
    });
    let (core, value) = make(io_handle.clone(), provider);
    // Still under the lock: the thread cannot end before it has taken this task.
    io_handle.send(EndpointTask {
        core,
        lease: None,
        sockets: OpenSockets::default(),
        bound,
        home: ready_queue.and_then(|ready_queue| Home::new(ready_queue, io_handle.clone())),
        cadence: Cadence::default(),
        loop_receiver: None,
    });
    drop(thread);
    Ok(value)
}

struct IoLoop {
    shared: Arc<Shared<EndpointTask>>,
    tasks: TaskSlots<EndpointTask>,
    address_watch: AddressWatch,
    receiver: Receiver<RECEIVE_BATCH>,
    refusals: PollRefusals,
}

/// What `poll` returned for one socket.
struct Event {
    slot: Arc<Mutex<TaskSlot<EndpointTask>>>,
    socket: SocketKey,
    is_readable: bool,
    is_writable: bool,
    /// The socket has an error, or reports of undelivered datagrams.
    has_error: bool,
}

impl IoLoop {
    fn new(shared: Arc<Shared<EndpointTask>>) -> Self {
        Self {
            tasks: TaskSlots::new(shared.clone()),
            shared,
            address_watch: AddressWatch::new(),
            receiver: Receiver::new(),
            refusals: PollRefusals::default(),
        }
    }

    fn run(mut self) {
        let mut events = Vec::new();
        loop {
            self.tasks.take_new_tasks();
            let has_more = self.tasks.drive();
            if self.tasks.is_empty() && self.try_end() {
                send_buffers::forget();
                return;
            }
            if self.wait(has_more, &mut events) && self.address_watch.take_change() {
                self.tasks.each(|task| task.core.addresses_changed());
            }
            for event in events.drain(..) {
                self.serve(&event);
            }
        }
    }

    /// Whether the thread may end: true unless a new task came meanwhile.
    fn try_end(&self) -> bool {
        let mut thread = THREAD.lock();
        if self.shared.has_new_tasks() {
            return false;
        }
        *thread = None;
        true
    }

    /// True if something about this machine's addresses changed.
    fn wait(&mut self, has_more: bool, events: &mut Vec<Event>) -> bool {
        let now = Instant::now();
        // Sockets are shared, not borrowed: an application thread may drive the core meanwhile.
        let mut fds = vec![PollFd::new(&self.shared.signal, PollFlags::IN)];
        let address_watch = self.address_watch.descriptor();
        fds.extend(
            address_watch
                .iter()
                .map(|watch| PollFd::new(watch, PollFlags::IN)),
        );
        let first_socket = fds.len();
        let mut keys = Vec::new();
        let mut watched = Vec::new();
        let mut readable_at: Option<Instant> = None;
        let pause = self.tasks.announce(has_more, |slot, task| {
            for (key, socket) in task.sockets.iter() {
                let mut wanted = PollFlags::empty();
                match socket.paused_until(now) {
                    Some(until) => {
                        readable_at = Some(readable_at.map_or(until, |at| at.min(until)));
                    }
                    None if task.is_lent(key) => {}
                    None => wanted |= PollFlags::IN,
                }
                if task.core.is_blocked(key) {
                    wanted |= PollFlags::OUT;
                }
                // `poll` reports errors even for no events: a paused socket would make it spin.
                if !wanted.is_empty() {
                    watched.push((socket.descriptor(), wanted));
                    keys.push((slot, key));
                }
            }
        });
        let deadline = [pause.until, readable_at].into_iter().flatten().min();
        fds.extend(
            watched
                .iter()
                .map(|(socket, wanted)| PollFd::new(socket, *wanted)),
        );
        let mut timeout = deadline.map(|at| at.saturating_duration_since(now));
        let retained = self.receiver.retained();
        RETAINED.store(retained, Ordering::Relaxed);
        if retained + send_buffers::retained() > 0 {
            timeout = Some(timeout.map_or(SILENCE, |rest| rest.min(SILENCE)));
        }
        if pause.is_due {
            timeout = Some(Duration::ZERO);
        }
        let longest = timeout;
        // A timeout that the system cannot express is longer than any deadline.
        let timeout = timeout.and_then(|t| Timespec::try_from(t).ok());
        WAITS.fetch_add(1, Ordering::Relaxed);
        let (found, is_refused) = match poll(&mut fds, timeout.as_ref()) {
            Ok(found) => (found, false),
            Err(Errno::INTR) => (0, false),
            Err(error) => {
                self.refusals.pause(now, error, longest);
                (0, true)
            }
        };
        self.tasks.wake(&pause);
        if found == 0 && !is_refused {
            if !pause.is_due && now.elapsed() >= SILENCE {
                self.receiver.forget();
                send_buffers::forget();
            }
            return false;
        }
        if is_refused || fds[0].revents().contains(PollFlags::IN) {
            self.shared.signal.clear();
        }
        let sockets = fds[first_socket..].iter().zip(&watched);
        for ((fd, (_, wanted)), (slot, socket)) in sockets.zip(keys) {
            // Nothing is known after a refusal. No socket blocks, so each may be tried.
            let found = if is_refused { *wanted } else { fd.revents() };
            if !found.is_empty() {
                events.push(Event {
                    slot: slot.clone(),
                    socket,
                    is_readable: !found.difference(PollFlags::OUT).is_empty(),
                    is_writable: found.contains(PollFlags::OUT),
                    has_error: is_refused || found.contains(PollFlags::ERR),
                });
            }
        }
        fds[1..first_socket]
            .iter()
            .any(|fd| !fd.revents().is_empty())
    }

    fn serve(&mut self, event: &Event) {
        let receiver = &mut self.receiver;
        let mut slot = event.slot.lock();
        let began = Instant::now();
        slot.with(|task| {
            let (core, open) = (&mut task.core, &mut task.sockets);
            if event.is_writable {
                core.handle_writable(event.socket, open);
            }
            if event.has_error {
                take_undelivered(core, open, event.socket);
            }
            if event.is_readable {
                task.receive(event.socket, receiver);
            }
        });
        slot.lend(began);
    }
}

/// Calls of `poll` that the system refuses: it lacks memory, or this process has lowered its limit of
/// descriptors (RLIMIT_NOFILE) below their number, so that each call fails (poll(2)). The thread then tries
/// every socket after a short pause, which slows connections down and ends none.
#[derive(Default)]
struct PollRefusals {
    /// When one was last logged.
    logged: Option<Instant>,
}

impl PollRefusals {
    /// Wait in place of `poll`, for at most `longest`.
    fn pause(&mut self, now: Instant, error: Errno, longest: Option<Duration>) {
        if self.is_log_due(now) {
            tracing::warn!(
                "the I/O thread cannot wait for its sockets, and tries each every {} ms: {error}; check that the \
                 limit of open files (ulimit -n) is above their number",
                REFUSED_PAUSE.as_millis()
            );
        }
        // `park_timeout` may return earlier, which costs one more pass.
        thread::park_timeout(longest.map_or(REFUSED_PAUSE, |rest| rest.min(REFUSED_PAUSE)));
    }

    fn is_log_due(&mut self, now: Instant) -> bool {
        let is_due = self
            .logged
            .is_none_or(|at| now.saturating_duration_since(at) >= REFUSED_LOG_INTERVAL);
        if is_due {
            self.logged = Some(now);
        }
        is_due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refused_poll_is_logged_once_a_minute() {
        let (mut refusals, began) = (PollRefusals::default(), Instant::now());
        assert!(refusals.is_log_due(began));
        assert!(!refusals.is_log_due(began + REFUSED_LOG_INTERVAL / 2));
        assert!(refusals.is_log_due(began + REFUSED_LOG_INTERVAL));
    }
}
