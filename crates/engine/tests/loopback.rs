//! Engines on real sockets through the public verbs, with the real I/O thread.
//!
//! What needs no socket is tested in `simulation`; what counts descriptors and threads of the
//! whole process, in `resources`.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket},
    sync::Arc,
    task::{Context, Poll, Waker},
    thread,
    time::{Duration, Instant},
};

use libp2p_quic_engine::{
    Config, Connection, Endpoint, EndpointError, Flush, Identity, Listener, LossKind, Party, Stream,
};

const ANY4: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0);
const ANY6: SocketAddr = SocketAddr::new(IpAddr::V6(Ipv6Addr::LOCALHOST), 0);

fn endpoint_with(change: impl FnOnce(&mut Config)) -> Endpoint {
    let mut config = Config::default();
    change(&mut config);
    Endpoint::new(&Identity::generate(), config).expect("an endpoint")
}

fn endpoint() -> Endpoint {
    endpoint_with(|_| ())
}

fn join(client: &Endpoint, listener: &Listener) -> (Connection, Connection) {
    let ours = client.connect(listener.local_addr(), None).expect("a dial");
    ours.wait_connected().expect("a handshake");
    let theirs = listener.accept().expect("a connection");
    (ours, theirs)
}

fn streams(ours: &Connection, theirs: &Connection) -> (Stream, Stream) {
    let a = ours.open().expect("a stream");
    a.write_all(b"!").expect("room");
    let b = theirs.accept().expect("a stream");
    b.read_exactly(1);
    (a, b)
}

trait ReadExactly {
    fn read_exactly(&self, n: usize) -> Vec<u8>;
}

impl ReadExactly for Stream {
    fn read_exactly(&self, n: usize) -> Vec<u8> {
        let mut all = vec![0; n];
        let mut done = 0;
        while done < n {
            let more = self.read(&mut all[done..]).expect("bytes");
            assert_ne!(more, 0, "the stream ended");
            done += more;
        }
        all
    }
}

fn pattern(len: usize) -> Vec<u8> {
    (0..len).map(|i| (i * i / 251 + i) as u8).collect()
}

/// Send `len` bytes along and back, checked.
fn echo(ours: &Connection, theirs: &Connection, len: usize) {
    let sent = pattern(len);
    let server = thread::spawn({
        let theirs = theirs.clone();
        move || {
            let stream = theirs.accept().expect("a stream");
            let mut buf = vec![0; 50_000];
            loop {
                match stream.read(&mut buf).expect("bytes") {
                    0 => break,
                    n => stream.write_all(&buf[..n]).expect("room"),
                }
            }
            stream.finish();
            stream.wait_finished().expect("delivered");
        }
    });
    let stream = Arc::new(ours.open().expect("a stream"));
    let writer = thread::spawn({
        let (stream, sent) = (stream.clone(), sent.clone());
        move || {
            stream.write_all(&sent).expect("room");
            stream.finish();
        }
    });
    let got = stream.read_to_end(len + 1).expect("all bytes");
    assert!(got == sent, "{} of {len} bytes, or wrong ones", got.len());
    writer.join().expect("the writer");
    server.join().expect("the server");
}

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
    let four = server.listen(([0, 0, 0, 0], 0).into()).expect("a socket");
    let port = four.local_addr().port();
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
    // An IPv4 address in IPv6 clothes is dialed as what it is.
    let mapped = SocketAddr::new(Ipv4Addr::LOCALHOST.to_ipv6_mapped().into(), port);
    let ours = client.connect(mapped, None).expect("a dial");
    four.accept().expect("a connection");
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
    let listener = server.listen(ANY4).expect("a socket");
    let addr = listener.local_addr();
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
        assert!(began.elapsed() < Duration::from_secs(5), "{error}");
        thread::yield_now();
    }
}

#[test]
fn an_address_is_free_as_soon_as_its_endpoint_is_closed() {
    let addr = {
        let server = endpoint();
        let addr = server.listen(ANY4).expect("a socket").local_addr();
        server.close(0, b"");
        server.wait_closed();
        addr
    };
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
    assert_eq!((error.by, error.kind), (Party::Local, LossKind::Closed));
    assert!(in_read.join().is_ok());
    let error = in_closed.join().expect("a thread");
    assert_eq!((error.by, error.code), (Party::Peer, Some(17)));
    server.wait_closed();
    drop(a);
}

#[test]
fn what_races_with_the_close_of_its_endpoint_ends() {
    let target = UdpSocket::bind(ANY4)
        .expect("a socket")
        .local_addr()
        .expect("an address");
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
            racer.join().expect("a verb that returned");
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
    a.write_all(b"the rest").expect("room");
    a.finish();
    drop((a, ours));
    assert_eq!(b.read_to_end(100).expect("all bytes"), b"the rest");
    let error = theirs.wait_closed();
    assert_eq!(
        (error.by, error.kind, error.code),
        (Party::Peer, LossKind::Closed, Some(0))
    );
    let (ours, theirs) = join(&client, &listener);
    drop(client);
    assert_eq!(theirs.wait_closed().by, Party::Peer);
    drop(ours);
}

#[test]
fn sixteen_mebibytes_to_a_slow_reader() {
    const SIZE: usize = 16 << 20;
    let (server, client) = (endpoint(), endpoint());
    let listener = server.listen(ANY4).expect("a socket");
    let (ours, theirs) = join(&client, &listener);
    let (a, b) = streams(&ours, &theirs);
    let sent = pattern(SIZE);
    // Nobody reads: the writer gets rid of what windows and buffers hold, and no more.
    let mut cx = Context::from_waker(Waker::noop());
    let (mut done, mut quiet_since) = (0, Instant::now());
    while quiet_since.elapsed() < Duration::from_secs(1) {
        match a.poll_write(&mut cx, &sent[done..]) {
            Poll::Ready(n) => {
                done += n.expect("a writable stream");
                quiet_since = Instant::now();
            }
            Poll::Pending => thread::yield_now(),
        }
    }
    assert!((10_000_000..12_000_000).contains(&done), "{done}");
    let rest = sent[done..].to_vec();
    let writer = thread::spawn(move || {
        a.write_all(&rest).expect("room");
        a.finish();
        a.wait_finished().expect("delivered");
    });
    assert!(b.read_to_end(SIZE + 1).expect("all bytes") == sent);
    writer.join().expect("the writer");
}

#[test]
fn two_hundred_connections() {
    let (server, client) = (endpoint(), endpoint());
    let listener = server.listen(ANY4).expect("a socket");
    let dials: Vec<_> = (0..200)
        .map(|_| client.connect(listener.local_addr(), None).expect("a dial"))
        .collect();
    let accepted: Vec<_> = dials
        .iter()
        .map(|_| listener.accept().expect("one"))
        .collect();
    for (i, dial) in dials.iter().enumerate() {
        dial.wait_connected().expect("a handshake");
        let stream = dial.open().expect("a stream");
        stream.write_all(&i.to_le_bytes()).expect("room");
        stream.finish();
    }
    let mut seen: Vec<_> = accepted
        .iter()
        .map(|theirs| {
            let stream = theirs.accept().expect("a stream");
            let bytes = stream.read_to_end(100).expect("all bytes");
            usize::from_le_bytes(bytes.try_into().expect("a number"))
        })
        .collect();
    seen.sort_unstable();
    assert!(seen.into_iter().eq(0..200));
}

#[test]
fn no_wake_up_is_lost_between_threads() {
    // Without keep-alive nothing but the right wake-up moves this on: a lost one would show
    // as the end of the connection.
    let quiet = |c: &mut Config| c.keep_alive_interval = None;
    let (server, client) = (endpoint_with(quiet), endpoint_with(quiet));
    let listener = server.listen(ANY4).expect("a socket");
    let (ours, theirs) = join(&client, &listener);
    let players: Vec<_> = (0..3)
        .map(|_| {
            let (a, b) = streams(&ours, &theirs);
            let echo = thread::spawn(move || {
                while let Ok(n @ 1..) = b.read(&mut [0; 1]) {
                    b.write_all(&b"7"[..n]).expect("room");
                }
            });
            let ask = thread::spawn(move || {
                for _ in 0..4_000 {
                    a.write_all(b"7").expect("room");
                    assert_eq!(a.read_exactly(1), b"7");
                }
                a.finish();
            });
            (ask, echo)
        })
        .collect();
    for (ask, echo) in players {
        ask.join().expect("the asking side");
        echo.join().expect("the answering side");
    }
}

#[test]
fn a_flood_does_not_starve_a_ping() {
    let (server, client) = (endpoint(), endpoint());
    let listener = server.listen(ANY4).expect("a socket");
    let floods: Vec<_> = (0..4).map(|_| join(&client, &listener)).collect();
    let (ours, theirs) = join(&client, &listener);
    let (a, b) = streams(&ours, &theirs);
    let mut threads = Vec::new();
    for (ours, theirs) in &floods {
        let (flood, sink) = streams(ours, theirs);
        threads.push(thread::spawn(move || {
            while flood.write_all(&[0; 60_000]).is_ok() {}
        }));
        threads.push(thread::spawn(
            move || while sink.read(&mut [0; 60_000]).is_ok() {},
        ));
    }
    thread::spawn(move || {
        while let Ok(1) = b.read(&mut [0; 1]) {
            b.write_all(b"7").expect("room");
        }
    });
    for _ in 0..200 {
        let began = Instant::now();
        a.write_all(b"7").expect("room");
        assert_eq!(a.read_exactly(1), b"7");
        assert!(
            began.elapsed() < Duration::from_secs(2),
            "{:?}",
            began.elapsed()
        );
    }
    for (ours, _) in floods {
        ours.close(0, b"");
    }
    for thread in threads {
        thread.join().expect("a thread");
    }
}

#[test]
fn empty_datagrams_are_ignored() {
    let (server, client) = (endpoint(), endpoint());
    let listener = server.listen(ANY4).expect("a socket");
    let stranger = UdpSocket::bind(ANY4).expect("a socket");
    for data in [&[][..], &[0], &[0xc0; 3], &[0xff; 1200], &[]] {
        stranger.send_to(data, listener.local_addr()).expect("sent");
    }
    let (ours, theirs) = join(&client, &listener);
    stranger.send_to(&[], listener.local_addr()).expect("sent");
    echo(&ours, &theirs, 100_000);
}

#[test]
fn a_port_that_nobody_has_harms_no_other_connection() {
    let client = endpoint_with(|c| c.handshake_timeout = Duration::from_secs(1));
    let server = endpoint();
    let listener = server.listen(ANY4).expect("a socket");
    let (ours, theirs) = join(&client, &listener);
    let nobody = UdpSocket::bind(ANY4)
        .expect("a socket")
        .local_addr()
        .expect("an address");
    let lost = client.connect(nobody, None).expect("a dial");
    echo(&ours, &theirs, 1_000_000);
    let error = lost.wait_connected().expect_err("no answer");
    assert_eq!(
        (error.by, error.kind),
        (Party::Network, LossKind::HandshakeTimeout)
    );
    echo(&ours, &theirs, 1_000_000);
}

#[test]
fn what_is_held_back_waits_for_the_flush() {
    let client = endpoint_with(|c| c.flush = Flush::OnRequest);
    let server = endpoint();
    let listener = server.listen(ANY4).expect("a socket");
    let (ours, theirs) = join(&client, &listener);
    let stream = ours.open().expect("a stream");
    stream.write_all(b"now").expect("room");
    client.flush();
    let other = theirs.accept().expect("a stream");
    assert_eq!(other.read_exactly(3), b"now");
}

#[test]
fn without_offload_and_with_large_datagrams() {
    for (offload, size) in [(false, 1452), (true, 9000), (false, 60_000), (true, 60_000)] {
        let change = |c: &mut Config| {
            c.segmentation_offload = offload;
            c.max_datagram_size = size;
        };
        let (server, client) = (endpoint_with(change), endpoint_with(change));
        let listener = server.listen(ANY4).expect("a socket");
        let (ours, theirs) = join(&client, &listener);
        echo(&ours, &theirs, 4 << 20);
        echo(&ours, &theirs, 4 << 20);
        let statistics = ours.statistics();
        assert!(
            u32::from(statistics.mtu) * 20 >= u32::from(size) * 19,
            "{}",
            statistics.mtu
        );
        if !offload {
            assert_eq!(statistics.sends, statistics.datagrams_sent);
        }
    }
}
