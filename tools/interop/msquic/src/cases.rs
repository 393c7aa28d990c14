//! The dialer's side of each case of tools/interop/README.md; each returns its facts.

use std::{
    io::{self, Read, Write},
    net::{Ipv4Addr, SocketAddr},
    thread,
    time::{Duration, Instant},
};

use multiaddr::Multiaddr;
use prost::Message;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::{
    Failure, Place, code_of, connect, multiaddr_of,
    protocol::{
        BACK, CLOSE, ECHO, IDENTIFY, Identify, NOTE, PERF, RESET, SINK, SOURCE, STOP, WATCH, open,
        ping, pump,
    },
    quic::{Connection, Node},
    serve,
    stream::Stream,
    tell,
};

const DIALER_CODE: u64 = 43;

pub fn run(case: &str, node: &Node, to: &Place, more: &[Place]) -> Result<Value, Failure> {
    if case == "listening" {
        return listening(node, to);
    }
    let c = &connect(node, to)?;
    let facts = match case {
        "handshake" => {
            ping(c, 1)?;
            json!({"remote": c.proven()?.to_string()})
        }
        "ping" => {
            ping(c, 100)?;
            json!({"rounds": 100})
        }
        "identify" => identify(c)?,
        "echo" => json!({"bytes": 1 << 20, "same": is_echoed(open(c, ECHO)?, 1 << 20)?}),
        "streams" => streams(c)?,
        "bulk" => {
            let size = 64 << 20;
            let (up, sent) = up(c, size)?;
            let (down, got) = down(c, size, Duration::ZERO)?;
            json!({"bytes": size, "up": up, "down": down && got == sent})
        }
        "reset" => reset(c)?,
        "close" => close(node, to, c)?,
        "idle" => {
            ping(c, 1)?;
            thread::sleep(Duration::from_secs(35));
            ping(c, 1)?;
            json!({"seconds": 35})
        }
        "load" => load(c)?,
        "slow" => {
            let (down, _) = down(c, 16 << 20, Duration::from_secs(2))?;
            json!({"bytes": 16 << 20, "down": down})
        }
        "note" => {
            let stream = open(c, NOTE)?;
            (&stream).write_all(&[0; 65_536])?;
            stream.leave()?;
            ping(c, 1)?;
            json!({"bytes": 65_536})
        }
        "stop" => stop(c)?,
        "early" => return early(node, to, c),
        "many" => many(node, c, more)?,
        "back" => {
            let stream = open(c, BACK)?;
            (&stream).write_all(b"x")?;
            let mut answer = [0];
            (&stream).read_exact(&mut answer)?;
            stream.close()?;
            json!({"answer": answer[0]})
        }
        "perf" => perf(c)?,
        "restart" => restart(node, to, c)?,
        _ => return Err(format!("unknown case {case}").into()),
    };
    c.close(0);
    Ok(facts)
}

fn identify(c: &Connection) -> Result<Value, Failure> {
    let stream = open(c, IDENTIFY)?;
    let mut message = Vec::new();
    (&stream).read_to_end(&mut message)?;
    stream.close()?;
    let said = Identify::decode_length_delimited(&message[..])?;
    let observed = match said.observed_addr.len() {
        0 => Value::Null,
        _ => json!(Multiaddr::try_from(said.observed_addr)?.to_string()),
    };
    Ok(json!({"agent": said.agent_version, "protocols": said.protocols, "observed": observed}))
}

fn listening(node: &Node, to: &Place) -> Result<Value, Failure> {
    let (listener, connections) = node.listen(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))?;
    let address = multiaddr_of(listener.address).to_string();
    thread::spawn(move || serve(connections));
    let connection = connect(node, to)?;
    let mut facts = identify(&connection)?;
    facts["addrs"] = json!([address]);
    connection.close(0);
    Ok(facts)
}

/// Write random bytes, finish, and concurrently read the answer to its end.
fn is_echoed(stream: Stream, size: usize) -> Result<bool, Failure> {
    let data: Vec<u8> = (0..size).map(|_| rand::random()).collect();
    let mut back = Vec::with_capacity(size);
    thread::scope(|scope| {
        let writer = scope.spawn(|| {
            (&stream).write_all(&data)?;
            stream.finish()
        });
        let read = (&stream).read_to_end(&mut back);
        writer.join().expect("no writer panics")?;
        Ok::<_, Failure>(read?)
    })?;
    stream.close()?;
    Ok(back == data)
}

fn streams(c: &Connection) -> Result<Value, Failure> {
    // All of them are open before the first one is used.
    let opened = (0..100)
        .map(|_| open(c, ECHO))
        .collect::<Result<Vec<_>, _>>()?;
    let users: Vec<_> = opened
        .into_iter()
        .map(|stream| thread::spawn(|| is_echoed(stream, 1024)))
        .collect();
    let mut same = 0;
    for user in users {
        same += usize::from(user.join().expect("no user panics")?);
    }
    Ok(json!({"streams": 100, "same": same}))
}

/// Whether the sink received the right bytes, and their SHA-256.
fn up(c: &Connection, size: u64) -> Result<(bool, Vec<u8>), Failure> {
    let stream = open(c, SINK)?;
    let sent = pump(&stream, size)?;
    stream.finish()?;
    let mut heard = Vec::new();
    (&stream).read_to_end(&mut heard)?;
    stream.close()?;
    Ok((heard == sent, sent))
}

/// Whether the bytes of the source match their SHA-256, and that SHA-256.
fn down(c: &Connection, size: u64, pause: Duration) -> Result<(bool, Vec<u8>), Failure> {
    let stream = open(c, SOURCE)?;
    (&stream).write_all(&size.to_be_bytes())?;
    stream.finish()?;
    thread::sleep(pause);
    let mut digest = Sha256::new();
    let count = io::copy(&mut (&stream).take(size), &mut digest)?;
    let got = digest.finalize().to_vec();
    let mut promised = Vec::new();
    (&stream).read_to_end(&mut promised)?;
    stream.close()?;
    Ok((count == size && got == promised, got))
}

fn load(c: &Connection) -> Result<Value, Failure> {
    let busy = c.clone();
    let sink = thread::spawn(move || up(&busy, 16 << 20));
    let mut same = 0;
    for _ in 0..300 {
        same += usize::from(is_echoed(open(c, ECHO)?, 1024)?);
    }
    let (up, _) = sink.join().expect("no writer panics")?;
    Ok(json!({"streams": 300, "same": same, "up": up}))
}

/// Open a stream, write a byte, and return how reading ends.
fn provoke(c: &Connection, protocol: &str) -> Result<(Stream, io::Result<usize>), Failure> {
    let stream = open(c, protocol)?;
    (&stream).write_all(b"x")?;
    let end = (&stream).read_to_end(&mut Vec::new());
    Ok((stream, end))
}

/// A stream whose end the listener reports to the runner.
fn watched(c: &Connection) -> Result<Stream, Failure> {
    let stream = open(c, WATCH)?;
    (&stream).write_all(b"x")?;
    (&stream).read_exact(&mut [0])?;
    Ok(stream)
}

/// Streams whose listener reads a byte and ends both directions at once.
fn stop(c: &Connection) -> Result<Value, Failure> {
    let (mut answered, mut closed) = (0, 0);
    for _ in 0..1100 {
        let stream = open(c, STOP)?;
        (&stream).write_all(b"x")?;
        let mut came = Vec::new();
        (&stream).read_to_end(&mut came)?;
        answered += usize::from(came == b"x");
        // The peer has stopped reading, so this write may fail.
        (&stream).write_all(&[0; 1024]).ok();
        stream.close()?;
        closed += 1;
    }
    ping(c, 1)?;
    Ok(json!({"streams": 1100, "answered": answered, "closed": closed}))
}

fn early(node: &Node, to: &Place, first: &Connection) -> Result<Value, Failure> {
    first.close(0);
    for _ in 1..10 {
        connect(node, to)?.close(0);
    }
    let last = connect(node, to)?;
    ping(&last, 1)?;
    last.close(0);
    Ok(json!({"rounds": 10}))
}

fn reset(c: &Connection) -> Result<Value, Failure> {
    let (stream, end) = provoke(c, RESET)?;
    // The listener sent STOP_SENDING, too, which may arrive after its reset.
    let stopped = loop {
        if let Err(error) = (&stream).write(&[0; 1024]) {
            break error;
        }
    };
    watched(c)?.reset(DIALER_CODE)?;
    // Shows that the connection outlives the reset.
    ping(c, 1)?;
    Ok(json!({
        "cut": end.is_err(),
        "read_code": end.err().as_ref().and_then(code_of),
        "write_code": code_of(&stopped),
    }))
}

fn close(node: &Node, to: &Place, c: &Connection) -> Result<Value, Failure> {
    let (_stream, end) = provoke(c, CLOSE)?;
    let again = connect(node, to)?;
    let _watched = watched(&again)?;
    again.close(DIALER_CODE);
    Ok(json!({"cut": end.is_err(), "code": end.err().as_ref().and_then(code_of)}))
}

fn many(node: &Node, c: &Connection, more: &[Place]) -> Result<Value, Failure> {
    let others: Vec<_> = thread::scope(|scope| {
        let dials: Vec<_> = more
            .iter()
            .map(|to| scope.spawn(|| connect(node, to)))
            .collect();
        dials
            .into_iter()
            .map(|dial| dial.join().expect("no dial panics"))
            .collect::<Result<_, _>>()
    })?;
    thread::scope(|scope| {
        let all = others.iter().chain([c]);
        let pings: Vec<_> = all.map(|each| scope.spawn(|| ping(each, 1))).collect();
        pings
            .into_iter()
            .try_for_each(|ping| ping.join().expect("no ping panics"))
    })?;
    let mut remotes = vec![c.proven()?.to_string()];
    for other in &others {
        remotes.push(other.proven()?.to_string());
        other.close(0);
    }
    Ok(json!({"remotes": remotes}))
}

fn perf(c: &Connection) -> Result<Value, Failure> {
    let size: u64 = 8 << 20;
    let stream = open(c, PERF)?;
    (&stream).write_all(&size.to_be_bytes())?;
    pump(&stream, size)?;
    stream.finish()?;
    let received = io::copy(&mut &stream, &mut io::sink())?;
    stream.close()?;
    Ok(json!({"sent": size, "received": received}))
}

/// The runner kills the listener after "ready", starts it again and writes a line.
fn restart(node: &Node, to: &Place, c: &Connection) -> Result<Value, Failure> {
    ping(c, 1)?;
    tell(json!({"event": "ready"}));
    io::stdin().read_line(&mut String::new())?;
    let began = Instant::now();
    for tries in 1.. {
        match connect(node, to).and_then(|c| ping(&c, 1).map(|()| c)) {
            Ok(c) => {
                c.close(0);
                let seconds = (began.elapsed().as_secs_f64() * 10.0).round() / 10.0;
                return Ok(json!({"seconds": seconds, "tries": tries}));
            }
            Err(error) => eprintln!("restart: {error}"),
        }
        thread::sleep(Duration::from_millis(500));
    }
    unreachable!("the runner enforces the time limit")
}
