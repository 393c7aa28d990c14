//! Initial packets of dialers that never go on: sound on the wire, one ClientHello for all of
//! them, and a connection of its own for each. Nothing here reads an answer.

use std::{ops::Range, sync::Arc};

use rustls::{
    ClientConfig, RootCertStore,
    crypto::{CryptoProvider, aws_lc_rs, ring},
    pki_types::ServerName,
    quic::{ClientConnection, Suite, Version},
    version::TLS13,
};

/// Smallest datagram that may carry an Initial packet (RFC 9000 section 14.1).
const DATAGRAM: usize = 1200;

/// Transport parameters as most would send them, less the connection id that each packet has.
const PARAMETERS: [(u64, u64); 4] = [
    (0x01, 30_000),
    (0x04, 1 << 20),
    (0x06, 1 << 18),
    (0x08, 100),
];

/// What a forged dialer says, and the keys of its packets.
pub(crate) struct Forge {
    hello: Vec<u8>,
    source: Vec<u8>,
    suite: Suite,
}

impl Forge {
    /// A dialer whom a server would answer.
    pub(crate) fn sound() -> Self {
        Self::saying(b"libp2p", &PARAMETERS)
    }

    /// A dialer with this ALPN, and these transport parameters as numbers.
    pub(crate) fn saying(alpn: &[u8], parameters: &[(u64, u64)]) -> Self {
        let source = vec![7; 8];
        let mut encoded = Vec::new();
        for (id, value) in parameters {
            varint(&mut encoded, *id);
            let mut content = Vec::new();
            varint(&mut content, *value);
            varint(&mut encoded, content.len() as u64);
            encoded.extend(content);
        }
        // initial_source_connection_id (RFC 9000 section 18.2).
        varint(&mut encoded, 0x0f);
        varint(&mut encoded, source.len() as u64);
        encoded.extend(&source);
        let provider = Arc::new(CryptoProvider {
            // A key share short enough for one datagram.
            kx_groups: vec![aws_lc_rs::kx_group::X25519],
            ..ring::default_provider()
        });
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&TLS13])
            .expect("a provider for TLS 1.3")
            .with_root_certificates(RootCertStore::empty())
            .with_no_client_auth();
        config.alpn_protocols = vec![alpn.to_vec()];
        config.enable_sni = false;
        let name = ServerName::try_from("libp2p").expect("a name");
        let mut client =
            ClientConnection::new(Arc::new(config), Version::V1, name, encoded).expect("a client");
        let mut hello = Vec::new();
        client.write_hs(&mut hello);
        let suite = ring::cipher_suite::TLS13_AES_128_GCM_SHA256
            .tls13()
            .and_then(rustls::Tls13CipherSuite::quic_suite)
            .expect("QUIC's first suite");
        Self {
            hello,
            source,
            suite,
        }
    }

    /// How long its ClientHello is.
    pub(crate) fn hello(&self) -> usize {
        self.hello.len()
    }

    /// The dialer's packet with this number, with a part of its ClientHello.
    pub(crate) fn initial(
        &self,
        id: &[u8],
        token: &[u8],
        number: u32,
        part: Range<usize>,
    ) -> Vec<u8> {
        let mut frames = vec![0x06];
        varint(&mut frames, part.start as u64);
        varint(&mut frames, part.len() as u64);
        frames.extend(&self.hello[part]);
        self.seal(id, token, number, frames)
    }

    /// The dialer's packet with the whole ClientHello.
    pub(crate) fn whole(&self, id: &[u8], token: &[u8]) -> Vec<u8> {
        self.initial(id, token, 0, 0..self.hello.len())
    }

    fn seal(&self, id: &[u8], token: &[u8], number: u32, mut frames: Vec<u8>) -> Vec<u8> {
        let keys = self.suite.keys(id, rustls::Side::Client, Version::V1);
        let tag = keys.local.packet.tag_len();
        let mut packet = vec![0xc3, 0, 0, 0, 1, id.len() as u8];
        packet.extend(id);
        packet.push(self.source.len() as u8);
        packet.extend(&self.source);
        varint(&mut packet, token.len() as u64);
        packet.extend(token);
        // A length in two bytes and a packet number in four.
        let head = packet.len() + 2 + 4;
        frames.resize(frames.len().max(DATAGRAM.saturating_sub(head + tag)), 0);
        let length = (4 + frames.len() + tag) as u16;
        packet.extend((0x4000 | length).to_be_bytes());
        packet.extend(number.to_be_bytes());
        let seal = keys
            .local
            .packet
            .encrypt_in_place(number.into(), &packet, &mut frames)
            .expect("room for a seal");
        packet.extend(&frames);
        packet.extend(seal.as_ref());
        let (start, rest) = packet.split_at_mut(head);
        let sample = rest[..keys.local.header.sample_len()].to_vec();
        let (first, others) = start.split_at_mut(1);
        let number_at = others.len() - 4;
        keys.local
            .header
            .encrypt_in_place(&sample, &mut first[0], &mut others[number_at..])
            .expect("a sample");
        packet
    }
}

/// RFC 9000 section 16.
fn varint(into: &mut Vec<u8>, value: u64) {
    match value {
        0..0x40 => into.push(value as u8),
        0x40..0x4000 => into.extend((value as u16 | 0x4000).to_be_bytes()),
        0x4000..0x4000_0000 => into.extend((value as u32 | 0x8000_0000).to_be_bytes()),
        _ => into.extend((value | 0xc000_0000_0000_0000).to_be_bytes()),
    }
}
