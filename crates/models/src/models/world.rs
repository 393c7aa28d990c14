//! An I/O thread like the engine's except for its way of waiting, and endpoints on it.

use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::Arc,
};

use super::{
    clock::Clock,
    echo::{Echo, Network},
};
use crate::{
    Flush,
    budget::Budget,
    congestion::CongestionSignals,
    driver::{
        Command, Commands,
        handover::{CoreTask, IoHandle, Shared, TaskSlots},
    },
    handle::Handle,
    receive_credit::ReceiveCredit,
    shared::{ConnectionMemory, ConnectionShared, StreamShared},
    signal::Signal,
    stream::Stream,
    sync::{
        atomic::{AtomicU64, Ordering},
        thread::{self, JoinHandle},
    },
};

/// The shared state of a connection that may hold `allowance` bytes.
pub(super) fn connection(id: u64, allowance: u64) -> Arc<ConnectionShared> {
    let nowhere = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let memory = ConnectionMemory {
        receive_credit: ReceiveCredit::new(Budget::new(1 << 30), allowance),
        unacked: Budget::new(1 << 30),
    };
    ConnectionShared::new(
        id,
        true,
        nowhere,
        nowhere,
        memory,
        CongestionSignals::default(),
        Arc::default(),
    )
}

/// One endpoint with one connection.
pub(super) struct Endpoint {
    commands: Arc<Commands>,
    connection: Arc<Handle>,
    next_stream: AtomicU64,
}

/// The I/O thread, and an endpoint that lives as long as the world.
pub(super) struct World {
    shared: Arc<Shared<Echo>>,
    clock: Arc<Clock>,
    thread: JoinHandle<()>,
    first: Endpoint,
}

/// What the I/O thread does.
pub(super) fn run<W: CoreTask>(shared: &Arc<Shared<W>>, clock: &Clock) {
    let mut tasks = TaskSlots::new(shared.clone());
    loop {
        tasks.take_new_tasks();
        let has_more = tasks.drive();
        if tasks.is_empty() && !shared.has_new_tasks() {
            return;
        }
        let pause = tasks.announce(has_more, |_, _| ());
        if !pause.is_due {
            match pause.until {
                // Waiting for a time takes none in a model.
                Some(until) => clock.advance_to(until),
                None => shared.signal.wait(),
            }
        }
        tasks.wake(&pause);
        if shared.signal.is_raised() {
            shared.signal.clear();
        }
    }
}

impl Endpoint {
    fn new(
        shared: &Arc<Shared<Echo>>,
        clock: &Arc<Clock>,
        flush: Flush,
        network: Network,
        allowance: u64,
    ) -> Self {
        let io_handle = Arc::new(IoHandle::new(shared.clone()));
        let commands = Commands::new(io_handle.clone(), flush);
        io_handle.send(Echo::new(commands.clone(), network, clock.clone()));
        let connection = connection(0, allowance);
        Self {
            connection: Handle::new(connection, commands.clone()),
            commands,
            next_stream: AtomicU64::new(0),
        }
    }

    pub(super) fn stream(&self, read_buffer: usize, write_buffer: usize) -> Stream {
        let id = self.next_stream.fetch_add(1, Ordering::SeqCst);
        let receive_credit = self.connection.shared.receive_credit.clone();
        let unacked = self.connection.shared.unacked.clone();
        let shared = StreamShared::new(id, receive_credit, unacked, read_buffer, write_buffer);
        Stream::new(shared, self.connection.clone())
    }

    pub(super) fn leave(self) {
        self.commands.push(Command::CloseAll {
            code: 0,
            reason: Vec::new(),
        });
    }
}

impl World {
    pub(super) fn new(flush: Flush, network: Network, allowance: u64) -> Self {
        let shared = Shared::new(Signal::new().expect("a model's"));
        let clock = Arc::<Clock>::default();
        // Before the thread starts: it ends when there is nothing to drive.
        let first = Endpoint::new(&shared, &clock, flush, network, allowance);
        let thread = {
            let (shared, clock) = (shared.clone(), clock.clone());
            thread::spawn(move || run(&shared, &clock))
        };
        Self {
            shared,
            clock,
            thread,
            first,
        }
    }

    pub(super) fn another(&self, flush: Flush, network: Network, allowance: u64) -> Endpoint {
        Endpoint::new(&self.shared, &self.clock, flush, network, allowance)
    }

    pub(super) fn stream(&self, read_buffer: usize, write_buffer: usize) -> Stream {
        self.first.stream(read_buffer, write_buffer)
    }

    pub(super) fn flush(&self) {
        self.first.commands.flush();
    }

    /// Close the endpoint and join the I/O thread.
    pub(super) fn close(self) {
        self.first.leave();
        self.thread.join().expect("the I/O thread");
    }
}
