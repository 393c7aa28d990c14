//! An endpoint with the engine's own core, over a network that loses every datagram.

use std::{
    collections::BTreeMap,
    io,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::{Arc, OnceLock},
    time::{Duration, Instant},
};

use super::{clock::Clock, world::run};
use crate::{
    Config, Endpoint, Identity, Listener,
    census::Census,
    driver::{
        BoundSocket, Commands, Core, Network, Sending, Settings, SocketKey, SocketProvider,
        handover::{CoreTask, IoHandle, Shared},
    },
    signal::Signal,
    sync::{
        Mutex,
        thread::{self, JoinHandle},
    },
};

/// Its clones are the same network.
#[derive(Clone, Default)]
struct LosesAll {
    /// The open sockets, with the addresses that they were bound to.
    open: Arc<Mutex<BTreeMap<SocketKey, SocketAddr>>>,
}

impl Network for LosesAll {
    fn send(&mut self, _: SocketKey, _: &quinn_udp::Transmit<'_>) -> Sending {
        Sending::Sent
    }

    fn max_segments(&self, _: SocketKey) -> usize {
        1
    }

    fn report_undelivered(&mut self, _: SocketKey, _: bool) {}

    fn close(&mut self, socket: SocketKey) {
        self.open.lock().remove(&socket);
    }
}

impl SocketProvider for LosesAll {
    fn bind(&self, key: SocketKey, local: SocketAddr) -> io::Result<BoundSocket> {
        let mut open = self.open.lock();
        // As the system does, which chooses among the free ports for port 0.
        if local.port() != 0 && open.values().any(|addr| *addr == local) {
            return Err(io::ErrorKind::AddrInUse.into());
        }
        open.insert(key, local);
        Ok(BoundSocket {
            local,
            refusal: None,
        })
    }

    fn source(&self, _: SocketAddr) -> io::Result<IpAddr> {
        Ok(Ipv4Addr::LOCALHOST.into())
    }

    fn has_address(&self, _: SocketAddr) -> bool {
        true
    }

    fn share_network(&self, _: IpAddr, _: IpAddr) -> bool {
        false
    }

    fn census(&self) -> Option<Census> {
        None
    }
}

/// A task like `driver::thread`'s.
struct Task {
    core: Core,
    clock: Arc<Clock>,
    network: LosesAll,
}

impl CoreTask for Task {
    fn take_commands(&mut self) {
        self.core.take_commands(self.clock.now());
    }

    fn advance(&mut self) -> bool {
        let has_more = self.advance_here(32);
        self.core.release(&mut self.network);
        has_more
    }

    fn advance_here(&mut self, turns: usize) -> bool {
        let now = self.clock.now();
        self.core.advance(now, turns, &mut self.network)
    }

    fn deadline(&self) -> Option<Instant> {
        self.core.deadline()
    }

    fn has_commands(&self) -> bool {
        self.core.commands().has_released()
    }

    fn is_releasable(&self) -> bool {
        self.core.is_closed() || self.core.has_releasable_sockets()
    }

    fn is_closed(&self) -> bool {
        self.core.is_closed()
    }
}

/// An endpoint whose dials nobody answers, and the I/O thread.
pub(super) struct Unanswered {
    pub(super) endpoint: Arc<Endpoint>,
    pub(super) clock: Arc<Clock>,
    pub(super) thread: JoinHandle<()>,
    io_handle: Arc<IoHandle<Task>>,
    network: LosesAll,
}

impl Unanswered {
    pub(super) fn new() -> Self {
        // Made once: its key is a fresh one, and no model depends on it.
        static IDENTITY: OnceLock<Identity> = OnceLock::new();
        let identity = IDENTITY.get_or_init(Identity::generate);
        let config = Config {
            handshake_timeout: Duration::from_secs(1),
            ..Config::default()
        };
        let flush = config.flush;
        let settings = Settings::new(identity, config).expect("settings");
        let shared = Shared::new(Signal::new().expect("a model's"));
        let io_handle = Arc::new(IoHandle::new(shared.clone()));
        let commands = Commands::new(io_handle.clone(), flush);
        let network = LosesAll::default();
        let sockets = Arc::new(network.clone());
        let (core, endpoint) = Endpoint::assemble(identity, settings, commands, sockets);
        let clock = Arc::<Clock>::default();
        io_handle.send(Task {
            core,
            clock: clock.clone(),
            network: network.clone(),
        });
        let thread = {
            let clock = clock.clone();
            thread::spawn(move || run(&shared, &clock))
        };
        Self {
            endpoint: Arc::new(endpoint),
            clock,
            thread,
            io_handle,
            network,
        }
    }

    /// Whether a datagram to the listener's address reaches it: a socket is open there, and the core gives the
    /// listener what arrives at it.
    pub(super) fn reaches(&self, listener: &Listener) -> bool {
        let local = listener.local_addr();
        let Some(slot) = self.io_handle.slot() else {
            return false;
        };
        let before = listener.statistics().datagrams_received;
        slot.lock().with(|task| {
            // As the core does at a first packet.
            task.take_commands();
            let open = task.network.open.lock().clone();
            let found = open.into_iter().find(|(_, addr)| *addr == local);
            if let Some((socket, _)) = found {
                task.core.note_received(socket, 1, 1);
            }
        });
        listener.statistics().datagrams_received == before + 1
    }

    /// How many sockets are open.
    pub(super) fn open_sockets(&self) -> usize {
        self.network.open.lock().len()
    }
}
