//! A core without QUIC that offers connections to a listener, as `driver::connection` does when a
//! handshake completes.

use std::{
    collections::VecDeque,
    net::{Ipv4Addr, SocketAddr},
    sync::Arc,
    time::Instant,
};

use super::{
    clock::Clock,
    world::{connection, run},
};
use crate::{
    Flush, Listener,
    driver::{
        Command, Commands,
        handover::{CoreTask, IoHandle, Shared},
    },
    error::ConnectionError,
    shared::{ConnectionShared, EndpointState, ListenerShared, SocketInfo},
    signal::Signal,
    sync::{
        Mutex,
        thread::{self, JoinHandle},
    },
};

/// A task that offers these connections, one in each turn, as soon as there is a listener.
struct Offers {
    commands: Arc<Commands>,
    taken: Vec<Command>,
    clock: Arc<Clock>,
    listener: Option<Arc<ListenerShared>>,
    left: VecDeque<Arc<ConnectionShared>>,
    is_closed: bool,
}

impl CoreTask for Offers {
    fn take_commands(&mut self) {
        self.commands.take(&mut self.taken);
        for command in self.taken.drain(..) {
            match command {
                Command::Listen(listener) => self.listener = Some(listener),
                Command::CloseAll { .. } => self.is_closed = true,
                // It offers on, as a handshake may complete after its listener was closed.
                _ => {}
            }
        }
    }

    fn advance(&mut self) -> bool {
        if let Some(listener) = &self.listener
            && let Some(connection) = self.left.pop_front()
            && !listener.offer(&connection, self.clock.now(), nowhere())
        {
            connection.end(ConnectionError::closed_here(1, b"refused"));
        }
        self.listener.is_some() && !self.left.is_empty()
    }

    fn advance_here(&mut self, _turns: usize) -> bool {
        self.advance()
    }

    fn deadline(&self) -> Option<Instant> {
        None
    }

    fn has_commands(&self) -> bool {
        self.commands.has_released()
    }

    fn is_releasable(&self) -> bool {
        self.is_closed()
    }

    fn is_closed(&self) -> bool {
        self.is_closed && self.left.is_empty()
    }
}

fn nowhere() -> SocketAddr {
    (Ipv4Addr::LOCALHOST, 1).into()
}

/// A listener to which the I/O thread offers connections.
pub(super) struct Listening {
    pub(super) listener: Arc<Listener>,
    offered: Vec<Arc<ConnectionShared>>,
    commands: Arc<Commands>,
    thread: JoinHandle<()>,
}

impl Listening {
    pub(super) fn new(offers: u64, max_backlog: usize) -> Self {
        let shared = Shared::new(Signal::new().expect("a model's"));
        let io_handle = Arc::new(IoHandle::new(shared.clone()));
        let commands = Commands::new(io_handle.clone(), Flush::Immediate);
        let clock = Arc::<Clock>::default();
        let offered: Vec<_> = (0..offers).map(|id| connection(id, 1 << 20)).collect();
        io_handle.send(Offers {
            commands: commands.clone(),
            taken: Vec::new(),
            clock: clock.clone(),
            listener: None,
            left: offered.iter().cloned().collect(),
            is_closed: false,
        });
        let thread = thread::spawn(move || run(&shared, &clock));
        let info = SocketInfo {
            key: 0,
            local: nowhere(),
            refusal: None,
            is_listening: true,
            is_kept: false,
            is_address_gone: false,
        };
        let state = EndpointState {
            sockets: vec![info],
            ..EndpointState::default()
        };
        let listener = ListenerShared::new(&info, max_backlog, Arc::default(), Arc::default());
        commands.push(Command::Listen(listener.clone()));
        let listener = Listener::new(listener, commands.clone(), Arc::new(Mutex::new(state)));
        Self {
            listener: Arc::new(listener),
            offered,
            commands,
            thread,
        }
    }

    /// Join the I/O thread, after the listener was closed: every connection was accepted and
    /// dropped, or refused, or closed with the listener, so that it has ended.
    pub(super) fn end(self) {
        self.commands.push(Command::CloseAll {
            code: 0,
            reason: Vec::new(),
        });
        self.thread.join().expect("the I/O thread");
        for connection in &self.offered {
            let error = connection.state.lock().error.clone();
            assert!(error.is_some(), "connection {} leaked", connection.id);
        }
        let statistics = self.listener.statistics();
        assert_eq!(statistics.backlog, 0);
        assert_eq!(
            statistics.connections_accepted + statistics.connections_refused,
            self.offered.len() as u64
        );
    }
}
