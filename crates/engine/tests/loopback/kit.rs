//! What the tests of this binary share: endpoints, a connection between two, and an echo.

use std::{
    io::{self, Write},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket},
    process,
    sync::{
        Arc, Once,
        atomic::{AtomicU32, Ordering},
    },
    thread,
    time::Duration,
};

use libp2p_quic_engine::{Config, Connection, Endpoint, Identity, Listener, Stream};

pub(crate) const ANY4: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0);
pub(crate) const ANY6: SocketAddr = SocketAddr::new(IpAddr::V6(Ipv6Addr::LOCALHOST), 0);

/// Most of what these tests call waits without a limit, and so does cargo: end the process when
/// it takes longer than all tests together, which need 10 s. libtest has named the test that hangs
/// by then.
fn limit_time() {
    static LIMIT: Once = Once::new();
    LIMIT.call_once(|| {
        thread::spawn(|| {
            thread::park_timeout(Duration::from_secs(300));
            let _ = writeln!(io::stderr(), "a test hangs");
            process::exit(1);
        });
    });
}

/// A free port that the system gives to nobody who asks for any, so that it stays free while it is closed.
pub(crate) fn own_port() -> u16 {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    loop {
        let n = NEXT.fetch_add(1, Ordering::Relaxed);
        let port = 10_000 + (process::id().wrapping_mul(61).wrapping_add(n) % 20_000) as u16;
        let is_free = |ip: IpAddr| UdpSocket::bind((ip, port)).is_ok();
        if is_free(Ipv6Addr::UNSPECIFIED.into()) && is_free(Ipv4Addr::UNSPECIFIED.into()) {
            return port;
        }
    }
}

pub(crate) fn endpoint_with(change: impl FnOnce(&mut Config)) -> Endpoint {
    limit_time();
    let mut config = Config::default();
    change(&mut config);
    Endpoint::new(&Identity::generate(), config).expect("an endpoint")
}

pub(crate) fn endpoint() -> Endpoint {
    endpoint_with(|_| ())
}

pub(crate) fn join(client: &Endpoint, listener: &Listener) -> (Connection, Connection) {
    let ours = client.connect(listener.local_addr(), None).expect("a dial");
    ours.wait_connected().expect("a handshake");
    let theirs = listener.accept().expect("a connection");
    (ours, theirs)
}

pub(crate) fn streams(ours: &Connection, theirs: &Connection) -> (Stream, Stream) {
    let a = ours.open().expect("a stream");
    a.write_all(b"!").expect("written");
    let b = theirs.accept().expect("a stream");
    b.read_exactly(1);
    (a, b)
}

pub(crate) trait ReadExactly {
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

pub(crate) fn pattern(len: usize) -> Vec<u8> {
    (0..len).map(|i| (i * i / 251 + i) as u8).collect()
}

/// Send `len` bytes along and back, checked.
pub(crate) fn echo(ours: &Connection, theirs: &Connection, len: usize) {
    let sent = pattern(len);
    let server = thread::spawn({
        let theirs = theirs.clone();
        move || {
            let stream = theirs.accept().expect("a stream");
            let mut buf = vec![0; 50_000];
            loop {
                match stream.read(&mut buf).expect("bytes") {
                    0 => break,
                    n => stream.write_all(&buf[..n]).expect("written"),
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
            stream.write_all(&sent).expect("written");
            stream.finish();
        }
    });
    let got = stream.read_to_end(len + 1).expect("all bytes");
    assert!(got == sent, "{} of {len} bytes, or wrong ones", got.len());
    writer.join().expect("the writer");
    server.join().expect("the server");
}
