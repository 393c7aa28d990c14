//! The I/O thread: one a process, started by the first endpoint and gone with the last. It
//! runs every core over real sockets and waits for sockets, the waker and deadlines.
//!
//! Only this thread receives, watches the time and closes sockets. How it shares the cores with
//! application threads is the affair of `handover`.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use quinn_proto::EcnCodepoint;
use quinn_udp::{RecvMeta, Transmit};
use rustc_hash::FxHashMap;
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::{
    driver::{
        command::IoWaker,
        core::{Census, Core, TURNS_PER_DRIVE},
        handover::{CoreTask, IoHandle, Shared, TaskSlot, TaskSlots},
        network::{BoundSocket, Network, Sending, SocketKey, SocketProvider},
        recv_buffers::RecvBuffers,
        routing,
        socket::{Socket, is_echo},
    },
    send_buffers,
    signal::Signal,
    sync::Mutex,
};

/// Messages per receive call, each of up to as many datagrams as GRO coalesces.
const RECEIVE_BATCH: usize = 8;

/// How long one socket may receive before connections are driven: their ACKs wait for it.
const RECEIVE_TURN: Duration = Duration::from_micros(100);

/// When nothing has come for so long, the memory that is kept for more of it is given back.
const SILENCE: Duration = Duration::from_millis(100);

/// The thread, while there is one. It leaves under this lock, so that nobody sends to a
/// thread that is gone.
static THREAD: parking_lot::Mutex<Option<Arc<Shared<EndpointTask>>>> =
    parking_lot::Mutex::new(None);

/// Bytes that the thread keeps for what it may receive next.
static RETAINED: AtomicUsize = AtomicUsize::new(0);

/// The thread is another process's and was locked when that process forked.
static IS_OUT_OF_REACH: AtomicBool = AtomicBool::new(false);

/// Call this in the child of a fork, which has no copy of the I/O thread, before anything
/// else of this crate: the next endpoint starts a thread of the child's own. Whatever the
/// parent made must not be used in the child, not even dropped.
pub fn forget_the_thread() {
    match THREAD.try_lock() {
        // Not dropped: it is shared with what is not to be touched.
        Some(mut thread) => std::mem::forget(thread.take()),
        None => IS_OUT_OF_REACH.store(true, Ordering::SeqCst),
    }
}

/// Sockets that are bound, and that their core has not seen yet. Not in the core's keeping: they
/// have a lock of their own, which bind must not take, as the core takes the endpoint's under it.
type NewSockets = Arc<Mutex<Vec<(SocketKey, Socket)>>>;

/// A core and its sockets.
struct EndpointTask {
    core: Core,
    sockets: OpenSockets,
    bound: NewSockets,
}

impl CoreTask for EndpointTask {
    fn take_commands(&mut self) {
        self.core.take_commands(Instant::now());
        // After them: a command may name a socket that came after a first look, and whose
        // first datagrams would go nowhere.
        self.sockets.0.extend(self.bound.lock().drain(..));
    }

    fn advance(&mut self) -> bool {
        let (core, open) = (&mut self.core, &mut self.sockets);
        let has_more = core.advance(Instant::now(), TURNS_PER_DRIVE, open);
        core.release(open);
        has_more
    }

    /// Sockets are left to the I/O thread: as long as it waits for one, closing that would not
    /// free its port.
    fn advance_here(&mut self, turns: usize) -> bool {
        self.core.advance(Instant::now(), turns, &mut self.sockets)
    }

    fn deadline(&self) -> Option<Instant> {
        self.core.deadline()
    }

    fn has_commands(&self) -> bool {
        self.core.commands().has_some()
    }

    fn needs_the_thread(&self) -> bool {
        // It watches for room in a socket only if it knew of the want when it went to sleep.
        let is_blocked = self.sockets.0.keys().any(|key| self.core.is_blocked(*key));
        is_blocked || self.core.is_closed() || self.core.has_idle_sockets()
    }

    fn is_closed(&self) -> bool {
        self.core.is_closed()
    }
}

/// What an endpoint of this thread stands on.
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
        let driver = self.io_handle.driver()?;
        let driver = driver.lock();
        driver.work().map(|driven| Census {
            kept: RETAINED.load(Ordering::Relaxed) + send_buffers::retained(),
            ..driven.core.census()
        })
    }
}

/// Run the core that `make` returns on the I/O thread, starting the thread if need be.
pub(crate) fn on_the_io_thread<T>(
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
    // Still under the lock: the thread cannot leave before it has read this.
    io_handle.send(EndpointTask {
        core,
        sockets: OpenSockets::default(),
        bound,
    });
    drop(thread);
    Ok(value)
}

/// The open sockets of one core: its network.
#[derive(Default)]
struct OpenSockets(FxHashMap<SocketKey, Socket>);

impl Network for OpenSockets {
    fn send(&mut self, socket: SocketKey, transmit: &Transmit<'_>) -> Sending {
        self.0
            .get_mut(&socket)
            .map_or(Sending::Sent, |socket| socket.send(transmit))
    }

    fn max_segments(&self, socket: SocketKey) -> usize {
        self.0.get(&socket).map_or(1, Socket::max_segments)
    }

    fn report_undelivered(&mut self, socket: SocketKey, is_on: bool) {
        if let Some(socket) = self.0.get_mut(&socket) {
            socket.report_undelivered(is_on);
        }
    }

    fn close(&mut self, socket: SocketKey) {
        self.0.remove(&socket);
    }
}

struct IoLoop {
    shared: Arc<Shared<EndpointTask>>,
    drivers: TaskSlots<EndpointTask>,
    recv_buffers: RecvBuffers,
    meta: [RecvMeta; RECEIVE_BATCH],
}

/// What poll said of one socket.
struct Event {
    driver: Arc<Mutex<TaskSlot<EndpointTask>>>,
    socket: SocketKey,
    is_readable: bool,
    is_writable: bool,
}

impl IoLoop {
    fn new(shared: Arc<Shared<EndpointTask>>) -> Self {
        Self {
            drivers: TaskSlots::new(shared.clone()),
            shared,
            recv_buffers: RecvBuffers::new(RECEIVE_BATCH),
            meta: [RecvMeta::default(); RECEIVE_BATCH],
        }
    }

    fn run(mut self) {
        let mut events = Vec::new();
        loop {
            self.drivers.take_new_tasks();
            let has_more = self.drivers.drive();
            if self.drivers.is_empty() && self.leave() {
                send_buffers::forget();
                return;
            }
            self.wait(has_more, &mut events);
            for event in events.drain(..) {
                self.serve(&event);
            }
        }
    }

    /// Leave unless someone has come in the meantime.
    fn leave(&self) -> bool {
        let mut thread = THREAD.lock();
        if self.shared.has_new_tasks() {
            return false;
        }
        *thread = None;
        true
    }

    fn wait(&mut self, has_more: bool, events: &mut Vec<Event>) {
        let now = Instant::now();
        // Shared, not borrowed, as an application thread may have the core meanwhile.
        let mut fds = vec![PollFd::new(&self.shared.signal, PollFlags::IN)];
        let mut names = Vec::new();
        let mut watched = Vec::new();
        let mut readable_at: Option<Instant> = None;
        let pause = self.drivers.announce(has_more, |driver, driven| {
            for (key, socket) in &driven.sockets.0 {
                let mut wanted = PollFlags::empty();
                match socket.paused_until(now) {
                    Some(until) => {
                        readable_at = Some(readable_at.map_or(until, |at| at.min(until)));
                    }
                    None => wanted |= PollFlags::IN,
                }
                if driven.core.is_blocked(*key) {
                    wanted |= PollFlags::OUT;
                }
                // An error would be reported even to a wish for nothing, again and again.
                if !wanted.is_empty() {
                    watched.push((socket.descriptor(), wanted));
                    names.push((driver, *key));
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
        let kept = self.recv_buffers.retained();
        RETAINED.store(kept, Ordering::Relaxed);
        if kept + send_buffers::retained() > 0 {
            timeout = Some(timeout.map_or(SILENCE, |rest| rest.min(SILENCE)));
        }
        if pause.is_due {
            timeout = Some(Duration::ZERO);
        }
        let timeout = timeout.map(|t| Timespec {
            tv_sec: i64::try_from(t.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: t.subsec_nanos().into(),
        });
        // Interrupted or out of memory: the next pass tries again.
        let found = poll(&mut fds, timeout.as_ref()).unwrap_or(0);
        self.drivers.wake(&pause);
        if found == 0 {
            if !pause.is_due && now.elapsed() >= SILENCE {
                self.recv_buffers.forget();
                send_buffers::forget();
            }
            return;
        }
        if fds[0].revents().contains(PollFlags::IN) {
            self.shared.signal.clear();
        }
        for (fd, (driver, socket)) in fds[1..].iter().zip(names) {
            let found = fd.revents();
            if !found.is_empty() {
                events.push(Event {
                    driver: driver.clone(),
                    socket,
                    is_readable: !found.difference(PollFlags::OUT).is_empty(),
                    is_writable: found.contains(PollFlags::OUT),
                });
            }
        }
    }

    fn serve(&mut self, event: &Event) {
        let (recv_buffers, meta) = (&mut self.recv_buffers, &mut self.meta);
        event.driver.lock().with(|driven| {
            let (core, open) = (&mut driven.core, &mut driven.sockets);
            if event.is_writable {
                core.handle_writable(event.socket, open);
            }
            if event.is_readable {
                receive(core, open, event.socket, recv_buffers, meta);
            }
        });
    }
}

/// Receive until nothing is left or the turn is over.
fn receive(
    core: &mut Core,
    open: &mut OpenSockets,
    key: SocketKey,
    recv_buffers: &mut RecvBuffers,
    meta: &mut [RecvMeta; RECEIVE_BATCH],
) {
    let began = Instant::now();
    while let Some(message) = open.0.get_mut(&key).and_then(Socket::take_undelivered) {
        core.handle_undelivered(began, key, &message);
        // Whoever can cause many of them does not keep the thread.
        if began.elapsed() > RECEIVE_TURN {
            break;
        }
    }
    loop {
        let Some(socket) = open.0.get_mut(&key) else {
            return;
        };
        let filled = match socket.receive(&mut recv_buffers.slices(), meta) {
            Ok(filled) => filled,
            Err(error) if is_echo(&error) && began.elapsed() <= RECEIVE_TURN => continue,
            Err(_) => return,
        };
        let now = Instant::now();
        for (index, meta) in meta[..filled].iter().enumerate() {
            // What the kernel coalesced; datagrams are parts of it.
            let mut data = recv_buffers.take(index, meta.len);
            core.note_received(key, meta.len.div_ceil(meta.stride.max(1)), meta.len);
            while !data.is_empty() {
                let datagram = data.split_to(meta.stride.clamp(1, data.len()));
                core.handle_datagram(
                    now,
                    key,
                    meta.addr,
                    meta.dst_ip,
                    meta.ecn.and_then(|ecn| EcnCodepoint::from_bits(ecn as u8)),
                    datagram,
                    open,
                );
            }
        }
        // Fewer than asked for: the socket is empty, or will be found readable again.
        if filled < RECEIVE_BATCH || now.saturating_duration_since(began) > RECEIVE_TURN {
            return;
        }
    }
}
