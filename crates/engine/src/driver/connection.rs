//! Drives one connection: quinn-proto's state machine, its streams, its deadlines. `phase` has what
//! each phase of it holds, and `transitions` goes from one to the next.
//!
//! Polling follows quinn-proto's order (transmit, timeout, endpoint events, events). Events are
//! polled again after transmitting, which can itself end a connection.

mod attempt;
mod flow_control;
mod phase;
mod session;
mod stage;
mod statistics;
mod transitions;

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Instant,
};

use quinn_proto::{ConnectionEvent, ConnectionHandle, Dir, Endpoint, Event, StreamEvent};

use crate::{
    config::Config,
    driver::{
        admission::InboundSlot,
        close_reason,
        closing::Closing,
        dial_report::DialReport,
        final_flight::FinalFlight,
        id_supply::IdSupply,
        marking::Marking,
        migration::MigrationLimit,
        network::{Network, Sending, SocketKey},
        offload::Offload,
        receive_window::ReceiveWindow,
        send_window::SendWindow,
        stream_allowance::StreamAllowance,
        streams::Streams,
        webtransport::{Setup, WebTransport},
    },
    error::Party,
    qlog::ConnectionLog,
    shared::{ConnectionShared, ListenerShared, StreamShared},
    statistics::Statistics,
    tls::Verdict,
};

use self::{phase::Phase, stage::Stage};

/// Datagrams one connection may send before others have their turn. Twice as many as one send
/// holds: measured better than quinn's 20.
const DATAGRAMS_PER_TURN: usize = 88;

/// Largest number of datagrams in one send. 44 of 1452 bytes stay below the 65 507 that
/// UDP over IPv4 can carry; measured 13 to 26 % faster than quinn's 10.
const MAX_SEGMENTS: usize = 44;

/// Largest UDP payload (65 535 less the IPv4 and UDP headers).
const MAX_SEND: usize = 65_507;

/// What remains after a turn.
pub(super) enum Turn {
    /// Nothing to do before the next event.
    Idle,
    /// More to send.
    More,
    /// The socket refused this transmit, whose bytes are in the buffer.
    Blocked(quinn_proto::Transmit),
}

/// What became of a datagram that arrived for a connection.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Arrival {
    /// It is the first from the peer.
    pub(super) is_first: bool,
    /// quinn-proto has handled it.
    pub(super) is_delivered: bool,
}

pub(super) struct ConnectionDriver {
    pub(super) conn: quinn_proto::Connection,
    handle: ConnectionHandle,
    pub(super) shared: Arc<ConnectionShared>,
    pub(super) socket: SocketKey,
    /// When to begin another attempt of the same dial.
    pub(super) redial_at: Option<Instant>,
    /// It is a dial for which the peer punches a hole.
    pub(super) is_punched: bool,
    /// Another attempt of the same dial became the application's connection.
    is_detached: bool,
    /// The destination of the last received datagram, if the system tells it.
    local_ip: Option<IpAddr>,
    /// The listener that accepted it; `None` for a dialed connection.
    listener: Option<Arc<ListenerShared>>,
    verdict: Option<Verdict>,
    /// What its dial met; `None` for an accepted connection, and once the handshake has completed.
    dial: Option<Arc<DialReport>>,
    /// Its slot in the admission control; `None` for a dialed connection.
    pub(super) inbound_slot: Option<InboundSlot>,
    migration: MigrationLimit,
    id_supply: IdSupply,
    streams: Streams,
    /// What it needs if the handshake agrees on HTTP/3; `None` if that is not offered.
    setup: Option<Arc<Setup>>,
    /// From the end of such a handshake on.
    webtransport: Option<Box<WebTransport>>,
    phase: Phase,
    began: Instant,
    stage: Stage,
    published: Instant,
    /// The last snapshot, which the endpoint's totals contain.
    reported: Statistics,
    keep_alives_sent: u64,
    allowance: StreamAllowance,
    receive_window: ReceiveWindow,
    send_window: SendWindow,
    pub(super) marking: Marking,
    /// Segmentation offload to this peer.
    segmentation: Offload,
    log: Option<Arc<ConnectionLog>>,
    is_drained: bool,
    closing: Closing,
    /// It is in the core's queue of connections to drive.
    pub(super) is_dirty: bool,
    /// It waits until its socket is writable.
    pub(super) is_waiting: bool,
    /// Its earliest entry in the core's timers.
    pub(super) armed: Option<Instant>,
    #[cfg(feature = "simulation")]
    pub(super) is_poisoned: bool,
}

pub(super) struct Origin {
    pub(super) handle: ConnectionHandle,
    pub(super) shared: Arc<ConnectionShared>,
    pub(super) socket: SocketKey,
    pub(super) listener: Option<Arc<ListenerShared>>,
    pub(super) verdict: Option<Verdict>,
    pub(super) inbound_slot: Option<InboundSlot>,
    pub(super) report: Option<Arc<DialReport>>,
    pub(super) log: Option<Arc<ConnectionLog>>,
    /// What it needs if the handshake agrees on HTTP/3.
    pub(super) setup: Option<Arc<Setup>>,
}

impl ConnectionDriver {
    pub(super) fn new(
        conn: quinn_proto::Connection,
        origin: Origin,
        now: Instant,
        config: &Config,
    ) -> Self {
        let send_window = SendWindow::new(origin.shared.unacked.clone(), config.send_window);
        let is_accepted = origin.listener.is_some();
        let congestion_signals = origin.shared.congestion_signals.clone();
        let marking = Marking::new(&conn, origin.listener.is_none(), congestion_signals);
        let mut driver = Self {
            conn,
            handle: origin.handle,
            shared: origin.shared,
            socket: origin.socket,
            redial_at: None,
            is_punched: false,
            is_detached: false,
            local_ip: None,
            listener: origin.listener,
            verdict: origin.verdict,
            dial: origin.report.clone(),
            inbound_slot: origin.inbound_slot,
            migration: MigrationLimit::new(),
            id_supply: IdSupply::new(),
            streams: Streams::new(),
            setup: origin.setup,
            webtransport: None,
            phase: Phase::Handshake {
                deadline: now + config.handshake_timeout,
                report: origin.report,
            },
            began: now,
            stage: Stage::New,
            published: now,
            reported: Statistics::default(),
            keep_alives_sent: 0,
            allowance: StreamAllowance::default(),
            receive_window: ReceiveWindow::new(now),
            send_window,
            marking,
            segmentation: Offload::new("segmentation"),
            log: origin.log,
            is_drained: false,
            closing: Closing::new(is_accepted),
            is_dirty: false,
            is_waiting: false,
            armed: None,
            #[cfg(feature = "simulation")]
            is_poisoned: false,
        };
        driver.enter(Stage::Handshake);
        driver
    }

    pub(super) fn streams(&self) -> usize {
        self.streams.len()
    }

    pub(super) fn is_drained(&self) -> bool {
        self.is_drained
    }

    pub(super) fn is_over(&self) -> bool {
        self.phase.is_over()
    }

    /// Whether the handshake completed, which authenticates the peer.
    pub(super) fn was_connected(&self) -> bool {
        self.phase.was_connected()
    }

    /// Over, and need not be kept until it is drained: see [`Closing`].
    pub(super) fn can_discard(&self, is_endpoint_closing: bool) -> bool {
        self.closing
            .can_discard(is_endpoint_closing, self.was_connected())
    }

    /// When it must be driven next.
    pub(super) fn deadline(&mut self) -> Option<Instant> {
        let own = match self.phase {
            Phase::Connected(_) => self.receive_window.deadline(),
            Phase::Over { .. } => self.closing.deadline(),
            Phase::Handshake { .. } | Phase::Lingering { .. } => None,
        };
        let deadlines = [
            self.conn.poll_timeout(),
            self.streams.deadline(),
            self.id_supply.deadline(),
            self.allowance.deadline(),
            self.marking.deadline(),
            self.phase.deadline(self.conn.rtt()),
            own,
            self.redial_at,
        ];
        deadlines.into_iter().flatten().min()
    }

    /// Handle a datagram from `remote`, unless a limit on late datagrams or migrations drops it.
    pub(super) fn handle_datagram(
        &mut self,
        now: Instant,
        remote: SocketAddr,
        local_ip: Option<IpAddr>,
        datagram: ConnectionEvent,
    ) -> Arrival {
        let is_first = !self.closing.is_answered();
        if !self.closing.admit_datagram() {
            return Arrival::default();
        }
        self.local_ip = local_ip;
        let migrations = self.migration.made();
        let is_delivered = self
            .migration
            .deliver(now, remote, datagram, &mut self.conn);
        if self.migration.made() > migrations {
            // Before the application can read what came from there.
            let mut state = self.shared.state.lock();
            state.set_remote(self.conn.remote_address());
        }
        Arrival {
            is_first,
            is_delivered,
        }
    }

    /// Tell the peer at once where this side is now, if it is the client: a server may not migrate
    /// (RFC 9000 section 9). Harmless if the path is still the same.
    pub(super) fn local_address_changed(&mut self) {
        if self.listener.is_none() && self.phase.was_connected() && !self.phase.is_over() {
            self.conn.local_address_changed();
        }
    }

    /// Send the PING that is due soon with that of another connection. False if none is.
    pub(super) fn ping_early(&mut self, now: Instant) -> bool {
        let is_due = self.phase.expire_early(now, self.conn.rtt());
        if is_due {
            self.keep_alives_sent += 1;
            self.conn.ping();
        }
        is_due
    }

    /// Handle the deadlines that have passed. True if a PING was due.
    pub(super) fn handle_timeout(&mut self, now: Instant) -> bool {
        self.conn.handle_timeout(now);
        self.streams.expire(&mut self.conn, now);
        self.receive_window.expire(now);
        self.allowance.expire(now, &mut self.conn);
        let is_ping_due = self.phase.expire(now, self.conn.rtt());
        if is_ping_due {
            self.keep_alives_sent += 1;
            self.conn.ping();
        }
        self.marking.expire(now);
        match self.phase {
            Phase::Handshake { deadline, .. } if deadline <= now => {
                self.fail(now, self.handshake_timeout(now));
            }
            Phase::Lingering { deadline, .. } if deadline <= now => self.linger_expired(now),
            Phase::Over { .. } => self.closing.expire(now),
            _ => {}
        }
        is_ping_due
    }

    /// Handle events, send, and handle the events that sending caused.
    fn take_turn(
        &mut self,
        now: Instant,
        config: &Config,
        endpoint: &mut Endpoint,
        network: &mut dyn Network,
        buf: &mut Vec<u8>,
    ) -> Turn {
        #[cfg(feature = "simulation")]
        assert!(!self.is_poisoned, "a panic provoked by a test");
        self.settle(now, config, endpoint);
        if self.grow_send_window() {
            self.settle(now, config, endpoint);
        }
        if self.phase.is_connected() {
            self.allowance.check(now, &mut self.conn, config);
        }
        self.grow_receive_window(now);
        if let Some(established) = self.phase.established_mut() {
            let final_flight = &mut established.final_flight;
            final_flight.take_if(|_| FinalFlight::is_confirmed(&self.conn));
            if let Some(final_flight) = final_flight {
                final_flight.repeat_if_due(&mut self.conn, self.socket, network);
            }
        }
        let turn = self.transmit(now, network, buf);
        self.settle(now, config, endpoint);
        // What came last stays published while nothing happens.
        self.publish(now, matches!(turn, Turn::Idle));
        turn
    }

    fn transmit(&mut self, now: Instant, network: &mut dyn Network, buf: &mut Vec<u8>) -> Turn {
        // A session begins when TLS has validated the peer's address, before its identity is proven.
        let is_validated = self.phase.was_connected() || self.webtransport.is_some();
        let stage = (is_validated, self.phase.is_over());
        self.marking
            .begin_turn(now, &mut self.conn, stage, self.socket, network);
        let mut sent = 0;
        while sent < DATAGRAMS_PER_TURN {
            let mtu = usize::from(self.conn.current_mtu()).max(1);
            let segments = match self.segmentation.check_usable(|| now) {
                true => network.max_segments(self.socket),
                false => 1,
            };
            let segments = segments.clamp(1, MAX_SEGMENTS.min(MAX_SEND / mtu).max(1));
            buf.clear();
            let Some(mut transmit) = self.conn.poll_transmit(now, segments, buf) else {
                if let Some(established) = self.phase.established_mut()
                    && let Some(final_flight) = &mut established.final_flight
                {
                    final_flight.stop_recording();
                }
                return Turn::Idle;
            };
            if let Some(established) = self.phase.established_mut() {
                if let Some(final_flight) = &mut established.final_flight {
                    final_flight.sent(&buf[..transmit.size], &transmit);
                }
                if let Some(keep_alive) = &mut established.keep_alive {
                    keep_alive.sent(now);
                }
            }
            sent += transmit
                .segment_size
                .map_or(1, |size| transmit.size.div_ceil(size));
            let (conn, marking) = (&self.conn, &mut self.marking);
            match marking.send(now, conn, &mut transmit, buf, self.socket, network) {
                Sending::Blocked => return Turn::Blocked(transmit),
                Sending::SentSingly => self.segmentation.refused(now, transmit.destination),
                Sending::Sent if transmit.segment_size.is_some() => self.segmentation.worked(),
                Sending::Sent | Sending::Failed(_) => {}
            }
        }
        Turn::More
    }

    /// Pass events on to quinn-proto's endpoint and to the application.
    pub(super) fn settle(&mut self, now: Instant, config: &Config, endpoint: &mut Endpoint) {
        loop {
            let mut is_quiet = true;
            while let Some(event) = self.conn.poll_endpoint_events() {
                is_quiet = false;
                self.is_drained |= event.is_drained();
                if let Some(ids) = endpoint.handle_event(self.handle, event) {
                    self.id_supply.push(ids);
                }
            }
            while let Some(ids) = self.id_supply.pop(now) {
                self.conn.handle_event(ids);
            }
            while let Some(event) = self.conn.poll() {
                is_quiet = false;
                self.handle_event(now, config, event);
            }
            if is_quiet {
                return;
            }
        }
    }

    fn handle_event(&mut self, now: Instant, config: &Config, event: Event) {
        match event {
            Event::Connected => self.connected(now, config),
            Event::ConnectionLost { reason } => {
                let was_connected = !self.phase.is_handshake();
                let error = match reason {
                    quinn_proto::ConnectionError::TimedOut if !was_connected => {
                        self.handshake_timeout(now)
                    }
                    reason => {
                        // The dialer completes the handshake before the listener has verified its
                        // certificate. A session of WebTransport confirms it, too.
                        let is_confirmed = was_connected
                            && (self.listener.is_some()
                                || self.webtransport.is_some()
                                || FinalFlight::is_confirmed(&self.conn));
                        let verdict = self.verdict.as_ref();
                        let error =
                            close_reason::from_quinn(reason, was_connected, is_confirmed, verdict);
                        self.without_http3_code(error)
                    }
                };
                let is_address_validated = self
                    .inbound_slot
                    .as_ref()
                    .is_some_and(InboundSlot::is_address_validated);
                let is_canceled = !was_connected && is_address_validated && error.by == Party::Peer;
                self.end(now, error);
                if is_canceled {
                    self.closing.cancel(now);
                }
            }
            Event::Stream(event) => self.handle_stream_event(now, config, event),
            // libp2p has no datagrams, but HTTP/3 has to offer them: they are dropped.
            Event::DatagramReceived => while self.conn.datagrams().recv().is_some() {},
            // TLS verifies the handshake data.
            Event::HandshakeDataReady | Event::DatagramsUnblocked => {}
        }
    }

    fn handle_stream_event(&mut self, now: Instant, config: &Config, event: StreamEvent) {
        let is_handled = self.handle_session_event(now, config, &event);
        match event {
            _ if is_handled => {}
            StreamEvent::Opened { dir: Dir::Uni } => self.refuse_unidirectional(),
            StreamEvent::Opened { dir: Dir::Bi } => self.accept_streams(now, config),
            StreamEvent::Readable { id } => self.streams.receive(&mut self.conn, now, id),
            StreamEvent::Writable { id } => self.streams.writable(&mut self.conn, id),
            StreamEvent::Finished { id } => self.streams.finished(&mut self.conn, now, id),
            StreamEvent::Stopped { id, error_code } => {
                self.streams.stopped(&mut self.conn, now, id, error_code);
            }
            StreamEvent::Available { .. } => self.refill(config),
        }
        self.close_if_delivered(now);
    }

    /// Process what the application did to a stream.
    pub(super) fn process_stream(&mut self, now: Instant, stream: &StreamShared) {
        // The command to close may still come after this one. Without a session it comes before any packet is sent.
        if self.webtransport.is_some() && self.shared.state.lock().error.is_some() {
            self.streams.begin_closing();
        }
        self.streams.process(&mut self.conn, now, stream);
    }
}
