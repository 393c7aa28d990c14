//! Begins dials, ends those that the network reports unreachable, and repeats unanswered ones. QUIC
//! sends probes 1, 3 and 7 s after the first packet (RFC 9002 section 6.2.1), so a peer that restarts
//! after 3.1 s would be reached only at 7. Therefore a fresh attempt begins every 0.8 s beside the
//! first; the answered one is kept.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use quinn_proto::{ConnectionHandle, EndpointEvent};

#[cfg(test)]
use super::tests::Panic;
use super::{Core, dial::Dial};
use crate::{
    dial_mode::DialMode,
    driver::{
        connection::Origin,
        dial_report::DialReport,
        network::{SocketKey, Undelivered},
        settings::DialConfig,
    },
    error::ConnectionError,
    qlog::LatestLog,
    shared::ConnectionShared,
    tls::Verdict,
};

/// Pause between attempts: less than a second by the time of a handshake, so that a dial connects
/// within a second after an outage.
const INTERVAL: Duration = Duration::from_millis(800);

impl Core {
    pub(super) fn connect(
        &mut self,
        now: Instant,
        socket: SocketKey,
        shared: Arc<ConnectionShared>,
        config: Arc<DialConfig>,
        verdict: Verdict,
        mode: DialMode,
    ) {
        // The application closed it before it began.
        if shared.state.lock().error.is_some() {
            return;
        }
        if self.closing.is_some() {
            shared.end(ConnectionError::not_dialed("the endpoint is closed"));
            return;
        }
        if !self.sockets.contains(socket) {
            // The listener was closed after the dial had chosen its socket.
            let why = "the listening socket was closed meanwhile";
            shared.end(ConnectionError::not_dialed(why));
            return;
        }
        let id = shared.id;
        let report = {
            let mut state = shared.state.lock();
            let report = Arc::new(DialReport::new(state.remote, now));
            state.dial = Some(report.clone());
            report
        };
        match self.begin_attempt(now, socket, &shared, &config, &verdict, &report) {
            Ok(first) => {
                self.handles.insert(id, first);
                let interval = self.redial_interval();
                let is_punched = matches!(mode, DialMode::Punched { .. });
                if let Some(driven) = self.slot(first) {
                    // The probes of a dial for which a hole is punched follow each other faster.
                    driven.redial_at = (!is_punched).then(|| now + interval);
                    driven.is_punched = is_punched;
                }
                let dial = Dial {
                    first,
                    fresh: None,
                    config,
                    verdict,
                    socket,
                    report,
                    mode,
                };
                self.dials.insert(id, dial);
                self.reporting.begin(socket);
            }
            Err(error) => {
                shared.end(error);
            }
        }
    }

    fn begin_attempt(
        &mut self,
        now: Instant,
        socket: SocketKey,
        shared: &Arc<ConnectionShared>,
        config: &DialConfig,
        verdict: &Verdict,
        report: &Arc<DialReport>,
    ) -> Result<ConnectionHandle, ConnectionError> {
        let remote = shared.state.lock().remote;
        let client = config.client.clone();
        #[cfg(test)]
        let is_provoked = self.provoked.take_if(|it| *it == Panic::Dial).is_some();
        let begun = self.isolated(remote, |endpoint| {
            #[cfg(test)]
            assert!(!is_provoked, "{}", Panic::MESSAGE);
            // quinn-proto requires a server name; it is not sent (libp2p TLS spec, "SNI").
            endpoint.connect(now, client, remote, "libp2p")
        });
        let (handle, conn) = begun
            .map_err(ConnectionError::internal)?
            .map_err(|error| ConnectionError::not_dialed(error.to_string()))?;
        let log = config.log.as_ref().and_then(LatestLog::get);
        if let Some(log) = &log {
            log.started(self.sockets.local(socket).unwrap_or(remote), remote);
        }
        let origin = Origin {
            handle,
            shared: shared.clone(),
            socket,
            listener: None,
            verdict: Some(verdict.clone()),
            inbound_slot: None,
            report: Some(report.clone()),
            log,
            setup: config.setup.clone(),
        };
        self.insert(now, conn, origin);
        Ok(handle)
    }

    /// The pause between attempts: at least the time in which a peer is expected to answer.
    fn redial_interval(&self) -> Duration {
        INTERVAL.max(self.settings.config.initial_rtt * 2)
    }

    /// Begin a fresh attempt if one is due for the dial whose first attempt is `first`.
    pub(super) fn redial_if_due(&mut self, now: Instant, first: ConnectionHandle) {
        let interval = self.redial_interval();
        let Some(driven) = self.slot(first) else {
            return;
        };
        if driven.redial_at.is_none_or(|at| at > now) {
            return;
        }
        driven.redial_at = Some(now + interval);
        let (shared, socket, began) = (driven.shared.clone(), driven.socket, driven.began());
        let Some(dial) = self.dials.get_mut(&shared.id) else {
            return;
        };
        let previous = dial.fresh.take();
        let (config, verdict) = (dial.config.clone(), dial.verdict.clone());
        let report = dial.report.clone();
        if let Some(previous) = previous {
            self.forget_attempt(previous);
        }
        let fresh = self.begin_attempt(now, socket, &shared, &config, &verdict, &report);
        // It fails only if connection ids run out, or by a defect; the first attempt continues.
        let Ok(fresh) = fresh else {
            return;
        };
        let settings = self.settings.clone();
        if let Some(driven) = self.slot(fresh) {
            driven.join_dial(began, &settings.config);
        }
        if let Some(dial) = self.dials.get_mut(&shared.id) {
            dial.fresh = Some(fresh);
        }
    }

    /// A datagram came for this attempt: it becomes the dial's connection, and the other ends.
    pub(super) fn attempt_answered(&mut self, now: Instant, handle: ConnectionHandle) {
        let Some(driven) = self.slot(handle) else {
            return;
        };
        driven.redial_at = None;
        let id = driven.shared.id;
        if self.dials.contains_key(&id) {
            self.handles.insert(id, handle);
            self.end_dial(now, id, handle);
        }
    }

    /// This attempt has decided its dial, by an answer or by failing: drop the other attempt.
    pub(super) fn end_dial(&mut self, now: Instant, id: u64, decided: ConnectionHandle) {
        let is_attempt = |dial: &Dial| dial.first == decided || dial.fresh == Some(decided);
        if !self.dials.get(&id).is_some_and(is_attempt) {
            return;
        }
        let Some(dial) = self.dials.remove(&id) else {
            return;
        };
        self.reporting.end(dial.socket);
        if dial.first != decided {
            // Sent before the answered attempt, it has reached nobody.
            self.forget_attempt(dial.first);
        }
        if let Some(fresh) = dial.fresh.filter(|fresh| *fresh != decided) {
            // The peer may have begun a handshake for it: tell it to drop that.
            self.with(fresh, |driven, _| driven.cancel_attempt(now));
            self.mark(fresh);
        }
    }

    /// This connection was removed. If it was an attempt of an undecided dial, the dial is over.
    pub(super) fn forget_dial_of(&mut self, id: u64, gone: ConnectionHandle) {
        let Some(dial) = self.dials.get(&id) else {
            return;
        };
        let (attempts, socket) = ([Some(dial.first), dial.fresh], dial.socket);
        if attempts.contains(&Some(gone)) {
            self.dials.remove(&id);
            self.reporting.end(socket);
            for other in attempts.into_iter().flatten().filter(|each| *each != gone) {
                self.forget_attempt(other);
            }
        }
    }

    /// Drop an attempt without telling the peer.
    fn forget_attempt(&mut self, handle: ConnectionHandle) {
        if let Some(driven) = self.slot(handle) {
            driven.detach();
            self.endpoint.handle_event(handle, EndpointEvent::drained());
            self.remove(handle);
        }
    }

    /// Handle a report that a datagram from `socket` was not delivered.
    pub(crate) fn handle_undelivered(
        &mut self,
        now: Instant,
        socket: SocketKey,
        message: &Undelivered,
    ) {
        let mut dials = self.dials.values();
        let dial = dials.find(|dial| {
            // Until the peer has punched, its address is expected to be unreachable.
            let is_expected = matches!(dial.mode, DialMode::Punched { .. });
            dial.socket == socket && !is_expected && dial.report.undelivered(message)
        });
        let Some(dial) = dial else {
            return;
        };
        let (first, report) = (dial.first, dial.report.clone());
        if let Some(error) = report.end() {
            self.with(first, |driven, _| driven.fail(now, error));
            self.mark(first);
        } else if report.is_port_unreachable()
            && let Some(driven) = self.slot(first)
        {
            driven.shared.note_port_unreachable();
        }
    }
}
