//! The first bytes of a client's handshake. Nothing may panic, and of a message that rustls accepts
//! the same protocols are read.

use libp2p_quic_engine::tls::client_hello::{self, ClientHello};
use rustls::server::Acceptor;

/// The longest record of TLS over TCP. RFC 8446 section 5.1.
const RECORD: usize = 1 << 14;

pub(crate) fn run(data: &[u8]) {
    let read = client_hello::read(data);
    if let ClientHello::Partial { length } = read {
        match length {
            None => assert!(data.len() < 4),
            Some(length) => assert!(length > data.len()),
        }
    }
    let offered = match read {
        ClientHello::Whole(protocols) => {
            let offered: Vec<&[u8]> = protocols.iter().collect();
            assert!(offered.iter().all(|name| protocols.contains(name)));
            assert!(offered.iter().all(|name| !name.is_empty()));
            Some(offered)
        }
        _ => None,
    };
    if let Some(expected) = by_rustls(data) {
        let expected: Vec<&[u8]> = expected.iter().map(Vec::as_slice).collect();
        assert_eq!(offered, Some(expected), "rustls reads other protocols");
    }
}

/// What rustls reads in a message that it accepts, as TLS over TCP carries it.
pub(crate) fn by_rustls(message: &[u8]) -> Option<Vec<Vec<u8>>> {
    let mut acceptor = Acceptor::default();
    for part in message.chunks(RECORD) {
        let length = u16::try_from(part.len()).ok()?.to_be_bytes();
        let record = [&[22, 3, 1][..], &length, part].concat();
        let mut unread = &record[..];
        while !unread.is_empty() {
            acceptor.read_tls(&mut unread).ok()?;
        }
        if let Some(accepted) = acceptor.accept().ok()? {
            let offered = accepted.client_hello().alpn();
            return Some(offered.into_iter().flatten().map(<[u8]>::to_vec).collect());
        }
    }
    None
}
