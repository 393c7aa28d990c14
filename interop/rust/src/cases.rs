//! What the dialer does in each case of interop/README.md; each returns its facts.

use std::{
    io,
    time::{Duration, Instant},
};

use futures::{AsyncReadExt, AsyncWriteExt, future::try_join_all};
use libp2p::{Multiaddr, PeerId, Stream, StreamProtocol};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tokio::io::{AsyncBufReadExt, BufReader};

use crate::{CLOSE, ECHO, Failure, RESET, SINK, SOURCE, WATCH, code_of, node::Node, pump, tell};

const PING: StreamProtocol = StreamProtocol::new("/ipfs/ping/1.0.0");

pub async fn run(
    case: &str,
    node: &Node,
    peer: PeerId,
    address: &Multiaddr,
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
        "identify" => {
            let info = node.identified().await?;
            let protocols: Vec<&str> = info.protocols.iter().map(AsRef::as_ref).collect();
            let observed = info.observed_addr.to_string();
            Ok(json!({"agent": info.agent_version, "protocols": protocols, "observed": observed}))
        }
        "echo" => {
            let stream = open(node, peer, ECHO).await?;
            Ok(json!({"bytes": 1 << 20, "same": is_echoed(stream, 1 << 20).await?}))
        }
        "streams" => streams(node, peer).await,
        "bulk" => bulk(node, peer).await,
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

async fn ping(node: &Node, peer: PeerId, rounds: usize) -> Result<(), Failure> {
    let mut stream = open(node, peer, PING).await?;
    let mut back = [0; 32];
    for _ in 0..rounds {
        let sent: [u8; 32] = rand::random();
        stream.write_all(&sent).await?;
        stream.flush().await?;
        stream.read_exact(&mut back).await?;
        if back != sent {
            return Err("another pong than its ping".into());
        }
    }
    stream.close().await?;
    Ok(())
}

/// Write random bytes, finish, and meanwhile read what comes back up to its end.
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

async fn bulk(node: &Node, peer: PeerId) -> Result<Value, Failure> {
    let size: u64 = 64 << 20;
    let mut up = open(node, peer, SINK).await?;
    let sent = pump(&mut up, size).await?;
    up.close().await?;
    let mut heard = Vec::new();
    up.read_to_end(&mut heard).await?;
    let mut down = open(node, peer, SOURCE).await?;
    down.write_all(&size.to_be_bytes()).await?;
    down.close().await?;
    let mut digest = Sha256::new();
    let mut block = vec![0; 65_536];
    let mut left = size;
    while left > 0 {
        let room = left.min(block.len() as u64) as usize;
        match down.read(&mut block[..room]).await? {
            0 => return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into()),
            n => {
                digest.update(&block[..n]);
                left -= n as u64;
            }
        }
    }
    let mut promised = Vec::new();
    down.read_to_end(&mut promised).await?;
    let got = digest.finalize().to_vec();
    Ok(json!({"bytes": size, "up": heard == sent, "down": got == promised && got == sent}))
}

/// Open a stream, write a byte, and see how reading ends.
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

/// A stream whose end the listener tells the runner about.
async fn watched(node: &Node, peer: PeerId) -> Result<Stream, Failure> {
    let mut stream = open(node, peer, WATCH).await?;
    stream.write_all(b"x").await?;
    stream.flush().await?;
    stream.read_exact(&mut [0]).await?;
    Ok(stream)
}

async fn reset(node: &Node, peer: PeerId) -> Result<Value, Failure> {
    let (mut stream, end) = provoke(node, peer, RESET).await?;
    // The listener asked us to stop, and that may come after its reset.
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
