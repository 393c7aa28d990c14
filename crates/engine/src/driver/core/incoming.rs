//! Handles Initial packets of new connections: accepts, retries, ignores or refuses them. Also sends
//! what quinn-proto's endpoint answers by itself. The rules are in `admission` and `reset_limit`.

use std::{sync::Arc, time::Instant};

use quinn_proto::{ConnectionHandle, Incoming};

use super::Core;
use crate::{
    congestion::CongestionSignals,
    driver::{
        admission::Decision,
        connection::Origin,
        limit_log::{Excess, Limit},
        network::{Network, SocketKey, borrow},
        reset_limit::Answer,
    },
    multiaddr::Multiaddr,
    shared::{ConnectionShared, ListenerShared},
};

/// How many refused dials are remembered, so that each counts once: enough for a listener that
/// refuses hundreds a second, over the round trip to a distant peer.
const REFUSED_DIALS: usize = 64;

impl Core {
    /// Send the answer of quinn-proto's endpoint; stateless resets only within their limit. A
    /// failed send is ignored, as the source address may be forged.
    pub(super) fn respond(
        &mut self,
        now: Instant,
        socket: SocketKey,
        transmit: &quinn_proto::Transmit,
        buf: &[u8],
        network: &mut dyn Network,
    ) {
        let answer = self.reset_limit.decide(now, &buf[..transmit.size]);
        if let Some(listener) = self.sockets.listener(socket) {
            let statistics = &mut listener.state.lock().statistics;
            statistics.resets_sent += u64::from(answer == Answer::Reset);
            statistics.resets_suppressed += u64::from(answer == Answer::Suppressed);
        }
        match answer {
            Answer::Reset => self.totals.add(|totals| &totals.resets_sent, 1),
            Answer::Suppressed => self.totals.add(|totals| &totals.resets_suppressed, 1),
            _ => {}
        }
        if answer != Answer::Suppressed {
            let _ = network.send(socket, &borrow(transmit, buf));
        }
    }

    pub(super) fn handle_incoming(
        &mut self,
        now: Instant,
        socket: SocketKey,
        incoming: Incoming,
        buf: &mut Vec<u8>,
        network: &mut dyn Network,
    ) -> Option<ConnectionHandle> {
        // A peer may dial after `listen` returned and before this thread took the command: take it
        // now, so that the listener gets the connection.
        self.take_commands(now);
        let Some(listener) = self.sockets.listener(socket).cloned() else {
            self.endpoint.ignore(incoming);
            return None;
        };
        let remote = incoming.remote_address();
        let is_validated = incoming.remote_address_validated();
        if self.closing.is_some() || self.state.lock().gate.denies(remote.ip()) {
            if self.refuse(socket, &listener, incoming, buf, network) {
                let remote = Multiaddr(remote);
                tracing::debug!("connection refused: {remote}, its address is denied");
                self.totals.add(|totals| &totals.refused_denied_address, 1);
            }
            return None;
        }
        let config = &self.settings.config;
        let local = self.sockets.local(socket).unwrap_or(remote);
        let excess = |limit: Limit| Excess {
            limit,
            value: limit.value(config),
            remote,
            local,
        };
        let connections = self.handles.len();
        match self
            .admission
            .decide(config, remote, is_validated, connections)
        {
            Decision::Accept => {
                return self.accept(now, socket, listener, incoming, buf, network);
            }
            Decision::Ignore(limit) => {
                self.limit_log.note(now, &excess(limit));
                self.totals.add(limit.counter(), 1);
                self.endpoint.ignore(incoming);
            }
            Decision::Refuse(limit) => {
                let excess = excess(limit);
                if self.refuse(socket, &listener, incoming, buf, network) {
                    self.limit_log.note(now, &excess);
                    self.totals.add(limit.counter(), 1);
                }
            }
            // It fails only for an address that is already validated.
            Decision::Retry => match self.endpoint.retry(incoming, buf) {
                Ok(transmit) => {
                    listener.state.lock().statistics.retries_sent += 1;
                    self.totals.add(|totals| &totals.retries_sent, 1);
                    let _ = network.send(socket, &borrow(&transmit, buf));
                }
                Err(refused) => self.endpoint.ignore(refused.into_incoming()),
            },
        }
        None
    }

    /// Refuse the connection. False for another packet of a dial that was refused before: a client's
    /// first flight may take several packets, and it repeats them if the refusal is lost.
    fn refuse(
        &mut self,
        socket: SocketKey,
        listener: &ListenerShared,
        incoming: Incoming,
        buf: &mut Vec<u8>,
        network: &mut dyn Network,
    ) -> bool {
        let dial = (incoming.remote_address(), *incoming.orig_dst_cid());
        let transmit = self.endpoint.refuse(incoming, buf);
        let _ = network.send(socket, &borrow(&transmit, buf));
        if self.refused.contains(&dial) {
            return false;
        }
        if self.refused.len() == REFUSED_DIALS {
            self.refused.pop_front();
        }
        self.refused.push_back(dial);
        listener.state.lock().statistics.connections_refused += 1;
        true
    }

    /// Begin the handshake.
    fn accept(
        &mut self,
        now: Instant,
        socket: SocketKey,
        listener: Arc<ListenerShared>,
        incoming: Incoming,
        buf: &mut Vec<u8>,
        network: &mut dyn Network,
    ) -> Option<ConnectionHandle> {
        let remote = incoming.remote_address();
        let is_validated = incoming.remote_address_validated();
        let congestion_signals = CongestionSignals::default();
        let local = self.sockets.local(socket).unwrap_or(remote);
        let log = self.settings.log_of(&incoming);
        if let Some(log) = &log {
            log.started(local, remote);
        }
        let offers_h3 = listener.state.lock().serves_webtransport;
        let server = self.settings.server_for_connection(
            congestion_signals.clone(),
            log.as_ref(),
            offers_h3,
        );
        let setup = offers_h3.then(|| self.settings.setup_of_listeners().clone());
        #[cfg(test)]
        let server = self.provoke_in(server);
        let accepted = self.isolated(remote, |endpoint| {
            endpoint
                .accept(incoming, now, buf, Some(server))
                .map_err(Box::new)
        });
        let Ok(accepted) = accepted else {
            return None;
        };
        match accepted {
            Ok((handle, conn)) => {
                listener.state.lock().statistics.handshakes_started += 1;
                self.totals.add(|totals| &totals.handshakes_started, 1);
                self.next_connection += 1;
                let shared = ConnectionShared::new(
                    self.next_connection,
                    false,
                    remote,
                    local,
                    self.settings.memory(),
                    congestion_signals,
                    self.totals.clone(),
                );
                let inbound_slot =
                    self.admission
                        .admit(&self.settings.config, remote, is_validated);
                self.handles.insert(shared.id, handle);
                self.insert(
                    now,
                    conn,
                    Origin {
                        handle,
                        shared,
                        socket,
                        listener: Some(listener),
                        verdict: None,
                        inbound_slot: Some(inbound_slot),
                        report: None,
                        log,
                        setup,
                    },
                );
                if self.is_full {
                    let most = self.settings.config.max_handshakes;
                    self.limit_log.note_full(now, most, local);
                }
                Some(handle)
            }
            Err(error) => {
                let remote = Multiaddr(remote);
                tracing::debug!("connection refused: {remote}, {}", error.cause);
                if let Some(transmit) = error.response {
                    let _ = network.send(socket, &borrow(&transmit, buf));
                }
                None
            }
        }
    }
}
