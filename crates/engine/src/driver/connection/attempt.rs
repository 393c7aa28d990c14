//! A connection as one of the attempts of a dial, of which only one is answered for, and what the
//! report of that dial means for it. Which one is answered for, and when another begins, is the
//! core's affair (`core/dialing`).

use std::time::Instant;

use bytes::Bytes;
use quinn_proto::Endpoint;

use super::{ConnectionDriver, Phase, Turn};
use crate::{
    config::Config,
    driver::{close_reason, network::Network, streams::varint},
    error::ConnectionError,
};

impl ConnectionDriver {
    /// When the dial began that this is an attempt of.
    pub(in crate::driver) fn began(&self) -> Instant {
        self.began
    }

    /// It is an attempt of a dial that began then, and whose time runs since.
    pub(in crate::driver) fn belong_to_dial(&mut self, began: Instant, config: &Config) {
        self.began = began;
        self.phase = Phase::Handshake {
            deadline: began + config.handshake_timeout,
        };
    }

    /// What becomes of it is no longer the application's affair.
    pub(in crate::driver) fn detach(&mut self) {
        self.is_detached = true;
        self.report = None;
    }

    /// Another attempt of the same dial was answered first. The peer is told to forget this one.
    pub(in crate::driver) fn give_up(&mut self, now: Instant) {
        self.detach();
        self.phase = Phase::Over;
        self.closing.begin(now);
        self.conn.close(now, varint(0), Bytes::new());
    }

    /// Take a turn. What the system says of its sends may end a dial.
    pub(in crate::driver) fn drive(
        &mut self,
        now: Instant,
        config: &Config,
        endpoint: &mut Endpoint,
        network: &mut dyn Network,
        buf: &mut Vec<u8>,
    ) -> Turn {
        let Some(report) = self.report.clone() else {
            return self.take_turn(now, config, endpoint, network, buf);
        };
        let mut watched = report.watch(now, network);
        watched.repeat_refused(self.socket);
        let turn = self.take_turn(now, config, endpoint, &mut watched, buf);
        if let Some(error) = report.end()
            && self.report.is_some()
        {
            self.fail(now, error);
            // The socket keeps what it did not take; the next turn sends the close.
            if !matches!(turn, Turn::Blocked(_)) {
                return Turn::More;
            }
        }
        turn
    }

    /// The error of a handshake that was not done in time.
    pub(super) fn handshake_timeout(&self, now: Instant) -> ConnectionError {
        let datagrams = self.conn.stats().udp_rx.datagrams;
        let waited = now.saturating_duration_since(self.began);
        match &self.report {
            Some(report) => report.handshake_timeout(waited, datagrams),
            // quinn-proto does not count the one that began the handshake.
            None => close_reason::handshake_timeout(
                waited,
                self.conn.stats().udp_tx.datagrams,
                datagrams + 1,
                "",
            ),
        }
    }
}
