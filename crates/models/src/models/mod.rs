//! Models: a few application threads and the I/O thread run concurrently, with the engine's own
//! queues, ready queue and handover. Each function is one run; the tests of this crate repeat it
//! under a scheduler in many interleavings. A lost wake-up is a deadlock, which the scheduler
//! reports. It models sequential consistency only: it does not find what a weaker `Ordering`
//! allows.

mod clock;
mod echo;
mod endpoint;
mod lending;
mod listening;
mod world;

use std::{
    io::ErrorKind,
    net::{Ipv4Addr, SocketAddr},
    sync::Arc,
    task::Poll,
    time::Duration,
};

use self::{
    echo::Network, endpoint::Unanswered, lending::Lending, listening::Listening, world::World,
};
use crate::{
    EndpointError, Flush, ready::ReadyQueue, receive_credit::CHUNK_COST, stream::Stream,
    sync::thread,
};

/// The cost of one queued byte.
const CHUNK: usize = 1 + CHUNK_COST;

/// Several threads wake and one drains: every token arrives once, in any interleaving, and the signal
/// does not stay raised.
pub fn ready_queue() {
    const WAKERS: u64 = 3;
    const WAKES: u64 = 2;
    let queue = ReadyQueue::new().expect("a model's");
    let wakers = waking(&queue, WAKERS, WAKES);
    let (mut seen, mut taken) = (Vec::new(), Vec::new());
    while seen.len() < (WAKERS * WAKES) as usize {
        queue.signal.wait();
        // Empty if an earlier drain took the token before its signal was raised.
        queue.drain(&mut taken);
        seen.append(&mut taken);
    }
    all_arrived_once(&queue, WAKERS * WAKES, seen, wakers);
}

/// The same with a loop that drains twice in a pass: tokens that come in the pass raise no signal, and none is
/// lost when the loop waits.
///
/// It fails if `ReadyQueue::before_wait` raises no signal for tokens that are there, or if `ReadyQueue::push` looks
/// at the pass before it takes the lock.
pub fn ready_queue_of_passes() {
    const WAKERS: u64 = 2;
    const WAKES: u64 = 2;
    let queue = ReadyQueue::new().expect("a model's");
    let wakers = waking(&queue, WAKERS, WAKES);
    let (mut seen, mut taken) = (Vec::new(), Vec::new());
    while seen.len() < (WAKERS * WAKES) as usize {
        queue.before_wait();
        queue.signal.wait();
        for _ in 0..2 {
            queue.drain_in_pass(&mut taken);
            seen.append(&mut taken);
        }
    }
    all_arrived_once(&queue, WAKERS * WAKES, seen, wakers);
}

/// Threads that wake `wakes` tokens each, all of them different.
fn waking(queue: &Arc<ReadyQueue>, threads: u64, wakes: u64) -> Vec<thread::JoinHandle<()>> {
    (0..threads)
        .map(|waker| {
            let queue = queue.clone();
            thread::spawn(move || {
                for wake in 0..wakes {
                    queue.waker(waker * wakes + wake).wake();
                }
            })
        })
        .collect()
}

/// Assert that `seen` has each token of these threads once, and that nothing is left in the queue.
fn all_arrived_once(
    queue: &ReadyQueue,
    tokens: u64,
    mut seen: Vec<u64>,
    wakers: Vec<thread::JoinHandle<()>>,
) {
    seen.sort_unstable();
    assert!(
        seen.into_iter().eq(0..tokens),
        "a token was lost or doubled"
    );
    for each in wakers {
        each.join().expect("a waking thread");
    }
    let mut taken = Vec::new();
    queue.drain(&mut taken);
    assert!(taken.is_empty() && !queue.signal.is_raised());
}

/// Send a byte and read its echo, `times` times: each write must get the I/O thread going.
fn ping(stream: &Stream, times: u8) {
    for byte in 0..times {
        stream.write_all(&[byte]).expect("written");
        let mut answer = [0];
        assert_eq!(stream.read(&mut answer).expect("an answer"), 1);
        assert_eq!(answer, [byte]);
    }
}

/// Two threads that ping concurrently.
fn two_pings(network: Network) {
    let world = World::new(Flush::Immediate, network, 1 << 20);
    let threads: Vec<_> = (0..2)
        .map(|_| {
            let stream = world.stream(1 << 10, 1 << 10);
            thread::spawn(move || ping(&stream, 2))
        })
        .collect();
    threads
        .into_iter()
        .for_each(|each| each.join().expect("it"));
    world.close();
}

/// Two threads have a little to send while the I/O thread sleeps, or has just woken. Answers come
/// in the same turn.
pub fn inline_driving() {
    two_pings(Network::default());
}

/// The same where answers take time: an application thread that drives the core must tell the
/// I/O thread about a new deadline.
pub fn deadlines() {
    two_pings(Network {
        is_slow: true,
        ..Network::default()
    });
}

/// An endpoint is created and closed while another works: the I/O thread gets the new core, and
/// the commands of both.
pub fn endpoints_come_and_go() {
    let world = World::new(Flush::Immediate, Network::default(), 1 << 20);
    let stream = world.stream(1 << 10, 1 << 10);
    let one = thread::spawn(move || ping(&stream, 2));
    let other = world.another(
        Flush::Immediate,
        Network {
            is_slow: true,
            ..Network::default()
        },
        1 << 20,
    );
    let stream = other.stream(1 << 10, 1 << 10);
    ping(&stream, 1);
    drop(stream);
    other.leave();
    one.join().expect("it");
    world.close();
}

/// A writer whose queue is often full, and a reader: all bytes arrive in order.
fn transfer(stream: Stream, bytes: u8) -> [thread::JoinHandle<()>; 2] {
    let stream = Arc::new(stream);
    let writer = stream.clone();
    let writer = thread::spawn(move || {
        for byte in 0..bytes {
            writer.write_all(&[byte]).expect("written");
        }
        writer.finish();
    });
    let reader = thread::spawn(move || {
        let all = stream
            .read_to_end(usize::from(bytes) + 1)
            .expect("all of it");
        assert!(all.into_iter().eq(0..bytes), "other bytes arrived");
    });
    [writer, reader]
}

/// Queues with room for two chunks: full, empty, and the end after the last byte.
pub fn full_queues() {
    let network = Network {
        window: 2,
        ..Network::default()
    };
    let world = World::new(Flush::Immediate, network, 1 << 20);
    let threads = transfer(world.stream(2 * CHUNK, 2), 6);
    threads
        .into_iter()
        .for_each(|each| each.join().expect("it"));
    world.close();
}

/// Two streams that share a receive credit of `held` chunks, in either order of reading.
fn share_credit(held: usize, bytes: u8) {
    let world = World::new(Flush::Immediate, Network::default(), (held * CHUNK) as u64);
    let threads: Vec<_> = (0..2)
        .flat_map(|_| transfer(world.stream(1 << 10, 2), bytes))
        .collect();
    threads
        .into_iter()
        .for_each(|each| each.join().expect("it"));
    world.close();
}

/// Streams wait for credit, and it is released, again and again.
pub fn shared_credit() {
    share_credit(3, 6);
}

/// Credit is released once, and none afterwards.
pub fn credit_released_once() {
    share_credit(1, 1);
}

/// An event loop: tasks that wait for tokens, one flush per pass, and a wait for the ready queue.
pub fn event_loop() {
    const TASKS: u64 = 2;
    let world = World::new(Flush::OnRequest, Network::default(), 1 << 20);
    let queue = ReadyQueue::new().expect("a model's");
    let streams: Vec<_> = (0..TASKS).map(|_| world.stream(1 << 10, 1 << 10)).collect();
    let mut left: Vec<u8> = vec![2; streams.len()];
    let mut is_sent = vec![false; streams.len()];
    let mut ready: Vec<u64> = (0..TASKS).collect();
    while left.iter().any(|each| *each > 0) {
        for task in ready.drain(..).map(|token| token as usize) {
            let waker = queue.waker(task as u64);
            let cx = &mut std::task::Context::from_waker(&waker);
            while left[task] > 0 {
                if !is_sent[task] {
                    let wrote = streams[task].poll_write(cx, &[left[task]]);
                    assert!(matches!(wrote, Poll::Ready(Ok(1))), "there is always room");
                    is_sent[task] = true;
                }
                let mut answer = [0];
                let Poll::Ready(read) = streams[task].poll_read(cx, &mut answer) else {
                    break;
                };
                assert_eq!((read.expect("an answer"), answer), (1, [left[task]]));
                left[task] -= 1;
                is_sent[task] = false;
            }
        }
        world.flush();
        if left.iter().any(|each| *each > 0) {
            queue.signal.wait();
            queue.drain(&mut ready);
        }
    }
    drop(streams);
    world.close();
}

/// Two threads accept two connections each, of the four that the I/O thread offers.
pub fn accept() {
    let listening = Listening::new(4, 4);
    let threads: Vec<_> = (0..2)
        .map(|_| {
            let listener = listening.listener.clone();
            thread::spawn(move || {
                for _ in 0..2 {
                    listener.accept().expect("a connection");
                }
            })
        })
        .collect();
    threads
        .into_iter()
        .for_each(|each| each.join().expect("it"));
    listening.listener.close();
    listening.end();
}

/// A listener with room for one connection is closed while connections are offered and accepted.
pub fn listener_close() {
    let listening = Listening::new(3, 1);
    let listener = listening.listener.clone();
    let accepting = thread::spawn(move || while listener.accept().is_ok() {});
    listening.listener.close();
    accepting.join().expect("it");
    listening.end();
}

/// A listener is closed while another thread listens at its address. Either the port is in use, or the second
/// listener hears: the socket of the first is not closed under it, and the end of the first is not taken for its
/// own. A thread that accepts from it learns of its close.
///
/// It fails if `Listener::close` pushes its command after it has released the endpoint's lock, if
/// `Sockets::release` closes an idle socket without a look at the endpoint's state, and if `ListenerShared::close`
/// wakes nobody.
pub fn listen_again() {
    let unanswered = Unanswered::new();
    let at = SocketAddr::from((Ipv4Addr::LOCALHOST, 4001));
    let first = unanswered.endpoint.listen(at).expect("a free port");
    let listening = {
        let endpoint = unanswered.endpoint.clone();
        thread::spawn(move || match endpoint.listen(at) {
            Ok(listener) => Some(listener),
            Err(EndpointError::Io(error)) => {
                assert_eq!(error.kind(), ErrorKind::AddrInUse);
                None
            }
            Err(error) => panic!("{error}"),
        })
    };
    first.close();
    let second = listening.join().expect("it");
    // Now at the latest the port is free.
    let second = second.unwrap_or_else(|| unanswered.endpoint.listen(at).expect("a free port"));
    let second = Arc::new(second);
    assert!(unanswered.reaches(&second), "the listener is deaf");
    assert!(first.accept().is_err(), "it is closed");
    let accepting = {
        let second = second.clone();
        thread::spawn(move || assert!(second.accept().is_err(), "nobody connected"))
    };
    second.close();
    accepting.join().expect("it");
    unanswered.endpoint.close(0, b"");
    unanswered.endpoint.wait_closed();
    assert_eq!(unanswered.open_sockets(), 0, "a socket is left");
    unanswered.thread.join().expect("the I/O thread");
}

/// An endpoint is closed while other threads listen, dial and wait for its end: everything that
/// they began ends, and not only when the time to close is over, which is three seconds.
pub fn endpoint_close() {
    let Unanswered {
        endpoint,
        clock,
        thread: io_thread,
        ..
    } = Unanswered::new();
    let peer = (Ipv4Addr::LOCALHOST, 4001);
    let listening = {
        let endpoint = endpoint.clone();
        thread::spawn(move || match endpoint.listen(peer.into()) {
            Ok(listener) => assert!(listener.accept().is_err(), "nobody connected"),
            Err(error) => assert!(matches!(error, EndpointError::Closed(_)), "{error}"),
        })
    };
    let dialing = {
        let endpoint = endpoint.clone();
        thread::spawn(move || match endpoint.connect(peer.into(), None) {
            Ok(connection) => {
                connection.wait_closed();
            }
            Err(error) => assert!(matches!(error, EndpointError::Closed(_)), "{error}"),
        })
    };
    let waiting = {
        let endpoint = endpoint.clone();
        thread::spawn(move || endpoint.wait_closed())
    };
    endpoint.close(0, b"");
    let closed_at = clock.now();
    for each in [listening, dialing, waiting, io_thread] {
        each.join().expect("it");
    }
    endpoint.wait_closed();
    // A dial's timer may still go off: each is due within a second.
    assert!(clock.now() < closed_at + Duration::from_secs(2));
}

/// An event loop receives by leases that the I/O thread grants after each datagram, and ends at any
/// time: every datagram is received once, in order, within a lease of its arrival, and wakes the loop.
/// Meanwhile another thread's command is executed.
pub fn lease() {
    const DATAGRAMS: u8 = 4;
    let lending = Lending::new();
    let (peer, other) = (lending.peer(DATAGRAMS), lending.another_thread());
    let mut tokens = 0;
    while tokens < usize::from(DATAGRAMS) {
        tokens += lending.pass();
    }
    peer.join().expect("the peer");
    other.join().expect("the other thread");
    lending.await_done(DATAGRAMS.into(), 1);
    lending.close(DATAGRAMS);
}

/// The event loop passes once and then runs other code, as long as it takes: the I/O thread takes the
/// socket back, receives the rest, and executes commands.
pub fn lease_of_a_busy_loop() {
    const DATAGRAMS: u8 = 3;
    let lending = Lending::new();
    let (peer, other) = (lending.peer(DATAGRAMS), lending.another_thread());
    lending.pass();
    lending.await_done(DATAGRAMS.into(), 1);
    peer.join().expect("the peer");
    other.join().expect("the other thread");
    lending.close(DATAGRAMS);
}

/// The endpoint is closed during a lease, or before or after one: the socket is in no set afterwards.
pub fn lease_and_close() {
    let lending = Lending::new();
    let peer = lending.peer(1);
    lending.await_done(1, 0);
    peer.join().expect("the peer");
    lending.close(1);
}
