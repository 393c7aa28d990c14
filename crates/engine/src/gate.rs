//! The deny list: address prefixes whose inbound handshakes are refused. Peer ids are not known
//! at that point; the application decides about them after the handshake.

use std::{
    collections::{BTreeSet, HashSet},
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    str::FromStr,
};

/// A block of IP addresses that begin with the same bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Prefix {
    first: IpAddr,
    length: u8,
}

/// The text is neither an IP address nor a prefix.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is neither an IP address nor a prefix like 192.0.2.0/24")]
pub struct PrefixError(String);

impl Prefix {
    /// The block that contains `ip` and shares its first `length` bits. A `length` above the
    /// address's 32 or 128 bits counts as all of them. IPv4-mapped addresses are IPv4.
    pub fn containing(ip: IpAddr, length: u8) -> Self {
        match ip.to_canonical() {
            IpAddr::V4(v4) => {
                let length = length.min(32);
                let mask = u32::MAX.checked_shl(32 - u32::from(length)).unwrap_or(0);
                let first = Ipv4Addr::from_bits(v4.to_bits() & mask).into();
                Self { first, length }
            }
            IpAddr::V6(v6) => {
                let length = length.min(128);
                let mask = u128::MAX.checked_shl(128 - u32::from(length)).unwrap_or(0);
                let first = Ipv6Addr::from_bits(v6.to_bits() & mask).into();
                Self { first, length }
            }
        }
    }

    /// Its lowest address.
    pub fn first(&self) -> IpAddr {
        self.first
    }

    /// Whether `ip` is in the block. IPv4-mapped addresses are IPv4.
    pub fn contains(&self, ip: IpAddr) -> bool {
        let ip = ip.to_canonical();
        ip.is_ipv4() == self.first.is_ipv4() && Self::containing(ip, self.length) == *self
    }
}

impl FromStr for Prefix {
    type Err = PrefixError;

    fn from_str(text: &str) -> Result<Self, PrefixError> {
        let parse = || {
            let (ip, length) = match text.split_once('/') {
                Some((ip, length)) => (ip, Some(length.parse().ok()?)),
                None => (text, None),
            };
            let ip: IpAddr = ip.parse().ok()?;
            let most = if ip.is_ipv4() { 32 } else { 128 };
            let length = length.unwrap_or(most);
            // For an IPv4-mapped address a shorter length could count 32 or 128 bits.
            let is_clear = length == most || ip == ip.to_canonical();
            (length <= most && is_clear).then(|| Self::containing(ip, length))
        };
        parse().ok_or_else(|| PrefixError(text.to_owned()))
    }
}

impl fmt::Display for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.first, self.length)
    }
}

/// The prefixes that are denied.
#[derive(Default)]
pub(crate) struct Gate {
    denied: HashSet<Prefix>,
    /// The distinct lengths among them: one lookup each.
    lengths: BTreeSet<u8>,
}

impl Gate {
    pub(crate) fn denying(denied: impl IntoIterator<Item = Prefix>) -> Self {
        let denied: HashSet<_> = denied.into_iter().collect();
        let lengths = denied.iter().map(|prefix| prefix.length).collect();
        Self { denied, lengths }
    }

    pub(crate) fn denies(&self, ip: IpAddr) -> bool {
        let most = if ip.to_canonical().is_ipv4() { 32 } else { 128 };
        let mut lengths = self.lengths.iter().take_while(|length| **length <= most);
        lengths.any(|length| self.denied.contains(&Prefix::containing(ip, *length)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    #[test]
    fn prefixes_are_read_and_contain_what_they_say() {
        let block: Prefix = "192.0.2.77/24".parse().expect("a prefix");
        assert_eq!(block.to_string(), "192.0.2.0/24");
        assert!(block.contains(ip("192.0.2.255")) && block.contains(ip("::ffff:192.0.2.1")));
        assert!(!block.contains(ip("192.0.3.0")) && !block.contains(ip("2001:db8::1")));
        let one: Prefix = "2001:db8::1".parse().expect("an address");
        assert!(one.contains(ip("2001:db8::1")) && !one.contains(ip("2001:db8::2")));
        let all: Prefix = "::/0".parse().expect("a prefix");
        assert!(all.contains(ip("2001:db8::1")) && !all.contains(ip("192.0.2.1")));
        for nonsense in [
            "",
            "x",
            "192.0.2.0/33",
            "::/129",
            "192.0.2.0/",
            "1.2.3/8",
            "::1/-1",
        ] {
            assert!(nonsense.parse::<Prefix>().is_err(), "{nonsense}");
        }
    }

    #[test]
    fn a_gate_denies_its_prefixes_and_nothing_else() {
        assert!(!Gate::default().denies(ip("192.0.2.1")));
        let prefixes = ["192.0.2.0/24", "192.0.3.1", "2001:db8::/32", "2001:db9::1"];
        let gate = Gate::denying(prefixes.map(|text| text.parse().expect("a prefix")));
        for denied in [
            "192.0.2.9",
            "192.0.3.1",
            "::ffff:192.0.2.9",
            "2001:db8:7::1",
            "2001:db9::1",
        ] {
            assert!(gate.denies(ip(denied)), "{denied}");
        }
        for free in ["192.0.3.2", "192.0.4.1", "2001:db9::2", "::"] {
            assert!(!gate.denies(ip(free)), "{free}");
        }
    }
}
