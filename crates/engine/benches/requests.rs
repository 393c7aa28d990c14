//! A new stream for each request, many in flight, between two processes: CPU time and rate.
//!
//! `cargo bench -p libp2p-quic-engine --bench requests -- --help` lists the options. Each process
//! is one event loop over a [`ReadyQueue`], as the Python driver is, with one flush for each pass.
#![allow(clippy::print_stdout)]

use std::{
    cell::RefCell,
    collections::HashMap,
    env,
    error::Error,
    future::poll_fn,
    io::{BufRead, BufReader, Read},
    net::SocketAddr,
    pin::Pin,
    process::{Command, Stdio},
    rc::Rc,
    sync::Arc,
    task::{Context, Poll, Waker},
    thread,
    time::{Duration, Instant},
};

use libp2p_quic_engine::{Config, Connection, Endpoint, Flush, Identity, ReadyQueue, Stream};
use rustix::{
    event::{PollFd, PollFlags, poll},
    time::{ClockId, clock_gettime},
};

const HELP: &str = "\
Usage: cargo bench -p libp2p-quic-engine --bench requests [-- OPTIONS]

  --count N         requests in all                                 [50000]
  --inflight N      requests at once                                [100]
  --immediate       have each call do its work, without flushes
  --help            this text

Prints the CPU time of a request in µs, of the dialer and of the listener, and requests per second.
Compare only runs that alternate.";

type Outcome<T> = Result<T, Box<dyn Error + Send + Sync>>;
type Task = Pin<Box<dyn Future<Output = Outcome<()>>>>;

/// Bytes of a request and of its answer.
const SIZE: usize = 64;

fn main() -> Outcome<()> {
    let (mut count, mut inflight, mut is_immediate, mut is_server) = (50_000, 100, false, false);
    let mut args = env::args().skip(1);
    while let Some(arg) = args.next() {
        let mut value = || args.next().ok_or_else(|| format!("{arg} needs a value"));
        match arg.as_str() {
            "--count" => count = value()?.parse()?,
            "--inflight" => inflight = value()?.parse::<usize>()?.max(1),
            "--immediate" => is_immediate = true,
            "--serve" => is_server = true,
            // `cargo bench` passes it.
            "--bench" => {}
            _ => {
                println!("{HELP}");
                return Ok(());
            }
        }
    }
    let flush = match is_immediate {
        true => Flush::Immediate,
        false => Flush::OnRequest,
    };
    if is_server {
        return serve(flush);
    }
    let mut command = Command::new(env::current_exe()?);
    command
        .arg("--serve")
        .args(is_immediate.then_some("--immediate"));
    let mut server = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?;
    let mut lines = BufReader::new(server.stdout.take().ok_or("no output")?).lines();
    let mut line = || lines.next().ok_or("the listener ended");
    let address: SocketAddr = line()??.parse()?;
    let event_loop = EventLoop::new(flush)?;
    let connection = Arc::new(event_loop.endpoint.connect(address, None)?);
    connection.wait_connected()?;
    let before = cpu();
    let began = Instant::now();
    for _ in 0..inflight {
        let connection = connection.clone();
        event_loop.spawn(Box::pin(async move {
            for _ in 0..count / inflight {
                request(&connection).await?;
            }
            Ok(())
        }));
    }
    event_loop.run()?;
    let took = began.elapsed();
    let here = cpu().saturating_sub(before);
    // The listener prints its CPU time, and ends, when its standard input is closed.
    drop(server.stdin.take());
    let there: u64 = line()??.parse()?;
    server.wait()?;
    let each = |time: Duration| time.as_secs_f64() * 1e6 / count as f64;
    println!(
        "CPU {:.2} µs a request, dialer {:.2}, listener {:.2}; {:.0} requests/s",
        each(here) + each(Duration::from_nanos(there)),
        each(here),
        each(Duration::from_nanos(there)),
        count as f64 / took.as_secs_f64()
    );
    Ok(())
}

/// CPU time of this process.
fn cpu() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(time.tv_sec.unsigned_abs(), time.tv_nsec as u32)
}

async fn request(connection: &Connection) -> Outcome<()> {
    let stream = poll_fn(|cx| connection.poll_open(cx)).await?;
    poll_fn(|cx| stream.poll_write(cx, &[0x5a; SIZE])).await?;
    stream.finish();
    let got = read_to_end(&stream).await?.len();
    match got {
        SIZE => Ok(()),
        _ => Err(format!("{got} of {SIZE} bytes came back").into()),
    }
}

async fn read_to_end(stream: &Stream) -> Outcome<Vec<u8>> {
    let (mut all, mut buf) = (Vec::new(), [0; 4096]);
    loop {
        match poll_fn(|cx| stream.poll_read(cx, &mut buf)).await? {
            0 => return Ok(all),
            n => all.extend_from_slice(&buf[..n]),
        }
    }
}

/// Answer each stream with its own bytes, until standard input is closed.
fn serve(flush: Flush) -> Outcome<()> {
    let event_loop = EventLoop::new(flush)?;
    let listener = event_loop.endpoint.listen("127.0.0.1:0".parse()?)?;
    println!("{}", listener.local_addr());
    let before = cpu();
    thread::spawn(move || {
        let _ = std::io::stdin().read_to_end(&mut Vec::new());
        println!("{}", cpu().saturating_sub(before).as_nanos());
        std::process::exit(0);
    });
    let connection = listener.accept()?;
    let spawned = event_loop.spawned.clone();
    event_loop.spawn(Box::pin(async move {
        // It fails when the dialer is done.
        while let Ok(stream) = poll_fn(|cx| connection.poll_accept(cx)).await {
            let answered = async move {
                let bytes = read_to_end(&stream).await?;
                poll_fn(|cx| stream.poll_write(cx, &bytes)).await?;
                stream.finish();
                Ok(())
            };
            spawned.borrow_mut().push(Box::pin(answered));
        }
        Ok(())
    }));
    event_loop.run()?;
    loop {
        thread::park();
    }
}

/// Tasks by token, and the endpoint that is flushed before each wait.
struct EventLoop {
    endpoint: Endpoint,
    ready_queue: Arc<ReadyQueue>,
    spawned: Rc<RefCell<Vec<Task>>>,
}

impl EventLoop {
    fn new(flush: Flush) -> Outcome<Self> {
        let mut config = Config::default();
        config.flush = flush;
        config.max_incoming_streams = 256;
        Ok(Self {
            endpoint: Endpoint::new(&Identity::generate(), config)?,
            ready_queue: ReadyQueue::new()?,
            spawned: Rc::default(),
        })
    }

    fn spawn(&self, task: Task) {
        self.spawned.borrow_mut().push(task);
    }

    /// Run tasks until all have ended.
    fn run(self) -> Outcome<()> {
        let mut tasks: HashMap<u64, (Waker, Task)> = HashMap::new();
        let mut ready = Vec::new();
        loop {
            while let Some(task) = { self.spawned.borrow_mut().pop() } {
                let token = self.ready_queue.token();
                tasks.insert(token, (self.ready_queue.waker(token), task));
                ready.push(token);
            }
            for token in ready.drain(..) {
                let Some((waker, task)) = tasks.get_mut(&token) else {
                    continue;
                };
                if let Poll::Ready(outcome) = task.as_mut().poll(&mut Context::from_waker(waker)) {
                    outcome?;
                    tasks.remove(&token);
                }
            }
            if tasks.is_empty() {
                return Ok(());
            }
            if self.spawned.borrow().is_empty() {
                self.endpoint.flush();
                poll(&mut [PollFd::new(&*self.ready_queue, PollFlags::IN)], None)?;
                self.ready_queue.drain(&mut ready);
            }
        }
    }
}
