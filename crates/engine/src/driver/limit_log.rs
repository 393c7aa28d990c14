//! Logs that a limit was reached: at most one WARN line for each limit in ten seconds, with the number
//! of events since the last one. Each event is logged at DEBUG, with the remote address.

use std::{
    net::SocketAddr,
    sync::atomic::AtomicU64,
    time::{Duration, Instant},
};

use crate::{config::Config, multiaddr::Multiaddr, totals::Totals};

/// Six lines a minute are readable, and an operator sees a flood while it lasts.
const INTERVAL: Duration = Duration::from_secs(10);

/// A limit of [`Config`](crate::Config) that inbound handshakes can reach.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Limit {
    Connections,
    ConnectionsPerAddress,
    Handshakes,
    HandshakesPerAddress,
    AcceptBacklog,
}

impl Limit {
    const COUNT: usize = Self::AcceptBacklog as usize + 1;

    fn field(self) -> &'static str {
        match self {
            Self::Connections => "max_connections",
            Self::ConnectionsPerAddress => "max_connections_per_address",
            Self::Handshakes => "max_handshakes",
            Self::HandshakesPerAddress => "max_handshakes_per_address",
            Self::AcceptBacklog => "max_accept_backlog",
        }
    }

    /// What the limit counts.
    fn subject(self) -> &'static str {
        match self {
            Self::Connections => "connections",
            Self::ConnectionsPerAddress => "inbound connections from one address",
            Self::Handshakes => "inbound handshakes",
            Self::HandshakesPerAddress => "inbound handshakes from one address",
            Self::AcceptBacklog => "connections that wait to be accepted",
        }
    }

    /// What happens to a connection beyond the limit.
    fn consequence(self) -> &'static str {
        match self {
            Self::Connections | Self::ConnectionsPerAddress => "refused",
            Self::Handshakes | Self::HandshakesPerAddress => "ignored",
            Self::AcceptBacklog => "closed with 0x1001",
        }
    }

    /// What counts the connections beyond the limit.
    pub(crate) fn counter(self) -> fn(&Totals) -> &AtomicU64 {
        match self {
            Self::Connections => |totals| &totals.refused_connections,
            Self::ConnectionsPerAddress => |totals| &totals.refused_connections_per_address,
            Self::Handshakes => |totals| &totals.ignored_handshakes,
            Self::HandshakesPerAddress => |totals| &totals.ignored_handshakes_per_address,
            Self::AcceptBacklog => |totals| &totals.refused_accept_backlog,
        }
    }

    /// The configured value. `None` is a limit that is off, which is never reached.
    pub(crate) fn value(self, config: &Config) -> Option<usize> {
        match self {
            Self::Connections => config.max_connections,
            Self::ConnectionsPerAddress => config.max_connections_per_address,
            Self::Handshakes => Some(config.max_handshakes),
            Self::HandshakesPerAddress => Some(config.max_handshakes_per_address),
            Self::AcceptBacklog => Some(config.max_accept_backlog),
        }
    }
}

/// A connection that exceeded a limit.
pub(crate) struct Excess {
    pub(crate) limit: Limit,
    /// The configured value of the limit.
    pub(crate) value: Option<usize>,
    pub(crate) remote: SocketAddr,
    /// The address of the listener.
    pub(crate) local: SocketAddr,
}

#[derive(Clone, Copy, Debug, Default)]
struct Line {
    last: Option<Instant>,
    /// Events since the last line.
    events: u64,
}

impl Line {
    /// How long ago the last line was logged, if a new one is due. Zero for the first.
    fn due(&self, now: Instant) -> Option<Duration> {
        let Some(last) = self.last else {
            return Some(Duration::ZERO);
        };
        let since = now.saturating_duration_since(last);
        (since >= INTERVAL).then_some(since)
    }
}

#[derive(Debug, Default)]
pub(crate) struct LimitLog([Line; Limit::COUNT]);

impl LimitLog {
    /// `max_handshakes` are in flight, so quinn-proto drops Initial packets of new connections now.
    pub(crate) fn note_full(&mut self, now: Instant, max_handshakes: usize, local: SocketAddr) {
        let line = &mut self.0[Limit::Handshakes as usize];
        if line.due(now).is_some() {
            line.last = Some(now);
            let (subject, local) = (Limit::Handshakes.subject(), Multiaddr(local));
            tracing::warn!(
                "{subject} reached max_handshakes = {max_handshakes} (listening on {local}): first packets are \
                 dropped until handshakes end"
            );
        }
    }

    /// A connection exceeded a limit.
    pub(crate) fn note(&mut self, now: Instant, excess: &Excess) {
        let limit = excess.limit;
        let (subject, field, consequence) = (limit.subject(), limit.field(), limit.consequence());
        let (remote, local) = (Multiaddr(excess.remote), Multiaddr(excess.local));
        let value = excess.value.unwrap_or_default();
        tracing::debug!("connection {consequence}: {remote}, {field} = {value} is reached");
        let line = &mut self.0[limit as usize];
        line.events += 1;
        let Some(since) = line.due(now) else {
            return;
        };
        line.last = Some(now);
        let events = std::mem::take(&mut line.events);
        let period = match since.as_secs() {
            0 => String::new(),
            seconds => format!(" in the last {seconds} s"),
        };
        tracing::warn!(
            "{subject} reached {field} = {value} (listening on {local}): {events} {consequence}{period}, \
             the last from {remote}"
        );
    }
}
