//! Collects errors about an unanswered dial: refused sends, and ICMP messages about its datagrams.
//! Decides when they end the dial. Established connections are not affected.

use std::{
    fmt::Write as _,
    net::SocketAddr,
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use quinn_udp::Transmit;

use crate::{
    driver::{
        close_reason,
        network::{Network, Sending, SocketKey, Undelivered},
    },
    errno::Errno,
    error::{CloseKind, ConnectionError, Party},
    shared::DialProgress,
};

/// How long all sends must be refused before the dial ends: routes may be missing for a moment
/// while an interface comes up. Well below the second after which the first probe is sent (RFC
/// 9002 section 6.2.2).
const PERSISTENCE: Duration = Duration::from_millis(200);

/// How many ICMP messages from routers end a dial. Routers send some for a moment while routes
/// change (RFC 1122 section 3.2.2.1).
const MAX_ROUTER_ERRORS: u32 = 2;

/// More than any first flight needs; further datagrams are left to quinn-proto.
const MAX_REFUSED: usize = 8;

/// The report of one dial, shared by its attempts. Its lock is a leaf.
pub(super) struct DialReport {
    remote: SocketAddr,
    began: Instant,
    observed: Mutex<Observed>,
}

#[derive(Default)]
struct Observed {
    /// The destination connection ids of the first packet of each attempt. They are random (RFC
    /// 9000 section 7.2), so a message that quotes one is from a host that saw the datagram.
    ids: Vec<Vec<u8>>,
    /// Datagrams that the system took.
    sent: u64,
    /// When sends began to be refused; `None` after one succeeded.
    refused_since: Option<Instant>,
    refused: Option<Refused>,
    /// ICMP port unreachable messages: nothing listens on the port, or a firewall or router rejects UDP.
    ports_unreachable: u64,
    router_errors: u32,
    /// The last other error.
    last: Option<Errno>,
    end: Option<ConnectionError>,
}

/// Datagrams that the system refused, to be sent again.
struct Refused {
    again_at: Instant,
    is_due: bool,
    datagrams: Vec<Vec<u8>>,
}

impl DialReport {
    pub(super) fn new(remote: SocketAddr, began: Instant) -> Self {
        Self {
            remote,
            began,
            observed: Mutex::default(),
        }
    }

    /// When to send refused datagrams again.
    pub(super) fn deadline(&self) -> Option<Instant> {
        let observed = self.observed.lock();
        let refused = observed.refused.as_ref().filter(|refused| !refused.is_due);
        refused.map(|refused| refused.again_at)
    }

    /// Note whether refused datagrams are due.
    pub(super) fn expire(&self, now: Instant) {
        if let Some(refused) = &mut self.observed.lock().refused {
            refused.is_due = refused.again_at <= now;
        }
    }

    /// A network that notes the results of its sends in this report.
    pub(super) fn watch<'a>(&'a self, now: Instant, network: &'a mut dyn Network) -> Watched<'a> {
        Watched {
            report: self,
            now,
            network,
        }
    }

    /// The error that must end the dial, if there is one.
    pub(super) fn end(&self) -> Option<ConnectionError> {
        self.observed.lock().end.clone()
    }

    /// Whether an ICMP message reported the port as unreachable.
    pub(super) fn is_port_unreachable(&self) -> bool {
        self.observed.lock().ports_unreachable > 0
    }

    /// Note an ICMP message; true if it is about a datagram of this dial. ICMP can be forged, but
    /// only a host that saw a datagram can quote its id.
    pub(super) fn undelivered(&self, message: &Undelivered) -> bool {
        let (to, remote) = (message.to, self.remote);
        let mut observed = self.observed.lock();
        let id = destination_id(&message.quoted);
        let is_own = id.is_some_and(|id| observed.ids.iter().any(|own| own == id));
        if !is_own || (to.ip(), to.port()) != (remote.ip(), remote.port()) {
            return false;
        }
        match message.error {
            // This does not end the dial: a host whose process is just starting sends it too.
            Errno::ECONNREFUSED => observed.ports_unreachable += 1,
            error @ (Errno::EHOSTUNREACH
            | Errno::ENETUNREACH
            | Errno::EACCES
            | Errno::ENOPROTOOPT) => {
                observed.last = Some(error);
                observed.router_errors += 1;
                if observed.router_errors >= MAX_ROUTER_ERRORS {
                    observed.end = Some(unreachable(Party::Network, error));
                }
            }
            // For instance EMSGSIZE, which path MTU discovery handles.
            error => observed.last = Some(error),
        }
        true
    }
}

impl DialProgress for DialReport {
    fn handshake_timeout(&self, now: Instant, received: u64) -> ConnectionError {
        let waited = now.saturating_duration_since(self.began);
        let observed = self.observed.lock();
        let mut details = String::new();
        if observed.ports_unreachable > 0 {
            let times = match observed.ports_unreachable {
                1 => "once".to_owned(),
                times => format!("{times} times"),
            };
            let error = Errno::ECONNREFUSED;
            let what = "port unreachable: nothing listens there, or a firewall rejects it";
            let _ = write!(details, "; {what} ({error:?}), {times}");
        }
        if let Some(error) = observed.last {
            let _ = write!(details, "; the system said last: {}", describe(error));
        }
        close_reason::handshake_timeout(waited, observed.sent, received, &details)
    }

    fn sent(&self) -> u64 {
        self.observed.lock().sent
    }
}

impl Observed {
    /// Note the result of a send.
    fn note(&mut self, now: Instant, transmit: &Transmit<'_>, sending: Sending) {
        if let Some(id) = destination_id(transmit.contents)
            && !self.ids.iter().any(|known| known == id)
        {
            self.ids.push(id.to_vec());
        }
        let size = transmit.segment_size.unwrap_or(transmit.contents.len());
        let datagrams = transmit.contents.chunks(size.max(1));
        match sending {
            Sending::Sent | Sending::SentSingly => {
                self.sent += datagrams.len() as u64;
                (self.refused_since, self.refused) = (None, None);
            }
            // It is stored, and sent when the socket is writable.
            Sending::Blocked => self.sent += datagrams.len() as u64,
            Sending::Failed(error) => {
                self.last = Some(error);
                let Some(by) = cause(error) else {
                    return;
                };
                let since = *self.refused_since.get_or_insert(now);
                if now.saturating_duration_since(since) >= PERSISTENCE {
                    self.end = Some(unreachable(by, error));
                    return;
                }
                let refused = self.refused.get_or_insert_with(|| Refused {
                    again_at: since + PERSISTENCE,
                    is_due: false,
                    datagrams: Vec::new(),
                });
                let room = MAX_REFUSED.saturating_sub(refused.datagrams.len());
                let datagrams = datagrams.take(room).map(<[u8]>::to_vec);
                refused.datagrams.extend(datagrams);
            }
        }
    }
}

/// A network as an attempt of a dial uses it.
pub(super) struct Watched<'a> {
    report: &'a DialReport,
    now: Instant,
    network: &'a mut dyn Network,
}

impl Watched<'_> {
    /// Send refused datagrams again if that is due. A network may duplicate any datagram, so it is
    /// harmless if quinn-proto sends them again too.
    pub(super) fn repeat_refused(&mut self, socket: SocketKey) {
        let refused = self.report.observed.lock().refused.take_if(|it| it.is_due);
        for datagram in refused.into_iter().flat_map(|it| it.datagrams) {
            let transmit = Transmit {
                destination: self.report.remote,
                ecn: None,
                contents: &datagram,
                segment_size: None,
                src_ip: None,
            };
            // `send` notes the result. A datagram that blocks now is lost, like any other.
            let _ = self.send(socket, &transmit);
        }
    }
}

impl Network for Watched<'_> {
    fn send(&mut self, socket: SocketKey, transmit: &Transmit<'_>) -> Sending {
        let sending = self.network.send(socket, transmit);
        self.report
            .observed
            .lock()
            .note(self.now, transmit, sending);
        sending
    }

    fn max_segments(&self, socket: SocketKey) -> usize {
        self.network.max_segments(socket)
    }

    fn report_undelivered(&mut self, socket: SocketKey, is_on: bool) {
        self.network.report_undelivered(socket, is_on);
    }

    fn close(&mut self, socket: SocketKey) {
        self.network.close(socket);
    }
}

/// The error of a dial whose datagrams cannot reach the peer.
fn unreachable(by: Party, error: Errno) -> ConnectionError {
    ConnectionError::new(by, CloseKind::Unreachable, None, describe(error))
}

/// The system's description of an error, with its symbol.
fn describe(error: Errno) -> String {
    format!("{} ({error:?})", error.desc().to_lowercase())
}

/// Who caused a refused send, if the error concerns its destination.
fn cause(error: Errno) -> Option<Party> {
    match error {
        Errno::ENETUNREACH | Errno::EHOSTUNREACH | Errno::ENETDOWN => Some(Party::Network),
        Errno::EACCES | Errno::EADDRNOTAVAIL | Errno::EINVAL | Errno::EPERM => Some(Party::Local),
        _ => None,
    }
}

/// The destination connection id of a packet with a long header (RFC 8999 section 5.1).
fn destination_id(packet: &[u8]) -> Option<&[u8]> {
    let (first, rest) = packet.split_first()?;
    let len = usize::from(*rest.get(4)?);
    let id = (first & 0x80 != 0).then(|| rest.get(5..5 + len))??;
    (!id.is_empty()).then_some(id)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TO: ([u8; 4], u16) = ([192, 0, 2, 1], 4001);

    /// The first packet of an attempt, with this destination connection id.
    fn packet(id: &[u8]) -> Vec<u8> {
        let mut packet = vec![0xc3, 0, 0, 0, 1, id.len() as u8];
        packet.extend_from_slice(id);
        packet.resize(1200, 0);
        packet
    }

    fn sent(report: &DialReport, now: Instant, id: &[u8], sending: Sending) {
        let transmit = Transmit {
            destination: TO.into(),
            ecn: None,
            contents: &packet(id),
            segment_size: None,
            src_ip: None,
        };
        report.observed.lock().note(now, &transmit, sending);
    }

    /// Whether the report accepts an ICMP message that quotes these bytes.
    fn accepts(report: &DialReport, error: Errno, quoted: &[u8]) -> bool {
        report.undelivered(&Undelivered {
            to: TO.into(),
            error,
            quoted: quoted.to_vec(),
        })
    }

    fn timeout(report: &DialReport) -> String {
        let after = report.began + Duration::from_secs(2);
        report.handshake_timeout(after, 0).reason
    }

    #[test]
    fn only_messages_that_quote_a_datagram_of_the_dial_count() {
        let report = DialReport::new(TO.into(), Instant::now());
        let own = packet(b"original");
        assert!(!accepts(&report, Errno::ECONNREFUSED, &own));
        sent(&report, Instant::now(), b"original", Sending::Sent);
        let elsewhere = Undelivered {
            to: ([192, 0, 2, 2], 4001).into(),
            error: Errno::ECONNREFUSED,
            quoted: own.clone(),
        };
        assert!(!report.undelivered(&elsewhere));
        for forged in [
            &packet(b"0riginal")[..],
            &packet(b"origina"),
            &packet(b""),
            &[],
            &own[..13],
            &[0x43; 64],
        ] {
            assert!(!accepts(&report, Errno::EHOSTUNREACH, forged));
            assert!(!accepts(&report, Errno::ECONNREFUSED, forged));
        }
        assert_eq!(report.end(), None);
        let silent = "the peer did not answer within 2.0 s (1 datagrams sent, 0 received)";
        assert_eq!(timeout(&report), silent);
        assert!(accepts(&report, Errno::ECONNREFUSED, &own[..14]));
        assert!(timeout(&report).starts_with(silent));
        assert!(
            timeout(&report)
                .ends_with("nothing listens there, or a firewall rejects it (ECONNREFUSED), once")
        );
    }

    #[test]
    fn a_port_unreachable_never_ends_a_dial_and_all_attempts_count() {
        let report = DialReport::new(TO.into(), Instant::now());
        for id in [b"attempt1", b"attempt2", b"attempt3"] {
            sent(&report, Instant::now(), id, Sending::Sent);
            assert!(accepts(&report, Errno::ECONNREFUSED, &packet(id)));
        }
        assert!(accepts(&report, Errno::ECONNREFUSED, &packet(b"attempt1")));
        assert_eq!(report.end(), None);
        assert_eq!(
            timeout(&report),
            "the peer did not answer within 2.0 s (3 datagrams sent, 0 received); \
             port unreachable: nothing listens there, or a firewall rejects it (ECONNREFUSED), 4 times"
        );
    }

    #[test]
    fn two_messages_of_routers_end_a_dial_and_those_about_sizes_do_not_count() {
        let report = DialReport::new(TO.into(), Instant::now());
        sent(&report, Instant::now(), b"attempt1", Sending::Sent);
        sent(&report, Instant::now(), b"attempt2", Sending::Sent);
        for _ in 0..9 {
            assert!(accepts(&report, Errno::EMSGSIZE, &packet(b"attempt1")));
        }
        assert!(accepts(&report, Errno::EHOSTUNREACH, &packet(b"attempt1")));
        assert_eq!(report.end(), None);
        assert!(accepts(&report, Errno::EHOSTUNREACH, &packet(b"attempt2")));
        let error = report.end().expect("an end");
        assert_eq!(
            (error.by, error.kind, error.reason.as_str()),
            (
                Party::Network,
                CloseKind::Unreachable,
                "no route to host (EHOSTUNREACH)"
            )
        );
    }

    #[test]
    fn refusals_end_a_dial_only_if_they_last_and_concern_the_address() {
        let (report, began) = (DialReport::new(TO.into(), Instant::now()), Instant::now());
        let sent = |now, sending| {
            sent(&report, now, b"original", sending);
            report.end()
        };
        let refused = Sending::Failed(Errno::EPERM);
        // Any number of refusals at one moment.
        for _ in 0..9 {
            assert_eq!(sent(began, refused), None);
        }
        assert_eq!(sent(began + PERSISTENCE / 2, Sending::Sent), None);
        let later = began + PERSISTENCE;
        assert_eq!(sent(later, Sending::Failed(Errno::ENOBUFS)), None);
        assert_eq!(sent(later, refused), None);
        assert_eq!(report.deadline(), Some(later + PERSISTENCE));
        let error = sent(later + PERSISTENCE, refused).expect("an end");
        assert_eq!(error.by, Party::Local);
        assert_eq!(error.reason, "operation not permitted (EPERM)");
        assert!(timeout(&report).contains("(1 datagrams sent, 0 received); the system said last"));
    }
}
