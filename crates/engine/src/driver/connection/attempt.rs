//! A connection as one of the attempts of a dial, of which only one is answered for. Which one that
//! is, and when another begins, is the core's affair (`core/dialing`).

use std::time::Instant;

use bytes::Bytes;

use super::{Driven, Phase};
use crate::{config::Config, driver::streams::varint};

impl Driven {
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
    }

    /// Another attempt of the same dial was answered first. The peer is told to forget this one.
    pub(in crate::driver) fn give_up(&mut self, now: Instant) {
        self.detach();
        self.phase = Phase::Over;
        self.closing.begin(now);
        self.conn.close(now, varint(0), Bytes::new());
    }
}
