//! What the system and the network say about a dial that nothing has answered: sends that are
//! refused, and ICMP messages about its datagrams. Decides when that ends the dial; an
//! established connection is none of its concern.

use std::{
    fmt::Write as _,
    net::SocketAddr,
    time::{Duration, Instant},
};

use nix::errno::Errno;
use parking_lot::Mutex;
use quinn_udp::Transmit;

use crate::{
    driver::{
        close_reason,
        network::{Network, Sending, SocketKey, Undelivered},
    },
    error::{CloseKind, ConnectionError, Party},
};

/// How long sends must be refused, with none accepted in between, before the dial ends: routes
/// may be missing for a moment while an interface comes up. Well below the second after which
/// the first probe would tell (RFC 9002 section 6.2.2).
const PERSISTENCE: Duration = Duration::from_millis(200);

/// How many ICMP messages end a dial, unless they are about the port. Routers send some for a
/// moment while routes change (RFC 1122 section 3.2.2.1).
const ROUTERS_ERRORS: u32 = 2;

/// More than any first flight needs; what is beyond is left to quinn-proto.
const MAX_REFUSED: usize = 8;

/// Of one dial, and shared by its attempts. The lock is a leaf.
pub(super) struct DialReport {
    remote: SocketAddr,
    said: Mutex<Said>,
}

#[derive(Default)]
struct Said {
    /// The destination connection ids of the first packet of each attempt: random (RFC 9000
    /// section 7.2), so who quotes one has seen a datagram of this dial.
    ids: Vec<Vec<u8>>,
    /// Datagrams that the system took.
    sent: u64,
    /// Nothing has gone out since then: a send was refused.
    refused_since: Option<Instant>,
    refused: Option<Refused>,
    /// ICMP messages that nothing listens on the port.
    ports_unreachable: u64,
    routers_errors: u32,
    /// The last error other than that.
    last: Option<Errno>,
    end: Option<ConnectionError>,
}

/// What was refused, to be sent again.
struct Refused {
    again_at: Instant,
    is_due: bool,
    datagrams: Vec<Vec<u8>>,
}

impl DialReport {
    pub(super) fn new(remote: SocketAddr) -> Self {
        Self {
            remote,
            said: Mutex::default(),
        }
    }

    /// When what was refused is to be sent again.
    pub(super) fn deadline(&self) -> Option<Instant> {
        let said = self.said.lock();
        let refused = said.refused.as_ref().filter(|refused| !refused.is_due);
        refused.map(|refused| refused.again_at)
    }

    /// Time has passed.
    pub(super) fn expire(&self, now: Instant) {
        if let Some(refused) = &mut self.said.lock().refused {
            refused.is_due = refused.again_at <= now;
        }
    }

    /// A network whose sends are noted here.
    pub(super) fn watch<'a>(&'a self, now: Instant, network: &'a mut dyn Network) -> Watched<'a> {
        Watched {
            report: self,
            now,
            network,
        }
    }

    /// Why the dial must end, once there is a reason.
    pub(super) fn end(&self) -> Option<ConnectionError> {
        self.said.lock().end.clone()
    }

    /// Note an ICMP message, if it is about a datagram of this dial. ICMP can be forged: only who
    /// saw a datagram can quote its id.
    pub(super) fn undelivered(&self, message: &Undelivered) -> bool {
        let (to, remote) = (message.to, self.remote);
        let mut said = self.said.lock();
        let id = destination_id(&message.quoted);
        let is_own = id.is_some_and(|id| said.ids.iter().any(|own| own == id));
        if !is_own || (to.ip(), to.port()) != (remote.ip(), remote.port()) {
            return false;
        }
        match message.error {
            // No end: a host whose process is about to start, or starts again, says the same.
            Errno::ECONNREFUSED => said.ports_unreachable += 1,
            error @ (Errno::EHOSTUNREACH
            | Errno::ENETUNREACH
            | Errno::EACCES
            | Errno::ENOPROTOOPT) => {
                said.last = Some(error);
                said.routers_errors += 1;
                if said.routers_errors >= ROUTERS_ERRORS {
                    said.end = Some(unreachable(Party::Network, error));
                }
            }
            // Too large, for instance: path MTU discovery finds that out by itself.
            error => said.last = Some(error),
        }
        true
    }

    /// The error of a dial that was not done in time, after so many datagrams had come.
    pub(super) fn handshake_timeout(&self, waited: Duration, received: u64) -> ConnectionError {
        let said = self.said.lock();
        let mut known = String::new();
        if said.ports_unreachable > 0 {
            let times = match said.ports_unreachable {
                1 => "once".to_owned(),
                times => format!("{times} times"),
            };
            let error = Errno::ECONNREFUSED;
            let what = "port unreachable: nothing listens there";
            let _ = write!(known, "; {what} ({error:?}), {times}");
        }
        if let Some(error) = said.last {
            let _ = write!(known, "; the system said last: {}", in_words(error));
        }
        close_reason::handshake_timeout(waited, said.sent, received, &known)
    }
}

impl Said {
    /// What became of a send.
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
            // It is kept, and sent when there is room.
            Sending::Blocked => self.sent += datagrams.len() as u64,
            Sending::Failed(error) => {
                self.last = Some(error);
                let Some(by) = blamed(error) else {
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
    /// Send again what was refused, when it is time. A network may duplicate any datagram, so the
    /// peer takes it even if QUIC repeats it too.
    pub(super) fn repeat_refused(&mut self, socket: SocketKey) {
        let refused = self.report.said.lock().refused.take_if(|it| it.is_due);
        for datagram in refused.into_iter().flat_map(|it| it.datagrams) {
            let transmit = Transmit {
                destination: self.report.remote,
                ecn: None,
                contents: &datagram,
                segment_size: None,
                src_ip: None,
            };
            // Noted. One that the socket does not take now is lost, like any other.
            let _ = self.send(socket, &transmit);
        }
    }
}

impl Network for Watched<'_> {
    fn send(&mut self, socket: SocketKey, transmit: &Transmit<'_>) -> Sending {
        let sending = self.network.send(socket, transmit);
        self.report.said.lock().note(self.now, transmit, sending);
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

/// A dial whose datagrams cannot get there.
fn unreachable(by: Party, error: Errno) -> ConnectionError {
    ConnectionError::new(by, CloseKind::Unreachable, None, in_words(error))
}

/// As the system's manual says it, with the name to search for.
fn in_words(error: Errno) -> String {
    format!("{} ({error:?})", error.desc().to_lowercase())
}

/// Who is to blame for a refused send, when the error is about where it should go.
fn blamed(error: Errno) -> Option<Party> {
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

    /// The beginning of a first packet.
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
        report.said.lock().note(now, &transmit, sending);
    }

    /// Whether the message is taken for one about this dial.
    fn told(report: &DialReport, error: Errno, quoted: &[u8]) -> bool {
        report.undelivered(&Undelivered {
            to: TO.into(),
            error,
            quoted: quoted.to_vec(),
        })
    }

    fn timeout(report: &DialReport) -> String {
        report.handshake_timeout(Duration::from_secs(2), 0).reason
    }

    #[test]
    fn only_messages_that_quote_a_datagram_of_the_dial_count() {
        let report = DialReport::new(TO.into());
        let own = packet(b"original");
        assert!(!told(&report, Errno::ECONNREFUSED, &own));
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
            assert!(!told(&report, Errno::EHOSTUNREACH, forged));
            assert!(!told(&report, Errno::ECONNREFUSED, forged));
        }
        assert_eq!(report.end(), None);
        let silent = "the peer did not answer within 2.0 s (1 datagrams sent, 0 received)";
        assert_eq!(timeout(&report), silent);
        assert!(told(&report, Errno::ECONNREFUSED, &own[..14]));
        assert!(timeout(&report).starts_with(silent));
        assert!(timeout(&report).ends_with("nothing listens there (ECONNREFUSED), once"));
    }

    #[test]
    fn a_port_unreachable_never_ends_a_dial_and_all_attempts_count() {
        let report = DialReport::new(TO.into());
        for id in [b"attempt1", b"attempt2", b"attempt3"] {
            sent(&report, Instant::now(), id, Sending::Sent);
            assert!(told(&report, Errno::ECONNREFUSED, &packet(id)));
        }
        assert!(told(&report, Errno::ECONNREFUSED, &packet(b"attempt1")));
        assert_eq!(report.end(), None);
        assert_eq!(
            timeout(&report),
            "the peer did not answer within 2.0 s (3 datagrams sent, 0 received); \
             port unreachable: nothing listens there (ECONNREFUSED), 4 times"
        );
    }

    #[test]
    fn a_routers_message_must_come_twice_and_one_about_sizes_does_not_count() {
        let report = DialReport::new(TO.into());
        sent(&report, Instant::now(), b"attempt1", Sending::Sent);
        sent(&report, Instant::now(), b"attempt2", Sending::Sent);
        for _ in 0..9 {
            assert!(told(&report, Errno::EMSGSIZE, &packet(b"attempt1")));
        }
        assert!(told(&report, Errno::EHOSTUNREACH, &packet(b"attempt1")));
        assert_eq!(report.end(), None);
        assert!(told(&report, Errno::EHOSTUNREACH, &packet(b"attempt2")));
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
    fn refusals_end_a_dial_only_when_they_last_and_are_about_the_address() {
        let (report, began) = (DialReport::new(TO.into()), Instant::now());
        let sent = |now, sending| {
            sent(&report, now, b"original", sending);
            report.end()
        };
        let refused = Sending::Failed(Errno::EPERM);
        // As often as it may be, at one moment.
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
