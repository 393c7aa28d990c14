//! Reports that addresses of this machine came or went, so that dialed connections can tell their peers
//! at once (RFC 9000 section 9): without it a connection that only receives would stall until its
//! keep-alive. Linux only; elsewhere, and where a sandbox refuses the socket, nothing is reported.

use std::{collections::BTreeSet, net::IpAddr};

use rustix::fd::{AsFd, BorrowedFd, OwnedFd};

/// A socket of rtnetlink(7), and the addresses at its last report.
pub(super) struct AddressWatch {
    socket: Option<OwnedFd>,
    /// `None` if they could not be listed then.
    known: Option<BTreeSet<IpAddr>>,
}

impl AddressWatch {
    pub(super) fn new() -> Self {
        Self {
            socket: linux::subscribe(),
            known: addresses(),
        }
    }

    /// Readable when something about an address changed.
    pub(super) fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        self.socket.as_ref().map(AsFd::as_fd)
    }

    /// Read all messages. True if an address came or went: router advertisements repeat the lifetimes
    /// of addresses (RFC 4861 section 6.3.4), which the kernel reports as well.
    pub(super) fn take_change(&mut self) -> bool {
        if let Some(socket) = &self.socket {
            linux::drain(socket);
        }
        self.is_news(addresses())
    }

    /// A failed listing is no loss of all addresses: the next one that succeeds is compared with the last.
    fn is_news(&mut self, listed: Option<BTreeSet<IpAddr>>) -> bool {
        let Some(now) = listed else {
            return false;
        };
        let is_changed = self.known.as_ref().is_some_and(|known| *known != now);
        self.known = Some(now);
        is_changed
    }
}

/// `None` if they cannot be listed, for example without a free descriptor.
fn addresses() -> Option<BTreeSet<IpAddr>> {
    let interfaces = if_addrs::get_if_addrs()
        .inspect_err(|error| tracing::debug!(%error, "the interfaces cannot be listed"))
        .ok()?;
    let found = interfaces.iter().map(if_addrs::Interface::ip);
    Some(found.filter(|ip| is_relevant(*ip)).collect())
}

/// Whether datagrams to other networks may leave from this address. Each container that starts on a
/// machine brings an interface with a link-local one, which must not cost a PING on each connection.
fn is_relevant(ip: IpAddr) -> bool {
    let is_link_local = match ip {
        IpAddr::V4(v4) => v4.is_link_local(),
        IpAddr::V6(v6) => v6.is_unicast_link_local(),
    };
    !ip.is_loopback() && !is_link_local
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_that_reach_no_other_network_are_not_watched() {
        for (ip, is_watched) in [
            ("10.0.0.1", true),
            ("203.0.113.1", true),
            ("2001:db8::1", true),
            ("fd00::1", true),
            ("127.0.0.1", false),
            ("169.254.0.1", false),
            ("::1", false),
            ("fe80::1", false),
        ] {
            assert_eq!(
                is_relevant(ip.parse().expect("an address")),
                is_watched,
                "{ip}"
            );
        }
    }

    #[test]
    fn what_did_not_change_is_not_reported() {
        let mut watch = AddressWatch::new();
        assert!(!watch.take_change());
        let listed = watch.known.clone();
        watch.known = Some(BTreeSet::from([IpAddr::from([192, 0, 2, 1])]));
        assert!(watch.is_news(listed.clone()));
        assert!(!watch.is_news(listed.clone()));
        assert!(!watch.is_news(None));
        assert!(!watch.is_news(listed));
    }
}

#[cfg(target_os = "linux")]
mod linux {
    use std::os::fd::{AsRawFd, OwnedFd};

    use nix::{
        errno::Errno,
        libc,
        sys::socket::{
            AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, recv,
            socket,
        },
    };

    const GROUPS: u32 = (libc::RTMGRP_IPV4_IFADDR | libc::RTMGRP_IPV6_IFADDR) as u32;

    pub(super) fn subscribe() -> Option<OwnedFd> {
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let opened = socket(
            AddressFamily::Netlink,
            SockType::Raw,
            flags,
            SockProtocol::NetlinkRoute,
        );
        let bound = opened.and_then(|socket| {
            bind(socket.as_raw_fd(), &NetlinkAddr::new(0, GROUPS))?;
            Ok(socket)
        });
        bound
            .inspect_err(|error| {
                tracing::debug!(%error, "changes of this machine's addresses cannot be watched");
            })
            .ok()
    }

    /// ENOBUFS means that messages were lost: the addresses are listed anyway.
    pub(super) fn drain(socket: &OwnedFd) {
        let mut message = [0; 4096];
        loop {
            match recv(socket.as_raw_fd(), &mut message, MsgFlags::empty()) {
                Ok(_) | Err(Errno::ENOBUFS | Errno::EINTR) => {}
                Err(_) => return,
            }
        }
    }
}

#[cfg(not(target_os = "linux"))]
mod linux {
    use rustix::fd::OwnedFd;

    pub(super) fn subscribe() -> Option<OwnedFd> {
        None
    }

    pub(super) fn drain(_: &OwnedFd) {}
}
