//! Network address translators of the virtual network, by the behaviors of RFC 4787. They translate
//! addresses and drop datagrams; they delay nothing and look into nothing.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    time::{Duration, Instant},
};

/// What a mapping or a filter distinguishes (RFC 4787 sections 4.1 and 5).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Behavior {
    /// Nothing of the remote endpoint.
    EndpointIndependent,
    /// The remote IP address.
    AddressDependent,
    /// The remote IP address and port.
    AddressAndPortDependent,
}

/// The part of a remote endpoint that a [`Behavior`] distinguishes.
type Distinguished = Option<(IpAddr, Option<u16>)>;

impl Behavior {
    fn of(self, remote: SocketAddr) -> Distinguished {
        match self {
            Self::EndpointIndependent => None,
            Self::AddressDependent => Some((remote.ip(), None)),
            Self::AddressAndPortDependent => Some((remote.ip(), Some(remote.port()))),
        }
    }
}

/// How a network address translator behaves.
#[derive(Clone, Copy, Debug)]
pub struct Nat {
    /// When two datagrams of one inner address leave from the same outer port.
    pub mapping: Behavior,
    /// Which inbound datagrams pass.
    pub filtering: Behavior,
    /// Whether inner hosts reach each other at their outer addresses (section 6).
    pub hairpinning: bool,
    /// How long a mapping lasts after the last outbound datagram (section 4.3); `None`: always.
    pub lifetime: Option<Duration>,
    /// An inbound datagram that is dropped keeps its remote endpoint from being mapped to the same
    /// port later, as with Linux's connection tracking where the router accepts what is sent to
    /// itself.
    pub tracks_dropped: bool,
}

impl Default for Nat {
    /// The usual home router: endpoint-independent mapping, address and port-dependent filtering.
    fn default() -> Self {
        Self {
            mapping: Behavior::EndpointIndependent,
            filtering: Behavior::AddressAndPortDependent,
            hairpinning: false,
            lifetime: None,
            tracks_dropped: false,
        }
    }
}

impl Nat {
    /// A NAT with a mapping for each remote endpoint, called symmetric (RFC 3489).
    pub fn symmetric() -> Self {
        Self {
            mapping: Behavior::AddressAndPortDependent,
            ..Self::default()
        }
    }
}

struct Mapping {
    inner: SocketAddr,
    outer_port: u16,
    distinguished: Distinguished,
    /// The remote endpoints that it sent to, and when.
    contacted: BTreeMap<SocketAddr, Instant>,
}

/// A translator in the network, with its state.
pub(super) struct Translator {
    nat: Nat,
    outer: IpAddr,
    mappings: Vec<Mapping>,
    /// Outer port and remote endpoint of dropped inbound datagrams.
    dropped: Vec<(u16, SocketAddr)>,
    next_port: u16,
}

impl Translator {
    /// The `index`-th of a world, from zero.
    pub(super) fn new(index: u8, nat: Nat) -> Self {
        Self {
            nat,
            outer: Ipv4Addr::new(203, 0, 113, index).into(),
            mappings: Vec::new(),
            dropped: Vec::new(),
            next_port: 50_000,
        }
    }

    pub(super) fn outer(&self) -> IpAddr {
        self.outer
    }

    pub(super) fn is_hairpinning(&self) -> bool {
        self.nat.hairpinning
    }

    /// Forget all mappings, as after a restart.
    pub(super) fn forget(&mut self) {
        self.mappings.clear();
        self.dropped.clear();
    }

    fn expire(&mut self, now: Instant) {
        let Some(lifetime) = self.nat.lifetime else {
            return;
        };
        self.mappings.retain_mut(|mapping| {
            mapping.contacted.retain(|_, at| now < *at + lifetime);
            !mapping.contacted.is_empty()
        });
    }

    /// Translate the source of an outbound datagram.
    pub(super) fn outbound(
        &mut self,
        now: Instant,
        inner: SocketAddr,
        remote: SocketAddr,
    ) -> SocketAddr {
        self.expire(now);
        let distinguished = self.nat.mapping.of(remote);
        let known = self
            .mappings
            .iter()
            .position(|m| m.inner == inner && m.distinguished == distinguished);
        let index = known.unwrap_or_else(|| {
            let outer_port = self.free_port(inner.port(), remote);
            self.mappings.push(Mapping {
                inner,
                outer_port,
                distinguished,
                contacted: BTreeMap::new(),
            });
            self.mappings.len() - 1
        });
        let mapping = &mut self.mappings[index];
        mapping.contacted.insert(remote, now);
        SocketAddr::new(self.outer, mapping.outer_port)
    }

    /// The inner port where it is free (section 4.2.1, port preservation); a NAT whose mappings
    /// depend on the remote endpoint takes another for each.
    fn free_port(&mut self, wanted: u16, remote: SocketAddr) -> u16 {
        let is_free = |port: u16| {
            self.mappings.iter().all(|m| m.outer_port != port)
                && !self.dropped.contains(&(port, remote))
        };
        if self.nat.mapping == Behavior::EndpointIndependent && is_free(wanted) {
            return wanted;
        }
        self.next_port += 1;
        self.next_port
    }

    /// The inner address that an inbound datagram goes to; `None` when it is dropped.
    pub(super) fn inbound(
        &mut self,
        now: Instant,
        outer_port: u16,
        remote: SocketAddr,
    ) -> Option<SocketAddr> {
        self.expire(now);
        let allowed = self.nat.filtering.of(remote);
        let found = self.mappings.iter().find(|m| {
            m.outer_port == outer_port
                && m.contacted
                    .keys()
                    .any(|contacted| self.nat.filtering.of(*contacted) == allowed)
        });
        let inner = found.map(|mapping| mapping.inner);
        if inner.is_none() && self.nat.tracks_dropped {
            self.dropped.push((outer_port, remote));
        }
        inner
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn a_mapping_is_for_all_remotes_or_for_an_address_or_for_a_port() {
        let now = Instant::now();
        let inner = SocketAddr::from(([10, 0, 0, 1], 4001));
        let remotes = [
            SocketAddr::from(([192, 0, 2, 1], 4001)),
            SocketAddr::from(([192, 0, 2, 1], 4002)),
            SocketAddr::from(([192, 0, 2, 2], 4001)),
        ];
        for (mapping, count) in [
            (Behavior::EndpointIndependent, 1),
            (Behavior::AddressDependent, 2),
            (Behavior::AddressAndPortDependent, 3),
        ] {
            let nat = Nat {
                mapping,
                ..Nat::default()
            };
            let mut translator = Translator::new(1, nat);
            let outer: BTreeSet<SocketAddr> = remotes
                .iter()
                .map(|remote| translator.outbound(now, inner, *remote))
                .collect();
            assert_eq!(outer.len(), count, "{mapping:?}");
        }
    }
}
