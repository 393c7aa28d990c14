//! The transitions of a connection between its phases: connected, closed by the application,
//! delivered, over.

use std::time::Instant;

use bytes::Bytes;

use super::{
    ConnectionDriver,
    phase::{Established, Phase},
    stage::Stage,
};
use crate::{
    config::Config,
    driver::{close_reason, final_flight::FinalFlight, keep_alive::KeepAlive},
    error::ConnectionError,
    host_key::PublicKey,
    identity::PeerId,
    tls::{self, TlsParameters},
};

/// libp2p's connection error code for a reached resource limit.
const RESOURCE_LIMIT: u64 = 0x1001;

impl ConnectionDriver {
    pub(super) fn connected(&mut self, now: Instant, config: &Config) {
        if !self.phase.is_handshake() {
            return;
        }
        let parameters = tls::parameters(self.conn.crypto_session());
        if parameters.as_ref().is_some_and(tls::is_h3) {
            self.begin_session(now, config);
            return;
        }
        let Some(key) = tls::peer_public_key(self.conn.crypto_session()) else {
            // TLS requires a certificate with the peer's key: its absence is a defect.
            let why = "the handshake completed without a peer's key";
            self.fail(now, ConnectionError::internal(why));
            return;
        };
        let peer = key.to_peer_id();
        self.authenticated(now, config, (peer, key), parameters);
    }

    /// The peer has proven its identity: the connection is the application's.
    pub(super) fn authenticated(
        &mut self,
        now: Instant,
        config: &Config,
        (peer, key): (PeerId, PublicKey),
        parameters: Option<TlsParameters>,
    ) {
        if !self.phase.is_handshake() {
            return;
        }
        self.reported.handshake = now.saturating_duration_since(self.began);
        if let Some(log) = &self.log {
            log.handshake_completed(parameters.as_ref());
        }
        // Counted before anybody learns of it.
        self.enter(Stage::Open);
        self.publish(now, true);
        {
            let mut state = self.shared.state.lock();
            state.peer = Some((peer, key));
            state.tls = parameters;
            state.dial = None;
            // quinn-proto knows the local address only of accepted connections.
            if let Some(ip) = self.conn.local_ip().or(self.local_ip) {
                state.local.set_ip(ip);
            }
            state.statistics.handshake = self.reported.handshake;
            state.connected.wake();
        }
        let is_punched = self.is_punched
            || self
                .listener
                .as_ref()
                .is_some_and(|listener| listener.is_awaited(peer));
        let session = self.conn.crypto_session();
        self.phase = Phase::Connected(Established {
            keep_alive: config.keep_alive_interval.map(|configured| {
                KeepAlive::new(now, configured, is_punched, config.idle_timeout, session)
            }),
            // A session of WebTransport confirms the handshake.
            final_flight: match self.listener.is_some() || self.webtransport.is_some() {
                true => None,
                false => Some(Box::new(FinalFlight::new(now, self.conn.rtt()))),
            },
        });
        self.dial = None;
        self.refill(config);
        self.publish(now, true);
        if let Some(listener) = &self.listener
            && !listener.offer(&self.shared, now, self.conn.remote_address())
        {
            // The listener was closed meanwhile, or the application accepts too slowly.
            let reason = b"accept backlog is full".to_vec();
            self.close(now, config, RESOURCE_LIMIT, reason);
        }
    }

    /// The application closed the connection, or has no place for it.
    pub(in crate::driver) fn close(
        &mut self,
        now: Instant,
        config: &Config,
        code: u64,
        reason: Vec<u8>,
    ) {
        match self.phase {
            Phase::Connected(_) => {}
            Phase::Handshake { .. } => {
                self.end(now, ConnectionError::closed_here(code, &reason));
                self.conn.close(now, self.close_code(code), reason.into());
                return;
            }
            Phase::Lingering { .. } | Phase::Over { .. } => return,
        }
        let error = ConnectionError::closed_here(code, &reason);
        self.leave(&error);
        self.streams.linger(&mut self.conn, now, &error);
        self.shared.end(error);
        let over = Phase::Over {
            was_connected: true,
        };
        if let Phase::Connected(established) = std::mem::replace(&mut self.phase, over) {
            self.phase = Phase::Lingering {
                established,
                deadline: now + config.linger,
                code,
                reason,
            };
        }
        self.close_if_delivered(now);
    }

    pub(super) fn close_if_delivered(&mut self, now: Instant) {
        if !matches!(self.phase, Phase::Lingering { .. }) {
            return;
        }
        // A peer whose session is closed takes nothing more.
        if self.is_session_closed() || !self.streams.is_any_undelivered() {
            self.close_session(now);
        }
    }

    /// The deadline of the lingering phase has passed.
    pub(super) fn linger_expired(&mut self, now: Instant) {
        if self.is_session_closed() {
            self.close_now(now);
        } else {
            self.close_session(now);
        }
    }

    /// End the lingering phase.
    pub(super) fn close_now(&mut self, now: Instant) {
        let over = Phase::Over {
            was_connected: true,
        };
        if let Phase::Lingering { code, reason, .. } = std::mem::replace(&mut self.phase, over) {
            self.closing.begin(now);
            self.id_supply.clear();
            let error = ConnectionError::closed_here(code, &reason);
            self.streams.abandon(&error);
            self.log_closed(&error);
            self.publish(now, true);
            self.shared.congestion_signals.allow_close();
            self.conn.close(now, self.close_code(code), reason.into());
        }
    }

    /// The connection is over, by either side or the network.
    pub(super) fn end(&mut self, now: Instant, error: ConnectionError) {
        if self.phase.is_over() {
            return;
        }
        let error = close_reason::printable(error);
        self.count_failed_handshake(&error);
        let was_connected = self.phase.was_connected();
        self.leave(&error);
        self.phase = Phase::Over { was_connected };
        self.closing.begin(now);
        self.id_supply.clear();
        self.streams.fail(&mut self.conn, now, &error);
        if !was_connected {
            // No stream moved a byte, and thousands of dials may be canceled at once.
            self.shared.receive_credit.return_unused();
            self.send_window.close();
        }
        self.publish(now, true);
        self.log_closed(&error);
        self.shared.congestion_signals.allow_close();
        self.shared.end(error);
    }

    /// Count an inbound handshake that ends now.
    fn count_failed_handshake(&self, error: &ConnectionError) {
        if let Some(listener) = &self.listener
            && self.phase.is_handshake()
        {
            listener.handshake_failed(error, self.conn.remote_address());
        }
    }

    fn log_closed(&self, error: &ConnectionError) {
        if let Some(log) = &self.log {
            log.closed(error);
        }
    }

    /// End it for a reason other than the application's close, and tell the peer.
    pub(in crate::driver) fn fail(&mut self, now: Instant, error: ConnectionError) {
        self.end(now, error);
        self.conn.close(now, self.close_code(0), Bytes::new());
    }

    /// End it without quinn-proto, whose state a panic may have left inconsistent.
    pub(in crate::driver) fn discard(&mut self, error: ConnectionError) {
        self.count_failed_handshake(&error);
        self.leave(&error);
        self.phase = Phase::Over {
            was_connected: self.phase.was_connected(),
        };
        if self.is_detached {
            return;
        }
        self.streams.abandon(&error);
        self.shared.end(error);
        // The connection is over: return the credit that backs no held bytes.
        self.shared.receive_credit.return_unused();
    }
}
