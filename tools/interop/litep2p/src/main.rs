//! The peer of litep2p. It has the command line of tools/interop/README.md and uses a plain litep2p. This
//! file has the arguments, the keys and the listener; `node` has litep2p's own loops, `cases` the dialer.

mod cases;
mod node;

use std::{collections::HashMap, error::Error, io};

use litep2p::{
    PeerId,
    crypto::ed25519::{Keypair, SecretKey},
    substream::Substream,
    types::multiaddr::Multiaddr,
};
use node::Node;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

pub type Failure = Box<dyn Error + Send + Sync>;

pub const PING: &str = "/ipfs/ping/1.0.0";
pub const ECHO: &str = "/libp2p-quic/echo/1.0.0";
pub const SINK: &str = "/libp2p-quic/sink/1.0.0";
pub const SOURCE: &str = "/libp2p-quic/source/1.0.0";
pub const RESET: &str = "/libp2p-quic/reset/1.0.0";
pub const CLOSE: &str = "/libp2p-quic/close/1.0.0";
pub const WATCH: &str = "/libp2p-quic/watch/1.0.0";
pub const NOTE: &str = "/libp2p-quic/note/1.0.0";
pub const STOP: &str = "/libp2p-quic/stop/1.0.0";
pub const BACK: &str = "/libp2p-quic/back/1.0.0";
pub const PROTOCOLS: [&str; 9] = [ECHO, SINK, SOURCE, RESET, CLOSE, WATCH, NOTE, STOP, BACK];

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
pub async fn pump(stream: &mut Substream, mut size: u64) -> io::Result<Vec<u8>> {
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

/// Serve one stream. litep2p cannot reset: dropping a stream finishes it.
pub async fn serve(
    protocol: &str,
    node: &Node,
    peer: PeerId,
    mut s: Substream,
) -> Result<(), Failure> {
    let mut block = vec![0; 65_536];
    let mut first = [0];
    match protocol {
        ECHO | PING => loop {
            match s.read(&mut block).await? {
                0 => break,
                n => s.write_all(&block[..n]).await?,
            }
        },
        SINK => {
            let mut digest = Sha256::new();
            loop {
                match s.read(&mut block).await? {
                    0 => break,
                    n => digest.update(&block[..n]),
                }
            }
            s.write_all(&digest.finalize()).await?;
        }
        SOURCE => {
            let size = s.read_u64().await?;
            let digest = pump(&mut s, size).await?;
            s.write_all(&digest).await?;
        }
        RESET => {
            s.read_exact(&mut first).await?;
            return Ok(());
        }
        CLOSE => {
            s.read_exact(&mut first).await?;
            node.disconnect(peer).await;
            // While a stream is open, litep2p drops the connection without closing it.
            node.disconnected(peer).await?;
            return Ok(());
        }
        NOTE => {
            let size = tokio::io::copy(&mut s, &mut tokio::io::sink()).await?;
            tell(json!({"event": "note", "peer": peer.to_string(), "bytes": size}));
        }
        STOP => {
            s.read_exact(&mut first).await?;
            s.write_all(&first).await?;
        }
        BACK => {
            s.read_exact(&mut first).await?;
            node.pinged(peer).await?;
            s.write_all(&[1]).await?;
        }
        _ => {
            s.read_exact(&mut first).await?;
            s.write_all(&first).await?;
            let (how, code) = match s.read_to_end(&mut block).await {
                Ok(_) => ("finished", None),
                Err(error) => ("cut", code_of(&error)),
            };
            tell(json!({"event": "end", "peer": peer.to_string(), "how": how, "code": code}));
        }
    }
    s.close().await;
    Ok(())
}

fn key_pair(key: &str, seed: Option<&String>) -> Result<Keypair, Failure> {
    if key != "ed25519" {
        return Err(format!("litep2p has no {key} keys").into());
    }
    let Some(seed) = seed else {
        return Ok(Keypair::generate());
    };
    let digits: Vec<u8> = seed.bytes().collect();
    let bytes = digits
        .chunks(2)
        .map(|two| u8::from_str_radix(&String::from_utf8_lossy(two), 16))
        .collect::<Result<Vec<u8>, _>>()?;
    Ok(SecretKey::try_from_bytes(bytes)?.into())
}

async fn listen(options: &HashMap<String, String>, key: Keypair) -> Result<(), Failure> {
    let host = match options.get("ip").map(String::as_str) {
        Some("6") => "/ip6/::1",
        _ => "/ip4/127.0.0.1",
    };
    let port = options.get("port").map_or("0", String::as_str);
    let address: Multiaddr = format!("{host}/udp/{port}/quic-v1").parse()?;
    let (node, id) = Node::start(key, vec![address])?;
    let addresses: Vec<String> = node.addresses.iter().map(ToString::to_string).collect();
    tell(json!({"peer": id.to_string(), "addrs": addresses}));
    tokio::io::stdin().read_to_end(&mut Vec::new()).await?;
    Ok(())
}

fn parsed(address: &str) -> Result<(PeerId, Multiaddr), Failure> {
    let address: Multiaddr = address.parse()?;
    let peer = PeerId::try_from_multiaddr(&address);
    Ok((peer.ok_or("no peer id at the end of the address")?, address))
}

async fn dial(address: &str, case: &str, more: &[&str], key: Keypair) -> Result<(), Failure> {
    let (peer, address) = parsed(address)?;
    let more = more
        .iter()
        .map(|each| parsed(each))
        .collect::<Result<Vec<_>, _>>()?;
    let own = match case {
        "listening" => vec!["/ip4/127.0.0.1/udp/0/quic-v1".parse()?],
        _ => Vec::new(),
    };
    let (node, id) = Node::start(key, own)?;
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
    tokio::time::sleep(std::time::Duration::from_millis(500)).await;
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
        "program": format!("litep2p {}", version("litep2p")),
        "stack": format!("quinn-proto {}", version("quinn-proto")),
        "keys": ["ed25519"],
        "can": ["both roles"],
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
        ["listen"] => listen(&options, key_pair(key, options.get("seed"))?).await,
        ["dial", address, case, ref more @ ..] => {
            dial(address, case, more, key_pair(key, options.get("seed"))?).await
        }
        _ => Err("about, listen, or dial ADDRESS CASE".into()),
    }
}
