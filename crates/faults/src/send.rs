//! The properties of a sendmsg(2) call, read from its arguments.

use std::ptr;

use libc::{AF_INET, AF_INET6, c_int, cmsghdr, msghdr, sockaddr_in, sockaddr_in6};

/// One call.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Send {
    /// The destination port; 0 without an address.
    pub(crate) port: u16,
    pub(crate) datagrams: u64,
    /// It has an ECN codepoint.
    pub(crate) is_marked: bool,
    /// It has an explicit source address.
    pub(crate) has_source: bool,
}

impl Send {
    /// # Safety
    /// `message` is what sendmsg(2) takes, with everything that it points to.
    pub(crate) unsafe fn read(message: &msghdr) -> Self {
        let mut send = Self {
            // SAFETY: the caller's promise.
            port: unsafe { port(message) },
            datagrams: 1,
            ..Self::default()
        };
        // SAFETY: the control messages of a msghdr, by the C library's own macros (cmsg(3)).
        let mut next = unsafe { libc::CMSG_FIRSTHDR(message) };
        while !next.is_null() {
            // SAFETY: not null, so a whole header (cmsg(3)); it may lie anywhere.
            let header = unsafe { ptr::read_unaligned(next) };
            // SAFETY: the data behind a header, at least one byte in all that are read here.
            let data = unsafe { libc::CMSG_DATA(next) };
            // SAFETY: as above.
            unsafe { send.note(&header, data, message) };
            // SAFETY: as for the first.
            next = unsafe { libc::CMSG_NXTHDR(message, next) };
        }
        send
    }

    /// # Safety
    /// `data` is what follows `header` in `message`.
    unsafe fn note(&mut self, header: &cmsghdr, data: *const u8, message: &msghdr) {
        match (header.cmsg_level, header.cmsg_type) {
            (libc::SOL_UDP, libc::UDP_SEGMENT) => {
                // SAFETY: this control message holds a u16 (udp(7)).
                let size = unsafe { ptr::read_unaligned(data.cast::<u16>()) };
                let parts = 0..message.msg_iovlen;
                // SAFETY: the message has `msg_iovlen` parts.
                let parts = parts.map(|index| unsafe { (*message.msg_iov.add(index)).iov_len });
                let whole: usize = parts.sum();
                self.datagrams = whole.div_ceil(usize::from(size).max(1)) as u64;
            }
            (libc::IPPROTO_IP, libc::IP_TOS) => {
                // SAFETY: this control message holds a byte or, on a little-endian machine, an
                // int whose first byte it is (ip(7)).
                self.is_marked = unsafe { *data } & 3 != 0;
            }
            (libc::IPPROTO_IPV6, libc::IPV6_TCLASS) => {
                // SAFETY: this control message holds an int (ipv6(7)).
                self.is_marked = unsafe { ptr::read_unaligned(data.cast::<c_int>()) } & 3 != 0;
            }
            (libc::IPPROTO_IP, libc::IP_PKTINFO) | (libc::IPPROTO_IPV6, libc::IPV6_PKTINFO) => {
                self.has_source = true;
            }
            _ => {}
        }
    }
}

/// # Safety
/// The address of `message` is good for as many bytes as it says, or null.
unsafe fn port(message: &msghdr) -> u16 {
    let size = message.msg_namelen as usize;
    if message.msg_name.is_null() || size < size_of::<sockaddr_in>() {
        return 0;
    }
    // SAFETY: large enough for an IPv4 address, whose family is where every address has it.
    let v4 = unsafe { ptr::read_unaligned(message.msg_name.cast::<sockaddr_in>()) };
    match c_int::from(v4.sin_family) {
        AF_INET => u16::from_be(v4.sin_port),
        AF_INET6 if size >= size_of::<sockaddr_in6>() => {
            // SAFETY: as large as it must be.
            let v6 = unsafe { ptr::read_unaligned(message.msg_name.cast::<sockaddr_in6>()) };
            u16::from_be(v6.sin6_port)
        }
        _ => 0,
    }
}
