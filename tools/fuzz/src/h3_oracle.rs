//! libFuzzer's entry for `h3_oracle`: our codec of HTTP/3 and WebTransport against web-transport-proto, another
//! implementation. Where both accept, they must mean the same; where only one does, the difference must be known.
#![no_main]

#[path = "../../../crates/engine/tests/fuzzed/bytes.rs"]
#[allow(dead_code)]
mod bytes;
#[path = "../../../crates/webtransport/tests/connection/peer.rs"]
#[allow(dead_code)]
mod peer;

use std::cell::RefCell;

use bytes::Bytes;
use libp2p_quic_webtransport::{
    ClientConfig, Connection, Event, Opening, Output, ServerConfig, SessionEnd, error_code, varint,
};
use peer::{Peer, stream};
use web_transport_proto::{
    Capsule, ConnectError, ConnectRequest, ConnectResponse, Setting, Settings, error_from_http3,
    error_to_http3,
};

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let mut data = Bytes(data);
    match data.u8() % 5 {
        0 => settings(data.rest()),
        1 => request(data.rest()),
        2 => our_request(&mut data),
        3 => capsules(data.rest()),
        _ => error_codes(&mut data),
    }
});

/// A type, a length, and a value.
fn item(kind: u64, value: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    varint::write(&mut out, kind);
    varint::write(&mut out, value.len() as u64);
    out.extend_from_slice(value);
    out
}

/// Do what a connection asks for, and return what it wrote, what it reported and how it closed.
fn outputs(connection: &mut Connection) -> (Vec<u8>, Vec<Event>, Option<u64>) {
    let (mut written, mut events, mut closed) = (Vec::new(), Vec::new(), None);
    while let Some(output) = connection.poll() {
        match output {
            Output::Open(Opening::Control) => connection.opened(Opening::Control, stream(2)),
            Output::Open(Opening::Connect) => connection.opened(Opening::Connect, stream(0)),
            Output::Write { stream, bytes, .. } if stream == peer::stream(0) => {
                written.extend(bytes)
            }
            Output::Event(event) => events.push(event),
            Output::Close { code, .. } => closed = Some(code),
            Output::Write { .. } | Output::Reset { .. } | Output::Stop { .. } => {}
        }
    }
    (written, events, closed)
}

fn client(authority: &str, path: &str, settings: &[u8]) -> (Vec<u8>, Option<u64>) {
    let mut client = Connection::client(ClientConfig {
        authority: authority.to_owned(),
        path: path.to_owned(),
    });
    outputs(&mut client);
    client.receive(stream(3), settings, false);
    let (request, _, closed) = outputs(&mut client);
    (request, closed)
}

fn settings(payload: &[u8]) {
    let bytes = [&[0][..], &item(4, payload)].concat();
    let (request, closed) = client("a", "/", &bytes);
    let theirs = Settings::decode(&mut &bytes[..]);
    match closed {
        // They take a setting twice, and those of HTTP/2, and flags of any value; and more of them.
        Some(error_code::H3_SETTINGS_ERROR | error_code::H3_EXCESSIVE_LOAD) => return,
        Some(error_code::H3_FRAME_ERROR) => return assert!(theirs.is_err()),
        Some(error_code::WT_REQUIREMENTS_NOT_MET) | None => {}
        Some(code) => panic!("{code:#x}"),
    }
    let theirs = theirs.expect("we accept it");
    let has_connect = theirs
        .get(&Setting::ENABLE_CONNECT_PROTOCOL)
        .is_some_and(|flag| flag.into_inner() == 1);
    if theirs.supports_webtransport() > 0 && has_connect {
        assert!(!request.is_empty());
    }
}

thread_local! {
    /// The path of the request that our server read last.
    static PATH: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// What our server does with a request: the path that it read, its response, and the error of the connection.
fn served(bytes: &[u8]) -> (Option<String>, Vec<u8>, Option<u64>, bool) {
    PATH.set(None);
    let mut server = Connection::server(ServerConfig {
        accepts: |path| {
            PATH.set(Some(path.to_owned()));
            true
        },
    });
    server.receive(stream(2), &[0, 4, 0], false);
    server.receive(stream(0), bytes, false);
    let (response, events, closed) = outputs(&mut server);
    let is_established = matches!(events[..], [Event::Established { .. }]);
    (PATH.take(), response, closed, is_established)
}

fn request(section: &[u8]) {
    let bytes = item(1, section);
    let (path, response, _, is_established) = served(&bytes);
    let theirs = ConnectRequest::decode(&mut &bytes[..]);
    // They accept more of QPACK: any Required Insert Count, and any padding of Huffman's code.
    if !is_established {
        return;
    }
    let theirs_response = ConnectResponse::decode(&mut &response[..]).expect("our response");
    assert_eq!(theirs_response.status.as_u16(), 200);
    match theirs {
        Ok(theirs) => {
            // A URL changes paths: it resolves dots, and drops fragments.
            let path = path.expect("it was asked for");
            let is_plain = path
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || b"/?=-".contains(&byte));
            if is_plain && !path.starts_with("//") {
                let query = theirs
                    .url
                    .query()
                    .map(|query| format!("?{query}"))
                    .unwrap_or_default();
                assert_eq!(path, format!("{}{query}", theirs.url.path()));
            }
        }
        // They know one token, no text that is not UTF-8, and no authority or field that their crates refuse.
        Err(
            ConnectError::WrongProtocol(_)
            | ConnectError::WrongAuthority
            | ConnectError::InvalidProtocol
            | ConnectError::InvalidUrl(_)
            | ConnectError::InvalidHttpHeaderName
            | ConnectError::InvalidHttpHeaderValue,
        ) => {}
        Err(ConnectError::QpackError(error)) => {
            assert!(error.to_string().contains("utf"), "{error}")
        }
        Err(error) => panic!("{error}"),
    }
}

/// Our request, read by them, written by them, and read by us again.
fn our_request(data: &mut Bytes<'_>) {
    const LETTERS: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz012345";
    let mut text = |len: usize| -> String {
        let bytes = data.take(len).iter();
        bytes
            .map(|byte| char::from(LETTERS[usize::from(byte % 32)]))
            .collect()
    };
    let authority = format!("a{}:4001", text(20));
    let path = format!("/{}?type={}", text(40), text(300));
    // A server of draft 02, as they know its token only.
    let (request, closed) = client(&authority, &path, &[0, 4, 5, 0xab, 0x60, 0x37, 0x42, 1]);
    assert_eq!(closed, None);
    let theirs = ConnectRequest::decode(&mut &request[..]).expect("our request");
    assert_eq!(theirs.url.authority(), authority);
    assert_eq!(
        format!("{}?{}", theirs.url.path(), theirs.url.query().unwrap_or("")),
        path
    );
    let mut again = Vec::new();
    theirs.encode(&mut again).expect("their own request");
    let (read, _, closed, is_established) = served(&again);
    assert_eq!((read, closed, is_established), (Some(path), None, true));
}

fn capsules(data: &[u8]) {
    let mut server = Peer::serving();
    server.receive(stream(0), &item(0, data), false);
    let ours = server.events.iter().find_map(|event| match event {
        Event::Ended { end, .. } => Some(end.clone()),
        _ => None,
    });
    let mut rest = data;
    loop {
        match Capsule::decode(&mut rest) {
            // They allow 64 KiB.
            Ok(Capsule::CloseWebTransportSession { reason, .. }) if reason.len() > 1024 => return,
            Ok(Capsule::CloseWebTransportSession { code, reason }) => {
                return assert_eq!(ours, Some(SessionEnd::Closed { code, reason }));
            }
            Ok(_) => {}
            // Cut off, or a reason that is no text, which we take with replacements.
            Err(_) => return,
        }
        if rest.is_empty() {
            return assert_eq!(ours, None);
        }
    }
}

fn error_codes(data: &mut Bytes<'_>) {
    let number = data.number();
    let code = number as u32;
    assert_eq!(error_code::from_application(code), error_to_http3(code));
    for code in [number, error_to_http3(code), error_to_http3(code) + 1] {
        // They give the reserved codes, which we refuse, the meaning of the code before.
        if let Some(ours) = error_code::to_application(code) {
            assert_eq!(error_from_http3(code), Some(ours));
        }
    }
}
