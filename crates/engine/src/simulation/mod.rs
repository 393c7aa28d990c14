//! Deterministic simulation: engines in virtual time over a virtual network, by seed.
//!
//! A [`World`] holds nodes, a network and a clock. Nodes are real
//! [`Endpoint`](crate::Endpoint)s over real cores; only the parameters of a core are replaced:
//! time, sockets, the thread that wakes it, and randomness. A run depends on the seed and the test
//! only, so that a failing seed fails again in the same way. Cipher text differs between two runs,
//! as TLS takes its keys from the system; lengths and times do not.
//!
//! ```
//! use libp2p_quic_engine::{Config, simulation::{World, operations}};
//!
//! let mut world = World::new(7);
//! let server = world.node(Config::default());
//! let client = world.node(Config::default());
//! let listener = server.listen(server.v4(0)).expect("a free port");
//! let (to, who) = (listener.local_addr(), server.peer_id());
//! let (ours, theirs) = world.block_on(async {
//!     let ours = operations::connect(&client, to, Some(who)).await.expect("a connection");
//!     (ours, operations::accept(&listener).await.expect("a connection"))
//! });
//! assert_eq!(theirs.peer_id(), Some(client.peer_id()));
//! drop(ours);
//! ```

mod chance;
mod clock;
mod conditions;
mod dice;
mod nat;
mod node;
mod open_packets;
pub mod operations;
mod tasks;
mod trace;
mod wire;

use std::{
    future::Future,
    net::{IpAddr, SocketAddr},
    pin::pin,
    sync::Arc,
    task::{Context, Poll},
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use quinn_proto::EcnCodepoint;

pub use self::{
    clock::Clock,
    conditions::Conditions,
    dice::Dice,
    nat::{Behavior, Nat},
    node::Node,
    tasks::Task,
    trace::Datagram,
};
use self::{
    node::Machine,
    tasks::{MAIN, Tasks},
    wire::{Mailbox, Owner, Wire},
};
/// Bytes of the connection ids that nodes choose, as in short headers sent to them.
pub const CONNECTION_ID_LENGTH: usize = crate::driver::CONNECTION_ID_LENGTH;
pub use crate::census::Census;
use crate::{
    Config, Connection,
    driver::{CryptoOverride, ReceivedDatagram},
};

/// Passes without progress of time after which a world panics.
const SPINNING: u32 = 200_000;

/// How long [`World::block_on`] waits, in virtual time.
const PATIENCE: Duration = Duration::from_secs(600);

/// Nodes, a network between them and a clock. See the [module](self).
pub struct World {
    seed: u64,
    clock: Clock,
    dice: Dice,
    wire: Arc<Mutex<Wire>>,
    machines: Vec<Machine>,
    tasks: Tasks,
    /// Steps since time last moved.
    passes: u32,
    crypto_override: Option<CryptoOverride>,
}

impl World {
    /// An empty world with a good network.
    pub fn new(seed: u64) -> Self {
        let mut dice = Dice::new(seed);
        let clock = Clock::new();
        let wire = Wire::new(clock.clone(), dice.fork());
        Self {
            seed,
            clock,
            dice,
            wire: Arc::new(Mutex::new(wire)),
            machines: Vec::new(),
            tasks: Tasks::default(),
            passes: 0,
            crypto_override: None,
        }
    }

    /// Nodes created from now on do not encrypt packets, so that a test can inject what a peer
    /// with the keys could send. The TLS handshake stays real.
    pub fn leave_packets_open(&mut self) {
        self.crypto_override = Some(open_packets::OPEN);
    }

    /// The seed of this world.
    pub fn seed(&self) -> u64 {
        self.seed
    }

    /// Dice for the test's own choices.
    pub fn dice(&mut self) -> Dice {
        self.dice.fork()
    }

    /// Time since the world began.
    pub fn now(&self) -> Duration {
        self.clock.now()
    }

    /// The clock, for tasks.
    pub fn clock(&self) -> Clock {
        self.clock.clone()
    }

    /// Create a node with its own identity and addresses. Panics on an invalid configuration.
    pub fn node(&mut self, config: Config) -> Node {
        let index = self.machines.len();
        let mut machine = Machine::new(index, self.seed, self.crypto_override);
        let node = machine.start(config, &self.clock, &mut self.dice, &self.wire);
        self.machines.push(machine);
        node
    }

    /// Kill the node's process: nothing is sent, its sockets are gone, its handles fail.
    pub fn crash(&mut self, node: &Node) {
        self.machines[node.index()].stop();
        self.wire.lock().unbind_all(node.index());
    }

    /// Start a node with the same identity and addresses and no earlier state. Crashes the node
    /// if it still runs.
    pub fn restart(&mut self, node: &Node, config: Config) -> Node {
        self.crash(node);
        let machine = &mut self.machines[node.index()];
        machine.start(config, &self.clock, &mut self.dice, &self.wire)
    }

    /// Change what the network does, from now on.
    pub fn link(&mut self, conditions: Conditions) {
        self.wire.lock().conditions = conditions;
    }

    /// Move time as for a machine that was suspended: nothing runs meanwhile, and everything that
    /// was due is late.
    pub fn leap(&mut self, time: Duration) {
        self.clock.advance(self.clock.instant() + time);
    }

    /// Change the wall clock by `seconds`, but not virtual time.
    pub fn shift_wall_clock(&mut self, seconds: i64) {
        self.clock.jump_wall_clock(seconds);
    }

    /// Nothing arrives for this long.
    pub fn blackout(&mut self, time: Duration) {
        self.wire.lock().dark_until = Some(self.clock.instant() + time);
    }

    /// Drop the datagrams of this node that have an ECN mark, or stop dropping them. Datagrams in
    /// flight arrive.
    pub fn drop_marked(&mut self, from: &Node, is_dropped: bool) {
        let black_holes = &mut self.wire.lock().ecn_black_holes;
        if is_dropped {
            black_holes.insert(from.index());
        } else {
            black_holes.remove(&from.index());
        }
    }

    /// Put these nodes behind a NAT of their own, and return its outer address. IPv4 only.
    pub fn behind(&mut self, nat: Nat, nodes: &[&Node]) -> IpAddr {
        let nodes = nodes.iter().map(|node| node.index());
        self.wire.lock().put_behind(nat, nodes)
    }

    /// The NAT with this outer address forgets its mappings, as after a restart.
    pub fn forget_mappings(&mut self, outer: IpAddr) {
        self.wire.lock().forget_mappings(outer);
    }

    /// Rebind the NAT of this node: its sockets get new external ports.
    pub fn rebind(&mut self, node: &Node) {
        self.wire.lock().rebind(node.index());
    }

    /// The system tells this node that its addresses changed.
    pub fn report_addresses(&mut self, node: &Node) {
        node.report_addresses();
    }

    /// Inject a defect: the next work on this connection of this node panics.
    pub fn poison(&mut self, node: &Node, connection: &Connection) {
        node.poison(connection.0.shared.id);
    }

    /// Inject a defect in this node's `n`-th inbound connection, counted from one. Its handshake
    /// must have started and need not have completed.
    pub fn poison_inbound(&mut self, node: &Node, n: u64) {
        node.poison(crate::driver::ACCEPTED + n);
    }

    /// Reserve an address for [`inject`](Self::inject) and [`received`](Self::received).
    pub fn raw_address(&mut self) -> SocketAddr {
        let any = SocketAddr::from(([192, 0, 2, 1], 0));
        let bound = self.wire.lock().bind(Owner::Raw, any);
        bound.unwrap_or_else(|error| panic!("seed {}: {error}", self.seed))
    }

    /// Send a datagram from any address to any. It arrives after the latency; other conditions do
    /// not apply.
    pub fn inject(&mut self, from: SocketAddr, to: SocketAddr, data: &[u8]) {
        self.wire.lock().inject(from, to, data.to_vec());
    }

    /// Take the datagrams that arrived at a raw address, with their senders.
    pub fn received(&mut self, at: SocketAddr) -> Mailbox {
        self.wire.lock().mailboxes.remove(&at).unwrap_or_default()
    }

    /// Record datagrams from now on, for [`recorded`](Self::recorded).
    pub fn record(&mut self) {
        self.wire.lock().trace.recorded.get_or_insert_default();
    }

    /// Take the datagrams that were sent since the last call.
    pub fn recorded(&mut self) -> Vec<Datagram> {
        let mut wire = self.wire.lock();
        wire.trace
            .recorded
            .as_mut()
            .map(std::mem::take)
            .unwrap_or_default()
    }

    /// A hash over time, sender, receiver and length of every datagram that was sent.
    pub fn trace_hash(&self) -> u64 {
        self.wire.lock().trace.hash()
    }

    /// How many datagrams were sent.
    pub fn datagrams(&self) -> u64 {
        self.wire.lock().trace.count()
    }

    /// The state that a node holds; `None` when it does not run.
    pub fn census(&self, node: &Node) -> Option<Census> {
        self.machines[node.index()].census()
    }

    /// How many sockets a node has open.
    pub fn sockets(&self, node: &Node) -> usize {
        self.wire.lock().sockets_of(node.index())
    }

    /// How often a node's thread woke: what it does at one time is one wake-up.
    pub fn wakeups(&self, node: &Node) -> u64 {
        self.machines[node.index()].wakeups()
    }

    /// Whether a node's core runs: it ends when its endpoint is closed or crashes.
    pub fn is_running(&self, node: &Node) -> bool {
        self.machines[node.index()].is_running()
    }

    /// Ended cores that are still referenced: leaks, once their handles are dropped.
    pub fn remains(&self) -> usize {
        self.machines.iter().map(Machine::remains).sum()
    }

    /// Run a task beside the test.
    pub fn spawn<T: 'static>(&mut self, work: impl Future<Output = T> + 'static) -> Task<T> {
        self.tasks.spawn(work)
    }

    /// Drop all spawned tasks with what they hold.
    pub fn abandon_tasks(&mut self) {
        self.tasks.clear();
    }

    /// Run the world until `work` is done. Panics when that takes more than ten virtual minutes, or
    /// when no event is left.
    pub fn block_on<T>(&mut self, work: impl Future<Output = T>) -> T {
        let until = self.clock.instant() + PATIENCE;
        let mut work = pin!(work);
        let waker = self.tasks.waker(MAIN);
        let mut cx = Context::from_waker(&waker);
        let mut is_woken = true;
        loop {
            if is_woken && let Poll::Ready(value) = work.as_mut().poll(&mut cx) {
                return value;
            }
            match self.pass(until) {
                Pass::Task(MAIN) => is_woken = true,
                Pass::Task(_) | Pass::Moved => is_woken = false,
                Pass::Over => panic!("seed {}: not done at {:?}", self.seed, self.now()),
            }
        }
    }

    /// Run the world until the condition holds, for at most this time. True when it held.
    pub fn run_until(
        &mut self,
        most: Duration,
        mut condition: impl FnMut(&mut Self) -> bool,
    ) -> bool {
        let until = self.clock.instant() + most;
        loop {
            if condition(self) {
                return true;
            }
            if matches!(self.pass(until), Pass::Over) {
                self.clock.advance(until);
                return condition(self);
            }
        }
    }

    /// Let this much time pass.
    pub fn run_for(&mut self, time: Duration) {
        self.run_until(time, |_| false);
    }

    /// Process the next event, moving time if none is due now. False when no event is left.
    pub fn step(&mut self) -> bool {
        !matches!(
            self.pass(self.clock.at(Duration::from_secs(u64::from(u32::MAX)))),
            Pass::Over
        )
    }

    /// Poll one task, drive every node that has work, or move time once.
    fn pass(&mut self, until: Instant) -> Pass {
        self.passes += 1;
        assert!(
            self.passes < SPINNING,
            "seed {}: no progress of time at {:?}",
            self.seed,
            self.now()
        );
        let now = self.clock.instant();
        // Programs and I/O threads run concurrently: either may come first.
        let is_program_first = !self.tasks.woken.is_empty() && self.dice.chance(0.5);
        if !is_program_first && self.drive(now) {
            return Pass::Moved;
        }
        if let Some(task) = self.tasks.run_one() {
            return Pass::Task(task);
        }
        if is_program_first && self.drive(now) {
            return Pass::Moved;
        }
        let machines = self.machines.iter_mut().filter_map(Machine::deadline);
        let next = machines
            .chain(self.wire.lock().deadline())
            .chain(self.clock.deadline())
            .min();
        match next.filter(|next| *next <= until) {
            None => Pass::Over,
            Some(next) => {
                if next > now {
                    self.passes = 0;
                }
                self.clock.advance(next);
                self.deliver(next.max(now));
                Pass::Moved
            }
        }
    }

    /// Drive the nodes that have work. True when there was one.
    fn drive(&mut self, now: Instant) -> bool {
        let stall = self.wire.lock().conditions.stall;
        let mut was_any = false;
        for machine in &mut self.machines {
            if machine.poll_work(now, stall, &mut self.dice) {
                was_any = true;
                machine.drive(now);
                if !machine.is_running() {
                    self.wire.lock().unbind_all(machine.index());
                }
            }
        }
        was_any
    }

    /// Deliver the datagrams that are due now.
    fn deliver(&mut self, now: Instant) {
        loop {
            let unblocked = self.wire.lock().unblock(now);
            let Some((node, socket)) = unblocked else {
                break;
            };
            self.machines[node].handle_writable(socket);
        }
        loop {
            let arrived = self.wire.lock().arrive(now);
            let Some((owner, flight)) = arrived else {
                break;
            };
            if let Owner::Node(node, socket) = owner {
                let datagram = ReceivedDatagram {
                    socket,
                    remote: flight.from,
                    local_ip: Some(flight.to.ip()),
                    ecn: flight.ecn.and_then(EcnCodepoint::from_bits),
                    data: flight.bytes(),
                };
                self.machines[node].handle_datagram(now, datagram);
            }
        }
    }
}

/// The result of one pass.
enum Pass {
    Task(usize),
    Moved,
    Over,
}
