//! Drives one endpoint: datagrams, commands and time go in; datagrams, deadlines and wake-ups
//! come out. Time and the network are parameters only.
//!
//! A panic while one connection is driven or begins ends that connection, not the endpoint: see
//! `isolation`.

mod dial;
mod dialing;
mod incoming;
mod isolation;
mod reporting;
mod requests;
#[cfg(test)]
mod tests;

use std::{
    collections::VecDeque,
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use quinn_proto::{ConnectionHandle, ConnectionId, DatagramEvent, Endpoint, EndpointEvent};
use rustc_hash::FxHashMap;

use crate::{
    census::Census,
    driver::{
        admission::Admission,
        command::{Command, Commands},
        connection::{ConnectionDriver, Origin, Turn},
        keep_alive::KeepAlive,
        limit_log::LimitLog,
        network::{Network, ReceivedDatagram, SocketKey, is_answerable},
        punching::Punching,
        reset_limit::ResetLimit,
        settings::Settings,
        sockets::Sockets,
        timers::Timers,
    },
    error::ConnectionError,
    shared::EndpointState,
    sync::Mutex,
    totals::Totals,
};

pub(super) use self::isolation::panic_message;
use self::{dial::Dial, reporting::Reporting};

/// Connection turns in one drive, before the caller may check its sockets again.
pub(crate) const TURNS_PER_DRIVE: usize = 32;

pub(crate) struct Core {
    endpoint: Endpoint,
    settings: Arc<Settings>,
    state: Arc<Mutex<EndpointState>>,
    totals: Arc<Totals>,
    commands: Arc<Commands>,
    sockets: Sockets,
    /// By quinn-proto's handle.
    connections: Vec<Option<Box<ConnectionDriver>>>,
    /// By our own id, which is never reused.
    handles: FxHashMap<u64, ConnectionHandle>,
    /// Dials that the peer has not answered yet, by connection id.
    dials: FxHashMap<u64, Dial>,
    reporting: Reporting,
    dirty: VecDeque<ConnectionHandle>,
    timers: Timers,
    admission: Admission,
    reset_limit: ResetLimit,
    punching: Punching,
    /// quinn-proto drops Initial packets of new connections: there are too many handshakes.
    is_full: bool,
    limit_log: LimitLog,
    /// The last refused dials, by address and original destination connection id.
    refused: VecDeque<(SocketAddr, ConnectionId)>,
    next_connection: u64,
    closing: Option<Instant>,
    taken: Vec<Command>,
    buf: Vec<u8>,
    /// Where the next connection to begin panics.
    #[cfg(test)]
    provoked: Option<tests::Panic>,
}

/// If a deadline passed this long ago, the process was suspended; datagrams queued meanwhile are
/// as old.
const OVERSLEPT: Duration = Duration::from_secs(1);

/// Timers that are looked at when a PING is due, which bounds the burst of PINGs, too. At the default
/// interval of 5 s and 10 000 idle connections, a wake-up with 64 PINGs comes every 30 ms.
const TIMERS_AHEAD: usize = 64;

/// The first id of accepted connections; those of dialed ones count up from zero.
pub(crate) const ACCEPTED: u64 = 1 << 63;

impl Core {
    pub(crate) fn new(
        settings: Arc<Settings>,
        state: Arc<Mutex<EndpointState>>,
        commands: Arc<Commands>,
    ) -> Self {
        let endpoint = Endpoint::new(
            settings.endpoint.clone(),
            Some(settings.server(false)),
            true,
            None,
        );
        let totals = state.lock().totals.clone();
        totals.add(|totals| &totals.endpoints, 1);
        Self {
            endpoint,
            settings,
            state,
            totals,
            commands,
            sockets: Sockets::default(),
            connections: Vec::new(),
            handles: FxHashMap::default(),
            dials: FxHashMap::default(),
            reporting: Reporting::default(),
            dirty: VecDeque::new(),
            timers: Timers::default(),
            admission: Admission::default(),
            reset_limit: ResetLimit::new(),
            punching: Punching::new(),
            is_full: false,
            limit_log: LimitLog::default(),
            refused: VecDeque::new(),
            next_connection: ACCEPTED,
            closing: None,
            taken: Vec::new(),
            buf: Vec::with_capacity(MAX_BUFFER),
            #[cfg(test)]
            provoked: None,
        }
    }

    pub(crate) fn commands(&self) -> &Commands {
        &self.commands
    }

    /// Whether every connection has ended after a close; the core may then be dropped.
    pub(crate) fn is_closed(&self) -> bool {
        self.closing.is_some() && self.handles.is_empty()
    }

    /// When it must be driven next, unless something happens before.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        let deadlines = [
            self.timers.deadline(),
            self.closing,
            self.punching.deadline(),
        ];
        deadlines.into_iter().flatten().min()
    }

    /// Count datagrams that arrived at `socket`; the caller handles them next.
    pub(crate) fn note_received(&self, socket: SocketKey, datagrams: usize, bytes: usize) {
        if let Some(listener) = self.sockets.listener(socket) {
            let statistics = &mut listener.state.lock().statistics;
            statistics.datagrams_received += datagrams as u64;
            statistics.bytes_received += bytes as u64;
        }
        let totals = &self.totals;
        totals.add(|totals| &totals.datagrams_received, datagrams as u64);
        totals.add(|totals| &totals.bytes_received, bytes as u64);
        totals.add(|totals| &totals.batches_received, 1);
    }

    /// Handle a datagram that arrived.
    pub(crate) fn handle_datagram(
        &mut self,
        now: Instant,
        datagram: ReceivedDatagram,
        network: &mut dyn Network,
    ) {
        let ReceivedDatagram {
            socket,
            remote,
            local_ip,
            ecn,
            data,
        } = datagram;
        if !is_answerable(remote, local_ip) {
            if let Some(listener) = self.sockets.listener(socket) {
                listener.state.lock().statistics.datagrams_unanswerable += 1;
            }
            self.totals.add(|totals| &totals.datagrams_unanswerable, 1);
            return;
        }
        // Connections whose idle timeout has passed end before old datagrams revive them with a
        // round-trip time as long as the suspension (RFC 9000 section 10.1).
        if self.deadline().is_some_and(|at| now > at + OVERSLEPT) {
            self.expire(now);
        }
        let mut buf = std::mem::take(&mut self.buf);
        buf.clear();
        let event = self.isolated(remote, |endpoint| {
            endpoint.handle(now, remote, local_ip, ecn, data, &mut buf)
        });
        match event.ok().flatten() {
            None => {}
            Some(DatagramEvent::ConnectionEvent(handle, event)) => {
                let arrival = self.with(handle, |driven, _| {
                    driven.handle_datagram(now, remote, local_ip, event)
                });
                let arrival = arrival.unwrap_or_default();
                if arrival.is_first {
                    self.attempt_answered(now, handle);
                }
                if arrival.is_delivered {
                    self.mark(handle);
                }
            }
            Some(DatagramEvent::NewConnection(incoming)) => {
                let accepted = self.handle_incoming(now, socket, incoming, &mut buf, network);
                if ecn.is_none()
                    && let Some(driven) = accepted.and_then(|handle| self.slot(handle))
                {
                    driven.marking.dialer_is_unmarked(now);
                }
            }
            Some(DatagramEvent::Response(transmit)) => {
                self.respond(now, socket, &transmit, &buf, network);
            }
        }
        self.buf = buf;
    }

    /// `socket` is writable again.
    pub(crate) fn handle_writable(&mut self, socket: SocketKey, network: &mut dyn Network) {
        for handle in self.sockets.resume(socket, network) {
            if let Some(driven) = self.slot(handle) {
                driven.is_waiting = false;
            }
            self.mark(handle);
        }
    }

    /// An address of this machine came or went.
    pub(crate) fn addresses_changed(&mut self) {
        let ids: Vec<_> = self.handles.keys().copied().collect();
        for id in ids.into_iter().filter(|id| *id < ACCEPTED) {
            self.with_id(id, ConnectionDriver::local_address_changed);
        }
    }

    /// Whether `socket` has refused a datagram and must be watched for writability.
    pub(crate) fn is_blocked(&self, socket: SocketKey) -> bool {
        self.sockets.is_blocked(socket)
    }

    /// Do what commands, deadlines and datagrams made due, in at most `turns` connection turns.
    /// The caller takes commands first. True if more is left to do at once: the rest waits so
    /// that the sockets are read in time.
    pub(crate) fn advance(
        &mut self,
        now: Instant,
        turns: usize,
        network: &mut dyn Network,
    ) -> bool {
        self.expire(now);
        self.reporting.update(network);
        self.punching.send_due(now, &self.sockets, network);
        let mut buf = std::mem::take(&mut self.buf);
        for _ in 0..turns {
            let Some(handle) = self.dirty.pop_front() else {
                break;
            };
            self.take_turn(now, handle, network, &mut buf);
        }
        self.buf = buf;
        !self.dirty.is_empty() || self.commands.has_released()
    }

    /// Take commands and advance: one pass of a thread with this core only.
    #[cfg(feature = "simulation")]
    pub(crate) fn drive(&mut self, now: Instant, network: &mut dyn Network) -> bool {
        self.take_commands(now);
        let has_more = self.advance(now, TURNS_PER_DRIVE, network);
        self.release(network);
        has_more
    }

    pub(crate) fn census(&self) -> Census {
        let driven = || self.connections.iter().flatten();
        Census {
            connections: driven().count(),
            names: self.handles.len(),
            quic_connections: self.endpoint.open_connections(),
            inbound_handshakes: self.admission.handshakes(),
            addresses: self.admission.addresses(),
            streams: driven().map(|driven| driven.streams()).sum(),
            promised: self.settings.receive_charged(),
            unacked: self.settings.unacked_charged(),
            // The core's thread fills this in.
            kept: 0,
            waiting_datagram_bytes: self.endpoint.incoming_buffer_bytes(),
        }
    }

    /// Close the sockets that are no longer used.
    pub(crate) fn release(&mut self, network: &mut dyn Network) {
        self.sockets.release(&self.state, network);
    }

    /// Whether `release` is worth a call.
    pub(crate) fn has_releasable_sockets(&self) -> bool {
        self.sockets.is_any_releasable()
    }

    fn take_turn(
        &mut self,
        now: Instant,
        handle: ConnectionHandle,
        network: &mut dyn Network,
        buf: &mut Vec<u8>,
    ) {
        let Some(driven) = self.slot(handle) else {
            return;
        };
        driven.is_dirty = false;
        let socket = driven.socket;
        let is_blocked = self.is_blocked(socket);
        if is_blocked {
            self.wait_for_socket(handle, socket);
        }
        let settings = self.settings.clone();
        let turn = self.with(handle, |driven, endpoint| {
            if is_blocked {
                // Nothing can be sent, but events that arrived still go to the application.
                driven.settle(now, &settings.config, endpoint);
                return Turn::Idle;
            }
            driven.drive(now, &settings.config, endpoint, network, buf)
        });
        match turn {
            None => return,
            Some(Turn::Idle) => {}
            Some(Turn::More) => self.mark(handle),
            Some(Turn::Blocked(transmit)) => {
                self.sockets.store_blocked(socket, transmit, buf);
                self.wait_for_socket(handle, socket);
            }
        }
        self.rearm(now, handle);
    }

    fn wait_for_socket(&mut self, handle: ConnectionHandle, socket: SocketKey) {
        let Some(driven) = self.slot(handle) else {
            return;
        };
        if !std::mem::replace(&mut driven.is_waiting, true) {
            self.sockets.wait(socket, handle);
        }
    }

    /// After a turn: remove the connection if it is drained, else set its timer.
    fn rearm(&mut self, now: Instant, handle: ConnectionHandle) {
        if let Some(driven) = self.slot(handle)
            && driven.is_over()
        {
            let id = driven.shared.id;
            self.end_dial(now, id, handle);
        }
        let Some(Some(driven)) = self.connections.get_mut(handle.0) else {
            return;
        };
        if driven.is_drained() {
            self.remove(handle);
            return;
        }
        if driven.can_discard(self.closing.is_some()) {
            self.endpoint.handle_event(handle, EndpointEvent::drained());
            self.remove(handle);
            return;
        }
        let deadline = driven.deadline();
        self.timers.arm(handle.0, deadline, &mut driven.armed);
        if self.timers.is_bloated(self.handles.len()) {
            let slots = self.connections.iter().enumerate();
            let armed = slots.filter_map(|(slot, driven)| Some((driven.as_ref()?.armed?, slot)));
            self.timers.rebuild(armed);
        }
    }

    fn expire(&mut self, now: Instant) {
        let mut is_ping_due = false;
        while let Some((at, slot)) = self.timers.pop_due(now) {
            let handle = ConnectionHandle(slot);
            let Some(driven) = self.slot(handle) else {
                continue;
            };
            // A stale entry of this connection, or of the slot's previous one.
            if driven.armed != Some(at) {
                continue;
            }
            driven.armed = None;
            let pings = self.with(handle, |driven, _| driven.handle_timeout(now));
            is_ping_due |= pings == Some(true);
            self.redial_if_due(now, handle);
            self.mark(handle);
        }
        if is_ping_due {
            self.ping_early(now);
        }
        if self.closing.is_some_and(|deadline| deadline <= now) {
            for slot in 0..self.connections.len() {
                self.remove(ConnectionHandle(slot));
            }
        }
    }

    /// Let the PINGs of connections that are idle, too, leave in the same wake-up.
    fn ping_early(&mut self, now: Instant) {
        let Some(interval) = self.settings.config.keep_alive_interval else {
            return;
        };
        let limit = now + KeepAlive::longest_lead(interval);
        let mut others = Vec::new();
        for _ in 0..TIMERS_AHEAD {
            let Some((at, slot)) = self.timers.pop_due(limit) else {
                break;
            };
            let handle = ConnectionHandle(slot);
            let Some(driven) = self.slot(handle) else {
                continue;
            };
            if driven.armed != Some(at) {
                continue;
            }
            if self.with(handle, |driven, _| driven.ping_early(now)) == Some(true) {
                if let Some(driven) = self.slot(handle) {
                    driven.armed = None;
                }
                self.mark(handle);
            } else {
                others.push((at, slot));
            }
        }
        self.timers.put_back(others);
    }

    fn insert(&mut self, now: Instant, conn: quinn_proto::Connection, origin: Origin) {
        let handle = origin.handle;
        self.sockets.join(origin.socket);
        if self.connections.len() <= handle.0 {
            self.connections.resize_with(handle.0 + 1, || None);
        }
        let driven = ConnectionDriver::new(conn, origin, now, &self.settings.config);
        self.connections[handle.0] = Some(Box::new(driven));
        self.update_server_config();
        self.mark(handle);
    }

    /// Have quinn-proto drop Initial packets of new connections while there are too many
    /// handshakes.
    fn update_server_config(&mut self) {
        let is_full = self.admission.is_full(&self.settings.config);
        if std::mem::replace(&mut self.is_full, is_full) != is_full {
            let server = self.settings.server(is_full);
            self.endpoint.set_server_config(Some(server));
        }
    }

    /// Remove a connection. quinn-proto must have been told that it is drained.
    fn remove(&mut self, handle: ConnectionHandle) {
        let Some(mut driven) = self.connections.get_mut(handle.0).and_then(Option::take) else {
            return;
        };
        let id = driven.shared.id;
        if self.handles.get(&id) == Some(&handle) {
            self.handles.remove(&id);
        }
        self.forget_dial_of(id, handle);
        self.sockets.leave(driven.socket);
        if let Some(inbound_slot) = driven.inbound_slot.take() {
            self.admission.release(inbound_slot);
            self.update_server_config();
        }
        driven.publish_last();
        // Waiters left over would otherwise wait forever.
        driven.discard(ConnectionError::internal(
            "the endpoint forgot the connection",
        ));
    }

    fn slot(&mut self, handle: ConnectionHandle) -> Option<&mut ConnectionDriver> {
        self.connections.get_mut(handle.0)?.as_deref_mut()
    }

    fn mark(&mut self, handle: ConnectionHandle) {
        if let Some(driven) = self.slot(handle)
            && !std::mem::replace(&mut driven.is_dirty, true)
        {
            self.dirty.push_back(handle);
        }
    }

    fn with_id(&mut self, id: u64, call: impl FnOnce(&mut ConnectionDriver)) {
        if let Some(handle) = self.handles.get(&id).copied() {
            self.with(handle, |driven, _| call(driven));
            self.mark(handle);
        }
    }
}

impl Drop for Core {
    /// Fail everything that waits for this core.
    fn drop(&mut self) {
        self.totals.take(|totals| &totals.endpoints, 1);
        self.commands.close().into_iter().for_each(Command::refuse);
        self.sockets.close_all(&self.commands);
        for driven in self.connections.iter_mut().flatten() {
            driven.publish_last();
            driven.discard(ConnectionError::internal("the endpoint stopped"));
        }
        // Their logs end with them. The process may exit once the endpoint is closed.
        self.connections.clear();
        self.settings.finish_logs();
        let mut state = self.state.lock();
        state.inbound.close();
        state.sockets.clear();
        state.is_closing = true;
        state.is_closed = true;
        state.closed.wake();
    }
}

/// Bytes of the largest send.
const MAX_BUFFER: usize = 64 * 1024;
