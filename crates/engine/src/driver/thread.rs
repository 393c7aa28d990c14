//! The I/O thread: one a process, started by the first endpoint and gone with the last. It
//! runs every core over real sockets and waits for sockets, the doorbell and deadlines.
//!
//! While it sleeps, an application thread with something to send drives the core itself, for
//! one turn; only this thread receives, watches the time and closes sockets.

use std::{
    io,
    net::SocketAddr,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc, OnceLock, Weak,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use quinn_proto::EcnCodepoint;
use quinn_udp::{RecvMeta, Transmit};
use rustc_hash::FxHashMap;
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::{
    driver::{
        command::Doorbell,
        core::{Census, Core, TURNS_PER_DRIVE},
        network::{Ground, Network, Sending, SocketKey},
        pieces::Pieces,
        socket::Socket,
    },
    signal::Signal,
};

/// Messages per receive call, each of up to as many datagrams as GRO coalesces.
const RECEIVE_BATCH: usize = 8;

/// How long one socket may receive before connections are driven: their ACKs wait for it.
const RECEIVE_TURN: Duration = Duration::from_micros(100);

/// So many times an endpoint that closes is driven at most by who closes it: some thirty
/// thousand turns, three for each connection of ten thousand.
const MOST_DRIVES: usize = 1000;

/// Pause after a socket error that is neither "nothing there" nor an echo of a datagram.
const BROKEN_SOCKET_PAUSE: Duration = Duration::from_millis(10);

/// How others reach the thread.
struct Shared {
    /// Cores that are new.
    inbox: Mutex<Vec<Arc<Mutex<Driver>>>>,
    has_mail: AtomicBool,
    is_asleep: AtomicBool,
    signal: Signal,
}

impl Shared {
    fn ring(&self) {
        if self.is_asleep.swap(false, Ordering::SeqCst) {
            self.signal.raise();
        }
    }
}

/// The thread, while there is one. It leaves under this lock, so that nobody sends to a
/// thread that is gone.
static THREAD: Mutex<Option<Arc<Shared>>> = Mutex::new(None);

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

/// Sockets that are bound, and that their core has not seen yet.
type Bound = Vec<(SocketKey, Arc<Socket>)>;

/// How an endpoint reaches its core: where its sockets go, and who is woken.
struct Post {
    shared: Arc<Shared>,
    /// Set as soon as there is one, and gone when the core has ended.
    driver: OnceLock<Weak<Mutex<Driver>>>,
    /// Not in the core's keeping: it has a lock of its own, which bind must not take, as the
    /// core takes the endpoint's under it.
    bound: Arc<Mutex<Bound>>,
}

impl Ground for Post {
    fn bind(&self, key: SocketKey, addr: SocketAddr) -> io::Result<SocketAddr> {
        let socket = Socket::bind(addr)?;
        let local = socket.local_addr()?;
        self.bound.lock().push((key, Arc::new(socket)));
        Ok(local)
    }

    fn census(&self) -> Option<Census> {
        let driver = self.driver.get().and_then(Weak::upgrade)?;
        let driver = driver.lock();
        driver.core.as_ref().map(|core| core.census())
    }
}

impl Doorbell for Post {
    fn ring(&self) {
        self.shared.ring();
    }

    /// A thread that sleeps costs two switches and their time before the first datagram
    /// leaves, so whoever has little to send sends it, if the core is free.
    fn drive(&self) {
        if !self.shared.is_asleep.load(Ordering::SeqCst) {
            // It looks at the commands before it sleeps.
            return;
        }
        let driver = self.driver.get().and_then(Weak::upgrade);
        let Some(mut driver) = driver.as_ref().and_then(|driver| driver.try_lock()) else {
            return self.ring();
        };
        if driver.drive_once() {
            drop(driver);
            self.ring();
        }
    }

    /// The thread dies with the process, whatever it was about to send: peers would learn from
    /// silence what a datagram could have told them.
    fn drive_all(&self) {
        if let Some(driver) = self.driver.get().and_then(Weak::upgrade) {
            driver.lock().drive_all();
        }
        self.ring();
    }
}

/// Run the core that `make` returns on the I/O thread, starting the thread if need be.
pub(crate) fn on_the_io_thread<T>(
    make: impl FnOnce(Arc<dyn Doorbell>, Arc<dyn Ground>) -> (Core, T),
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
            let shared = Arc::new(Shared {
                inbox: Mutex::default(),
                has_mail: AtomicBool::new(false),
                is_asleep: AtomicBool::new(false),
                signal: Signal::new()?,
            });
            let runner = Runner::new(shared.clone());
            thread::Builder::new()
                .name("libp2p-quic-io".to_owned())
                .spawn(move || runner.run())?;
            *thread = Some(shared.clone());
            shared
        }
    };
    let post = Arc::new(Post {
        shared: shared.clone(),
        driver: OnceLock::new(),
        bound: Arc::default(),
    });
    let (core, value) = make(post.clone(), post.clone());
    let driver = Arc::new(Mutex::new(Driver {
        core: Some(Box::new(core)),
        sockets: Open::default(),
        bound: post.bound.clone(),
        announced: None,
    }));
    let _ = post.driver.set(Arc::downgrade(&driver));
    // Still under the lock: the thread cannot leave before it has read this.
    shared.inbox.lock().push(driver);
    shared.has_mail.store(true, Ordering::SeqCst);
    shared.ring();
    Ok(value)
}

/// A core and its sockets. The I/O thread holds its lock while it drives it, and so does an
/// application thread that finds it free.
struct Driver {
    /// Gone when it has ended, or panicked outside of any one connection. Dropping it fails
    /// whoever waits for it, and the other endpoints live on.
    core: Option<Box<Core>>,
    sockets: Open,
    bound: Arc<Mutex<Bound>>,
    /// When the I/O thread will drive it next by itself.
    announced: Option<Instant>,
}

impl Driver {
    /// Let `work` have the core; `None` when there is none any more.
    fn with<T>(&mut self, work: impl FnOnce(&mut Core, &mut Open) -> T) -> Option<T> {
        let (core, sockets) = (self.core.as_mut()?, &mut self.sockets);
        // Nothing of a core that panicked is used again.
        let outcome = catch_unwind(AssertUnwindSafe(|| work(core, sockets)));
        if outcome.is_err() {
            tracing::error!("a panic ended an endpoint");
            self.core = None;
        }
        outcome.ok()
    }

    /// Take commands, and the sockets that they name.
    fn take_commands(&mut self) {
        self.with(|core, _| core.take_commands(Instant::now()));
        // After them: a command may name a socket that came after a first look, and whose
        // first datagrams would go nowhere.
        self.sockets.0.extend(self.bound.lock().drain(..));
    }

    /// Do what is due; true when there is more to do at once.
    fn drive(&mut self) -> bool {
        self.take_commands();
        let has_more = self.with(|core, open| {
            let has_more = core.advance(Instant::now(), TURNS_PER_DRIVE, open);
            core.release(open);
            has_more
        });
        if self.core.as_ref().is_some_and(|core| core.is_closed()) {
            // A core that is closed and dropped says so to whoever waits for it.
            self.core = None;
        }
        has_more.unwrap_or(false)
    }

    /// Take commands and a turn of every connection that has something to do, for as long as
    /// there is more to do at once, within reason.
    fn drive_all(&mut self) {
        for _ in 0..MOST_DRIVES {
            self.take_commands();
            let has_more =
                self.with(|core, open| core.advance(Instant::now(), TURNS_PER_DRIVE, open));
            if has_more != Some(true) {
                return;
            }
        }
    }

    /// Take commands and one turn in the place of the I/O thread, which sleeps; true when it
    /// has to be woken after all. Sockets are left to it: as long as it waits for one, closing
    /// that would not free its port.
    fn drive_once(&mut self) -> bool {
        self.take_commands();
        let has_more = self.with(|core, open| core.advance(Instant::now(), 1, open));
        let (Some(false), Some(core)) = (has_more, &self.core) else {
            return true;
        };
        let is_earlier = core
            .deadline()
            .is_some_and(|at| self.announced.is_none_or(|announced| at < announced));
        // It watches for room in a socket only if it knew of the want when it went to sleep.
        let is_blocked = self.sockets.0.keys().any(|key| core.is_blocked(*key));
        is_earlier || is_blocked || core.is_closed() || core.has_idle_sockets()
    }
}

/// The open sockets of one core: its network.
#[derive(Default)]
struct Open(FxHashMap<SocketKey, Arc<Socket>>);

impl Network for Open {
    fn send(&mut self, socket: SocketKey, transmit: &Transmit<'_>) -> Sending {
        self.0
            .get(&socket)
            .map_or(Sending::Sent, |socket| socket.send(transmit))
    }

    fn max_segments(&self, socket: SocketKey) -> usize {
        self.0
            .get(&socket)
            .map_or(1, |socket| socket.max_segments())
    }

    fn close(&mut self, socket: SocketKey) {
        self.0.remove(&socket);
    }
}

struct Runner {
    shared: Arc<Shared>,
    drivers: Vec<Arc<Mutex<Driver>>>,
    pieces: Pieces,
    meta: [RecvMeta; RECEIVE_BATCH],
    /// Sockets that are broken are not looked at before this.
    pause_until: Option<Instant>,
}

/// What poll said of one socket.
struct Event {
    driver: Arc<Mutex<Driver>>,
    socket: SocketKey,
    is_readable: bool,
    is_writable: bool,
}

impl Runner {
    fn new(shared: Arc<Shared>) -> Self {
        Self {
            shared,
            drivers: Vec::new(),
            pieces: Pieces::new(RECEIVE_BATCH),
            meta: [RecvMeta::default(); RECEIVE_BATCH],
            pause_until: None,
        }
    }

    fn run(mut self) {
        let mut events = Vec::new();
        loop {
            self.read_mail();
            let has_more = self.drive();
            if self.drivers.is_empty() && self.leave() {
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
        if self.shared.has_mail.load(Ordering::SeqCst) {
            return false;
        }
        *thread = None;
        true
    }

    fn read_mail(&mut self) {
        if self.shared.has_mail.swap(false, Ordering::SeqCst) {
            self.drivers.append(&mut self.shared.inbox.lock());
        }
    }

    /// Drive every core once; true when one has more to do at once.
    fn drive(&mut self) -> bool {
        let mut has_more = false;
        self.drivers.retain(|driver| {
            let mut driver = driver.lock();
            has_more |= driver.drive();
            driver.core.is_some()
        });
        has_more
    }

    fn wait(&mut self, has_more: bool, events: &mut Vec<Event>) {
        let now = Instant::now();
        let may_read = self.pause_until.is_none_or(|until| until <= now);
        if may_read {
            self.pause_until = None;
        }
        // First say that we sleep, then look once more: whoever comes later rings, or drives
        // and compares with what is announced here.
        let is_asleep = !has_more;
        self.shared.is_asleep.store(is_asleep, Ordering::SeqCst);
        let mut deadline = self.pause_until;
        let mut is_due = has_more || self.shared.has_mail.load(Ordering::SeqCst);
        // Shared, not borrowed, as an application thread may have the core meanwhile.
        let mut fds = vec![PollFd::new(&self.shared.signal, PollFlags::IN)];
        let mut names = Vec::new();
        let mut watched = Vec::new();
        for driver in &self.drivers {
            let mut locked = driver.lock();
            let Driver {
                core: Some(core),
                sockets,
                announced,
                ..
            } = &mut *locked
            else {
                is_due = true;
                continue;
            };
            *announced = core.deadline();
            deadline = [deadline, *announced].into_iter().flatten().min();
            is_due |= core.commands().has_some();
            for (key, socket) in &sockets.0 {
                let mut wanted = PollFlags::empty();
                if may_read {
                    wanted |= PollFlags::IN;
                }
                if core.is_blocked(*key) {
                    wanted |= PollFlags::OUT;
                }
                watched.push((socket.clone(), wanted));
                names.push((driver, *key));
            }
        }
        fds.extend(
            watched
                .iter()
                .map(|(socket, wanted)| PollFd::new(socket, *wanted)),
        );
        let mut timeout = deadline.map(|at| at.saturating_duration_since(now));
        if is_due {
            timeout = Some(Duration::ZERO);
        }
        let timeout = timeout.map(|t| Timespec {
            tv_sec: i64::try_from(t.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: t.subsec_nanos().into(),
        });
        // Interrupted or out of memory: the next pass tries again.
        let found = poll(&mut fds, timeout.as_ref()).unwrap_or(0);
        if is_asleep {
            self.shared.is_asleep.store(false, Ordering::SeqCst);
        }
        if found == 0 {
            if is_asleep && !is_due {
                self.pieces.forget();
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
                    is_readable: may_read && !found.difference(PollFlags::OUT).is_empty(),
                    is_writable: found.contains(PollFlags::OUT),
                });
            }
        }
    }

    fn serve(&mut self, event: &Event) {
        let (pieces, meta) = (&mut self.pieces, &mut self.meta);
        let served = event.driver.lock().with(|core, open| {
            if event.is_writable {
                core.handle_writable(event.socket, open);
            }
            if event.is_readable {
                receive(core, open, event.socket, pieces, meta)
            } else {
                Ok(())
            }
        });
        if let Some(Err(error)) = served {
            tracing::warn!(%error, "a UDP socket is broken");
            self.pause_until = Some(Instant::now() + BROKEN_SOCKET_PAUSE);
        }
    }
}

/// Receive until nothing is left or the turn is over.
fn receive(
    core: &mut Core,
    open: &mut Open,
    key: SocketKey,
    pieces: &mut Pieces,
    meta: &mut [RecvMeta; RECEIVE_BATCH],
) -> io::Result<()> {
    let began = Instant::now();
    loop {
        let Some(socket) = open.0.get(&key) else {
            return Ok(());
        };
        let filled = match socket.receive(&mut pieces.slices(), meta) {
            Ok(filled) => filled,
            Err(error) => {
                return match error.kind() {
                    io::ErrorKind::WouldBlock => Ok(()),
                    // Echoes of datagrams that we sent: of that peer, not of this socket.
                    io::ErrorKind::ConnectionReset
                    | io::ErrorKind::ConnectionRefused
                    | io::ErrorKind::HostUnreachable
                    | io::ErrorKind::NetworkUnreachable
                    | io::ErrorKind::Interrupted => continue,
                    _ => Err(error),
                };
            }
        };
        let now = Instant::now();
        for (index, meta) in meta[..filled].iter().enumerate() {
            // What the kernel coalesced; datagrams are parts of it.
            let mut data = pieces.take(index, meta.len);
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
            return Ok(());
        }
    }
}
