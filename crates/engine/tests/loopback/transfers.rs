//! Bytes over real sockets: much of them, by many, and in small pieces.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll, Waker},
    thread,
    time::{Duration, Instant},
};

use libp2p_quic_engine::{Config, Flush, ReadError};

use crate::kit::{ANY4, ReadExactly, echo, endpoint, endpoint_with, join, pattern, streams};

#[test]
fn sixteen_mebibytes_to_a_slow_reader() {
    const SIZE: usize = 16 << 20;
    let (server, client) = (endpoint(), endpoint());
    let listener = server.listen(ANY4).expect("a socket");
    let (ours, theirs) = join(&client, &listener);
    let (a, b) = streams(&ours, &theirs);
    let sent = pattern(SIZE);
    // Nobody reads: the writer gets rid of what windows and buffers hold, and no more.
    let config = Config::default();
    let window = config.stream_receive_window as usize;
    let most = window + config.read_buffer + config.write_buffer;
    // Less than the sum, because credit for bytes in the read buffer goes out only once it is an
    // eighth of the window (quinn-proto, RFC 9000 section 4.2), and because the read buffer
    // counts 64 bytes for each datagram, which is less than an eighth of one.
    let least = most * 7 / 8;
    let mut cx = Context::from_waker(Waker::noop());
    let (mut done, mut began) = (0, Instant::now());
    // Only the silence after the last byte is a matter of time: nothing more may be taken in it.
    while done < least || began.elapsed() < Duration::from_secs(1) {
        match a.poll_write(&mut cx, &sent[done..]) {
            Poll::Ready(n) => {
                done += n.expect("a writable stream");
                began = Instant::now();
            }
            Poll::Pending => {
                assert!(began.elapsed() < Duration::from_secs(30), "{done}");
                thread::yield_now();
            }
        }
    }
    assert!(done <= most, "{done}");
    let rest = sent[done..].to_vec();
    let writer = thread::spawn(move || {
        a.write_all(&rest).expect("written");
        a.finish();
        a.wait_finished().expect("delivered");
    });
    assert!(b.read_to_end(SIZE + 1).expect("all bytes") == sent);
    writer.join().expect("the writer");
}

#[test]
fn two_hundred_connections() {
    // A server takes 128 handshakes of one address at a time, and the others ask again after
    // seconds: on a busy machine that takes longer than the default of 10 s.
    let patient = |c: &mut Config| c.handshake_timeout = Duration::from_secs(60);
    let (server, client) = (endpoint_with(patient), endpoint_with(patient));
    let listener = server.listen(ANY4).expect("a socket");
    let dials: Vec<_> = (0..200)
        .map(|_| client.connect(listener.local_addr(), None).expect("a dial"))
        .collect();
    // Before `accept`, which waits for ever for a connection whose dial failed.
    for dial in &dials {
        dial.wait_connected().expect("a handshake");
    }
    let accepted: Vec<_> = dials
        .iter()
        .map(|_| listener.accept().expect("one"))
        .collect();
    for (i, dial) in dials.iter().enumerate() {
        let stream = dial.open().expect("a stream");
        stream.write_all(&i.to_le_bytes()).expect("written");
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
                    b.write_all(&b"7"[..n]).expect("written");
                }
            });
            let ask = thread::spawn(move || {
                for _ in 0..4_000 {
                    a.write_all(b"7").expect("written");
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
    // What the flood may move while one ping is on its way. It is no limit in seconds, which a slow
    // machine would exceed: all connections share one I/O thread, so that a ping waits for turns
    // of the others and for what is queued at the sockets. That is 8 MiB on average; the largest
    // of 800 pings was 30 MB, with eight other processes on two processors.
    const MOST: u64 = 256 << 20;
    let (server, client) = (endpoint(), endpoint());
    let listener = server.listen(ANY4).expect("a socket");
    let floods: Vec<_> = (0..4).map(|_| join(&client, &listener)).collect();
    let (ours, theirs) = join(&client, &listener);
    let (a, b) = streams(&ours, &theirs);
    let moved = Arc::new(AtomicU64::new(0));
    let mut threads = Vec::new();
    for (flooding, flooded) in &floods {
        let (flood, sink) = streams(flooding, flooded);
        threads.push(thread::spawn(move || {
            while flood.write_all(&[0; 60_000]).is_ok() {}
        }));
        let (moved, pinging) = (moved.clone(), ours.clone());
        threads.push(thread::spawn(move || {
            while let Ok(n @ 1..) = sink.read(&mut [0; 60_000]) {
                if moved.fetch_add(n as u64, Ordering::Relaxed) > MOST {
                    pinging.close(0, b"starved");
                }
            }
        }));
    }
    thread::spawn(move || {
        while let Ok(1) = b.read(&mut [0; 1]) {
            b.write_all(b"7").expect("written");
        }
    });
    let mut total = 0;
    for _ in 0..200 {
        total += moved.swap(0, Ordering::Relaxed);
        a.write_all(b"7").expect("not starved");
        assert_eq!(a.read_exactly(1), b"7");
    }
    assert!(total > 0, "nothing was flooded");
    for (ours, _) in floods {
        ours.close(0, b"");
    }
    for thread in threads {
        thread.join().expect("a thread");
    }
}

#[test]
fn what_is_held_back_waits_for_the_flush() {
    let client = endpoint_with(|c| c.flush = Flush::OnRequest);
    let server = endpoint();
    let listener = server.listen(ANY4).expect("a socket");
    let (ours, theirs) = join(&client, &listener);
    let stream = ours.open().expect("a stream");
    stream.write_all(b"now").expect("written");
    client.flush();
    let other = theirs.accept().expect("a stream");
    assert_eq!(other.read_exactly(3), b"now");
}

#[test]
fn what_a_dropped_stream_means_waits_for_no_flush() {
    let client = endpoint_with(|c| {
        c.flush = Flush::OnRequest;
        c.idle_timeout = Duration::from_secs(30);
        c.keep_alive_interval = None;
    });
    let server = endpoint_with(|c| c.keep_alive_interval = None);
    let listener = server.listen(ANY4).expect("a socket");
    let (ours, theirs) = join(&client, &listener);
    let stream = ours.open().expect("a stream");
    stream.write_all(b".").expect("written");
    client.flush();
    let other = theirs.accept().expect("a stream");
    assert_eq!(other.read_exactly(1), b".");
    // The I/O thread, which is that of both, has nothing left that would wake it.
    let sent = || ours.statistics().datagrams_sent + theirs.statistics().datagrams_sent;
    let (mut before, mut quiet_since) = (sent(), Instant::now());
    while quiet_since.elapsed() < Duration::from_millis(1500) {
        thread::yield_now();
        if before != sent() {
            (before, quiet_since) = (sent(), Instant::now());
        }
    }
    drop(stream);
    assert_eq!(other.read(&mut [0]), Err(ReadError::Reset(0)));
}

#[test]
fn without_offload_and_with_large_datagrams() {
    for (offload, size) in [(false, 1452), (true, 9000), (false, 60_000), (true, 60_000)] {
        let change = |c: &mut Config| {
            c.segmentation_offload = offload;
            c.max_datagram_size = size;
            // Two of the largest: no receive buffer of a kernel overflows, so no probe of the MTU is lost.
            c.send_window = 128 * 1024;
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
