//! How many handshakes and peers each remote address has here, and what that means for the
//! next one who knocks.
//!
//! Whoever has not proven its address may be anyone, so what is counted of such handshakes
//! never costs the true owner of the address its place: it only has to answer a Retry.

use std::{
    collections::{HashMap, hash_map::Entry},
    net::{IpAddr, SocketAddr},
};

use super::limit_log::Limit;
use crate::{config::Config, gate::Prefix};

/// What becomes of a first packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Decision {
    /// A handshake begins.
    Accept,
    /// Its address must be proven first (RFC 9000 section 8.1.2).
    Retry,
    /// Not now. It is dropped without a word: an honest client sends it again, after longer
    /// and longer pauses, and then there may be room.
    Ignore(Limit),
    /// Not at all, as long as others stay; the peer is told.
    Refuse(Limit),
}

/// One inbound connection, from its first packet until it is forgotten.
#[derive(Debug)]
pub(super) struct InboundSlot {
    /// The first address of its prefix.
    address: IpAddr,
    is_address_validated: bool,
    /// Its peer is not proven, be it that it is over before it was.
    is_handshaking: bool,
}

impl InboundSlot {
    /// A Retry proved that its peer receives at its address.
    pub(super) fn is_address_validated(&self) -> bool {
        self.is_address_validated
    }
}

#[derive(Clone, Copy, Debug, Default)]
struct Count {
    slots: usize,
    handshakes: usize,
    /// Strangers whose address was proven by a Retry.
    proven: usize,
}

#[derive(Debug, Default)]
pub(super) struct Admission {
    /// The standard map: handshakes choose its keys, and its hash cannot be foreseen.
    counts: HashMap<IpAddr, Count>,
    /// Inbound handshakes in flight. Those that failed count until they are forgotten: they
    /// hold as much memory, and failing fast must not be a way around the limits.
    handshakes: usize,
}

impl Admission {
    /// Inbound handshakes in flight, as the limits count them.
    pub(super) fn handshakes(&self) -> usize {
        self.handshakes
    }

    /// Whether the next handshake could only wait.
    pub(super) fn is_full(&self, config: &Config) -> bool {
        self.handshakes >= config.max_handshakes
    }

    /// What becomes of a first packet from `remote`, while there are `connections` in all.
    pub(super) fn decide(
        &self,
        config: &Config,
        remote: SocketAddr,
        is_address_validated: bool,
        connections: usize,
    ) -> Decision {
        let key = key(config, remote);
        let here = self.counts.get(&key).copied().unwrap_or_default();
        let exceeds = |limit: Option<usize>, count| limit.is_some_and(|most| count >= most);
        if exceeds(config.max_connections, connections) {
            return Decision::Refuse(Limit::Connections);
        }
        // Programs on this machine share its loopback address: as in go-libp2p, the limits of one
        // address are not for the loopback.
        let is_limited = !remote.ip().to_canonical().is_loopback();
        if is_limited && exceeds(config.max_connections_per_address, here.slots) {
            return Decision::Refuse(Limit::ConnectionsPerAddress);
        }
        if self.is_full(config) {
            return Decision::Ignore(Limit::Handshakes);
        }
        if is_address_validated {
            if is_limited && here.proven >= config.max_handshakes_per_address {
                return Decision::Ignore(Limit::HandshakesPerAddress);
            }
        } else if exceeds(config.retry_above, self.handshakes)
            || (is_limited && here.handshakes >= config.max_handshakes_per_address)
        {
            return Decision::Retry;
        }
        Decision::Accept
    }

    pub(super) fn admit(
        &mut self,
        config: &Config,
        remote: SocketAddr,
        is_address_validated: bool,
    ) -> InboundSlot {
        let address = key(config, remote);
        let count = self.counts.entry(address).or_default();
        count.slots += 1;
        count.handshakes += 1;
        count.proven += usize::from(is_address_validated);
        self.handshakes += 1;
        InboundSlot {
            address,
            is_address_validated,
            is_handshaking: true,
        }
    }

    /// Its peer is proven. True the first time.
    pub(super) fn complete_handshake(&mut self, slot: &mut InboundSlot) -> bool {
        if !std::mem::replace(&mut slot.is_handshaking, false) {
            return false;
        }
        self.handshakes -= 1;
        if let Some(count) = self.counts.get_mut(&slot.address) {
            count.handshakes -= 1;
            count.proven -= usize::from(slot.is_address_validated);
        }
        true
    }

    /// It is forgotten.
    pub(super) fn release(&mut self, mut slot: InboundSlot) {
        self.complete_handshake(&mut slot);
        if let Entry::Occupied(mut entry) = self.counts.entry(slot.address) {
            entry.get_mut().slots -= 1;
            if entry.get().slots == 0 {
                entry.remove();
            }
        }
    }

    /// Addresses that have any slot.
    pub(super) fn addresses(&self) -> usize {
        self.counts.len()
    }
}

/// What counts as one address.
fn key(config: &Config, remote: SocketAddr) -> IpAddr {
    let ip = remote.ip().to_canonical();
    let length = match ip {
        IpAddr::V4(_) => config.ipv4_prefix,
        IpAddr::V6(_) => config.ipv6_prefix,
    };
    Prefix::containing(ip, length).first()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(change: fn(&mut Config)) -> Config {
        let mut config = Config {
            max_handshakes: 8,
            max_handshakes_per_address: 2,
            retry_above: Some(4),
            max_connections: Some(10),
            max_connections_per_address: Some(5),
            ..Config::default()
        };
        change(&mut config);
        assert_eq!(config.check(), Ok(()));
        config
    }

    fn at(text: &str) -> SocketAddr {
        text.parse().expect("an address")
    }

    #[test]
    fn an_address_without_proof_takes_nothing_from_its_owner() {
        let config = config(|_| ());
        let mut admission = Admission::default();
        let here = at("192.0.2.1:1");
        let forged: Vec<_> = (0..2)
            .map(|_| admission.admit(&config, here, false))
            .collect();
        assert_eq!(admission.decide(&config, here, false, 2), Decision::Retry);
        assert_eq!(admission.decide(&config, here, true, 2), Decision::Accept);
        let elsewhere = at("192.0.2.2:1");
        assert_eq!(
            admission.decide(&config, elsewhere, false, 2),
            Decision::Accept
        );
        let proven: Vec<_> = (0..2)
            .map(|_| admission.admit(&config, here, true))
            .collect();
        assert_eq!(
            admission.decide(&config, here, true, 4),
            Decision::Ignore(Limit::HandshakesPerAddress)
        );
        for slot in forged.into_iter().chain(proven) {
            admission.release(slot);
        }
        assert_eq!((admission.handshakes(), admission.counts.len()), (0, 0));
    }

    #[test]
    fn limits_hold_in_all_and_for_each_address() {
        let config = config(|c| c.max_handshakes_per_address = 8);
        let mut admission = Admission::default();
        let here = at("192.0.2.1:1");
        let judge =
            |admission: &Admission, text, proven| admission.decide(&config, at(text), proven, 0);
        for n in 0..4 {
            assert_eq!(judge(&admission, "192.0.2.1:9", false), Decision::Accept);
            admission.admit(&config, here, n % 2 == 0);
        }
        assert_eq!(judge(&admission, "192.0.2.7:9", false), Decision::Retry);
        assert_eq!(judge(&admission, "192.0.2.7:9", true), Decision::Accept);
        admission.admit(&config, here, true);
        // Five of that address, and it may have five.
        assert_eq!(
            judge(&admission, "192.0.2.1:9", true),
            Decision::Refuse(Limit::ConnectionsPerAddress)
        );
        for _ in 0..3 {
            admission.admit(&config, at("192.0.2.8:1"), true);
        }
        assert_eq!(
            judge(&admission, "192.0.2.7:9", true),
            Decision::Ignore(Limit::Handshakes)
        );
        let crowded = admission.decide(&config, at("192.0.2.7:9"), true, 10);
        assert_eq!(crowded, Decision::Refuse(Limit::Connections));
    }

    #[test]
    fn who_is_known_is_a_stranger_no_more_and_still_a_guest() {
        let config = config(|_| ());
        let mut admission = Admission::default();
        let here = at("192.0.2.1:1");
        let mut slots: Vec<_> = (0..5)
            .map(|_| admission.admit(&config, here, true))
            .collect();
        for slot in &mut slots {
            assert!(admission.complete_handshake(slot) && !admission.complete_handshake(slot));
        }
        assert_eq!(admission.handshakes(), 0);
        assert_eq!(
            admission.decide(&config, here, true, 5),
            Decision::Refuse(Limit::ConnectionsPerAddress)
        );
        admission.release(slots.remove(0));
        assert_eq!(admission.decide(&config, here, true, 4), Decision::Accept);
    }

    #[test]
    fn limits_of_one_address_are_not_for_the_loopback() {
        let config = config(|c| {
            c.max_handshakes = 100;
            c.retry_above = None;
            c.max_connections = Some(60);
        });
        for text in [
            "127.0.0.1:1",
            "127.8.9.10:1",
            "[::1]:1",
            "[::ffff:127.0.0.1]:1",
        ] {
            let (mut admission, here) = (Admission::default(), at(text));
            let mut slots = Vec::new();
            for n in 0..60 {
                assert_eq!(
                    admission.decide(&config, here, n % 2 == 0, n),
                    Decision::Accept
                );
                slots.push(admission.admit(&config, here, n % 2 == 0));
            }
            let refused = Decision::Refuse(Limit::Connections);
            assert_eq!(admission.decide(&config, here, true, 60), refused);
        }
    }

    #[test]
    fn an_address_is_what_its_prefix_says() {
        let config = config(|c| c.ipv4_prefix = 24);
        let one = |a, b| key(&config, at(a)) == key(&config, at(b));
        assert!(one("192.0.2.1:1", "192.0.2.250:2"));
        assert!(!one("192.0.2.1:1", "192.0.3.1:1"));
        assert!(one("192.0.2.1:1", "[::ffff:192.0.2.9]:1"));
        assert!(one("[2001:db8::1]:1", "[2001:db8:0:0:ffff::2]:1"));
        assert!(!one("[2001:db8::1]:1", "[2001:db8:0:1::1]:1"));
    }
}
