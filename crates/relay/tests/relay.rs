//! A real relay in a thread between real sockets: what goes in on one side comes out on the
//! other, under the conditions.

use std::{
    collections::HashSet,
    io::{BufRead, BufReader, PipeReader, Write},
    net::{SocketAddr, UdpSocket},
    os::fd::OwnedFd,
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use libp2p_quic_relay::{Conditions, Directions, Options, Relay};
use quinn_udp::{EcnCodepoint, UdpSocketState};

const LOOPBACK: ([u8; 4], u16) = ([127, 0, 0, 1], 0);

/// A relay, its target, and the pipes that it is told and answers by.
struct Between {
    target: UdpSocket,
    address: SocketAddr,
    control: Option<std::io::PipeWriter>,
    answers: BufReader<PipeReader>,
    thread: Option<JoinHandle<()>>,
}

fn socket() -> UdpSocket {
    let socket = UdpSocket::bind(SocketAddr::from(LOOPBACK)).expect("a socket");
    let limit = Some(Duration::from_secs(10));
    socket.set_read_timeout(limit).expect("a limit");
    socket
}

fn between(conditions: Conditions) -> Between {
    let target = socket();
    let mut options = Options::new(target.local_addr().expect("an address"));
    options.conditions = conditions;
    options.seed = 7;
    let mut relay = Relay::bind(&options).expect("a relay");
    let (control_end, control) = std::io::pipe().expect("a pipe");
    let (answers, answers_end) = std::io::pipe().expect("a pipe");
    let address = relay.address();
    let thread = thread::spawn(move || {
        let ended = relay.run(OwnedFd::from(control_end), answers_end);
        ended.expect("a relay that ends well");
    });
    Between {
        target,
        address,
        control: Some(control),
        answers: BufReader::new(answers),
        thread: Some(thread),
    }
}

impl Between {
    fn tell(&mut self, command: &str) -> String {
        let control = self.control.as_mut().expect("open");
        writeln!(control, "{command}").expect("a relay that listens");
        let mut answer = String::new();
        self.answers.read_line(&mut answer).expect("an answer");
        answer
    }

    /// A number from the totals of a direction.
    fn total(&mut self, direction: &str, name: &str) -> u64 {
        let all = self.tell("totals");
        let part = all.split(&format!("\"{direction}\": {{")).nth(1);
        let part = part.and_then(|part| part.split(&format!("\"{name}\": ")).nth(1));
        let digits = part.and_then(|part| part.split([',', '}']).next());
        digits.expect(&all).parse().expect(&all)
    }
}

impl Drop for Between {
    fn drop(&mut self) {
        // It ends because its standard input does.
        self.control.take();
        let ended = self.thread.take().map(JoinHandle::join);
        if !thread::panicking() {
            ended.expect("a thread").expect("no panic");
        }
    }
}

fn received(socket: &UdpSocket) -> (Vec<u8>, SocketAddr) {
    let mut buf = [0; 65_536];
    let (len, from) = socket.recv_from(&mut buf).expect("a datagram");
    (buf[..len].to_vec(), from)
}

#[test]
fn every_dialer_gets_its_own_answers() {
    let relay = between(Conditions::default());
    let dialers = [socket(), socket(), socket()];
    for (number, dialer) in dialers.iter().enumerate() {
        dialer
            .send_to(&[number as u8], relay.address)
            .expect("sent");
        let (data, from) = received(&relay.target);
        assert_eq!(data, [number as u8]);
        relay
            .target
            .send_to(&[number as u8, 1], from)
            .expect("sent");
    }
    for (number, dialer) in dialers.iter().enumerate() {
        let (data, from) = received(dialer);
        assert_eq!((data, from), (vec![number as u8, 1], relay.address));
    }
}

#[test]
fn the_delay_is_one_way_and_in_each_direction() {
    let latency = Duration::from_millis(40);
    let relay = between(Conditions {
        latency,
        ..Conditions::default()
    });
    let dialer = socket();
    let began = Instant::now();
    dialer.send_to(b"there", relay.address).expect("sent");
    let (_, from) = received(&relay.target);
    assert!(began.elapsed() >= latency);
    relay.target.send_to(b"back", from).expect("sent");
    received(&dialer);
    assert!(began.elapsed() >= latency * 2);
}

/// The mark of the next datagram.
fn mark(state: &UdpSocketState, socket: &UdpSocket) -> Option<EcnCodepoint> {
    let mut buf = vec![0; 65_536];
    let mut meta = [quinn_udp::RecvMeta::default()];
    let mut slices = [std::io::IoSliceMut::new(&mut buf)];
    let filled = state.recv(socket.into(), &mut slices, &mut meta);
    assert_eq!(filled.expect("a datagram"), 1);
    meta[0].ecn
}

#[test]
fn what_is_sent_at_once_arrives_as_it_was() {
    let mut relay = between(Conditions::default());
    // The target asks for marks and batches, as QUIC does, before there is anything to receive:
    // what reaches a socket that has not yet asked, the kernel takes apart.
    let target = quinn_udp::UdpSocketState::new((&relay.target).into()).expect("options");
    relay.target.set_nonblocking(false).expect("blocking");
    let dialer = socket();
    let state = quinn_udp::UdpSocketState::new((&dialer).into()).expect("options");
    dialer.set_nonblocking(false).expect("blocking");
    let contents: Vec<u8> = (0..30 * 1452 + 7).map(|n| (n / 1452) as u8).collect();
    let transmit = quinn_udp::Transmit {
        destination: relay.address,
        ecn: Some(quinn_udp::EcnCodepoint::Ect0),
        contents: &contents,
        segment_size: Some(1452),
        src_ip: None,
    };
    let can_segment = state.max_gso_segments() >= 31;
    assert!(can_segment, "a kernel without GSO is no kernel for this");
    state.send((&dialer).into(), &transmit).expect("sent");
    let mut buf = vec![0; 65_536];
    let mut meta = [quinn_udp::RecvMeta::default()];
    let mut slices = [std::io::IoSliceMut::new(&mut buf)];
    let filled = target.recv((&relay.target).into(), &mut slices, &mut meta);
    assert_eq!(filled.expect("a batch"), 1);
    assert_eq!((meta[0].len, meta[0].stride), (contents.len(), 1452));
    assert_eq!(meta[0].ecn, Some(quinn_udp::EcnCodepoint::Ect0));
    assert!(buf[..meta[0].len] == contents);
    assert_eq!(relay.total("to_target", "went"), 31);
    // And back, each with its mark.
    for ecn in [None, Some(EcnCodepoint::Ect0), Some(EcnCodepoint::Ce)] {
        let transmit = quinn_udp::Transmit {
            destination: meta[0].addr,
            ecn,
            contents: &contents[..1452],
            segment_size: None,
            src_ip: None,
        };
        target
            .send((&relay.target).into(), &transmit)
            .expect("sent");
        assert_eq!(mark(&state, &dialer), ecn);
    }
}

#[test]
fn a_rebind_shows_the_target_another_port_and_forgets_the_old_one() {
    let mut relay = between(Conditions::default());
    let dialer = socket();
    let mut ports = HashSet::new();
    for round in 0..5u8 {
        dialer.send_to(&[round], relay.address).expect("sent");
        let (_, from) = received(&relay.target);
        assert!(ports.insert(from.port()), "a port of old");
        assert_eq!(relay.tell("rebind"), "{\"done\": \"rebind\"}\n");
        // To the port of old: nobody is there.
        relay.target.send_to(b"lost", from).expect("sent");
    }
    dialer.send_to(b"last", relay.address).expect("sent");
    let (_, from) = received(&relay.target);
    relay.target.send_to(b"found", from).expect("sent");
    assert_eq!(received(&dialer).0, b"found");
    assert_eq!(relay.total("to_client", "came"), 1);
}

#[test]
fn a_rebind_comes_by_itself() {
    let relay = between(Conditions {
        rebind: Some(Duration::from_millis(1)),
        ..Conditions::default()
    });
    let dialer = socket();
    let mut ports = HashSet::new();
    while ports.len() < 5 {
        dialer.send_to(b"again", relay.address).expect("sent");
        ports.insert(received(&relay.target).1.port());
    }
}

#[test]
fn it_does_as_it_is_told() {
    let mut relay = between(Conditions::default());
    let dialer = socket();
    assert_eq!(relay.tell("mtu 1200"), "{\"done\": \"mtu 1200\"}\n");
    dialer.send_to(&[1; 1201], relay.address).expect("sent");
    dialer.send_to(&[2; 1200], relay.address).expect("sent");
    assert_eq!(received(&relay.target).0, [2; 1200]);
    assert_eq!(relay.total("to_target", "too_large"), 1);
    relay.tell("loss 100%");
    dialer.send_to(b"lost", relay.address).expect("sent");
    while relay.total("to_target", "lost") == 0 {}
    relay.tell("loss 0%");
    dialer.send_to(b"found", relay.address).expect("sent");
    assert_eq!(received(&relay.target).0, b"found");
    relay.tell("blackout 1min");
    dialer.send_to(b"lost", relay.address).expect("sent");
    while relay.total("to_target", "in_the_dark") == 0 {}
    assert!(relay.tell("dance").contains("no command"));
    let all = relay.tell("totals");
    assert!(all.contains("\"kernel_drops\": 0, \"refused\": 0"), "{all}");
}

#[test]
fn marked_datagrams_vanish_where_they_are_to() {
    let mut relay = between(Conditions {
        drop_marked: Directions {
            to_target: true,
            to_client: false,
        },
        ..Conditions::default()
    });
    let dialer = socket();
    let state = UdpSocketState::new((&dialer).into()).expect("options");
    dialer.set_nonblocking(false).expect("blocking");
    let address = relay.address;
    let say = |contents: &[u8], ecn| {
        let transmit = quinn_udp::Transmit {
            destination: address,
            ecn,
            contents,
            segment_size: None,
            src_ip: None,
        };
        state.send((&dialer).into(), &transmit).expect("sent");
    };
    say(b"marked", Some(EcnCodepoint::Ect0));
    say(b"plain", None);
    assert_eq!(received(&relay.target).0, b"plain");
    assert_eq!(relay.total("to_target", "marked"), 1);
    for (said, drops) in [("none", false), ("to-client", false), ("both", true)] {
        relay.tell(&format!("drop-marked {said}"));
        say(b"marked", Some(EcnCodepoint::Ect0));
        say(b"plain", None);
        if !drops {
            assert_eq!(received(&relay.target).0, b"marked");
        }
        assert_eq!(received(&relay.target).0, b"plain");
    }
}

#[test]
fn unknown_senders_do_not_speak_for_the_target() {
    let mut relay = between(Conditions::default());
    let (dialer, other) = (socket(), socket());
    dialer.send_to(b"there", relay.address).expect("sent");
    let (_, from) = received(&relay.target);
    other.send_to(b"forged", from).expect("sent");
    relay.target.send_to(b"true", from).expect("sent");
    assert_eq!(received(&dialer).0, b"true");
    assert_eq!(relay.total("to_client", "came"), 1);
}
