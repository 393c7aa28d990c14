//! How many strangers and peers each remote address has here, and what that means for the
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
pub(super) enum Admission {
    /// A handshake begins.
    Welcome,
    /// Its address must be proven first (RFC 9000 section 8.1.2).
    Prove,
    /// Not now. It is dropped without a word: an honest client sends it again, after longer
    /// and longer pauses, and then there may be room.
    Wait(Limit),
    /// Not at all, as long as others stay; the peer is told.
    Refuse(Limit),
}

/// One inbound connection, from its first packet until it is forgotten.
#[derive(Debug)]
pub(super) struct Guest {
    /// The first address of its prefix.
    address: IpAddr,
    is_address_proven: bool,
    /// Its peer is not proven, be it that it is over before it was.
    is_stranger: bool,
}

impl Guest {
    /// A Retry proved that its peer receives at its address.
    pub(super) fn is_address_proven(&self) -> bool {
        self.is_address_proven
    }
}

#[derive(Clone, Copy, Debug, Default)]
struct Count {
    guests: usize,
    strangers: usize,
    /// Strangers whose address was proven by a Retry.
    proven: usize,
}

#[derive(Debug, Default)]
pub(super) struct Crowd {
    /// The standard map: strangers choose its keys, and its hash cannot be foreseen.
    counts: HashMap<IpAddr, Count>,
    /// Inbound handshakes in flight. Those that failed count until they are forgotten: they
    /// hold as much memory, and failing fast must not be a way around the limits.
    strangers: usize,
}

impl Crowd {
    /// Inbound handshakes in flight, as the limits count them.
    pub(super) fn strangers(&self) -> usize {
        self.strangers
    }

    /// Whether the next handshake could only wait.
    pub(super) fn is_full(&self, config: &Config) -> bool {
        self.strangers >= config.max_handshakes
    }

    /// What becomes of a first packet from `remote`, while there are `connections` in all.
    pub(super) fn judge(
        &self,
        config: &Config,
        remote: SocketAddr,
        is_address_proven: bool,
        connections: usize,
    ) -> Admission {
        let key = key(config, remote);
        let here = self.counts.get(&key).copied().unwrap_or_default();
        let exceeds = |limit: Option<usize>, count| limit.is_some_and(|most| count >= most);
        if exceeds(config.max_connections, connections) {
            return Admission::Refuse(Limit::Connections);
        }
        // Programs on this machine share its loopback address: as in go-libp2p, the limits of one
        // address are not for the loopback.
        let is_limited = !remote.ip().to_canonical().is_loopback();
        if is_limited && exceeds(config.max_connections_per_address, here.guests) {
            return Admission::Refuse(Limit::ConnectionsPerAddress);
        }
        if self.is_full(config) {
            return Admission::Wait(Limit::Handshakes);
        }
        if is_address_proven {
            if is_limited && here.proven >= config.max_handshakes_per_address {
                return Admission::Wait(Limit::HandshakesPerAddress);
            }
        } else if exceeds(config.retry_above, self.strangers)
            || (is_limited && here.strangers >= config.max_handshakes_per_address)
        {
            return Admission::Prove;
        }
        Admission::Welcome
    }

    pub(super) fn enter(
        &mut self,
        config: &Config,
        remote: SocketAddr,
        is_address_proven: bool,
    ) -> Guest {
        let address = key(config, remote);
        let count = self.counts.entry(address).or_default();
        count.guests += 1;
        count.strangers += 1;
        count.proven += usize::from(is_address_proven);
        self.strangers += 1;
        Guest {
            address,
            is_address_proven,
            is_stranger: true,
        }
    }

    /// Its peer is proven. True the first time.
    pub(super) fn introduce(&mut self, guest: &mut Guest) -> bool {
        if !std::mem::replace(&mut guest.is_stranger, false) {
            return false;
        }
        self.strangers -= 1;
        if let Some(count) = self.counts.get_mut(&guest.address) {
            count.strangers -= 1;
            count.proven -= usize::from(guest.is_address_proven);
        }
        true
    }

    /// It is forgotten.
    pub(super) fn leave(&mut self, mut guest: Guest) {
        self.introduce(&mut guest);
        if let Entry::Occupied(mut entry) = self.counts.entry(guest.address) {
            entry.get_mut().guests -= 1;
            if entry.get().guests == 0 {
                entry.remove();
            }
        }
    }

    /// Addresses that have any guest.
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
        let mut crowd = Crowd::default();
        let here = at("192.0.2.1:1");
        let forged: Vec<_> = (0..2).map(|_| crowd.enter(&config, here, false)).collect();
        assert_eq!(crowd.judge(&config, here, false, 2), Admission::Prove);
        assert_eq!(crowd.judge(&config, here, true, 2), Admission::Welcome);
        let elsewhere = at("192.0.2.2:1");
        assert_eq!(
            crowd.judge(&config, elsewhere, false, 2),
            Admission::Welcome
        );
        let proven: Vec<_> = (0..2).map(|_| crowd.enter(&config, here, true)).collect();
        assert_eq!(
            crowd.judge(&config, here, true, 4),
            Admission::Wait(Limit::HandshakesPerAddress)
        );
        for guest in forged.into_iter().chain(proven) {
            crowd.leave(guest);
        }
        assert_eq!((crowd.strangers(), crowd.counts.len()), (0, 0));
    }

    #[test]
    fn limits_hold_in_all_and_for_each_address() {
        let config = config(|c| c.max_handshakes_per_address = 8);
        let mut crowd = Crowd::default();
        let here = at("192.0.2.1:1");
        let judge = |crowd: &Crowd, text, proven| crowd.judge(&config, at(text), proven, 0);
        for n in 0..4 {
            assert_eq!(judge(&crowd, "192.0.2.1:9", false), Admission::Welcome);
            crowd.enter(&config, here, n % 2 == 0);
        }
        assert_eq!(judge(&crowd, "192.0.2.7:9", false), Admission::Prove);
        assert_eq!(judge(&crowd, "192.0.2.7:9", true), Admission::Welcome);
        crowd.enter(&config, here, true);
        // Five of that address, and it may have five.
        assert_eq!(
            judge(&crowd, "192.0.2.1:9", true),
            Admission::Refuse(Limit::ConnectionsPerAddress)
        );
        for _ in 0..3 {
            crowd.enter(&config, at("192.0.2.8:1"), true);
        }
        assert_eq!(
            judge(&crowd, "192.0.2.7:9", true),
            Admission::Wait(Limit::Handshakes)
        );
        let crowded = crowd.judge(&config, at("192.0.2.7:9"), true, 10);
        assert_eq!(crowded, Admission::Refuse(Limit::Connections));
    }

    #[test]
    fn who_is_known_is_a_stranger_no_more_and_still_a_guest() {
        let config = config(|_| ());
        let mut crowd = Crowd::default();
        let here = at("192.0.2.1:1");
        let mut guests: Vec<_> = (0..5).map(|_| crowd.enter(&config, here, true)).collect();
        for guest in &mut guests {
            assert!(crowd.introduce(guest) && !crowd.introduce(guest));
        }
        assert_eq!(crowd.strangers(), 0);
        assert_eq!(
            crowd.judge(&config, here, true, 5),
            Admission::Refuse(Limit::ConnectionsPerAddress)
        );
        crowd.leave(guests.remove(0));
        assert_eq!(crowd.judge(&config, here, true, 4), Admission::Welcome);
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
            let (mut crowd, here) = (Crowd::default(), at(text));
            let mut guests = Vec::new();
            for n in 0..60 {
                assert_eq!(
                    crowd.judge(&config, here, n % 2 == 0, n),
                    Admission::Welcome
                );
                guests.push(crowd.enter(&config, here, n % 2 == 0));
            }
            let refused = Admission::Refuse(Limit::Connections);
            assert_eq!(crowd.judge(&config, here, true, 60), refused);
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
