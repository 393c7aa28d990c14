//! A real UDP socket with large buffers and offloads, whose send errors concern only the send that
//! caused them. Without the options that offloads need it sends and receives one datagram a call.
//!
//! On Unix it has its own sendmsg: quinn-udp's disables segmentation and ECN marks for the whole socket,
//! permanently, after one EINVAL, which a single destination can cause.

#[cfg_attr(unix, path = "socket/unix.rs")]
#[cfg_attr(windows, path = "socket/windows.rs")]
mod system;

use std::{
    io::{self, IoSliceMut},
    net::{SocketAddr, UdpSocket},
    sync::Arc,
    time::{Duration, Instant},
};

use quinn_udp::{EcnCodepoint, RecvMeta, Transmit, UdpSocketState};
use socket2::{Domain, Protocol, SockAddr, Type};

use crate::{
    driver::{
        network::{BoundSocket, Sending, Undelivered},
        offload::Offload,
    },
    errno::Errno,
    multiaddr::Multiaddr,
};

/// Bytes of kernel buffer requested in each direction. The default loses thousands of packets at
/// high rates; the system may grant less.
const KERNEL_BUFFER: usize = 4 * 1024 * 1024;

/// How long a socket is not read after an error that is neither EWOULDBLOCK nor about one datagram.
const BROKEN_PAUSE: Duration = Duration::from_millis(10);

pub(super) struct Socket {
    socket: Arc<UdpSocket>,
    bound: BoundSocket,
    /// Receives many datagrams a call, and knows how many one send may hold. `None` if the system
    /// refuses the options that this needs.
    offloads: Option<UdpSocketState>,
    /// ECN marks on sent datagrams.
    marks: Offload,
    /// The system reports undelivered datagrams (IP_RECVERR).
    is_reporting: bool,
    /// Reporting was on once: a send may fail with the error of an earlier one.
    has_reported: bool,
    /// The last receive failed.
    is_broken: bool,
    /// After a failed receive: when to read again.
    paused_until: Option<Instant>,
}

impl Socket {
    pub(super) fn bind(addr: SocketAddr) -> io::Result<Self> {
        let mut socket = open(addr)?;
        if system::IS_BOUND_FIRST {
            socket.bind(&SockAddr::from(addr))?;
        }
        let offloads = offloads(&socket);
        let refusal = offloads.as_ref().err().map(errno);
        if refusal.is_some() {
            // Open another socket: GRO may be on by now, and coalesced datagrams could not be split.
            socket = open(addr)?;
            socket.set_nonblocking(true)?;
        }
        if !system::IS_BOUND_FIRST || refusal.is_some() {
            socket.bind(&SockAddr::from(addr))?;
        }
        // A failure is ignored: the socket works with smaller buffers.
        let _ = socket.set_send_buffer_size(KERNEL_BUFFER);
        let _ = socket.set_recv_buffer_size(KERNEL_BUFFER);
        let socket = UdpSocket::from(socket);
        Ok(Self {
            bound: BoundSocket {
                local: socket.local_addr()?,
                refusal,
            },
            socket: Arc::new(socket),
            offloads: offloads.ok(),
            marks: Offload::new("ECN marks"),
            is_reporting: false,
            has_reported: false,
            is_broken: false,
            paused_until: None,
        })
    }

    pub(super) fn bound(&self) -> BoundSocket {
        self.bound
    }

    /// The descriptor to poll. Shared: an application thread may use the socket meanwhile.
    pub(super) fn descriptor(&self) -> Arc<UdpSocket> {
        self.socket.clone()
    }

    pub(super) fn max_segments(&self) -> usize {
        self.offloads
            .as_ref()
            .map_or(1, UdpSocketState::max_gso_segments)
    }

    /// Send one datagram, or several at once. If the system refuses them, they are sent again
    /// without the offloads that may be the cause, to and from the same addresses. Datagrams that
    /// are refused again are lost, for loss recovery or a timeout to handle. EMSGSIZE answers a
    /// probe of path MTU discovery (RFC 9000 section 14).
    pub(super) fn send(&mut self, transmit: &Transmit<'_>) -> Sending {
        let ecn = transmit
            .ecn
            .filter(|_| self.marks.check_usable(Instant::now));
        let mut result = self.send_once(transmit, transmit.contents, ecn);
        if self.has_reported && result.is_err_and(|error| error != Errno::EAGAIN) {
            // It may be the pending error of another datagram, which the system returns once.
            result = self.send_once(transmit, transmit.contents, ecn);
        }
        let error = match result {
            Ok(()) => {
                if ecn.is_some() {
                    self.marks.worked();
                }
                return Sending::Sent;
            }
            Err(Errno::EAGAIN) => return Sending::Blocked,
            Err(error) => error,
        };
        tracing::trace!(%error, to = %transmit.destination, "a send was refused");
        if error == Errno::ENOBUFS {
            // The interface's queue is full; sending singly would not help.
            return Sending::Failed(error);
        }
        self.send_singly(transmit, ecn, error)
    }

    /// Send a transmit that was refused with `error`, one datagram a call.
    fn send_singly(
        &mut self,
        transmit: &Transmit<'_>,
        mut ecn: Option<EcnCodepoint>,
        mut error: Errno,
    ) -> Sending {
        let size = transmit.segment_size.unwrap_or(transmit.contents.len());
        let mut datagrams = transmit.contents.chunks(size.max(1));
        let first = datagrams.next().unwrap_or_default();
        let mut sending = Sending::Failed(error);
        if first.len() < transmit.contents.len() {
            // The first datagram shows whether the batch was refused or the destination.
            match self.send_once(transmit, first, ecn) {
                Ok(()) => sending = Sending::SentSingly,
                Err(again) => (error, sending) = (again, Sending::Failed(again)),
            }
        }
        if sending == Sending::Failed(error)
            && ecn.take().is_some()
            && matches!(error, Errno::EINVAL | Errno::EOPNOTSUPP)
            && self.send_once(transmit, first, ecn).is_ok()
        {
            sending = Sending::Sent;
            self.marks.refused(Instant::now(), transmit.destination);
        }
        if sending == Sending::Failed(error) {
            return sending;
        }
        for datagram in datagrams {
            // The buffer is full: the rest is lost, as the caller would send all of it again.
            if self.send_once(transmit, datagram, ecn) == Err(Errno::EAGAIN) {
                break;
            }
        }
        sending
    }

    /// One send of `contents`: all of the transmit's datagrams, or one of them.
    fn send_once(
        &self,
        transmit: &Transmit<'_>,
        contents: &[u8],
        ecn: Option<EcnCodepoint>,
    ) -> Result<(), Errno> {
        let part = Transmit {
            destination: transmit.destination,
            ecn,
            contents,
            segment_size: transmit.segment_size.filter(|size| *size < contents.len()),
            src_ip: transmit.src_ip,
        };
        system::send(&self.socket, self.offloads.as_ref(), &part)
    }

    /// Turn the system's reports of undelivered datagrams on or off; off drops pending reports. If
    /// the system refuses, dials to closed ports end by their timeout.
    pub(super) fn report_undelivered(&mut self, is_on: bool) {
        match system::report_undelivered(&self.socket, self.bound.local, is_on) {
            Ok(()) => {
                self.is_reporting = is_on;
                self.has_reported |= is_on;
            }
            Err(error) => {
                tracing::debug!("{}: no IP_RECVERR: {error}", Multiaddr(self.bound.local));
            }
        }
    }

    /// The next report of an undelivered datagram.
    pub(super) fn take_undelivered(&mut self) -> Option<Undelivered> {
        if !self.is_reporting {
            return None;
        }
        system::take_undelivered(&self.socket)
    }

    /// Receive into `bufs`; returns how many were filled. After an error of the socket itself, it is
    /// paused for [`BROKEN_PAUSE`].
    pub(super) fn receive(
        &mut self,
        bufs: &mut [IoSliceMut<'_>],
        meta: &mut [RecvMeta],
    ) -> io::Result<usize> {
        let received = match &self.offloads {
            Some(offloads) => offloads.recv((&*self.socket).into(), bufs, meta),
            None => self.receive_singly(bufs, meta),
        };
        match &received {
            Ok(_) => self.is_broken = false,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) if self.is_about_a_datagram(error) => {}
            Err(error) => {
                self.paused_until = Some(Instant::now() + BROKEN_PAUSE);
                if !std::mem::replace(&mut self.is_broken, true) {
                    let local = Multiaddr(self.bound.local);
                    tracing::warn!("{local}: the UDP socket cannot be read: {error}");
                }
            }
        }
        received
    }

    /// Whether an error of a receive is about a sent datagram, not about this socket. The system returns the
    /// error of any such ICMP message once, and anybody may have sent that.
    pub(super) fn is_about_a_datagram(&self, error: &io::Error) -> bool {
        is_echo(error) || system::is_of_icmp(errno(error), self.has_reported)
    }

    fn receive_singly(
        &self,
        bufs: &mut [IoSliceMut<'_>],
        meta: &mut [RecvMeta],
    ) -> io::Result<usize> {
        let ip = self.bound.local.ip();
        let mut filled = 0;
        for (buf, meta) in bufs.iter_mut().zip(meta) {
            let (len, addr) = match self.socket.recv_from(buf) {
                Ok(received) => received,
                Err(_) if filled > 0 => break,
                Err(error) => return Err(error),
            };
            *meta = RecvMeta {
                addr,
                len,
                stride: len,
                ecn: None,
                dst_ip: (!ip.is_unspecified()).then_some(ip),
            };
            filled += 1;
        }
        Ok(filled)
    }

    /// When it may be read again; `None` if it may be read now.
    pub(super) fn paused_until(&self, now: Instant) -> Option<Instant> {
        self.paused_until.filter(|until| now < *until)
    }
}

/// A socket that is not bound yet. Each socket has one family, so that both wildcard addresses can
/// share a port. If the system refuses that, IPv4 datagrams at an IPv6 socket are still dropped, and
/// binding the second wildcard address fails because the port is in use.
fn open(addr: SocketAddr) -> io::Result<socket2::Socket> {
    let socket = socket2::Socket::new(Domain::for_address(addr), Type::DGRAM, Some(Protocol::UDP))?;
    if addr.is_ipv6()
        && let Err(error) = socket.set_only_v6(true)
    {
        tracing::info!(
            "{}: the system refuses IPV6_V6ONLY: {error}",
            Multiaddr(addr)
        );
    }
    Ok(socket)
}

/// Set the options to receive many datagrams a call, with their destination address and ECN marks;
/// an error if the system refuses any of them.
fn offloads(socket: &socket2::Socket) -> io::Result<UdpSocketState> {
    let state = UdpSocketState::new(socket.into())?;
    if system::IS_BOUND_FIRST {
        return Ok(state);
    }
    // A socket that is not bound has received nothing: this only tests for recvmmsg.
    let mut byte = [0];
    match state.recv(
        socket.into(),
        &mut [IoSliceMut::new(&mut byte)],
        &mut [RecvMeta::default()],
    ) {
        Err(error) if error.kind() != io::ErrorKind::WouldBlock => Err(error),
        _ => Ok(state),
    }
}

fn errno(error: &io::Error) -> Errno {
    Errno::from_raw(error.raw_os_error().unwrap_or_default())
}

/// Whether an error is about a sent datagram on every system.
fn is_echo(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionRefused
            | io::ErrorKind::HostUnreachable
            | io::ErrorKind::NetworkUnreachable
            | io::ErrorKind::Interrupted
    )
}
