//! The request for a session, extended CONNECT (RFC 9220, draft-ietf-webtrans-http3 section 3.2), and how a
//! server answers this and every other request.

use crate::{
    error_code,
    field_section::{self, Field},
    frame,
    message::{Malformed, Message},
    settings::Settings,
};

/// The path at which libp2p's nodes take sessions, in which Noise proves the identities.
pub const PATH: &str = "/.well-known/libp2p-webtransport?type=noise";

/// The `:protocol` of all drafts before 15; browsers send it.
const WEBTRANSPORT: &str = "webtransport";
/// The `:protocol` since draft 15; go-libp2p sends it.
const WEBTRANSPORT_H3: &str = "webtransport-h3";
/// A client of draft 02 asks by this field for an answer of draft 02 (its section 3.3).
const DRAFT_02: &str = "sec-webtransport-http3-draft02";

/// Whether a request's path is libp2p's: [`PATH`], with any other parameters.
#[must_use]
pub fn is_libp2p_path(path: &str) -> bool {
    let Some((resource, query)) = path.split_once('?') else {
        return false;
    };
    let (wanted, parameter) = PATH.split_once('?').unwrap_or((PATH, ""));
    resource == wanted && query.split('&').any(|each| each == parameter)
}

/// A request for a session that the server accepts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Connect {
    /// The client speaks draft 02 and wants to see it in the response.
    pub(crate) wants_draft_02: bool,
}

/// A request that the server answers with this status.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Refused {
    pub(crate) status: u16,
    /// The code with which the rest of the request is stopped (RFC 9114 section 4.1.2).
    pub(crate) code: u64,
}

impl Refused {
    /// The request is valid, and this is its answer.
    pub(crate) fn status(status: u16) -> Self {
        Self {
            status,
            code: error_code::H3_NO_ERROR,
        }
    }
}

impl From<Malformed> for Refused {
    fn from(_: Malformed) -> Self {
        Self {
            status: 400,
            code: error_code::H3_MESSAGE_ERROR,
        }
    }
}

/// Append the HEADERS frame that asks a server with these settings for a session.
pub(crate) fn write(out: &mut Vec<u8>, authority: &str, path: &str, settings: &Settings) {
    let protocol = if settings.is_draft_15() {
        WEBTRANSPORT_H3
    } else {
        WEBTRANSPORT
    };
    let mut fields = vec![
        (":method", "CONNECT"),
        (":scheme", "https"),
        (":authority", authority),
        (":path", path),
        (":protocol", protocol),
    ];
    if settings.is_draft_02() {
        fields.push((DRAFT_02, "1"));
    }
    let mut section = Vec::new();
    field_section::write(&mut section, &fields);
    frame::write(out, frame::HEADERS, &section);
}

/// Read a request. `accepts` says for which paths there are sessions.
pub(crate) fn read(fields: Vec<Field>, accepts: fn(&str) -> bool) -> Result<Connect, Refused> {
    let message = Message::check(
        fields,
        &[":method", ":scheme", ":authority", ":path", ":protocol"],
    )?;
    let required = |name| message.get(name).filter(|value| !value.is_empty());
    let method = required(":method").ok_or(Malformed("a request has no method"))?;
    let authority = required(":authority").or_else(|| required("host"));
    let authority = authority.ok_or(Malformed("a request has no authority"))?;
    if message.get("host").is_some_and(|host| host != authority) {
        return Err(Malformed("the fields :authority and host differ").into());
    }
    // A host and a port, without the name of a user (RFC 9114 section 4.3.1).
    if authority.contains(['/', '?', '#', '@', '\\', ' ']) {
        return Err(Malformed("the authority of a request is more than host and port").into());
    }
    let scheme = required(":scheme");
    let path = required(":path");
    let protocol = required(":protocol");
    if method == "CONNECT" && message.get(":protocol").is_none() {
        // A tunnel to another host (RFC 9114 section 4.4).
        return Err(match (scheme, path) {
            (None, None) => Refused::status(501),
            _ => Malformed("a CONNECT request has a scheme or a path").into(),
        });
    }
    let (Some(scheme), Some(path)) = (scheme, path) else {
        return Err(Malformed("a request has no scheme or no path").into());
    };
    if scheme == "https" && !path.starts_with('/') && path != "*" {
        return Err(Malformed("the path of a request is not absolute").into());
    }
    if method != "CONNECT" {
        if protocol.is_some() {
            return Err(Malformed("a request other than CONNECT has a protocol").into());
        }
        return Err(Refused::status(if accepts(path) { 405 } else { 404 }));
    }
    // RFC 9220 section 3.
    if !matches!(protocol, Some(WEBTRANSPORT | WEBTRANSPORT_H3)) {
        return Err(Refused::status(501));
    }
    if scheme != "https" {
        return Err(Malformed("a session is asked for by another scheme than https").into());
    }
    if !accepts(path) {
        return Err(Refused::status(404));
    }
    Ok(Connect {
        wants_draft_02: message.get(DRAFT_02) == Some("1"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONNECT: [(&str, &str); 5] = [
        (":method", "CONNECT"),
        (":scheme", "https"),
        (":authority", "192.0.2.1:4001"),
        (":path", PATH),
        (":protocol", "webtransport"),
    ];
    const MALFORMED: Result<Connect, Refused> = Err(Refused {
        status: 400,
        code: error_code::H3_MESSAGE_ERROR,
    });

    fn judged(fields: &[(&str, &str)]) -> Result<Connect, Refused> {
        let mut section = Vec::new();
        field_section::write(&mut section, fields);
        read(
            field_section::read(&section).expect("our own"),
            is_libp2p_path,
        )
    }

    /// `CONNECT` with one field changed, or without it.
    fn changed(name: &str, value: Option<&str>) -> Result<Connect, Refused> {
        let fields: Vec<_> = CONNECT
            .into_iter()
            .filter_map(|field| {
                if field.0 == name {
                    Some((field.0, value?))
                } else {
                    Some(field)
                }
            })
            .collect();
        judged(&fields)
    }

    #[test]
    fn both_protocols_are_accepted() {
        for protocol in ["webtransport", "webtransport-h3"] {
            assert_eq!(
                changed(":protocol", Some(protocol)),
                Ok(Connect {
                    wants_draft_02: false
                })
            );
        }
    }

    /// Chrome and Firefox send this field, and `origin`.
    #[test]
    fn draft_02_is_answered_if_it_is_asked_for() {
        let fields = [
            &CONNECT[..],
            &[(DRAFT_02, "1"), ("origin", "http://localhost:8000")],
        ]
        .concat();
        assert_eq!(
            judged(&fields),
            Ok(Connect {
                wants_draft_02: true
            })
        );
    }

    #[test]
    fn other_requests_get_their_status() {
        let status = |status| Err(Refused::status(status));
        assert_eq!(changed(":path", Some("/")), status(404));
        assert_eq!(
            changed(":path", Some("/.well-known/libp2p-webtransport")),
            status(404)
        );
        assert_eq!(
            changed(":path", Some("/.well-known/libp2p-webtransport?type=tls")),
            status(404)
        );
        assert_eq!(changed(":protocol", Some("websocket")), status(501));
        assert_eq!(changed(":protocol", Some("")), status(501));
        let get = |path| {
            [
                (":method", "GET"),
                (":scheme", "https"),
                (":authority", "a"),
                (":path", path),
            ]
        };
        assert_eq!(judged(&get("/")), status(404));
        assert_eq!(judged(&get(PATH)), status(405));
        assert_eq!(
            judged(&[(":method", "CONNECT"), (":authority", "a:1")]),
            status(501)
        );
    }

    #[test]
    fn malformed_requests_are_refused() {
        for name in [":method", ":scheme", ":authority", ":path"] {
            assert_eq!(changed(name, None), MALFORMED, "{name}");
            assert_eq!(changed(name, Some("")), MALFORMED, "{name}");
        }
        for authority in ["a/b", "a?b", "a#b", "user@a", "a b"] {
            assert_eq!(changed(":authority", Some(authority)), MALFORMED);
        }
        assert!(changed(":authority", Some("[2001:db8::1]:4001")).is_ok());
        assert_eq!(changed(":protocol", None), MALFORMED);
        assert_eq!(changed(":scheme", Some("http")), MALFORMED);
        assert_eq!(changed(":path", Some("libp2p")), MALFORMED);
        assert_eq!(changed(":method", Some("GET")), MALFORMED);
        assert_eq!(
            judged(&[&CONNECT[..], &[("host", "other")]].concat()),
            MALFORMED
        );
        assert_eq!(judged(&[]), MALFORMED);
    }

    #[test]
    fn further_parameters_do_not_matter() {
        assert!(is_libp2p_path(PATH));
        assert!(is_libp2p_path(
            "/.well-known/libp2p-webtransport?a=b&type=noise"
        ));
        assert!(!is_libp2p_path(
            "/.well-known/libp2p-webtransport?type=noise2"
        ));
        assert!(!is_libp2p_path("/other?type=noise"));
    }

    #[test]
    fn a_client_asks_in_the_draft_of_the_server() {
        let asked = |offered: &[u64]| {
            let mut payload = vec![0x08, 1];
            for id in offered {
                crate::varint::write(&mut payload, *id);
                payload.push(1);
            }
            let mut out = Vec::new();
            write(
                &mut out,
                "a",
                PATH,
                &Settings::read(&payload).expect("valid"),
            );
            assert_eq!(
                usize::from(out[1] & 0x3f) << 8 | usize::from(out[2]),
                out.len() - 3
            );
            let fields = field_section::read(&out[3..]).expect("our own");
            let connect = read(fields.clone(), is_libp2p_path).expect("valid");
            (fields[4].value.clone().into_owned(), connect.wants_draft_02)
        };
        assert_eq!(asked(&[0x2b60_3742]), (b"webtransport".to_vec(), true));
        assert_eq!(asked(&[0x14e9_cd29]), (b"webtransport".to_vec(), false));
        assert_eq!(asked(&[0x2c7c_f000]), (b"webtransport-h3".to_vec(), false));
        assert_eq!(
            asked(&[0x2c7c_f000, 0x2b60_3742]),
            (b"webtransport-h3".to_vec(), true)
        );
    }
}
