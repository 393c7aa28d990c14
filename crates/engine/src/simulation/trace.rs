//! The record of sent datagrams: a hash to compare runs by, and on request the datagrams.

use std::{
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use quinn_udp::Transmit;

/// One datagram as it was sent, whether or not it arrives.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Datagram {
    /// Time since the world began.
    pub at: Duration,
    /// The sender's external address.
    pub from: SocketAddr,
    /// The source address that the sender asked for, if any.
    pub source: Option<IpAddr>,
    /// The receiver.
    pub to: SocketAddr,
    /// The ECN bits (RFC 3168), 0 for none.
    pub ecn: u8,
    /// Bytes in the system call that sent it, with the others of its batch.
    pub batch: usize,
    /// The UDP payload.
    pub data: Vec<u8>,
}

/// FNV-1a, 64 bits: its start and its prime.
const START: u64 = 0xcbf2_9ce4_8422_2325;
const PRIME: u64 = 0x0000_0100_0000_01b3;

pub(super) struct Trace {
    hash: u64,
    count: u64,
    pub(super) recorded: Option<Vec<Datagram>>,
}

impl Default for Trace {
    fn default() -> Self {
        Self {
            hash: START,
            count: 0,
            recorded: None,
        }
    }
}

impl Trace {
    pub(super) fn hash(&self) -> u64 {
        self.hash
    }

    pub(super) fn count(&self) -> u64 {
        self.count
    }

    /// Hash time, addresses and length, which depend on the seed only. The bytes are encrypted with
    /// keys that are new in every run.
    pub(super) fn note(
        &mut self,
        at: Duration,
        from: SocketAddr,
        transmit: &Transmit<'_>,
        data: &[u8],
    ) {
        self.count += 1;
        self.mix(&at.as_nanos().to_le_bytes());
        for addr in [from, transmit.destination] {
            match addr.ip() {
                IpAddr::V4(ip) => self.mix(&ip.octets()),
                IpAddr::V6(ip) => self.mix(&ip.octets()),
            }
            self.mix(&addr.port().to_le_bytes());
        }
        self.mix(&data.len().to_le_bytes());
        if let Some(recorded) = &mut self.recorded {
            recorded.push(Datagram {
                at,
                from,
                source: transmit.src_ip,
                to: transmit.destination,
                ecn: transmit.ecn.map_or(0, |ecn| ecn as u8),
                batch: transmit.contents.len(),
                data: data.to_vec(),
            });
        }
    }

    fn mix(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.hash = (self.hash ^ u64::from(*byte)).wrapping_mul(PRIME);
        }
    }
}
