//! Models: a few threads that do what an application and the I/O thread do at once, with the
//! engine's own queues, bell and handover. Each function is one run; the tests of this crate
//! have a scheduler repeat it in other interleavings. A lost wake-up is a deadlock, which the
//! scheduler finds. It knows one order of memory only, the strictest: it does not see what a
//! weaker `Ordering` would allow.

mod echo;
mod world;

use std::{sync::Arc, task::Poll};

use self::{echo::Network, world::World};
use crate::{Flush, ready::ReadyQueue, receive_credit::CHUNK_COST, stream::Stream, sync::thread};

/// What one byte costs that waits for its reader.
const CHUNK: usize = 1 + CHUNK_COST;

/// Several threads ring, one listens: every token arrives, however rings and drains meet.
pub fn bell() {
    const RINGERS: u64 = 3;
    const RINGS: u64 = 2;
    let bell = ReadyQueue::new().expect("a model's");
    let ringers: Vec<_> = (0..RINGERS)
        .map(|ringer| {
            let bell = bell.clone();
            thread::spawn(move || {
                for ring in 0..RINGS {
                    bell.waker(ringer * RINGS + ring).wake();
                }
            })
        })
        .collect();
    let (mut seen, mut taken) = (Vec::new(), Vec::new());
    while seen.len() < (RINGERS * RINGS) as usize {
        bell.signal.wait();
        bell.drain(&mut taken);
        assert!(!taken.is_empty(), "it rang for nothing");
        seen.append(&mut taken);
    }
    seen.sort_unstable();
    assert!(
        seen.into_iter().eq(0..RINGERS * RINGS),
        "a token was lost or doubled"
    );
    ringers
        .into_iter()
        .for_each(|each| each.join().expect("a ringer"));
}

/// A byte there and back, again and again: each must get the I/O thread going.
fn ping(stream: &Stream, times: u8) {
    for byte in 0..times {
        stream.write_all(&[byte]).expect("room");
        let mut answer = [0];
        assert_eq!(stream.read(&mut answer).expect("an answer"), 1);
        assert_eq!(answer, [byte]);
    }
}

/// Two threads at once.
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

/// Two threads that have a little to send while the I/O thread sleeps, or just does not.
/// Answers come in the same turn.
pub fn inline_driving() {
    two_pings(Network::default());
}

/// The same where answers take time: whoever drives in the thread's place must not keep a new
/// deadline to itself.
pub fn deadlines() {
    two_pings(Network {
        is_slow: true,
        ..Network::default()
    });
}

/// Endpoints come while others work and go: mail, and the others' cores, reach the thread.
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

/// A writer that finds no room, and a reader that is slow or fast: all bytes come, in order.
fn transfer(stream: Stream, bytes: u8) -> [thread::JoinHandle<()>; 2] {
    let stream = Arc::new(stream);
    let writer = stream.clone();
    let writer = thread::spawn(move || {
        for byte in 0..bytes {
            writer.write_all(&[byte]).expect("room");
        }
        writer.finish();
    });
    let reader = thread::spawn(move || {
        let all = stream
            .read_to_end(usize::from(bytes) + 1)
            .expect("all of it");
        assert!(all.into_iter().eq(0..bytes), "other bytes came");
    });
    [writer, reader]
}

/// Queues with room for two: full, empty, and the end behind the last byte.
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

/// Two streams that may hold only so much between them, whichever is read first.
fn starved(held: usize, bytes: u8) {
    let world = World::new(Flush::Immediate, Network::default(), (held * CHUNK) as u64);
    let threads: Vec<_> = (0..2)
        .flat_map(|_| transfer(world.stream(1 << 10, 2), bytes))
        .collect();
    threads
        .into_iter()
        .for_each(|each| each.join().expect("it"));
    world.close();
}

/// Room is wanted and comes again and again.
pub fn starved_streams() {
    starved(3, 6);
}

/// Room comes once, and nobody gives any afterwards.
pub fn starved_once() {
    starved(1, 1);
}

/// An event loop: tasks that wait for tokens, one flush a pass, and sleep while the bell is silent.
pub fn event_loop() {
    const TASKS: u64 = 2;
    let world = World::new(Flush::OnRequest, Network::default(), 1 << 20);
    let bell = ReadyQueue::new().expect("a model's");
    let streams: Vec<_> = (0..TASKS).map(|_| world.stream(1 << 10, 1 << 10)).collect();
    let mut left: Vec<u8> = vec![2; streams.len()];
    let mut is_sent = vec![false; streams.len()];
    let mut ready: Vec<u64> = (0..TASKS).collect();
    while left.iter().any(|each| *each > 0) {
        for task in ready.drain(..).map(|token| token as usize) {
            let waker = bell.waker(task as u64);
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
            bell.signal.wait();
            bell.drain(&mut ready);
        }
    }
    drop(streams);
    world.close();
}
