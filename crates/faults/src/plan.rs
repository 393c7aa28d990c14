//! The parser of `FAULTS`, and the decision which calls fail.

use std::{
    sync::{
        OnceLock,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use libc::c_int;

use crate::send::Send;

/// A call that may fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Call {
    Send(Send),
    Receive,
    /// Level and name.
    Option(c_int, c_int),
}

/// The calls that a fault applies to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Calls {
    Send(Narrowed),
    Receive,
    /// With one option, or with any.
    Option(Option<(c_int, c_int)>),
}

/// The conditions that a send must all meet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Narrowed {
    port: Option<u16>,
    is_batch: bool,
    is_marked: bool,
    has_source: bool,
}

impl Calls {
    fn contain(&self, call: Call) -> bool {
        match (self, call) {
            (Self::Send(only), Call::Send(send)) => {
                only.port.is_none_or(|port| port == send.port)
                    && (!only.is_batch || send.datagrams > 1)
                    && (!only.is_marked || send.is_marked)
                    && (!only.has_source || send.has_source)
            }
            (Self::Receive, Call::Receive) => true,
            (Self::Option(only), Call::Option(level, name)) => {
                only.is_none_or(|only| only == (level, name))
            }
            _ => false,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum When {
    /// This percentage of calls.
    Share(u64),
    /// From, and until, in time since the first send.
    Within(Duration, Duration),
}

#[derive(Clone, Copy, Debug, PartialEq)]
struct Fault {
    calls: Calls,
    error: c_int,
    when: When,
}

#[derive(Debug, Default)]
pub(crate) struct Plan {
    faults: Vec<Fault>,
    first: OnceLock<Instant>,
    calls: AtomicU64,
}

impl Plan {
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let faults = text.split(',').filter(|each| !each.trim().is_empty());
        Ok(Self {
            faults: faults.map(fault).collect::<Result<_, _>>()?,
            ..Self::default()
        })
    }

    /// The error of this call, if it must fail.
    pub(crate) fn error(&self, call: Call) -> Option<c_int> {
        if self.faults.is_empty() {
            return None;
        }
        // Time counts from the first real send: sockets are created and probed long before.
        let first = match call {
            Call::Send(send) if send.port != 0 => Some(self.first.get_or_init(Instant::now)),
            _ => self.first.get(),
        };
        let since = first.map(Instant::elapsed);
        let call_number = self.calls.fetch_add(1, Ordering::Relaxed);
        // Each fault has a roll of its own: with the same one, of two shares the smaller is a part of the larger.
        let roll = |fault: u64| scattered(call_number.wrapping_add(fault << 48)) % 100;
        (0..)
            .zip(&self.faults)
            .find(|(number, fault)| {
                fault.calls.contain(call)
                    && match fault.when {
                        When::Share(share) => roll(*number) < share,
                        When::Within(from, until) => {
                            since.is_some_and(|since| (from..until).contains(&since))
                        }
                    }
            })
            .map(|(_, fault)| fault.error)
    }
}

/// SplitMix64: pseudorandom, and the same for the same call.
fn scattered(n: u64) -> u64 {
    let mut z = n.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

fn fault(text: &str) -> Result<Fault, String> {
    let fields: Vec<&str> = text.split_whitespace().collect();
    let [call, error, when, only @ ..] = &fields[..] else {
        return Err(format!("{text:?} must be: call error when"));
    };
    Ok(Fault {
        calls: match (*call, only) {
            ("send", only) => Calls::Send(narrowed(only)?),
            ("receive", []) => Calls::Receive,
            ("option", []) => Calls::Option(None),
            ("option", [name]) => Calls::Option(Some(option(name)?)),
            _ => {
                return Err(format!(
                    "{text:?} must be of send, receive or option; only send and option can be narrowed"
                ));
            }
        },
        error: self::error(error)?,
        when: self::when(when)
            .ok_or_else(|| format!("{when:?} must be like 5% or like 1ms+2ms"))?,
    })
}

fn narrowed(fields: &[&str]) -> Result<Narrowed, String> {
    let mut only = Narrowed::default();
    for field in fields {
        match *field {
            "batch" => only.is_batch = true,
            "marked" => only.is_marked = true,
            "from" => only.has_source = true,
            _ => {
                let port = field.strip_prefix("to=").and_then(|port| port.parse().ok());
                only.port =
                    Some(port.ok_or_else(|| {
                        format!("{field:?} must be to=PORT, from, batch or marked")
                    })?);
            }
        }
    }
    Ok(only)
}

fn option(name: &str) -> Result<(c_int, c_int), String> {
    Ok(match name {
        "IPV6_DONTFRAG" => (libc::IPPROTO_IPV6, libc::IPV6_DONTFRAG),
        "IPV6_MTU_DISCOVER" => (libc::IPPROTO_IPV6, libc::IPV6_MTU_DISCOVER),
        "IPV6_RECVERR" => (libc::IPPROTO_IPV6, libc::IPV6_RECVERR),
        "IPV6_RECVPKTINFO" => (libc::IPPROTO_IPV6, libc::IPV6_RECVPKTINFO),
        "IPV6_RECVTCLASS" => (libc::IPPROTO_IPV6, libc::IPV6_RECVTCLASS),
        "IPV6_V6ONLY" => (libc::IPPROTO_IPV6, libc::IPV6_V6ONLY),
        "IP_MTU_DISCOVER" => (libc::IPPROTO_IP, libc::IP_MTU_DISCOVER),
        "IP_PKTINFO" => (libc::IPPROTO_IP, libc::IP_PKTINFO),
        "IP_RECVERR" => (libc::IPPROTO_IP, libc::IP_RECVERR),
        "IP_RECVTOS" => (libc::IPPROTO_IP, libc::IP_RECVTOS),
        "SO_RCVBUF" => (libc::SOL_SOCKET, libc::SO_RCVBUF),
        "SO_SNDBUF" => (libc::SOL_SOCKET, libc::SO_SNDBUF),
        "UDP_GRO" => (libc::SOL_UDP, libc::UDP_GRO),
        "UDP_SEGMENT" => (libc::SOL_UDP, libc::UDP_SEGMENT),
        _ => return Err(format!("{name:?} is not a supported socket option")),
    })
}

fn error(name: &str) -> Result<c_int, String> {
    Ok(match name {
        "EACCES" => libc::EACCES,
        "EADDRNOTAVAIL" => libc::EADDRNOTAVAIL,
        "ECONNREFUSED" => libc::ECONNREFUSED,
        "ECONNRESET" => libc::ECONNRESET,
        "EHOSTDOWN" => libc::EHOSTDOWN,
        "EHOSTUNREACH" => libc::EHOSTUNREACH,
        "EINVAL" => libc::EINVAL,
        "EIO" => libc::EIO,
        "EMSGSIZE" => libc::EMSGSIZE,
        "ENETDOWN" => libc::ENETDOWN,
        "ENETUNREACH" => libc::ENETUNREACH,
        "ENOBUFS" => libc::ENOBUFS,
        "ENOMEM" => libc::ENOMEM,
        "ENONET" => libc::ENONET,
        "ENOPROTOOPT" => libc::ENOPROTOOPT,
        "ENOSYS" => libc::ENOSYS,
        "EOPNOTSUPP" => libc::EOPNOTSUPP,
        "EPERM" => libc::EPERM,
        "EPROTO" => libc::EPROTO,
        _ => return Err(format!("{name:?} is not a supported error")),
    })
}

fn when(text: &str) -> Option<When> {
    if let Some(share) = text.strip_suffix('%') {
        return share.parse().ok().map(When::Share);
    }
    let (from, time) = text.split_once('+')?;
    let millis = |text: &str| {
        text.strip_suffix("ms")?
            .parse()
            .ok()
            .map(Duration::from_millis)
    };
    let from = millis(from)?;
    Some(When::Within(from, from + millis(time)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SEND: Call = Call::Send(Send {
        port: 4001,
        datagrams: 1,
        is_marked: false,
        has_source: false,
    });

    fn plan(text: &str) -> Plan {
        Plan::parse(text).expect("a plan")
    }

    #[test]
    fn a_share_of_the_calls_fails_and_no_other() {
        let plan = plan("send ENOBUFS 20%, receive EIO 0%");
        let sent = (0..1000).filter(|_| plan.error(SEND) == Some(libc::ENOBUFS));
        let failed = sent.count();
        assert!((150..250).contains(&failed), "{failed}");
        assert!((0..1000).all(|_| plan.error(Call::Receive).is_none()));
        assert_eq!(self::plan("").error(SEND), None);
    }

    #[test]
    fn shares_of_the_same_calls_are_independent() {
        let plan = plan("receive EPROTO 20%, receive EHOSTUNREACH 20%");
        let errors: Vec<_> = (0..1000)
            .filter_map(|_| plan.error(Call::Receive))
            .collect();
        for (error, expected) in [(libc::EPROTO, 200), (libc::EHOSTUNREACH, 160)] {
            let count = errors.iter().filter(|each| **each == error).count();
            assert!(count.abs_diff(expected) < 50, "{error}: {count}");
        }
    }

    #[test]
    fn a_time_begins_with_the_first_send() {
        let plan = plan("send ENETDOWN 0ms+60000ms, receive EIO 0ms+60000ms");
        assert_eq!(plan.error(Call::Receive), None);
        assert_eq!(plan.error(SEND), Some(libc::ENETDOWN));
        assert_eq!(plan.error(Call::Receive), Some(libc::EIO));
        let later = self::plan("send ENETDOWN 60000ms+1ms");
        assert_eq!(later.error(SEND), None);
    }

    #[test]
    fn only_sends_fail_that_are_all_that_was_said() {
        let plan = plan("send EIO 100% to=4001 batch marked from");
        let whole = Send {
            port: 4001,
            datagrams: 2,
            is_marked: true,
            has_source: true,
        };
        assert_eq!(plan.error(Call::Send(whole)), Some(libc::EIO));
        for other in [
            Send { port: 1, ..whole },
            Send {
                datagrams: 1,
                ..whole
            },
            Send {
                is_marked: false,
                ..whole
            },
            Send {
                has_source: false,
                ..whole
            },
        ] {
            assert_eq!(plan.error(Call::Send(other)), None, "{other:?}");
        }
    }

    #[test]
    fn one_option_is_refused_or_all_of_them() {
        let gro = Call::Option(libc::SOL_UDP, libc::UDP_GRO);
        let plan = plan("option ENOPROTOOPT 100% UDP_GRO");
        assert_eq!(plan.error(gro), Some(libc::ENOPROTOOPT));
        assert_eq!(
            plan.error(Call::Option(libc::SOL_UDP, libc::UDP_SEGMENT)),
            None
        );
        assert_eq!(
            self::plan("option EPERM 100%").error(gro),
            Some(libc::EPERM)
        );
    }

    #[test]
    fn what_means_nothing_is_refused() {
        for text in [
            "send",
            "send EIO",
            "write EIO 5%",
            "send EX 5%",
            "send EIO 5",
            "send EIO 5s+1s",
            "send EIO 5% to=x",
            "send EIO 5% late",
            "receive EIO 5% batch",
            "option EIO 5% SO_WHAT",
        ] {
            assert!(Plan::parse(text).is_err(), "{text}");
        }
    }
}
