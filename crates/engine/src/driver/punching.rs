//! Sends the datagrams that open this side's NATs and firewalls for a peer's handshake (libp2p's
//! DCUtR specification). Whom to punch for, and to where, is decided by the caller.

use std::{
    net::SocketAddr,
    sync::Weak,
    time::{Duration, Instant},
};

use crate::{
    driver::{
        network::{Network, SocketKey},
        sockets::Sockets,
        token_bucket::TokenBucket,
    },
    shared::InboundShared,
};

/// Bytes of one datagram, as go-libp2p and rust-libp2p send. Fewer than the smallest packet that a
/// QUIC server answers with a Version Negotiation (RFC 9000 section 6.1).
const LENGTH: usize = 64;

/// The endpoint's rate of punches: 12.8 kB a second, whatever lists of addresses peers send. One
/// peer with eight addresses takes some 75 datagrams a second.
const BURST: u32 = 64;
const INTERVAL: Duration = Duration::from_millis(5);

/// The pauses between two datagrams to one address, as go-libp2p's: the shortest, and the longest
/// random addition. The addition grows from 10 ms with the square of the number sent, so that the
/// first datagrams meet the peer's first packets.
const SHORTEST_PAUSE: Duration = Duration::from_millis(10);
const FIRST_ADDITION: u64 = 10;
const LONGEST_ADDITION: u64 = 190;

struct Punch {
    socket: SocketKey,
    remote: SocketAddr,
    inbound: Weak<InboundShared>,
    sent: u64,
    next: Instant,
    until: Instant,
}

pub(super) struct Punching {
    punches: Vec<Punch>,
    rate: TokenBucket,
    /// The state of SplitMix64. The bytes need not be secret.
    random: Option<u64>,
}

impl Punching {
    pub(super) fn new() -> Self {
        Self {
            punches: Vec::new(),
            rate: TokenBucket::new(BURST, INTERVAL),
            random: None,
        }
    }

    /// Punch to `remote` until `until`, or until `inbound` no longer waits. `seed` is called once.
    pub(super) fn begin(
        &mut self,
        now: Instant,
        until: Instant,
        (socket, remote): (SocketKey, SocketAddr),
        inbound: Weak<InboundShared>,
        seed: impl FnOnce() -> u64,
    ) {
        self.random.get_or_insert_with(seed);
        self.punches.push(Punch {
            socket,
            remote,
            inbound,
            sent: 0,
            next: now,
            until,
        });
    }

    /// When the next datagram is due.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.punches.iter().map(|punch| punch.next).min()
    }

    /// Send what is due, and forget punches that are over. A datagram that the system does not
    /// take is lost: another follows.
    pub(super) fn send_due(&mut self, now: Instant, sockets: &Sockets, network: &mut dyn Network) {
        if self.deadline().is_none_or(|at| at > now) {
            return;
        }
        let Self {
            punches,
            rate,
            random,
        } = self;
        let random = random.get_or_insert(0);
        punches.retain_mut(|punch| {
            if punch.next > now {
                return true;
            }
            let is_wanted = punch.inbound.upgrade().is_some_and(|it| it.is_waiting());
            if !is_wanted || punch.until <= now || !sockets.contains(punch.socket) {
                return false;
            }
            if !rate.try_take(now) {
                punch.next = rate.next().unwrap_or(now) + SHORTEST_PAUSE;
                return true;
            }
            if !sockets.is_blocked(punch.socket) {
                let _ = network.send(
                    punch.socket,
                    &quinn_udp::Transmit {
                        destination: punch.remote,
                        ecn: None,
                        contents: &datagram(random),
                        segment_size: None,
                        src_ip: None,
                    },
                );
            }
            let most = (FIRST_ADDITION * (punch.sent + 1).pow(2)).min(LONGEST_ADDITION);
            let addition = Duration::from_millis(roll(random) % (most + 1));
            punch.next = now + SHORTEST_PAUSE + addition;
            punch.sent += 1;
            true
        });
    }
}

/// A datagram that no QUIC endpoint answers. Its form is that of a long header, as an endpoint may answer
/// a short header with a stateless reset (RFC 9000 section 10.3). The fixed bit is clear, by which quic-go knows
/// that it is not QUIC. Its version is one of those that nobody may support (RFC 9000 section 15).
fn datagram(random: &mut u64) -> [u8; LENGTH] {
    let mut bytes = [0; LENGTH];
    for part in bytes.chunks_mut(8) {
        part.copy_from_slice(&roll(random).to_le_bytes());
    }
    bytes[0] = bytes[0] & 0x3f | 0x80;
    for byte in &mut bytes[1..5] {
        *byte = *byte & 0xf0 | 0x0a;
    }
    bytes
}

/// SplitMix64.
fn roll(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}
