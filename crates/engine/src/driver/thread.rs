//! The I/O thread: one a process, started by the first endpoint and gone with the last. It
//! runs every core over real sockets and waits for sockets, the doorbell and deadlines.

use std::{
    io,
    net::SocketAddr,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use bytes::BytesMut;
use parking_lot::Mutex;
use quinn_proto::EcnCodepoint;
use quinn_udp::{RecvMeta, Transmit};
use rustc_hash::FxHashMap;
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::{
    driver::{
        command::Doorbell,
        core::Core,
        network::{Ground, Network, Sending, SocketKey},
        socket::Socket,
    },
    signal::Signal,
};

/// Buffers per receive call, each large enough for what GRO coalesces.
const RECEIVE_BATCH: usize = 8;
const RECEIVE_BUFFER: usize = 64 * 1024;

/// How long one socket may receive before connections are driven: their ACKs wait for it.
const RECEIVE_TURN: Duration = Duration::from_micros(100);

/// Pause after a socket error that is neither "nothing there" nor an echo of a datagram.
const BROKEN_SOCKET_PAUSE: Duration = Duration::from_millis(10);

enum Message {
    Core(u64, Box<Core>),
    Socket(u64, SocketKey, Socket),
}

/// How others reach the thread.
struct Shared {
    inbox: Mutex<Vec<Message>>,
    has_mail: AtomicBool,
    is_asleep: AtomicBool,
    signal: Signal,
}

impl Shared {
    fn send(&self, message: Message) {
        self.inbox.lock().push(message);
        self.has_mail.store(true, Ordering::SeqCst);
        self.ring();
    }
}

impl Doorbell for Shared {
    fn ring(&self) {
        if self.is_asleep.swap(false, Ordering::SeqCst) {
            self.signal.raise();
        }
    }
}

/// The thread, while there is one. It leaves under this lock, so that nobody sends to a
/// thread that is gone.
static THREAD: Mutex<Option<Arc<Shared>>> = Mutex::new(None);
static NEXT_CORE: AtomicU64 = AtomicU64::new(0);

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

/// Where one endpoint's sockets come from.
struct Sockets {
    core: u64,
    shared: Arc<Shared>,
}

impl Ground for Sockets {
    fn bind(&self, key: SocketKey, addr: SocketAddr) -> io::Result<SocketAddr> {
        let socket = Socket::bind(addr)?;
        let local = socket.local_addr()?;
        self.shared.send(Message::Socket(self.core, key, socket));
        Ok(local)
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
    let core = NEXT_CORE.fetch_add(1, Ordering::Relaxed);
    let ground = Arc::new(Sockets {
        core,
        shared: shared.clone(),
    });
    let (made, value) = make(shared.clone(), ground);
    // Still under the lock: the thread cannot leave before it has read this.
    shared.send(Message::Core(core, Box::new(made)));
    Ok(value)
}

/// A core and its sockets.
struct Driver {
    core: Box<Core>,
    sockets: Open,
}

/// The open sockets of one core: its network.
#[derive(Default)]
struct Open(FxHashMap<SocketKey, Socket>);

impl Network for Open {
    fn send(&mut self, socket: SocketKey, transmit: &Transmit<'_>) -> Sending {
        self.0
            .get(&socket)
            .map_or(Sending::Sent, |socket| socket.send(transmit))
    }

    fn max_segments(&self, socket: SocketKey) -> usize {
        self.0.get(&socket).map_or(1, Socket::max_segments)
    }

    fn close(&mut self, socket: SocketKey) {
        self.0.remove(&socket);
    }
}

struct Runner {
    shared: Arc<Shared>,
    drivers: FxHashMap<u64, Driver>,
    buffers: Vec<u8>,
    meta: [RecvMeta; RECEIVE_BATCH],
    /// Sockets that are broken are not looked at before this.
    pause_until: Option<Instant>,
}

/// What poll said of one socket.
struct Event {
    core: u64,
    socket: SocketKey,
    is_readable: bool,
    is_writable: bool,
}

impl Runner {
    fn new(shared: Arc<Shared>) -> Self {
        Self {
            shared,
            drivers: FxHashMap::default(),
            buffers: vec![0; RECEIVE_BATCH * RECEIVE_BUFFER],
            meta: [RecvMeta::default(); RECEIVE_BATCH],
            pause_until: None,
        }
    }

    fn run(mut self) {
        let mut events = Vec::new();
        loop {
            self.read_mail();
            self.drivers.retain(|_, driver| {
                spare_others(|| driver.core.take_commands(Instant::now())).is_some()
            });
            // Again: a command may name a socket that came after the first look, and whose
            // first datagrams would go nowhere.
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
        if !self.shared.has_mail.swap(false, Ordering::SeqCst) {
            return;
        }
        for message in std::mem::take(&mut *self.shared.inbox.lock()) {
            match message {
                Message::Core(key, core) => {
                    let sockets = Open::default();
                    self.drivers.insert(key, Driver { core, sockets });
                }
                Message::Socket(core, key, socket) => {
                    if let Some(driver) = self.drivers.get_mut(&core) {
                        driver.sockets.0.insert(key, socket);
                    }
                }
            }
        }
    }

    /// Drive every core once; true when one has more to do at once.
    fn drive(&mut self) -> bool {
        let mut has_more = false;
        self.drivers.retain(|_, driver| {
            let Some(more) =
                spare_others(|| driver.core.advance(Instant::now(), &mut driver.sockets))
            else {
                return false;
            };
            has_more |= more;
            // A core that is closed and dropped says so to whoever waits for it.
            !driver.core.is_closed()
        });
        has_more
    }

    fn wait(&mut self, has_more: bool, events: &mut Vec<Event>) {
        let now = Instant::now();
        let deadline = self
            .drivers
            .values()
            .filter_map(|driver| driver.core.deadline())
            .chain(self.pause_until)
            .min();
        let mut timeout = deadline.map(|at| at.saturating_duration_since(now));
        let mut is_asleep = false;
        if has_more {
            timeout = Some(Duration::ZERO);
        } else if timeout != Some(Duration::ZERO) {
            // First say that we sleep, then look once more: whoever comes later, rings.
            self.shared.is_asleep.store(true, Ordering::SeqCst);
            is_asleep = true;
            if self.shared.has_mail.load(Ordering::SeqCst)
                || self.drivers.values().any(|d| d.core.commands().has_some())
            {
                timeout = Some(Duration::ZERO);
            }
        }
        let may_read = self.pause_until.is_none_or(|until| until <= now);
        if may_read {
            self.pause_until = None;
        }
        let mut fds = vec![PollFd::new(&self.shared.signal, PollFlags::IN)];
        let mut names = Vec::new();
        for (core, driver) in &self.drivers {
            for (key, socket) in &driver.sockets.0 {
                let mut wanted = PollFlags::empty();
                if may_read {
                    wanted |= PollFlags::IN;
                }
                if driver.core.is_blocked(*key) {
                    wanted |= PollFlags::OUT;
                }
                fds.push(PollFd::new(socket, wanted));
                names.push((*core, *key));
            }
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
            return;
        }
        if fds[0].revents().contains(PollFlags::IN) {
            self.shared.signal.clear();
        }
        for (fd, (core, socket)) in fds[1..].iter().zip(names) {
            let found = fd.revents();
            if !found.is_empty() {
                events.push(Event {
                    core,
                    socket,
                    is_readable: may_read && !found.difference(PollFlags::OUT).is_empty(),
                    is_writable: found.contains(PollFlags::OUT),
                });
            }
        }
    }

    fn serve(&mut self, event: &Event) {
        let Some(driver) = self.drivers.get_mut(&event.core) else {
            return;
        };
        let (buffers, meta) = (&mut self.buffers, &mut self.meta);
        let served = spare_others(|| {
            if event.is_writable {
                driver
                    .core
                    .handle_writable(event.socket, &mut driver.sockets);
            }
            if event.is_readable {
                receive(driver, event.socket, buffers, meta)
            } else {
                Ok(())
            }
        });
        match served {
            Some(Ok(())) => {}
            Some(Err(error)) => {
                tracing::warn!(%error, "a UDP socket is broken");
                self.pause_until = Some(Instant::now() + BROKEN_SOCKET_PAUSE);
            }
            None => {
                self.drivers.remove(&event.core);
            }
        }
    }
}

/// Run a core's work; `None` when it panicked outside of any one connection. Such a core is
/// dropped, which fails whoever waits for it, and the other endpoints live on.
fn spare_others<T>(work: impl FnOnce() -> T) -> Option<T> {
    // Nothing of a core that panicked is used again.
    let outcome = catch_unwind(AssertUnwindSafe(work));
    if outcome.is_err() {
        tracing::error!("a panic ended an endpoint");
    }
    outcome.ok()
}

/// Receive until nothing is left or the turn is over.
fn receive(
    driver: &mut Driver,
    key: SocketKey,
    buffers: &mut [u8],
    meta: &mut [RecvMeta; RECEIVE_BATCH],
) -> io::Result<()> {
    let began = Instant::now();
    loop {
        let Some(socket) = driver.sockets.0.get(&key) else {
            return Ok(());
        };
        let mut slices: Vec<_> = buffers
            .chunks_mut(RECEIVE_BUFFER)
            .map(io::IoSliceMut::new)
            .collect();
        let filled = match socket.receive(&mut slices, meta) {
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
        for (buffer, meta) in buffers.chunks(RECEIVE_BUFFER).zip(&meta[..filled]) {
            // One copy for all that the kernel coalesced; datagrams are parts of it.
            let mut data = BytesMut::from(&buffer[..meta.len]);
            while !data.is_empty() {
                let datagram = data.split_to(meta.stride.clamp(1, data.len()));
                driver.core.handle_datagram(
                    now,
                    key,
                    meta.addr,
                    meta.dst_ip,
                    meta.ecn.and_then(|ecn| EcnCodepoint::from_bits(ecn as u8)),
                    datagram,
                    &mut driver.sockets,
                );
            }
        }
        if now.saturating_duration_since(began) > RECEIVE_TURN {
            return Ok(());
        }
    }
}
