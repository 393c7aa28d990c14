//! An endpoint with a live connection, and the datagrams that a fuzzer makes for it.
//!
//! [`attacker`]: an on-path attacker without keys (RFC 9000 section 21.1). It sees every datagram
//! of the connection and writes any to both of its ends, from any address. The connection lives.
//!
//! [`peer`]: packets lie open, so the sender writes what a peer with all keys could, from the
//! first packet of a handshake on. That peer's connections may end in any way but by a defect
//! of ours; the connection of another peer to the same node lives.
//!
//! In both, bytes then cross the living connection both ways, and nothing is left at the end.

use std::{
    future::{Future, poll_fn},
    net::SocketAddr,
    pin::pin,
    task::Poll,
    time::Duration,
};

use libp2p_quic_engine::{
    CloseKind, Config, Connection, Listener, Stream,
    simulation::{CONNECTION_ID_LENGTH, Conditions, Datagram, Dice, Node, World, operations},
};

use crate::bytes::Bytes;

/// Steps of one input, so that one input takes milliseconds.
const STEPS: usize = 64;

/// Datagrams kept for repetition.
const KEPT: usize = 64;

pub(crate) fn attacker(data: &[u8]) {
    run(data, false);
}

pub(crate) fn peer(data: &[u8]) {
    run(data, true);
}

/// A world with a connection that must live, and one that the fuzzer writes into: in
/// [`attacker`] the same.
struct Scene {
    world: World,
    server: Node,
    client: Node,
    mallory: Node,
    listener: Listener,
    good: (Connection, Connection),
    attacked: Vec<Connection>,
    streams: Vec<Stream>,
    /// The two ends of the attacked connection.
    ends: [SocketAddr; 2],
    outside: SocketAddr,
    seen: Vec<Datagram>,
    /// The last packet number that was forged.
    number: u32,
}

fn run(data: &[u8], is_open: bool) {
    let mut bytes = Bytes(data);
    let mut scene = Scene::new(bytes.u8(), is_open);
    for _ in 0..STEPS {
        if bytes.is_empty() {
            break;
        }
        scene.step(&mut bytes);
    }
    scene.end();
}

impl Scene {
    fn new(flags: u8, is_open: bool) -> Self {
        let mut world = World::new(1);
        if is_open {
            world.leave_packets_open();
        }
        let mut config = Config::default();
        config.retry_above = (flags & 1 != 0).then_some(0);
        config.migration = flags & 2 == 0;
        config.accept_draft_29 = flags & 4 != 0;
        if flags & 8 != 0 {
            config.stream_receive_window = 3000;
            config.connection_receive_window = 3000;
            config.read_buffer = 1000;
            config.max_incoming_streams = 2;
        }
        let server = world.node(config);
        let client = world.node(Config::default());
        let mallory = world.node(Config::default());
        let listener = server.listen(server.v4(4001)).expect("a free port");
        let outside = world.raw_address();
        let good = join(&mut world, &client, &server, &listener);
        world.record();
        let (attacked, dialer) = if is_open {
            let (ours, theirs) = join(&mut world, &mallory, &server, &listener);
            (vec![ours, theirs.clone()], theirs.remote_addr())
        } else {
            (vec![good.0.clone(), good.1.clone()], good.1.remote_addr())
        };
        let ends = [listener.local_addr(), dialer];
        let mut scene = Self {
            world,
            server,
            client,
            mallory,
            listener,
            good,
            attacked,
            streams: Vec::new(),
            ends,
            outside,
            seen: Vec::new(),
            number: 64,
        };
        scene.talk(0, 300);
        scene
    }

    /// Let the attacked connection say something, so that there are datagrams to repeat.
    fn talk(&mut self, side: usize, len: usize) {
        let connection = self.attacked[side % 2].clone();
        let stream = self.world.spawn(async move {
            let stream = operations::open(&connection).await.ok()?;
            operations::write_all(&stream, &vec![5; len]).await.ok()?;
            Some(stream)
        });
        self.world
            .run_until(Duration::from_millis(20), |_| stream.is_done());
        if stream.is_done() {
            self.streams.extend(self.world.block_on(stream));
        }
        self.world.run_for(Duration::from_millis(11));
        self.see();
    }

    /// Remember what the attacked connection has sent.
    fn see(&mut self) {
        let sent = self.world.recorded();
        let ends = self.ends;
        self.seen.extend(
            sent.into_iter()
                .filter(|d| ends.contains(&d.from) && ends.contains(&d.to)),
        );
        let surplus = self.seen.len().saturating_sub(KEPT);
        self.seen.drain(..surplus);
    }

    fn seen(&self, bytes: &mut Bytes<'_>) -> Option<Datagram> {
        // From the newest, so that zero is the last.
        let back = usize::from(bytes.u8());
        self.seen
            .iter()
            .rev()
            .nth(back % self.seen.len().max(1))
            .cloned()
    }

    /// Where an injected datagram comes from and goes to.
    fn way(&self, choice: u8) -> (SocketAddr, SocketAddr) {
        let [server, dialer] = self.ends;
        match choice % 4 {
            0 => (dialer, server),
            1 => (server, dialer),
            2 => (self.outside, server),
            _ => (self.outside, dialer),
        }
    }

    fn step(&mut self, bytes: &mut Bytes<'_>) {
        match bytes.u8() % 9 {
            0 => {
                let (from, to) = self.way(bytes.u8());
                let len = bytes.u16() % 1500;
                let mut data = bytes.take(usize::from(len)).to_vec();
                // A first packet must be large, which a fuzzer would take long to find out.
                if bytes.bool() {
                    data.resize(1200, 0);
                }
                self.world.inject(from, to, &data);
            }
            1 => self.repeat(bytes),
            2 => {
                // Two real ones in one datagram.
                if let (Some(a), Some(b)) = (self.seen(bytes), self.seen(bytes)) {
                    let (from, to) = self.way(bytes.u8());
                    let cut = usize::from(bytes.u16()) % (a.data.len() + 1);
                    let skip = usize::from(bytes.u16()) % (b.data.len() + 1);
                    let data = [&a.data[..cut], &b.data[skip..]].concat();
                    self.world.inject(from, to, &data);
                }
            }
            3 | 4 => self.forge(bytes),
            5 => {
                let ms = u64::from(bytes.u8());
                self.world.run_for(Duration::from_millis(ms * ms / 8 + 1));
                self.see();
            }
            6 => {
                let dialer = if bytes.bool() {
                    &self.server
                } else {
                    &self.mallory
                };
                let to = if bytes.bool() {
                    self.ends[0]
                } else {
                    self.outside
                };
                if self.attacked.len() < 8 {
                    self.attacked
                        .push(dialer.connect(to, None).expect("a dial"));
                }
            }
            7 => {
                let side = usize::from(bytes.u8());
                let len = usize::from(bytes.u16() % 8000);
                self.talk(side, len);
            }
            _ => {
                // For a time that no idle timeout can come of.
                let losses = [0.1, 0.2, 0.5, 1.0];
                self.world.link(Conditions {
                    loss: losses[usize::from(bytes.u8() % 4)],
                    ..Conditions::default()
                });
                self.talk(1, 2000);
                self.world.link(Conditions::default());
            }
        }
    }

    /// A datagram that was sent, with changes, perhaps by another way.
    fn repeat(&mut self, bytes: &mut Bytes<'_>) {
        let Some(mut datagram) = self.seen(bytes) else {
            return;
        };
        let (from, to) = match bytes.u8() {
            choice @ 0..=3 => self.way(choice),
            _ => (datagram.from, datagram.to),
        };
        let data = &mut datagram.data;
        for _ in 0..bytes.u8() % 8 {
            let at = usize::from(bytes.u16()) % data.len().max(1);
            match bytes.u8() % 4 {
                0 if !data.is_empty() => data[at] = bytes.u8(),
                1 => data.truncate(at),
                2 => {
                    let len = usize::from(bytes.u8() % 32);
                    let piece = bytes.take(len).iter().copied();
                    data.splice(at..(at + len).min(data.len()), piece);
                }
                _ => data.insert(at.min(data.len()), bytes.u8()),
            }
        }
        self.world.inject(from, to, data);
    }

    /// A packet of a live connection with frames of the fuzzer's: sealed by nothing, it is
    /// believed only where packets lie open.
    fn forge(&mut self, bytes: &mut Bytes<'_>) {
        let (from, to) = self.way(bytes.u8());
        let known = self.seen.iter().rev();
        let mut known =
            known.filter(|d| d.to == to && d.data.first().is_some_and(|b| b & 0x80 == 0));
        let Some(id) = known.find_map(|d| d.data.get(1..1 + CONNECTION_ID_LENGTH)) else {
            return;
        };
        let flags = bytes.u8();
        self.number = self.number.wrapping_add(u32::from(flags >> 4));
        // RFC 9000 section 17.3.1: the fixed bit, the key phase, four bytes of number.
        let mut packet = vec![0x43 | (flags & 4)];
        packet.extend_from_slice(id);
        packet.extend_from_slice(&self.number.to_be_bytes());
        let len = usize::from(bytes.u8());
        packet.extend_from_slice(bytes.take(len));
        packet.extend_from_slice(&[0; 20]);
        self.world.inject(from, to, &packet);
    }

    /// The good connection works, and nothing is left of anything.
    fn end(mut self) {
        self.world.link(Conditions::default());
        self.world.run_for(Duration::from_secs(1));
        self.streams.clear();
        let began = self.world.now();
        let (ours, theirs) = self.good;
        for (from, to) in [(&ours, &theirs), (&theirs, &ours)] {
            self.world.block_on(bytes_cross(from, to));
        }
        // It was delayed by lost packets at most, and never by what came in between.
        let took = self.world.now() - began;
        assert!(took < Duration::from_secs(20), "it took {took:?}");
        assert_eq!((ours.error(), theirs.error()), (None, None));

        for connection in &self.attacked {
            if let Some(error) = connection.error() {
                assert_ne!(error.kind, CloseKind::Internal, "{error}");
            }
        }
        drop((ours, theirs, self.listener));
        self.attacked.clear();
        self.world.abandon_tasks();
        let nodes = [self.server, self.client, self.mallory];
        let is_over = self.world.run_until(Duration::from_secs(60), |world| {
            nodes.iter().all(|node| {
                let census = world.census(node);
                census.is_none_or(|census| census == Default::default())
            })
        });
        let left: Vec<_> = nodes.iter().map(|node| self.world.census(node)).collect();
        assert!(is_over, "connections are left: {left:?}");
        for node in &nodes {
            node.close(0, b"");
        }
        let is_closed = self.world.run_until(Duration::from_secs(5), |world| {
            nodes.iter().all(|node| !world.is_running(node))
        });
        assert!(is_closed, "an endpoint does not close");
        drop(nodes);
        assert_eq!(self.world.remains(), 0, "something is never freed");
    }
}

fn join(
    world: &mut World,
    client: &Node,
    server: &Node,
    listener: &Listener,
) -> (Connection, Connection) {
    let (to, who) = (listener.local_addr(), server.peer_id());
    world.block_on(async {
        let ours = operations::connect(client, to, Some(who)).await;
        let theirs = operations::accept(listener).await;
        (ours.expect("a connection"), theirs.expect("a connection"))
    })
}

/// A stream of its own, among those that the attacked connection has open: the peer's
/// program takes and drops these, which makes room for more.
async fn bytes_cross(from: &Connection, to: &Connection) {
    let mut dice = Dice::new(3);
    let sent: Vec<u8> = (0..500).flat_map(|_| dice.roll().to_le_bytes()).collect();
    let write = async {
        let ours = operations::open(from).await.expect("a stream");
        operations::write_all(&ours, b"!").await.expect("written");
        operations::write_all(&ours, &sent).await.expect("written");
        ours.finish();
        ours
    };
    let read = async {
        loop {
            let theirs = operations::accept_stream(to).await.expect("a stream");
            if operations::read(&theirs, 1)
                .await
                .is_ok_and(|byte| byte == b"!"[..])
            {
                return operations::read_to_end(&theirs).await.expect("all bytes");
            }
        }
    };
    let (_ours, read) = both(write, read).await;
    assert!(read == sent, "other bytes than were sent");
}

/// Two futures at once.
async fn both<A, B>(a: impl Future<Output = A>, b: impl Future<Output = B>) -> (A, B) {
    let (mut a, mut b) = (pin!(a), pin!(b));
    let (mut one, mut other) = (None, None);
    poll_fn(|cx| {
        if one.is_none()
            && let Poll::Ready(value) = a.as_mut().poll(cx)
        {
            one = Some(value);
        }
        if other.is_none()
            && let Poll::Ready(value) = b.as_mut().poll(cx)
        {
            other = Some(value);
        }
        match (one.take(), other.take()) {
            (Some(a), Some(b)) => Poll::Ready((a, b)),
            (a, b) => {
                (one, other) = (a, b);
                Poll::Pending
            }
        }
    })
    .await
}
