//! `make flood`: a listener under hostile datagrams from many ports, at a chosen rate,
//! and then under hostile peers, while a good peer moves bytes and others connect. Loopback
//! only, bounded in time and count.
//!
//! Three processes: the victim, the hostile one, and this one, which is the good peer, measures
//! both and judges. It fails when a bound is broken.
#![allow(clippy::print_stdout, missing_docs, unreachable_pub)]

mod good;
mod hostile;
#[path = "../../tests/forge/initial.rs"]
mod initial;
mod peers;
mod victim;

use std::{
    io::{BufRead, BufReader},
    net::SocketAddr,
    process::{Child, Command, ExitCode, Stdio},
    time::{Duration, Instant},
};

use good::Good;
use victim::Usage;

/// What must hold: RFC or no RFC, a good peer is served.
const SLOWEST_CONNECT: Duration = Duration::from_secs(1);
const LEAST_GOODPUT: f64 = 0.5;

type Failure = Box<dyn std::error::Error>;

fn main() -> Result<ExitCode, Failure> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = args.iter().map(String::as_str).collect();
    match arguments[..] {
        ["victim"] => victim::run()?,
        ["hostile", kind, to, rate, seconds] => {
            let time = Duration::from_secs(seconds.parse()?);
            let (to, rate): (SocketAddr, u64) = (to.parse()?, rate.parse()?);
            if !to.ip().is_loopback() {
                return Err("loopback only".into());
            }
            let done = if peers::KINDS.contains(&kind) {
                peers::run(kind, to, rate, time)?
            } else {
                hostile::run(kind, to, rate, time)?
            };
            println!("{done}");
        }
        [] => return measure(5_000, 10, &[]),
        [rate, seconds, ref only @ ..] if only.iter().all(|kind| kinds().any(|it| it == *kind)) => {
            return measure(rate.parse()?, seconds.parse()?, only);
        }
        _ => {
            let kinds = kinds().collect::<Vec<_>>().join(" ");
            println!("flood [datagrams a second] [seconds for each kind] [kinds, of: {kinds}]");
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// A process of this program, ended when it is dropped.
struct Process(Child);

impl Process {
    fn start(args: &[&str]) -> Result<(Self, BufReader<std::process::ChildStdout>), Failure> {
        let mut child = Command::new(std::env::current_exe()?)
            .args(args)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let said = child.stdout.take().ok_or("no output")?;
        Ok((Self(child), BufReader::new(said)))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// One line of the table.
struct Row {
    kind: &'static str,
    sent: u64,
    time: f64,
    connects: Vec<Duration>,
    failed: usize,
    goodput: f64,
    /// Of the victim.
    cpu: f64,
    memory: u64,
    /// Of the hostile process, on the same machine.
    hostile_cpu: f64,
}

/// In the order of the table.
fn kinds() -> impl Iterator<Item = &'static str> {
    hostile::KINDS.into_iter().chain(peers::KINDS)
}

/// Of all kinds, or only of those.
fn measure(rate: u64, seconds: u64, only: &[&str]) -> Result<ExitCode, Failure> {
    let seconds = seconds.clamp(1, 120);
    let rate = rate.clamp(1, 100_000);
    let (victim, mut said) = Process::start(&["victim"])?;
    let mut line = String::new();
    said.read_line(&mut line)?;
    let to: SocketAddr = line.trim().parse()?;
    let pid = victim.0.id();
    let good = Good::start(to)?;
    println!(
        "{rate} hostile datagrams a second at {to}, or as many streams, {seconds} s of each kind"
    );
    let mut rows = Vec::new();
    let chosen = kinds().filter(|kind| only.is_empty() || only.contains(kind));
    for kind in std::iter::once("nothing").chain(chosen) {
        let hostile = if kind == "nothing" {
            None
        } else {
            let (rate, time) = (rate.to_string(), seconds.to_string());
            Some(Process::start(&[
                "hostile",
                kind,
                &to.to_string(),
                &rate,
                &time,
            ])?)
        };
        let (began, before) = (Instant::now(), Usage::of(pid)?);
        let moved = good.moved();
        let (connects, failed) = good.connect_for(to, Duration::from_secs(seconds));
        let time = began.elapsed().as_secs_f64();
        let goodput = (good.moved() - moved) as f64 * 8.0 / time / 1e9;
        let after = Usage::of(pid)?;
        let (mut sent, mut hostile_cpu) = (0, 0.0);
        if let Some((process, mut said)) = hostile {
            hostile_cpu = Usage::of(process.0.id())?.cpu / time;
            let mut line = String::new();
            said.read_line(&mut line)?;
            sent = line.trim().parse()?;
            drop(process);
        }
        let row = Row {
            kind,
            sent,
            time,
            connects,
            failed,
            goodput,
            cpu: (after.cpu - before.cpu) / time,
            memory: after.memory,
            hostile_cpu,
        };
        println!("  {:<10} done: {}", row.kind, row.summary());
        rows.push(row);
    }
    // What the flood left is gone once its handshakes and idle connections have timed out.
    let last = rows.len();
    std::thread::sleep(Duration::from_secs(40)); // scenario: the last peers time out.
    let rest = Usage::of(pid)?.memory;
    println!(
        "\n| hostile | a second | connect p50 / p99 / worst, ms | failed | goodput, Gbit/s | of quiet | victim's cores | the hostile's | victim's memory, MiB |"
    );
    println!("|---|---|---|---|---|---|---|---|---|");
    let quiet = rows[0].goodput;
    let mut is_met = true;
    for row in &rows[..last] {
        let share = row.goodput / quiet;
        is_met &=
            row.percentile(0.99) < SLOWEST_CONNECT && row.failed == 0 && share >= LEAST_GOODPUT;
        println!(
            "| {} | {:.0} | {} / {} / {} | {} of {} | {:.2} | {:.0} % | {:.2} | {:.2} | {} |",
            row.kind,
            row.sent as f64 / row.time,
            row.percentile(0.5).as_millis(),
            row.percentile(0.99).as_millis(),
            row.percentile(1.0).as_millis(),
            row.failed,
            row.connects.len() + row.failed,
            row.goodput,
            share * 100.0,
            row.cpu,
            row.hostile_cpu,
            row.memory / (1 << 20),
        );
    }
    println!("\n40 s after the last: {} MiB", rest / (1 << 20));
    println!("victim: {}", victim::farewell(victim, said)?);
    if is_met {
        println!(
            "met: every good peer connects, within 1 s at the 99th percentile, and the transfer keeps half of its goodput"
        );
        Ok(ExitCode::SUCCESS)
    } else {
        println!(
            "NOT met: 99 % connect within 1 s, none fails, and the transfer keeps half of its goodput"
        );
        Ok(ExitCode::FAILURE)
    }
}

impl Row {
    fn percentile(&self, share: f64) -> Duration {
        let mut all = self.connects.clone();
        all.sort();
        let at = (all.len() as f64 * share).ceil() as usize;
        all.get(at.saturating_sub(1))
            .copied()
            .unwrap_or(Duration::MAX)
    }

    fn summary(&self) -> String {
        format!(
            "{:.0} a second, {} connects, {} failed, {:.2} Gbit/s, cores {:.2} and {:.2}",
            self.sent as f64 / self.time,
            self.connects.len(),
            self.failed,
            self.goodput,
            self.cpu,
            self.hostile_cpu
        )
    }
}
