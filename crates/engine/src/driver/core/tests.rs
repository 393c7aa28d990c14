//! Two cores that exchange datagrams without sockets and threads: panics while a connection begins, and
//! the texts that a peer sends.

use std::{
    any::Any,
    io,
    net::{IpAddr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll, Wake, Waker},
    time::{Duration, Instant},
};

use bytes::BytesMut;
use quinn_proto::{
    ConnectionId, Side, TransportError,
    crypto::{
        ExportKeyingMaterialError, HeaderKey, KeyPair, Keys, PacketKey, ServerConfig, Session,
        UnsupportedVersion,
    },
    transport_parameters::TransportParameters,
};

use super::{Core, TURNS_PER_DRIVE};
use crate::{
    census::Census,
    config::{Config, Flush},
    connection::Connection,
    driver::{
        command::{Commands, IoWaker},
        network::{BoundSocket, Network, ReceivedDatagram, Sending, SocketKey, SocketProvider},
        settings::Settings,
    },
    endpoint::Endpoint,
    error::{CloseKind, Party},
    identity::Identity,
    listener::Listener,
    stream::Stream,
};

/// Where the next connection to begin panics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Panic {
    /// An inbound one, before quinn-proto has added it.
    StartSession,
    /// An inbound one, at the contents of its first packet.
    FirstPacket,
    /// A dialed one.
    Dial,
}

impl Panic {
    pub(super) const MESSAGE: &str = "a panic provoked by a test";
}

impl Core {
    /// Replace the cryptography of an inbound connection by one that panics, if a test asks for it.
    pub(super) fn provoke_in(
        &mut self,
        mut server: Arc<quinn_proto::ServerConfig>,
    ) -> Arc<quinn_proto::ServerConfig> {
        if let Some(panic) = self.provoked.take_if(|it| *it != Panic::Dial) {
            let inner = server.crypto.clone();
            Arc::make_mut(&mut server).crypto = Arc::new(FaultyServer { inner, panic });
        }
        server
    }
}

struct FaultyServer {
    inner: Arc<dyn ServerConfig>,
    panic: Panic,
}

impl ServerConfig for FaultyServer {
    fn initial_keys(
        &self,
        version: u32,
        dst_cid: &ConnectionId,
    ) -> Result<Keys, UnsupportedVersion> {
        self.inner.initial_keys(version, dst_cid)
    }

    fn retry_tag(&self, version: u32, orig_dst_cid: &ConnectionId, packet: &[u8]) -> [u8; 16] {
        self.inner.retry_tag(version, orig_dst_cid, packet)
    }

    fn start_session(
        self: Arc<Self>,
        version: u32,
        params: &TransportParameters,
    ) -> Box<dyn Session> {
        assert!(self.panic != Panic::StartSession, "{}", Panic::MESSAGE);
        let inner = Arc::clone(&self.inner).start_session(version, params);
        Box::new(FaultySession(inner))
    }
}

/// Panics when it reads the ClientHello.
struct FaultySession(Box<dyn Session>);

impl Session for FaultySession {
    fn initial_keys(&self, dst_cid: &ConnectionId, side: Side) -> Keys {
        self.0.initial_keys(dst_cid, side)
    }

    fn handshake_data(&self) -> Option<Box<dyn Any>> {
        self.0.handshake_data()
    }

    fn peer_identity(&self) -> Option<Box<dyn Any>> {
        self.0.peer_identity()
    }

    fn early_crypto(&self) -> Option<(Box<dyn HeaderKey>, Box<dyn PacketKey>)> {
        self.0.early_crypto()
    }

    fn early_data_accepted(&self) -> Option<bool> {
        self.0.early_data_accepted()
    }

    fn is_handshaking(&self) -> bool {
        self.0.is_handshaking()
    }

    fn read_handshake(&mut self, _: &[u8]) -> Result<bool, TransportError> {
        panic!("{}", Panic::MESSAGE)
    }

    fn transport_parameters(&self) -> Result<Option<TransportParameters>, TransportError> {
        self.0.transport_parameters()
    }

    fn write_handshake(&mut self, buf: &mut Vec<u8>) -> Option<Keys> {
        self.0.write_handshake(buf)
    }

    fn next_1rtt_keys(&mut self) -> Option<KeyPair<Box<dyn PacketKey>>> {
        self.0.next_1rtt_keys()
    }

    fn is_valid_retry(&self, orig_dst_cid: &ConnectionId, header: &[u8], payload: &[u8]) -> bool {
        self.0.is_valid_retry(orig_dst_cid, header, payload)
    }

    fn export_keying_material(
        &self,
        output: &mut [u8],
        label: &[u8],
        context: &[u8],
    ) -> Result<(), ExportKeyingMaterialError> {
        self.0.export_keying_material(output, label, context)
    }
}

/// The datagrams that a core has sent, with their destinations.
#[derive(Default)]
struct Outbox(Vec<(SocketAddr, Vec<u8>)>);

impl Network for Outbox {
    fn send(&mut self, _: SocketKey, transmit: &quinn_udp::Transmit<'_>) -> Sending {
        let size = transmit.segment_size.unwrap_or(transmit.contents.len());
        for datagram in transmit.contents.chunks(size.max(1)) {
            self.0.push((transmit.destination, datagram.to_vec()));
        }
        Sending::Sent
    }

    fn max_segments(&self, _: SocketKey) -> usize {
        1
    }

    fn report_undelivered(&mut self, _: SocketKey, _: bool) {}

    fn close(&mut self, _: SocketKey) {}
}

/// Gives every socket the same address.
struct OneAddress(SocketAddr);

impl SocketProvider for OneAddress {
    fn bind(&self, _: SocketKey, _: SocketAddr) -> io::Result<BoundSocket> {
        Ok(BoundSocket {
            local: self.0,
            refusal: None,
        })
    }

    fn source(&self, _: SocketAddr) -> io::Result<IpAddr> {
        Ok(self.0.ip())
    }

    fn has_address(&self, _: SocketAddr) -> bool {
        true
    }

    fn share_network(&self, _: IpAddr, _: IpAddr) -> bool {
        false
    }

    fn census(&self) -> Option<Census> {
        None
    }
}

/// The test drives the cores itself. Counts how often a thread would have been woken.
#[derive(Default)]
struct NoThread(AtomicUsize);

impl IoWaker for NoThread {
    fn wake(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

/// An endpoint with one socket.
struct Node {
    core: Core,
    endpoint: Endpoint,
    outbox: Outbox,
    at: SocketAddr,
    thread: Arc<NoThread>,
}

impl Node {
    fn new(at: SocketAddr) -> Self {
        let identity = Identity::generate();
        let settings = Settings::new(&identity, Config::default()).expect("settings");
        let thread = Arc::new(NoThread::default());
        let commands = Commands::new(thread.clone(), Flush::OnRequest);
        let (core, endpoint) =
            Endpoint::assemble(&identity, settings, commands, Arc::new(OneAddress(at)));
        Self {
            core,
            endpoint,
            outbox: Outbox::default(),
            at,
            thread,
        }
    }

    /// How often `job` wakes the thread that would drive the core.
    fn wakes(&self, job: impl FnOnce()) -> usize {
        let before = self.thread.0.load(Ordering::Relaxed);
        job();
        self.thread.0.load(Ordering::Relaxed) - before
    }

    fn drive(&mut self, now: Instant) {
        self.endpoint.flush();
        loop {
            self.core.take_commands(now);
            if !self.core.advance(now, TURNS_PER_DRIVE, &mut self.outbox) {
                return;
            }
        }
    }

    fn receive(&mut self, now: Instant, remote: SocketAddr, sent: Vec<(SocketAddr, Vec<u8>)>) {
        for (to, data) in sent {
            assert_eq!(to, self.at);
            let datagram = ReceivedDatagram {
                // The first socket of an endpoint.
                socket: 0,
                remote,
                local_ip: Some(self.at.ip()),
                ecn: None,
                data: BytesMut::from(&data[..]),
            };
            self.core.handle_datagram(now, datagram, &mut self.outbox);
        }
    }
}

struct Pair {
    server: Node,
    client: Node,
    listener: Listener,
    now: Instant,
}

/// How long a test may wait, in virtual time: less than the handshake timeout.
const LIMIT: Duration = Duration::from_secs(8);

impl Pair {
    fn new() -> Self {
        let server = Node::new(SocketAddr::from(([192, 0, 2, 1], 4001)));
        let listener = server.endpoint.listen(server.at).expect("a socket");
        Self {
            server,
            client: Node::new(SocketAddr::from(([192, 0, 2, 2], 5001))),
            listener,
            now: Instant::now(),
        }
    }

    /// Drive both cores, and deliver what they send. True if there was something.
    fn exchange(&mut self) -> bool {
        let Self {
            server,
            client,
            now,
            ..
        } = self;
        server.drive(*now);
        client.drive(*now);
        let to_client = std::mem::take(&mut server.outbox.0);
        let to_server = std::mem::take(&mut client.outbox.0);
        let is_busy = !to_client.is_empty() || !to_server.is_empty();
        client.receive(*now, server.at, to_client);
        server.receive(*now, client.at, to_server);
        is_busy
    }

    fn run_until(&mut self, condition: impl Fn(&Self) -> bool) {
        let limit = self.now + LIMIT;
        while !condition(self) {
            assert!(self.now < limit, "it does not happen");
            if !self.exchange() {
                let deadlines = [self.server.core.deadline(), self.client.core.deadline()];
                let next = deadlines.into_iter().flatten().min().unwrap_or(limit);
                self.now = next.max(self.now + Duration::from_millis(1));
            }
        }
    }

    /// A connection, from the client's and from the server's side.
    fn connect(&mut self) -> (Connection, Connection) {
        let to = self.server.at;
        let ours = self.client.endpoint.connect(to, None).expect("a dial");
        self.run_until(|pair| is_connected(&ours) && pair.listener.statistics().backlog > 0);
        let mut cx = Context::from_waker(Waker::noop());
        let Poll::Ready(theirs) = self.listener.poll_accept(&mut cx) else {
            panic!("no connection waits");
        };
        (ours, theirs.expect("the listener is open"))
    }
}

fn is_connected(connection: &Connection) -> bool {
    let mut cx = Context::from_waker(Waker::noop());
    matches!(connection.poll_connected(&mut cx), Poll::Ready(Ok(())))
}

/// quinn-proto has no connection that nobody drives.
fn all_are_driven(node: &Node) -> bool {
    let census = node.core.census();
    census.connections == census.quic_connections
}

#[test]
fn a_panic_at_a_first_packet_ends_only_that_attempt() {
    for panic in [Panic::StartSession, Panic::FirstPacket] {
        let mut pair = Pair::new();
        let held = pair.connect();
        pair.server.core.provoked = Some(panic);
        // The dial repeats its first packets, and begins again with another connection id.
        let again = pair.connect();
        assert_eq!(pair.server.core.provoked, None);
        assert!(all_are_driven(&pair.server), "{panic:?}");
        let last = pair.connect();
        assert!(all_are_driven(&pair.server), "{panic:?}");
        for (ours, theirs) in [held, again, last] {
            assert_eq!((ours.error(), theirs.error()), (None, None), "{panic:?}");
        }
    }
}

#[test]
fn a_panic_where_a_dial_begins_ends_only_that_dial() {
    let mut pair = Pair::new();
    let held = pair.connect();
    pair.client.core.provoked = Some(Panic::Dial);
    let to = pair.server.at;
    let failed = pair.client.endpoint.connect(to, None).expect("a dial");
    pair.run_until(|_| failed.error().is_some());
    let error = failed.error().expect("it has ended");
    assert_eq!((error.by, error.kind), (Party::Local, CloseKind::Internal));
    assert_eq!(error.reason, Panic::MESSAGE);
    let again = pair.connect();
    assert!(all_are_driven(&pair.client));
    for (ours, theirs) in [held, again] {
        assert_eq!((ours.error(), theirs.error()), (None, None));
    }
}

#[test]
fn a_handshake_that_ends_with_its_core_is_counted_as_failed() {
    let mut pair = Pair::new();
    let to = pair.server.at;
    let _dialed = pair.client.endpoint.connect(to, None).expect("a dial");
    pair.run_until(|pair| pair.listener.statistics().handshakes_started == 1);
    assert_eq!(pair.listener.statistics().handshakes_failed, 0);
    // As after a panic outside of any one connection.
    let Pair {
        server, listener, ..
    } = pair;
    drop(server.core);
    assert_eq!(listener.statistics().handshakes_failed, 1);
    assert_eq!(server.endpoint.statistics().handshakes_failed, 1);
}

#[test]
fn the_reason_that_a_peer_sends_is_one_line_without_control_characters() {
    let mut pair = Pair::new();
    let (ours, theirs) = pair.connect();
    let sent = "done\u{1b}[2J\nWARNING: \u{202e}forged, \u{e9}";
    ours.close(7, sent.as_bytes());
    pair.run_until(|_| theirs.error().is_some());
    let error = theirs.error().expect("it has ended");
    let (by, kind) = (Party::Peer, CloseKind::Closed);
    assert_eq!((error.by, error.kind, error.code), (by, kind, Some(7)));
    let shown = "done\\u{1b}[2J\\nWARNING: \\u{202e}forged, \u{e9}";
    assert_eq!(error.reason, shown);
    // This program's own text is not changed.
    assert_eq!(
        ours.error().map(|error| error.reason),
        Some(sent.to_owned())
    );
}

/// All bytes of a stream whose end has arrived.
fn all_of(stream: &Stream) -> Vec<u8> {
    let mut cx = Context::from_waker(Waker::noop());
    let (mut all, mut buf) = (Vec::new(), [0; 8]);
    loop {
        match stream.poll_read(&mut cx, &mut buf) {
            Poll::Ready(Ok(0)) => return all,
            Poll::Ready(Ok(n)) => all.extend_from_slice(&buf[..n]),
            other => panic!("{other:?}"),
        }
    }
}

/// Write these bytes and finish.
fn write_all(stream: &Stream, bytes: &[u8]) {
    let mut cx = Context::from_waker(Waker::noop());
    let written = stream.poll_write(&mut cx, bytes);
    assert!(matches!(written, Poll::Ready(Ok(n)) if n == bytes.len()));
    stream.finish();
}

#[test]
fn only_the_drop_of_a_stream_that_has_not_ended_wakes_the_thread() {
    let mut pair = Pair::new();
    let (ours, theirs) = pair.connect();
    let mut cx = Context::from_waker(Waker::noop());
    let (Poll::Ready(Ok(request)), Poll::Ready(Ok(other))) =
        (ours.poll_open(&mut cx), ours.poll_open(&mut cx))
    else {
        panic!("no stream is open");
    };
    write_all(&request, b"request");
    pair.run_until(|_| theirs.statistics().streams_waiting == 1);
    let Poll::Ready(Ok(answer)) = theirs.poll_accept(&mut cx) else {
        panic!("no stream waits");
    };
    assert_eq!(all_of(&answer), b"request");
    write_all(&answer, b"answer");
    // The command to send the answer waits for the flush.
    assert_eq!(pair.server.wakes(|| drop(answer)), 0);
    pair.run_until(|_| ours.statistics().receive_held > 0);
    assert_eq!(all_of(&request), b"answer");
    write_all(&other, b"held back");
    assert_eq!(pair.client.wakes(|| drop(request)), 0);
    assert_eq!(pair.client.wakes(|| drop(other)), 1);
}

#[test]
fn a_stop_that_came_before_the_accept_is_answered_without_a_flush() {
    let mut pair = Pair::new();
    let (ours, theirs) = pair.connect();
    let mut cx = Context::from_waker(Waker::noop());
    let Poll::Ready(Ok(request)) = ours.poll_open(&mut cx) else {
        panic!("no stream is open");
    };
    assert!(request.poll_write(&mut cx, b"x").is_ready());
    // Before the finish, after which STOP_SENDING would wait.
    request.stop(7);
    while pair.exchange() {}
    request.finish();
    while pair.exchange() {}
    let wakes = pair.server.wakes(|| {
        // Both directions have ended already, so that the drop itself has nothing to tell.
        let accepted = theirs.poll_accept(&mut cx);
        assert!(matches!(accepted, Poll::Ready(Ok(_))));
    });
    assert_eq!(wakes, 1, "the reset waits for a flush that nobody makes");
}

/// A task that counts how often it is woken.
#[derive(Default)]
struct Sleeper(AtomicUsize);

impl Wake for Sleeper {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

/// Open streams and write on each: the peer allows more as more are in use.
fn in_use(pair: &mut Pair, ours: &Connection, count: usize) -> Vec<Stream> {
    let mut cx = Context::from_waker(Waker::noop());
    let (mut open, mut passes) = (Vec::new(), 0);
    while open.len() < count {
        match ours.poll_open(&mut cx) {
            Poll::Ready(stream) => {
                let stream = stream.expect("a stream");
                assert!(stream.poll_write(&mut cx, b"x").is_ready());
                open.push(stream);
            }
            Poll::Pending => {
                passes += 1;
                assert!(passes < 1000, "the peer allows no more");
                pair.exchange();
            }
        }
    }
    while pair.exchange() {}
    open
}

#[test]
fn one_drive_opens_a_stream_for_each_task_that_waits() {
    let mut pair = Pair::new();
    let (ours, _theirs) = pair.connect();
    let mut open = in_use(&mut pair, &ours, 40);
    let mut poll = |sleeper: &Arc<Sleeper>| {
        let waker = Waker::from(sleeper.clone());
        match ours.poll_open(&mut Context::from_waker(&waker)) {
            Poll::Ready(stream) => {
                open.push(stream.expect("a stream"));
                true
            }
            Poll::Pending => false,
        }
    };
    let sleepers: Vec<Arc<Sleeper>> = (0..70).map(|_| Arc::default()).collect();
    let mut waiting = Vec::new();
    for sleeper in &sleepers {
        if !poll(sleeper) {
            waiting.push(sleeper);
        }
    }
    assert!(waiting.len() > 1);
    pair.client.drive(pair.now);
    for sleeper in waiting {
        assert_eq!(sleeper.0.load(Ordering::Relaxed), 1);
        assert!(poll(sleeper), "there is no stream for it");
    }
}

#[test]
fn one_drive_opens_the_streams_that_an_event_loop_wants() {
    let mut pair = Pair::new();
    let (ours, _theirs) = pair.connect();
    let mut open = in_use(&mut pair, &ours, 40);
    let mut cx = Context::from_waker(Waker::noop());
    while let Poll::Ready(stream) = ours.poll_open(&mut cx) {
        open.push(stream.expect("a stream"));
    }
    ours.want_streams(50);
    pair.client.drive(pair.now);
    for _ in 0..50 {
        assert!(
            ours.poll_open(&mut cx).is_ready(),
            "there is no stream for it"
        );
    }
}

#[test]
fn what_is_held_back_is_not_taken_before_the_flush() {
    let mut pair = Pair::new();
    let (ours, _theirs) = pair.connect();
    while pair.exchange() {}
    let mut cx = Context::from_waker(Waker::noop());
    let Poll::Ready(Ok(stream)) = ours.poll_open(&mut cx) else {
        panic!("no stream is open");
    };
    write_all(&stream, b"request");
    let now = pair.now;
    let Node {
        core,
        endpoint,
        outbox,
        ..
    } = &mut pair.client;
    // As the I/O thread does when something else wakes it in the middle of a pass.
    core.take_commands(now);
    assert!(!core.advance(now, TURNS_PER_DRIVE, outbox));
    assert!(outbox.0.is_empty());
    endpoint.flush();
    core.take_commands(now);
    core.advance(now, TURNS_PER_DRIVE, outbox);
    assert!(!outbox.0.is_empty());
}
