//! Hostile peers: they have done a handshake and say who they are, and each thing that they do is
//! allowed. They do too much of it. And browsers, which have done a handshake and say nothing of themselves.

use std::{
    net::{Ipv4Addr, SocketAddr, UdpSocket},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use libp2p_quic_engine::{Config, Connection, Endpoint, Identity, Stream};
use rustix::event::{PollFd, PollFlags, poll};

use crate::{Failure, victim};

/// Connections that it has.
const PEERS: u64 = 16;
/// Sockets that a moving peer's packets come from in turn.
const ADDRESSES: u8 = 16;

/// In the order of the table.
pub(crate) const KINDS: [&str; 6] = [
    "browsers", "singles", "resets", "fillers", "takers", "movers",
];

/// Do `rate` things a second in all, as far as the victim takes part. How many were done.
pub(crate) fn run(kind: &str, to: SocketAddr, rate: u64, time: Duration) -> Result<u64, Failure> {
    if kind == "browsers" {
        return browsers(to, rate, time);
    }
    let is_moving = Arc::<AtomicBool>::default();
    let via = match kind {
        "movers" => relay(to, is_moving.clone())?,
        _ => to,
    };
    let endpoint = Endpoint::new(&Identity::generate(), Config::default())?;
    let done = Arc::<AtomicU64>::default();
    let behave = match kind {
        "singles" => single,
        "resets" => reset,
        "fillers" => fill,
        "takers" => take,
        _ => tell,
    };
    let connections = (0..PEERS)
        .map(|_| endpoint.connect(via, None))
        .collect::<Result<Vec<_>, _>>()?;
    for connection in &connections {
        connection.wait_connected()?;
    }
    // Only now: within a handshake an address stands still (RFC 9000 section 9).
    is_moving.store(true, Ordering::Relaxed);
    for connection in connections {
        let done = done.clone();
        thread::spawn(move || {
            let mut kept = Vec::new();
            let began = Instant::now();
            let mut mine = 0;
            loop {
                let due = (began.elapsed().as_secs_f64() * rate as f64) as u64 / PEERS;
                while mine < due {
                    // Beyond its stream limit the victim allows no further stream.
                    let Some(stream) = behave(&connection) else {
                        return;
                    };
                    kept.extend(stream);
                    mine += 1;
                    done.fetch_add(1, Ordering::Relaxed);
                }
                thread::sleep(Duration::from_millis(2)); // scenario: the rate.
            }
        });
    }
    thread::sleep(time); // scenario: how long it goes on.
    Ok(done.load(Ordering::Relaxed))
}

/// Sessions of WebTransport, each given up when the victim has signed for TLS and answered in Noise: nothing that is
/// not proven costs it more. As many as send `rate` datagrams a second in all. How many datagrams were sent.
fn browsers(to: SocketAddr, rate: u64, time: Duration) -> Result<u64, Failure> {
    let known = Endpoint::new(&victim::identity()?, Config::default())?;
    let [hash, _] = known.certificate_hashes()?;
    let endpoint = Arc::new(Endpoint::new(&Identity::generate(), Config::default())?);
    let done = Arc::<AtomicU64>::default();
    for _ in 0..PEERS {
        let (endpoint, done) = (endpoint.clone(), done.clone());
        thread::spawn(move || {
            let began = Instant::now();
            let mut mine = 0;
            loop {
                let due = (began.elapsed().as_secs_f64() * rate as f64) as u64 / PEERS;
                while mine < due {
                    // The victim does not confirm the second hash.
                    let hashes = vec![hash, [0; 34]];
                    let Ok(connection) = endpoint.connect_webtransport(to, None, hashes) else {
                        return;
                    };
                    let _ = connection.wait_connected();
                    let sent = connection.statistics().datagrams_sent;
                    mine += sent;
                    done.fetch_add(sent, Ordering::Relaxed);
                }
                thread::sleep(Duration::from_millis(2)); // scenario: the rate.
            }
        });
    }
    thread::sleep(time); // scenario: how long it goes on.
    Ok(done.load(Ordering::Relaxed))
}

/// What to do with a connection. The stream, where it is to be kept open; None when it is over.
type Behavior = Option<Option<Stream>>;

/// A stream for each byte, and no interest in the answer.
fn single(connection: &Connection) -> Behavior {
    let stream = connection.open().ok()?;
    stream.write_all(&[victim::ECHO]).ok()?;
    stream.finish();
    Some(None)
}

/// A stream that is given up as soon as there is something on it.
fn reset(connection: &Connection) -> Behavior {
    let stream = connection.open().ok()?;
    stream.write_all(&[victim::ECHO]).ok()?;
    stream.reset(1);
    Some(None)
}

/// As much as may be sent to a program that does not read it, and then nothing.
fn fill(connection: &Connection) -> Behavior {
    let stream = connection.open().ok()?;
    stream.write_all(&[victim::LEAVE]).ok()?;
    victim::fill(&stream);
    Some(Some(stream))
}

/// A demand for much, on every stream there may be, and none of it is read.
fn take(connection: &Connection) -> Behavior {
    let stream = connection.open().ok()?;
    stream.write_all(&[victim::GIVE]).ok()?;
    Some(Some(stream))
}

/// A byte and its answer, so that packets go both ways.
fn tell(connection: &Connection) -> Behavior {
    let stream = connection.open().ok()?;
    stream.write_all(&[victim::ECHO]).ok()?;
    stream.finish();
    stream.read_to_end(1).ok()?;
    Some(None)
}

/// Between a dialer and the victim. Once it moves, each datagram to the victim comes from another
/// address than the one before. One thread: what it costs is not there for those it is to annoy.
fn relay(to: SocketAddr, is_moving: Arc<AtomicBool>) -> Result<SocketAddr, Failure> {
    let addresses = (1..=ADDRESSES).map(|n| Ipv4Addr::new(127, 0, 1, n));
    let sockets = std::iter::once(Ipv4Addr::LOCALHOST)
        .chain(addresses)
        .map(|ip| {
            let socket = UdpSocket::bind((ip, 0))?;
            socket.set_nonblocking(true)?;
            Ok(socket)
        })
        .collect::<std::io::Result<Vec<_>>>()?;
    let here = sockets[0].local_addr()?;
    thread::spawn(move || {
        let (near, far) = (&sockets[0], &sockets[1..]);
        let mut buf = [0; 65_536];
        let (mut at, mut dialer) = (0, None);
        loop {
            let mut fds: Vec<_> = sockets
                .iter()
                .map(|socket| PollFd::new(socket, PollFlags::IN))
                .collect();
            let _ = poll(&mut fds, None);
            let is_ready: Vec<_> = fds.iter().map(|fd| !fd.revents().is_empty()).collect();
            while let Ok((len, from)) = near.recv_from(&mut buf) {
                dialer = Some(from);
                at += usize::from(is_moving.load(Ordering::Relaxed));
                let _ = far[at % far.len()].send_to(&buf[..len], to);
            }
            for (socket, _) in far.iter().zip(&is_ready[1..]).filter(|(_, ready)| **ready) {
                while let Ok((len, _)) = socket.recv_from(&mut buf) {
                    if let Some(dialer) = dialer {
                        let _ = near.send_to(&buf[..len], dialer);
                    }
                }
            }
        }
    });
    Ok(here)
}
