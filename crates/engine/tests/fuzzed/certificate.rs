//! Certificates from a fuzzer: as they come, and as what stands inside of a sound one, signed
//! again, so that the checks behind the signature are reached too. Nothing may panic, and
//! nobody may come out as somebody else.

use std::{sync::LazyLock, time::Duration};

use libp2p_identity::Keypair;
use libp2p_quic_engine::tls::certificate::{self, UnixTime};

use crate::{
    bytes::Bytes,
    forge::{Forge, Key, LIBP2P_OID, extension, octets, sequence, signed_key},
};

/// 2024-07-03T09:46:40Z.
const NOW: Duration = Duration::from_secs(1_720_000_000);

static KEY: LazyLock<Key> = LazyLock::new(Key::p256);
static HOST: LazyLock<Keypair> = LazyLock::new(Keypair::generate_ed25519);

pub(crate) fn run(data: &[u8]) {
    let mut bytes = Bytes(data);
    let mode = bytes.u8() % 6;
    let mut forge = Forge::new(&KEY, &HOST);
    let vouched = signed_key(&HOST, &KEY.info);
    match mode {
        0 => {
            judge(bytes.rest());
            return;
        }
        1 => forge.extensions = vec![extension(LIBP2P_OID, bytes.bool(), bytes.rest())],
        2 => {
            let host = bytes.u16();
            let host = bytes.take(usize::from(host));
            let value = sequence(&[&octets(host), &octets(bytes.rest())]);
            forge.extensions = vec![extension(LIBP2P_OID, false, &value)];
        }
        3 => {
            forge.extensions = vec![extension(LIBP2P_OID, true, &vouched), bytes.rest().to_vec()];
        }
        4 => {
            forge.not_before = bytes.take(usize::from(data.len() as u8 / 2)).to_vec();
            forge.not_after = bytes.rest().to_vec();
        }
        _ => {
            let len = usize::from(bytes.u8());
            forge.inner_algorithm = bytes.take(len).to_vec();
            forge.outer_algorithm.clone_from(&forge.inner_algorithm);
            let len = usize::from(bytes.u8());
            forge.unique_identifiers = bytes.take(len).to_vec();
            let len = usize::from(bytes.u8());
            forge.version = bytes.take(len).to_vec();
            forge.after_extensions = bytes.rest().to_vec();
        }
    }
    let der = forge.build();
    if let Some(who) = judge(&der) {
        // The fuzzer holds no other key than the forge's.
        assert_eq!(who, HOST.public().to_peer_id(), "somebody else's name");
    }
}

/// Whose certificate this is, if it is one.
fn judge(der: &[u8]) -> Option<libp2p_identity::PeerId> {
    let parsed = certificate::parse(der).ok()?;
    let read = parsed.host_key();
    for now in [0, u64::MAX] {
        let _ = parsed.verify(UnixTime::since_unix_epoch(Duration::from_secs(now)));
    }
    let proven = parsed.verify(UnixTime::since_unix_epoch(NOW)).ok()?;
    assert_eq!(read.as_ref(), Ok(&proven), "read and proven differ");
    Some(proven.to_peer_id())
}
