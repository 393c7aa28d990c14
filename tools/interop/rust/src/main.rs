//! The peer of rust-libp2p. It has the command line of tools/interop/README.md and uses a plain swarm of
//! the project. This file has the arguments, the keys and the listener; `node` has the swarm's loop,
//! `cases` the dialer.

mod cases;
mod nat;
mod node;

use std::{collections::HashMap, error::Error, io};

use futures::{AsyncReadExt, AsyncWriteExt, StreamExt};
use libp2p::{Multiaddr, PeerId, Stream, StreamProtocol, identity::Keypair, multiaddr::Protocol};
use node::Node;
use rsa::pkcs8::EncodePrivateKey;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tokio::io::AsyncReadExt as _;

pub type Failure = Box<dyn Error + Send + Sync>;

pub const ECHO: StreamProtocol = StreamProtocol::new("/libp2p-quic/echo/1.0.0");
pub const SINK: StreamProtocol = StreamProtocol::new("/libp2p-quic/sink/1.0.0");
pub const SOURCE: StreamProtocol = StreamProtocol::new("/libp2p-quic/source/1.0.0");
pub const RESET: StreamProtocol = StreamProtocol::new("/libp2p-quic/reset/1.0.0");
pub const CLOSE: StreamProtocol = StreamProtocol::new("/libp2p-quic/close/1.0.0");
pub const WATCH: StreamProtocol = StreamProtocol::new("/libp2p-quic/watch/1.0.0");
pub const NOTE: StreamProtocol = StreamProtocol::new("/libp2p-quic/note/1.0.0");
pub const STOP: StreamProtocol = StreamProtocol::new("/libp2p-quic/stop/1.0.0");
pub const BACK: StreamProtocol = StreamProtocol::new("/libp2p-quic/back/1.0.0");
/// rust-libp2p has it in a separate crate, for an older libp2p.
pub const PERF: StreamProtocol = StreamProtocol::new("/perf/1.0.0");

/// One line for the runner.
pub fn tell(said: Value) {
    println!("{said}");
}

/// The code of the end of a stream or of its connection.
pub fn code_of(error: &io::Error) -> Option<u64> {
    let inner = error.get_ref()?;
    let lost = if let Some(read) = inner.downcast_ref::<quinn::ReadError>() {
        match read {
            quinn::ReadError::Reset(code) => return Some(code.into_inner()),
            quinn::ReadError::ConnectionLost(lost) => lost,
            _ => return None,
        }
    } else {
        match inner.downcast_ref::<quinn::WriteError>()? {
            quinn::WriteError::Stopped(code) => return Some(code.into_inner()),
            quinn::WriteError::ConnectionLost(lost) => lost,
            _ => return None,
        }
    };
    match lost {
        quinn::ConnectionError::ApplicationClosed(close) => Some(close.error_code.into_inner()),
        _ => None,
    }
}

/// Write `size` bytes that repeat with the prime 251; their SHA-256.
pub async fn pump(stream: &mut Stream, mut size: u64) -> io::Result<Vec<u8>> {
    let block: Vec<u8> = (0..251 * 256).map(|i| (i % 251) as u8).collect();
    let mut digest = Sha256::new();
    while size > 0 {
        let n = size.min(block.len() as u64) as usize;
        digest.update(&block[..n]);
        stream.write_all(&block[..n]).await?;
        size -= n as u64;
    }
    Ok(digest.finalize().to_vec())
}

/// Serve one stream. rust-libp2p cannot reset: dropping a stream finishes it.
async fn serve(
    protocol: &StreamProtocol,
    node: &Node,
    peer: PeerId,
    mut s: Stream,
) -> Result<(), Failure> {
    let mut block = vec![0; 65_536];
    let mut first = [0];
    match protocol.as_ref() {
        "/libp2p-quic/echo/1.0.0" => loop {
            match s.read(&mut block).await? {
                0 => break,
                n => s.write_all(&block[..n]).await?,
            }
        },
        "/libp2p-quic/sink/1.0.0" => {
            let mut digest = Sha256::new();
            loop {
                match s.read(&mut block).await? {
                    0 => break,
                    n => digest.update(&block[..n]),
                }
            }
            s.write_all(&digest.finalize()).await?;
        }
        "/libp2p-quic/source/1.0.0" => {
            let mut size = [0; 8];
            s.read_exact(&mut size).await?;
            let digest = pump(&mut s, u64::from_be_bytes(size)).await?;
            s.write_all(&digest).await?;
        }
        "/libp2p-quic/reset/1.0.0" => {
            s.read_exact(&mut first).await?;
            return Ok(());
        }
        "/libp2p-quic/close/1.0.0" => {
            s.read_exact(&mut first).await?;
            node.disconnect(peer).await;
            // Keep the stream: dropping it would finish it, which the case does not test.
            s.read(&mut first).await?;
            return Ok(());
        }
        "/libp2p-quic/note/1.0.0" => {
            let size = futures::io::copy(&mut s, &mut futures::io::sink()).await?;
            tell(json!({"event": "note", "peer": peer.to_string(), "bytes": size}));
        }
        "/libp2p-quic/stop/1.0.0" => {
            s.read_exact(&mut first).await?;
            s.write_all(&first).await?;
        }
        "/libp2p-quic/back/1.0.0" => {
            s.read_exact(&mut first).await?;
            cases::ping(node, peer, 1).await?;
            s.write_all(&[1]).await?;
        }
        "/perf/1.0.0" => {
            let mut size = [0; 8];
            s.read_exact(&mut size).await?;
            futures::io::copy(&mut s, &mut futures::io::sink()).await?;
            pump(&mut s, u64::from_be_bytes(size)).await?;
        }
        _ => {
            s.read_exact(&mut first).await?;
            s.write_all(&first).await?;
            s.flush().await?;
            let (how, code) = match s.read_to_end(&mut block).await {
                Ok(_) => ("finished", None),
                Err(error) => ("cut", code_of(&error)),
            };
            tell(json!({"event": "end", "peer": peer.to_string(), "how": how, "code": code}));
        }
    }
    Ok(s.close().await?)
}

fn key_pair(key: &str, seed: Option<&String>) -> Result<Keypair, Failure> {
    if let Some(seed) = seed {
        let digits: Vec<u8> = seed.bytes().collect();
        let bytes = digits
            .chunks(2)
            .map(|two| u8::from_str_radix(&String::from_utf8_lossy(two), 16))
            .collect::<Result<Vec<u8>, _>>()?;
        return Ok(Keypair::ed25519_from_bytes(bytes)?);
    }
    Ok(match key {
        "ed25519" => Keypair::generate_ed25519(),
        "secp256k1" => Keypair::generate_secp256k1(),
        "ecdsa" => Keypair::generate_ecdsa(),
        "rsa" => {
            let key = rsa::RsaPrivateKey::new(&mut rand::thread_rng(), 2048)?;
            Keypair::rsa_from_pkcs8(&mut key.to_pkcs8_der()?.as_bytes().to_vec())?
        }
        _ => return Err(format!("unknown key type {key}").into()),
    })
}

async fn listen(options: &HashMap<String, String>, key: Keypair) -> Result<(), Failure> {
    let host = match options.get("ip").map(String::as_str) {
        Some("6") => "/ip6/::1",
        _ => "/ip4/127.0.0.1",
    };
    let port = options.get("port").map_or("0", String::as_str);
    let address: Multiaddr = format!("{host}/udp/{port}/quic-v1").parse()?;
    let (node, id) = Node::start(key, Some(address))?;
    for protocol in [
        ECHO, SINK, SOURCE, RESET, CLOSE, WATCH, NOTE, STOP, BACK, PERF,
    ] {
        let mut incoming = node.control().accept(protocol.clone())?;
        let node = node.clone();
        tokio::spawn(async move {
            while let Some((peer, stream)) = incoming.next().await {
                let (protocol, node) = (protocol.clone(), node.clone());
                tokio::spawn(async move {
                    if let Err(error) = serve(&protocol, &node, peer, stream).await {
                        eprintln!("{protocol}: {error}");
                    }
                });
            }
        });
    }
    let address = node.listening().await?;
    tell(json!({"peer": id.to_string(), "addrs": [format!("{address}/p2p/{id}")]}));
    tokio::io::stdin().read_to_end(&mut Vec::new()).await?;
    Ok(())
}

fn parsed(address: &str) -> Result<(PeerId, Multiaddr), Failure> {
    let address: Multiaddr = address.parse()?;
    match address.iter().last() {
        Some(Protocol::P2p(peer)) => Ok((peer, address)),
        _ => Err(format!("no peer id at the end of {address}").into()),
    }
}

async fn dial(address: &str, case: &str, more: &[&str], key: Keypair) -> Result<(), Failure> {
    let (peer, address) = parsed(address)?;
    let more = more
        .iter()
        .map(|each| parsed(each))
        .collect::<Result<Vec<_>, _>>()?;
    let own: Multiaddr = "/ip4/127.0.0.1/udp/0/quic-v1".parse()?;
    let (node, id) = Node::start(key, (case == "listening").then_some(own))?;
    if case == "listening" {
        // A dial before the socket is open leaves from another one.
        node.listening().await?;
    }
    let mut said = json!({"ok": true, "self": id.to_string()});
    let done = match node.connect(&address).await {
        Ok(()) => cases::run(case, &node, peer, &address, &more).await,
        Err(error) => Err(error),
    };
    match done {
        Ok(Value::Object(facts)) => said.as_object_mut().expect("it is one").extend(facts),
        Ok(other) => return Err(format!("facts are an object, not {other}").into()),
        Err(error) => {
            said["ok"] = json!(false);
            said["error"] = json!(error.to_string());
        }
    }
    tell(said);
    node.disconnect(peer).await;
    // quinn sends CONNECTION_CLOSE from its own task, which ends with the program.
    tokio::time::sleep(std::time::Duration::from_millis(200)).await;
    Ok(())
}

fn about() {
    let version = |name: &str| {
        let lock = include_str!("../Cargo.lock");
        let start = lock
            .split(&format!("name = \"{name}\"\nversion = \""))
            .nth(1);
        start
            .and_then(|rest| rest.split('"').next())
            .unwrap_or("?")
            .to_owned()
    };
    tell(json!({
        "program": format!("rust-libp2p {}", version("libp2p")),
        "stack": format!("quinn-proto {}", version("quinn-proto")),
        "keys": ["ed25519", "secp256k1", "ecdsa", "rsa"],
        "can": ["both roles", "same port", "perf", "post-quantum"],
    }));
}

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let mut options = HashMap::new();
    let mut positional = Vec::new();
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        match argument.strip_prefix("--") {
            Some(name) => {
                options.insert(
                    name.to_owned(),
                    arguments.next().ok_or("an option has a value")?,
                );
            }
            None => positional.push(argument),
        }
    }
    let key = options.get("key").map_or("ed25519", String::as_str);
    let positional: Vec<&str> = positional.iter().map(String::as_str).collect();
    match positional[..] {
        ["about"] => {
            about();
            Ok(())
        }
        ["relay"] => nat::relay(&options).await,
        ["home"] => nat::home(&options).await,
        ["hole-punch"] => nat::unified::hole_punch().await,
        ["listen"] => listen(&options, key_pair(key, options.get("seed"))?).await,
        ["dial", address, case, ref more @ ..] => {
            dial(address, case, more, key_pair(key, options.get("seed"))?).await
        }
        _ => Err("about, listen, relay, home, hole-punch, or dial ADDRESS CASE".into()),
    }
}
