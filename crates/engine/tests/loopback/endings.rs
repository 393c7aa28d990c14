//! Ends of endpoints and connections, as threads that wait see them.

use std::{net::UdpSocket, sync::Arc, thread, time::Duration};

use libp2p_quic_engine::{CloseKind, EndpointError, Party};

use crate::kit::{ANY4, endpoint, endpoint_with, join, streams};

#[test]
fn threads_that_wait_hear_of_the_end() {
    let (server, client) = (endpoint(), endpoint());
    let listener = Arc::new(server.listen(ANY4).expect("a socket"));
    let (ours, theirs) = join(&client, &listener);
    let (a, b) = streams(&ours, &theirs);
    let in_listener = thread::spawn({
        let listener = listener.clone();
        move || listener.accept().is_err()
    });
    let in_accept = thread::spawn({
        let theirs = theirs.clone();
        move || theirs.accept().expect_err("the end")
    });
    let in_read = thread::spawn(move || b.read(&mut [0; 10]).expect_err("the end"));
    let in_closed = thread::spawn({
        let ours = ours.clone();
        move || ours.wait_closed()
    });
    server.close(17, b"good bye");
    assert!(in_listener.join().expect("a thread"));
    let error = in_accept.join().expect("a thread");
    assert_eq!((error.by, error.kind), (Party::Local, CloseKind::Closed));
    assert!(in_read.join().is_ok());
    let error = in_closed.join().expect("a thread");
    assert_eq!((error.by, error.code), (Party::Peer, Some(17)));
    server.wait_closed();
    drop(a);
}

#[test]
fn what_races_with_the_close_of_its_endpoint_ends() {
    let silent = UdpSocket::bind(ANY4).expect("a socket");
    let target = silent.local_addr().expect("an address");
    for _ in 0..300 {
        // Closing waits three probe timeouts for a dial that nobody answered.
        let node = Arc::new(endpoint_with(|c| c.initial_rtt = Duration::from_millis(1)));
        let racers = [
            thread::spawn({
                let node = node.clone();
                move || match node.connect(target, None) {
                    Ok(connection) => assert!(connection.wait_connected().is_err()),
                    Err(error) => assert!(matches!(error, EndpointError::Closed(_))),
                }
            }),
            thread::spawn({
                let node = node.clone();
                move || match node.listen(ANY4) {
                    Ok(listener) => assert!(listener.accept().is_err()),
                    Err(error) => assert!(matches!(error, EndpointError::Closed(_))),
                }
            }),
        ];
        node.close(0, b"");
        for racer in racers {
            racer.join().expect("a call that returned");
        }
        node.wait_closed();
    }
}

#[test]
fn dropping_the_handles_closes() {
    let (server, client) = (endpoint(), endpoint());
    let listener = server.listen(ANY4).expect("a socket");
    let (ours, theirs) = join(&client, &listener);
    let (a, b) = streams(&ours, &theirs);
    a.write_all(b"the rest").expect("written");
    a.finish();
    drop((a, ours));
    assert_eq!(b.read_to_end(100).expect("all bytes"), b"the rest");
    let error = theirs.wait_closed();
    assert_eq!(
        (error.by, error.kind, error.code),
        (Party::Peer, CloseKind::Closed, Some(0))
    );
    let (ours, theirs) = join(&client, &listener);
    drop(client);
    assert_eq!(theirs.wait_closed().by, Party::Peer);
    drop(ours);
}
