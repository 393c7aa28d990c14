//! Admission control: counts inbound handshakes and connections, in all and for each remote
//! address, and decides whether the next handshake is accepted.
//!
//! A source address that was not validated may be forged. Handshakes from such addresses never
//! use up what the true owner of the address may have: it only has to answer a Retry.

use std::{
    collections::{HashMap, hash_map::Entry},
    net::{IpAddr, SocketAddr},
};

use super::limit_log::Limit;
use crate::{config::Config, gate::Prefix};

/// What to do with the Initial packet of a new connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Decision {
    /// Begin the handshake.
    Accept,
    /// Validate the address first (RFC 9000 section 8.1.2).
    Retry,
    /// Drop the packet and send nothing: a client repeats it after growing pauses, and there may
    /// be room by then.
    Ignore(Limit),
    /// Send CONNECTION_REFUSED: there is no room until another connection ends.
    Refuse(Limit),
}

/// One inbound connection, from its first packet until its state is discarded.
#[derive(Debug)]
pub(super) struct InboundSlot {
    /// The first address of the remote address's prefix.
    address: IpAddr,
    is_address_validated: bool,
    /// The handshake has not completed, or failed.
    is_handshaking: bool,
}

impl InboundSlot {
    /// A Retry has validated the peer's address.
    pub(super) fn is_address_validated(&self) -> bool {
        self.is_address_validated
    }
}

#[derive(Clone, Copy, Debug, Default)]
struct Count {
    slots: usize,
    handshakes: usize,
    /// Handshakes whose address a Retry has validated.
    validated: usize,
}

#[derive(Debug, Default)]
pub(super) struct Admission {
    /// The standard map with its random hash: remote peers choose the keys.
    counts: HashMap<IpAddr, Count>,
    /// Inbound handshakes in flight. A failed one counts until its state is discarded: it holds
    /// as much memory, and failing fast must not be a way around the limits.
    handshakes: usize,
}

impl Admission {
    /// Inbound handshakes in flight, as the limits count them.
    pub(super) fn handshakes(&self) -> usize {
        self.handshakes
    }

    /// Whether `max_handshakes` are in flight.
    pub(super) fn is_full(&self, config: &Config) -> bool {
        self.handshakes >= config.max_handshakes
    }

    /// Decide on an Initial packet from `remote`, with `connections` in all at this endpoint.
    pub(super) fn decide(
        &self,
        config: &Config,
        remote: SocketAddr,
        is_address_validated: bool,
        connections: usize,
    ) -> Decision {
        let key = key(config, remote);
        let count = self.counts.get(&key).copied().unwrap_or_default();
        let reaches = |limit: Option<usize>, count| limit.is_some_and(|most| count >= most);
        if reaches(config.max_connections, connections) {
            return Decision::Refuse(Limit::Connections);
        }
        // All programs on this machine share the loopback address, so the limits per address do
        // not apply to it; go-libp2p does the same.
        let is_limited = !remote.ip().to_canonical().is_loopback();
        if is_limited && reaches(config.max_connections_per_address, count.slots) {
            return Decision::Refuse(Limit::ConnectionsPerAddress);
        }
        if self.is_full(config) {
            return Decision::Ignore(Limit::Handshakes);
        }
        if is_address_validated {
            if is_limited && count.validated >= config.max_handshakes_per_address {
                return Decision::Ignore(Limit::HandshakesPerAddress);
            }
        } else if reaches(config.retry_above, self.handshakes)
            || (is_limited && count.handshakes >= config.max_handshakes_per_address)
        {
            return Decision::Retry;
        }
        Decision::Accept
    }

    /// Count a connection whose handshake begins.
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
        count.validated += usize::from(is_address_validated);
        self.handshakes += 1;
        InboundSlot {
            address,
            is_address_validated,
            is_handshaking: true,
        }
    }

    /// The handshake of `slot` completed. True the first time.
    pub(super) fn complete_handshake(&mut self, slot: &mut InboundSlot) -> bool {
        if !std::mem::replace(&mut slot.is_handshaking, false) {
            return false;
        }
        self.handshakes -= 1;
        if let Some(count) = self.counts.get_mut(&slot.address) {
            count.handshakes -= 1;
            count.validated -= usize::from(slot.is_address_validated);
        }
        true
    }

    /// The connection's state is discarded.
    pub(super) fn release(&mut self, mut slot: InboundSlot) {
        self.complete_handshake(&mut slot);
        if let Entry::Occupied(mut entry) = self.counts.entry(slot.address) {
            entry.get_mut().slots -= 1;
            if entry.get().slots == 0 {
                entry.remove();
            }
        }
    }

    /// How many addresses have a slot.
    pub(super) fn addresses(&self) -> usize {
        self.counts.len()
    }
}

/// The first address of the prefix that counts as one address.
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
    fn handshakes_from_a_forged_address_take_nothing_from_its_owner() {
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
        let validated: Vec<_> = (0..2)
            .map(|_| admission.admit(&config, here, true))
            .collect();
        assert_eq!(
            admission.decide(&config, here, true, 4),
            Decision::Ignore(Limit::HandshakesPerAddress)
        );
        for slot in forged.into_iter().chain(validated) {
            admission.release(slot);
        }
        assert_eq!((admission.handshakes(), admission.counts.len()), (0, 0));
    }

    #[test]
    fn limits_hold_in_all_and_for_each_address() {
        let config = config(|c| c.max_handshakes_per_address = 8);
        let mut admission = Admission::default();
        let here = at("192.0.2.1:1");
        let decide = |admission: &Admission, text, is_validated| {
            admission.decide(&config, at(text), is_validated, 0)
        };
        for n in 0..4 {
            assert_eq!(decide(&admission, "192.0.2.1:9", false), Decision::Accept);
            admission.admit(&config, here, n % 2 == 0);
        }
        assert_eq!(decide(&admission, "192.0.2.7:9", false), Decision::Retry);
        assert_eq!(decide(&admission, "192.0.2.7:9", true), Decision::Accept);
        admission.admit(&config, here, true);
        // That address has the five connections that it may have.
        assert_eq!(
            decide(&admission, "192.0.2.1:9", true),
            Decision::Refuse(Limit::ConnectionsPerAddress)
        );
        for _ in 0..3 {
            admission.admit(&config, at("192.0.2.8:1"), true);
        }
        assert_eq!(
            decide(&admission, "192.0.2.7:9", true),
            Decision::Ignore(Limit::Handshakes)
        );
        let decision = admission.decide(&config, at("192.0.2.7:9"), true, 10);
        assert_eq!(decision, Decision::Refuse(Limit::Connections));
    }

    #[test]
    fn a_completed_handshake_still_counts_as_a_connection() {
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
    fn limits_per_address_do_not_apply_to_the_loopback() {
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
    fn one_address_is_one_prefix() {
        let config = config(|c| c.ipv4_prefix = 24);
        let one = |a, b| key(&config, at(a)) == key(&config, at(b));
        assert!(one("192.0.2.1:1", "192.0.2.250:2"));
        assert!(!one("192.0.2.1:1", "192.0.3.1:1"));
        assert!(one("192.0.2.1:1", "[::ffff:192.0.2.9]:1"));
        assert!(one("[2001:db8::1]:1", "[2001:db8:0:0:ffff::2]:1"));
        assert!(!one("[2001:db8::1]:1", "[2001:db8:0:1::1]:1"));
    }
}
