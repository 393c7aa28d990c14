//! Dials to where nobody is: what ICMP says of them is told at their timeout, and ends nothing else.

use std::{
    net::{SocketAddr, UdpSocket},
    sync::{Arc, mpsc},
    task::{Context, Wake, Waker},
    thread,
    time::{Duration, Instant},
};

use libp2p_quic_engine::{CloseKind, Config, Party};

use crate::kit::{ANY4, ANY6, echo, endpoint, endpoint_with, join};

/// Attempts of a dial begin at 0, 0.8, 1.6 and 2.4 s.
const TIMEOUT: Duration = Duration::from_secs(3);

/// A port at which nothing listens, as long as the socket is kept. It is connected to itself, so the kernel
/// refuses the datagrams of others, and gives the port to nobody else.
fn closed(addr: SocketAddr) -> (UdpSocket, SocketAddr) {
    let socket = UdpSocket::bind(addr).expect("a socket");
    let at = socket.local_addr().expect("an address");
    socket.connect(at).expect("an address");
    (socket, at)
}

#[test]
#[cfg_attr(
    not(target_os = "linux"),
    ignore = "the system reports no ICMP message"
)]
fn a_closed_port_is_told_at_the_timeout_and_harms_no_other_connection() {
    let both = [ANY4, ANY6].map(|addr| thread::spawn(move || told_at_the_timeout(addr)));
    both.into_iter()
        .for_each(|family| family.join().expect("no panic"));
}

fn told_at_the_timeout(addr: SocketAddr) {
    // Less on the way than the smallest receive buffer of a kernel: a loss is no overflow of it.
    let small = |c: &mut Config| c.send_window = 64 * 1024;
    let client = endpoint_with(|c| {
        small(c);
        c.handshake_timeout = TIMEOUT;
    });
    let server = endpoint_with(small);
    let listener = server.listen(addr).expect("a socket");
    let (ours, theirs) = join(&client, &listener);
    let (_held, at) = closed(addr);
    let lost = client.connect(at, None).expect("a dial");
    echo(&ours, &theirs, 1_000_000);
    let error = lost.wait_connected().expect_err("no answer");
    assert_eq!(
        (error.by, error.kind),
        (Party::Network, CloseKind::HandshakeTimeout)
    );
    let reason = &error.reason;
    // The text has the measured time, which a busy machine makes longer.
    let seconds = reason.strip_prefix("the peer did not answer within ");
    let (seconds, reason) = seconds
        .and_then(|rest| rest.split_once(" s ("))
        .expect("a time");
    let seconds: f64 = seconds.parse().expect("a number");
    assert!(seconds >= TIMEOUT.as_secs_f64(), "{error}");
    let sent = lost.statistics().datagrams_sent;
    let told = format!("{sent} datagrams sent, 0 received)");
    assert!(
        reason.starts_with(&told),
        "the statistics: {sent}, the text: {error}"
    );
    let told =
        "; port unreachable: nothing listens there, or a firewall rejects it (ECONNREFUSED), ";
    let times = reason.split(told).nth(1).expect("the port is told");
    // Of its attempts too, of which one begins each 0.8 s.
    let times = times.strip_suffix(" times").expect("several times");
    assert!(times.parse::<u32>().expect("a number") >= 2, "{error}");
    echo(&ours, &theirs, 1_000_000);
    let statistics = ours.statistics();
    assert_eq!(statistics.packets_lost, 0, "of the connection beside them");
}

#[test]
#[cfg_attr(
    not(target_os = "linux"),
    ignore = "the system reports no ICMP message"
)]
fn a_dial_that_is_given_up_can_tell_what_came_of_it() {
    let client = endpoint();
    let (_held, at) = closed(ANY4);
    let dialed = client.connect(at, None).expect("a dial");
    let (sender, woken) = mpsc::channel();
    let waker = Waker::from(Arc::new(Sending(sender)));
    let mut cx = Context::from_waker(&waker);
    while !dialed.is_port_unreachable() {
        assert!(dialed.poll_connected(&mut cx).is_pending());
        if !dialed.is_port_unreachable() {
            woken.recv().expect("a wake");
        }
    }
    let error = dialed.unconnected().expect("it is unanswered");
    assert_eq!(
        (error.by, error.kind),
        (Party::Network, CloseKind::HandshakeTimeout)
    );
    let reason = &error.reason;
    assert!(reason.contains(" datagrams sent, 0 received)"), "{reason}");
    assert!(reason.contains("nothing listens there"), "{reason}");
    assert_eq!(dialed.error(), None, "asking ends nothing");
    dialed.close(7, b"given up");
    assert_eq!(dialed.unconnected(), dialed.error());
}

#[test]
fn a_connection_has_no_cause_of_a_failed_dial() {
    let (client, server) = (endpoint(), endpoint());
    let listener = server.listen(ANY4).expect("a socket");
    let (ours, theirs) = join(&client, &listener);
    assert_eq!((ours.unconnected(), theirs.unconnected()), (None, None));
    ours.close(0, b"");
    assert_eq!(ours.unconnected(), None);
}

#[test]
fn a_dial_whose_port_opens_meanwhile_connects() {
    let (client, server) = (endpoint(), endpoint());
    let (held, at) = closed(ANY4);
    let dialed = client.connect(at, None).expect("a dial");
    thread::sleep(Duration::from_millis(100)); // scenario: nothing listens for so long
    drop(held);
    let _listener = server.listen(at).expect("a socket");
    dialed.wait_connected().expect("a handshake");
}

/// Sends one message for each wake.
struct Sending(mpsc::Sender<()>);

impl Wake for Sending {
    fn wake(self: Arc<Self>) {
        let _ = self.0.send(());
    }
}

#[test]
#[cfg_attr(
    not(target_os = "linux"),
    ignore = "the system reports no ICMP message"
)]
fn a_closed_port_wakes_the_waiter_of_its_dial_and_ends_no_dial() {
    for addr in [ANY4, ANY6] {
        let client = endpoint();
        let silent = UdpSocket::bind(addr).expect("a socket");
        let other = silent.local_addr().expect("an address");
        let other = client.connect(other, None).expect("a dial");
        let (_held, at) = closed(addr);
        let dialed = client.connect(at, None).expect("a dial");
        let (sender, woken) = mpsc::channel();
        let waker = Waker::from(Arc::new(Sending(sender)));
        let mut cx = Context::from_waker(&waker);
        while !dialed.is_port_unreachable() {
            assert!(dialed.poll_connected(&mut cx).is_pending());
            if !dialed.is_port_unreachable() {
                woken.recv().expect("a wake");
            }
        }
        assert_eq!(dialed.error(), None);
        assert!(!other.is_port_unreachable());
    }
}

#[test]
#[cfg_attr(
    not(target_os = "linux"),
    ignore = "the system reports no ICMP message"
)]
fn a_closed_port_is_told_of_no_other_dial() {
    let silent = UdpSocket::bind(ANY4).expect("a socket");
    let client = endpoint_with(|c| c.handshake_timeout = TIMEOUT);
    let to = silent.local_addr().expect("an address");
    let waiting = client.connect(to, None).expect("a dial");
    let (_held, at) = closed(ANY4);
    let lost = client.connect(at, None).expect("a dial");
    let error = lost.wait_connected().expect_err("no answer");
    assert!(error.reason.contains("nothing listens there"), "{error}");
    let error = waiting.wait_connected().expect_err("no answer");
    assert_eq!(error.kind, CloseKind::HandshakeTimeout);
    assert!(
        error.reason.ends_with(" datagrams sent, 0 received)"),
        "{error}"
    );
}

#[test]
fn an_established_connection_is_not_ended_by_icmp() {
    let (client, server) = (endpoint(), endpoint());
    let listener = server.listen(ANY4).expect("a socket");
    // A relay of one client, until it is dropped.
    let near = UdpSocket::bind(ANY4).expect("a socket");
    let far = UdpSocket::bind(ANY4).expect("a socket");
    let at = near.local_addr().expect("an address");
    far.connect(listener.local_addr()).expect("an address");
    let short = Some(Duration::from_millis(20));
    near.set_read_timeout(short).expect("a timeout");
    far.set_read_timeout(short).expect("a timeout");
    let (stop, stopped) = std::sync::mpsc::channel::<()>();
    let relay = thread::spawn(move || {
        let (mut buf, mut client) = (vec![0; 65_536], None);
        while stopped.try_recv() == Err(std::sync::mpsc::TryRecvError::Empty) {
            while let Ok((len, from)) = near.recv_from(&mut buf) {
                client = Some(from);
                far.send(&buf[..len]).expect("written");
            }
            while let Ok(len) = far.recv(&mut buf) {
                near.send_to(&buf[..len], client.expect("it began"))
                    .expect("written");
            }
        }
    });
    let ours = client.connect(at, None).expect("a dial");
    ours.wait_connected().expect("a handshake");
    // While this dial lasts, the system reports what comes of the socket's datagrams.
    let silent = UdpSocket::bind(ANY4).expect("a socket");
    let _waiting = client
        .connect(silent.local_addr().expect("an address"), None)
        .expect("a dial");
    drop(stop);
    relay.join().expect("the relay");
    let sent = || ours.statistics().datagrams_sent;
    let before = sent();
    let stream = ours.open().expect("a stream");
    stream.write_all(&[0; 100_000]).expect("written");
    // The first window of 10 datagrams and then two probes: each met the closed port.
    let began = Instant::now();
    while sent() < before + 14 {
        assert!(
            began.elapsed() < Duration::from_secs(20),
            "{}",
            sent() - before
        );
        assert!(ours.error().is_none());
        thread::yield_now();
    }
    assert!(ours.error().is_none());
}
