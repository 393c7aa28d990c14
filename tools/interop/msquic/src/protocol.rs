//! Protocols over streams: negotiation by multistream-select, and the protocols of this peer.

use std::{
    io::{self, Read, Write},
    thread,
};

use libp2p_identity::PeerId;
use prost::Message;
use serde_json::json;
use sha2::{Digest, Sha256};

use crate::{
    Failure, HOST_KEY, LISTENER_CODE, code_of, multiaddr_of, quic::Connection, stream::Stream, tell,
};

pub const PING: &str = "/ipfs/ping/1.0.0";
pub const IDENTIFY: &str = "/ipfs/id/1.0.0";
pub const PERF: &str = "/perf/1.0.0";
pub const ECHO: &str = "/libp2p-quic/echo/1.0.0";
pub const SINK: &str = "/libp2p-quic/sink/1.0.0";
pub const SOURCE: &str = "/libp2p-quic/source/1.0.0";
pub const RESET: &str = "/libp2p-quic/reset/1.0.0";
pub const CLOSE: &str = "/libp2p-quic/close/1.0.0";
pub const WATCH: &str = "/libp2p-quic/watch/1.0.0";
pub const NOTE: &str = "/libp2p-quic/note/1.0.0";
pub const STOP: &str = "/libp2p-quic/stop/1.0.0";
pub const BACK: &str = "/libp2p-quic/back/1.0.0";

const SERVED: [&str; 12] = [
    PING, IDENTIFY, PERF, ECHO, SINK, SOURCE, RESET, CLOSE, WATCH, NOTE, STOP, BACK,
];

const MULTISTREAM: &str = "/multistream/1.0.0";

/// A message of multistream-select is a line after its length. No known message needs a length of two
/// bytes.
fn say(mut stream: &Stream, line: &str) -> io::Result<()> {
    let mut message = vec![line.len() as u8 + 1];
    message.extend(line.as_bytes());
    message.push(b'\n');
    stream.write_all(&message)
}

fn hear(mut stream: &Stream) -> Result<String, Failure> {
    let mut length = [0];
    stream.read_exact(&mut length)?;
    if !(1..0x80).contains(&length[0]) {
        return Err(format!("a line of multistream-select with length {}", length[0]).into());
    }
    let mut line = vec![0; length[0].into()];
    stream.read_exact(&mut line)?;
    match line.pop() {
        Some(b'\n') => Ok(String::from_utf8(line)?),
        _ => Err("a line of multistream-select without its end".into()),
    }
}

/// Open a stream and agree on `protocol`.
pub fn open(connection: &Connection, protocol: &str) -> Result<Stream, Failure> {
    let stream = connection.open()?;
    say(&stream, MULTISTREAM)?;
    say(&stream, protocol)?;
    for wanted in [MULTISTREAM, protocol] {
        let answer = hear(&stream)?;
        if answer != wanted {
            return Err(format!("{wanted} was answered with {answer}").into());
        }
    }
    Ok(stream)
}

fn agreed(stream: &Stream) -> Result<&'static str, Failure> {
    if hear(stream)? != MULTISTREAM {
        return Err("it does not speak multistream-select".into());
    }
    say(stream, MULTISTREAM)?;
    loop {
        let wanted = hear(stream)?;
        if let Some(protocol) = SERVED.iter().find(|each| **each == wanted) {
            say(stream, protocol)?;
            return Ok(protocol);
        }
        say(stream, "na")?;
    }
}

/// Serve every inbound stream of a connection, until the connection ends.
pub fn serve_all(connection: &Connection, peer: PeerId) {
    while let Some(stream) = connection.accept() {
        thread::spawn(move || {
            if let Err(error) = agreed(&stream).and_then(|protocol| serve(protocol, stream, peer)) {
                eprintln!("{peer}: {error}");
            }
        });
    }
}

/// A stream that fails is dropped, which resets it.
fn serve(protocol: &str, stream: Stream, peer: PeerId) -> Result<(), Failure> {
    let mut s = &stream;
    let mut first = [0];
    match protocol {
        PING => {
            let mut ping = [0; 32];
            loop {
                match s.read_exact(&mut ping) {
                    Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => break,
                    heard => heard?,
                }
                s.write_all(&ping)?;
            }
        }
        IDENTIFY => s.write_all(&identity(&stream.connection)?.encode_length_delimited_to_vec())?,
        ECHO => drop(io::copy(&mut s, &mut &stream)?),
        SINK => {
            let mut digest = Sha256::new();
            io::copy(&mut s, &mut digest)?;
            s.write_all(&digest.finalize())?;
        }
        SOURCE => {
            let size = number(s)?;
            let digest = pump(s, size)?;
            s.write_all(&digest)?;
        }
        PERF => {
            let size = number(s)?;
            io::copy(&mut s, &mut io::sink())?;
            pump(s, size)?;
        }
        RESET => {
            s.read_exact(&mut first)?;
            return stream.reset(LISTENER_CODE);
        }
        CLOSE => {
            s.read_exact(&mut first)?;
            stream.connection.close(LISTENER_CODE);
            return Ok(());
        }
        WATCH => {
            s.read_exact(&mut first)?;
            s.write_all(&first)?;
            let (how, code) = match io::copy(&mut s, &mut io::sink()) {
                Ok(_) => ("finished", None),
                Err(error) => ("cut", code_of(&error)),
            };
            tell(json!({"event": "end", "peer": peer.to_string(), "how": how, "code": code}));
        }
        NOTE => {
            let bytes = io::copy(&mut s, &mut io::sink())?;
            tell(json!({"event": "note", "peer": peer.to_string(), "bytes": bytes}));
        }
        STOP => {
            s.read_exact(&mut first)?;
            s.write_all(&first)?;
            return stream.leave();
        }
        BACK => {
            s.read_exact(&mut first)?;
            ping(&stream.connection, 1)?;
            s.write_all(&[1])?;
        }
        _ => unreachable!("only what is served is agreed on"),
    }
    stream.close()
}

/// A count: 8 bytes, big-endian.
fn number(mut stream: &Stream) -> io::Result<u64> {
    let mut bytes = [0; 8];
    stream.read_exact(&mut bytes)?;
    Ok(u64::from_be_bytes(bytes))
}

/// Write `size` bytes that repeat with the prime 251; their SHA-256.
pub fn pump(mut stream: &Stream, mut size: u64) -> io::Result<Vec<u8>> {
    let block: Vec<u8> = (0..251 * 256).map(|i| (i % 251) as u8).collect();
    let mut digest = Sha256::new();
    while size > 0 {
        let n = size.min(block.len() as u64) as usize;
        digest.update(&block[..n]);
        stream.write_all(&block[..n])?;
        size -= n as u64;
    }
    Ok(digest.finalize().to_vec())
}

pub fn ping(connection: &Connection, rounds: usize) -> Result<(), Failure> {
    let stream = open(connection, PING)?;
    let mut back = [0; 32];
    for _ in 0..rounds {
        let sent: [u8; 32] = rand::random();
        (&stream).write_all(&sent)?;
        (&stream).read_exact(&mut back)?;
        if back != sent {
            return Err("the pong differs from the ping".into());
        }
    }
    stream.close()
}

/// The message of https://github.com/libp2p/specs/blob/master/identify/README.md, as far as this peer has
/// values for it.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Identify {
    #[prost(bytes = "vec", tag = "1")]
    pub public_key: Vec<u8>,
    #[prost(string, repeated, tag = "3")]
    pub protocols: Vec<String>,
    #[prost(bytes = "vec", tag = "4")]
    pub observed_addr: Vec<u8>,
    #[prost(string, tag = "5")]
    pub protocol_version: String,
    #[prost(string, tag = "6")]
    pub agent_version: String,
}

fn identity(connection: &Connection) -> Result<Identify, Failure> {
    Ok(Identify {
        public_key: HOST_KEY
            .get()
            .ok_or("a host has its key")?
            .public()
            .encode_protobuf(),
        protocols: SERVED.iter().map(ToString::to_string).collect(),
        observed_addr: multiaddr_of(connection.remote()?).to_vec(),
        protocol_version: "ipfs/0.1.0".into(),
        agent_version: "libp2p-quic-interop-msquic".into(),
    })
}
