//! One stream's goodput, a one-byte ping-pong and handshakes, between two processes.
//!
//! `cargo bench -p libp2p-quic-engine -- --help` tells the options. This process dials; the
//! other is the same program, started with `--serve`, and tells its address on its standard
//! output. Goodput is what the receiver saw, from the first byte to the end. CPU time is that
//! of each whole process, so nothing hides in a thread.
#![allow(clippy::print_stdout)]

use std::{
    env,
    error::Error,
    io::{BufRead, BufReader},
    net::SocketAddr,
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use libp2p_quic_engine::{Config, Connection, Endpoint, Identity, Stream};
use rustix::time::{ClockId, clock_gettime};

const HELP: &str = "\
Usage: cargo bench -p libp2p-quic-engine [-- OPTIONS]

  --size BYTES      bytes per goodput run, with suffix MiB or GiB   [2GiB]
  --runs N          runs of each measurement                        [5]
  --pings N         round trips per ping run                        [5000]
  --handshakes N    handshakes per handshake run                    [300]
  --help            this text

Tells median [least .. most] of the runs. Pin the two processes to cores of their own, and
let nothing else run, before comparing numbers of different days.";

type Outcome<T> = Result<T, Box<dyn Error + Send + Sync>>;

/// Bytes per write and per read: larger ones meet page faults in common allocators.
const PIECE: usize = 128 * 1024;

struct Options {
    size: u64,
    runs: usize,
    pings: usize,
    handshakes: usize,
}

fn main() -> Outcome<()> {
    let mut options = Options {
        size: 2 << 30,
        runs: 5,
        pings: 5_000,
        handshakes: 300,
    };
    let mut args = env::args().skip(1);
    while let Some(arg) = args.next() {
        let mut value = || args.next().ok_or_else(|| format!("{arg} wants a value"));
        match arg.as_str() {
            "--size" => options.size = bytes(&value()?)?,
            "--runs" => options.runs = value()?.parse::<usize>()?.max(1),
            "--pings" => options.pings = value()?.parse::<usize>()?.max(1),
            "--handshakes" => options.handshakes = value()?.parse::<usize>()?.max(1),
            "--serve" => return serve(),
            // What cargo adds.
            "--bench" => {}
            "--help" => {
                println!("{HELP}");
                return Ok(());
            }
            _ => return Err(format!("unknown option {arg}; --help tells the known ones").into()),
        }
    }
    measure(&options)
}

fn bytes(text: &str) -> Outcome<u64> {
    let (number, unit) = match text {
        _ if text.ends_with("GiB") => (&text[..text.len() - 3], 1 << 30),
        _ if text.ends_with("MiB") => (&text[..text.len() - 3], 1 << 20),
        _ => (text, 1),
    };
    Ok(number.parse::<u64>()?.max(1) * unit)
}

/// CPU time of this process so far.
fn cpu() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(
        u64::try_from(time.tv_sec).unwrap_or(0),
        u32::try_from(time.tv_nsec).unwrap_or(0),
    )
}

// ---- the other process

fn serve() -> Outcome<()> {
    let endpoint = Endpoint::new(&Identity::generate(), Config::default())?;
    let listener = endpoint.listen("127.0.0.1:0".parse()?)?;
    println!("{}", listener.local_addr());
    // The parent kills this process when it is done.
    while let Ok(connection) = listener.accept() {
        thread::spawn(move || {
            while let Ok(stream) = connection.accept() {
                // A stream that the client gives up ends here and nowhere else.
                let _ = answer(&stream);
            }
        });
    }
    Ok(())
}

/// The first byte says what is asked.
fn answer(stream: &Stream) -> Outcome<()> {
    let mut buf = vec![0; PIECE];
    let mut what = [0];
    stream.read(&mut what)?;
    if what == *b"p" {
        while stream.read(&mut what)? == 1 {
            stream.write_all(&what)?;
        }
        return Ok(());
    }
    let (began, before) = (Instant::now(), cpu());
    let mut received = 0;
    loop {
        match stream.read(&mut buf)? {
            0 => break,
            n => received += n as u64,
        }
    }
    let took = began.elapsed();
    for number in [received, nanos(took), nanos(cpu() - before)] {
        stream.write_all(&number.to_le_bytes())?;
    }
    stream.finish();
    Ok(stream.wait_finished()?)
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

// ---- this process

/// Ends the other process with this one.
struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        // It may be gone already; then there is nothing to end.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn start() -> Outcome<(Server, SocketAddr)> {
    let mut child = Command::new(env::current_exe()?)
        .arg("--serve")
        .stdout(Stdio::piped())
        .spawn()?;
    let out = child.stdout.take().ok_or("no standard output")?;
    let server = Server(child);
    let mut line = String::new();
    BufReader::new(out).read_line(&mut line)?;
    Ok((server, line.trim().parse()?))
}

fn measure(options: &Options) -> Outcome<()> {
    let (_server, addr) = start()?;
    let endpoint = Endpoint::new(&Identity::generate(), Config::default())?;
    let connection = endpoint.connect(addr, None)?;
    connection.wait_connected()?;

    let mut goodput = Vec::new();
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    let gib = options.size as f64 / f64::from(1 << 30);
    for _ in 0..options.runs {
        let run = transfer(&connection, options.size)?;
        goodput.push(options.size as f64 * 8.0 / run.took.as_secs_f64() / 1e9);
        ours.push(run.ours.as_secs_f64() / gib);
        theirs.push(run.theirs.as_secs_f64() / gib);
    }
    let statistics = connection.statistics();

    let (mut half, mut most) = (Vec::new(), Vec::new());
    for _ in 0..options.runs {
        let mut times = ping(&connection, options.pings)?;
        times.sort_by(f64::total_cmp);
        half.push(times[times.len() / 2]);
        most.push(times[times.len() * 99 / 100]);
    }

    let mut rate = Vec::new();
    for _ in 0..options.runs {
        rate.push(handshakes(&endpoint, addr, options.handshakes)?);
    }

    println!();
    println!(
        "{:<32} {:>10}   [least .. most of {} runs]",
        "", "median", options.runs
    );
    row("one stream, Gbit/s", &mut goodput);
    row("  CPU s per GiB, sender", &mut ours);
    row("  CPU s per GiB, receiver", &mut theirs);
    row("ping of 1 byte, p50, µs", &mut half);
    row("ping of 1 byte, p99, µs", &mut most);
    row("handshakes, one after another /s", &mut rate);
    let batch = statistics.datagrams_sent as f64 / statistics.sends.max(1) as f64;
    println!(
        "\n{} bytes a run; datagrams of {} bytes, {batch:.1} a system call, {} lost",
        options.size, statistics.mtu, statistics.packets_lost
    );
    endpoint.close(0, b"done");
    endpoint.wait_closed();
    Ok(())
}

fn row(name: &str, values: &mut [f64]) {
    values.sort_by(f64::total_cmp);
    let median = values[values.len() / 2];
    let (least, most) = (values[0], values[values.len() - 1]);
    println!("{name:<32} {median:>10.2}   [{least:.2} .. {most:.2}]");
}

struct Run {
    took: Duration,
    ours: Duration,
    theirs: Duration,
}

fn transfer(connection: &Connection, size: u64) -> Outcome<Run> {
    let piece = vec![0x5a; PIECE];
    let before = cpu();
    let stream = connection.open()?;
    stream.write_all(b"g")?;
    let mut rest = size;
    while rest > 0 {
        let n = rest.min(PIECE as u64);
        stream.write_all(&piece[..usize::try_from(n)?])?;
        rest -= n;
    }
    stream.finish();
    stream.wait_finished()?;
    let ours = cpu() - before;
    let answer = stream.read_to_end(24)?;
    let mut numbers = answer.chunks_exact(8).map(|bytes| {
        bytes
            .iter()
            .rev()
            .fold(0, |n, byte| n << 8 | u64::from(*byte))
    });
    let mut number = || numbers.next().ok_or("the receiver told too little");
    let (received, took, theirs) = (number()?, number()?, number()?);
    if received != size {
        return Err(format!("{received} of {size} bytes arrived").into());
    }
    Ok(Run {
        took: Duration::from_nanos(took),
        ours,
        theirs: Duration::from_nanos(theirs),
    })
}

/// Round trips, in microseconds.
fn ping(connection: &Connection, count: usize) -> Outcome<Vec<f64>> {
    let stream = connection.open()?;
    stream.write_all(b"p")?;
    let mut times = Vec::with_capacity(count);
    let mut byte = [0];
    // A tenth more, unmeasured, warms up both sides.
    for i in 0..count + count / 10 {
        let began = Instant::now();
        stream.write_all(b"x")?;
        if stream.read(&mut byte)? != 1 {
            return Err("the echo ended".into());
        }
        if i >= count / 10 {
            times.push(began.elapsed().as_secs_f64() * 1e6);
        }
    }
    stream.finish();
    Ok(times)
}

/// Handshakes per second, each proven before the next begins.
fn handshakes(endpoint: &Endpoint, addr: SocketAddr, count: usize) -> Outcome<f64> {
    let began = Instant::now();
    for _ in 0..count {
        let connection = endpoint.connect(addr, None)?;
        connection.wait_connected()?;
        connection.close(0, b"");
    }
    Ok(count as f64 / began.elapsed().as_secs_f64())
}
