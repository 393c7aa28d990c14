//! Executes the commands that application threads send to a core.

use std::time::{Duration, Instant};

use super::Core;
use crate::{dial_mode::DialMode, driver::command::Command};

/// How long closing may take after the lingering phase: three probe timeouts of a slow path.
const CLOSING_TIMEOUT: Duration = Duration::from_secs(2);

impl Core {
    /// Take and execute the queued commands.
    pub(crate) fn take_commands(&mut self, now: Instant) {
        let mut taken = std::mem::take(&mut self.taken);
        self.commands.take(&mut taken);
        for command in taken.drain(..) {
            self.handle_command(now, command);
        }
        self.taken = taken;
    }

    fn handle_command(&mut self, now: Instant, command: Command) {
        let settings = self.settings.clone();
        let config = &settings.config;
        match command {
            Command::Socket {
                socket,
                local,
                is_kept,
            } => self.sockets.insert(socket, local, is_kept),
            // Pushed while another thread closed the endpoint.
            Command::Listen(listener) if self.closing.is_some() => {
                self.commands.close_listener(&listener);
            }
            Command::Listen(listener) => self.sockets.listen(listener, &self.commands),
            Command::StopListening(socket) => self.sockets.stop_listening(socket),
            Command::Connect {
                socket,
                shared,
                config,
                verdict,
                mode,
            } => {
                self.connect(now, socket, shared, config, verdict, mode);
                if mode == DialMode::FreshPort {
                    self.sockets.close_when_unused(socket);
                }
            }
            Command::Punch {
                socket,
                remote,
                lasting,
                inbound,
            } => {
                let seed = || settings.seed();
                let target = (socket, remote);
                self.punching
                    .begin(now, now + lasting, target, inbound, seed);
            }
            Command::Stream(connection, stream) => {
                self.with_id(connection, |driven| driven.process_stream(now, &stream));
            }
            Command::Resume(connection) => self.with_id(connection, |driven| driven.resume(now)),
            Command::Refill(connection) => {
                self.with_id(connection, |driven| driven.refill(config));
            }
            Command::Close {
                connection,
                code,
                reason,
            } => self.with_id(connection, |driven| driven.close(now, config, code, reason)),
            Command::CloseAll { code, reason } => {
                self.closing
                    .get_or_insert(now + config.linger + CLOSING_TIMEOUT);
                let ids: Vec<_> = self.handles.keys().copied().collect();
                for id in ids {
                    self.with_id(id, |driven| driven.close(now, config, code, reason.clone()));
                }
                self.sockets.close_all(&self.commands);
            }
            #[cfg(feature = "simulation")]
            Command::AddressesChanged => self.addresses_changed(),
            #[cfg(feature = "simulation")]
            Command::Poison(connection) => {
                self.with_id(connection, |driven| driven.is_poisoned = true);
            }
        }
    }
}
