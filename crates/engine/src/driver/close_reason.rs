//! Translates quinn-proto's connection errors into [`ConnectionError`]: who ended the connection,
//! how, and with which code.

use std::time::Duration;

use quinn_proto::ConnectionError as Quinn;

use crate::{
    error::{CloseKind, ConnectionError, Party},
    tls::{Refusal, Verdict},
};

/// The transport error codes that carry TLS alerts (RFC 9001 section 4.8).
const CRYPTO_ERRORS: std::ops::Range<u64> = 0x100..0x200;

/// RFC 9000 section 20.1.
const CONNECTION_REFUSED: u64 = 0x2;

/// The reason shown for CONNECTION_REFUSED without one; quinn-proto never sends one.
const AT_A_LIMIT: &str = "it takes no connection from here now: it has too many, in all or from \
     this address, or its operator denies the address";

/// `was_connected`: our side had completed the handshake. `is_confirmed`: both sides had (RFC 9001
/// section 4.1.2), so that the peer no longer refuses it.
pub(super) fn from_quinn(
    reason: Quinn,
    was_connected: bool,
    is_confirmed: bool,
    verdict: Option<&Verdict>,
) -> ConnectionError {
    if let Some(refusal) = verdict.and_then(Verdict::refusal) {
        return refused_here(refusal, &reason);
    }
    match reason {
        Quinn::ApplicationClosed(close) => ConnectionError::new(
            Party::Peer,
            CloseKind::Closed,
            Some(close.error_code.into_inner()),
            String::from_utf8_lossy(&close.reason),
        ),
        Quinn::ConnectionClosed(close) => {
            let code = u64::from(close.error_code);
            let is_refusal =
                !is_confirmed && (CRYPTO_ERRORS.contains(&code) || code == CONNECTION_REFUSED);
            let kind = if is_refusal {
                CloseKind::Refused
            } else {
                CloseKind::Transport
            };
            let sent = String::from_utf8_lossy(&close.reason);
            let sent = readable(&sent);
            let reason = if sent.is_empty() && is_refusal && code == CONNECTION_REFUSED {
                AT_A_LIMIT.to_owned()
            } else if sent.is_empty() {
                close.error_code.to_string()
            } else {
                sent.to_owned()
            };
            ConnectionError::new(Party::Peer, kind, Some(code), reason)
        }
        Quinn::TransportError(error) => {
            let code = u64::from(error.code);
            let kind = if CRYPTO_ERRORS.contains(&code) && !was_connected {
                CloseKind::Refused
            } else {
                CloseKind::Transport
            };
            ConnectionError::new(Party::Local, kind, Some(code), readable(&error.reason))
        }
        Quinn::Reset => ConnectionError::new(
            Party::Peer,
            CloseKind::StatelessReset,
            None,
            "it has probably restarted",
        ),
        Quinn::TimedOut => ConnectionError::new(
            Party::Network,
            CloseKind::IdleTimeout,
            None,
            "nothing heard from the peer",
        ),
        Quinn::VersionMismatch => ConnectionError::new(
            Party::Peer,
            CloseKind::Version,
            None,
            "the peer does not speak QUIC version 1",
        ),
        Quinn::LocallyClosed => ConnectionError::closed_here(0, b""),
        Quinn::CidsExhausted => ConnectionError::internal("out of connection ids"),
    }
}

/// The error with its reason in one line that no terminal acts on, unless the reason is this program's
/// own. Errors are logged and printed, and a peer could forge lines and send escape sequences.
pub(super) fn printable(mut error: ConnectionError) -> ConnectionError {
    let is_own = error.by == Party::Local && error.kind == CloseKind::Closed;
    if !is_own && error.reason.chars().any(is_unprintable) {
        let shown = |c: char| match is_unprintable(c) {
            true => c.escape_default().to_string(),
            false => c.to_string(),
        };
        error.reason = error.reason.chars().map(shown).collect();
    }
    error
}

/// Control characters, ends of lines and paragraphs, and changes of the writing direction.
fn is_unprintable(c: char) -> bool {
    match c {
        '\u{61c}' | '\u{200e}' | '\u{200f}' => true,
        '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => true,
        _ => c.is_control(),
    }
}

/// A verifier's own error without the debug text of Rust that rustls puts around it. Peers with
/// rustls send that text as the reason of their close.
fn readable(reason: &str) -> &str {
    reason
        .strip_prefix("invalid peer certificate: Other(OtherError(")
        .and_then(|rest| rest.strip_suffix("))"))
        .unwrap_or(reason)
}

/// The handshake timed out after `waited`. `sent` and `received` count datagrams; `details` is
/// appended to the reason.
pub(super) fn handshake_timeout(
    waited: Duration,
    sent: u64,
    received: u64,
    details: &str,
) -> ConnectionError {
    let what = match received {
        0 => "the peer did not answer",
        _ => "the peer did not complete the handshake",
    };
    let waited = waited.as_secs_f64();
    let reason = format!(
        "{what} within {waited:.1} s ({sent} datagrams sent, {received} received){details}"
    );
    ConnectionError::new(Party::Network, CloseKind::HandshakeTimeout, None, reason)
}

fn refused_here(refusal: &Refusal, reason: &Quinn) -> ConnectionError {
    let code = match reason {
        Quinn::TransportError(error) => Some(u64::from(error.code)),
        _ => None,
    };
    let kind = match refusal {
        Refusal::PeerIdMismatch { .. } => CloseKind::PeerIdMismatch,
        Refusal::Certificate(_) | Refusal::CertificateHash | Refusal::WebCertificateValidity => {
            CloseKind::Refused
        }
    };
    let message = match refusal {
        Refusal::PeerIdMismatch { expected, actual } => {
            format!("expected {expected}, got {actual}")
        }
        _ => refusal.to_string(),
    };
    ConnectionError::new(Party::Local, kind, code, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_has_no_debug_text() {
        let told =
            "invalid peer certificate: Other(OtherError(Peer ID mismatch: expected a (or b)))";
        assert_eq!(readable(told), "Peer ID mismatch: expected a (or b)");
        let fixed = "invalid peer certificate: BadEncoding";
        assert_eq!(readable(fixed), fixed);
    }

    #[test]
    fn an_alert_refuses_a_handshake_until_it_is_confirmed() {
        let close = || {
            Quinn::ConnectionClosed(quinn_proto::ConnectionClose {
                error_code: quinn_proto::TransportErrorCode::crypto(80),
                frame_type: None,
                reason: bytes::Bytes::new(),
            })
        };
        for (is_confirmed, kind) in [(false, CloseKind::Refused), (true, CloseKind::Transport)] {
            let error = from_quinn(close(), true, is_confirmed, None);
            let told = (error.by, error.kind, error.code);
            assert_eq!(told, (Party::Peer, kind, Some(0x150)));
        }
    }

    #[test]
    fn only_the_reasons_of_others_are_made_printable() {
        let reason = "a\r\n\u{7f}\u{2066}\u{fc}";
        let peer = |kind| ConnectionError::new(Party::Peer, kind, None, reason);
        for kind in [CloseKind::Closed, CloseKind::Transport] {
            let shown = "a\\r\\n\\u{7f}\\u{2066}\u{fc}";
            assert_eq!(printable(peer(kind)).reason, shown);
        }
        let own = ConnectionError::closed_here(0, reason.as_bytes());
        assert_eq!(printable(own).reason, reason);
    }
}
