//! Addresses and sockets: families, ports, who leaves from where, who may listen again.

use std::{
    net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket},
    thread,
    time::{Duration, Instant},
};

use libp2p_quic_engine::EndpointError;

use crate::kit::{ANY4, ANY6, echo, endpoint, join, own_port};

#[test]
fn an_echo_over_both_families() {
    for addr in [ANY4, ANY6] {
        let (server, client) = (endpoint(), endpoint());
        let listener = server.listen(addr).expect("a socket");
        assert_ne!(listener.local_addr().port(), 0);
        let (ours, theirs) = join(&client, &listener);
        assert_eq!(ours.peer_id(), Some(server.peer_id()));
        assert_eq!(theirs.peer_id(), Some(client.peer_id()));
        assert_eq!(ours.local_addr().ip(), addr.ip());
        assert_eq!(theirs.local_addr(), listener.local_addr());
        assert_eq!(theirs.remote_addr(), ours.local_addr());
        echo(&ours, &theirs, 3_000_000);
    }
}

#[test]
fn a_wildcard_of_each_family_shares_a_port() {
    let (server, client) = (endpoint(), endpoint());
    let port = own_port();
    let four = server
        .listen((Ipv4Addr::UNSPECIFIED, port).into())
        .expect("a socket");
    let six = server
        .listen((Ipv6Addr::UNSPECIFIED, port).into())
        .expect("a socket");
    for (listener, ip) in [(&four, ANY4.ip()), (&six, ANY6.ip())] {
        let ours = client
            .connect(SocketAddr::new(ip, port), None)
            .expect("a dial");
        let theirs = listener.accept().expect("a connection");
        ours.wait_connected().expect("a handshake");
        assert_eq!(theirs.local_addr(), SocketAddr::new(ip, port));
        echo(&ours, &theirs, 10_000);
    }
    // An IPv4-mapped IPv6 address is dialed as the IPv4 address.
    let mapped = SocketAddr::new(Ipv4Addr::LOCALHOST.to_ipv6_mapped().into(), port);
    let ours = client.connect(mapped, None).expect("a dial");
    let _theirs = four.accept().expect("a connection");
    ours.wait_connected().expect("a handshake");
}

#[test]
fn several_listeners_and_dials_from_the_listening_socket() {
    let (server, client) = (endpoint(), endpoint());
    let listeners: Vec<_> = (0..4)
        .map(|_| server.listen(ANY4).expect("a socket"))
        .collect();
    let back4 = client.listen(ANY4).expect("a socket");
    let back6 = client.listen(ANY6).expect("a socket");
    let six = server.listen(ANY6).expect("a socket");
    for (listener, back) in listeners
        .iter()
        .map(|l| (l, &back4))
        .chain([(&six, &back6)])
    {
        let (ours, theirs) = join(&client, listener);
        assert_eq!(theirs.remote_addr(), back.local_addr());
        assert_eq!(ours.local_addr(), back.local_addr());
        echo(&ours, &theirs, 1000);
    }
}

#[test]
fn dials_without_a_listener_share_one_socket() {
    let (server, client) = (endpoint(), endpoint());
    let listener = server.listen(ANY4).expect("a socket");
    let (_one, first) = join(&client, &listener);
    let (_two, second) = join(&client, &listener);
    assert_eq!(first.remote_addr(), second.remote_addr());
}

#[test]
fn an_address_in_use_is_an_error_and_a_closed_listeners_is_free_for_us() {
    let (server, other, client) = (endpoint(), endpoint(), endpoint());
    let addr = SocketAddr::new(ANY4.ip(), own_port());
    let listener = server.listen(addr).expect("a socket");
    for node in [&server, &other] {
        match node.listen(addr) {
            Err(EndpointError::Io(error)) => {
                assert_eq!(error.kind(), std::io::ErrorKind::AddrInUse);
            }
            result => panic!("{result:?}"),
        }
    }
    let (ours, theirs) = join(&client, &listener);
    listener.close();
    let again = server.listen(addr).expect("our own socket");
    let (ours2, theirs2) = join(&client, &again);
    echo(&ours, &theirs, 1000);
    echo(&ours2, &theirs2, 1000);
    drop((again, ours, theirs, ours2, theirs2, listener));
    // The socket goes with its last connection; then the address is free for all.
    let began = Instant::now();
    while let Err(error) = other.listen(addr) {
        assert!(began.elapsed() < Duration::from_secs(30), "{error}");
        thread::yield_now();
    }
}

#[test]
fn an_address_is_free_as_soon_as_its_endpoint_is_closed() {
    let addr = SocketAddr::new(ANY4.ip(), own_port());
    for _ in 0..30 {
        let (server, client) = (endpoint(), endpoint());
        let listener = server.listen(addr).expect("the address is free");
        let (ours, _theirs) = join(&client, &listener);
        server.close(3, b"");
        server.wait_closed();
        assert_eq!(ours.wait_closed().code, Some(3));
    }
}

#[test]
fn empty_datagrams_are_ignored() {
    let (server, client) = (endpoint(), endpoint());
    let listener = server.listen(ANY4).expect("a socket");
    let sender = UdpSocket::bind(ANY4).expect("a socket");
    for data in [&[][..], &[0], &[0xc0; 3], &[0xff; 1200], &[]] {
        sender.send_to(data, listener.local_addr()).expect("sent");
    }
    let (ours, theirs) = join(&client, &listener);
    sender.send_to(&[], listener.local_addr()).expect("sent");
    echo(&ours, &theirs, 100_000);
}
