//! The virtual network: bound addresses, datagrams in flight, and the record of sent datagrams.
//!
//! It knows datagrams and addresses, but no QUIC. What happens to each datagram is drawn from the
//! seed, in the order of sending.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet, BinaryHeap},
    io,
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::BytesMut;
use parking_lot::Mutex;
use quinn_udp::{EcnCodepoint, Transmit};

use super::{
    clock::Clock,
    conditions::Conditions,
    dice::Dice,
    nat::{Nat, Translator},
    trace::Trace,
};
use crate::{
    census::Census,
    driver::{BoundSocket, Network, Sending, SocketKey, SocketProvider},
    errno::Errno,
};

/// Longest time after which a refused send is possible again.
const LONGEST_BLOCK: Duration = Duration::from_millis(5);

/// The owner of an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Owner {
    Node(usize, SocketKey),
    /// A test that reads and writes datagrams itself.
    Raw,
}

/// A socket of a node.
struct Socket {
    /// The external address. Behind a NAT it differs from the bound one.
    outside: SocketAddr,
    /// Refuses sends until then.
    blocked_until: Option<Instant>,
}

/// A datagram in flight, ordered by arrival and then by departure.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Flight {
    pub(super) at: Instant,
    number: u64,
    pub(super) from: SocketAddr,
    pub(super) to: SocketAddr,
    pub(super) ecn: Option<u8>,
    pub(super) data: Vec<u8>,
}

/// One direction between two addresses.
#[derive(Default)]
struct Lane {
    /// When the last datagram arrives. Later ones arrive after it, unless they are reordered.
    last: Option<Instant>,
    /// When the rate limit allows the next datagram.
    free: Option<Instant>,
}

/// The datagrams that arrived at a raw address, with their senders.
pub(super) type Mailbox = Vec<(SocketAddr, Vec<u8>)>;

pub(super) struct Wire {
    clock: Clock,
    dice: Dice,
    pub(super) conditions: Conditions,
    owners: BTreeMap<SocketAddr, Owner>,
    sockets: BTreeMap<(usize, SocketKey), Socket>,
    translators: Vec<Translator>,
    /// The translators that nodes are behind, by node.
    behind: BTreeMap<usize, usize>,
    lanes: BTreeMap<(SocketAddr, SocketAddr), Lane>,
    flights: BinaryHeap<Reverse<Flight>>,
    next_flight: u64,
    next_port: u16,
    /// Datagrams that would arrive before this are lost.
    pub(super) dark_until: Option<Instant>,
    /// Nodes whose datagrams with an ECN mark are dropped.
    pub(super) ecn_black_holes: BTreeSet<usize>,
    pub(super) mailboxes: BTreeMap<SocketAddr, Mailbox>,
    pub(super) trace: Trace,
}

impl Wire {
    pub(super) fn new(clock: Clock, dice: Dice) -> Self {
        Self {
            clock,
            dice,
            conditions: Conditions::default(),
            owners: BTreeMap::new(),
            sockets: BTreeMap::new(),
            translators: Vec::new(),
            behind: BTreeMap::new(),
            lanes: BTreeMap::new(),
            flights: BinaryHeap::new(),
            next_flight: 0,
            next_port: 10_000,
            dark_until: None,
            ecn_black_holes: BTreeSet::new(),
            mailboxes: BTreeMap::new(),
            trace: Trace::default(),
        }
    }

    /// The time of the next event.
    pub(super) fn deadline(&self) -> Option<Instant> {
        let arrival = self.flights.peek().map(|Reverse(flight)| flight.at);
        let writable = self.sockets.values().filter_map(|s| s.blocked_until).min();
        arrival.into_iter().chain(writable).min()
    }

    /// The next datagram that is due, with its receiver.
    pub(super) fn arrive(&mut self, now: Instant) -> Option<(Owner, Flight)> {
        while self.flights.peek().is_some_and(|Reverse(f)| f.at <= now) {
            let Some(Reverse(mut flight)) = self.flights.pop() else {
                break;
            };
            let is_dark = self.dark_until.is_some_and(|until| now < until);
            if !is_dark && !self.translate_destination(now, &mut flight) {
                continue;
            }
            let Some(owner) = self.owners.get(&flight.to).copied().filter(|_| !is_dark) else {
                continue;
            };
            if owner == Owner::Raw {
                let mailbox = self.mailboxes.entry(flight.to).or_default();
                mailbox.push((flight.from, flight.data.clone()));
            }
            return Some((owner, flight));
        }
        None
    }

    /// The next socket that has become writable.
    pub(super) fn unblock(&mut self, now: Instant) -> Option<(usize, SocketKey)> {
        let (name, socket) = self
            .sockets
            .iter_mut()
            .find(|(_, s)| s.blocked_until.is_some_and(|until| until <= now))?;
        socket.blocked_until = None;
        Some(*name)
    }

    pub(super) fn bind(&mut self, owner: Owner, mut addr: SocketAddr) -> io::Result<SocketAddr> {
        while addr.port() == 0 {
            self.next_port += 1;
            let candidate = SocketAddr::new(addr.ip(), self.next_port);
            if !self.owners.contains_key(&candidate) {
                addr = candidate;
            }
        }
        if self.owners.contains_key(&addr) {
            return Err(io::ErrorKind::AddrInUse.into());
        }
        self.owners.insert(addr, owner);
        if let Owner::Node(node, key) = owner {
            let socket = Socket {
                outside: addr,
                blocked_until: None,
            };
            self.sockets.insert((node, key), socket);
        }
        Ok(addr)
    }

    pub(super) fn unbind(&mut self, node: usize, key: SocketKey) {
        if let Some(socket) = self.sockets.remove(&(node, key)) {
            self.owners.remove(&socket.outside);
        }
    }

    pub(super) fn unbind_all(&mut self, node: usize) {
        let keys: Vec<_> = self
            .sockets
            .keys()
            .filter(|(n, _)| *n == node)
            .copied()
            .collect();
        for (node, key) in keys {
            self.unbind(node, key);
        }
    }

    /// Give every socket of a node a new external port, as a NAT that lost its mapping does.
    pub(super) fn rebind(&mut self, node: usize) {
        for ((owner, key), socket) in &mut self.sockets {
            if *owner == node {
                self.owners.remove(&socket.outside);
                self.next_port += 1;
                socket.outside.set_port(self.next_port);
                self.owners.insert(socket.outside, Owner::Node(node, *key));
            }
        }
    }

    pub(super) fn put_behind(&mut self, nat: Nat, nodes: impl Iterator<Item = usize>) -> IpAddr {
        let index = self.translators.len();
        let translator = Translator::new(u8::try_from(index + 1).unwrap_or(u8::MAX), nat);
        let outer = translator.outer();
        self.translators.push(translator);
        self.behind.extend(nodes.map(|node| (node, index)));
        outer
    }

    pub(super) fn forget_mappings(&mut self, outer: IpAddr) {
        for translator in &mut self.translators {
            if translator.outer() == outer {
                translator.forget();
            }
        }
    }

    /// The translator that the owner of an address is behind.
    fn translator_of(&self, addr: SocketAddr) -> Option<usize> {
        match self.owners.get(&addr)? {
            Owner::Node(node, _) => self.behind.get(node).copied(),
            Owner::Raw => None,
        }
    }

    /// The source of a datagram outside of its sender's NAT; `None` when it reaches nobody.
    fn translate_source(
        &mut self,
        now: Instant,
        node: usize,
        from: SocketAddr,
        to: SocketAddr,
    ) -> Option<SocketAddr> {
        let own = self.behind.get(&node).copied();
        let inside = self.translator_of(to);
        if inside == own {
            // In the same network.
            return Some(from);
        }
        if inside.is_some() {
            // A private address of another network.
            return None;
        }
        let translator = &mut self.translators[own?];
        if to.ip() == translator.outer() && !translator.is_hairpinning() {
            return None;
        }
        Some(translator.outbound(now, from, to))
    }

    /// Translate the destination of a datagram that arrives at a NAT. False when it is dropped.
    fn translate_destination(&mut self, now: Instant, flight: &mut Flight) -> bool {
        let to = flight.to;
        let at = self.translators.iter_mut().find(|t| t.outer() == to.ip());
        let Some(translator) = at else {
            return true;
        };
        match translator.inbound(now, to.port(), flight.from) {
            Some(inner) => flight.to = inner,
            None => return false,
        }
        true
    }

    /// How many sockets a node has.
    pub(super) fn sockets_of(&self, node: usize) -> usize {
        self.sockets
            .keys()
            .filter(|(owner, _)| *owner == node)
            .count()
    }

    /// Put a datagram in flight that conditions other than the latency do not apply to.
    pub(super) fn inject(&mut self, from: SocketAddr, to: SocketAddr, data: Vec<u8>) {
        let at = self.clock.instant() + self.conditions.latency;
        self.fly(at, from, to, None, data);
    }

    fn fly(
        &mut self,
        at: Instant,
        from: SocketAddr,
        to: SocketAddr,
        ecn: Option<u8>,
        data: Vec<u8>,
    ) {
        self.next_flight += 1;
        self.flights.push(Reverse(Flight {
            at,
            number: self.next_flight,
            from,
            to,
            ecn,
            data,
        }));
    }

    fn send(&mut self, node: usize, key: SocketKey, transmit: &Transmit<'_>) -> Sending {
        let now = self.clock.instant();
        let Some(socket) = self.sockets.get_mut(&(node, key)) else {
            return Sending::Sent;
        };
        if socket.blocked_until.is_some() {
            return Sending::Blocked;
        }
        if self.dice.chance(self.conditions.blocked) {
            let most = LONGEST_BLOCK.saturating_sub(Duration::from_nanos(1));
            socket.blocked_until = Some(now + Duration::from_nanos(1) + self.dice.up_to(most));
            return Sending::Blocked;
        }
        let from = socket.outside;
        if self.dice.chance(self.conditions.refused) {
            return Sending::Failed(Errno::ENETUNREACH);
        }
        if self.dice.chance(self.conditions.failing) {
            return Sending::Sent;
        }
        let is_dropped = transmit.ecn.is_some() && self.ecn_black_holes.contains(&node);
        let size = transmit.segment_size.unwrap_or(transmit.contents.len());
        for segment in transmit.contents.chunks(size.max(1)) {
            let at = self.clock.now();
            self.trace.note(at, from, transmit, segment);
            if is_dropped {
                continue;
            }
            let to = transmit.destination;
            if let Some(from) = self.translate_source(now, node, from, to) {
                self.launch(now, from, to, transmit.ecn, segment);
            }
        }
        Sending::Sent
    }

    fn launch(
        &mut self,
        now: Instant,
        from: SocketAddr,
        to: SocketAddr,
        ecn: Option<EcnCodepoint>,
        segment: &[u8],
    ) {
        let conditions = self.conditions.clone();
        let dice = &mut self.dice;
        let lane = self.lanes.entry((from, to)).or_default();
        let mut leaves = now;
        if let Some(rate) = conditions.rate {
            let begins = lane.free.map_or(now, |free| free.max(now));
            if begins - now > conditions.queue {
                return;
            }
            leaves = begins + Duration::from_secs_f64(segment.len() as f64 / rate as f64);
            lane.free = Some(leaves);
        }
        if segment.len() > conditions.mtu || dice.chance(conditions.loss) {
            return;
        }
        let mut data = segment.to_vec();
        if dice.chance(conditions.truncation) {
            data.truncate(dice.below(data.len() as u64) as usize);
        }
        if !data.is_empty() && dice.chance(conditions.corruption) {
            let bit = dice.below(data.len() as u64 * 8) as usize;
            data[bit / 8] ^= 1 << (bit % 8);
        }
        let ecn = match ecn {
            Some(_) if dice.chance(conditions.bleaching) => None,
            Some(_) if dice.chance(conditions.marking) => Some(EcnCodepoint::Ce as u8),
            other => other.map(|ecn| ecn as u8),
        };
        let mut at = leaves + conditions.latency + dice.up_to(conditions.jitter);
        if dice.chance(conditions.reordering) {
            at += dice.up_to(conditions.latency * 2 + conditions.jitter);
        } else {
            at = lane.last.map_or(at, |last| last.max(at));
            lane.last = Some(at);
        }
        let copy = dice
            .chance(conditions.duplication)
            .then(|| at + dice.up_to(conditions.latency * 2));
        if let Some(again) = copy {
            self.fly(again, from, to, ecn, data.clone());
        }
        self.fly(at, from, to, ecn, data);
    }
}

/// A node's access to the wire: it binds sockets and sends datagrams.
pub(super) struct Port {
    pub(super) node: usize,
    pub(super) addresses: [IpAddr; 2],
    pub(super) wire: Arc<Mutex<Wire>>,
}

impl SocketProvider for Port {
    fn bind(&self, key: SocketKey, addr: SocketAddr) -> io::Result<BoundSocket> {
        let ip = addr.ip();
        let own = self
            .addresses
            .iter()
            .find(|own| own.is_ipv4() == ip.is_ipv4());
        let own = own.filter(|own| ip.is_unspecified() || **own == ip);
        let own = *own.ok_or(io::ErrorKind::AddrNotAvailable)?;
        let owner = Owner::Node(self.node, key);
        let bound = self
            .wire
            .lock()
            .bind(owner, SocketAddr::new(own, addr.port()))?;
        Ok(BoundSocket {
            local: SocketAddr::new(ip, bound.port()),
            refusal: None,
        })
    }

    fn source(&self, remote: SocketAddr) -> io::Result<IpAddr> {
        let mut own = self.addresses.iter();
        own.find(|own| own.is_ipv4() == remote.is_ipv4())
            .copied()
            .ok_or_else(|| io::ErrorKind::NetworkUnreachable.into())
    }

    fn has_address(&self, _: SocketAddr) -> bool {
        true
    }

    fn share_network(&self, local: IpAddr, source: IpAddr) -> bool {
        local == source
    }

    fn census(&self) -> Option<Census> {
        // The world asks the machines, which hold the cores.
        None
    }
}

impl Network for Port {
    fn send(&mut self, socket: SocketKey, transmit: &Transmit<'_>) -> Sending {
        self.wire.lock().send(self.node, socket, transmit)
    }

    fn max_segments(&self, _: SocketKey) -> usize {
        self.wire.lock().conditions.segments
    }

    /// No ICMP here.
    fn report_undelivered(&mut self, _: SocketKey, _: bool) {}

    fn close(&mut self, socket: SocketKey) {
        self.wire.lock().unbind(self.node, socket);
    }
}

impl Flight {
    /// The datagram as a core takes it.
    pub(super) fn bytes(&self) -> BytesMut {
        BytesMut::from(&self.data[..])
    }
}
