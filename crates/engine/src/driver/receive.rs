//! Receives from one socket for its core: whole batches, for a bounded time, and the reports of
//! undelivered datagrams. The caller knows which sockets are readable.

use std::time::{Duration, Instant};

use bytes::BytesMut;
use quinn_proto::EcnCodepoint;
use quinn_udp::RecvMeta;

use crate::driver::{
    core::Core,
    network::{ReceivedDatagram, SocketKey},
    open_sockets::OpenSockets,
    recv_buffers::RecvBuffers,
    socket::Socket,
};

/// Messages in one receive call; GRO may coalesce many datagrams into each. Not more than
/// quinn-udp's calls return, which is one where the system has no recvmmsg (macOS): a call that
/// returned fewer than this has emptied the socket.
pub(super) const RECEIVE_BATCH: usize = if quinn_udp::BATCH_SIZE < 8 {
    quinn_udp::BATCH_SIZE
} else {
    8
};

/// The same for an event loop, which needs one message at most times; the second shows that there
/// are no more.
pub(super) const LOOP_BATCH: usize = if RECEIVE_BATCH < 2 { RECEIVE_BATCH } else { 2 };

/// How long one socket may receive before connections are driven: their ACKs wait meanwhile.
const RECEIVE_TURN: Duration = Duration::from_micros(100);

/// Handle the reports of undelivered datagrams. `poll` reports an error while there are any.
pub(super) fn take_undelivered(core: &mut Core, open: &mut OpenSockets, key: SocketKey) {
    let began = Instant::now();
    while let Some(message) = open.get_mut(key).and_then(Socket::take_undelivered) {
        core.handle_undelivered(began, key, &message);
        // A flood of ICMP messages must not hold the thread.
        if began.elapsed() > RECEIVE_TURN {
            break;
        }
    }
}

/// How much one turn received, and what the endpoint sent since the turn before.
#[derive(Clone, Copy, Default)]
pub(super) struct Received {
    pub(super) messages: usize,
    pub(super) bytes: usize,
    pub(super) bytes_sent: usize,
}

impl Received {
    /// Not more than an event loop should receive itself: one message, and no full datagram. With more,
    /// as with many requests in flight, both threads have work at the same time. They also have while this
    /// endpoint sends bulk, whose acknowledgments are single small messages.
    pub(super) fn is_small(self) -> bool {
        self.messages <= 1 && self.bytes <= 512 && self.bytes_sent <= 2048
    }
}

/// Buffers to receive into, `BATCH` messages a call.
pub(super) struct Receiver<const BATCH: usize> {
    buffers: RecvBuffers,
    meta: [RecvMeta; BATCH],
}

impl<const BATCH: usize> Receiver<BATCH> {
    pub(super) fn new() -> Self {
        Self {
            buffers: RecvBuffers::new(BATCH),
            meta: [RecvMeta::default(); BATCH],
        }
    }

    /// Bytes of pooled buffers.
    pub(super) fn retained(&self) -> usize {
        self.buffers.retained()
    }

    /// Free the pooled buffers.
    pub(super) fn forget(&mut self) {
        self.buffers.forget();
    }

    /// Receive, and handle what was received, until the socket is empty or the turn is over.
    pub(super) fn receive(
        &mut self,
        core: &mut Core,
        open: &mut OpenSockets,
        key: SocketKey,
    ) -> Received {
        let mut received = Received {
            bytes_sent: open.take_sent(),
            ..Received::default()
        };
        self.receive_for(
            RECEIVE_TURN,
            open,
            key,
            |open, now, meta, mut data, is_pinned| {
                received.messages += 1;
                received.bytes += meta.len;
                // The kernel may have coalesced several datagrams of `stride` bytes.
                core.note_received(key, meta.len.div_ceil(meta.stride.max(1)), meta.len);
                while !data.is_empty() {
                    let part = data.split_to(meta.stride.clamp(1, data.len()));
                    let datagram = ReceivedDatagram {
                        socket: key,
                        remote: meta.addr,
                        local_ip: meta.dst_ip,
                        ecn: meta.ecn.and_then(|ecn| EcnCodepoint::from_bits(ecn as u8)),
                        data: match is_pinned {
                            true => BytesMut::from(&part[..]),
                            false => part,
                        },
                    };
                    core.handle_datagram(now, datagram, open);
                }
            },
        );
        received
    }

    /// Receive until the socket is empty or `turn` is over.
    fn receive_for(
        &mut self,
        turn: Duration,
        open: &mut OpenSockets,
        key: SocketKey,
        mut handle: impl FnMut(&mut OpenSockets, Instant, &RecvMeta, BytesMut, bool),
    ) {
        let Self { buffers, meta } = self;
        let began = Instant::now();
        loop {
            let Some(socket) = open.get_mut(key) else {
                return;
            };
            let filled = match socket.receive(&mut buffers.slices(), meta) {
                Ok(filled) => filled,
                Err(error) if socket.is_about_a_datagram(&error) && began.elapsed() <= turn => {
                    continue;
                }
                Err(_) => return,
            };
            let now = Instant::now();
            for (index, meta) in meta[..filled].iter().enumerate() {
                let data = buffers.take(index, meta.len);
                handle(open, now, meta, data, buffers.is_pinned());
            }
            // Fewer than asked for: the socket is empty, or `poll` reports it again.
            if filled < BATCH || now.saturating_duration_since(began) > turn {
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, UdpSocket};

    use super::*;

    /// How many of three waiting datagrams one turn receives with calls that return up to `BATCH`.
    fn received_in_one_turn<const BATCH: usize>() -> usize {
        let socket = Socket::bind((Ipv4Addr::LOCALHOST, 0).into()).expect("a socket");
        let to = socket.bound().local;
        let peer = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("a socket");
        for _ in 0..3 {
            peer.send_to(b"datagram", to).expect("a datagram");
        }
        let mut open = OpenSockets::default();
        open.extend([(0, socket)]);
        let mut received = 0;
        Receiver::<BATCH>::new().receive_for(
            Duration::from_secs(60),
            &mut open,
            0,
            |_, _, meta, data, _| received += data.len() / meta.stride,
        );
        received
    }

    #[test]
    fn a_turn_empties_the_socket_whatever_one_call_returns() {
        assert_eq!(received_in_one_turn::<RECEIVE_BATCH>(), 3);
        // As on macOS.
        assert_eq!(received_in_one_turn::<1>(), 3);
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn a_call_returns_several_messages_on_linux() {
        assert_eq!(RECEIVE_BATCH, 8);
    }
}
