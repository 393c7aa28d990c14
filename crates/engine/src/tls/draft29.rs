//! Draft 29's version number with version 1's keys, as py-libp2p's own transport uses them on
//! `/quic` addresses.
//!
//! Its QUIC library has no keys of drafts and uses those of RFC 9001 for every version number but
//! version 2's. Real draft 29 has other Initial keys, and a server must choose before it can read
//! a packet, so an endpoint serves one or the other. Peers with real draft 29 have left libp2p's
//! networks; their packets cannot be decrypted here and are dropped.

use std::sync::Arc;

use quinn_proto::{
    ConnectionId,
    crypto::{Keys, ServerConfig, Session, UnsupportedVersion},
    transport_parameters::TransportParameters,
};

/// Draft 29's version number: draft-ietf-quic-transport-29 section 15.
pub(crate) const DRAFT_29: u32 = 0xff00_001d;

/// RFC 9000 section 15.
const VERSION_1: u32 = 1;

/// Treats draft 29's version number as version 1, and leaves the rest to `0`.
pub(super) struct Draft29AsVersion1(pub(super) Arc<dyn ServerConfig>);

fn keys_of(version: u32) -> u32 {
    if version == DRAFT_29 {
        VERSION_1
    } else {
        version
    }
}

impl ServerConfig for Draft29AsVersion1 {
    fn initial_keys(
        &self,
        version: u32,
        dst_cid: &ConnectionId,
    ) -> Result<Keys, UnsupportedVersion> {
        self.0.initial_keys(keys_of(version), dst_cid)
    }

    fn retry_tag(&self, version: u32, orig_dst_cid: &ConnectionId, packet: &[u8]) -> [u8; 16] {
        self.0.retry_tag(keys_of(version), orig_dst_cid, packet)
    }

    fn start_session(
        self: Arc<Self>,
        version: u32,
        params: &TransportParameters,
    ) -> Box<dyn Session> {
        Arc::clone(&self.0).start_session(keys_of(version), params)
    }
}

#[cfg(test)]
mod tests {
    use rustls::pki_types::UnixTime;

    use super::*;
    use crate::{identity::Identity, tls::Tls};

    fn server(draft_29: bool) -> Arc<dyn ServerConfig> {
        Tls::new(&Identity::generate(), UnixTime::now)
            .expect("a fresh identity")
            .server(draft_29)
    }

    #[test]
    fn draft_29_is_signed_as_version_1() {
        let cid = ConnectionId::new(&[7; 8]);
        let tag = |draft_29, version| server(draft_29).retry_tag(version, &cid, b"packet");
        assert_eq!(tag(true, DRAFT_29), tag(true, VERSION_1));
        assert_eq!(tag(true, VERSION_1), tag(false, VERSION_1));
        // quinn-proto itself has the keys of the draft.
        assert_ne!(tag(false, DRAFT_29), tag(false, VERSION_1));
    }

    #[test]
    fn draft_29_is_encrypted_as_version_1() {
        let cid = ConnectionId::new(&[7; 8]);
        let sealed = |draft_29, version| {
            let keys = server(draft_29)
                .initial_keys(version, &cid)
                .unwrap_or_else(|_| panic!("version {version:#x} has keys"));
            let mut packet = vec![0; 4 + 16 + 16];
            keys.packet.local.encrypt(0, &mut packet, 4);
            packet
        };
        assert_eq!(sealed(true, DRAFT_29), sealed(true, VERSION_1));
        assert_ne!(sealed(false, DRAFT_29), sealed(false, VERSION_1));
    }

    #[test]
    fn other_versions_stay_what_they_are() {
        let cid = ConnectionId::new(&[7; 8]);
        assert!(server(true).initial_keys(0x0a0a_0a0a, &cid).is_err());
    }
}
