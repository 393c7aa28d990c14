//! A node: a real endpoint, and the machine that runs its core.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    ops::Deref,
    sync::{
        Arc, Weak,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use parking_lot::Mutex;

use super::{
    chance,
    clock::Clock,
    dice::Dice,
    wire::{Port, Wire},
};
use crate::{
    census::Census,
    config::Config,
    driver::{Command, Commands, Core, CryptoOverride, IoWaker, ReceivedDatagram, SocketKey},
    endpoint::Endpoint,
    identity::Identity,
};

/// A node's endpoint, which it dereferences to, and its addresses.
pub struct Node {
    index: usize,
    addresses: [IpAddr; 2],
    endpoint: Endpoint,
}

impl Node {
    /// The endpoint itself.
    pub fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// Its IPv4 address with a port.
    pub fn v4(&self, port: u16) -> SocketAddr {
        SocketAddr::new(self.addresses[0], port)
    }

    /// Its IPv6 address with a port.
    pub fn v6(&self, port: u16) -> SocketAddr {
        SocketAddr::new(self.addresses[1], port)
    }

    pub(super) fn index(&self) -> usize {
        self.index
    }

    pub(super) fn report_addresses(&self) {
        self.endpoint.commands().push(Command::AddressesChanged);
    }

    pub(super) fn poison(&self, connection: u64) {
        self.endpoint.commands().push(Command::Poison(connection));
    }
}

impl Deref for Node {
    type Target = Endpoint;

    fn deref(&self) -> &Endpoint {
        &self.endpoint
    }
}

/// Stands in for the waker of an I/O thread: a flag that the world polls.
#[derive(Default)]
struct WakeFlag(AtomicBool);

impl IoWaker for WakeFlag {
    fn wake(&self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

pub(super) struct Machine {
    index: usize,
    identity: Identity,
    crypto_override: Option<CryptoOverride>,
    woken: Arc<WakeFlag>,
    running: Option<Running>,
    /// How many times, that differ, its thread ran at, and the last of them.
    wakeups: u64,
    last_run: Option<Instant>,
    /// The commands of every core that ran here, to count those that are still referenced.
    past: Vec<Weak<Commands>>,
}

struct Running {
    core: Core,
    port: Port,
    /// The core has more to do, or has received something.
    is_awake: bool,
    /// It was woken, and its thread runs at this time.
    runs_at: Option<Instant>,
}

impl Machine {
    pub(super) fn new(index: usize, seed: u64, crypto_override: Option<CryptoOverride>) -> Self {
        let who = Dice::new(seed).roll() ^ index as u64;
        Self {
            index,
            identity: Identity::deterministic(who),
            crypto_override,
            woken: Arc::default(),
            running: None,
            wakeups: 0,
            last_run: None,
            past: Vec::new(),
        }
    }

    pub(super) fn index(&self) -> usize {
        self.index
    }

    pub(super) fn start(
        &mut self,
        config: Config,
        clock: &Clock,
        dice: &mut Dice,
        wire: &Arc<Mutex<Wire>>,
    ) -> Node {
        let [.., high, low] = (self.index as u32 + 1).to_be_bytes();
        let addresses = [
            IpAddr::from(Ipv4Addr::new(10, 0, high, low)),
            IpAddr::from(Ipv6Addr::new(
                0xfd00,
                0,
                0,
                0,
                0,
                0,
                high.into(),
                low.into(),
            )),
        ];
        let port = || Port {
            node: self.index,
            addresses,
            wire: wire.clone(),
        };
        let flush = config.flush;
        let settings = chance::settings(&self.identity, config, clock, dice, self.crypto_override)
            .unwrap_or_else(|error| panic!("a node cannot start: {error}"));
        self.woken = Arc::default();
        let commands = Commands::new(self.woken.clone(), flush);
        self.past.push(Arc::downgrade(&commands));
        let (core, endpoint) =
            Endpoint::assemble(&self.identity, settings, commands, Arc::new(port()));
        self.running = Some(Running {
            core,
            port: port(),
            is_awake: false,
            runs_at: None,
        });
        Node {
            index: self.index,
            addresses,
            endpoint,
        }
    }

    pub(super) fn stop(&mut self) {
        self.running = None;
    }

    pub(super) fn is_running(&self) -> bool {
        self.running.is_some()
    }

    pub(super) fn census(&self) -> Option<Census> {
        self.running.as_ref().map(|running| running.core.census())
    }

    pub(super) fn wakeups(&self) -> u64 {
        self.wakeups
    }

    pub(super) fn remains(&self) -> usize {
        let current = usize::from(self.is_running());
        let alive = self.past.iter().filter(|past| past.strong_count() > 0);
        alive.count() - current
    }

    /// The time of its next event.
    pub(super) fn deadline(&mut self) -> Option<Instant> {
        let running = self.running.as_ref()?;
        running.runs_at.or_else(|| running.core.deadline())
    }

    /// True if its thread runs now. Else it may draw by how much, up to `stall`, a woken thread is
    /// late.
    pub(super) fn poll_work(&mut self, now: Instant, stall: Duration, dice: &mut Dice) -> bool {
        let Some(running) = &mut self.running else {
            return false;
        };
        if let Some(at) = running.runs_at {
            return at <= now;
        }
        let is_due = running.core.deadline().is_some_and(|at| at <= now);
        if !is_due && !running.is_awake && !self.woken.0.load(Ordering::SeqCst) {
            return false;
        }
        let late = dice.up_to(stall);
        if late.is_zero() {
            return true;
        }
        running.runs_at = Some(now + late);
        false
    }

    /// One turn of its thread.
    pub(super) fn drive(&mut self, now: Instant) {
        if let Some(running) = &mut self.running {
            self.woken.0.store(false, Ordering::SeqCst);
            self.wakeups += u64::from(self.last_run.replace(now) != Some(now));
            running.runs_at = None;
            running.is_awake = running.core.drive(now, &mut running.port);
            if running.core.is_closed() {
                self.running = None;
            }
        }
    }

    pub(super) fn handle_writable(&mut self, socket: SocketKey) {
        if let Some(running) = &mut self.running {
            // As with poll: writability is only asked for while a send is blocked.
            if running.core.is_blocked(socket) {
                running.core.handle_writable(socket, &mut running.port);
                running.is_awake = true;
            }
        }
    }

    pub(super) fn handle_datagram(&mut self, now: Instant, datagram: ReceivedDatagram) {
        if let Some(running) = &mut self.running {
            let port = &mut running.port;
            running
                .core
                .note_received(datagram.socket, 1, datagram.data.len());
            running.core.handle_datagram(now, datagram, port);
            running.is_awake = true;
        }
    }
}
