//! The dialer's side: one measure, one line of JSON. Names and options are those of
//! tools/bench/README.md.

use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use futures::{AsyncReadExt, AsyncWriteExt, future::try_join_all};
use serde_json::{Value, json};

use crate::{
    net::{Connection, Node, Outcome, Stream},
    serve::{PIECE, drain, fill, number},
    usage,
};

/// The size and the limit of a transfer that lasts until its dialer ends.
const BULK: [u64; 2] = [1 << 40, 60_000_000_000];

/// The `name=value` options after the measure.
pub struct Options(pub HashMap<String, String>);

impl Options {
    pub fn get(&self, name: &str, default: u64) -> Outcome<u64> {
        match self.0.get(name) {
            None => Ok(default),
            Some(text) => Ok(text
                .parse()
                .map_err(|_| format!("{name}={text}: the value must be a number"))?),
        }
    }
}

pub async fn measure<N: Node>(
    node: N,
    to: SocketAddr,
    what: &str,
    options: &Options,
) -> Outcome<Value> {
    let node = Arc::new(node);
    let first = node.dial(to).await?;
    let mut connections = vec![first.clone()];
    for _ in 1..options.get("connections", 1)? {
        connections.push(node.dial(to).await?);
    }
    let streams = match what {
        "ping" | "ping-bulk" => warmed(&connections, options).await?,
        _ => Vec::new(),
    };
    let before = census(&first).await?;
    let mut said = match what {
        "up" | "down" => goodput(&connections, what == "up", options).await?,
        "ping" => ping(streams, options).await?,
        "ping-bulk" => ping_beside_bulk(&*node, to, streams, options).await?,
        "requests" => requests(&first, options).await?,
        "handshakes" => handshakes(&node, to, options).await?,
        "idle" => return idle(&*node, &first, to, options).await,
        _ => return Err(format!("no measure {what}").into()),
    };
    let after = census(&first).await?;
    said["cpu"] = json!([seconds(after[0] - before[0]), seconds(after[1] - before[1])]);
    said["rss"] = json!([after[2], after[3]]);
    Ok(said)
}

fn seconds(nanos: u64) -> f64 {
    nanos as f64 / 1e9
}

/// CPU time of dialer and listener, then their memory.
async fn census(connection: &impl Connection) -> Outcome<[u64; 4]> {
    let mut stream = connection.open().await?;
    stream.write_all(b"c").await?;
    stream.close().await?;
    let (cpu, memory) = (number(&mut stream).await?, number(&mut stream).await?);
    Ok([usage::cpu(), cpu, usage::memory(), memory])
}

async fn goodput<C: Connection>(
    connections: &[C],
    is_up: bool,
    options: &Options,
) -> Outcome<Value> {
    let streams = options.get("streams", 1)?;
    let size = options.get("size", 2 << 30)? / streams;
    let limit = Duration::from_millis(options.get("limit", 6_000)?);
    let tasks = (0..streams).map(|i| {
        let connection = connections[i as usize % connections.len()].clone();
        tokio::spawn(async move {
            let mut stream = connection.open().await?;
            if is_up {
                stream.write_all(b"u").await?;
                fill(&mut stream, size, limit).await?;
                stream.close().await?;
                let [bytes, began] = [number(&mut stream).await?, number(&mut stream).await?];
                Outcome::Ok((bytes, began, number(&mut stream).await?))
            } else {
                let mut ask = b"d".to_vec();
                ask.extend(size.to_be_bytes());
                ask.extend((limit.as_nanos() as u64).to_be_bytes());
                stream.write_all(&ask).await?;
                // At the time limit a sender may hold the bytes of many seconds.
                drain(&mut stream, limit).await
            }
        })
    });
    let mut done = Vec::new();
    for task in tasks.collect::<Vec<_>>() {
        done.push(task.await??);
    }
    let began = done.iter().map(|each| each.1).min().unwrap_or(0);
    let ended = done.iter().map(|each| each.2).max().unwrap_or(0);
    let rates: Vec<f64> = done
        .iter()
        .map(|each| each.0 as f64 / seconds(each.2 - each.1).max(1e-9))
        .collect();
    Ok(json!({
        "bytes": done.iter().map(|each| each.0).sum::<u64>(),
        "seconds": seconds(ended - began),
        "rates": rates,
    }))
}

/// Percentiles of many rounds, in microseconds.
fn latencies(mut times: Vec<u64>, began: u64) -> Value {
    times.sort_unstable();
    let at = |part: usize| times.get(times.len() * part / 100).map(|n| *n as f64 / 1e3);
    json!({"count": times.len(), "seconds": seconds(usage::now() - began), "p50": at(50), "p99": at(99)})
}

async fn round(stream: &mut impl Stream) -> Outcome<u64> {
    let began = usage::now();
    let mut byte = *b"x";
    stream.write_all(&byte).await?;
    stream.flush().await?;
    stream.read_exact(&mut byte).await?;
    Ok(usage::now() - began)
}

/// A stream on each connection, after a tenth of the rounds for warm-up.
async fn warmed<C: Connection>(connections: &[C], options: &Options) -> Outcome<Vec<C::Stream>> {
    let count = options.get("count", 5_000)? / connections.len() as u64 / 10 + 1;
    let warm = connections.iter().map(async |connection| {
        let mut stream = connection.open().await?;
        stream.write_all(b"e").await?;
        for _ in 0..count {
            round(&mut stream).await?;
        }
        Ok(stream)
    });
    try_join_all(warm).await
}

async fn ping<S: Stream>(streams: Vec<S>, options: &Options) -> Outcome<Value> {
    let count = options.get("count", 5_000)? / streams.len() as u64;
    let began = usage::now();
    let end = began + Duration::from_millis(options.get("limit", 6_000)?).as_nanos() as u64;
    let tasks: Vec<_> = streams
        .into_iter()
        .map(|mut stream| {
            tokio::spawn(async move {
                let mut times = Vec::new();
                while (times.len() as u64) < count && usage::now() < end {
                    times.push(round(&mut stream).await?);
                }
                stream.close().await?;
                Outcome::Ok(times)
            })
        })
        .collect();
    let mut times = Vec::new();
    for task in tasks {
        times.extend(task.await??);
    }
    Ok(latencies(times, began))
}

/// Round trips while another connection receives as fast as it can.
async fn ping_beside_bulk<N: Node, S: Stream>(
    node: &N,
    to: SocketAddr,
    streams: Vec<S>,
    options: &Options,
) -> Outcome<Value> {
    let connection = node.dial(to).await?;
    let mut stream = connection.open().await?;
    let mut ask = b"d".to_vec();
    ask.extend(BULK.map(u64::to_be_bytes).concat());
    stream.write_all(&ask).await?;
    let mut piece = vec![0; PIECE];
    // Its first bytes: the transfer runs.
    stream.read_exact(&mut piece).await?;
    let received = Arc::new(AtomicU64::new(0));
    let counter = received.clone();
    let receiving = tokio::spawn(async move {
        // Dropping it closes the connection.
        let _held = connection;
        while let Ok(n @ 1..) = stream.read(&mut piece).await {
            counter.fetch_add(n as u64, Ordering::Relaxed);
        }
    });
    let began = usage::now();
    let mut said = ping(streams, options).await?;
    if receiving.is_finished() {
        return Err("the transfer ended before the round trips".into());
    }
    receiving.abort();
    let rate = received.load(Ordering::Relaxed) as f64 / seconds(usage::now() - began);
    said["rates"] = json!([rate]);
    Ok(said)
}

/// Run `one` `count` times, `inflight` at once, or until the time limit.
async fn repeated<F, Fut>(options: &Options, one: F) -> Outcome<Value>
where
    F: Fn() -> Fut + Clone + Send + 'static,
    Fut: Future<Output = Outcome<()>> + Send + 'static,
{
    let inflight = options.get("inflight", 1)?;
    let count = options.get("count", 5_000)? / inflight;
    let began = usage::now();
    let end = began + Duration::from_millis(options.get("limit", 6_000)?).as_nanos() as u64;
    let tasks: Vec<_> = (0..inflight)
        .map(|_| {
            let one = one.clone();
            tokio::spawn(async move {
                let mut times = Vec::new();
                while (times.len() as u64) < count && usage::now() < end {
                    let began = usage::now();
                    one().await?;
                    times.push(usage::now() - began);
                }
                Outcome::Ok(times)
            })
        })
        .collect();
    let mut times = Vec::new();
    for task in tasks {
        times.extend(task.await??);
    }
    Ok(latencies(times, began))
}

async fn requests(connection: &impl Connection, options: &Options) -> Outcome<Value> {
    let connection = connection.clone();
    repeated(options, move || {
        let connection = connection.clone();
        async move {
            let mut stream = connection.open().await?;
            let mut request = [0x5a; 65];
            request[0] = b'e';
            stream.write_all(&request).await?;
            stream.close().await?;
            let mut back = Vec::new();
            match stream.read_to_end(&mut back).await? {
                64 => Ok(()),
                n => Err(format!("{n} of 64 bytes came back").into()),
            }
        }
    })
    .await
}

async fn handshakes<N: Node>(node: &Arc<N>, to: SocketAddr, options: &Options) -> Outcome<Value> {
    let node = node.clone();
    repeated(options, move || {
        let node = node.clone();
        async move { node.dial(to).await.map(drop) }
    })
    .await
}

async fn idle<N: Node>(
    node: &N,
    first: &N::Connection,
    to: SocketAddr,
    options: &Options,
) -> Outcome<Value> {
    let count = options.get("count", 1_000)?;
    let before = census(first).await?;
    let began = usage::now();
    let mut held = Vec::new();
    while (held.len() as u64) < count {
        let batch = (count - held.len() as u64).min(8);
        let dials = (0..batch).map(async |_| {
            let connection = node.dial(to).await?;
            // Used once: its memory counts, too, and the listener has accepted it.
            census(&connection).await?;
            Outcome::Ok(connection)
        });
        held.extend(try_join_all(dials).await?);
    }
    let after = census(first).await?;
    let took = seconds(usage::now() - began);
    let each = |i: usize| (after[i] as f64 - before[i] as f64) / count as f64;
    Ok(json!({
        "count": held.len(),
        "seconds": took,
        "cpu": [seconds(after[0] - before[0]), seconds(after[1] - before[1])],
        "rss": [after[2], after[3]],
        "each": [each(2), each(3)],
    }))
}
