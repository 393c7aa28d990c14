//! Changes the payloads of packets as they are opened, before quinn-proto reads their frames. What is changed, `padding`
//! and `reset_stream_at` decide.

use bytes::BytesMut;
use quinn_proto::crypto::{CryptoError, KeyPair, PacketKey};

/// Changes one opened payload.
type Change = fn(&mut BytesMut);

/// `keys`, whose opened packets are changed by `change`.
pub(super) fn changed_by(
    change: Change,
    keys: KeyPair<Box<dyn PacketKey>>,
) -> KeyPair<Box<dyn PacketKey>> {
    KeyPair {
        local: keys.local,
        remote: Box::new(Changing {
            key: keys.remote,
            change,
        }),
    }
}

/// A key whose opened packets are changed.
struct Changing {
    key: Box<dyn PacketKey>,
    change: Change,
}

impl PacketKey for Changing {
    fn encrypt(&self, packet: u64, buf: &mut [u8], header_len: usize) {
        self.key.encrypt(packet, buf, header_len);
    }

    fn decrypt(
        &self,
        packet: u64,
        header: &[u8],
        payload: &mut BytesMut,
    ) -> Result<(), CryptoError> {
        self.key.decrypt(packet, header, payload)?;
        (self.change)(payload);
        Ok(())
    }

    fn tag_len(&self) -> usize {
        self.key.tag_len()
    }

    fn confidentiality_limit(&self) -> u64 {
        self.key.confidentiality_limit()
    }

    fn integrity_limit(&self) -> u64 {
        self.key.integrity_limit()
    }
}
