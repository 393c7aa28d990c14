//! Drives one connection: quinn-proto's state machine, its streams, its deadlines.
//!
//! Polling follows quinn-proto's order (transmit, timeout, endpoint events, events). Events are
//! polled again after transmitting, which can itself end a connection.

mod attempt;
mod statistics;

use std::{net::IpAddr, sync::Arc, time::Instant};

use bytes::Bytes;
use quinn_proto::{ConnectionHandle, Endpoint, Event, StreamEvent};

use crate::{
    config::Config,
    connection::{ConnectionShared, STREAMS_OPENED_AHEAD},
    driver::{
        admission::InboundSlot,
        close_reason,
        closing::Closing,
        dial_report::DialReport,
        final_flight::FinalFlight,
        id_supply::IdSupply,
        keep_alive::KeepAlive,
        marking::Marking,
        migration::MigrationLimit,
        network::{Network, Sending, SocketKey},
        offload::Offload,
        receive_window::{GrowthReason, ReceiveWindow},
        send_window::SendWindow,
        stream_allowance::StreamAllowance,
        streams::{Streams, stream_of, varint},
    },
    error::{ConnectionError, Party},
    listener::ListenerShared,
    stream::StreamShared,
    tls::{self, Verdict},
};

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

/// The phases of a connection.
enum Phase {
    Handshake {
        deadline: Instant,
    },
    Connected,
    /// Closed by the application; finished streams still have bytes to deliver.
    Lingering {
        deadline: Instant,
        code: u64,
        reason: Vec<u8>,
    },
    /// Over. quinn-proto still answers late packets until it is drained.
    Over,
}

pub(super) struct ConnectionDriver {
    pub(super) conn: quinn_proto::Connection,
    handle: ConnectionHandle,
    pub(super) shared: Arc<ConnectionShared>,
    pub(super) socket: SocketKey,
    /// When to begin another attempt of the same dial.
    pub(super) redial_at: Option<Instant>,
    /// Another attempt of the same dial became the application's connection.
    is_detached: bool,
    /// The report of its dial, until it is connected or over.
    report: Option<Arc<DialReport>>,
    /// The destination of the last received datagram, if the system tells it.
    pub(super) local_ip: Option<IpAddr>,
    /// The listener that accepted it; `None` for a dialed connection.
    listener: Option<Arc<ListenerShared>>,
    verdict: Option<Verdict>,
    /// Its slot in the admission control; `None` for a dialed connection.
    pub(super) inbound_slot: Option<InboundSlot>,
    pub(super) migration: MigrationLimit,
    id_supply: IdSupply,
    /// The handshake completed, which authenticates the peer.
    pub(super) was_connected: bool,
    streams: Streams,
    phase: Phase,
    began: Instant,
    published: Instant,
    allowance: StreamAllowance,
    receive_window: ReceiveWindow,
    send_window: SendWindow,
    /// Set once the handshake completed, if keep-alives are configured.
    keep_alive: Option<KeepAlive>,
    /// For a dialed connection, until the listener has confirmed the handshake.
    final_flight: Option<FinalFlight>,
    pub(super) marking: Marking,
    /// Segmentation offload to this peer.
    segmentation: Offload,
    is_drained: bool,
    pub(super) closing: Closing,
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
        Self {
            conn,
            handle: origin.handle,
            shared: origin.shared,
            socket: origin.socket,
            redial_at: None,
            is_detached: false,
            report: origin.report,
            local_ip: None,
            listener: origin.listener,
            verdict: origin.verdict,
            inbound_slot: origin.inbound_slot,
            migration: MigrationLimit::new(),
            id_supply: IdSupply::new(),
            was_connected: false,
            streams: Streams::new(),
            phase: Phase::Handshake {
                deadline: now + config.handshake_timeout,
            },
            began: now,
            published: now,
            allowance: StreamAllowance::default(),
            receive_window: ReceiveWindow::new(now),
            send_window,
            keep_alive: None,
            final_flight: None,
            marking,
            segmentation: Offload::new("segmentation"),
            is_drained: false,
            closing: Closing::new(is_accepted),
            is_dirty: false,
            is_waiting: false,
            armed: None,
            #[cfg(feature = "simulation")]
            is_poisoned: false,
        }
    }

    pub(super) fn streams(&self) -> usize {
        self.streams.len()
    }

    pub(super) fn is_drained(&self) -> bool {
        self.is_drained
    }

    pub(super) fn is_over(&self) -> bool {
        matches!(self.phase, Phase::Over)
    }

    /// Over, and need not be kept until it is drained: see [`Closing`].
    pub(super) fn can_discard(&self, is_endpoint_closing: bool) -> bool {
        self.closing
            .can_discard(is_endpoint_closing, self.was_connected)
    }

    /// When it must be driven next.
    pub(super) fn deadline(&mut self) -> Option<Instant> {
        let own = match self.phase {
            Phase::Handshake { deadline } | Phase::Lingering { deadline, .. } => Some(deadline),
            Phase::Connected => self.receive_window.deadline(),
            Phase::Over => self.closing.deadline(),
        };
        let final_flight = self.final_flight.as_ref().map(FinalFlight::deadline);
        let keep_alive = self.keep_alive.as_ref();
        let deadlines = [
            self.conn.poll_timeout(),
            self.streams.deadline(),
            self.id_supply.deadline(),
            self.allowance.deadline(),
            final_flight,
            keep_alive.map(|it| it.deadline(self.conn.rtt())),
            self.marking.deadline(),
            own,
            self.redial_at,
            self.report.as_ref().and_then(|report| report.deadline()),
        ];
        deadlines.into_iter().flatten().min()
    }

    /// Handle the deadlines that have passed.
    pub(super) fn handle_timeout(&mut self, now: Instant) {
        self.conn.handle_timeout(now);
        self.streams.expire(&mut self.conn, now);
        self.receive_window.expire(now);
        self.allowance.expire(now, &mut self.conn);
        if let Some(final_flight) = &mut self.final_flight {
            final_flight.expire(now);
        }
        if let Some(keep_alive) = &mut self.keep_alive
            && keep_alive.expire(now, self.conn.rtt())
        {
            self.conn.ping();
        }
        self.marking.expire(now);
        if let Some(report) = &self.report {
            report.expire(now);
        }
        match self.phase {
            Phase::Handshake { deadline } if deadline <= now => {
                self.fail(now, self.handshake_timeout(now));
            }
            Phase::Lingering { deadline, .. } if deadline <= now => self.close_now(now),
            Phase::Over => self.closing.expire(now),
            _ => {}
        }
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
        if let Some(wider) = self.send_window.grow(self.streams.written()) {
            self.conn.set_send_window(wider);
            self.settle(now, config, endpoint);
        }
        if matches!(self.phase, Phase::Connected) {
            self.allowance.check(now, &mut self.conn, config);
        }
        self.grow_receive_window(now);
        let is_over = matches!(self.phase, Phase::Over);
        self.final_flight
            .take_if(|_| is_over || FinalFlight::is_confirmed(&self.conn));
        if let Some(final_flight) = &mut self.final_flight {
            final_flight.repeat_if_due(&mut self.conn, self.socket, network);
        }
        let turn = self.transmit(now, network, buf);
        self.settle(now, config, endpoint);
        self.publish(now, false);
        turn
    }

    fn transmit(&mut self, now: Instant, network: &mut dyn Network, buf: &mut Vec<u8>) -> Turn {
        let stage = (self.was_connected, matches!(self.phase, Phase::Over));
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
                if let Some(final_flight) = &mut self.final_flight {
                    final_flight.stop_recording();
                }
                return Turn::Idle;
            };
            if let Some(final_flight) = &mut self.final_flight {
                final_flight.sent(&buf[..transmit.size], &transmit);
            }
            sent += transmit
                .segment_size
                .map_or(1, |size| transmit.size.div_ceil(size));
            if let Some(keep_alive) = &mut self.keep_alive {
                keep_alive.sent(now);
            }
            let (conn, marking) = (&self.conn, &mut self.marking);
            match marking.send(now, conn, &mut transmit, buf, self.socket, network) {
                Sending::Blocked => return Turn::Blocked(transmit),
                Sending::SentSingly => self.segmentation.refused(now),
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
                let was_connected = !matches!(self.phase, Phase::Handshake { .. });
                let error = match reason {
                    quinn_proto::ConnectionError::TimedOut if !was_connected => {
                        self.handshake_timeout(now)
                    }
                    reason => {
                        close_reason::from_quinn(reason, was_connected, self.verdict.as_ref())
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
            // DATAGRAM frames are not negotiated, and TLS verifies the handshake data.
            Event::HandshakeDataReady | Event::DatagramReceived | Event::DatagramsUnblocked => {}
        }
    }

    fn connected(&mut self, now: Instant, config: &Config) {
        if !matches!(self.phase, Phase::Handshake { .. }) {
            return;
        }
        let Some(key) = tls::peer_public_key(self.conn.crypto_session()) else {
            // TLS requires a certificate with the peer's key: its absence is a defect.
            let why = "the handshake completed without a peer's key";
            self.fail(now, ConnectionError::internal(why));
            return;
        };
        self.phase = Phase::Connected;
        self.was_connected = true;
        self.report = None;
        {
            let mut state = self.shared.state.lock();
            state.peer = Some((key.to_peer_id(), key));
            // quinn-proto knows the local address only of accepted connections.
            if let Some(ip) = self.conn.local_ip().or(self.local_ip) {
                state.local.set_ip(ip);
            }
            state.statistics.handshake = now - self.began;
            state.connected.wake();
        }
        if self.listener.is_none() {
            self.final_flight = Some(FinalFlight::new(now, self.conn.rtt()));
        }
        let session = self.conn.crypto_session();
        self.keep_alive = config
            .keep_alive_interval
            .map(|longest| KeepAlive::new(now, longest, config.idle_timeout, session));
        self.refill(config);
        self.publish(now, true);
        if let Some(listener) = &self.listener
            && !listener.offer(&self.shared, now, self.conn.remote_address())
        {
            // The listener was closed meanwhile, or the application accepts too slowly.
            let error = ConnectionError::closed_here(RESOURCE_LIMIT, b"accept backlog is full");
            self.end(now, error);
            self.conn.close(
                now,
                varint(RESOURCE_LIMIT),
                Bytes::from_static(b"accept backlog is full"),
            );
        }
    }

    fn handle_stream_event(&mut self, now: Instant, config: &Config, event: StreamEvent) {
        match event {
            StreamEvent::Opened { .. } => self.accept_streams(now, config),
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

    fn accept_streams(&mut self, now: Instant, config: &Config) {
        if !matches!(self.phase, Phase::Handshake { .. } | Phase::Connected) {
            return;
        }
        let shared = self.shared.clone();
        let share = |id| stream_of(&shared, id, config);
        let mut opened = 0;
        while let Some(stream) = self.streams.accept(&mut self.conn, now, share) {
            // At most `max_incoming_streams` wait: quinn-proto counts each until it is accepted.
            let mut state = shared.state.lock();
            state.arrived.push_back(stream);
            state.acceptable.wake();
            opened += 1;
        }
        self.allowance.opened(opened, &mut self.conn, config);
    }

    /// Double the receive window if there is a reason and the endpoint's budget allows it.
    fn grow_receive_window(&mut self, now: Instant) {
        let receive_credit = &self.shared.receive_credit;
        let reason = self.receive_window.poll_growth(
            now,
            self.conn.rtt(),
            receive_credit,
            &mut self.streams,
        );
        let Some(reason) = reason else {
            return;
        };
        if receive_credit.grow(reason == GrowthReason::ReaderKeepsUp) {
            self.conn
                .set_receive_window(varint(receive_credit.window()));
            self.streams.resume(&mut self.conn, now);
        } else {
            self.receive_window.refused(now);
        }
    }

    /// Open streams ahead of need.
    pub(super) fn refill(&mut self, config: &Config) {
        if !matches!(self.phase, Phase::Connected) {
            return;
        }
        let shared = self.shared.clone();
        let mut state = shared.state.lock();
        state.is_refilling = false;
        let mut has_opened = false;
        while state.opened_ahead.len() < STREAMS_OPENED_AHEAD {
            let share = |id| stream_of(&shared, id, config);
            let Some(stream) = self.streams.open(&mut self.conn, share) else {
                break;
            };
            state.opened_ahead.push_back(stream);
            has_opened = true;
        }
        if has_opened {
            state.openable.wake();
        }
    }

    /// Process what the application did to a stream.
    pub(super) fn process_stream(&mut self, now: Instant, stream: &StreamShared) {
        self.streams.process(&mut self.conn, now, stream);
    }

    /// Readers released credit: streams that waited for it continue.
    pub(super) fn resume(&mut self, now: Instant) {
        self.streams.resume(&mut self.conn, now);
    }

    /// The application closed the connection.
    pub(super) fn close(&mut self, now: Instant, config: &Config, code: u64, reason: Vec<u8>) {
        match self.phase {
            Phase::Connected => {}
            Phase::Handshake { .. } => {
                self.end(now, ConnectionError::closed_here(code, &reason));
                self.conn.close(now, varint(code), reason.into());
                return;
            }
            Phase::Lingering { .. } | Phase::Over => return,
        }
        let error = ConnectionError::closed_here(code, &reason);
        self.streams.linger(&mut self.conn, now, &error);
        self.shared.end(error);
        self.phase = Phase::Lingering {
            deadline: now + config.linger,
            code,
            reason,
        };
        self.close_if_delivered(now);
    }

    fn close_if_delivered(&mut self, now: Instant) {
        if matches!(self.phase, Phase::Lingering { .. }) && !self.streams.is_any_undelivered() {
            self.close_now(now);
        }
    }

    /// End the lingering phase.
    fn close_now(&mut self, now: Instant) {
        if let Phase::Lingering { code, reason, .. } =
            std::mem::replace(&mut self.phase, Phase::Over)
        {
            self.closing.begin(now);
            self.keep_alive = None;
            self.id_supply.clear();
            self.streams
                .abandon(&ConnectionError::closed_here(code, &reason));
            self.publish(now, true);
            self.shared.congestion_signals.allow_close();
            self.conn.close(now, varint(code), reason.into());
        }
    }

    /// The connection is over, by either side or the network.
    fn end(&mut self, now: Instant, error: ConnectionError) {
        if matches!(self.phase, Phase::Over) {
            return;
        }
        if let Some(listener) = &self.listener
            && matches!(self.phase, Phase::Handshake { .. })
        {
            listener.handshake_failed(&error, self.conn.remote_address());
        }
        self.phase = Phase::Over;
        self.report = None;
        self.closing.begin(now);
        self.keep_alive = None;
        self.id_supply.clear();
        self.streams.fail(&mut self.conn, now, &error);
        if !self.was_connected {
            // No stream moved a byte, and thousands of dials may be canceled at once.
            self.shared.receive_credit.return_unused();
            self.send_window.close();
        }
        self.publish(now, true);
        self.shared.congestion_signals.allow_close();
        self.shared.end(error);
    }

    /// End it for a reason other than the application's close, and tell the peer.
    pub(super) fn fail(&mut self, now: Instant, error: ConnectionError) {
        self.end(now, error);
        self.conn.close(now, varint(0), Bytes::new());
    }

    /// End it without quinn-proto, whose state a panic may have left inconsistent.
    pub(super) fn discard(&mut self, error: ConnectionError) {
        self.phase = Phase::Over;
        if self.is_detached {
            return;
        }
        self.streams.abandon(&error);
        self.shared.end(error);
        // The connection is over: return the credit that backs no held bytes.
        self.shared.receive_credit.return_unused();
    }
}

/// libp2p's connection error code for a reached resource limit.
const RESOURCE_LIMIT: u64 = 0x1001;
