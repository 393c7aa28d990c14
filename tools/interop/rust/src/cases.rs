//! The dialer's side of each case of tools/interop/README.md; each returns its facts.

use std::{
    io,
    time::{Duration, Instant},
};

use futures::{AsyncReadExt, AsyncWriteExt, future::try_join_all};
use libp2p::{Multiaddr, PeerId, Stream, StreamProtocol};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tokio::io::{AsyncBufReadExt, BufReader};

use crate::{
    BACK, CLOSE, ECHO, Failure, NOTE, PERF, RESET, SINK, SOURCE, STOP, WATCH, code_of, node::Node,
    pump, tell,
};

const PING: StreamProtocol = StreamProtocol::new("/ipfs/ping/1.0.0");

pub async fn run(
    case: &str,
    node: &Node,
    peer: PeerId,
    address: &Multiaddr,
    more: &[(PeerId, Multiaddr)],
) -> Result<Value, Failure> {
    match case {
        "handshake" => {
            ping(node, peer, 1).await?;
            Ok(json!({"remote": peer.to_string()}))
        }
        "ping" => {
            ping(node, peer, 100).await?;
            Ok(json!({"rounds": 100}))
        }
        "identify" => identify(node).await,
        "echo" => {
            let stream = open(node, peer, ECHO).await?;
            Ok(json!({"bytes": 1 << 20, "same": is_echoed(stream, 1 << 20).await?}))
        }
        "streams" => streams(node, peer).await,
        "bulk" => {
            let up = is_sunk(node, peer, 64 << 20).await?;
            let down = is_sourced(node, peer, 64 << 20, Duration::ZERO).await?;
            Ok(json!({"bytes": 64 << 20, "up": up, "down": down}))
        }
        "load" => load(node, peer).await,
        "slow" => {
            let down = is_sourced(node, peer, 16 << 20, Duration::from_secs(2)).await?;
            Ok(json!({"bytes": 16 << 20, "down": down}))
        }
        "note" => {
            let mut stream = open(node, peer, NOTE).await?;
            stream.write_all(&[7; 65_536]).await?;
            stream.close().await?;
            drop(stream);
            ping(node, peer, 1).await?;
            tokio::time::sleep(Duration::from_secs(1)).await;
            Ok(json!({"bytes": 65_536}))
        }
        "stop" => stop(node, peer).await,
        "early" => {
            for _ in 0..10 {
                node.disconnect(peer).await;
                node.connect(address).await?;
            }
            ping(node, peer, 1).await?;
            Ok(json!({"rounds": 10}))
        }
        "many" => {
            try_join_all(more.iter().map(|(_, address)| node.connect(address))).await?;
            let all: Vec<PeerId> = more.iter().map(|(each, _)| *each).chain([peer]).collect();
            try_join_all(all.iter().map(|each| ping(node, *each, 1))).await?;
            let remotes: Vec<String> = all.iter().map(ToString::to_string).collect();
            Ok(json!({"remotes": remotes}))
        }
        "back" => {
            // The swarm answers the listener's ping concurrently.
            let mut stream = open(node, peer, BACK).await?;
            stream.write_all(b"x").await?;
            stream.flush().await?;
            let mut answer = Vec::new();
            stream.read_to_end(&mut answer).await?;
            Ok(json!({"answer": answer.first()}))
        }
        "listening" => {
            let mut said = identify(node).await?;
            said["addrs"] = json!([node.listening().await?.to_string()]);
            Ok(said)
        }
        "perf" => perf(node, peer).await,
        "reset" => reset(node, peer).await,
        "close" => close(node, peer, address).await,
        "idle" => {
            ping(node, peer, 1).await?;
            tokio::time::sleep(Duration::from_secs(35)).await;
            ping(node, peer, 1).await?;
            Ok(json!({"seconds": 35}))
        }
        "restart" => restart(node, peer, address).await,
        _ => Err(format!("unknown case {case}").into()),
    }
}

async fn open(node: &Node, peer: PeerId, protocol: StreamProtocol) -> Result<Stream, Failure> {
    Ok(node.control().open_stream(peer, protocol).await?)
}

pub async fn ping(node: &Node, peer: PeerId, rounds: usize) -> Result<(), Failure> {
    let mut stream = open(node, peer, PING).await?;
    let mut back = [0; 32];
    for _ in 0..rounds {
        let sent: [u8; 32] = rand::random();
        stream.write_all(&sent).await?;
        stream.flush().await?;
        stream.read_exact(&mut back).await?;
        if back != sent {
            return Err("the pong differs from the ping".into());
        }
    }
    stream.close().await?;
    Ok(())
}

/// Write random bytes, finish, and concurrently read the answer to its end.
async fn is_echoed(stream: Stream, size: usize) -> Result<bool, Failure> {
    let data: Vec<u8> = (0..size).map(|_| rand::random()).collect();
    let (mut reader, mut writer) = stream.split();
    let mut back = Vec::with_capacity(size);
    let write = async {
        writer.write_all(&data).await?;
        writer.close().await
    };
    let read = async { reader.read_to_end(&mut back).await.map(drop) };
    futures::try_join!(write, read)?;
    Ok(back == data)
}

async fn streams(node: &Node, peer: PeerId) -> Result<Value, Failure> {
    // All of them are open before the first one is used.
    let opened = try_join_all((0..100).map(|_| open(node, peer, ECHO))).await?;
    let same = try_join_all(opened.into_iter().map(|each| is_echoed(each, 1024))).await?;
    Ok(json!({"streams": same.len(), "same": same.iter().filter(|same| **same).count()}))
}

async fn identify(node: &Node) -> Result<Value, Failure> {
    let info = node.identified().await?;
    let protocols: Vec<&str> = info.protocols.iter().map(AsRef::as_ref).collect();
    let observed = info.observed_addr.to_string();
    Ok(json!({"agent": info.agent_version, "protocols": protocols, "observed": observed}))
}

/// Send `size` bytes to the sink; returns whether the answered SHA-256 is right.
async fn is_sunk(node: &Node, peer: PeerId, size: u64) -> Result<bool, Failure> {
    let mut stream = open(node, peer, SINK).await?;
    let sent = pump(&mut stream, size).await?;
    stream.close().await?;
    let mut heard = Vec::new();
    stream.read_to_end(&mut heard).await?;
    Ok(heard == sent)
}

/// Whether the bytes of the source match their SHA-256. Nothing is read during `pause`.
async fn is_sourced(
    node: &Node,
    peer: PeerId,
    size: u64,
    pause: Duration,
) -> Result<bool, Failure> {
    let mut stream = open(node, peer, SOURCE).await?;
    stream.write_all(&size.to_be_bytes()).await?;
    stream.close().await?;
    tokio::time::sleep(pause).await;
    let mut digest = Sha256::new();
    let mut block = vec![0; 65_536];
    let mut left = size;
    while left > 0 {
        let room = left.min(block.len() as u64) as usize;
        match stream.read(&mut block[..room]).await? {
            0 => return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into()),
            n => {
                digest.update(&block[..n]);
                left -= n as u64;
            }
        }
    }
    let mut promised = Vec::new();
    stream.read_to_end(&mut promised).await?;
    Ok(digest.finalize().to_vec() == promised)
}

async fn load(node: &Node, peer: PeerId) -> Result<Value, Failure> {
    let short_ones = async {
        let mut same = 0;
        for _ in 0..300 {
            let stream = open(node, peer, ECHO).await?;
            same += usize::from(is_echoed(stream, 1024).await?);
        }
        Ok(same)
    };
    let (up, same) = futures::try_join!(is_sunk(node, peer, 16 << 20), short_ones)?;
    Ok(json!({"streams": 300, "same": same, "up": up}))
}

async fn perf(node: &Node, peer: PeerId) -> Result<Value, Failure> {
    let size: u64 = 8 << 20;
    let mut stream = open(node, peer, PERF).await?;
    stream.write_all(&size.to_be_bytes()).await?;
    pump(&mut stream, size).await?;
    stream.close().await?;
    let mut received = Vec::new();
    stream.read_to_end(&mut received).await?;
    Ok(json!({"sent": size, "received": received.len()}))
}

/// Open a stream, write a byte, and return how reading ends.
async fn provoke(
    node: &Node,
    peer: PeerId,
    protocol: StreamProtocol,
) -> Result<(Stream, io::Result<usize>), Failure> {
    let mut stream = open(node, peer, protocol).await?;
    stream.write_all(b"x").await?;
    stream.flush().await?;
    let end = stream.read_to_end(&mut Vec::new()).await;
    Ok((stream, end))
}

/// A stream whose end the listener reports to the runner.
async fn watched(node: &Node, peer: PeerId) -> Result<Stream, Failure> {
    let mut stream = open(node, peer, WATCH).await?;
    stream.write_all(b"x").await?;
    stream.flush().await?;
    stream.read_exact(&mut [0]).await?;
    Ok(stream)
}

/// Streams whose listener reads a byte and ends both directions at once.
async fn stop(node: &Node, peer: PeerId) -> Result<Value, Failure> {
    let (mut answered, mut closed) = (0, 0);
    for _ in 0..1100 {
        let mut stream = open(node, peer, STOP).await?;
        stream.write_all(b"x").await?;
        stream.flush().await?;
        let mut came = Vec::new();
        stream.read_to_end(&mut came).await?;
        answered += usize::from(came == b"x");
        // The peer has stopped reading, so this write may fail.
        stream.write_all(&[0; 1024]).await.ok();
        stream.close().await?;
        closed += 1;
    }
    ping(node, peer, 1).await?;
    Ok(json!({"streams": 1100, "answered": answered, "closed": closed}))
}

async fn reset(node: &Node, peer: PeerId) -> Result<Value, Failure> {
    let (mut stream, end) = provoke(node, peer, RESET).await?;
    // The listener sent STOP_SENDING, too, which may arrive after its reset.
    let stopped = loop {
        if let Err(error) = stream.write(&[0; 1024]).await {
            break error;
        }
        tokio::task::yield_now().await;
    };
    // rust-libp2p cannot reset: dropping the stream finishes it.
    drop(watched(node, peer).await?);
    ping(node, peer, 1).await?;
    Ok(json!({
        "cut": end.is_err(),
        "read_code": end.err().as_ref().and_then(code_of),
        "write_code": code_of(&stopped),
    }))
}

async fn close(node: &Node, peer: PeerId, address: &Multiaddr) -> Result<Value, Failure> {
    let (_stream, end) = provoke(node, peer, CLOSE).await?;
    node.connect(address).await?;
    let mut stream = watched(node, peer).await?;
    node.disconnect(peer).await;
    stream.read_to_end(&mut Vec::new()).await.ok();
    Ok(json!({"cut": end.is_err(), "code": end.err().as_ref().and_then(code_of)}))
}

/// The runner kills the listener after "ready", starts it again and writes a line.
async fn restart(node: &Node, peer: PeerId, address: &Multiaddr) -> Result<Value, Failure> {
    ping(node, peer, 1).await?;
    tell(json!({"event": "ready"}));
    BufReader::new(tokio::io::stdin())
        .read_line(&mut String::new())
        .await?;
    let began = Instant::now();
    let mut tries = 0;
    loop {
        tries += 1;
        let again = async {
            node.connect(address).await?;
            ping(node, peer, 1).await
        };
        if let Ok(Ok(())) = tokio::time::timeout(Duration::from_secs(5), again).await {
            let seconds = (began.elapsed().as_secs_f64() * 10.0).round() / 10.0;
            return Ok(json!({"seconds": seconds, "tries": tries}));
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
}
