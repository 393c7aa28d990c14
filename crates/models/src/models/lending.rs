//! A core without QUIC whose only socket is lent to an event loop, and the kernel's part of it: a
//! socket with datagrams, and the two sets of descriptors that it can be in.

use std::{collections::VecDeque, sync::Arc, time::Instant};

use super::clock::Clock;
use crate::{
    Flush,
    driver::{
        Command, Commands,
        handover::{CoreTask, IoHandle, LEASE, Shared, TaskSlot, TaskSlots},
    },
    ready::{LeasedCore, ReadyQueue},
    signal::Signal,
    sync::{
        Mutex,
        thread::{self, JoinHandle},
    },
};

/// More datagrams than this in one pass of the loop end the lease.
const MOST_HERE: usize = 2;

#[derive(Default)]
struct Arrived {
    /// With their time of arrival.
    datagrams: VecDeque<(u8, Instant)>,
    /// The I/O thread waits for the socket.
    is_polled: bool,
    /// The socket is in the loop's set.
    is_lent: bool,
}

/// The socket. Its waiters wait for the signals that are in the same sets.
struct Socket {
    arrived: Mutex<Arrived>,
    io_signal: Arc<Shared<Task>>,
    ready_queue: Arc<ReadyQueue>,
}

impl Socket {
    fn arrive(&self, byte: u8, clock: &Clock) {
        let (is_polled, is_lent) = {
            let mut arrived = self.arrived.lock();
            arrived.datagrams.push_back((byte, clock.now()));
            (arrived.is_polled, arrived.is_lent)
        };
        if is_polled {
            self.io_signal.signal.raise();
        }
        if is_lent {
            self.ready_queue.signal.raise();
        }
    }

    /// Let time pass, but not while a datagram arrives or is received.
    fn pass_time(&self, clock: &Clock, until: Instant) {
        let _arrived = self.arrived.lock();
        clock.advance_to(until);
    }

    /// Have the I/O thread wait for it, or not. Returns whether it is readable.
    fn poll(&self, is_polled: bool) -> bool {
        let mut arrived = self.arrived.lock();
        arrived.is_polled = is_polled;
        !arrived.datagrams.is_empty()
    }

    /// Add it to the loop's set or remove it. A readable one makes the set readable at once.
    fn lend(&self, is_lent: bool) {
        let mut arrived = self.arrived.lock();
        arrived.is_lent = is_lent;
        let is_readable = !arrived.datagrams.is_empty();
        drop(arrived);
        if is_lent && is_readable {
            self.ready_queue.signal.raise();
        }
    }
}

/// What the core received, and executed.
#[derive(Default)]
struct Done {
    bytes: Vec<u8>,
    commands: usize,
}

struct Task {
    commands: Arc<Commands>,
    socket: Arc<Socket>,
    clock: Arc<Clock>,
    core: Arc<IoHandle<Self>>,
    done: Arc<Mutex<Done>>,
    /// Raised when `done` changes.
    progress: Arc<Signal>,
    is_lent: bool,
    is_closed: bool,
}

impl Task {
    /// Returns the number of datagrams.
    fn receive(&self) -> usize {
        let (datagrams, now) = {
            let mut arrived = self.socket.arrived.lock();
            (std::mem::take(&mut arrived.datagrams), self.clock.now())
        };
        for (byte, arrived) in &datagrams {
            assert!(now <= *arrived + LEASE, "a datagram waited for too long");
            self.done.lock().bytes.push(*byte);
            self.socket.ready_queue.waker(u64::from(*byte)).wake();
            self.progress.raise();
        }
        datagrams.len()
    }

    fn leased(&self) -> Arc<dyn LeasedCore> {
        self.core.clone()
    }
}

impl CoreTask for Task {
    fn now(&self) -> Instant {
        self.clock.now()
    }

    fn take_commands(&mut self) {
        let mut taken = Vec::new();
        self.commands.take(&mut taken);
        for command in taken {
            match command {
                Command::CloseAll { .. } => self.is_closed = true,
                _ => {
                    self.done.lock().commands += 1;
                    self.progress.raise();
                }
            }
        }
    }

    fn advance(&mut self) -> bool {
        if self.is_closed && self.is_lent {
            // As a socket is closed.
            self.take_back();
        }
        false
    }

    fn advance_here(&mut self, _turns: usize) -> bool {
        false
    }

    fn deadline(&self) -> Option<Instant> {
        None
    }

    fn has_commands(&self) -> bool {
        self.commands.has_released()
    }

    fn is_releasable(&self) -> bool {
        self.is_closed
    }

    fn is_closed(&self) -> bool {
        self.is_closed
    }

    fn lend(&mut self) -> bool {
        self.is_lent = !self.is_closed;
        if self.is_lent {
            self.socket.ready_queue.lend(self.leased());
            self.socket.lend(true);
        }
        self.is_lent
    }

    fn take_back(&mut self) {
        self.is_lent = false;
        self.socket.ready_queue.take_back(&self.leased());
        self.socket.lend(false);
    }

    fn receive_here(&mut self) -> bool {
        self.is_lent && self.receive() <= MOST_HERE
    }
}

impl Drop for Task {
    fn drop(&mut self) {
        self.commands.close();
    }
}

/// What the I/O thread does, which lends the socket after each receive.
fn run(shared: &Arc<Shared<Task>>, socket: &Socket, clock: &Clock) {
    let mut tasks = TaskSlots::new(shared.clone());
    loop {
        tasks.take_new_tasks();
        let has_more = tasks.drive();
        if tasks.is_empty() && !shared.has_new_tasks() {
            return;
        }
        let mut polled: Option<&Arc<Mutex<TaskSlot<Task>>>> = None;
        let pause = tasks.announce(has_more, |slot, task| {
            polled = (!task.is_lent).then_some(slot);
        });
        let is_readable = polled.is_some() && socket.poll(true);
        if !pause.is_due && !is_readable {
            match pause.until {
                Some(until) => socket.pass_time(clock, until),
                None => shared.signal.wait(),
            }
        }
        tasks.wake(&pause);
        shared.signal.clear();
        if let Some(slot) = polled
            && socket.poll(false)
        {
            let mut slot = slot.lock();
            let began = clock.now();
            slot.with(|task| task.receive());
            slot.lend(began);
        }
    }
}

/// An endpoint whose socket is lent, its event loop's queue, and the I/O thread.
pub(super) struct Lending {
    ready_queue: Arc<ReadyQueue>,
    socket: Arc<Socket>,
    clock: Arc<Clock>,
    commands: Arc<Commands>,
    done: Arc<Mutex<Done>>,
    progress: Arc<Signal>,
    thread: JoinHandle<()>,
}

impl Lending {
    pub(super) fn new() -> Self {
        let shared = Shared::new(Signal::new().expect("a model's"));
        let ready_queue = ReadyQueue::new().expect("a model's");
        let clock = Arc::<Clock>::default();
        let socket = Arc::new(Socket {
            arrived: Mutex::default(),
            io_signal: shared.clone(),
            ready_queue: ready_queue.clone(),
        });
        let core = Arc::new(IoHandle::new(shared.clone()));
        let commands = Commands::new(core.clone(), Flush::OnRequest);
        let done = Arc::<Mutex<Done>>::default();
        let progress = Arc::new(Signal::new().expect("a model's"));
        core.send(Task {
            commands: commands.clone(),
            socket: socket.clone(),
            clock: clock.clone(),
            core: core.clone(),
            done: done.clone(),
            progress: progress.clone(),
            is_lent: false,
            is_closed: false,
        });
        let thread = {
            let (socket, clock) = (socket.clone(), clock.clone());
            thread::spawn(move || run(&shared, &socket, &clock))
        };
        Self {
            ready_queue,
            socket,
            clock,
            commands,
            done,
            progress,
            thread,
        }
    }

    /// A thread to whose datagrams nothing answers.
    pub(super) fn peer(&self, datagrams: u8) -> JoinHandle<()> {
        let (socket, clock) = (self.socket.clone(), self.clock.clone());
        thread::spawn(move || (0..datagrams).for_each(|byte| socket.arrive(byte, &clock)))
    }

    /// A thread without a loop that asks something of the core.
    pub(super) fn another_thread(&self) -> JoinHandle<()> {
        let commands = self.commands.clone();
        thread::spawn(move || {
            let (connection, code, reason) = (0, 0, Vec::new());
            commands.push(Command::Close {
                connection,
                code,
                reason,
            });
        })
    }

    /// One pass of the event loop: wait, and drain. Returns the number of tokens.
    pub(super) fn pass(&self) -> usize {
        self.ready_queue.signal.wait();
        // A level-triggered set: it stays readable only for what is left.
        self.ready_queue.signal.clear();
        let mut taken = Vec::new();
        self.ready_queue.drain(&mut taken);
        taken.len()
    }

    /// Wait without a pass, as a loop that is away, until the core has received `datagrams` and executed
    /// `commands`.
    pub(super) fn await_done(&self, datagrams: usize, commands: usize) {
        loop {
            self.progress.clear();
            let done = self.done.lock();
            if done.bytes.len() == datagrams && done.commands == commands {
                return;
            }
            drop(done);
            self.progress.wait();
        }
    }

    /// Close the endpoint and join the I/O thread. `datagrams` were received, each once and in order.
    pub(super) fn close(self, datagrams: u8) {
        self.commands.push(Command::CloseAll {
            code: 0,
            reason: Vec::new(),
        });
        self.thread.join().expect("the I/O thread");
        assert!(self.done.lock().bytes.iter().copied().eq(0..datagrams));
        assert!(!self.socket.arrived.lock().is_lent && !self.ready_queue.is_receiver());
    }
}
