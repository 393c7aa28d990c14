//! A connection as one attempt of a dial, which the dial's report may end. `core/dialing` decides
//! when another attempt begins, and which becomes the application's connection.

use std::time::Instant;

use bytes::Bytes;
use quinn_proto::Endpoint;

use super::{ConnectionDriver, Turn, phase::Phase, stage::Stage};
use crate::{
    config::Config,
    driver::{close_reason, codes::varint, network::Network},
    error::ConnectionError,
    shared::DialProgress,
};

impl ConnectionDriver {
    /// When its dial began.
    pub(in crate::driver) fn began(&self) -> Instant {
        self.began
    }

    /// Make it an attempt of a dial that began then; the handshake timeout runs from there.
    pub(in crate::driver) fn join_dial(&mut self, began: Instant, config: &Config) {
        self.began = began;
        if let Phase::Handshake { deadline, .. } = &mut self.phase {
            *deadline = began + config.handshake_timeout;
        }
    }

    /// Stop reporting its state to the application.
    pub(in crate::driver) fn detach(&mut self) {
        self.is_detached = true;
        if let Some(log) = &self.log {
            log.abandoned();
        }
    }

    /// Another attempt of the same dial was answered first: tell the peer to drop this one.
    pub(in crate::driver) fn cancel_attempt(&mut self, now: Instant) {
        self.detach();
        self.enter(Stage::Over);
        self.phase = Phase::Over {
            was_connected: false,
        };
        self.closing.begin(now);
        self.conn.close(now, varint(0), Bytes::new());
    }

    /// Note the flights of the peer that have arrived since the last turn of a dial.
    fn note_flights(&mut self, now: Instant) {
        let is_known = self.reported.confirmed.is_some();
        if is_known || self.listener.is_some() || self.phase.is_over() {
            return;
        }
        let stats = self.conn.stats();
        let elapsed = now.saturating_duration_since(self.began);
        if stats.udp_rx.datagrams > 0 {
            self.reported.first_answer.get_or_insert(elapsed);
        }
        if stats.frame_rx.crypto > 0 {
            self.reported.server_hello.get_or_insert(elapsed);
        }
        if stats.frame_rx.handshake_done > 0 {
            self.reported.confirmed = Some(elapsed);
            // Before the application can read what came with it.
            self.publish(now, true);
        }
    }

    /// Take a turn. A socket error that the dial's report collects may end the dial.
    pub(in crate::driver) fn drive(
        &mut self,
        now: Instant,
        config: &Config,
        endpoint: &mut Endpoint,
        network: &mut dyn Network,
        buf: &mut Vec<u8>,
    ) -> Turn {
        self.note_flights(now);
        let Some(report) = self.phase.report().cloned() else {
            return self.take_turn(now, config, endpoint, network, buf);
        };
        let sent_before = report.sent();
        let mut watched = report.watch(now, network);
        watched.repeat_refused(self.socket);
        let turn = self.take_turn(now, config, endpoint, &mut watched, buf);
        if self.reported.initial_sent.is_none() && report.sent() > sent_before {
            self.reported.initial_sent = Some(now.saturating_duration_since(self.began));
            self.publish(now, true);
        }
        if let Some(error) = report.end()
            && self.phase.report().is_some()
        {
            self.fail(now, error);
            // The refused transmit is kept for the socket; the next turn sends the close.
            if !matches!(turn, Turn::Blocked(_)) {
                return Turn::More;
            }
        }
        turn
    }

    /// The error of a handshake that did not complete in time.
    pub(super) fn handshake_timeout(&self, now: Instant) -> ConnectionError {
        let datagrams = self.conn.stats().udp_rx.datagrams;
        match self.phase.report() {
            Some(report) => report.handshake_timeout(now, datagrams),
            // quinn-proto does not count the datagram that began the handshake.
            None => close_reason::handshake_timeout(
                now.saturating_duration_since(self.began),
                self.conn.stats().udp_tx.datagrams,
                datagrams + 1,
                "",
            ),
        }
    }
}
