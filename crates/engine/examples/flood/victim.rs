//! The listener under attack, as a program would have it: it reads what comes, in threads of
//! its own, and keeps every default.

use std::{
    fs,
    io::{self, BufRead, BufReader, Read, Write},
    process::ChildStdout,
    task::{Context, Poll, Waker},
    thread,
};

use libp2p_quic_engine::{Config, Connection, Endpoint, Identity, Stream, ed25519_private_key};

use crate::{Failure, Process};

/// Listen, say where, and serve until the input ends; then say what was counted.
pub(crate) fn run() -> Result<(), Failure> {
    let endpoint = Endpoint::new(&identity()?, Config::default())?;
    let listener = endpoint.listen("127.0.0.1:0".parse()?)?;
    listener.serve_webtransport(true);
    println!("{}", listener.local_addr());
    io::stdout().flush()?;
    thread::scope(|scope| {
        scope.spawn(|| {
            while let Ok(connection) = listener.accept() {
                thread::spawn(move || serve(&connection));
            }
        });
        let _ = io::stdin().read(&mut [0]);
        println!("{:?}", listener.statistics());
        endpoint.close(0, b"");
    });
    Ok(())
}

/// The same in every run, so that the hostile process knows the certificates.
pub(crate) fn identity() -> Result<Identity, Failure> {
    Ok(Identity::from_protobuf(&ed25519_private_key([7; 32]))?)
}

/// What a stream's first byte asks for: that it comes back, that nobody reads on, or as much as
/// there is room for.
pub(crate) const ECHO: u8 = b'?';
pub(crate) const LEAVE: u8 = b'l';
pub(crate) const GIVE: u8 = b'g';

fn serve(connection: &Connection) {
    let mut buf = vec![0; 256 * 1024];
    let mut kept = Vec::new();
    while let Ok(stream) = connection.accept() {
        match stream.read(&mut buf) {
            Ok(1..) if buf[0] == LEAVE => kept.push(stream),
            Ok(1..) if buf[0] == GIVE => {
                fill(&stream);
                kept.push(stream);
            }
            Ok(1..) => {
                let _ = stream.write_all(&buf[..1]);
                stream.finish();
                while let Ok(1..) = stream.read(&mut buf) {}
            }
            _ => {}
        }
    }
}

/// Write until there is no more room, and do not wait for any.
pub(crate) fn fill(stream: &Stream) {
    let mut cx = Context::from_waker(Waker::noop());
    let block = vec![1; 128 * 1024];
    while let Poll::Ready(Ok(1..)) = stream.poll_write(&mut cx, &block) {}
}

/// End the victim and return the line that it prints last.
pub(crate) fn farewell(
    mut victim: Process,
    mut said: BufReader<ChildStdout>,
) -> Result<String, Failure> {
    drop(victim.0.stdin.take());
    let mut line = String::new();
    said.read_line(&mut line)?;
    Ok(line.trim().to_owned())
}

/// What a process has used.
pub(crate) struct Usage {
    /// Seconds, all threads.
    pub(crate) cpu: f64,
    /// Bytes that are resident.
    pub(crate) memory: u64,
}

impl Usage {
    pub(crate) fn of(pid: u32) -> Result<Self, Failure> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
        let (_, fields) = stat.rsplit_once(')').ok_or("no stat")?;
        let fields: Vec<&str> = fields.split_whitespace().collect();
        // proc(5): utime and stime are fields 14 and 15, in ticks, of which there are 100.
        let ticks = fields[11].parse::<u64>()? + fields[12].parse::<u64>()?;
        let statm = fs::read_to_string(format!("/proc/{pid}/statm"))?;
        let pages: u64 = statm.split_whitespace().nth(1).ok_or("no statm")?.parse()?;
        Ok(Self {
            cpu: ticks as f64 / 100.0,
            memory: pages * 4096,
        })
    }
}
