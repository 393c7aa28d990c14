//! What the tests of this binary share: seeds, a pair of nodes, and the question whether
//! anything was left behind.

use std::{
    future::{Future, poll_fn},
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    pin::pin,
    task::Poll,
    time::Duration,
};

use libp2p_quic_engine::{
    CloseKind, Config, Connection, ConnectionError, EndpointStatistics, Listener, Party, Stream,
    simulation::{Dice, Node, World, operations},
};

/// A number from the environment.
fn number(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    let number = text.parse();
    Some(number.unwrap_or_else(|_| panic!("{name}={text} is not a number")))
}

/// Run a test with `seeds` seeds, or as many as LIBP2P_QUIC_SEEDS says, or with the one that
/// LIBP2P_QUIC_SEED names.
pub(crate) fn each_seed(test: &str, seeds: u64, run: impl Fn(u64)) {
    let chosen = number("LIBP2P_QUIC_SEED");
    let seeds = number("LIBP2P_QUIC_SEEDS").unwrap_or(seeds);
    let all = chosen.map_or(0..seeds, |seed| seed..seed + 1);
    for seed in all {
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| run(seed))) {
            if chosen.is_some() {
                resume_unwind(panic);
            }
            panic!(
                "seed {seed} failed. To run only it: LIBP2P_QUIC_SEED={seed} cargo test \
                 -p libp2p-quic-engine --all-features --test simulation {test} -- --exact"
            );
        }
    }
}

/// The default configuration with a change.
pub(crate) fn config(change: impl FnOnce(&mut Config)) -> Config {
    let mut config = Config::default();
    change(&mut config);
    config
}

/// A configuration that sends nothing by itself, so that silence is silence.
pub(crate) fn quiet(change: impl FnOnce(&mut Config)) -> Config {
    config(|c| {
        c.keep_alive_interval = None;
        change(c);
    })
}

/// Two nodes, one of which listens.
pub(crate) struct Pair {
    pub(crate) world: World,
    pub(crate) server: Node,
    pub(crate) client: Node,
    pub(crate) listener: Listener,
}

impl Pair {
    pub(crate) fn new(seed: u64) -> Self {
        Self::with(seed, Config::default(), Config::default())
    }

    pub(crate) fn with(seed: u64, server: Config, client: Config) -> Self {
        let mut world = World::new(seed);
        let server = world.node(server);
        let client = world.node(client);
        let listener = server.listen(server.v4(4001)).expect("a free port");
        Self {
            world,
            server,
            client,
            listener,
        }
    }

    /// An established connection, from the client's and from the server's side.
    pub(crate) fn connect(&mut self) -> (Connection, Connection) {
        let Self {
            world,
            server,
            client,
            listener,
        } = self;
        join(world, client, server, listener)
    }

    /// Drop everything and see that nothing is left of it anywhere.
    pub(crate) fn leave_nothing(self) {
        let Self {
            world,
            server,
            client,
            listener,
        } = self;
        drop(listener);
        leave_nothing(world, vec![server, client]);
    }
}

/// The connection works: a byte on a new stream reaches the other side.
pub(crate) async fn a_byte_crosses(ours: &Connection, theirs: &Connection) {
    let a = operations::open(ours).await.expect("a stream");
    operations::write_all(&a, b"x").await.expect("written");
    let b = operations::accept_stream(theirs).await.expect("a stream");
    assert_eq!(operations::read(&b, 1).await.expect("a byte"), &b"x"[..]);
}

/// Dial and accept.
pub(crate) fn join(
    world: &mut World,
    client: &Node,
    server: &Node,
    listener: &Listener,
) -> (Connection, Connection) {
    let (to, who) = (listener.local_addr(), server.peer_id());
    world.block_on(async {
        let ours = operations::connect(client, to, Some(who))
            .await
            .expect("a connection");
        let theirs = operations::accept(listener).await.expect("a connection");
        (ours, theirs)
    })
}

/// A stream from our side and from theirs; a byte goes along, as QUIC tells of no stream
/// without one.
pub(crate) async fn stream(ours: &Connection, theirs: &Connection) -> (Stream, Stream) {
    let a = operations::open(ours).await.expect("a stream");
    operations::write_all(&a, b"!").await.expect("written");
    let b = operations::accept_stream(theirs).await.expect("a stream");
    assert_eq!(operations::read(&b, 1).await.expect("a byte"), &b"!"[..]);
    (a, b)
}

/// Whether a node holds no connection and nothing of one.
pub(crate) fn is_empty(world: &World, node: &Node) -> bool {
    world
        .census(node)
        .is_none_or(|census| census == Default::default())
}

/// How long the ends of a world may take: the longest handshake timeout of these tests, 60 s, which
/// an attempt takes that its dialer gave up in silence, and the closing period after it.
const ENDS_WITHIN: Duration = Duration::from_secs(90);

/// Connections end and leave nothing in the cores; endpoints close and leave nothing at all.
/// The caller has dropped, or drops with the nodes, all handles.
pub(crate) fn leave_nothing(mut world: World, nodes: Vec<Node>) {
    world.abandon_tasks();
    let seed = world.seed();
    let is_over = world.run_until(ENDS_WITHIN, |world| {
        nodes.iter().all(|node| is_empty(world, node))
    });
    let left: Vec<_> = nodes.iter().map(|node| world.census(node)).collect();
    assert!(is_over, "seed {seed}: connections are left: {left:?}");
    for node in &nodes {
        node.close(0, b"");
    }
    let is_closed = world.run_until(Duration::from_secs(5), |world| {
        nodes.iter().all(|node| !world.is_running(node))
    });
    assert!(is_closed, "seed {seed}: an endpoint does not close");
    for node in &nodes {
        assert_eq!(world.sockets(node), 0, "seed {seed}: a socket is left");
        assert_nothing_in_use(seed, &node.endpoint().statistics());
    }
    drop(nodes);
    assert_eq!(world.remains(), 0, "seed {seed}: something is never freed");
}

/// Every gauge of an endpoint that has ended is zero, and each connection that was opened was closed.
fn assert_nothing_in_use(seed: u64, counted: &EndpointStatistics) {
    let gauges = [
        counted.endpoints,
        counted.connections_open,
        counted.handshakes_inbound,
        counted.handshakes_outbound,
        counted.streams_open,
    ];
    assert_eq!(gauges, [0; 5], "seed {seed}: {counted:?}");
    assert_eq!(counted.round_trip_times, Default::default(), "seed {seed}");
    assert_eq!(counted.dialed_ip4, counted.dialed_closed_ip4, "seed {seed}");
    assert_eq!(counted.dialed_ip6, counted.dialed_closed_ip6, "seed {seed}");
    assert_eq!(
        counted.accepted_ip4, counted.accepted_closed_ip4,
        "seed {seed}"
    );
    assert_eq!(
        counted.accepted_ip6, counted.accepted_closed_ip6,
        "seed {seed}"
    );
    let closed: u64 = counted.connections_closed.iter().flatten().sum();
    let opened = counted.handshake_times.buckets.iter().sum::<u64>();
    assert_eq!(closed, opened, "seed {seed}");
    let opened_sessions = [
        counted.dialed_webtransport_ip4,
        counted.dialed_webtransport_ip6,
        counted.accepted_webtransport_ip4,
        counted.accepted_webtransport_ip6,
    ];
    let closed_sessions = [
        counted.dialed_closed_webtransport_ip4,
        counted.dialed_closed_webtransport_ip6,
        counted.accepted_closed_webtransport_ip4,
        counted.accepted_closed_webtransport_ip6,
    ];
    assert_eq!(opened_sessions, closed_sessions, "seed {seed}");
    let proven = counted.webtransport_handshake_times.buckets;
    let sessions: u64 = opened_sessions.iter().sum();
    assert_eq!(sessions, proven.iter().sum::<u64>(), "seed {seed}");
}

/// Do both at once: programs that write all before they read hold each other up where their
/// streams share a small window.
pub(crate) async fn both<A, B>(a: impl Future<Output = A>, b: impl Future<Output = B>) -> (A, B) {
    let (mut a, mut b) = (pin!(a), pin!(b));
    let (mut first, mut second) = (None, None);
    poll_fn(|cx| {
        if first.is_none()
            && let Poll::Ready(value) = a.as_mut().poll(cx)
        {
            first = Some(value);
        }
        if second.is_none()
            && let Poll::Ready(value) = b.as_mut().poll(cx)
        {
            second = Some(value);
        }
        match (first.take(), second.take()) {
            (Some(a), Some(b)) => Poll::Ready((a, b)),
            (a, b) => {
                (first, second) = (a, b);
                Poll::Pending
            }
        }
    })
    .await
}

/// Bytes that show any mistake in their order.
pub(crate) fn pattern(seed: u64, len: usize) -> Vec<u8> {
    let mut dice = Dice::new(seed);
    let mut bytes = Vec::with_capacity(len + 8);
    while bytes.len() < len {
        bytes.extend_from_slice(&dice.roll().to_le_bytes());
    }
    bytes.truncate(len);
    bytes
}

/// An error without its reason.
pub(crate) fn essence(error: &ConnectionError) -> (Party, CloseKind, Option<u64>) {
    (error.by, error.kind, error.code)
}

pub(crate) const fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

pub(crate) const fn secs(n: u64) -> Duration {
    Duration::from_secs(n)
}
