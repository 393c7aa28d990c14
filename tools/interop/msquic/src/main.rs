//! The peer on msquic, the stack of .NET's and Zig's libp2p. It has the command line of
//! tools/interop/README.md. This file has the arguments, the keys and the lines for the runner; `quic`
//! and `stream` have msquic, `tls` libp2p's certificates, `protocol` the listener, `cases` the dialer.

mod cases;
mod protocol;
mod quic;
mod stream;
mod tls;
mod watched;

use std::{
    collections::HashMap,
    error::Error,
    io::{self, Read},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::{OnceLock, mpsc::Receiver},
    thread,
};

use libp2p_identity::{Keypair, PeerId};
use multiaddr::{Multiaddr, Protocol};
use quic::{Connection, Node};
use rsa::pkcs8::EncodePrivateKey;
use serde_json::{Value, json};
use stream::Cut;
use tls::Certificate;

pub type Failure = Box<dyn Error + Send + Sync>;

pub const LISTENER_CODE: u64 = 42;

/// The key of this host, set once at the start.
pub static HOST_KEY: OnceLock<Keypair> = OnceLock::new();

/// The address and the peer id of a peer.
pub type Place = (SocketAddr, PeerId);

/// One line for the runner.
pub fn tell(said: Value) {
    println!("{said}");
}

/// The code of the end of a stream or of its connection.
pub fn code_of(error: &io::Error) -> Option<u64> {
    error.get_ref()?.downcast_ref::<Cut>()?.0
}

pub fn multiaddr_of(address: SocketAddr) -> Multiaddr {
    Multiaddr::from(address.ip())
        .with(Protocol::Udp(address.port()))
        .with(Protocol::QuicV1)
}

fn place(address: &str) -> Result<Place, Failure> {
    let parsed: Multiaddr = address.parse()?;
    let parts: Vec<Protocol> = parsed.iter().collect();
    let (ip, rest): (IpAddr, _) = match parts.split_first() {
        Some((Protocol::Ip4(ip), rest)) => ((*ip).into(), rest),
        Some((Protocol::Ip6(ip), rest)) => ((*ip).into(), rest),
        _ => return Err(format!("no IP address in {address}").into()),
    };
    match rest {
        [Protocol::Udp(port), Protocol::QuicV1, Protocol::P2p(peer)] => {
            Ok((SocketAddr::new(ip, *port), *peer))
        }
        _ => Err(format!("no QUIC address of a peer: {address}").into()),
    }
}

/// Dial, and serve the streams of the other side on that connection.
pub fn connect(node: &Node, to: &Place) -> Result<Connection, Failure> {
    let connection = node.dial(to.0, to.1)?;
    let (served, peer) = (connection.clone(), to.1);
    thread::spawn(move || protocol::serve_all(&served, peer));
    Ok(connection)
}

pub fn serve(connections: Receiver<Connection>) {
    for connection in connections {
        thread::spawn(move || match connection.proven() {
            Ok(peer) => {
                tell(json!({"event": "connected", "peer": peer.to_string()}));
                protocol::serve_all(&connection, peer);
            }
            Err(error) => eprintln!("{error}"),
        });
    }
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

fn listen(options: &HashMap<String, String>, key: &Keypair) -> Result<(), Failure> {
    let ip: IpAddr = match options.get("ip").map(String::as_str) {
        Some("6") => Ipv6Addr::LOCALHOST.into(),
        _ => Ipv4Addr::LOCALHOST.into(),
    };
    let port = options.get("port").map_or("0", String::as_str).parse()?;
    let node = Node::new(&Certificate::new(key)?)?;
    if options.contains_key("retry") {
        quic::always_retry()?;
    }
    let (listener, connections) = node.listen(SocketAddr::new(ip, port))?;
    let id = key.public().to_peer_id();
    let address = format!("{}/p2p/{id}", multiaddr_of(listener.address));
    tell(json!({"peer": id.to_string(), "addrs": [address]}));
    thread::spawn(move || serve(connections));
    io::stdin().read_to_end(&mut Vec::new())?;
    Ok(())
}

fn dial(addresses: &[&str], case: &str, key: &Keypair) -> Result<(), Failure> {
    let places = addresses
        .iter()
        .map(|each| place(each))
        .collect::<Result<Vec<_>, _>>()?;
    let node = Node::new(&Certificate::new(key)?)?;
    let mut said = json!({"ok": true, "self": key.public().to_peer_id().to_string()});
    match cases::run(case, &node, &places[0], &places[1..]) {
        Ok(Value::Object(facts)) => said.as_object_mut().expect("it is one").extend(facts),
        Ok(other) => return Err(format!("facts are an object, not {other}").into()),
        Err(error) => {
            said["ok"] = json!(false);
            said["error"] = json!(error.to_string());
        }
    }
    tell(said);
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
        "program": format!("msquic {}", version("msquic")),
        "stack": format!("libp2p-tls {}", version("libp2p-tls")),
        "keys": ["ed25519", "secp256k1", "ecdsa", "rsa"],
        "can": ["reset", "reset code", "close code", "both roles", "perf", "retry"],
    }));
}

fn main() -> Result<(), Failure> {
    let mut options = HashMap::new();
    let mut positional = Vec::new();
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        match argument.strip_prefix("--") {
            Some(name) => {
                let value = arguments.next().ok_or("an option has a value")?;
                options.insert(name.to_owned(), value);
            }
            None => positional.push(argument),
        }
    }
    let key = || {
        let kind = options.get("key").map_or("ed25519", String::as_str);
        let key = key_pair(kind, options.get("seed"))?;
        Ok::<_, Failure>(HOST_KEY.get_or_init(|| key))
    };
    let positional: Vec<&str> = positional.iter().map(String::as_str).collect();
    match positional[..] {
        ["about"] => about(),
        ["listen"] => listen(&options, key()?)?,
        ["dial", address, case, ref more @ ..] => dial(&[&[address], more].concat(), case, key()?)?,
        _ => return Err("about, listen, or dial ADDRESS CASE".into()),
    }
    Ok(())
}
