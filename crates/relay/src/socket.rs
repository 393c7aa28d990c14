//! A UDP socket for batches: it receives with GRO, sends with GSO, preserves ECN marks, and reports
//! the kernel's drops.

use std::{
    fs, io,
    net::{SocketAddr, UdpSocket},
    os::fd::{AsFd, AsRawFd, BorrowedFd},
};

use quinn_udp::{EcnCodepoint, RecvMeta, Transmit, UdpSocketState};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use socket2::{Domain, Protocol, SockAddr, Type};

/// Bytes of kernel buffer requested in each direction; the system may grant less.
const KERNEL_BUFFER: usize = 8 * 1024 * 1024;

/// How long to wait for a full socket before its batch is dropped.
const PATIENCE: Timespec = Timespec {
    tv_sec: 0,
    tv_nsec: 20_000_000,
};

pub(crate) struct Socket {
    socket: UdpSocket,
    state: UdpSocketState,
}

impl Socket {
    pub(crate) fn bind(addr: SocketAddr) -> io::Result<Self> {
        let domain = Domain::for_address(addr);
        let socket = socket2::Socket::new(domain, Type::DGRAM, Some(Protocol::UDP))?;
        socket.bind(&SockAddr::from(addr))?;
        let state = UdpSocketState::new((&socket).into())?;
        state.set_send_buffer_size((&socket).into(), KERNEL_BUFFER)?;
        state.set_recv_buffer_size((&socket).into(), KERNEL_BUFFER)?;
        Ok(Self {
            socket: socket.into(),
            state,
        })
    }

    pub(crate) fn local_addr(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }

    pub(crate) fn receive(
        &self,
        bufs: &mut [io::IoSliceMut<'_>],
        meta: &mut [RecvMeta],
    ) -> io::Result<usize> {
        self.state.recv((&self.socket).into(), bufs, meta)
    }

    /// Send datagrams of `stride` bytes, the last of which may be shorter. Datagrams that the
    /// system refuses are lost; false when there were any.
    pub(crate) fn send(
        &self,
        to: SocketAddr,
        contents: &[u8],
        stride: usize,
        ecn: Option<EcnCodepoint>,
    ) -> bool {
        if contents.is_empty() {
            return self.send_once(to, contents, 0, ecn);
        }
        // Fewer than all only on a system without GSO.
        let most = stride.saturating_mul(self.state.max_gso_segments());
        let mut is_whole = true;
        for part in contents.chunks(most.max(1)) {
            is_whole &= self.send_once(to, part, stride, ecn);
        }
        is_whole
    }

    fn send_once(
        &self,
        destination: SocketAddr,
        contents: &[u8],
        stride: usize,
        ecn: Option<EcnCodepoint>,
    ) -> bool {
        let transmit = Transmit {
            destination,
            ecn,
            contents,
            segment_size: (stride < contents.len()).then_some(stride),
            src_ip: None,
        };
        for _ in 0..2 {
            match self.state.try_send((&self.socket).into(), &transmit) {
                Ok(()) => return true,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    let mut fds = [PollFd::new(&self.socket, PollFlags::OUT)];
                    // The second attempt shows whether it is writable.
                    let _ = poll(&mut fds, Some(&PATIENCE));
                }
                Err(_) => return false,
            }
        }
        false
    }

    /// Datagrams that arrived while the kernel's buffer was full.
    pub(crate) fn kernel_drops(&self) -> u64 {
        let descriptor = format!("/proc/self/fd/{}", self.socket.as_raw_fd());
        let link = fs::read_link(descriptor).unwrap_or_default();
        // socket:[12345]
        let link = link.to_string_lossy().into_owned();
        let inode = link.trim_start_matches("socket:[").trim_end_matches(']');
        ["/proc/net/udp", "/proc/net/udp6"]
            .iter()
            .filter_map(|table| fs::read_to_string(table).ok())
            .find_map(|table| drops_of(&table, inode))
            .unwrap_or(0)
    }
}

/// The drops of the socket with this inode, from the kernel's table.
fn drops_of(table: &str, inode: &str) -> Option<u64> {
    table.lines().find_map(|line| {
        let columns: Vec<_> = line.split_whitespace().collect();
        match columns[..] {
            [.., found, _, _, drops] if columns.len() == 13 && found == inode => drops.parse().ok(),
            _ => None,
        }
    })
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_kernel_drops_is_found() {
        let socket = Socket::bind(([127, 0, 0, 1], 0).into()).expect("a socket");
        let to = socket.local_addr().expect("an address");
        assert_eq!(socket.kernel_drops(), 0);
        // More than the system's largest buffer, and nothing is read.
        let sender = Socket::bind(([127, 0, 0, 1], 0).into()).expect("a socket");
        let room = socket.state.recv_buffer_size((&socket.socket).into());
        let count = room.expect("a size") / 60_000 + 2;
        for _ in 0..count {
            sender.send(to, &[0; 60_000], 60_000, None);
        }
        let drops = socket.kernel_drops();
        assert!(drops > 0 && drops < count as u64, "{drops} of {count}");
    }
}
