//! The system refuses `poll`, because this process has lowered its limit of descriptors below their number: the
//! I/O thread goes on, slowly. One test, as the limit is that of the whole process and stays.
#![cfg(target_os = "linux")]

use std::{
    process::{self, Command},
    thread,
    time::{Duration, Instant},
};

use libp2p_quic_engine::{Config, Endpoint, Identity, process_statistics};

/// How often the thread waits in a second, at most: every 10 ms, and a little more where there is traffic.
const MOST_WAITS: u64 = 1_000;

#[test]
fn a_refused_poll_slows_the_io_thread_and_ends_nothing() {
    let endpoint = || Endpoint::new(&Identity::generate(), Config::default());
    let server = endpoint().expect("an endpoint");
    let client = endpoint().expect("an endpoint");
    let any = "127.0.0.1:0".parse().expect("an address");
    let listener = server.listen(any).expect("a socket");
    let ours = client.connect(listener.local_addr(), None).expect("a dial");
    ours.wait_connected().expect("a handshake");
    let theirs = listener.accept().expect("a connection");

    // The limit of the calls that follow; poll(2) refuses more descriptors than that with EINVAL.
    let lowered = Command::new("prlimit")
        .args(["--pid", &process::id().to_string(), "--nofile=1:"])
        .status()
        .expect("prlimit of util-linux");
    assert!(lowered.success(), "{lowered}");

    // Bytes in both directions, so that both sides must receive.
    let sent = vec![7; 200_000];
    let echo = thread::spawn(move || {
        let stream = theirs.accept().expect("a stream");
        let all = stream.read_to_end(1 << 20).expect("all bytes");
        stream.write_all(&all).expect("written");
        stream.finish();
        stream.wait_finished().expect("delivered");
        theirs
    });
    let stream = ours.open().expect("a stream");
    stream.write_all(&sent).expect("written");
    stream.finish();
    assert!(stream.read_to_end(1 << 20).expect("all bytes") == sent);
    let theirs = echo.join().expect("the echo");

    let (began, before) = (Instant::now(), process_statistics().waits);
    thread::sleep(Duration::from_secs(1)); // scenario: nothing happens for a second
    let (lasted, waits) = (began.elapsed(), process_statistics().waits - before);
    let most = MOST_WAITS * (lasted.as_secs() + 1);
    assert!(
        waits > 20,
        "poll was not refused: {waits} waits in {lasted:?}"
    );
    assert!(waits < most, "{waits} waits in {lasted:?}");
    assert_eq!((ours.error(), theirs.error()), (None, None));

    // A close is executed, and the sockets are closed.
    client.close(0, b"");
    server.close(0, b"");
    client.wait_closed();
    server.wait_closed();
}
