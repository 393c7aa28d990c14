//! Dials that nothing has answered yet. A probe of QUIC comes 1, 3 and 7 s after the first packet
//! (RFC 9002 section 6.2.1), so a peer that starts again after 3.1 s would be met at 7; meanwhile
//! a fresh attempt is begun every 0.8 s beside the first, and the one that is answered stays.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use quinn_proto::{ConnectionHandle, EndpointEvent};

use super::Core;
use crate::{
    connection::ConnectionShared,
    driver::{connection::Origin, dial_report::DialReport, network::SocketKey},
    error::ConnectionError,
    tls::Verdict,
};

/// Pause between attempts. Below a second by what a handshake takes, so that an outage that ends
/// is noticed within a second.
const INTERVAL: Duration = Duration::from_millis(800);

/// One dial, and its attempts: two at most, each a QUIC connection of its own.
///
/// The first lives as long as the dial, for paths so slow that a fresh one is given up before its
/// answer comes. A fresh one gives way to the next before it would send a probe: a dial to an
/// address where nobody is sends two datagrams each 0.8 s, beside the probes of the first. On a path
/// slower than that, each costs the listener a handshake: it is told to drop the last one.
pub(super) struct Dial {
    pub(super) first: ConnectionHandle,
    fresh: Option<ConnectionHandle>,
    config: quinn_proto::ClientConfig,
    verdict: Verdict,
    pub(super) socket: SocketKey,
    pub(super) report: Arc<DialReport>,
}

impl Core {
    pub(super) fn connect(
        &mut self,
        now: Instant,
        socket: SocketKey,
        shared: Arc<ConnectionShared>,
        config: quinn_proto::ClientConfig,
        verdict: Verdict,
    ) {
        // Closed again before it began.
        if shared.state.lock().error.is_some() {
            return;
        }
        if self.closing.is_some() {
            shared.end(ConnectionError::not_dialed("the endpoint is closed"));
            return;
        }
        if !self.sockets.contains(socket) {
            // Its listener was closed after the dial had chosen it.
            let why = "the listening socket was closed meanwhile";
            shared.end(ConnectionError::not_dialed(why));
            return;
        }
        let id = shared.id;
        let report = Arc::new(DialReport::new(shared.state.lock().remote));
        match self.begin_attempt(now, socket, &shared, &config, &verdict, &report) {
            Ok(first) => {
                self.handles.insert(id, first);
                let interval = self.redial_interval();
                if let Some(driven) = self.slot(first) {
                    driven.redial_at = Some(now + interval);
                }
                let dial = Dial {
                    first,
                    fresh: None,
                    config,
                    verdict,
                    socket,
                    report,
                };
                self.dials.insert(id, dial);
                self.reporting.begin(socket);
            }
            Err(error) => {
                shared.end(ConnectionError::not_dialed(error.to_string()));
            }
        }
    }

    fn begin_attempt(
        &mut self,
        now: Instant,
        socket: SocketKey,
        shared: &Arc<ConnectionShared>,
        config: &quinn_proto::ClientConfig,
        verdict: &Verdict,
        report: &Arc<DialReport>,
    ) -> Result<ConnectionHandle, quinn_proto::ConnectError> {
        let remote = shared.state.lock().remote;
        // The name is for certificates of another world and is not sent (libp2p tls spec, "SNI").
        let (handle, conn) = self
            .endpoint
            .connect(now, config.clone(), remote, "libp2p")?;
        let origin = Origin {
            handle,
            shared: shared.clone(),
            socket,
            listener: None,
            verdict: Some(verdict.clone()),
            inbound_slot: None,
            report: Some(report.clone()),
        };
        self.insert(now, conn, origin);
        Ok(handle)
    }

    /// No sooner than a peer is expected to answer.
    fn redial_interval(&self) -> Duration {
        INTERVAL.max(self.settings.config.initial_rtt * 2)
    }

    /// Begin a fresh attempt, if one is due for the dial whose first is `first`.
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
        // It fails only for want of connection ids; the first goes on.
        let Ok(fresh) = fresh else {
            return;
        };
        let settings = self.settings.clone();
        if let Some(driven) = self.slot(fresh) {
            driven.belong_to_dial(began, &settings.config);
        }
        if let Some(dial) = self.dials.get_mut(&shared.id) {
            dial.fresh = Some(fresh);
        }
    }

    /// Something came for this attempt: its dial is this one's, and the other ends.
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

    /// This attempt has decided its dial, be it by failing: the other one leaves nothing.
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
            // It was sent before the one that is answered, and has come to nobody.
            self.forget_attempt(dial.first);
        }
        if let Some(fresh) = dial.fresh.filter(|fresh| *fresh != decided) {
            // The peer may have begun a handshake for it, and is told to drop that.
            self.with(fresh, |driven, _| driven.give_up(now));
            self.mark(fresh);
        }
    }

    /// This connection is gone. If it was an attempt of a dial that is not decided, the dial is over.
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

    /// Drop an attempt without a packet.
    fn forget_attempt(&mut self, handle: ConnectionHandle) {
        if let Some(driven) = self.slot(handle) {
            driven.detach();
            self.endpoint.handle_event(handle, EndpointEvent::drained());
            self.remove(handle);
        }
    }
}
