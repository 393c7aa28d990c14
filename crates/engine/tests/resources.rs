//! What the whole process holds: the I/O thread and descriptors, before and after. One test,
//! as others at the same time would be counted too.
#![cfg(target_os = "linux")]

use std::{
    fs,
    time::{Duration, Instant},
};

use libp2p_quic_engine::{Config, Connection, Endpoint, Identity, ReadyQueue};

fn descriptors() -> usize {
    fs::read_dir("/proc/self/fd").expect("procfs").count()
}

/// Threads that drive endpoints.
fn drivers() -> usize {
    let tasks = fs::read_dir("/proc/self/task").expect("procfs");
    let names = tasks.filter_map(|task| fs::read_to_string(task.ok()?.path().join("comm")).ok());
    names
        .filter(|name| name.trim_end() == "libp2p-quic-io")
        .count()
}

fn wait_until(what: &str, condition: impl Fn() -> bool) {
    let began = Instant::now();
    while !condition() {
        assert!(
            began.elapsed() < Duration::from_secs(30),
            "waiting until {what}"
        );
        std::thread::yield_now();
    }
}

#[test]
fn endpoints_leave_nothing_in_the_process() {
    let before = descriptors();
    assert_eq!(drivers(), 0);
    let anywhere = "127.0.0.1:0".parse().expect("an address");
    for round in 0..12 {
        let endpoint = || Endpoint::new(&Identity::generate(), Config::default());
        let nodes: Vec<_> = (0..4).map(|_| endpoint().expect("an endpoint")).collect();
        let listener = nodes[0].listen(anywhere).expect("a socket");
        wait_until("one thread drives all", || drivers() == 1);
        let mut held: Vec<Connection> = Vec::new();
        for node in &nodes[1..] {
            let ours = node.connect(listener.local_addr(), None).expect("a dial");
            ours.wait_connected().expect("a handshake");
            held.push(listener.accept().expect("a connection"));
            let stream = ours.open().expect("a stream");
            stream.write_all(&[1; 10_000]).expect("written");
            held.push(ours);
        }
        // One listening socket, and one for each of those who dial.
        let open = descriptors() - before;
        assert!((4..=6).contains(&open), "{open}");
        let queue = ReadyQueue::new().expect("a descriptor");
        drop(queue);
        match round % 3 {
            0 => {
                for node in &nodes {
                    node.close(0, b"");
                }
                nodes.iter().for_each(Endpoint::wait_closed);
                // Handles that are kept hold the ready queue, and nothing else.
                wait_until("the thread is gone", || drivers() == 0);
                wait_until("sockets are closed", || descriptors() <= before + 1);
                drop((held, listener, nodes));
            }
            1 => drop((held, listener, nodes)),
            _ => {
                drop(nodes);
                wait_until("the thread is gone", || drivers() == 0);
                drop((listener, held));
            }
        }
        wait_until("the thread is gone", || drivers() == 0);
        wait_until("descriptors are back", || descriptors() == before);
    }
    // One thread leaves while the next is wanted: none of these may go unserved.
    for _ in 0..500 {
        let endpoint = Endpoint::new(&Identity::generate(), Config::default());
        let endpoint = endpoint.expect("an endpoint");
        let listener = endpoint.listen(anywhere).expect("a socket");
        endpoint.close(0, b"");
        endpoint.wait_closed();
        assert!(listener.accept().is_err());
    }
    wait_until("the thread is gone", || drivers() == 0);
    wait_until("descriptors are back", || descriptors() == before);
}
